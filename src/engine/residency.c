/* residency.c - see residency.h.  SPDX-License-Identifier: MIT */
#include "engine/residency.h"

#include "base/sys.h"
#include "memory/meminfo.h"
#include "model/pack.h"

/* ---- the plan ------------------------------------------------------------------------- */

/* What a model is opened for, when nobody says. */
#define CONTEXT 32768
/* The more tokens go through a layer together, the more share an expert's weights; their
 * work space costs about 0.2 MB a token at the full model's sizes, which a machine that is
 * short of memory has better uses for. */
#define LARGE_BATCH      2048
#define STREAM_BATCH     4096 /* every expert is read once per batch */
#define SMALL_BATCH      512
#define LARGE_BATCH_FROM (UINT64_C(4) << 30) /* bytes available */
#define SAVE_POINTS      4
#define STAGING_SLOTS    256
#define SPARE_BYTES      (UINT64_C(256) << 20)

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Work space of one token of a batch; docs/performance.md has the measurement. */
static uint64_t scratch_bytes(const tug_model *m) {
    const tug_shape *s = &m->net.shape;
    const int64_t per_expert = s->dim + 4 * s->expert_dim;
    const int64_t floats = 6 * s->dim + s->n_expert + s->n_expert_used * per_expert +
                           4 * s->shared_dim + 512;
    return (uint64_t)floats * sizeof(float);
}

/* What sessions will take: cache, recurrent state and save points, work space.  A cache that
 * wants more than half of everything is refused later, with the context that would do. */
static uint64_t session_bytes(const tug_model *m, const tug_model_params *p,
                              int64_t n_batch, uint64_t have) {
    const tug_state_shape shape = tug_net_state_shape(&m->net, TUG_KV_F16);
    const int64_t most = m->net.shape.n_ctx_train;
    const int64_t n_ctx = p->n_ctx > 0 ? p->n_ctx : min64(most, CONTEXT);
    const uint64_t state = tug_state_recurrent_bytes(&shape);
    const uint64_t cache = (uint64_t)n_ctx * tug_state_bytes_per_token(&shape);
    return (cache < have / 2 ? cache : have / 2) + (1 + SAVE_POINTS) * state +
           (uint64_t)n_batch * scratch_bytes(m);
}

static uint64_t spare(uint64_t have) {
    return have / 8 < SPARE_BYTES ? have / 8 : SPARE_BYTES;
}

static uint64_t budget(const tug_model_params *p) {
    const uint64_t available = tug_memory_available();
    const uint64_t most = available - available / 10;
    return p->ram_bytes && p->ram_bytes < most ? p->ram_bytes : most;
}

/* Deals slots evenly over the layers until no layer's fits any more. */
static tug_status deal_slots(tug_residency *r, const tug_model *m, uint64_t need,
                             uint64_t have, tug_err *err) {
    const tug_weights *w = &m->net.weights;
    uint64_t round = 0, largest = 0;
    for (int i = 0; i < w->n_layer; i++) {
        const uint64_t slot = tug_expert_slot_bytes(&w->layer[i].moe);
        round += slot;
        if (slot > largest) largest = slot;
    }
    const int n_expert = (int)m->net.shape.n_expert;
    r->staging = n_expert < STAGING_SLOTS ? n_expert : STAGING_SLOTS;
    while (r->staging > 8 && need + 2 * (uint64_t)r->staging * largest > have / 4 * 3) {
        r->staging /= 2;
    }
    need +=
        2 * (uint64_t)r->staging * largest; /* a mix has at most two sizes to speak of */
    if (need + round > have) {
        return TUG_FAIL(err, TUG_ENOMEM,
                        "this model needs at least %.1f GB of memory, but may take %.1f "
                        "GB: use a smaller context (-c), a smaller batch (-b) or a file "
                        "with fewer bits",
                        (double)(need + round) * 1e-9, (double)have * 1e-9);
    }
    const uint64_t rounds = (have - need) / round;
    for (int i = 0; i < w->n_layer; i++) {
        r->home[i] = rounds < (uint64_t)n_expert ? (int)rounds : n_expert;
    }
    return TUG_OK;
}

