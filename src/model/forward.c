/* forward.c - one pass over a batch, top to bottom, in the order of docs/MODEL.md.
 *
 * x is the residual stream; every half layer reads h = rmsnorm(x) and adds its result to
 * x.  A batch goes through a layer's experts as one, so that each expert's weights are read
 * and unpacked once for it, but through the mixer in parts that stay in the cache.
 * Nothing here allocates, and nothing can fail but experts that come from a disk: every
 * buffer is in the scratch.  Nothing here knows about types, threads or instruction sets:
 * that is the backend.
 * SPDX-License-Identifier: MIT */
#include "model/forward.h"

#include <math.h>
#include <string.h>

#include "backend/backend_cuda.h"
#include "backend/backend_stage.h"
#include "base/sys.h"

/* ---- the pass ------------------------------------------------------------------------ */

/* The mixer of one layer over tokens [t0, t0 + n_tok) of the batch: x += mixer(norm(x)). */
static void mix(const tug_net *net, const tug_layer *l, tug_state *st, int i_kind,
                tug_scratch *s, int64_t t0, int64_t n_tok) {
    const tug_shape *shape = &net->shape;
    const int64_t pos = st->n_tokens + t0, width = l->mix_width;
    float *x = s->x + t0 * shape->dim;
    tug_op_rmsnorm(net->be, s->h, x, l->mix_norm, n_tok, shape->dim, shape->eps);
    tug_op_project(net->be, l->mix_in, l->n_mix_in, s->mix, width, s->h, n_tok);
    if (l->is_attn) {
        tug_op_attn_prepare(net->be, &shape->attn, s->mix, width, l->q_norm, l->k_norm,
                            s->rope + t0 * shape->attn.n_rot, &st->kv[i_kind], pos,
                            n_tok);
        tug_op_attn(net->be, &shape->attn, s->mixed, s->mix, width, &st->kv[i_kind], pos,
                    n_tok);
    } else {
        tug_op_delta(net->be, &shape->delta, s->mixed, s->mix, width, l->conv_w,
                     l->dt_bias, l->a_coef, l->delta_norm, &st->delta[i_kind], n_tok);
    }
    tug_op_project(net->be, &l->mix_out, 1, s->h, shape->dim, s->mixed, n_tok);
    tug_op_add(net->be, x, s->h, n_tok, shape->dim);
}

static tug_status layer_moe(const tug_net *net, int layer, tug_scratch *s, int64_t n_tok,
                            tug_err *err) {
    const tug_shape *shape = &net->shape;
    const tug_layer *l = &net->weights.layer[layer];
    tug_stage_enter(net->be, TUG_STAGE_ROUTER); /* the op goes over to EXPERTS */
    tug_op_rmsnorm(net->be, s->h, s->x, l->ffn_norm, n_tok, shape->dim, shape->eps);
    tug_op_project(net->be, &l->router, 1, s->router, shape->n_expert, s->h, n_tok);
    TUG_TRY(tug_op_moe(net->be, &l->moe, s->mixed, s->h, s->router, shape->n_expert_used,
                       n_tok, err));
    if (net->on_routes) {
        net->on_routes(net->routes_ud, layer, tug_backend_routed(net->be),
                       shape->n_expert_used, n_tok);
    }
    tug_op_add(net->be, s->x, s->mixed, n_tok, shape->dim);
    return TUG_OK;
}

/* Cosines and sines of positions pos ...: the same for every layer.  Angles in f32, as the
 * reference computes them. */
static void rope_table(const tug_net *net, float *rope, int64_t pos, int64_t n_tok) {
    const int n_rot = net->shape.attn.n_rot, n_half = n_rot / 2;
    for (int i = 0; i < n_half; i++) {
        const float exponent = (float)(2 * i) / (float)n_rot;
        const float freq = 1.0f / powf(net->shape.rope_base, exponent);
        for (int64_t t = 0; t < n_tok; t++) {
            const double angle = (float)(pos + t) * freq;
            rope[t * n_rot + i] = (float)cos(angle);
            rope[t * n_rot + n_half + i] = (float)sin(angle);
        }
    }
}

static void tap(const tug_net *net, int layer, tug_tap_point point, const tug_scratch *s,
                int64_t n_tok) {
    if (net->tap && tug_backend_is_host(net->be)) {
        net->tap(net->tap_ud, layer, point, s->x, n_tok, net->shape.dim);
    }
}

/* What tug_forward enqueues behind the tokens' inputs. */
typedef struct layers {
    const tug_net *net;
    tug_state *st;
    tug_scratch *s;
    int64_t n_tok;
} layers;

