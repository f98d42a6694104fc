/* plan.c - places bytes: what every token needs first, then as many experts as there is
 * room for.  See plan.h.  SPDX-License-Identifier: MIT */
#include "plan/plan.h"

#include <stdio.h>

#include "plan/plan_model.h"
#include "plan/plan_routing.h"
#include "plan/plan_time.h"

#define MB UINT64_C(1000000)
#define GB 1e-9

enum {
    DEFAULT_CTX = 32768,
    DEFAULT_CHECKPOINTS = 4,
    LEAST_BATCH = 64,
    MOST_BATCH = 4096, /* experts from the disk pay for larger batches, memory does not */
    STAGED = 64,       /* experts on their way: two batches of half as many */
    MIXER_BATCH = 512, /* tokens that go through a mixer together */
    HEAD_ROWS = 16,    /* ... and through the head */
};

/* Everything that has to be decided before experts get a byte; of the dense part and what
 * goes with it also what it takes in VRAM. */
typedef struct fixed {
    uint64_t dense, kv, state, checkpoints, workspace, staging;
    uint64_t vram_dense, vram_kv, vram_state, vram_workspace;
} fixed;

/* ---- the request ------------------------------------------------------------------ */

static bool positive(double v, double most) {
    return v > 0.0 && v <= most; /* false for NaN */
}

static tug_status check_machine(const tug_plan_machine *hw, tug_err *err) {
    const struct {
        const char *what;
        double value, most;
    } speeds[] = {
        {"RAM bandwidth", hw->ram_bytes_s, 1e14},
        {"disk bandwidth", hw->disk_bytes_s, 1e13},
        {"int8 rate", hw->int8_macs_s, 1e17},
        {"float rate", hw->f32_macs_s, 1e17},
        {"rate of a core", hw->core_bytes_s, 1e13},
        {"number of cores", hw->n_cores, 1e5},
        {"VRAM bandwidth", hw->has_gpu ? hw->vram_bytes_s : 1.0, 1e15},
        {"PCIe bandwidth", hw->has_gpu ? hw->link_bytes_s : 1.0, 1e13},
        {"GPU rate", hw->has_gpu ? hw->gpu_flops : 1.0, 1e18},
    };
    for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++) {
        if (positive(speeds[i].value, speeds[i].most)) continue;
        return TUG_FAIL(err, TUG_EUSAGE, "no machine has a %s of %g", speeds[i].what,
                        speeds[i].value);
    }
    if (hw->disk_latency_s >= 0.0 && hw->disk_latency_s < 10.0) return TUG_OK;
    return TUG_FAIL(err, TUG_EUSAGE, "no disk has a latency of %g s", hw->disk_latency_s);
}

static tug_status check_request(const tug_plan_request *rq, tug_err *err) {
    const struct {
        const char *what;
        int64_t value, min, max;
    } counts[] = {{"context", rq->n_ctx, 0, INT32_MAX},
                  {"number of sequences", rq->n_seq, 0, 65536},
                  {"number of checkpoints", rq->n_checkpoints, -1, 1 << 20},
                  {"batch", rq->n_batch, 0, 1 << 20},
                  {"cache type", rq->kv, 0, TUG_PLAN_KVS - 1},
                  {"routing", rq->routing, 0, TUG_PLAN_ROUTINGS - 1},
                  {"policy", rq->policy, 0, TUG_PLAN_POLICIES - 1}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        if (counts[i].value >= counts[i].min && counts[i].value <= counts[i].max) {
            continue;
        }
        return TUG_FAIL(err, TUG_EUSAGE, "the %s cannot be %lld", counts[i].what,
                        (long long)counts[i].value);
    }
    return TUG_OK;
}

static tug_status check_context(const tug_plan_model *m, const tug_plan_request *rq,
                                tug_err *err) {
    if (rq->n_ctx <= m->spec.n_ctx) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE,
                    "a context of %lld tokens is beyond the %lld that %s was trained for",
                    (long long)rq->n_ctx, (long long)m->spec.n_ctx, m->name);
}

