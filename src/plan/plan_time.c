/* plan_time.c - see plan_time.h.
 *
 * Every term is bytes over a bandwidth or multiply-adds over a rate.  What a kernel reaches
 * of a machine's limit is one table, RATES: measured where docs/PLAN.md says so, estimated
 * elsewhere.  SPDX-License-Identifier: MIT */
#include "plan/plan_time.h"

#include <math.h>

#include "plan/plan_routing.h"

/* Shares of a limit that tug's kernels reach, and costs that no limit explains. */
static const struct {
    double stream[TUG_PLAN_PARTS]; /* of plain reading, in decode */
    double stream_experts, stream_kv, stream_state;
    double int8, f32;    /* of the peak, in prefill */
    double attention;    /* of the int16 (f32) peak, in prefill */
    double setup_tokens; /* making an expert's panels costs as much as so many tokens */
    double elements_core_s; /* values that one core normalises, gates or adds */
    double layer_s;         /* barriers of a layer in decode */
    double token_s;         /* sampling and the loop around it */
    double vram, vram_read; /* of a GPU's nominal bandwidth, of plain reading there */
    double nodes;           /* kernels of a layer on the GPU */
} RATES = {
    .stream = {[TUG_PLAN_DELTANET] = 0.84,
               [TUG_PLAN_ATTENTION] = 0.84,
               [TUG_PLAN_SHARED] = 0.72,
               [TUG_PLAN_ROUTER] = 0.69,
               [TUG_PLAN_HEAD] = 0.82,
               [TUG_PLAN_NORMS] = 0.70},
    .stream_experts = 0.72,
    .stream_kv = 0.70,
    .stream_state = 0.80,
    .int8 = 0.66,
    .f32 = 0.40,
    .attention = 0.71,
    .setup_tokens = 5.0,
    .elements_core_s = 0.7e9,
    .layer_s = 8e-6,
    .token_s = 3e-4,
    .vram = 0.75,
    .vram_read = 0.83,
    .nodes = 16.0,
};

/* The same of llama.cpp with whole layers on the GPU. */
static const struct {
    double experts;      /* of plain reading */
    double layer_s;      /* graph splits, copies one after the other, barriers */
    double copy_bytes_s; /* into the pinned buffer that a mapped file has to go through */
} SPLIT = {.experts = 0.37, .layer_s = 505e-6, .copy_bytes_s = 13.6e9};

enum { SPLIT_BATCH = 512 };

/* ---- sums ------------------------------------------------------------------------- */

static void busy(tug_plan_time *t, tug_plan_term term, double seconds) {
    t->busy_ms[term] += seconds * 1e3;
    t->wait_ms[term] += seconds * 1e3;
}

/* A term of which only `wait` shows. */
static void beside(tug_plan_time *t, tug_plan_term term, double seconds, double wait) {
    t->busy_ms[term] += seconds * 1e3;
    t->wait_ms[term] += wait * 1e3;
}

static void add_up(tug_plan_time *t, double n_tok) {
    t->ms = 0.0;
    for (int i = 0; i < TUG_PLAN_TERMS; i++) {
        t->ms += t->wait_ms[i];
        if (t->wait_ms[i] > t->wait_ms[t->bound]) t->bound = (tug_plan_term)i;
    }
    t->tok_s = t->ms > 0.0 ? n_tok * 1e3 / t->ms : 0.0;
}

/* ---- rates ------------------------------------------------------------------------ */

/* Bytes of weights a second, where plain reading is `share` faster. */
static double stream(const tug_plan_machine *hw, double share) {
    return fmin(hw->ram_bytes_s * share, hw->n_cores * hw->core_bytes_s);
}

static double vram(const tug_plan_machine *hw) {
    return hw->vram_bytes_s * (hw->vram_measured ? RATES.vram_read : RATES.vram);
}

static double expert_stream(const tug_plan_machine *hw, const tug_plan_request *rq) {
    const bool split = rq->policy == TUG_PLAN_SPLIT;
    return stream(hw, split ? SPLIT.experts : RATES.stream_experts);
}

/* Layers differ a little; time takes their mean. */
static double mean_expert(const tug_plan_model *m) {
    return (double)m->experts / ((double)m->spec.n_layer * (double)m->spec.n_expert);
}

