/* backend_cuda_costs.c - what is spent and saved when an expert is somewhere else: estimates
 * first, then what this machine reaches.
 *
 * DESIGN
 * The host is measured with its own work: the routed experts of a token, layer after layer, so
 * that no cache has them; and those of many tokens, where multiplying takes longer than
 * reading.  The medians count.  The device and the link are measured by
 * backend_cuda_probe.c.
 *
 * Costs only choose places, but the bits of a result depend on where an expert was computed.
 * So they are kept in coarse steps: two runs on one machine decide alike, unless a figure lies
 * between two steps.  SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "backend/backend_speed.h"
#include "base/sys.h"

/* An RTX 5060 Ti behind PCIe 5 x8 and eight Zen 4 cores with DDR5-5600, estimated. */
const tug_cuda_costs tug_cuda_usual_costs = {.link_bytes_per_s = 26e9,
                                             .host_bytes_per_s = 58e9,
                                             .host_macs_per_s = 0.7e12,
                                             .device_bytes_per_s = 336e9,
                                             .newcomer_margin = 0.01,
                                             .answer_tokens = 256};

/* Reading less of the device's memory measures its cache. */
#define ENOUGH_READ 128e6

/* The host: so many layers at most, and seconds after which no other one begins. */
enum { LAYERS = 64 };
#define READ_SECONDS     0.025
#define MULTIPLY_SECONDS 0.025
/* Tokens of one expert when multiplying is measured. */
enum { TOKENS = 64 };

/* A quarter of an octave: at most 9 % beside the figure. */
static double coarse(double speed) {
    return exp2(round(4.0 * log2(speed)) / 4.0);
}

static void learn(double *cost, double measured) {
    if (isfinite(measured) && measured > 0.0) *cost = coarse(measured);
}

/* ---- the device -------------------------------------------------------------------------- */

tug_status tug_backend_gpu_learn_device(tug_backend *be, const void *data, size_t bytes,
                                        tug_err *err) {
    tug_cuda_costs *k = &tug_cuda_of(be)->costs;
    tug_cuda_limits l;
    TUG_TRY(tug_backend_gpu_measure(be, data, bytes, &l, err));
    learn(&k->link_bytes_per_s, l.link_bytes_s);
    if (l.read_bytes >= ENOUGH_READ) learn(&k->device_bytes_per_s, l.read_bytes_s);
    return TUG_OK;
}

/* ---- the host ---------------------------------------------------------------------------- */

static bool is_in_memory(const tug_weight *w, int64_t expert) {
    return !w->mats || w->mats[expert];
}

static bool can_compute(const tug_moe_weights *w, int64_t expert) {
    return is_in_memory(&w->gate, expert) && is_in_memory(&w->up, expert) &&
           is_in_memory(&w->down, expert);
}

/* ids (n_tok, n_used) <- the same experts for every token; false: too few are in memory. */
static bool choose_experts(const tug_moe_weights *w, int32_t *ids, int64_t n_tok,
                           int64_t n_used) {
    int64_t n = 0;
    for (int64_t e = 0; e < w->gate.n_mat && n < n_used; e++) {
        if (can_compute(w, e)) ids[n++] = (int32_t)e;
    }
    for (int64_t t = 1; t < n_tok; t++) memcpy(ids + t * n, ids, (size_t)n * sizeof *ids);
    return n == n_used;
}

/* Seconds of the experts of n_tok tokens of a layer on the host; 0: it cannot be told. */
static double time_layer(tug_backend *be, const tug_moe_weights *layer, int64_t n_tok) {
    void *const *p = tug_cuda_of(be)->pinned;
    const int64_t n_used = be->limits.n_expert_used;
    tug_moe_weights w = *layer;
    w.source = NULL; /* it is no use of them that the source should count */
    if (!choose_experts(&w, p[TUG_CUDA_HOST_IDS], n_tok, n_used)) return 0.0;
    const double start = tug_now();
    const tug_status s = tug_cpu_moe_rest(
        be, &w, p[TUG_CUDA_HOST_MORE], p[TUG_CUDA_HOST_X], p[TUG_CUDA_HOST_IDS],
        p[TUG_CUDA_HOST_WEIGHTS], NULL, (int)n_used, n_tok, NULL);
    return s == TUG_OK ? tug_now() - start : 0.0;
}

static double amount_of(const tug_moe_weights *w, bool macs) {
    double sum = 0.0;
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        const tug_weight *m = tug_cuda_matrix(w, i);
        sum += macs ? (double)m->n_rows * (double)m->n_cols
                    : (double)tug_cuda_matrix_bytes(m);
    }
    return sum;
}

/* The median speed of layers, in bytes of their experts or multiplications a second, that
 * are begun within `most` seconds; 0: none could be measured. */
static double layers_speed(tug_backend *be, int64_t n_tok, bool macs, double most) {
    double speed[LAYERS];
    int n = 0;
    const double start = tug_now();
    const tug_cuda_experts *e = tug_cuda_of(be)->cache.first;
    for (; e && n < LAYERS && tug_now() - start < most; e = e->next) {
        const double seconds = time_layer(be, e->w, n_tok);
        const double uses =
            (double)be->limits.n_expert_used * (macs ? (double)n_tok : 1.0);
        if (seconds > 0.0) speed[n++] = uses * amount_of(e->w, macs) / seconds;
    }
    return n > 0 ? tug_backend_median(speed, n) : 0.0;
}

/* Any numbers of the size that activations have. */
static void fill_inputs(tug_cuda *c, int64_t n_tok) {
    float *x = c->pinned[TUG_CUDA_HOST_X], *weights = c->pinned[TUG_CUDA_HOST_WEIGHTS];
    for (int64_t i = 0; i < n_tok * c->limits.dim; i++) x[i] = 0.1f * (float)(i % 17 - 8);
    for (int64_t i = 0; i < n_tok * c->limits.n_expert_used; i++) weights[i] = 0.1f;
}

void tug_backend_gpu_learn_host(tug_backend *be) {
    tug_cuda *c = tug_cuda_of(be);
    const int64_t n_tok = c->limits.n_tok < TOKENS ? c->limits.n_tok : TOKENS;
    fill_inputs(c, n_tok);
    learn(&c->costs.host_bytes_per_s, layers_speed(be, 1, false, READ_SECONDS));
    learn(&c->costs.host_macs_per_s, layers_speed(be, n_tok, true, MULTIPLY_SECONDS));
}