static void take_counts(const tug_plan_model *m, const tug_plan_request *rq,
                        tug_plan *p) {
    const int64_t usual = m->spec.n_ctx < DEFAULT_CTX ? m->spec.n_ctx : DEFAULT_CTX;
    p->n_ctx = rq->n_ctx > 0 ? rq->n_ctx : usual;
    p->n_seq = rq->n_seq > 0 ? rq->n_seq : 1;
    p->n_checkpoints = rq->n_checkpoints == 0  ? DEFAULT_CHECKPOINTS
                       : rq->n_checkpoints < 0 ? 0
                                               : rq->n_checkpoints;
}

/* Sums of bytes stay far below 2^64. */
static tug_status check_sizes(const tug_plan_model *m, const tug_plan_request *rq,
                              const tug_plan *p, tug_err *err) {
    const double kv = (double)p->n_seq * (double)p->n_ctx * (double)m->kv_token[rq->kv];
    const double states =
        (double)(p->n_seq + p->n_checkpoints) * (double)(m->state + m->checkpoint);
    const double given = (double)rq->workspace + (double)rq->staging +
                         (double)rq->sessions + (double)rq->vram_dense +
                         (double)rq->vram_session + (double)rq->vram_workspace +
                         (double)rq->vram_staging_bytes;
    if (kv + states + given < 1e15) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE,
                    "%lld sequences of %lld tokens with %lld checkpoints need %.0f TB: "
                    "ask for less",
                    (long long)p->n_seq, (long long)p->n_ctx, (long long)p->n_checkpoints,
                    (kv + states + given) * 1e-12);
}

/* ---- what is fixed ---------------------------------------------------------------- */

static uint64_t dense_bytes(const tug_plan_model *m) {
    uint64_t sum = 0;
    for (int i = 0; i < TUG_PLAN_PARTS; i++) sum += m->dense[i];
    return sum;
}

static uint64_t largest_expert(const tug_plan_model *m) {
    uint64_t most = 0;
    for (int i = 0; i < m->spec.n_layer; i++) {
        if (m->expert[i] > most) most = m->expert[i];
    }
    return most;
}

/* One expert of every layer, of sizes `expert`. */
static uint64_t one_each(const tug_plan_model *m, const uint64_t *expert) {
    uint64_t sum = 0;
    for (int i = 0; i < m->spec.n_layer; i++) sum += expert[i];
    return sum;
}

/* Residual stream, router, and what the experts of all tokens give, as floats; their
 * inputs as int8 with scales; the head's rows. */
static uint64_t workspace_bytes(const tug_plan_model *m, int64_t n_batch) {
    const tug_synth_spec *s = &m->spec;
    const double token = 4.0 * (double)(4 * s->dim + s->n_expert + 2 * s->shared_dim +
                                        s->n_expert_used * (s->expert_dim + s->dim)) +
                         2.5 * (double)(s->n_expert_used * s->expert_dim);
    const double mixer = 512.0 * 4.0 * (double)(4 * s->n_v_head * s->dv + 4 * s->dim);
    return (uint64_t)(token * (double)n_batch + mixer + 64.0 * (double)s->n_vocab);
}

static double most(double a, double b) {
    return a > b ? a : b;
}

/* Floats of a token in the chunked delta rule: three forms of keys and queries, and two products
 * with the other 63 of its chunk. */
static double delta_chunk_floats(const tug_synth_spec *s, double n_tok) {
    enum { DIM = 128, CHUNK = 64 };
    if (s->dk != DIM || s->dv != DIM || n_tok < CHUNK) return 0.0;
    return 3.0 * DIM * (double)s->n_k_head + (2.0 * CHUNK + 3.0) * (double)s->n_v_head;
}

/* Buffers of the GPU backend and of the pass, as floats: converted inputs, what experts of
 * all tokens give, parts of attention that has been split, the residual stream twice. */
