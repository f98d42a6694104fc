/* backend_cuda_slots.c - which experts are in VRAM: live, by what the router chooses.
 *
 * INVARIANTS
 *  1. For every layer, during a pass: here[e] == 1 <=> the table has an address for e on the
 *     compute stream <=> the slot at that address holds e's matrices as in the file.
 *  2. in_slot[s] is the expert of which that is true.  coming[e] == 1 <=> e sits in a half of
 *     the carrier.  bound[e] == 1: e's slot is promised to one who comes, or e is one who has
 *     come and whose place in RAM is being taken.  Who is bound loses no slot.
 *  3. All change in tug_cuda_op_begin_pass only.
 *
 * A NEWCOMER'S WAY
 *   wished      after a layer's ids were seen by the CPU (slots_saw); nothing has happened
 *   departed    depart(): the copy stream fills a half of the carrier; the slot still serves
 *               who is there
 *   here        land(), at the first begin_pass that finds the copy done: the slot's bytes
 *               move to the half, a kernel makes the newcomer's rows from what was there, and
 *               the entries change
 *   traded      finish(): if the newcomer was held by an expert store, the loser's bytes have
 *               meanwhile crossed to its place in RAM, and the store is told; at the first
 *               begin_pass that finds that copy done
 * Nobody waits: until it has landed the CPU computes a newcomer.  A loser that the router wants
 * while it crosses is read from the file.
 *
 * POLICY  A forecast says which share of the tokens to come will use an expert
 * (expert_forecast.h).  A newcomer's has to be higher by a margin, so that 1.5 MB do not move
 * for nothing; of all layers' wishes those that gain most depart, as many as the link takes.
 * SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "base/sys.h"

/* ---- life ---------------------------------------------------------------------------------- */

static size_t table_bytes(const tug_moe_weights *w) {
    return TUG_CUDA_MATRICES * (size_t)w->gate.n_mat * sizeof(uint64_t);
}

uint64_t tug_cuda_experts_bytes(const tug_moe_weights *w, int n) {
    const uint64_t tables = (table_bytes(w) + 255) / 256 * 256;
    return (uint64_t)n * tug_cuda_expert_bytes(w) + tables;
}

static uint8_t *slot_at(const tug_cuda_experts *e, int slot) {
    return e->bytes + (size_t)slot * e->stride;
}

/* Copies expert i to slot i and notes where its matrices are. */
static void fill_slot(tug_backend *be, tug_cuda_experts *e, int i, uint64_t *table) {
    for (int j = 0; j < TUG_CUDA_MATRICES; j++) {
        const tug_weight *w = tug_cuda_matrix(e->w, j);
        uint8_t *at = slot_at(e, i) + tug_cuda_matrix_at(e->w, j);
        TUG_CHECK(!w->packed);
        table[(int64_t)j * e->n_expert + i] = (uint64_t)(uintptr_t)at;
        tug_backend_write(be, at, tug_weight_row(w, i, 0), tug_cuda_matrix_bytes(w));
    }
    e->here[i] = 1;
    e->in_slot[i] = i;
}

static tug_status fill(tug_backend *be, tug_cuda_experts *e, uint64_t *table,
                       tug_err *err) {
    void *p;
    if (e->n_slot > 0) {
        TUG_TRY(tug_backend_alloc(be, &p, (size_t)e->n_slot * e->stride, "experts", err));
        e->bytes = p;
    }
    TUG_TRY(tug_backend_alloc(be, &p, table_bytes(e->w), "experts", err));
    e->tables = p;
    for (int i = 0; i < e->n_slot; i++) fill_slot(be, e, i, table);
    tug_backend_write(be, e->tables, table, table_bytes(e->w));
    return tug_backend_wait(be, err);
}

static bool alloc_lists(tug_cuda_experts *e) {
    const size_t n = (size_t)e->n_expert;
    e->here = tug_alloc_zero(n);
    e->coming = tug_alloc_zero(n);
    e->bound = tug_alloc_zero(n);
    e->in_slot = tug_alloc_array(n, sizeof *e->in_slot);
    e->use = tug_alloc_zero(n * sizeof *e->use);
    e->counts = tug_alloc_zero(n * sizeof *e->counts);
    e->who = tug_alloc_array(n, sizeof *e->who);
    e->times = tug_alloc_array(n, sizeof *e->times);
    e->ranked = tug_alloc_array(n, sizeof *e->ranked);
    return e->here && e->coming && e->bound && e->in_slot && e->use && e->counts &&
           e->who && e->times && e->ranked;
}

