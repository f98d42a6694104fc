/* test_quant.c - the type table, and known values of each format.
 *
 * The expected values here were worked out by hand from the layouts; the exhaustive
 * comparison with an independent implementation is tests/long/quant_vs_gguf_py.py.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/f16.h"
#include "quant/blocks.h"
#include "quant/types.h"

enum { HALF_ONE = 0x3C00, HALF_TWO = 0x4000, HALF_MINUS_HALF = 0xB800 };

static void type_table_is_consistent(void **state) {
    (void)state;
    for (uint32_t t = 0; t < 300; t++) {
        const tug_type_info *info = tug_type_get(t);
        assert_non_null(info);
        assert_true(info->block_elems > 0 && info->block_bytes > 0);
        uint64_t bytes = 77;
        const uint64_t n = 3 * (uint64_t)info->block_elems;
        if (!info->name) {
            assert_false(info->can_decode);
            assert_false(tug_type_row_bytes(t, n, &bytes));
            assert_int_equal(bytes, 77);
            continue;
        }
        assert_true(tug_type_row_bytes(t, n, &bytes));
        assert_int_equal(bytes, 3 * (uint64_t)info->block_bytes);
        assert_int_equal(tug_type_row_bytes(t, n + 1, &bytes), info->block_elems == 1);
        assert_true(tug_type_row_bytes(t, 0, &bytes) && bytes == 0);
    }
    assert_null(tug_type_get(4)->name); /* numbers of formats that were withdrawn */
    assert_null(tug_type_get(5)->name);
    assert_null(tug_type_get(31)->name);
    assert_null(tug_type_get(TUG_TYPE_COUNT)->name);
    assert_null(tug_type_get(UINT32_MAX)->name);
}

static void row_bytes_refuses_what_does_not_fit(void **state) {
    (void)state;
    uint64_t bytes = 7;
    assert_false(tug_type_row_bytes(TUG_TYPE_F32, UINT64_MAX / 4 + 1, &bytes));
    assert_false(tug_type_row_bytes(TUG_TYPE_F64, UINT64_MAX, &bytes));
    assert_int_equal(bytes, 7);
    assert_true(tug_type_row_bytes(TUG_TYPE_F32, UINT64_MAX / 4, &bytes));
    assert_true(bytes == UINT64_MAX / 4 * 4);
    /* Less than a byte a value: no product of two 64-bit numbers can wrap here. */
    assert_true(tug_type_row_bytes(TUG_TYPE_Q4_K, UINT64_MAX / 256 * 256, &bytes));
}

static void decodes_the_unblocked_types(void **state) {
    (void)state;
    float y[2];
    const float f32[2] = {1.5f, -0.0f};
    tug_dequantize_row(TUG_TYPE_F32, y, f32, 2);
    assert_memory_equal(y, f32, sizeof y);
    const uint16_t f16[2] = {HALF_TWO, 0x0001};
    tug_dequantize_row(TUG_TYPE_F16, y, f16, 2);
    assert_true(y[0] == 2.0f && y[1] == 0x1p-24f);
    const uint16_t bf16[2] = {0x3FC0, 0xFF80};
    tug_dequantize_row(TUG_TYPE_BF16, y, bf16, 2);
    assert_true(y[0] == 1.5f && y[1] == -__builtin_inff());
}

static void decodes_the_32_value_formats(void **state) {
    (void)state;
    float y[32];

    tug_block_q8_0 q8_0 = {.d = HALF_MINUS_HALF};
    q8_0.qs[3] = 100, q8_0.qs[31] = -128;
    tug_dequantize_row(TUG_TYPE_Q8_0, y, &q8_0, 32);
    assert_true(y[3] == -50 && y[31] == 64 && y[0] == 0);

    tug_block_q4_0 q4_0 = {.d = HALF_TWO};
    q4_0.qs[5] = 0xF3; /* value 5 is 3, value 21 is 15 */
    tug_dequantize_row(TUG_TYPE_Q4_0, y, &q4_0, 32);
    assert_true(y[5] == 2 * (3 - 8) && y[21] == 2 * (15 - 8) && y[0] == -16);

    tug_block_q4_1 q4_1 = {.d = HALF_TWO, .m = HALF_ONE};
    q4_1.qs[5] = 0xF3;
    tug_dequantize_row(TUG_TYPE_Q4_1, y, &q4_1, 32);
    assert_true(y[5] == 7 && y[21] == 31 && y[0] == 1);

    tug_block_q5_0 q5_0 = {.d = HALF_TWO};
    q5_0.qs[5] = 0xF3, q5_0.qh[2] = 1 << 5; /* the fifth bit of value 21 */
    tug_dequantize_row(TUG_TYPE_Q5_0, y, &q5_0, 32);
    assert_true(y[5] == 2 * (3 - 16) && y[21] == 2 * (31 - 16) && y[0] == -32);

    tug_block_q5_1 q5_1 = {.d = HALF_TWO, .m = HALF_ONE};
    q5_1.qs[5] = 0xF3, q5_1.qh[0] = 1 << 5; /* of value 5 */
    tug_dequantize_row(TUG_TYPE_Q5_1, y, &q5_1, 32);
    assert_true(y[5] == 2 * 19 + 1 && y[21] == 31 && y[0] == 1);

    tug_block_iq4_nl iq4_nl = {.d = HALF_TWO};
    iq4_nl.qs[5] = 0xF8;
    tug_dequantize_row(TUG_TYPE_IQ4_NL, y, &iq4_nl, 32);
    assert_true(y[5] == 2 && y[21] == 226 && y[0] == -254);
}