uint64_t tug_plan_vram_workspace(const tug_plan_model *m, int64_t n_batch) {
    enum { FEW = 16, SPLITS = 32 }; /* tokens that split attention, into how many parts */
    const tug_synth_spec *s = &m->spec;
    const double n = (double)n_batch, mixer = n < MIXER_BATCH ? n : MIXER_BATCH;
    const double few = n < FEW ? n : FEW, dim = (double)s->dim;
    const double q = (double)(s->n_head * s->head_dim), v = (double)(s->n_v_head * s->dv);
    const double out = most(dim, most(q, v));
    const double channels = 2.0 * (double)(s->n_k_head * s->dk) + v;
    const double attn_in = 2.0 * q + 2.0 * (double)(s->n_kv_head * s->head_dim);
    const double delta_in = channels + v + 2.0 * (double)s->n_v_head;
    const double pair = (double)(3 * s->expert_dim) + dim + 3.0;
    const double token = 2.0 * out + (double)s->n_expert_used * pair +
                         3.0 * (double)s->shared_dim + 4.0 * dim + (double)s->n_expert;
    const double floats =
        n * token + most(mixer * out, n * dim) +
        mixer * (most(attn_in, delta_in) + channels + delta_chunk_floats(s, mixer)) +
        few * SPLITS * out * 17.0 / 16.0 + HEAD_ROWS * (double)s->n_vocab;
    const double tables = 3.0 * 8.0 * (double)(s->n_layer * s->n_expert);
    return (uint64_t)(4.0 * floats + tables);
}

static uint64_t staging_bytes(const tug_plan_model *m, const tug_plan_request *rq) {
    return rq->staging > 0 ? rq->staging : STAGED * largest_expert(m);
}

static fixed fixed_bytes(const tug_plan_model *m, const tug_plan_request *rq,
                         const tug_plan *p) {
    const uint64_t n_seq = (uint64_t)p->n_seq;
    const uint64_t kv = n_seq * (uint64_t)p->n_ctx * m->kv_token[rq->kv];
    const uint64_t state = n_seq * m->state;
    return (fixed){
        .dense = dense_bytes(m),
        .kv = rq->sessions > 0 ? rq->sessions : kv,
        .state = rq->sessions > 0 ? 0 : state,
        .checkpoints = rq->sessions > 0 ? 0 : (uint64_t)p->n_checkpoints * m->checkpoint,
        .workspace = rq->workspace > 0 ? rq->workspace : workspace_bytes(m, p->n_batch),
        .staging = staging_bytes(m, rq),
        .vram_dense = rq->vram_dense > 0 ? rq->vram_dense : dense_bytes(m),
        .vram_kv = rq->vram_session > state ? rq->vram_session - state : kv,
        .vram_state = state,
        .vram_workspace = rq->vram_workspace > 0 ? rq->vram_workspace
                                                 : tug_plan_vram_workspace(m, p->n_batch),
    };
}

static uint64_t ram_margin(uint64_t ceiling) {
    return 192 * MB + ceiling / 128;
}

/* ---- ceilings --------------------------------------------------------------------- */

/* Others want memory too: a twelfth of what there is, at least 0.5 GB. */
static uint64_t spare(uint64_t total) {
    return total / 12 > 512 * MB ? total / 12 : 512 * MB;
}

/* What the device layer leaves of the VRAM that is free. */
static uint64_t vram_spare(uint64_t available) {
    const uint64_t most_spare = UINT64_C(256) << 20;
    return available / 32 < most_spare ? available / 32 : most_spare;
}

static tug_status ram_ceiling(const tug_plan_machine *hw, const tug_plan_request *rq,
                              uint64_t *out, tug_err *err) {
    const uint64_t keep = spare(hw->ram_total);
    *out = hw->ram_available > keep ? hw->ram_available - keep : 0;
    if (rq->ram_ceiling == 0) return TUG_OK;
    *out = rq->ram_ceiling;
    if (rq->ram_ceiling <= hw->ram_total) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE,
                    "a ceiling of %.1f GB is more than the %.1f GB of RAM there are",
                    (double)rq->ram_ceiling * GB, (double)hw->ram_total * GB);
}

