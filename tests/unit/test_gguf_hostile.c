/* test_gguf_hostile.c - every way to damage a small GGUF file, tried.
 *
 * gguf_probe (tests/support) holds each attempt against the reader's contract: TUG_OK
 * with only valid views, or a sentence; memory within the bound; no leak; no read beyond
 * the bytes.  Here are the sets of attempts that are small enough to be complete.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "quant/types.h"
#include "support/gguf_build.h"
#include "support/gguf_probe.h"

static gguf_build sample;
static tug_buf seed;

static int make_sample(void **state) {
    (void)state;
    gguf_build_sample(&sample, &seed);
    return 0;
}

static int free_sample(void **state) {
    (void)state;
    tug_buf_free(&seed);
    return 0;
}

static void the_sample_is_valid(void **state) {
    (void)state;
    tug_err err = {0};
    assert_int_equal(gguf_probe(seed.p, seed.n, &err), TUG_OK);
    assert_in_range(seed.n, 1000, 3000);
}

static void every_one_byte_mutation(void **state) {
    (void)state;
    uint8_t *room = gguf_probe_room(seed.n);
    memcpy(room, seed.p, seed.n);
    size_t accepted = 0;
    for (size_t i = 0; i < seed.n; i++) {
        const uint8_t was = room[i];
        for (unsigned v = 0; v < 256; v++) {
            room[i] = (uint8_t)v;
            accepted += gguf_probe_here(room, seed.n, NULL) == TUG_OK;
        }
        room[i] = was;
    }
    print_message("%zu mutations, %zu still valid files\n", seed.n * 256, accepted);
}

static void every_truncation(void **state) {
    (void)state;
    /* The last tensor is not padded, so each shorter file lacks something. */
    for (size_t n = 0; n < seed.n; n++) {
        assert_int_equal(gguf_probe(seed.p, n, NULL), TUG_EFORMAT);
    }
}

/* ---- every number of the file x boundary values ------------------------------------ */

enum { N_BOUNDARY = 24 };

/* Around zero, the widths of integers, the size of the file and what is left of it. */
static void boundary_values(uint64_t v[N_BOUNDARY], const gguf_field *f) {
    const uint64_t left = seed.n - f->at - (uint64_t)f->bytes;
    const uint64_t all[N_BOUNDARY] = {
        0,
        1,
        2,
        left - 1,
        left,
        left + 1,
        left / 13 + 1,
        left / 33 + 1,
        seed.n,
        seed.n + 1,
        127,
        255,
        256,
        65535,
        65536,
        INT32_MAX,
        (uint64_t)INT32_MAX + 1,
        UINT32_MAX,
        (uint64_t)UINT32_MAX + 1,
        (uint64_t)1 << 62,
        INT64_MAX,
        (uint64_t)INT64_MAX + 1,
        UINT64_MAX - 31,
        UINT64_MAX,
    };
    memcpy(v, all, sizeof all);
}

static void put(uint8_t *file, const gguf_field *f, uint64_t v) {
    memcpy(file + f->at, &v, (size_t)f->bytes); /* little endian: the low bytes */
}

static void every_field_with_boundary_values(void **state) {
    (void)state;
    uint8_t *room = gguf_probe_room(seed.n);
    for (size_t i = 0; i < sample.n_fields; i++) {
        uint64_t values[N_BOUNDARY];
        boundary_values(values, &sample.fields[i]);
        for (int v = 0; v < N_BOUNDARY; v++) {
            memcpy(room, seed.p, seed.n);
            put(room, &sample.fields[i], values[v]);
            (void)gguf_probe_here(room, seed.n, NULL);
        }
    }
}

static void every_pair_of_fields_with_boundary_values(void **state) {
    (void)state;
    uint8_t *room = gguf_probe_room(seed.n);
    size_t cases = 0;
    for (size_t i = 0; i < sample.n_fields; i++) {
        for (size_t j = i + 1; j < sample.n_fields; j++) {
            uint64_t vi[N_BOUNDARY], vj[N_BOUNDARY];
            boundary_values(vi, &sample.fields[i]);
            boundary_values(vj, &sample.fields[j]);
            /* Each value of one with a changing value of the other: 24 of the 576. */
            for (int v = 0; v < N_BOUNDARY; v++) {
                memcpy(room, seed.p, seed.n);
                put(room, &sample.fields[i], vi[v]);
                put(room, &sample.fields[j], vj[(v * 7 + (int)(i + j)) % N_BOUNDARY]);
                (void)gguf_probe_here(room, seed.n, NULL);
                cases++;
            }
        }
    }
    print_message("%zu pairs\n", cases);
}

