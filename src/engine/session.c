/* session.c - one conversation: cut the tokens into batches, run them, keep the state.
 *
 * INVARIANTS
 *  1. state.n_tokens <= n_ctx; the state holds exactly the tokens appended so far.
 *  2. have_logits <=> n_tokens > 0, and then `logits` are the last token's.
 *  3. The model's scratch is large enough for every session's batch; between two calls
 *     nothing in it is needed.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend_cuda.h"
#include "base/sys.h"
#include "engine/planning.h"
#include "engine/session_impl.h"
#include "memory/meminfo.h"
#include "model/work.h"

/* Left for everything else when a context is sized by the memory there is. */
#define SPARE_BYTES (512u << 20)
/* ... when a plan left room for the context already (residency.h). */
#define PLANNED_SPARE_BYTES (32u << 20)
/* Batches that report after every layer, when experts come from the file. */
#define WATCHED_TOKENS 16

/* ---- life ---------------------------------------------------------------------------- */

/* Bytes that the cache of a session may take, beside the rest of it; of a GPU a share. */
static uint64_t room_for_cache(const tug_model *m, const tug_state_shape *shape,
                               int n_sharers) {
    const tug_device_info *gpu = tug_backend_gpu(m->be);
    const uint64_t spare = m->experts ? PLANNED_SPARE_BYTES : SPARE_BYTES;
    const uint64_t state = tug_state_recurrent_bytes(shape);
    const uint64_t fixed = gpu ? state : state + spare;
    const uint64_t available =
        gpu ? (gpu->budget - tug_backend_gpu_used(m->be)) / (uint64_t)n_sharers
            : tug_memory_available();
    return available > fixed ? available - fixed : 0;
}

/* Sessions that the plan has room for on a GPU. */
static int planned_sessions(const tug_model *m) {
    return m->planning && m->planning->n_sessions > 1 ? m->planning->n_sessions : 1;
}

/* The context a session gets: what was asked for if it fits, or as much as fits, which on a
 * GPU is shared with the sessions to come. */
static tug_status choose_context(const tug_model *m, const tug_state_shape *shape,
                                 int64_t asked, int64_t *n_ctx, tug_err *err) {
    const uint64_t per_token = tug_state_bytes_per_token(shape);
    const uint64_t left = room_for_cache(m, shape, asked > 0 ? 1 : planned_sessions(m));
    uint64_t most = per_token ? left / per_token : (uint64_t)INT32_MAX;
    /* A cache is whole blocks and one more. */
    if (tug_backend_gpu(m->be))
        most = most > 2 * TUG_KV_BLOCK ? most - 2 * TUG_KV_BLOCK : 0;
    const int64_t fits = most < INT32_MAX ? (int64_t)most : INT32_MAX;
    const int64_t want = asked > 0 ? asked : m->net.shape.n_ctx_train;
    if (want <= fits) {
        *n_ctx = want;
        return TUG_OK;
    }
    if (asked > 0 || fits < 1) {
        return TUG_FAIL(
            err, TUG_ENOMEM,
            "a context of %lld tokens needs %.1f GB, but %.1f GB are free: use "
            "-c %lld or less",
            (long long)want, (double)want * (double)per_token * 1e-9, (double)left * 1e-9,
            (long long)fits);
    }
    *n_ctx = fits;
    return TUG_OK;
}

static tug_kv_type cpu_kv_type(const tug_model *m, tug_kv_cache_type asked) {
    switch (asked) {
    case TUG_KV_CACHE_F16: return TUG_KV_F16;
    case TUG_KV_CACHE_Q8_0: return TUG_KV_Q8_0;
    case TUG_KV_CACHE_F32: return TUG_KV_F32;
    case TUG_KV_CACHE_I16: return TUG_KV_I16;
    case TUG_KV_CACHE_AUTO: break;
    }
    switch (tug_backend_level(m->be)) {
    case TUG_CPU_AVX512: return TUG_KV_I16;
    case TUG_CPU_AVX2: return TUG_KV_F16;
    case TUG_CPU_REF:
    case TUG_CPU_LEVELS: break;
    }
    return TUG_KV_F32;
}

tug_status tug_model_kv_type(const tug_model *m, tug_kv_cache_type asked,
                             tug_kv_type *type, tug_err *err) {
    *type = cpu_kv_type(m, asked);
    if (tug_backend_is_host(m->be)) return TUG_OK;
    if (asked == TUG_KV_CACHE_F32 || asked == TUG_KV_CACHE_I16) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "on a GPU the attention cache is f16 or q8_0");
    }
    if (asked == TUG_KV_CACHE_AUTO) *type = TUG_KV_F16;
    return TUG_OK;
}