tug_status tug_cuda_experts_create(tug_backend *be, tug_moe_weights *w, int n,
                                   tug_err *err) {
    TUG_CHECK(n >= 0 && n <= w->gate.n_mat);
    tug_cuda_cache *cache = &tug_cuda_of(be)->cache;
    tug_cuda_experts *e = tug_alloc_zero(sizeof *e);
    uint64_t *table = tug_alloc_zero(table_bytes(w));
    tug_status s = TUG_OK;
    if (e) {
        *e = (tug_cuda_experts){.w = w,
                                .n_expert = (int)w->gate.n_mat,
                                .n_slot = n,
                                .stride = tug_cuda_expert_bytes(w),
                                .next = cache->first};
        cache->first = e;
        tug_expert_forecast_init(&cache->forecast, ++cache->n_layer, e->n_expert);
    }
    if (!e || !table || !alloc_lists(e)) {
        s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the table of experts");
    }
    if (s == TUG_OK) s = fill(be, e, table, err);
    tug_free(table);
    if (s != TUG_OK) {
        tug_cuda_experts_destroy(be, &e);
        return s;
    }
    w->on_gpu = e;
    w->elsewhere = e->here;
    return TUG_OK;
}

void tug_cuda_experts_destroy(tug_backend *be, tug_cuda_experts **experts) {
    tug_cuda_experts *e = *experts;
    if (!e) return;
    tug_cuda_cache *cache = &tug_cuda_of(be)->cache;
    tug_cuda_experts **link = &cache->first;
    while (*link != e) link = &(*link)->next;
    *link = e->next;
    tug_backend_free(be, e->bytes, (size_t)e->n_slot * e->stride);
    tug_backend_free(be, e->tables, table_bytes(e->w));
    tug_free(e->here);
    tug_free(e->coming);
    tug_free(e->bound);
    tug_free(e->in_slot);
    tug_free(e->use);
    tug_free(e->counts);
    tug_free(e->who);
    tug_free(e->times);
    tug_free(e->ranked);
    tug_free(e);
    *experts = NULL;
}

tug_cuda_slot_stats tug_backend_gpu_slots(const tug_backend *be) {
    return be->place ? tug_cuda_of(be)->cache.stats : (tug_cuda_slot_stats){0};
}

/* ---- policy ------------------------------------------------------------------------------------ */

static double rate(const tug_cuda_cache *cache, const tug_cuda_experts *e, int expert) {
    return tug_expert_forecast_rate(&cache->forecast, &e->use[expert], e->now);
}

static void count_hits(tug_cuda_cache *cache, const tug_cuda_experts *e,
                       const int32_t *ids, int64_t n_pair) {
    uint64_t hits = 0;
    for (int64_t p = 0; p < n_pair; p++) hits += e->here[ids[p]];
    cache->stats.hits += hits;
    cache->stats.misses += (uint64_t)n_pair - hits;
}

static void count_uses(tug_cuda_cache *cache, tug_cuda_experts *e, const int32_t *ids,
                       int64_t n_tok, int n_used) {
    const int64_t n_pair = n_tok * n_used;
    int n = 0;
    e->now += (uint32_t)n_tok;
    for (int64_t p = 0; p < n_pair; p++) {
        if (e->counts[ids[p]]++ == 0) e->who[n++] = ids[p];
    }
    for (int i = 0; i < n; i++) {
        e->times[i] = e->counts[e->who[i]];
        e->counts[e->who[i]] = 0;
    }
    const tug_expert_step step = {.experts = e->who,
                                  .counts = e->times,
                                  .n = n,
                                  .n_tok = (int)n_tok,
                                  .n_expert = e->n_expert,
                                  .now = e->now};
    tug_expert_forecast_step(&cache->forecast, e->use, &step);
}

/* ranked[s].rate <- of who is in slot s. */
static void rate_slots(const tug_cuda_cache *cache, tug_cuda_experts *e) {
    for (int s = 0; s < e->n_slot; s++) {
        e->ranked[s].rate = rate(cache, e, e->in_slot[s]);
    }
}

