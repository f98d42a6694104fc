/* backend_cuda_graph.c - passes of a few tokens as recorded graphs.
 *
 * DESIGN
 * A pass runs op by op the first time.  When one comes that agrees with it in everything its
 * launches depend on (the key below), the ops are called again while the stream captures:
 * nothing runs, and the handoffs that they ask for are noted.  From then on the pass is one
 * launch of that graph, and beside it the CPU answers the noted handoffs in turn.
 *
 * What changes from token to token lies behind pointers: the position, the token's row of the
 * embedding and its angles are written before; slot tables too.  The grid of attention is the
 * same for a range of positions (tug_cuda_n_split).
 *
 * INVARIANTS
 *  1. A graph holds addresses.  So whenever memory of the device is freed, all go.
 *  2. Which ops a layer of experts needs depends on how many have a copy: none, some, all.
 *     The graph knows for each which it was, and is recorded anew when one changes.
 *  3. What cannot be recorded runs op by op, for ever.
 * SPDX-License-Identifier: MIT */
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "base/pool_clock.h"
#include "base/sys.h"

/* ---- recording ------------------------------------------------------------------------------ */

static void drop(tug_cuda *c, tug_cuda_graph *g) {
    tug_device_graph_destroy(c->dev, &g->graph);
    tug_free(g->layers);
    *g = (tug_cuda_graph){0};
}

void tug_cuda_drop_graphs(tug_cuda *c) {
    for (int i = 0; i < TUG_CUDA_GRAPHS; i++) drop(c, &c->graphs[i]);
}

void tug_cuda_note_layer(tug_cuda *c, const tug_cuda_handoff *h) {
    tug_cuda_graph *g = c->recording;
    if (g->n_layer == g->n_reserved) {
        const int n = g->n_reserved + 64;
        tug_cuda_handoff *layers =
            tug_realloc_array(g->layers, (size_t)n, sizeof *layers);
        if (!layers) {
            g->refused = true;
            return;
        }
        g->layers = layers;
        g->n_reserved = n;
    }
    g->layers[g->n_layer++] = *h;
    /* An answer by event is enqueued when it is known: nothing to record. */
    if (h->residency != TUG_CUDA_ALL_HERE && h->number == 0) g->refused = true;
}

/* g->graph <- the pass, or g->refused. */
static void record(tug_backend *be, const tug_pass *p, tug_cuda_graph *g) {
    tug_cuda *c = tug_cuda_of(be);
    tug_err ignored; /* it runs without a graph */
    g->n_layer = 0;
    c->recording = g;
    tug_device_capture(c->dev);
    const tug_status ops = p->ops(p->ud, &ignored);
    const tug_status s = tug_device_end_capture(c->dev, &g->graph, &ignored);
    c->recording = NULL;
    c->n_handoff = 0;
    if (ops != TUG_OK || s != TUG_OK || g->refused) {
        tug_device_graph_destroy(c->dev, &g->graph);
        g->refused = true;
        return;
    }
    c->counts.captures++;
}

/* ---- choosing ------------------------------------------------------------------------------- */

static bool may_repeat(const tug_backend *be, const tug_pass *p) {
    const tug_cuda *c = tug_cuda_of(be);
    return p->repeats && p->n_tok <= TUG_CUDA_FEW_TOKENS && c->use_graphs &&
           !tug_pool_get_clock(be->pool); /* a profile wants to see the stages */
}

static bool is_of(const tug_cuda_graph *g, const tug_cuda_graph_key *key) {
    return g->used > 0 && g->key.state == key->state && g->key.scratch == key->scratch &&
           g->key.n_tok == key->n_tok && g->key.n_split == key->n_split;
}

static bool still_fits(const tug_cuda_graph *g) {
    for (int i = 0; i < g->n_layer; i++) {
        const tug_cuda_handoff *h = &g->layers[i];
        if (h->residency != tug_cuda_residency_of(h->w)) return false;
    }
    return true;
}

/* The graph of a pass that came before, or NULL: from now on it has come before. */
static tug_cuda_graph *find(tug_cuda *c, const tug_cuda_graph_key *key) {
    tug_cuda_graph *oldest = &c->graphs[0];
    for (int i = 0; i < TUG_CUDA_GRAPHS; i++) {
        tug_cuda_graph *g = &c->graphs[i];
        if (is_of(g, key)) {
            g->used = ++c->n_used;
            return g;
        }
        if (g->used < oldest->used) oldest = g;
    }
    drop(c, oldest);
    oldest->key = *key;
    oldest->used = ++c->n_used;
    return NULL;
}

/* NULL: op by op. */
static tug_cuda_graph *graph_of(tug_backend *be, const tug_pass *p) {
    tug_cuda *c = tug_cuda_of(be);
    if (!may_repeat(be, p)) return NULL;
    const tug_cuda_graph_key key = {p->state, p->scratch, p->n_tok,
                                    p->pos < 0 ? 0 : tug_cuda_n_split(p->pos + p->n_tok)};
    tug_cuda_graph *g = find(c, &key);
    if (!g || g->refused) return NULL;
    if (g->graph && !still_fits(g)) tug_device_graph_destroy(c->dev, &g->graph);
    if (!g->graph) record(be, p, g);
    return g->graph ? g : NULL;
}

/* ---- running -------------------------------------------------------------------------------- */

static tug_status replay(tug_backend *be, const tug_cuda_graph *g, tug_err *err) {
    tug_cuda *c = tug_cuda_of(be);
    tug_device_launch_graph(c->dev, g->graph);
    c->counts.replays++;
    for (int i = 0; i < g->n_layer; i++) {
        if (g->layers[i].number == 0) continue;
        TUG_TRY(tug_cuda_handoff_answer(be, &g->layers[i], err));
    }
    return TUG_OK;
}

/* The pass is over before its end: what is enqueued runs to its end with any numbers. */
static void give_up(tug_cuda *c) {
    tug_err ignored; /* the pass has its own */
    tug_cuda_handoff_release(c);
    const tug_status s = tug_device_wait(c->dev, TUG_STREAM_COMPUTE, &ignored);
    (void)s;
}

tug_status tug_cuda_op_run(tug_backend *be, const tug_pass *p, tug_err *err) {
    tug_cuda *c = tug_cuda_of(be);
    TUG_TRY(tug_device_status(c->dev, err));
    tug_cuda_handoff_begin_pass(c);
    if (p->pos >= 0) tug_cuda_set_pos(c, p->pos);
    const tug_cuda_graph *g = graph_of(be, p);
    const tug_status s = g ? replay(be, g, err) : p->ops(p->ud, err);
    if (s != TUG_OK) give_up(c);
    return s;
}