tug_status tug_residency_plan(tug_residency *r, const tug_model *m,
                              const tug_model_params *p, tug_err *err) {
    const uint64_t have = budget(p);
    *r = (tug_residency){.n_batch = have < LARGE_BATCH_FROM ? SMALL_BATCH : LARGE_BATCH};
    if (p->n_batch > 0) r->n_batch = p->n_batch;
    const uint64_t all = m->n_bytes + session_bytes(m, p, r->n_batch, have) + spare(have);
    if (!tug_gguf_part_path(m->gguf, 0) || all <= have) return TUG_OK;
    r->streamed = true;
    r->home = tug_alloc_array((size_t)m->net.weights.n_layer, sizeof *r->home);
    if (!r->home) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the plan");
    const uint64_t dense =
        tug_weights_packed_bytes(&m->net.weights, m->be, TUG_PACK_DENSE) + spare(have);
    if (p->n_batch <= 0) r->n_batch = STREAM_BATCH;
    while (p->n_batch <= 0 && r->n_batch > SMALL_BATCH &&
           dense + session_bytes(m, p, r->n_batch, have) > have / 2) {
        r->n_batch /= 2;
    }
    const tug_status s =
        deal_slots(r, m, dense + session_bytes(m, p, r->n_batch, have), have, err);
    if (s != TUG_OK) tug_residency_free(r);
    return s;
}

void tug_residency_free(tug_residency *r) {
    tug_free(r->home);
    r->home = NULL;
}

/* ---- loading -------------------------------------------------------------------------- */

/* One progress over the parts of loading. */
typedef struct loading {
    const tug_model_params *p;
    uint64_t before, all;
} loading;

static bool on_load(void *ud, uint64_t done, uint64_t total) {
    const loading *l = ud;
    (void)total;
    return !l->p->on_load || l->p->on_load(l->p->ud, l->before + done, l->all);
}

static tug_status create_store(tug_model *m, const tug_residency *r, tug_err *err) {
    tug_weights *w = &m->net.weights;
    const int n_part = tug_gguf_n_parts(m->gguf);
    tug_expert_layer *layers = tug_alloc_array((size_t)w->n_layer, sizeof *layers);
    const char **paths = tug_alloc_array((size_t)n_part, sizeof *paths);
    tug_status s = TUG_OK;
    if (!layers || !paths) s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the experts");
    for (int i = 0; s == TUG_OK && i < n_part; i++) {
        paths[i] = tug_gguf_part_path(m->gguf, i);
    }
    for (int i = 0; s == TUG_OK && i < w->n_layer; i++) {
        tug_moe_weights *moe = &w->layer[i].moe;
        const tug_weight *pieces[TUG_EXPERT_PIECES] = {&moe->gate, &moe->up, &moe->down};
        layers[i] = (tug_expert_layer){.moe = moe, .home = r->home[i]};
        for (int j = 0; j < TUG_EXPERT_PIECES; j++) {
            layers[i].offset[j] =
                tug_gguf_locate(m->gguf, pieces[j]->data, &layers[i].file[j]);
        }
    }
    if (s == TUG_OK) {
        const tug_expert_store_params params = {.be = m->be,
                                                .paths = paths,
                                                .n_files = n_part,
                                                .layer = layers,
                                                .n_layer = w->n_layer,
                                                .n_expert = (int)m->net.shape.n_expert,
                                                .staging = r->staging};
        s = tug_expert_store_create(&m->experts, &params, err);
    }
    tug_free(layers);
    tug_free(paths);
    return s;
}

static uint64_t home_bytes(const tug_model *m, const tug_residency *r) {
    uint64_t n = 0;
    for (int i = 0; r->streamed && i < m->net.weights.n_layer; i++) {
        n += (uint64_t)r->home[i] * tug_expert_slot_bytes(&m->net.weights.layer[i].moe);
    }
    return n;
}

tug_status tug_residency_load(tug_model *m, const tug_residency *r,
                              const tug_model_params *p, tug_err *err) {
    const tug_pack_scope scope = r->streamed ? TUG_PACK_DENSE : TUG_PACK_ALL;
    const uint64_t packed = tug_weights_packed_bytes(&m->net.weights, m->be, scope);
    loading l = {.p = p, .all = packed + home_bytes(m, r)};
    m->n_batch = r->n_batch;
    TUG_TRY(tug_weights_pack(&m->net.weights, m->gguf, m->be, scope, on_load, &l, err));
    if (r->streamed) {
        l.before = packed;
        TUG_TRY(create_store(m, r, err));
        TUG_TRY(tug_expert_store_fill(m->experts, on_load, &l, err));
    }
    if (p->on_load && !p->on_load(p->ud, l.all, l.all)) {
        return TUG_FAIL(err, TUG_ECANCELED, "loading was canceled");
    }
    return TUG_OK;
}