/* The slot of the lowest rate that no wish has taken; -1: there is none. */
static int coldest_slot(const tug_cuda_experts *e) {
    int coldest = -1;
    for (int s = 0; s < e->n_slot; s++) {
        if (e->bound[e->in_slot[s]]) continue;
        if (e->n_wish > 0 && e->wish[0].slot == s) continue;
        if (coldest < 0 || e->ranked[s].rate < e->ranked[coldest].rate) coldest = s;
    }
    return coldest;
}

/* Of those that were used now and have no slot, the one of the highest rate; -1: none. */
static int hottest_newcomer(const tug_cuda_cache *cache, const tug_cuda_experts *e,
                            const int32_t *ids, int64_t n_pair, double *highest) {
    int hottest = -1;
    for (int64_t p = 0; p < n_pair; p++) {
        const int x = ids[p];
        if (e->here[x] || e->coming[x]) continue;
        if (e->n_wish > 0 && e->wish[0].expert == x) continue;
        const double y = rate(cache, e, x);
        if (hottest >= 0 && y <= *highest) continue;
        hottest = x;
        *highest = y;
    }
    return hottest;
}

static void make_wishes(const tug_cuda *c, tug_cuda_experts *e, const int32_t *ids,
                        int64_t n_pair) {
    rate_slots(&c->cache, e);
    while (e->n_wish < TUG_CUDA_WISHES) {
        double highest = 0;
        const int newcomer = hottest_newcomer(&c->cache, e, ids, n_pair, &highest);
        const int slot = newcomer < 0 ? -1 : coldest_slot(e);
        if (slot < 0) return;
        const double gain = highest - e->ranked[slot].rate;
        if (gain <= c->costs.newcomer_margin) return;
        e->wish[e->n_wish++] = (tug_cuda_wish){newcomer, slot, gain};
    }
}

void tug_cuda_slots_saw(tug_cuda *c, tug_cuda_experts *e, const int32_t *ids,
                        int64_t n_tok, int n_used) {
    count_hits(&c->cache, e, ids, n_tok * n_used);
    e->n_wish = 0;
    if (c->carrier.n == 0) return;
    count_uses(&c->cache, e, ids, n_tok, n_used);
    if (n_tok > TUG_CUDA_FEW_TOKENS) {
        c->cache.seed = true;
    } else {
        make_wishes(c, e, ids, n_tok * n_used);
    }
}

/* ---- seats --------------------------------------------------------------------------------- */

/* Those who will sit in a half. */
typedef struct boarding {
    tug_cuda *c;
    tug_cuda_seat seat[TUG_CUDA_CARRIED];
    tug_cuda_way way[TUG_CUDA_CARRIED];
    int n, n_by_hand;
} boarding;

static bool is_full(const boarding *b) {
    return b->n == b->c->carrier.n || b->n_by_hand == TUG_CUDA_COPIED;
}

static bool hold(const tug_moe_weights *w, int expert) {
    const tug_expert_source *src = w->source;
    return src->hold && src->hold(src->ud, w->layer, expert);
}

void tug_cuda_let_go(tug_cuda_seat *s, bool came) {
    const tug_moe_weights *w = s->to->w;
    const tug_expert_source *src = w->source;
    if (s->trade) {
        src->replace(src->ud, w->layer, s->expert, came ? s->loser : -1,
                     &s->to->use[s->loser], s->to->now);
    } else if (s->held) {
        src->release(src->ud, w->layer, s->expert);
    }
    s->held = s->trade = false;
}

/* Unless it is not in memory.  From a source by itself only if it stays where it is. */
static void board(boarding *b, tug_cuda_experts *e, int expert, int slot) {
    tug_cuda_way way = tug_cuda_way_of(b->c, e->w, expert);
    if (way == TUG_CUDA_NO_WAY) return;
    const bool may_go = e->w->source && way == TUG_CUDA_BY_ITSELF;
    const bool held = may_go && hold(e->w, expert);
    if (may_go && !held) way = TUG_CUDA_BY_HAND;
    b->way[b->n] = way;
    b->seat[b->n++] = (tug_cuda_seat){
        .to = e, .expert = expert, .slot = slot, .loser = e->in_slot[slot], .held = held};
    b->n_by_hand += way == TUG_CUDA_BY_HAND;
}

