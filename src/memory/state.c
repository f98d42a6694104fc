/* state.c - see state.h.  SPDX-License-Identifier: MIT */
#include "memory/state.h"

#include <string.h>
#include <sys/mman.h>

#include "base/sys.h"

static size_t kv_row_bytes(const tug_state_shape *s) {
    return tug_kv_row_bytes(s->kv_type, s->head_dim);
}

static size_t delta_floats(const tug_state_shape *s) {
    return (size_t)s->n_v_head * (size_t)s->dk * (size_t)s->dv;
}

static size_t conv_floats(const tug_state_shape *s) {
    return (size_t)(s->conv_width - 1) * (size_t)s->conv_channels;
}

uint64_t tug_state_bytes_per_token(const tug_state_shape *s) {
    return 2 * (uint64_t)s->n_attn_layer * (uint64_t)s->n_kv_head * kv_row_bytes(s);
}

uint64_t tug_state_recurrent_bytes(const tug_state_shape *s) {
    return (uint64_t)s->n_delta_layer * (delta_floats(s) + conv_floats(s)) *
           sizeof(float);
}

static bool on_host(const tug_state *st) {
    return !st->be || tug_backend_is_host(st->be);
}

/* A map whose pages come as they are touched, where there is such a thing. */
static tug_status alloc_kv(tug_state *st, size_t size, tug_err *err) {
    if (!on_host(st)) {
        void *p;
        TUG_TRY(
            tug_backend_alloc(st->be, &p, size, "the KV cache: use a smaller -c", err));
        st->kv_bytes = p;
        return TUG_OK;
    }
    void *p = tug_sys.mmap(NULL, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return TUG_FAIL(err, TUG_ENOMEM,
                        "out of memory for a context of %lld tokens (%.1f GB): use a "
                        "smaller -c",
                        (long long)st->n_ctx, (double)size * 1e-9);
    }
    st->kv_bytes = p;
    return TUG_OK;
}

static tug_status create_kv(tug_state *st, const tug_state_shape *s, tug_err *err) {
    size_t size;
    /* Whole blocks, as the kernels want them. */
    const int64_t n_rows = (st->n_ctx / TUG_KV_BLOCK + 1) * TUG_KV_BLOCK;
    if (__builtin_mul_overflow((size_t)tug_state_bytes_per_token(s), (size_t)n_rows,
                               &size) ||
        size > SIZE_MAX / 2) {
        return TUG_FAIL(err, TUG_ERANGE, "a context of %lld tokens is beyond any memory",
                        (long long)st->n_ctx);
    }
    if (size == 0) return TUG_OK; /* a model without attention layers */
    TUG_TRY(alloc_kv(st, size, err));
    st->kv_size = size;
    st->n_attn_layer = s->n_attn_layer;
    st->n_kv_head = s->n_kv_head;
    st->head_dim = s->head_dim;
    const size_t side = (size_t)s->n_kv_head * (size_t)n_rows * kv_row_bytes(s);
    for (int i = 0; i < s->n_attn_layer; i++) {
        uint8_t *k = st->kv_bytes + (size_t)i * 2 * side;
        st->kv[i] = (tug_kv_layer){k, k + side, s->kv_type, kv_row_bytes(s), n_rows};
    }
    return TUG_OK;
}

static tug_status create_recurrent(tug_state *st, const tug_state_shape *s,
                                   tug_err *err) {
    st->recurrent_size = (size_t)tug_state_recurrent_bytes(s);
    if (!on_host(st)) {
        void *device;
        TUG_TRY(tug_backend_alloc(st->be, &device, st->recurrent_size,
                                  "the recurrent state", err));
        st->recurrent = device;
    } else {
        /* Read and written whole by every token: in small pages, address translation
         * takes a tenth of that. */
        st->recurrent = tug_alloc_pages(st->recurrent_size);
    }
    if (!st->recurrent) {
        return TUG_FAIL(err, TUG_ENOMEM,
                        "out of memory for the recurrent state (%.1f MB)",
                        (double)st->recurrent_size * 1e-6);
    }
    float *p = st->recurrent;
    for (int i = 0; i < s->n_delta_layer; i++) {
        st->delta[i].s = p;
        st->delta[i].conv = p + delta_floats(s);
        p += delta_floats(s) + conv_floats(s);
    }
    return TUG_OK;
}

tug_status tug_state_create(tug_state *st, const tug_state_shape *s, int64_t n_ctx,
                            tug_err *err) {
    *st = (tug_state){.n_ctx = n_ctx, .be = s->be};
    st->kv = tug_alloc_zero((size_t)s->n_attn_layer * sizeof *st->kv);
    st->delta = tug_alloc_zero((size_t)s->n_delta_layer * sizeof *st->delta);
    tug_status status = TUG_OK;
    if (!st->kv || !st->delta) {
        status = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the session");
    }
    if (status == TUG_OK) status = create_kv(st, s, err);
    if (status == TUG_OK) status = create_recurrent(st, s, err);
    if (status != TUG_OK) {
        tug_state_free(st);
        return status;
    }
    tug_state_reset(st);
    return TUG_OK;
}