/* Two numbers that only matter together: type and dimension, count and element type. */
static void neighbouring_fields_with_all_pairs_of_values(void **state) {
    (void)state;
    uint8_t *room = gguf_probe_room(seed.n);
    for (size_t i = 0; i + 1 < sample.n_fields; i++) {
        uint64_t vi[N_BOUNDARY], vj[N_BOUNDARY];
        boundary_values(vi, &sample.fields[i]);
        boundary_values(vj, &sample.fields[i + 1]);
        for (int v = 0; v < N_BOUNDARY * N_BOUNDARY; v++) {
            memcpy(room, seed.p, seed.n);
            put(room, &sample.fields[i], vi[v / N_BOUNDARY]);
            put(room, &sample.fields[i + 1], vj[v % N_BOUNDARY]);
            (void)gguf_probe_here(room, seed.n, NULL);
        }
    }
}

/* ---- shapes ------------------------------------------------------------------------ */

typedef unsigned __int128 u128;

/* What the reader must find: bytes of a tensor, or that there is no such tensor. */
static bool oracle(uint32_t type, const uint64_t ne[4], u128 *bytes) {
    const tug_type_info *info = tug_type_get(type);
    u128 elems = 1;
    if (!info->name || ne[0] % (uint64_t)info->block_elems != 0) return false;
    for (int d = 0; d < 4; d++) {
        if (ne[d] == 0 || ne[d] > INT64_MAX) return false;
        if (elems > ((u128)1 << 64)) return false; /* so that nothing wraps here */
        elems *= ne[d];
    }
    if (elems > INT64_MAX) return false;
    *bytes = elems / (unsigned)info->block_elems * (unsigned)info->block_bytes;
    return *bytes <= UINT64_MAX;
}

/* "... needs 12 bytes at ...": how the reader tells the size of what the file lacks. */
static uint64_t bytes_in_sentence(const char *msg) {
    const char *needs = strstr(msg, " needs ");
    return needs ? strtoull(needs + 7, NULL, 10) : 0;
}

static void every_shape_against_128_bit_arithmetic(void **state) {
    (void)state;
    static const uint64_t dims[] = {0,
                                    1,
                                    2,
                                    256,
                                    (uint64_t)1 << 31,
                                    (uint64_t)1 << 32,
                                    (uint64_t)1 << 62,
                                    INT64_MAX - 255 /* a multiple of every block */,
                                    INT64_MAX,
                                    UINT64_MAX};
    enum { D = sizeof dims / sizeof dims[0] };
    size_t cases = 0, sizes = 0;
    for (uint32_t type = 0; type <= TUG_TYPE_COUNT; type++) {
        gguf_build b;
        gguf_build_init(&b);
        gguf_build_info(&b, tug_str_of("t"), 4, (uint64_t[]){1, 1, 1, 1}, 4, type, 0);
        tug_buf file = {0};
        gguf_build_finish(&b, &file);
        uint8_t *room = gguf_probe_room(file.n);
        memcpy(room, file.p, file.n);
        for (int i = 0; i < D * D * D * D; i++) {
            const uint64_t ne[4] = {dims[i % D], dims[i / D % D], dims[i / D / D % D],
                                    dims[i / D / D / D]};
            memcpy(room + 24 + 9 + 4, ne, sizeof ne);
            tug_err err;
            u128 bytes;
            assert_int_not_equal(gguf_probe_here(room, file.n, &err), TUG_OK);
            if (oracle(type, ne, &bytes)) {
                assert_true(bytes_in_sentence(err.msg) == (uint64_t)bytes);
                sizes++;
            } else {
                assert_null(strstr(err.msg, " needs "));
            }
            cases++;
        }
        tug_buf_free(&file);
    }
    print_message("%zu shapes, %zu of them possible\n", cases, sizes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sample_is_valid),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_one_byte_mutation),
        cmocka_unit_test(every_field_with_boundary_values),
        cmocka_unit_test(every_pair_of_fields_with_boundary_values),
        cmocka_unit_test(neighbouring_fields_with_all_pairs_of_values),
        cmocka_unit_test(every_shape_against_128_bit_arithmetic),
    };
    return cmocka_run_group_tests(tests, make_sample, free_sample);
}