/* Into a new one first: when memory is out, what is there goes on working. */
tug_status tug_model_grow_scratch(tug_model *m, int64_t n_batch, tug_err *err) {
    if (n_batch <= m->scratch.max_tok) return TUG_OK;
    tug_scratch larger;
    TUG_TRY(tug_scratch_create(&larger, &m->net, n_batch, err));
    tug_scratch_free(&m->scratch);
    m->scratch = larger;
    return TUG_OK;
}

size_t tug_session_logits_bytes(const tug_session *s) {
    return (size_t)s->model->net.shape.n_vocab * sizeof *s->logits;
}

static tug_status create_parts(tug_session *s, const tug_session_params *p,
                               tug_err *err) {
    tug_kv_type type;
    if (!s->model->be) return TUG_FAIL(err, TUG_ESTATE, "the model is not loaded");
    TUG_TRY(tug_model_kv_type(s->model, p->kv_type, &type, err));
    const tug_state_shape shape = tug_net_state_shape(&s->model->net, type);
    int64_t n_ctx = 0, n_batch = p->n_batch;
    if (n_batch <= 0) n_batch = s->model->n_batch;
    if (p->unchecked && p->n_ctx > 0) {
        n_ctx = p->n_ctx;
    } else {
        TUG_TRY(choose_context(s->model, &shape, p->n_ctx, &n_ctx, err));
    }
    if (n_batch > n_ctx) n_batch = n_ctx;
    TUG_TRY(tug_state_create(&s->state, &shape, n_ctx, err));
    s->n_batch = n_batch;
    s->ids = tug_alloc_array((size_t)n_ctx, sizeof *s->ids);
    s->logits = tug_alloc_aligned(64, tug_session_logits_bytes(s));
    if (!s->ids || !s->logits) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the session");
    }
    return tug_model_grow_scratch(s->model, n_batch, err);
}

tug_status tug_session_create(tug_session **out, tug_model *model,
                              const tug_session_params *params, tug_err *err) {
    static const tug_session_params defaults = {0};
    *out = NULL;
    if (!params) params = &defaults;
    tug_session *s = tug_alloc_zero(sizeof *s);
    if (!s) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the session");
    s->model = model;
    s->on_prefill = params->on_prefill;
    s->ud = params->ud;
    const tug_status status = create_parts(s, params, err);
    if (status != TUG_OK) {
        tug_session_destroy(&s);
        return status;
    }
    *out = s;
    return TUG_OK;
}

void tug_session_destroy(tug_session **session) {
    tug_session *s = *session;
    if (!s) return;
    tug_session_orphan_marks(s);
    tug_free(s->undo.bytes);
    tug_free(s->undo.ids);
    tug_free(s->ids);
    tug_free(s->logits);
    tug_state_free(&s->state);
    tug_free(s);
    *session = NULL;
}

/* ---- tokens -------------------------------------------------------------------------- */

static tug_status check_ids(const tug_session *s, const int32_t *ids, int64_t n,
                            tug_err *err) {
    if (n < 1) return TUG_FAIL(err, TUG_EUSAGE, "there are no tokens to run");
    if (n > s->state.n_ctx - s->state.n_tokens) {
        return TUG_FAIL(
            err, TUG_ERANGE,
            "%lld more tokens do not fit: the context holds %lld and has %lld "
            "already; use a larger -c",
            (long long)n, (long long)s->state.n_ctx, (long long)s->state.n_tokens);
    }
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] >= 0 && ids[i] < s->model->net.shape.n_vocab) continue;
        return TUG_FAIL(err, TUG_ERANGE, "%d is no token id: this model's are 0 to %lld",
                        ids[i], (long long)s->model->net.shape.n_vocab - 1);
    }
    return TUG_OK;
}

/* Experts make room when other programs need it, or the ceiling was passed. */
static void watch_memory(tug_model *m) {
    const uint64_t ceiling = m->ram_bytes > 0 ? m->ram_bytes : UINT64_MAX;
    const uint64_t ours = tug_memory_ours();
    tug_expert_store_watch(m->experts, ceiling,
                           ours > m->probe_bytes ? ours - m->probe_bytes : 0);
}

/* The pass that runs, of an append. */
typedef struct pass {
    const tug_session *s;
    int64_t at, n_tok, total; /* tokens of the append */
} pass;

static bool on_layer(void *ud, int done, int n_layer) {
    const pass *p = ud;
    if (done == n_layer) return true; /* the append reports it */
    return p->s->on_prefill(p->s->ud, (uint64_t)(p->at + p->n_tok * done / n_layer),
                            (uint64_t)p->total);
}

/* A pass whose experts come from the file may take a minute.  So it can be canceled, and
 * reports, after every layer, if there is memory to go back to where it began. */
static bool watch_layers(pass *p) {
    tug_model *m = p->s->model;
    m->net.on_layer = NULL;
    if (!m->experts || !p->s->on_prefill || p->n_tok < WATCHED_TOKENS) return false;
    const size_t bytes = p->s->state.recurrent_size;
    if (!m->before) m->before = tug_alloc_aligned(64, bytes);
    if (!m->before) return false;
    tug_state_read_recurrent(&p->s->state, m->before);
    m->net.on_layer = on_layer;
    m->net.layer_ud = p;
    return true;
}