static void set_entries(tug_cuda_editor *ed, const tug_cuda_experts *e, int expert,
                        const uint8_t *at) {
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        tug_cuda_edit_add(ed, e->tables + (int64_t)i * e->n_expert + expert,
                          at ? at + tug_cuda_matrix_at(e->w, i) : NULL);
    }
}

/* The copies run. */
static void depart(boarding *b, int half) {
    tug_cuda *c = b->c;
    tug_cuda_carrier *k = &c->carrier;
    uint8_t *over = k->pinned[half];
    if (b->n == 0) return;
    tug_device_after(c->dev, TUG_STREAM_COPY, k->used[half]);
    for (int i = 0; i < b->n; i++) {
        const tug_cuda_seat s = b->seat[i];
        const bool by_hand = b->way[i] == TUG_CUDA_BY_HAND;
        s.to->bound[s.loser] = 1;
        s.to->coming[s.expert] = 1;
        tug_cuda_carry(c, half, i, s.to->w, s.expert, by_hand ? over : NULL);
        if (by_hand) over += k->stride;
        k->seat[half][i] = s;
    }
    tug_device_record(c->dev, k->arrived[half], TUG_STREAM_COPY);
    k->n_seat[half] = b->n;
    b->n = b->n_by_hand = 0;
}

static uint8_t *seat_at(uint8_t *bytes, const tug_cuda_carrier *k, int seat) {
    return bytes + (size_t)seat * k->stride;
}

/* at[] <- where the loser's matrices go; false: it has no place. */
static bool place_of_loser(const tug_cuda_carrier *k, const tug_cuda_seat *s,
                           uint8_t *at[TUG_CUDA_MATRICES]) {
    const tug_moe_weights *w = s->to->w;
    if (!s->held || !w->source->room_of) return false;
    w->source->room_of(w->source->ud, w->layer, s->expert, s->loser, at);
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        const tug_weight *m = tug_cuda_matrix(w, i);
        if (!tug_cuda_is_pinned(k, at[i], tug_cuda_matrix_bytes(m))) return false;
    }
    return true;
}

/* A copy of losers that have a place in RAM, before their slots are filled anew. */
static int save_losers(tug_cuda *c, int half) {
    tug_cuda_carrier *k = &c->carrier;
    uint8_t *at[TUG_CUDA_MATRICES];
    int n = 0;
    for (int i = 0; i < k->n_seat[half]; i++) {
        tug_cuda_seat *s = &k->seat[half][i];
        s->trade = place_of_loser(k, s, at);
        if (!s->trade) continue;
        n++;
        tug_device_copy(c->dev, TUG_STREAM_COMPUTE, seat_at(k->made, k, i),
                        slot_at(s->to, s->slot), s->to->stride);
    }
    return n;
}

/* Slots <- the file's rows of what the half holds. */
static void fill_slots(tug_cuda *c, int half) {
    tug_cuda_carrier *k = &c->carrier;
    tug_cuda_unpacker u = {.c = c};
    /* Matrices of the same place first: they are alike, and go in one launch. */
    for (int i = 0; i < TUG_CUDA_MATRICES; i++) {
        for (int s = 0; s < k->n_seat[half]; s++) {
            const tug_cuda_experts *e = k->seat[half][s].to;
            const size_t at = tug_cuda_matrix_at(e->w, i);
            tug_cuda_unpack_add(&u, tug_cuda_matrix(e->w, i),
                                slot_at(e, k->seat[half][s].slot) + at,
                                seat_at(k->raw[half], k, s) + at);
        }
    }
    tug_cuda_unpack_flush(&u);
}