static tug_status vram_ceiling(const tug_plan_machine *hw, const tug_plan_request *rq,
                               uint64_t *out, tug_err *err) {
    *out = 0;
    if (hw->has_gpu && !rq->no_gpu) {
        *out = hw->vram_available - vram_spare(hw->vram_available);
    }
    if (rq->vram_ceiling == 0 || rq->no_gpu) return TUG_OK;
    if (!hw->has_gpu) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "a VRAM ceiling needs a GPU, and none is known here: name one "
                        "with --hardware");
    }
    *out = rq->vram_ceiling;
    if (rq->vram_ceiling <= hw->vram_total) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE,
                    "a ceiling of %.1f GB is more than the %.1f GB of VRAM there are",
                    (double)rq->vram_ceiling * GB, (double)hw->vram_total * GB);
}

/* ---- experts ---------------------------------------------------------------------- */

/* Gives every layer as many slots as `room` has, the first ones one more. */
static void fill_slots(const tug_plan_model *m, const uint64_t *expert, uint64_t room,
                       int *slots) {
    const uint64_t row = one_each(m, expert);
    const uint64_t each = row > 0 ? room / row : 0, all = (uint64_t)m->spec.n_expert;
    const int base = each < all ? (int)each : (int)all;
    uint64_t used = (uint64_t)base * row;
    bool more = base < (int)all;
    for (int i = 0; i < m->spec.n_layer; i++) {
        more = more && expert[i] <= room - used;
        slots[i] = base + more;
        if (more) used += expert[i];
    }
}

/* The last layers as a whole. */
static void fill_layers(const tug_plan_model *m, uint64_t room, int *slots) {
    for (int i = (int)m->spec.n_layer - 1; i >= 0; i--) {
        const uint64_t bytes = (uint64_t)m->spec.n_expert * m->vram_expert[i];
        if (bytes > room) return;
        room -= bytes;
        slots[i] = (int)m->spec.n_expert;
    }
}

/* Of the layers that VRAM does not have, as many experts as there is room for. */
static void fill_rest(const tug_plan_model *m, uint64_t room, const int *vram_slots,
                      int *slots) {
    uint64_t row = 0;
    for (int i = 0; i < m->spec.n_layer; i++) {
        if (vram_slots[i] == 0) row += m->expert[i];
    }
    const uint64_t each = row > 0 ? room / row : 0, all = (uint64_t)m->spec.n_expert;
    for (int i = 0; i < m->spec.n_layer; i++) {
        if (vram_slots[i] == 0) slots[i] = (int)(each < all ? each : all);
    }
}

static int64_t sum_slots(const tug_plan_model *m, const int *slots) {
    int64_t sum = 0;
    for (int i = 0; i < m->spec.n_layer; i++) sum += slots[i];
    return sum;
}

/* Which memory has the only copy of what. */
static void count_experts(const tug_plan_model *m, tug_plan *p) {
    const int n_expert = (int)m->spec.n_expert;
    int64_t resident = 0;
    for (int i = 0; i < m->spec.n_layer; i++) {
        const int sum = p->ram_slots[i] + p->vram_slots[i];
        const int here = sum < n_expert ? sum : n_expert, twice = sum - here;
        const uint64_t bytes = m->expert[i], vram_bytes = m->vram_expert[i];
        p->vram.use[TUG_PLAN_USE_COPIES] += (uint64_t)twice * vram_bytes;
        p->vram.use[TUG_PLAN_USE_ONLY_HERE] +=
            (uint64_t)(p->vram_slots[i] - twice) * vram_bytes;
        p->ram.use[TUG_PLAN_USE_ONLY_HERE] += (uint64_t)p->ram_slots[i] * bytes;
        p->disk_experts += (uint64_t)(n_expert - here) * bytes;
        resident += here;
    }
    const double all = (double)m->spec.n_layer * (double)n_expert;
    p->ram_share = (double)sum_slots(m, p->ram_slots) / all;
    p->vram_share = (double)sum_slots(m, p->vram_slots) / all;
    p->resident_share = (double)resident / all;
}