/* What kernels take longer than those of Q3_K, where nobody measured. */
static const double COST[TUG_PLAN_INT8_KINDS] = {
    [TUG_PLAN_Q3_K] = 1.0,  [TUG_PLAN_Q4_K] = 1.0, [TUG_PLAN_Q5_K] = 1.0,
    [TUG_PLAN_Q6_K] = 1.25, [TUG_PLAN_Q8_0] = 1.1,
};

/* Seconds of products of n_tok tokens with a matrix of a kind, for each of its weights. */
static double product_s(const tug_plan_machine *hw, int kind, double n_tok) {
    const tug_plan_kernels *k = &hw->kernels;
    if (k->macs_s[kind] > 0.0) return (n_tok + k->setup_tokens[kind]) / k->macs_s[kind];
    return (n_tok + RATES.setup_tokens) * COST[kind] / (hw->int8_macs_s * RATES.int8);
}

static double f32_s(const tug_plan_machine *hw, double macs) {
    return macs / (hw->f32_macs_s * RATES.f32);
}

/* Dense matrices, which all tokens use; work: of a token. */
static double multiply(const tug_plan_machine *hw, const double work[TUG_PLAN_KINDS],
                       double n_tok) {
    double sum = f32_s(hw, n_tok * work[TUG_PLAN_F32]);
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++) {
        if (work[i] > 0.0) sum += work[i] * product_s(hw, i, n_tok);
    }
    return sum;
}

const int tug_plan_expert_tokens[TUG_PLAN_EXPERT_POINTS] = {1,  2,  3,  4,  6,  8,
                                                            12, 16, 32, 64, 128};

/* Between what was measured a straight line; behind it the last one goes on. */
static double measured_expert(const double seconds[TUG_PLAN_EXPERT_POINTS],
                              double n_tok) {
    int i = 1;
    while (i < TUG_PLAN_EXPERT_POINTS - 1 && n_tok > tug_plan_expert_tokens[i]) i++;
    const double x0 = tug_plan_expert_tokens[i - 1], x1 = tug_plan_expert_tokens[i];
    const double y0 = seconds[i - 1], y1 = seconds[i];
    return y0 + (y1 - y0) * (n_tok - x0) / (x1 - x0);
}

typedef struct expert_work {
    const tug_plan_model *m;
    const tug_plan_machine *hw;
} expert_work;

/* Seconds for one expert that n_tok tokens chose: its bytes or its products. */
static double expert_s(const void *ud, double n_tok) {
    const expert_work *e = ud;
    const tug_plan_kernels *k = &e->hw->kernels;
    double sum = f32_s(e->hw, n_tok * e->m->expert_work[TUG_PLAN_F32]);
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++) {
        const double work = e->m->expert_work[i];
        if (work <= 0.0) continue;
        sum += work * (k->expert_s[i][0] > 0.0 ? measured_expert(k->expert_s[i], n_tok)
                                               : product_s(e->hw, i, n_tok));
    }
    return fmax(sum, mean_expert(e->m) / stream(e->hw, RATES.stream_experts));
}

/* Experts of all layers in a batch, without those of their elements that no measurement has. */
static double all_experts_s(const tug_plan_model *m, const tug_plan_machine *hw,
                            const tug_plan_request *rq, double n_tok) {
    const expert_work e = {m, hw};
    return (double)m->spec.n_layer *
           tug_plan_over_experts(rq->routing, (double)m->spec.n_expert,
                                 (double)m->spec.n_expert_used, n_tok, expert_s, &e);
}

/* The delta rule, and what is neither a product nor attention. */
static double elements_s(const tug_plan_model *m, const tug_plan_machine *hw) {
    const tug_plan_kernels *k = &hw->kernels;
    const double usual = hw->n_cores * RATES.elements_core_s;
    bool experts_known = false;
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++)
        experts_known |= k->expert_s[i][0] > 0.0;
    double sum = m->elements / (k->elements_s > 0.0 ? k->elements_s : usual);
    if (!experts_known) sum += m->expert_elements / usual;
    if (k->delta_macs_s > 0.0) return sum + m->delta_rule / k->delta_macs_s;
    return sum + m->delta_elements / usual + f32_s(hw, m->delta_rule);
}

/* Bytes of routed experts that one token uses. */
static double used_bytes(const tug_plan_model *m) {
    return mean_expert(m) * (double)(m->spec.n_layer * m->spec.n_expert_used);
}