/* When a read failed the recurrent state is somewhere between two tokens: the session begins
 * anew.  Its save points hold states of their own and can still be restored. */
static tug_status run_pass(tug_session *s, const int32_t *ids, pass *p, tug_err *err) {
    tug_recorder *r = &s->model->recorder;
    const int64_t n_tok = p->n_tok;
    if (r->clock) {
        tug_work_add_pass(r->work, &s->model->net, &s->state, s->state.n_tokens, n_tok);
        r->n_tokens += n_tok;
        r->n_batches++;
    }
    memcpy(s->ids + s->state.n_tokens, ids, (size_t)n_tok * sizeof *ids);
    if (s->model->experts) watch_memory(s->model);
    const bool can_go_back = watch_layers(p);
    const tug_status status =
        tug_forward(&s->model->net, &s->state, &s->model->scratch, ids, n_tok, err);
    if (status == TUG_ECANCELED && can_go_back) {
        tug_state_write_recurrent(&s->state, s->model->before);
    } else if (status != TUG_OK) {
        tug_session_reset(s);
    }
    return status;
}

static tug_status run_head(tug_session *s, int64_t row, int64_t n, float *logits,
                           tug_err *err) {
    tug_recorder *r = &s->model->recorder;
    if (r->clock) tug_work_add_head(r->work, &s->model->net, n);
    return tug_head(&s->model->net, &s->model->scratch, row, n, logits, err);
}

/* Logits of rows [from, n) of the pass that just ran, a few rows at a time. */
static tug_status report_rows(tug_session *s, int64_t from, int64_t n, int64_t base,
                              tug_logits_fn *fn, void *ud, tug_err *err) {
    float *logits = s->model->scratch.logits;
    for (int64_t row = from; row < n; row += TUG_HEAD_ROWS) {
        const int64_t n_row = n - row < TUG_HEAD_ROWS ? n - row : TUG_HEAD_ROWS;
        TUG_TRY(run_head(s, row, n_row, logits, err));
        for (int64_t i = 0; i < n_row; i++) {
            fn(ud, base + row + i, logits + i * s->model->net.shape.n_vocab);
        }
    }
    return TUG_OK;
}

/* Without logits of the last token a session has none: invariant 2. */
static tug_status head_or_reset(tug_session *s, tug_status status) {
    if (status != TUG_OK) tug_session_reset(s);
    return status;
}

tug_status tug_session_append_each(tug_session *s, const int32_t *ids, int64_t n,
                                   int64_t first, tug_logits_fn *fn, void *ud,
                                   tug_err *err) {
    TUG_TRY(check_ids(s, ids, n, err));
    TUG_TRY(tug_session_keep_rows(s, n, err));
    for (int64_t at = 0; at < n;) {
        const int64_t n_tok = n - at < s->n_batch ? n - at : s->n_batch;
        pass p = {.s = s, .at = at, .n_tok = n_tok, .total = n};
        TUG_TRY(run_pass(s, ids + at, &p, err));
        if (fn && first < at + n_tok) {
            TUG_TRY(head_or_reset(
                s, report_rows(s, first > at ? first - at : 0, n_tok, at, fn, ud, err)));
        }
        at += n_tok;
        const bool go_on =
            !s->on_prefill || s->on_prefill(s->ud, (uint64_t)at, (uint64_t)n);
        if (at == n || !go_on || s->model->net.on_layer) {
            TUG_TRY(head_or_reset(s, run_head(s, n_tok - 1, 1, s->logits, err)));
            s->have_logits = true;
        }
        if (at < n && !go_on) {
            return TUG_FAIL(err, TUG_ECANCELED, "canceled after %lld of %lld tokens",
                            (long long)at, (long long)n);
        }
    }
    return TUG_OK;
}

tug_status tug_session_append(tug_session *s, const int32_t *ids, int64_t n,
                              tug_err *err) {
    return tug_session_append_each(s, ids, n, n, NULL, NULL, err);
}

const float *tug_session_logits(const tug_session *s) {
    return s->have_logits ? s->logits : NULL;
}

const int32_t *tug_session_tokens(const tug_session *s, int64_t *n) {
    *n = s->state.n_tokens;
    return s->ids;
}

int64_t tug_session_n_tokens(const tug_session *s) {
    return s->state.n_tokens;
}
int64_t tug_session_n_batch(const tug_session *s) {
    return s->n_batch;
}

int64_t tug_session_n_ctx(const tug_session *s) {
    return s->state.n_ctx;
}

void tug_session_reset(tug_session *s) {
    tug_session_undo(s);
    tug_state_reset(&s->state);
    s->have_logits = false;
}