static tug_status run_layers(void *ud, tug_err *err) {
    const layers *all = ud;
    const tug_net *net = all->net;
    const tug_shape *shape = &net->shape;
    const int64_t n_tok = all->n_tok;
    tug_scratch *s = all->s;
    int i_attn = 0, i_delta = 0;
    for (int i = 0; i < shape->n_layer; i++) {
        const tug_layer *l = &net->weights.layer[i];
        tug_stage_enter(net->be, l->is_attn ? TUG_STAGE_ATTENTION : TUG_STAGE_DELTANET);
        const int i_kind = l->is_attn ? i_attn++ : i_delta++;
        for (int64_t t = 0; t < n_tok; t += TUG_MIX_TOKENS) {
            const int64_t left = n_tok - t;
            mix(net, l, all->st, i_kind, s, t,
                left < TUG_MIX_TOKENS ? left : TUG_MIX_TOKENS);
        }
        tap(net, i, TUG_TAP_MIXER, s, n_tok);

        TUG_TRY(layer_moe(net, i, s, n_tok, err));
        tap(net, i, TUG_TAP_LAYER, s, n_tok);
        if (net->on_layer && !net->on_layer(net->layer_ud, i + 1, shape->n_layer)) {
            return TUG_FAIL(err, TUG_ECANCELED, "canceled");
        }
    }
    return TUG_OK;
}

tug_status tug_forward(const tug_net *net, tug_state *st, tug_scratch *s,
                       const int32_t *ids, int64_t n_tok, tug_err *err) {
    tug_backend_begin_pass(net->be, n_tok);
    tug_stage_enter(net->be, TUG_STAGE_EMBEDDING);
    tug_op_embed(net->be, s->x, &net->weights.embedding, ids, n_tok);
    rope_table(net, s->angles, st->n_tokens, n_tok);
    tug_backend_write(net->be, s->rope, s->angles,
                      (size_t)(n_tok * net->shape.attn.n_rot) * sizeof *s->rope);
    layers all = {net, st, s, n_tok};
    const tug_pass pass = {.ops = run_layers,
                           .ud = &all,
                           .repeats = !net->on_routes && !net->on_layer,
                           .state = st,
                           .scratch = s,
                           .pos = st->n_tokens,
                           .n_tok = n_tok};
    TUG_TRY(tug_backend_run(net->be, &pass, err));
    TUG_TRY(tug_backend_wait(net->be, err));
    st->n_tokens += n_tok;
    if (st->n_tokens > st->n_touched) st->n_touched = st->n_tokens;
    tug_stage_enter(net->be, TUG_STAGE_OTHER);
    return TUG_OK;
}

/* What tug_head enqueues before it reads. */
typedef struct head {
    const tug_net *net;
    tug_scratch *s;
    int64_t row, n;
    float *y;
} head;

static tug_status run_head(void *ud, tug_err *err) {
    const head *h = ud;
    const tug_net *net = h->net;
    const tug_shape *shape = &net->shape;
    (void)err;
    tug_op_rmsnorm(net->be, h->s->h, h->s->x + h->row * shape->dim,
                   net->weights.output_norm, h->n, shape->dim, shape->eps);
    tug_op_project(net->be, &net->weights.head, 1, h->y, shape->n_vocab, h->s->h, h->n);
    return TUG_OK;
}

tug_status tug_head(const tug_net *net, tug_scratch *s, int64_t row, int64_t n,
                    float *logits, tug_err *err) {
    float *y = tug_backend_is_host(net->be) ? logits : s->placed_logits;
    head h = {net, s, row, n, y};
    const tug_pass pass = {.ops = run_head,
                           .ud = &h,
                           .repeats = row == 0,
                           .scratch = s,
                           .pos = -1,
                           .n_tok = n};
    tug_stage_enter(net->be, TUG_STAGE_HEAD);
    tug_status status = tug_backend_run(net->be, &pass, err);
    tug_backend_read(net->be, logits, y, (size_t)(n * net->shape.n_vocab) * sizeof *y);
    if (status == TUG_OK) status = tug_backend_wait(net->be, err);
    tug_stage_enter(net->be, TUG_STAGE_OTHER);
    return status;
}

/* ---- sizes --------------------------------------------------------------------------- */

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Width of a mixer's output: heads times head size, the wider of the two kinds; and of
 * the experts' sum, which uses the same buffer. */
static int64_t mixed_width(const tug_shape *s) {
    return max64(s->dim, max64((int64_t)s->attn.n_head * s->attn.head_dim,
                               (int64_t)s->delta.n_v_head * s->delta.dv));
}

tug_state_shape tug_net_state_shape(const tug_net *net, tug_kv_type kv_type) {
    const tug_shape *s = &net->shape;
    return (tug_state_shape){
        .n_attn_layer = net->weights.n_attn_layer,
        .n_kv_head = s->attn.n_kv_head,
        .head_dim = s->attn.head_dim,
        .n_delta_layer = s->n_layer - net->weights.n_attn_layer,
        .n_v_head = s->delta.n_v_head,
        .dk = s->delta.dk,
        .dv = s->delta.dv,
        .conv_width = s->delta.conv_width,
        .conv_channels = tug_shape_conv_channels(s),
        .kv_type = kv_type,
        .be = net->be,
    };
}