static double dense_bytes(const tug_plan_model *m) {
    double sum = 0.0;
    for (int i = 0; i < TUG_PLAN_PARTS; i++) sum += (double)m->dense[i];
    return sum;
}

/* ---- decode ----------------------------------------------------------------------- */

/* Reads of one layer: each of n uses misses with the same chance; the experts that are
 * there take `hit_s` each meanwhile.  Returns the time that shows, *all the time it takes. */
static double disk_layer(const tug_plan_machine *hw, int n, double miss, double read_s,
                         double hit_s, double *all) {
    double chance = pow(1.0 - miss, n), shows = 0.0; /* of exactly k misses */
    *all = 0.0;
    for (int k = 0; k <= n; k++) {
        const double reading = k > 0 ? hw->disk_latency_s + k * read_s : 0.0;
        *all += chance * reading;
        shows += chance * fmax(0.0, reading - (n - k) * hit_s);
        if (miss >= 1.0) {
            chance = k + 1 == n ? 1.0 : 0.0;
        } else {
            chance *= (double)(n - k) / (k + 1) * miss / (1.0 - miss);
        }
    }
    return shows;
}

/* Processor time of packing a byte of an expert. */
static double pack_byte_s(const tug_plan_model *m, const tug_plan_machine *hw) {
    double sum = 0.0, work = 0.0;
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++) {
        const double measured = hw->kernels.pack_byte_s[i];
        sum += m->expert_work[i] * (measured > 0.0 ? measured : hw->pack_byte_s);
        work += m->expert_work[i];
    }
    return work > 0.0 ? sum / work : 0.0;
}

/* Seconds of all cores for bytes of experts that come from the disk. */
static double intake(const tug_plan_model *m, const tug_plan_machine *hw, double bytes) {
    return bytes * (hw->read_byte_s + pack_byte_s(m, hw)) / hw->n_cores;
}

static void decode_disk(const tug_plan_model *m, const tug_plan_machine *hw,
                        const tug_plan *p, double hit_s, tug_plan_time *out) {
    if (p->disk_miss <= 0.0) return;
    double all = 0.0;
    const double shows = disk_layer(hw, (int)m->spec.n_expert_used, p->disk_miss,
                                    mean_expert(m) / hw->disk_bytes_s, hit_s, &all);
    const double n_layer = (double)m->spec.n_layer;
    beside(out, TUG_PLAN_T_DISK, n_layer * all, n_layer * shows);
}

static void decode_cpu(const tug_plan_model *m, const tug_plan_machine *hw,
                       const tug_plan_request *rq, const tug_plan *p, double kv_bytes,
                       tug_plan_time *out) {
    for (int i = 0; i < TUG_PLAN_PARTS; i++) {
        busy(out, TUG_PLAN_T_DENSE, (double)m->dense[i] / stream(hw, RATES.stream[i]));
    }
    busy(out, TUG_PLAN_T_KV, kv_bytes / stream(hw, RATES.stream_kv));
    busy(out, TUG_PLAN_T_STATE, 2.0 * (double)m->state / stream(hw, RATES.stream_state));
    const double rate = expert_stream(hw, rq);
    busy(out, TUG_PLAN_T_EXPERTS,
         used_bytes(m) / rate + intake(m, hw, used_bytes(m) * p->disk_miss));
    busy(out, TUG_PLAN_T_FIXED, (double)m->spec.n_layer * RATES.layer_s + RATES.token_s);
    decode_disk(m, hw, p, mean_expert(m) / rate, out);
}

/* Experts that the GPU lacks: the processor computes them. */
static double decode_misses(const tug_plan_model *m, const tug_plan_machine *hw,
                            const tug_plan_request *rq, const tug_plan *p) {
    const double bytes = used_bytes(m) * p->vram_miss, n_layer = (double)m->spec.n_layer;
    if (bytes <= 0.0) return 0.0;
    const double host = bytes / expert_stream(hw, rq);
    if (rq->policy == TUG_PLAN_SPLIT) return host;
    return host + n_layer * (hw->handoff_s + hw->fork_s);
}

