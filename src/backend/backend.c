/* backend.c - the functions of backend.h that a place implements, by its table.
 * SPDX-License-Identifier: MIT */
#include "backend/backend.h"

#include "backend/backend_impl.h"

bool tug_backend_is_host(const tug_backend *be) {
    return be->place == NULL;
}

tug_status tug_backend_reserve(tug_backend *be, const tug_backend_limits *limits,
                               tug_err *err) {
    return be->ops->reserve(be, limits, err);
}

/* ---- memory -------------------------------------------------------------------------- */

tug_status tug_backend_alloc(tug_backend *be, void **out, size_t bytes, const char *what,
                             tug_err *err) {
    return be->ops->alloc(be, out, bytes, what, err);
}

void tug_backend_free(tug_backend *be, void *p, size_t bytes) {
    if (p) be->ops->free(be, p, bytes);
}

void tug_backend_write(tug_backend *be, void *dst, const void *src, size_t bytes) {
    be->ops->write(be, dst, src, bytes);
}

void tug_backend_read(tug_backend *be, void *dst, const void *src, size_t bytes) {
    be->ops->read(be, dst, src, bytes);
}

void tug_backend_copy(tug_backend *be, void *dst, const void *src, size_t bytes) {
    be->ops->copy(be, dst, src, bytes);
}

void tug_backend_clear(tug_backend *be, void *p, size_t bytes) {
    be->ops->clear(be, p, bytes);
}

bool tug_backend_pin(tug_backend *be, uint8_t *p, size_t bytes) {
    return be->ops->pin && be->ops->pin(be, p, bytes);
}

void tug_backend_unpin(tug_backend *be, uint8_t *p) {
    if (be->ops->unpin) be->ops->unpin(be, p);
}

tug_status tug_backend_wait(tug_backend *be, tug_err *err) {
    return be->ops->wait(be, err);
}

/* ---- passes -------------------------------------------------------------------------- */

tug_status tug_backend_run(tug_backend *be, const tug_pass *pass, tug_err *err) {
    if (!be->ops->run) return pass->ops(pass->ud, err);
    return be->ops->run(be, pass, err);
}

void tug_backend_begin_pass(tug_backend *be, int64_t n_tok) {
    if (be->ops->begin_pass) be->ops->begin_pass(be, n_tok);
}

/* ---- ops ----------------------------------------------------------------------------- */

void tug_op_embed(tug_backend *be, float *x, const tug_weight *w, const int32_t *ids,
                  int64_t n_tok) {
    be->ops->embed(be, x, w, ids, n_tok);
}

void tug_op_rmsnorm(tug_backend *be, float *y, const float *x, const float *w,
                    int64_t n_tok, int64_t n, float eps) {
    be->ops->rmsnorm(be, y, x, w, n_tok, n, eps);
}

void tug_op_add(tug_backend *be, float *x, const float *y, int64_t n_tok, int64_t n) {
    be->ops->add(be, x, y, n_tok, n);
}

void tug_op_project(tug_backend *be, const tug_proj *p, int n_proj, float *dst,
                    int64_t dst_stride, const float *x, int64_t n_tok) {
    be->ops->project(be, p, n_proj, dst, dst_stride, x, n_tok);
}

void tug_op_attn_prepare(tug_backend *be, const tug_attn_shape *s, float *qkv,
                         int64_t stride, const float *q_norm, const float *k_norm,
                         const float *rope, tug_kv_layer *kv, int64_t pos0,
                         int64_t n_tok) {
    be->ops->attn_prepare(be, s, qkv, stride, q_norm, k_norm, rope, kv, pos0, n_tok);
}

void tug_op_attn(tug_backend *be, const tug_attn_shape *s, float *out, const float *qkv,
                 int64_t stride, const tug_kv_layer *kv, int64_t pos0, int64_t n_tok) {
    be->ops->attn(be, s, out, qkv, stride, kv, pos0, n_tok);
}

void tug_op_delta(tug_backend *be, const tug_delta_shape *s, float *out,
                  const float *proj, int64_t stride, const float *conv_w,
                  const float *dt_bias, const float *a_coef, const float *norm,
                  tug_delta_state *state, int64_t n_tok) {
    be->ops->delta(be, s, out, proj, stride, conv_w, dt_bias, a_coef, norm, state, n_tok);
}

tug_status tug_op_moe(tug_backend *be, const tug_moe_weights *w, float *y, const float *x,
                      const float *router_logits, int n_used, int64_t n_tok,
                      tug_err *err) {
    return be->ops->moe(be, w, y, x, router_logits, n_used, n_tok, err);
}

const int32_t *tug_backend_routed(tug_backend *be) {
    return be->ops->routed(be);
}