/* By way of the half, which nothing else needs until they are back: prompts use `made`. */
static void send_back(tug_cuda *c, int half) {
    tug_cuda_carrier *k = &c->carrier;
    uint8_t *to[TUG_CUDA_MATRICES];
    for (int i = 0; i < k->n_seat[half]; i++) {
        if (!k->seat[half][i].trade) continue;
        tug_device_copy(c->dev, TUG_STREAM_COMPUTE, seat_at(k->raw[half], k, i),
                        seat_at(k->made, k, i), k->seat[half][i].to->stride);
    }
    tug_device_record(c->dev, k->used[half], TUG_STREAM_COMPUTE);
    tug_device_after(c->dev, TUG_STREAM_BACK, k->used[half]);
    for (int i = 0; i < k->n_seat[half]; i++) {
        const tug_cuda_seat *s = &k->seat[half][i];
        if (!s->trade) continue;
        const tug_moe_weights *w = s->to->w;
        TUG_CHECK(place_of_loser(k, s, to));
        for (int j = 0; j < TUG_CUDA_MATRICES; j++) {
            tug_device_copy_out(c->dev, TUG_STREAM_BACK, to[j],
                                seat_at(k->raw[half], k, i) + tug_cuda_matrix_at(w, j),
                                tug_cuda_matrix_bytes(tug_cuda_matrix(w, j)));
        }
    }
    tug_device_record(c->dev, k->returned[half], TUG_STREAM_BACK);
}

/* The half is empty again. */
static void finish(tug_cuda *c, int half) {
    tug_cuda_carrier *k = &c->carrier;
    tug_err ignored; /* the pass tells of it */
    const bool came = tug_device_status(c->dev, &ignored) == TUG_OK;
    for (int i = 0; i < k->n_seat[half]; i++) {
        tug_cuda_seat *s = &k->seat[half][i];
        s->to->bound[s->expert] = 0;
        c->cache.stats.returned += s->trade && came;
        tug_cuda_let_go(s, came);
    }
    k->landed[half] = false;
    k->n_seat[half] = 0;
}

/* What has arrived in a half moves into its slots. */
static void land(tug_cuda *c, int half, tug_cuda_editor *ed) {
    tug_cuda_carrier *k = &c->carrier;
    const int n_back = save_losers(c, half);
    fill_slots(c, half);
    for (int i = 0; i < k->n_seat[half]; i++) {
        const tug_cuda_seat s = k->seat[half][i];
        set_entries(ed, s.to, s.loser, NULL);
        set_entries(ed, s.to, s.expert, slot_at(s.to, s.slot));
        s.to->here[s.loser] = s.to->bound[s.loser] = s.to->coming[s.expert] = 0;
        s.to->here[s.expert] = s.to->bound[s.expert] = 1;
        s.to->in_slot[s.slot] = s.expert;
    }
    if (n_back > 0) {
        send_back(c, half);
        k->landed[half] = true;
    } else {
        tug_device_record(c->dev, k->used[half], TUG_STREAM_COMPUTE);
        finish(c, half);
    }
}

/* ---- after a prompt -------------------------------------------------------------------------- */

static int by_rate(const void *a, const void *b) {
    const tug_cuda_ranked *x = a, *y = b;
    return x->rate < y->rate ? -1 : x->rate > y->rate ? 1 : x->expert - y->expert;
}

/* ranked <- who is here, coldest first; then who is not, coldest first; how many are here. */
static int rank(const tug_cuda_cache *cache, tug_cuda_experts *e) {
    int n = 0, at = 0;
    for (int s = 0; s < e->n_slot; s++) {
        const int x = e->in_slot[s];
        e->ranked[n++] = (tug_cuda_ranked){rate(cache, e, x), x, s};
    }
    at = n;
    for (int x = 0; x < e->n_expert; x++) {
        if (!e->here[x]) e->ranked[at++] = (tug_cuda_ranked){rate(cache, e, x), x, -1};
    }
    TUG_CHECK(at == e->n_expert);
    qsort(e->ranked, (size_t)n, sizeof *e->ranked, by_rate);
    qsort(e->ranked + n, (size_t)(at - n), sizeof *e->ranked, by_rate);
    return n;
}

/* Does the answer gain more than the way costs?  By as many bytes as an expert has: it is
 * read by the device instead of the CPU as often as it is used more than the other. */
static bool pays(const tug_cuda_costs *k, double more) {
    const double saved = 1 / k->host_bytes_per_s - 1 / k->device_bytes_per_s;
    return more * k->answer_tokens * saved > 1 / k->link_bytes_per_s;
}