static void decode_gpu(const tug_plan_model *m, const tug_plan_machine *hw,
                       const tug_plan_request *rq, const tug_plan *p, double kv_bytes,
                       tug_plan_time *out) {
    const bool split = rq->policy == TUG_PLAN_SPLIT;
    const double per_layer = split ? SPLIT.layer_s : RATES.nodes * hw->node_s;
    busy(out, TUG_PLAN_T_DENSE, dense_bytes(m) / vram(hw));
    busy(out, TUG_PLAN_T_KV, kv_bytes / vram(hw));
    busy(out, TUG_PLAN_T_STATE, 2.0 * (double)m->state / vram(hw));
    busy(out, TUG_PLAN_T_FIXED, (double)m->spec.n_layer * per_layer);
    const double here = used_bytes(m) * (1.0 - p->vram_miss) / vram(hw);
    const double there = decode_misses(m, hw, rq, p);
    const double shorter = split ? 0.0 : fmin(here, there);
    beside(out, TUG_PLAN_T_EXPERTS, here, here > there ? here : here - shorter);
    beside(out, TUG_PLAN_T_HOST, there, here > there ? there - shorter : there);
    decode_disk(m, hw, p, 0.0, out);
}

void tug_plan_decode(const tug_plan_model *m, const tug_plan_machine *hw,
                     const tug_plan_request *rq, const tug_plan *p, int64_t n_ctx,
                     tug_plan_time *out) {
    *out = (tug_plan_time){0};
    const double kv_bytes = (double)n_ctx * (double)m->kv_token[rq->kv];
    if (p->on_gpu) {
        decode_gpu(m, hw, rq, p, kv_bytes, out);
    } else {
        decode_cpu(m, hw, rq, p, kv_bytes, out);
    }
    add_up(out, 1.0);
}

/* ---- prefill ---------------------------------------------------------------------- */

/* What one pass of n_tok tokens after n_before others keeps busy, in seconds. */
typedef struct pass {
    double n_tok, n_before;
    double work[TUG_PLAN_TERMS]; /* one after the other */
    double link, disk;           /* beside them and each other */
} pass;

static double mean_depth(const pass *s) {
    return s->n_before + 0.5 * (s->n_tok + 1.0);
}

/* All layers. */
static double touched(const tug_plan_model *m, const tug_plan_request *rq,
                      double resident, double n_tok) {
    return (double)m->spec.n_layer *
           tug_plan_touched(rq->routing, resident, (double)m->spec.n_expert,
                            (double)m->spec.n_expert_used, n_tok);
}

static void work_cpu(const tug_plan_model *m, const tug_plan_machine *hw,
                     const tug_plan_request *rq, pass *s) {
    for (int i = 0; i < TUG_PLAN_PARTS; i++) {
        if (i == TUG_PLAN_HEAD) continue; /* of the last token only */
        const double moved = (double)m->dense[i] / stream(hw, RATES.stream[i]);
        const double done = multiply(hw, m->part_work[i], s->n_tok);
        s->work[TUG_PLAN_T_DENSE] += fmax(moved, done);
    }
    s->work[TUG_PLAN_T_EXPERTS] = all_experts_s(m, hw, rq, s->n_tok);
    const double rows = m->attn_row * s->n_tok * mean_depth(s);
    const double peak = hw->int16_attention ? 0.5 * hw->int8_macs_s : hw->f32_macs_s;
    s->work[TUG_PLAN_T_KV] = rows / (peak * RATES.attention);
    s->work[TUG_PLAN_T_STATE] = 2.0 * (double)m->state / stream(hw, RATES.stream_state);
    s->work[TUG_PLAN_T_FIXED] = s->n_tok * elements_s(m, hw);
}

static void work_gpu(const tug_plan_model *m, const tug_plan_machine *hw, pass *s) {
    const double experts =
        m->expert_macs * (double)(m->spec.n_layer * m->spec.n_expert_used);
    const double flops = hw->gpu_flops;
    s->work[TUG_PLAN_T_DENSE] =
        fmax(2.0 * m->dense_macs * s->n_tok / flops, dense_bytes(m) / vram(hw));
    s->work[TUG_PLAN_T_EXPERTS] = 2.0 * experts * s->n_tok / flops;
    s->work[TUG_PLAN_T_KV] = 2.0 * m->attn_row * s->n_tok * mean_depth(s) / flops;
    s->work[TUG_PLAN_T_FIXED] = (double)m->spec.n_layer * RATES.nodes * hw->node_s;
}

