/* test_cuda_slots.c - what moves experts: packed matrices made into the file's rows again,
 * and slot tables edited.  SPDX-License-Identifier: MIT */
#include <string.h>

#include "cuda/cuda_linear.h"
#include "quant/packed.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const tug_type packed_types[] = {TUG_TYPE_Q8_0, TUG_TYPE_Q4_0, TUG_TYPE_Q4_1,
                                        TUG_TYPE_Q5_0, TUG_TYPE_Q5_1, TUG_TYPE_IQ4_NL,
                                        TUG_TYPE_Q2_K, TUG_TYPE_Q3_K, TUG_TYPE_Q4_K,
                                        TUG_TYPE_Q5_K, TUG_TYPE_Q6_K, TUG_TYPE_IQ4_XS};

/* n_mat matrices as in the file, packed on the host, unpacked by one launch. */
static void check_unpack(tug_type type, int64_t n_rows, int64_t n_cols, int n_mat) {
    uint64_t row_bytes = 0;
    ct_true(tug_type_row_bytes(type, (uint64_t)n_cols, &row_bytes), "row of %d",
            (int)n_cols);
    const size_t bytes = (size_t)n_rows * row_bytes;
    const uint8_t *file[TUG_CUDA_UNPACKS];
    tug_cuda_unpack a = {
        .row_bytes = (int64_t)row_bytes, .n_rows = (int32_t)n_rows, .n_job = n_mat};
    for (int i = 0; i < n_mat; i++) {
        uint8_t *packed = ct_buf(bytes);
        file[i] = ct_weights(type, n_rows, n_cols, 0.05f);
        for (int64_t r = 0; r < n_rows; r += TUG_PACK_ROWS) {
            const uint64_t at = (uint64_t)r * row_bytes;
            tug_pack_rows(type, packed + at, file[i] + at, row_bytes);
        }
        a.job[i] = (tug_cuda_unpack_job){ct_device(bytes), ct_upload(packed, bytes)};
    }
    CT_RUN(tug_cuda_on_unpack(&a, type), a);
    uint8_t *got = ct_buf(bytes);
    for (int i = 0; i < n_mat; i++) {
        ct_download(got, a.job[i].to, bytes);
        ct_same("rows of the file", got, file[i], bytes);
    }
}

static void test_unpack(void) {
    for (int i = 0; i < COUNT(packed_types); i++) {
        const tug_type_info *t = tug_type_get(packed_types[i]);
        static const struct {
            int64_t groups, blocks;
            int n_mat;
        } shapes[] = {{1, 1, 1}, {3, 2, 1}, {5, 7, 2}, {1, 8, 3}, {2, 9, 1}, {1, 17, 32}};
        for (int s = 0; s < COUNT(shapes); s++) {
            const int64_t n_rows = TUG_PACK_ROWS * shapes[s].groups;
            const int64_t n_cols = (int64_t)t->block_elems * shapes[s].blocks;
            ct_shape("%s %d x %d, %d matrices", t->name, (int)n_rows, (int)n_cols,
                     shapes[s].n_mat);
            check_unpack(packed_types[i], n_rows, n_cols, shapes[s].n_mat);
            ct_release_all();
        }
    }
}

static void test_edits(void) {
    uint64_t table[200], got[200];
    for (int i = 0; i < COUNT(table); i++) table[i] = 1000u + (uint64_t)i;
    static const int counts[] = {1, 5, TUG_CUDA_EDITS};
    for (int i = 0; i < COUNT(counts); i++) {
        uint64_t *device = ct_upload(table, sizeof table);
        tug_cuda_edits a = {.n = counts[i]};
        ct_shape("%d edits", counts[i]);
        for (int j = 0; j < a.n; j++) {
            const int at = 7 * j % COUNT(table); /* all different */
            a.edit[j] = (tug_cuda_edit){device + at, (uint64_t)j << 40};
            table[at] = a.edit[j].value;
        }
        CT_RUN(tug_cuda_on_edits(&a), a);
        ct_download(got, device, sizeof got);
        ct_same("table", got, table, sizeof got);
        ct_release_all();
    }
}

int main(int argc, char **argv) {
    static const ct_test tests[] = {{"unpack", test_unpack}, {"edits", test_edits}};
    return ct_main(argc, argv, "slots", tests, COUNT(tests));
}
