/* kernels_attn.c - chooses the attention kernels for a CPU level.
 * SPDX-License-Identifier: MIT */
#include "kernels/cpu/kernels_attn.h"

#include <string.h>

size_t tug_attn_scratch_floats(void) {
    return TUG_ATTN_SCRATCH;
}

size_t tug_kv_row_bytes(tug_kv_type type, int64_t n) {
    const size_t values = (size_t)n;
    switch (type) {
    case TUG_KV_F16: return values * 2;
    case TUG_KV_Q8_0: return values / 32 * 34;
    case TUG_KV_I16: return values * 2 + sizeof(float);
    case TUG_KV_F32:
    case TUG_KV_TYPES: break;
    }
    return values * 4;
}

void tug_kv_read_row(tug_kv_type type, bool is_value, void *dst, const void *cache,
                     int64_t row, int64_t n) {
    const size_t bytes = tug_kv_row_bytes(type, n);
    if (type != TUG_KV_I16) {
        memcpy(dst, (const char *)cache + (size_t)row * bytes, bytes);
        return;
    }
    const int16_t *from = cache;
    int16_t x[TUG_MAX_HEAD_DIM];
    for (int64_t d = 0; d < n; d++) {
        x[d] = from[is_value ? tug_i16_value_at(row, d, n) : tug_i16_key_at(row, d, n)];
    }
    memcpy(dst, x, (size_t)n * sizeof *x);
    memcpy((char *)dst + (size_t)n * sizeof *x,
           &tug_i16_scales(cache, row, n)[row % TUG_KV_BLOCK], sizeof(float));
}

void tug_kv_write_row(tug_kv_type type, bool is_value, void *cache, int64_t row,
                      const void *src, int64_t n) {
    const size_t bytes = tug_kv_row_bytes(type, n);
    if (type != TUG_KV_I16) {
        memcpy((char *)cache + (size_t)row * bytes, src, bytes);
        return;
    }
    int16_t x[TUG_MAX_HEAD_DIM];
    float scale;
    memcpy(x, src, (size_t)n * sizeof *x);
    memcpy(&scale, (const char *)src + (size_t)n * sizeof *x, sizeof scale);
    if (is_value) {
        tug_i16_put_value(cache, row, x, scale, n);
    } else {
        tug_i16_put_key(cache, row, x, scale, n);
    }
}

#if defined(__x86_64__)
/* At most TUG_ATTN_QUERIES queries, from the first of `a`. */
static void tile_by_chunks(const tug_attn_args *a, tug_attn_chunk_fn *chunk) {
    const int64_t stride = tug_attn_part_floats(a->head_dim);
    float *total = a->scratch + TUG_ATTN_SCRATCH_CHUNK;
    float *part = total + a->n_q * stride;
    int64_t longest = 0;
    for (int64_t i = 0; i < a->n_q; i++) {
        if (a->q_len[i] > longest) longest = a->q_len[i];
    }
    chunk(a, 0, total);
    for (int64_t c = 1; c * TUG_ATTN_CHUNK < longest; c++) {
        chunk(a, c, part);
        for (int64_t i = 0; i < a->n_q; i++) {
            if (a->q_len[i] <= c * TUG_ATTN_CHUNK) continue;
            tug_attn_join_avx2(total + i * stride, part + i * stride, a->head_dim);
        }
    }
    for (int64_t i = 0; i < a->n_q; i++) {
        tug_attn_finish_avx2(a->out + i * a->out_stride, total + i * stride, a->head_dim);
    }
}

void tug_attn_by_chunks(const tug_attn_args *a, tug_attn_chunk_fn *chunk) {
    tug_attn_args tile = *a;
    for (int64_t left = a->n_q; left > 0; left -= tile.n_q) {
        tile.n_q = left < TUG_ATTN_QUERIES ? left : TUG_ATTN_QUERIES;
        tile_by_chunks(&tile, chunk);
        tile.q += tile.n_q * tile.q_stride;
        tile.q_len += tile.n_q;
        tile.out += tile.n_q * tile.out_stride;
    }
}