static void count_misses(const tug_plan_request *rq, tug_plan *p) {
    const bool split = rq->policy == TUG_PLAN_SPLIT;
    p->vram_miss =
        split ? 1.0 - p->vram_share : tug_plan_miss(rq->routing, p->vram_share);
    p->disk_miss = tug_plan_miss(rq->routing, p->resident_share);
}

/* ---- places ----------------------------------------------------------------------- */

static uint64_t used(const tug_plan_tier *t) {
    uint64_t sum = 0;
    for (int i = 0; i < TUG_PLAN_USE_FREE; i++) sum += t->use[i];
    return sum;
}

static uint64_t room(const tug_plan_tier *t) {
    const uint64_t sum = used(t);
    return sum < t->ceiling ? t->ceiling - sum : 0;
}

/* The dense part, its states and its activations in one memory. */
static void put_dense(tug_plan_tier *t, const fixed *f) {
    t->use[TUG_PLAN_USE_DENSE] = f->dense;
    t->use[TUG_PLAN_USE_KV] = f->kv;
    t->use[TUG_PLAN_USE_STATE] = f->state;
}

/* The processor wants room for the activations of its experts wherever the rest is; of
 * conversations on a GPU only copies are here. */
static void put_ram(const tug_plan_model *m, const tug_plan_request *rq, const fixed *f,
                    tug_plan *p) {
    p->ram.use[TUG_PLAN_USE_EMBEDDING] = m->embedding;
    p->ram.use[TUG_PLAN_USE_CHECKPOINTS] = p->on_gpu ? rq->sessions : 0;
    p->ram.use[TUG_PLAN_USE_CHECKPOINTS] += f->checkpoints;
    p->ram.use[TUG_PLAN_USE_WORKSPACE] = f->workspace;
    p->ram.use[TUG_PLAN_USE_STAGING] = f->staging;
    p->ram.use[TUG_PLAN_USE_MARGIN] = ram_margin(p->ram.ceiling);
}

/* On a GPU: only if the dense part fits. */
static bool put_vram(const tug_plan_model *m, const tug_plan_request *rq, const fixed *f,
                     tug_plan *p) {
    p->vram.use[TUG_PLAN_USE_DENSE] = f->vram_dense;
    p->vram.use[TUG_PLAN_USE_KV] = f->vram_kv;
    p->vram.use[TUG_PLAN_USE_STATE] = f->vram_state;
    p->vram.use[TUG_PLAN_USE_WORKSPACE] = f->vram_workspace;
    p->vram.use[TUG_PLAN_USE_STAGING] = rq->vram_staging_bytes;
    if (used(&p->vram) > p->vram.ceiling) return false;
    p->vram_staging_bytes = rq->vram_staging_bytes;
    if (rq->policy == TUG_PLAN_SPLIT) {
        fill_layers(m, room(&p->vram), p->vram_slots);
    } else {
        fill_slots(m, m->vram_expert, room(&p->vram), p->vram_slots);
    }
    return true;
}

static void finish_tier(tug_plan_tier *t) {
    t->use[TUG_PLAN_USE_FREE] = room(t);
}

static bool may_halve(const tug_plan_request *rq, const tug_plan *p) {
    return rq->n_batch == 0 && p->n_batch / 2 >= LEAST_BATCH;
}

/* Everything has a place, experts as far as there is room; false: not even one expert a
 * layer has, or a smaller batch would leave room on the GPU. */
static bool place(const tug_plan_model *m, const tug_plan_request *rq, tug_plan *p) {
    const fixed f = fixed_bytes(m, rq, p);
    if (p->vram.ceiling > 0) {
        p->on_gpu = put_vram(m, rq, &f, p);
        if (!p->on_gpu && may_halve(rq, p)) return false;
        p->gpu_too_small = !p->on_gpu;
    }
    if (!p->on_gpu) {
        p->vram = (tug_plan_tier){0};
        put_dense(&p->ram, &f);
    }
    put_ram(m, rq, &f, p);
    if (used(&p->ram) + one_each(m, m->expert) > p->ram.ceiling) return false;
    if (rq->policy == TUG_PLAN_SPLIT) {
        fill_rest(m, room(&p->ram), p->vram_slots, p->ram_slots);
    } else {
        fill_slots(m, m->expert, room(&p->ram), p->ram_slots);
    }
    count_experts(m, p);
    finish_tier(&p->ram);
    if (p->on_gpu) finish_tier(&p->vram);
    count_misses(rq, p);
    return true;
}