static void wait_and_land(tug_cuda *c, int half, tug_cuda_editor *ed) {
    tug_err ignored; /* the pass tells of it */
    if (c->carrier.n_seat[half] == 0) return;
    if (!c->carrier.landed[half]) {
        (void)!tug_device_wait_event(c->dev, c->carrier.arrived[half], &ignored);
        land(c, half, ed);
    }
    if (!c->carrier.landed[half]) return;
    (void)!tug_device_wait_event(c->dev, c->carrier.returned[half], &ignored);
    finish(c, half);
}

/* One half is filled while the other crosses. */
static void next_half(boarding *b, int *half, tug_cuda_editor *ed) {
    b->c->cache.stats.seeded += (uint64_t)b->n;
    depart(b, *half);
    *half = (*half + 1) % TUG_CUDA_HALVES;
    wait_and_land(b->c, *half, ed);
    tug_cuda_edit_flush(ed); /* a later loser may be one who has just landed */
}

/* The contents become what the prompt used, as far as that pays.  Nothing is on its way. */
static void seed(tug_cuda *c, tug_cuda_editor *ed) {
    boarding b = {.c = c};
    int half = 0;
    for (tug_cuda_experts *e = c->cache.first; e; e = e->next) {
        const int n_here = rank(&c->cache, e);
        for (int i = 0; i < n_here && i < e->n_expert - n_here; i++) {
            const tug_cuda_ranked *newcomer = &e->ranked[e->n_expert - 1 - i];
            const tug_cuda_ranked *old = &e->ranked[i];
            if (!pays(&c->costs, newcomer->rate - old->rate)) break;
            board(&b, e, newcomer->expert, old->slot);
            if (is_full(&b)) next_half(&b, &half, ed);
        }
    }
    next_half(&b, &half, ed);
    for (int h = 0; h < TUG_CUDA_HALVES; h++) wait_and_land(c, h, ed);
}

/* ---- between passes ---------------------------------------------------------------------------- */

/* NULL: there is none. */
static tug_cuda_wish *greatest_wish(const tug_cuda_cache *cache, tug_cuda_experts **of) {
    tug_cuda_wish *greatest = NULL;
    for (tug_cuda_experts *e = cache->first; e; e = e->next) {
        for (int i = 0; i < e->n_wish; i++) {
            tug_cuda_wish *w = &e->wish[i];
            if (w->expert < 0 || (greatest && w->gain <= greatest->gain)) continue;
            greatest = w;
            *of = e;
        }
    }
    return greatest;
}

/* What does not fit now is wished again if it still matters. */
static void board_wishes(boarding *b) {
    tug_cuda_experts *e = NULL;
    tug_cuda_wish *w;
    while (!is_full(b) && (w = greatest_wish(&b->c->cache, &e)) != NULL) {
        board(b, e, w->expert, w->slot);
        w->expert = -1; /* granted, or impossible */
    }
}

void tug_cuda_op_begin_pass(tug_backend *be, int64_t n_tok) {
    tug_cuda *c = tug_cuda_of(be);
    tug_cuda_carrier *k = &c->carrier;
    if (k->n == 0 || !c->cache.first) return;
    /* A prompt needs the halves for itself, and seeding too. */
    const bool is_prompt = n_tok > TUG_CUDA_FEW_TOKENS;
    const bool waits = is_prompt || c->cache.seed;
    tug_cuda_editor ed = {.c = c};
    for (int h = 0; h < TUG_CUDA_HALVES; h++) {
        if (waits) {
            wait_and_land(c, h, &ed);
        } else if (k->landed[h]) {
            if (tug_device_happened(c->dev, k->returned[h])) finish(c, h);
        } else if (k->n_seat[h] > 0 && tug_device_happened(c->dev, k->arrived[h])) {
            land(c, h, &ed);
        }
    }
    const int half = k->n_seat[0] > 0; /* both may be on their way */
    if (!is_prompt && c->cache.seed) {
        tug_cuda_edit_flush(&ed);
        seed(c, &ed);
        c->cache.seed = false;
    } else if (!is_prompt && k->n_seat[half] == 0) {
        boarding b = {.c = c};
        board_wishes(&b);
        c->cache.stats.promotions += (uint64_t)b.n;
        depart(&b, half);
    }
    tug_cuda_edit_flush(&ed);
    for (tug_cuda_experts *e = c->cache.first; e; e = e->next) e->n_wish = 0;
}