static void choose_avx2(tug_kernels *k) {
    k->kv_store_k[TUG_KV_F16] = tug_kv_store_f16_avx2;
    k->kv_store_v[TUG_KV_F16] = tug_kv_store_f16_avx2;
    k->kv_store_k[TUG_KV_Q8_0] = tug_kv_store_q8_0_avx2;
    k->kv_store_v[TUG_KV_Q8_0] = tug_kv_store_q8_0_avx2;
    k->attn[TUG_KV_F16] = tug_attn_f16_avx2;
    k->attn[TUG_KV_Q8_0] = tug_attn_q8_0_avx2;
    k->attn[TUG_KV_F32] = tug_attn_f32_avx2;
    k->attn[TUG_KV_I16] = tug_attn_i16_avx2;
    k->attn_chunk[TUG_KV_F16] = tug_attn_chunk_f16_avx2;
    k->attn_chunk[TUG_KV_Q8_0] = tug_attn_chunk_q8_0_avx2;
    k->attn_chunk[TUG_KV_F32] = tug_attn_chunk_f32_avx2;
    k->attn_chunk[TUG_KV_I16] = tug_attn_chunk_i16_avx2;
    k->attn_join = tug_attn_join_avx2;
    k->attn_finish = tug_attn_finish_avx2;
}

/* An f32 cache is for those who doubt the others: it keeps its f32 arithmetic. */
static void choose_avx512(tug_kernels *k) {
    k->kv_store_k[TUG_KV_F16] = tug_kv_store_f16_avx512;
    k->kv_store_v[TUG_KV_F16] = tug_kv_store_f16_avx512;
    k->kv_store_k[TUG_KV_Q8_0] = tug_kv_store_q8_0_avx512;
    k->kv_store_v[TUG_KV_Q8_0] = tug_kv_store_q8_0_avx512;
    k->kv_store_k[TUG_KV_I16] = tug_kv_store_k_i16_avx512;
    k->kv_store_v[TUG_KV_I16] = tug_kv_store_v_i16_avx512;
    k->attn[TUG_KV_F16] = tug_attn_f16_avx512;
    k->attn[TUG_KV_Q8_0] = tug_attn_q8_0_avx512;
    k->attn[TUG_KV_I16] = tug_attn_i16_avx512;
    k->attn_chunk[TUG_KV_F16] = tug_attn_chunk_f16_avx512;
    k->attn_chunk[TUG_KV_Q8_0] = tug_attn_chunk_q8_0_avx512;
    k->attn_chunk[TUG_KV_I16] = tug_attn_chunk_i16_avx512;
}
#endif

void tug_kernels_init_attn(tug_kernels *k, tug_cpu_level level) {
    k->kv_store_k[TUG_KV_F16] = tug_kv_store_f16_ref;
    k->kv_store_v[TUG_KV_F16] = tug_kv_store_f16_ref;
    k->kv_store_k[TUG_KV_Q8_0] = tug_kv_store_q8_0_ref;
    k->kv_store_v[TUG_KV_Q8_0] = tug_kv_store_q8_0_ref;
    k->kv_store_k[TUG_KV_F32] = tug_kv_store_f32_ref;
    k->kv_store_v[TUG_KV_F32] = tug_kv_store_f32_ref;
    k->kv_store_k[TUG_KV_I16] = tug_kv_store_k_i16_ref;
    k->kv_store_v[TUG_KV_I16] = tug_kv_store_v_i16_ref;
    k->attn[TUG_KV_F16] = tug_attn_f16_ref;
    k->attn[TUG_KV_Q8_0] = tug_attn_q8_0_ref;
    k->attn[TUG_KV_F32] = tug_attn_f32_ref;
    k->attn[TUG_KV_I16] = tug_attn_i16_ref;
    for (int i = 0; i < TUG_KV_TYPES; i++) k->attn_chunk[i] = NULL;
    k->attn_join = NULL;
    k->attn_finish = NULL;
#if defined(__x86_64__)
    if (level >= TUG_CPU_AVX2) choose_avx2(k);
    if (level >= TUG_CPU_AVX512) choose_avx512(k);
#else
    (void)level;
#endif
}