/* A list of the buffers of a scratch, for making and freeing them all. */
typedef struct buffer {
    float **p;
    int64_t a, b; /* floats: a times b */
    bool host;    /* else of the backend's place */
} buffer;
enum { BUFFERS = 9 };

static void list_buffers(buffer list[BUFFERS], tug_scratch *s, const tug_net *net) {
    const tug_shape *shape = &net->shape;
    const int64_t n = s->max_tok, n_mix = n < TUG_MIX_TOKENS ? n : TUG_MIX_TOKENS;
    const int64_t mixed = max64(n_mix * mixed_width(shape), n * shape->dim);
    const int64_t placed = tug_backend_is_host(net->be) ? 0 : TUG_HEAD_ROWS;
    const buffer all[BUFFERS] = {
        {&s->x, n, shape->dim, false},
        {&s->h, max64(n, TUG_HEAD_ROWS), shape->dim, false},
        {&s->mix, n_mix, net->weights.max_mix_width, false},
        {&s->mixed, 1, mixed, false},
        {&s->router, n, shape->n_expert, false},
        {&s->rope, n, shape->attn.n_rot, false},
        {&s->angles, n, shape->attn.n_rot, true},
        {&s->logits, TUG_HEAD_ROWS, shape->n_vocab, true},
        {&s->placed_logits, placed, shape->n_vocab, false},
    };
    memcpy(list, all, sizeof all);
}

static size_t buffer_bytes(const buffer *b) {
    size_t n;
    if (__builtin_mul_overflow((size_t)b->a, (size_t)b->b, &n) ||
        __builtin_mul_overflow(n, sizeof(float), &n)) {
        return SIZE_MAX / 2; /* nobody has that */
    }
    return n;
}

static tug_backend_limits limits_of(const tug_net *net, int64_t max_tok) {
    const tug_shape *shape = &net->shape;
    return (tug_backend_limits){
        .n_tok = max64(max_tok, TUG_HEAD_ROWS),
        .n_in = mixed_width(shape),
        .n_expert = shape->n_expert,
        .n_expert_used = shape->n_expert_used,
        .expert_dim = shape->expert_dim,
        .shared_dim = shape->shared_dim,
        .dim = shape->dim,
        .conv_channels = tug_shape_conv_channels(shape),
        .n_v_head = shape->delta.n_v_head,
    };
}

uint64_t tug_scratch_gpu_bytes(const tug_net *net, int64_t max_tok) {
    const tug_backend_limits limits = limits_of(net, max_tok);
    tug_scratch s = {.max_tok = max_tok, .net = net};
    uint64_t sum = tug_cuda_work_bytes(&limits);
    buffer list[BUFFERS];
    list_buffers(list, &s, net);
    for (int i = 0; i < BUFFERS; i++) {
        if (!list[i].host) sum += (buffer_bytes(&list[i]) + 255) / 256 * 256;
    }
    return sum;
}

tug_status tug_scratch_create(tug_scratch *s, const tug_net *net, int64_t max_tok,
                              tug_err *err) {
    *s = (tug_scratch){.max_tok = max_tok, .net = net};
    const tug_backend_limits limits = limits_of(net, max_tok);
    tug_status status = TUG_OK;
    buffer list[BUFFERS];
    list_buffers(list, s, net);
    for (int i = 0; i < BUFFERS && status == TUG_OK; i++) {
        const size_t bytes = buffer_bytes(&list[i]);
        void *p = NULL;
        if (list[i].host) {
            p = tug_alloc_aligned(64, bytes);
            if (!p) status = TUG_FAIL(err, TUG_ENOMEM, "out of memory");
        } else if (bytes > 0) {
            status = tug_backend_alloc(net->be, &p, bytes, "activations", err);
        }
        *list[i].p = p;
    }
    if (status == TUG_ENOMEM && tug_backend_is_host(net->be)) {
        status = TUG_FAIL(err, TUG_ENOMEM,
                          "out of memory for batches of %lld tokens: use a smaller -b",
                          (long long)max_tok);
    }
    if (status == TUG_OK) status = tug_backend_reserve(net->be, &limits, err);
    if (status != TUG_OK) tug_scratch_free(s);
    return status;
}

void tug_scratch_free(tug_scratch *s) {
    if (!s->net) return;
    buffer list[BUFFERS];
    list_buffers(list, s, s->net);
    for (int i = 0; i < BUFFERS; i++) {
        if (list[i].host) {
            tug_free(*list[i].p);
        } else {
            tug_backend_free(s->net->be, *list[i].p, buffer_bytes(&list[i]));
        }
    }
    *s = (tug_scratch){0};
}