/* A batch may take a twelfth of a memory, if nobody asked for one: the larger it is, the
 * less often a prompt reads the experts. */
static int64_t choose_batch(const tug_plan_model *m, const tug_plan_request *rq,
                            const tug_plan *p) {
    if (rq->n_batch > 0) return rq->n_batch < p->n_ctx ? rq->n_batch : p->n_ctx;
    const uint64_t ram = p->ram.ceiling / 12, vram = p->vram.ceiling / 12;
    int64_t n = MOST_BATCH;
    while (n > LEAST_BATCH && (workspace_bytes(m, n) > ram ||
                               (vram > 0 && tug_plan_vram_workspace(m, n) > vram))) {
        n /= 2;
    }
    return n < p->n_ctx ? n : p->n_ctx;
}

/* With a smaller batch if nobody asked for this one and it is what does not fit. */
static bool place_halving(const tug_plan_model *m, const tug_plan_request *rq,
                          tug_plan *p) {
    const tug_plan before = *p;
    p->n_batch = choose_batch(m, rq, p);
    while (!place(m, rq, p)) {
        if (!may_halve(rq, p)) return false;
        const int64_t n = p->n_batch / 2;
        *p = before;
        p->n_batch = n;
    }
    return true;
}

static bool place_with_batch(const tug_plan_model *m, const tug_plan_request *rq,
                             tug_plan *p) {
    const tug_plan before = *p;
    if (!place_halving(m, rq, p)) return false;
    if (!p->gpu_too_small) return true;
    *p = before; /* the batch was halved for a GPU that is not used */
    p->vram.ceiling = 0;
    const bool placed = place_halving(m, rq, p);
    p->gpu_too_small = true;
    return placed;
}

/* ---- refusing --------------------------------------------------------------------- */

/* What a ceiling must be, its own margin included. */
static uint64_t with_margin(uint64_t bytes) {
    const uint64_t all = bytes + 192 * MB;
    return all + all / 127 + 1;
}

static uint64_t least_ram(const tug_plan_model *m, const tug_plan_request *rq,
                          const tug_plan *p) {
    const fixed f = fixed_bytes(m, rq, p);
    uint64_t sum = m->embedding + f.checkpoints + f.workspace + f.staging;
    if (!p->on_gpu) sum += f.dense + f.kv + f.state;
    return with_margin(sum + one_each(m, m->expert));
}

uint64_t tug_plan_least_ram(const tug_plan_model *m, const tug_plan_request *rq) {
    tug_plan p = {.n_batch = rq->n_batch > 0 ? rq->n_batch : LEAST_BATCH};
    take_counts(m, rq, &p);
    return least_ram(m, rq, &p);
}

uint64_t tug_plan_least_vram(const tug_plan_model *m, const tug_plan_request *rq) {
    tug_plan p = {.n_batch = rq->n_batch > 0 ? rq->n_batch : LEAST_BATCH};
    take_counts(m, rq, &p);
    const fixed f = fixed_bytes(m, rq, &p);
    return f.vram_dense + f.vram_kv + f.vram_state + f.vram_workspace +
           rq->vram_staging_bytes;
}

/* The longest context that fits, a multiple of 256; 0: none. */
static int64_t longest_context(const tug_plan_model *m, const tug_plan_request *rq,
                               const tug_plan *p, uint64_t least) {
    const uint64_t per_token = (uint64_t)p->n_seq * m->kv_token[rq->kv];
    if (per_token == 0 || p->on_gpu) return 0;
    const uint64_t over = (least - p->ram.ceiling) / per_token + 1;
    if (over >= (uint64_t)p->n_ctx) return 0;
    return (p->n_ctx - (int64_t)over) / 256 * 256;
}

