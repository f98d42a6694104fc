/* act.h - how activations lie in memory once converted for the linear kernels.
 *
 * A converted row is a sequence of 384-byte records of 256 values, the last one filled up
 * with zeros.  Beside the int8 values and their scales a record holds sums of the values:
 * what a kernel needs to undo an offset it gave the weights (VPDPBUSD multiplies
 * *unsigned* by signed bytes, so signed weights go in as value + 128), and to add the
 * "min" term of the formats that have one.  All of it is written once per activation and
 * read once per weight row.  SPDX-License-Identifier: MIT */
#ifndef TUG_KERNELS_CPU_ACT_H
#define TUG_KERNELS_CPU_ACT_H

#include <assert.h>
#include <stdint.h>

enum { TUG_ACT_RECORD = 256 }; /* values in a record of either kind */

/* TUG_ACT_Q8_256: x[i] = d * q[i], one scale per 256. */
typedef struct tug_act_q8_256 {
    int8_t q[256];       /* -127..127 */
    int32_t start16[16]; /* -128 * sum16[i] */
    int16_t sum16[16];   /* sum of q[16 i .. 16 i + 15] */
    int16_t sum32[8];    /* sum of q[32 i .. 32 i + 31] */
    int32_t start;       /* -128 * sum of all q */
    float d;
    uint8_t pad[8];
} tug_act_q8_256;
static_assert(sizeof(tug_act_q8_256) == 384, "six cache lines");

/* TUG_ACT_Q8_32: x[32 i + j] = d[i] * q[32 i + j], one scale per 32. */
typedef struct tug_act_q8_32 {
    int8_t q[256];    /* -127..127 */
    float d[8];       /* scale of each 32 */
    float dsum[8];    /* d[i] * sum of its q */
    int32_t start[8]; /* -128 * sum of its q */
    uint8_t pad[32];
} tug_act_q8_32;
static_assert(sizeof(tug_act_q8_32) == 384, "six cache lines");

#endif