void tug_state_free(tug_state *st) {
    if (!on_host(st)) {
        tug_backend_free(st->be, st->kv_bytes, st->kv_size);
        tug_backend_free(st->be, st->recurrent, st->recurrent_size);
    } else {
        if (st->kv_bytes) (void)tug_sys.munmap(st->kv_bytes, st->kv_size);
        tug_free_pages(st->recurrent, st->recurrent_size);
    }
    tug_free(st->kv);
    tug_free(st->delta);
    *st = (tug_state){0};
}

void tug_state_reset(tug_state *st) {
    st->n_tokens = 0; /* cache rows beyond n_tokens are never read */
    if (!on_host(st)) {
        tug_backend_clear(st->be, st->recurrent, st->recurrent_size);
    } else if (st->recurrent) {
        memset(st->recurrent, 0, st->recurrent_size);
    }
}

void tug_state_read_recurrent(const tug_state *st, float *dst) {
    if (on_host(st)) {
        memcpy(dst, st->recurrent, st->recurrent_size);
    } else {
        tug_backend_read(st->be, dst, st->recurrent, st->recurrent_size);
    }
}

void tug_state_write_recurrent(tug_state *st, const float *src) {
    if (on_host(st)) {
        memcpy(st->recurrent, src, st->recurrent_size);
    } else {
        tug_backend_write(st->be, st->recurrent, src, st->recurrent_size);
    }
}

/* ---- rows of the cache --------------------------------------------------------------- */

size_t tug_state_row_bytes(const tug_state *st) {
    const size_t per_head = st->n_attn_layer > 0 ? st->kv[0].row_bytes : 0;
    return 2 * (size_t)st->n_attn_layer * (size_t)st->n_kv_head * per_head;
}

/* The cache of keys (even `side`) or values (odd) of one head. */
static uint8_t *head_cache(const tug_state *st, int layer, int side, int head) {
    const tug_kv_layer *kv = &st->kv[layer];
    return (side % 2 ? kv->v : kv->k) + (size_t)head * (size_t)kv->n_rows * kv->row_bytes;
}

void tug_state_read_rows(const tug_state *st, int64_t row, int64_t n, uint8_t *dst) {
    for (int64_t r = row; r < row + n; r++) {
        for (int i = 0; i < 2 * st->n_attn_layer * st->n_kv_head; i++) {
            const int head = i / 2 % st->n_kv_head, layer = i / 2 / st->n_kv_head;
            uint8_t *cache = head_cache(st, layer, i, head);
            if (on_host(st)) {
                tug_kv_read_row(st->kv[layer].type, i % 2, dst, cache, r, st->head_dim);
            } else { /* rows of one piece: such are the caches of a GPU */
                const size_t bytes = st->kv[layer].row_bytes;
                tug_backend_read(st->be, dst, cache + (size_t)r * bytes, bytes);
            }
            dst += st->kv[layer].row_bytes;
        }
    }
}

void tug_state_write_rows(tug_state *st, int64_t row, int64_t n, const uint8_t *src) {
    for (int64_t r = row; r < row + n; r++) {
        for (int i = 0; i < 2 * st->n_attn_layer * st->n_kv_head; i++) {
            const int head = i / 2 % st->n_kv_head, layer = i / 2 / st->n_kv_head;
            uint8_t *cache = head_cache(st, layer, i, head);
            if (on_host(st)) {
                tug_kv_write_row(st->kv[layer].type, i % 2, cache, r, src, st->head_dim);
            } else {
                const size_t bytes = st->kv[layer].row_bytes;
                tug_backend_write(st->be, cache + (size_t)r * bytes, src, bytes);
            }
            src += st->kv[layer].row_bytes;
        }
    }
}

/* Rows share blocks: what holds n of them is whole blocks. */
static int64_t whole_blocks(int64_t n) {
    return (n + TUG_KV_BLOCK - 1) / TUG_KV_BLOCK * TUG_KV_BLOCK;
}

void tug_state_trim(tug_state *st) {
    for (int i = 0; on_host(st) && i < 2 * st->n_attn_layer * st->n_kv_head; i++) {
        const int head = i / 2 % st->n_kv_head, layer = i / 2 / st->n_kv_head;
        const tug_kv_layer *kv = &st->kv[layer];
        const int64_t used = whole_blocks(st->n_tokens);
        tug_forget_pages(head_cache(st, layer, i, head) + (size_t)used * kv->row_bytes,
                         (size_t)(kv->n_rows - used) * kv->row_bytes);
    }
    st->n_touched = st->n_tokens;
}

void tug_state_copy(tug_state *dst, const tug_state *src, int64_t n,
                    const float *recurrent) {
    for (int i = 0; i < 2 * src->n_attn_layer * src->n_kv_head; i++) {
        const int head = i / 2 % src->n_kv_head, layer = i / 2 / src->n_kv_head;
        uint8_t *to = head_cache(dst, layer, i, head),
                *from = head_cache(src, layer, i, head);
        const size_t bytes = (size_t)whole_blocks(n) * src->kv[layer].row_bytes;
        if (on_host(src)) {
            memcpy(to, from, bytes);
        } else {
            tug_backend_copy(src->be, to, from, bytes);
        }
    }
    if (recurrent) {
        tug_state_write_recurrent(dst, recurrent);
    } else if (on_host(src)) {
        memcpy(dst->recurrent, src->recurrent, src->recurrent_size);
    } else {
        tug_backend_copy(src->be, dst->recurrent, src->recurrent, src->recurrent_size);
    }
    dst->n_tokens = n;
    if (n > dst->n_touched) dst->n_touched = n;
}