/* ", or Q2_K, which needs 2.1 GB" for the largest quantisation that would fit. */
static void smaller_fit(const tug_plan_model *m, const tug_plan_request *rq,
                        uint64_t ceiling, char *out, size_t cap) {
    uint64_t most = 0;
    for (int i = 0; tug_synth_mix_at(i); i++) {
        tug_synth_spec spec = m->spec;
        tug_plan_model other;
        spec.mix = tug_synth_mix_at(i);
        if (tug_plan_model_make(&other, &spec, NULL) != TUG_OK) continue;
        const uint64_t least = tug_plan_least_ram(&other, rq);
        if (least > ceiling || other.file_bytes <= most) continue;
        most = other.file_bytes;
        (void)snprintf(out, cap, ", or %s, which needs %.2f GB",
                       tug_synth_mix_name(spec.mix), (double)least * GB);
    }
}

static tug_status refuse(const tug_plan_model *m, const tug_plan_request *rq,
                         const tug_plan *p, tug_err *err) {
    const uint64_t least = least_ram(m, rq, p);
    const int64_t n_ctx = longest_context(m, rq, p, least);
    char shorter[48] = "", smaller[64] = "";
    if (n_ctx > 0) {
        (void)snprintf(shorter, sizeof shorter, ", or a context of %lld",
                       (long long)n_ctx);
    }
    smaller_fit(m, rq, p->ram.ceiling, smaller, sizeof smaller);
    const bool hopeless = !shorter[0] && !smaller[0];
    return TUG_FAIL(err, TUG_ERANGE,
                    "%.60s with %lld tokens of context needs at least %.2f GB of RAM, "
                    "and the ceiling is %.2f GB: give it more%s%s%s",
                    m->name, (long long)p->n_ctx, (double)least * GB,
                    (double)p->ram.ceiling * GB, shorter, smaller,
                    hopeless ? "; no quantisation of it would fit" : "");
}

/* ---- speeds ----------------------------------------------------------------------- */

static void add_point(const tug_plan_model *m, const tug_plan_machine *hw,
                      const tug_plan_request *rq, tug_plan *p, int64_t n_ctx) {
    tug_plan_point *point = &p->points[p->n_points++];
    point->n_ctx = n_ctx;
    tug_plan_decode(m, hw, rq, p, n_ctx, &point->decode);
    tug_plan_prefill(m, hw, rq, p, n_ctx, &point->prefill);
}

static void add_points(const tug_plan_model *m, const tug_plan_machine *hw,
                       const tug_plan_request *rq, tug_plan *p) {
    static const int64_t usual[] = {512, 4096, 8192, 16384, 32768, 65536, 131072};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        if (usual[i] < p->n_ctx) add_point(m, hw, rq, p, usual[i]);
    }
    add_point(m, hw, rq, p, p->n_ctx);
}

tug_status tug_plan_make(const tug_plan_model *m, const tug_plan_machine *hw,
                         const tug_plan_request *rq, tug_plan *p, tug_err *err) {
    *p = (tug_plan){0};
    TUG_TRY(check_machine(hw, err));
    TUG_TRY(check_request(rq, err));
    TUG_TRY(check_context(m, rq, err));
    TUG_TRY(ram_ceiling(hw, rq, &p->ram.ceiling, err));
    TUG_TRY(vram_ceiling(hw, rq, &p->vram.ceiling, err));
    take_counts(m, rq, p);
    TUG_TRY(check_sizes(m, rq, p, err));
    if (!place_with_batch(m, rq, p)) return refuse(m, rq, p, err);
    if (rq->policy == TUG_PLAN_SPLIT && !p->on_gpu) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "whole layers can only be split between a processor and a GPU "
                        "that holds the dense part, %.2f GB with this context",
                        (double)(used(&p->ram)) * GB);
    }
    add_points(m, hw, rq, p);
    return TUG_OK;
}