static void moves(const tug_plan_model *m, const tug_plan_machine *hw,
                  const tug_plan_request *rq, const tug_plan *p, pass *s) {
    if (p->resident_share < 1.0) {
        const double bytes = touched(m, rq, p->resident_share, s->n_tok) * mean_expert(m);
        s->disk = (double)m->spec.n_layer * hw->disk_latency_s + bytes / hw->disk_bytes_s;
        if (!p->on_gpu) s->work[TUG_PLAN_T_EXPERTS] += intake(m, hw, bytes);
    }
    if (!p->on_gpu || p->vram_share >= 1.0) return;
    if (rq->policy == TUG_PLAN_SPLIT) { /* all of a layer, used or not */
        s->link = (double)m->experts * (1.0 - p->vram_share) *
                  (1.0 / hw->link_bytes_s + 1.0 / SPLIT.copy_bytes_s);
    } else {
        s->link =
            touched(m, rq, p->vram_share, s->n_tok) * mean_expert(m) / hw->link_bytes_s;
    }
}

/* Copies run one layer ahead: the longest lane shows, of the others one layer. */
static void overlap(const tug_plan_model *m, const tug_plan_request *rq, const pass *s,
                    tug_plan_time *out) {
    double work = 0.0;
    for (int i = 0; i < TUG_PLAN_TERMS; i++) {
        busy(out, (tug_plan_term)i, s->work[i]);
        work += s->work[i];
    }
    const double part =
        rq->policy == TUG_PLAN_SPLIT ? 1.0 : 1.0 / (double)m->spec.n_layer;
    const double first = fmax(0.0, s->link - work) + part * fmin(s->link, work);
    beside(out, TUG_PLAN_T_LINK, s->link, first);
    const double lanes = work + first;
    beside(out, TUG_PLAN_T_DISK, s->disk,
           fmax(0.0, s->disk - lanes) + part * fmin(s->disk, lanes));
}

/* A lane that hides all others is what bounds, even if little of it shows. */
static void longest_lane(tug_plan_time *t) {
    double work = 0.0;
    for (int i = 0; i < TUG_PLAN_TERMS; i++) {
        if (i != TUG_PLAN_T_LINK && i != TUG_PLAN_T_DISK) work += t->busy_ms[i];
    }
    const double link = t->busy_ms[TUG_PLAN_T_LINK], disk = t->busy_ms[TUG_PLAN_T_DISK];
    if (disk > work && disk >= link) {
        t->bound = TUG_PLAN_T_DISK;
    } else if (link > work) {
        t->bound = TUG_PLAN_T_LINK;
    } else {
        t->bound = TUG_PLAN_T_DENSE;
        for (int i = 0; i < TUG_PLAN_TERMS; i++) {
            if (i == TUG_PLAN_T_LINK || i == TUG_PLAN_T_DISK) continue;
            if (t->busy_ms[i] > t->busy_ms[t->bound]) t->bound = (tug_plan_term)i;
        }
    }
}

static double head_s(const tug_plan_model *m, const tug_plan_machine *hw,
                     const tug_plan *p) {
    const double rate = p->on_gpu ? vram(hw) : stream(hw, RATES.stream[TUG_PLAN_HEAD]);
    return (double)m->dense[TUG_PLAN_HEAD] / rate;
}

void tug_plan_prefill(const tug_plan_model *m, const tug_plan_machine *hw,
                      const tug_plan_request *rq, const tug_plan *p, int64_t n_tok,
                      tug_plan_time *out) {
    *out = (tug_plan_time){0};
    const int64_t batch = rq->policy == TUG_PLAN_SPLIT ? SPLIT_BATCH : p->n_batch;
    for (int64_t at = 0; at < n_tok; at += batch) {
        const int64_t n = n_tok - at < batch ? n_tok - at : batch;
        pass s = {.n_tok = (double)n, .n_before = (double)at};
        if (p->on_gpu) {
            work_gpu(m, hw, &s);
        } else {
            work_cpu(m, hw, rq, &s);
        }
        moves(m, hw, rq, p, &s);
        overlap(m, rq, &s, out);
    }
    busy(out, TUG_PLAN_T_DENSE, head_s(m, hw, p));
    add_up(out, (double)n_tok);
    longest_lane(out);
}