static void decodes_q2_k_and_q3_k(void **state) {
    (void)state;
    float y[256];

    tug_block_q2_k q2 = {.d = HALF_TWO, .dmin = HALF_ONE};
    q2.scales[9] = 0x53;     /* values 144..159: scale 3, minimum 5 */
    q2.qs[32 + 17] = 2 << 0; /* value 128 + 17 */
    tug_dequantize_row(TUG_TYPE_Q2_K, y, &q2, 256);
    assert_true(y[145] == 2 * 3 * 2 - 5 && y[144] == -5 && y[0] == 0);

    tug_block_q3_k q3 = {.d = HALF_TWO};
    memset(q3.hmask, 0xFF, sizeof q3.hmask);
    q3.scales[1] = 0x70;       /* sub-block 9, bits 0..3: 7 */
    q3.scales[8 + 1] = 3 << 4; /* sub-block 9, bits 4..5: 3 */
    q3.qs[32 + 17] = 2;        /* value 145: 2 + 4 - 4 */
    q3.hmask[19] = 0xEF;       /* value 147: 0 - 4 */
    tug_dequantize_row(TUG_TYPE_Q3_K, y, &q3, 256);
    assert_true(y[145] == 2 * (55 - 32) * 2 && y[144] == 0);
    assert_true(y[147] == 2 * (55 - 32) * -4);
}

static void decodes_q4_k_and_q5_k(void **state) {
    (void)state;
    float y[256];

    tug_block_q4_k q4 = {.d = HALF_TWO, .dmin = HALF_ONE};
    q4.scales[1] = 0x80 | 9;  /* scale 1 is 9; bits 4..5 of scale 5 are 2 */
    q4.scales[5] = 0x40 | 33; /* min 1 is 33; bits 4..5 of min 5 are 1 */
    q4.scales[9] = 0xA4;      /* low bits: scale 5 is 4, min 5 is 10 */
    q4.qs[3] = 0xF0;          /* value 35 */
    q4.qs[64 + 3] = 0x60;     /* value 163, in sub-block 5 */
    tug_dequantize_row(TUG_TYPE_Q4_K, y, &q4, 256);
    assert_true(y[35] == 2 * 9 * 15 - 33 && y[36] == -33);
    assert_true(y[163] == 2 * (4 + 32) * 6 - (10 + 16));

    tug_block_q5_k q5 = {.d = HALF_TWO, .dmin = HALF_ONE};
    memcpy(q5.scales, q4.scales, sizeof q5.scales);
    q5.qs[64 + 3] = 0x60;
    q5.qh[3] = 1 << 5;
    tug_dequantize_row(TUG_TYPE_Q5_K, y, &q5, 256);
    assert_true(y[163] == 2 * (4 + 32) * (6 + 16) - (10 + 16) && y[35] == -33);
}

static void decodes_q6_k_and_iq4_xs(void **state) {
    (void)state;
    float y[256];

    tug_block_q6_k q6 = {.d = HALF_TWO};
    q6.scales[13] = -7;      /* values 208..223 */
    q6.ql[64 + 20] = 0x50;   /* value 128 + 64 + 20 = 212: bits 0..3 are 5 */
    q6.qh[32 + 20] = 3 << 4; /* bits 4..5 are 3 */
    tug_dequantize_row(TUG_TYPE_Q6_K, y, &q6, 256);
    assert_true(y[212] == 2 * -7 * (53 - 32) && y[213] == 2 * -7 * -32);

    tug_block_iq4_xs x = {.d = HALF_TWO};
    x.scales_l[2] = 0x90;    /* sub-block 5: bits 0..3 are 9 */
    x.scales_h = 3 << 10;    /* bits 4..5 are 3 */
    x.qs[16 * 5 + 1] = 0xF8; /* values 161 and 177 */
    tug_dequantize_row(TUG_TYPE_IQ4_XS, y, &x, 256);
    assert_true(y[161] == 2 * (57 - 32) * 1 && y[177] == 2 * (57 - 32) * 113);
    assert_true(y[0] == 2 * -32 * -127);
}

/* Rows of several blocks, and the empty row. */
static void decodes_rows(void **state) {
    (void)state;
    tug_block_q8_0 blocks[3] = {{.d = HALF_ONE}, {.d = HALF_ONE}, {.d = HALF_ONE}};
    for (int b = 0; b < 3; b++) blocks[b].qs[b] = (int8_t)(b + 1);
    float y[97];
    y[96] = 42;
    tug_dequantize_row(TUG_TYPE_Q8_0, y, blocks, 96);
    assert_true(y[0] == 1 && y[33] == 2 && y[66] == 3 && y[96] == 42);
    tug_dequantize_row(TUG_TYPE_Q8_0, NULL, NULL, 0);
    tug_dequantize_row(TUG_TYPE_F32, NULL, NULL, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type_table_is_consistent),
        cmocka_unit_test(row_bytes_refuses_what_does_not_fit),
        cmocka_unit_test(decodes_the_unblocked_types),
        cmocka_unit_test(decodes_the_32_value_formats),
        cmocka_unit_test(decodes_q2_k_and_q3_k),
        cmocka_unit_test(decodes_q4_k_and_q5_k),
        cmocka_unit_test(decodes_q6_k_and_iq4_xs),
        cmocka_unit_test(decodes_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
