/* types.c - the table of types.h.  SPDX-License-Identifier: MIT */
#include "quant/types.h"

#include <stddef.h>

#include "base/checked.h"
#include "quant/blocks.h"

/* Types we decode take their size from the struct that we decode them with.  For the
 * others the sizes are the format's; we need them to check a file that contains them. */
static const tug_type_info table[TUG_TYPE_COUNT] = {
    [TUG_TYPE_F32] = {"F32", 1, 4, true},
    [TUG_TYPE_F16] = {"F16", 1, 2, true},
    [TUG_TYPE_BF16] = {"BF16", 1, 2, true},
    [TUG_TYPE_Q4_0] = {"Q4_0", TUG_QK, sizeof(tug_block_q4_0), true},
    [TUG_TYPE_Q4_1] = {"Q4_1", TUG_QK, sizeof(tug_block_q4_1), true},
    [TUG_TYPE_Q5_0] = {"Q5_0", TUG_QK, sizeof(tug_block_q5_0), true},
    [TUG_TYPE_Q5_1] = {"Q5_1", TUG_QK, sizeof(tug_block_q5_1), true},
    [TUG_TYPE_Q8_0] = {"Q8_0", TUG_QK, sizeof(tug_block_q8_0), true},
    [TUG_TYPE_Q2_K] = {"Q2_K", TUG_QK_K, sizeof(tug_block_q2_k), true},
    [TUG_TYPE_Q3_K] = {"Q3_K", TUG_QK_K, sizeof(tug_block_q3_k), true},
    [TUG_TYPE_Q4_K] = {"Q4_K", TUG_QK_K, sizeof(tug_block_q4_k), true},
    [TUG_TYPE_Q5_K] = {"Q5_K", TUG_QK_K, sizeof(tug_block_q5_k), true},
    [TUG_TYPE_Q6_K] = {"Q6_K", TUG_QK_K, sizeof(tug_block_q6_k), true},
    [TUG_TYPE_IQ4_NL] = {"IQ4_NL", TUG_QK, sizeof(tug_block_iq4_nl), true},
    [TUG_TYPE_IQ4_XS] = {"IQ4_XS", TUG_QK_K, sizeof(tug_block_iq4_xs), true},

    /* Q8_1 and Q8_K are what engines make of activations; no file should hold them. */
    [TUG_TYPE_Q8_1] = {"Q8_1", 32, 36, false},
    [TUG_TYPE_Q8_K] = {"Q8_K", 256, 292, false},
    [TUG_TYPE_IQ1_S] = {"IQ1_S", 256, 50, false},
    [TUG_TYPE_IQ1_M] = {"IQ1_M", 256, 56, false},
    [TUG_TYPE_IQ2_XXS] = {"IQ2_XXS", 256, 66, false},
    [TUG_TYPE_IQ2_XS] = {"IQ2_XS", 256, 74, false},
    [TUG_TYPE_IQ2_S] = {"IQ2_S", 256, 82, false},
    [TUG_TYPE_IQ3_XXS] = {"IQ3_XXS", 256, 98, false},
    [TUG_TYPE_IQ3_S] = {"IQ3_S", 256, 110, false},
    [TUG_TYPE_TQ1_0] = {"TQ1_0", 256, 54, false},
    [TUG_TYPE_TQ2_0] = {"TQ2_0", 256, 66, false},
    [TUG_TYPE_MXFP4] = {"MXFP4", 32, 17, false},
    [TUG_TYPE_NVFP4] = {"NVFP4", 64, 36, false},
    [TUG_TYPE_Q1_0] = {"Q1_0", 128, 18, false},
    [TUG_TYPE_I8] = {"I8", 1, 1, false},
    [TUG_TYPE_I16] = {"I16", 1, 2, false},
    [TUG_TYPE_I32] = {"I32", 1, 4, false},
    [TUG_TYPE_I64] = {"I64", 1, 8, false},
    [TUG_TYPE_F64] = {"F64", 1, 8, false},
};

const tug_type_info *tug_type_get(uint32_t type) {
    static const tug_type_info unknown = {NULL, 1, 1, false};
    return type < TUG_TYPE_COUNT && table[type].name ? &table[type] : &unknown;
}

bool tug_type_row_bytes(uint32_t type, uint64_t n, uint64_t *bytes) {
    const tug_type_info *t = tug_type_get(type);
    if (!t->name || n % (uint64_t)t->block_elems != 0) return false;
    return tug_mul_u64(n / (uint64_t)t->block_elems, (uint64_t)t->block_bytes, bytes);
}
