/* act_ref.c - the specification of the activation conversions: what act.h's fields are
 * computed from, value by value.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "kernels/cpu/act.h"
#include "kernels/cpu/kernels_linear.h"

#include "base/f16.h"

void tug_act_f32_ref(void *dst, const float *x, int64_t n) {
    memcpy(dst, x, (size_t)n * sizeof *x);
}

/* q = x / d rounded to nearest even, d = largest magnitude / 127.  Magnitudes are
 * compared as integers, which orders NaN above infinity above all others: a value that
 * is not finite makes d, and so every product, not finite instead of getting lost. */
static float quantize(int8_t *q, const float *x, int64_t n) {
    uint32_t max_bits = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = tug_f32_bits(x[i]) & 0x7FFFFFFFu;
        if (bits > max_bits) max_bits = bits;
    }
    const float max = tug_f32_from_bits(max_bits);
    /* Below this 127 / max overflows; such values are zero for any purpose. */
    if (max < 0x1p-120f) {
        memset(q, 0, (size_t)n);
        return 0;
    }
    if (!isfinite(max)) {
        memset(q, 1, (size_t)n);
        return NAN;
    }
    const float inverse = 127.0f / max;
    for (int64_t i = 0; i < n; i++) q[i] = (int8_t)lrintf(x[i] * inverse);
    return max / 127.0f;
}

static int sum(const int8_t *q, int n) {
    int s = 0;
    for (int i = 0; i < n; i++) s += q[i];
    return s;
}

void tug_act_q8_32_ref(void *dst, const float *x, int64_t n) {
    tug_act_q8_32 *rec = dst;
    for (; n > 0; rec++, x += TUG_ACT_RECORD, n -= TUG_ACT_RECORD) {
        memset(rec, 0, sizeof *rec);
        for (int b = 0; b < 8 && b * 32 < n; b++) {
            int8_t *q = rec->q + 32 * b;
            rec->d[b] = quantize(q, x + (ptrdiff_t)32 * b, 32);
            rec->dsum[b] = rec->d[b] * (float)sum(q, 32);
            rec->start[b] = -128 * sum(q, 32);
        }
    }
}

void tug_act_q8_256_ref(void *dst, const float *x, int64_t n) {
    tug_act_q8_256 *rec = dst;
    for (; n > 0; rec++, x += TUG_ACT_RECORD, n -= TUG_ACT_RECORD) {
        memset(rec, 0, sizeof *rec);
        rec->d = quantize(rec->q, x, TUG_ACT_RECORD);
        rec->start = -128 * sum(rec->q, TUG_ACT_RECORD);
        for (int i = 0; i < 16; i++) {
            rec->sum16[i] = (int16_t)sum(rec->q + (ptrdiff_t)16 * i, 16);
            rec->start16[i] = -128 * rec->sum16[i];
        }
        for (int i = 0; i < 8; i++) {
            rec->sum32[i] = (int16_t)sum(rec->q + (ptrdiff_t)32 * i, 32);
        }
    }
}

/* What a converted row leaves out. */
void tug_act_residual_q8_32_ref(float *r, const void *act, const float *x, int64_t n) {
    const tug_act_q8_32 *rows = act;
    for (int64_t i = 0; i < n; i++) {
        const tug_act_q8_32 *a = &rows[i / TUG_ACT_RECORD];
        const int64_t j = i % TUG_ACT_RECORD;
        r[i] = x[i] - a->d[j / 32] * (float)a->q[j];
    }
}

void tug_act_residual_q8_256_ref(float *r, const void *act, const float *x, int64_t n) {
    const tug_act_q8_256 *rows = act;
    for (int64_t i = 0; i < n; i++) {
        const tug_act_q8_256 *a = &rows[i / TUG_ACT_RECORD];
        r[i] = x[i] - a->d * (float)a->q[i % TUG_ACT_RECORD];
    }
}
