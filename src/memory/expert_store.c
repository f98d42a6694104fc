/* expert_store.c - see expert_store.h and docs/EXPERTS.md.
 *
 * DESIGN
 * The slots of a size class lie side by side in one piece of pinned memory; a slot has room
 * for the three matrices of an expert as the reader delivers them, with the bytes around
 * them that whole blocks bring along.  An expert that arrived is raw; it is packed where it
 * lies when it is needed, by all threads.  Reads of a step are queued in the order of the
 * file as soon as there are slots; when none is left to queue and the batch is so large that
 * the next layer will want nearly all of its experts, those are queued too.
 *
 * Another place that copies experts from here (backend.h, tug_backend_pin) wants the slots
 * pinned.  They are, in blocks: memory that is given back to the system must not be pinned,
 * or the copies would go on reading the pages that it had.
 * SPDX-License-Identifier: MIT */
#include "memory/expert_store.h"

#include <string.h>

#include "base/sys.h"
#include "memory/pinned.h"
#include "memory/pressure.h"
#include "quant/packed.h"

enum {
    PIECES = TUG_EXPERT_PIECES,
    DEPTH = 256, /* reads queued: the next wave's are there before this one is computed */
    DONE_AT_ONCE = 64,
    PACKED_ALIGN = 64,
    TAKEN_AT_ONCE = 32,    /* slots */
    BLOCK_BYTES = 64 << 20 /* pinned together */
};

/* How often to look whether others need memory. */
#define WATCH_S 0.5

/* A step that wants this share of a layer's experts lets us expect the same of the next. */
#define AHEAD_SHARE 0.75

typedef struct slot_state {
    uint8_t reads_left;
    uint32_t step; /* in which they were queued */
    bool failed;   /* one of its reads */
    bool raw;      /* arrived, not packed */
} slot_state;

typedef struct pin_block {
    bool pinned;
    int n_gone; /* slots that were given back */
} pin_block;

typedef struct size_class {
    uint64_t slot_bytes;
    int n_slots, staging;
    int n_taken; /* slots before it are memory, when filling; homes come first */
    tug_pinned memory;
    slot_state *slot; /* owned, (n_slots,) */
    pin_block *block; /* owned, (n_block,) */
    int n_block, block_slots;
} size_class;

typedef struct store_layer {
    tug_expert_layer p;
    int class;
    tug_weight *w[PIECES];        /* borrowed: gate, up, down */
    const uint8_t **mats[PIECES]; /* in store.mats, (n_expert,) each */
} store_layer;

struct tug_expert_store {
    tug_backend *be;
    tug_expert_cache *cache; /* owned */
    tug_reader *reader;      /* owned */
    tug_expert_source source;
    store_layer *layer; /* owned, (n_layer,) */
    int n_layer, n_expert;
    size_class *class; /* owned, (n_class,) */
    int n_class;
    const uint8_t **mats;   /* owned, (n_layer, PIECES, n_expert) */
    tug_pack_piece *pieces; /* owned: to be packed now */
    uint8_t *temp;          /* owned, (n_threads, temp_bytes) */
    size_t temp_bytes;
    uint64_t wanted_bytes;
    double watched; /* when memory was last looked at */

    /* The step that is running. */
    uint32_t step;          /* its number */
    int step_layer;         /* -1: none */
    const int32_t *experts; /* borrowed, (n,) */
    int n, n_named;
    bool *named;  /* owned, (n_expert,) by position */
    int cursor;   /* positions before it are in memory or queued */
    bool failed;  /* a read that this step needs */
    bool ahead;   /* queue the next layer's too ... */
    int ahead_at; /* ... from this expert on */
};

/* ---- where bytes are ------------------------------------------------------------------ */

static uint64_t piece_bytes(const tug_weight *w) {
    return (uint64_t)w->n_rows * w->row_bytes;
}

static uint64_t expert_bytes(const store_layer *l) {
    uint64_t n = 0;
    for (int i = 0; i < PIECES; i++) n += piece_bytes(l->w[i]);
    return n;
}

uint64_t tug_expert_slot_bytes(const tug_moe_weights *moe) {
    return tug_reader_room(piece_bytes(&moe->gate)) +
           tug_reader_room(piece_bytes(&moe->up)) +
           tug_reader_room(piece_bytes(&moe->down));
}

static uint8_t *slot_memory(const size_class *c, int slot) {
    return c->memory.base + (uint64_t)slot * c->slot_bytes;
}

/* Where the reader puts piece i of the slot. */
static uint8_t *piece_memory(const tug_expert_store *s, const store_layer *l, int slot,
                             int i) {
    uint8_t *p = slot_memory(&s->class[l->class], slot);
    for (int j = 0; j < i; j++) p += tug_reader_room(piece_bytes(l->w[j]));
    return p;
}

static uint64_t piece_offset(const store_layer *l, int expert, int i) {
    return l->p.offset[i] + (uint64_t)expert * l->w[i]->mat_bytes;
}

/* Where piece i of an expert begins, as in the file, in a slot. */
static uint8_t *raw_memory(const tug_expert_store *s, int layer, int expert, int slot,
                           int i) {
    const store_layer *l = &s->layer[layer];
    return piece_memory(s, l, slot, i) + tug_reader_skip(piece_offset(l, expert, i));
}

static void forget(tug_expert_store *s, int layer, int expert) {
    for (int i = 0; i < PIECES; i++) s->layer[layer].mats[i][expert] = NULL;
}

/* ---- packing -------------------------------------------------------------------------- */

/* The arrived bytes of an expert become matrices of its layer's weights; adds what is to be
 * packed to s->pieces, behind the first n. */
static int settle_pieces(tug_expert_store *s, int layer, int expert, int n) {
    const store_layer *l = &s->layer[layer];
    const int slot = tug_expert_cache_slot(s->cache, layer, expert);
    for (int i = 0; i < PIECES; i++) {
        const tug_weight *w = l->w[i];
        uint8_t *raw = raw_memory(s, layer, expert, slot, i), *at = raw;
        if (w->packed) {
            at -= (uintptr_t)at % PACKED_ALIGN;
            s->pieces[n++] = (tug_pack_piece){.type = w->type,
                                              .n_rows = w->n_rows,
                                              .row_bytes = w->row_bytes,
                                              .src = raw,
                                              .dst = at};
        }
        l->mats[i][expert] = at;
    }
    s->class[l->class].slot[slot].raw = false;
    return n;
}

static void pack(tug_expert_store *s, int n) {
    if (n > 0) tug_backend_pack_pieces(s->be, s->pieces, n, s->temp, s->temp_bytes);
}

static bool is_raw(const tug_expert_store *s, int layer, int expert) {
    const int slot = tug_expert_cache_slot(s->cache, layer, expert);
    return s->class[s->layer[layer].class].slot[slot].raw;
}

/* ---- pinned blocks --------------------------------------------------------------------- */

static uint8_t *block_memory(const size_class *c, int i) {
    return slot_memory(c, i * c->block_slots);
}

static void pin_slots(tug_expert_store *s, size_class *c, int i) {
    const int first = i * c->block_slots, left = c->n_slots - first;
    const int n = left < c->block_slots ? left : c->block_slots;
    c->block[i].pinned =
        tug_backend_pin(s->be, block_memory(c, i), (size_t)n * c->slot_bytes);
}

static void unpin_slots(tug_expert_store *s, size_class *c, int i) {
    if (c->block[i].pinned) tug_backend_unpin(s->be, block_memory(c, i));
    c->block[i].pinned = false;
}

static tug_status make_blocks(size_class *c, tug_err *err) {
    c->block_slots = (int)(BLOCK_BYTES / c->slot_bytes);
    if (c->block_slots < 1) c->block_slots = 1;
    const int n = (c->n_slots + c->block_slots - 1) / c->block_slots;
    c->block = tug_alloc_zero((size_t)n * sizeof *c->block);
    if (!c->block) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for expert slots");
    c->n_block = n;
    return TUG_OK;
}

static void pin_all(tug_expert_store *s) {
    for (int k = 0; k < s->n_class; k++) {
        for (int i = 0; i < s->class[k].n_block; i++) pin_slots(s, &s->class[k], i);
    }
}

/* ---- reads ---------------------------------------------------------------------------- */

static uint64_t make_tag(int layer, int expert, int piece) {
    return (uint64_t)layer << 40 | (uint64_t)expert << 8 | (uint64_t)piece;
}
static int layer_of(uint64_t tag) {
    return (int)(tag >> 40);
}
static int expert_of(uint64_t tag) {
    return (int)(tag >> 8 & 0xffffffff);
}

static bool has_room(const tug_expert_store *s) {
    return tug_reader_in_flight(s->reader) + PIECES <= DEPTH;
}

/* The slot is LOADING, and the reader has room. */
static void submit(tug_expert_store *s, int layer, int expert, int slot) {
    const store_layer *l = &s->layer[layer];
    s->class[l->class].slot[slot] = (slot_state){.reads_left = PIECES, .step = s->step};
    for (int i = 0; i < PIECES; i++) {
        const tug_read read = {.file = l->p.file[i],
                               .offset = piece_offset(l, expert, i),
                               .n = piece_bytes(l->w[i]),
                               .memory = piece_memory(s, l, slot, i),
                               .tag = make_tag(layer, expert, i)};
        TUG_CHECK(tug_reader_submit(s->reader, &read));
    }
}

/* false: not now, there is no slot or the reader is full. */
static bool fetch(tug_expert_store *s, int layer, int expert) {
    int old_layer, old_expert;
    if (!has_room(s)) return false;
    const int slot =
        tug_expert_cache_fetch(s->cache, layer, expert, &old_layer, &old_expert);
    if (slot < 0) return false;
    if (old_layer >= 0) forget(s, old_layer, old_expert);
    submit(s, layer, expert, slot);
    return true;
}

/* One read of a slot ended. */
static void land(tug_expert_store *s, const tug_read_done *done) {
    const int layer = layer_of(done->tag), expert = expert_of(done->tag);
    const int slot = tug_expert_cache_slot(s->cache, layer, expert);
    slot_state *state = &s->class[s->layer[layer].class].slot[slot];
    if (done->status != TUG_OK) state->failed = true;
    if (--state->reads_left > 0) return;
    if (!state->failed) {
        state->raw = true;
        tug_expert_cache_loaded(s->cache, layer, expert);
        return;
    }
    tug_expert_cache_failed(s->cache, layer, expert);
    if (layer != s->step_layer) return; /* it is asked for again when it is wanted */
    if (state->step == s->step) {
        s->failed = true;
    } else {
        s->cursor = 0; /* queued before this step, ahead or for one that failed: again */
    }
}

static void collect(tug_expert_store *s, bool block) {
    tug_read_done done[DONE_AT_ONCE];
    int n;
    do {
        n = tug_reader_wait(s->reader, done, DONE_AT_ONCE, block);
        for (int i = 0; i < n; i++) land(s, &done[i]);
        block = false;
    } while (n == DONE_AT_ONCE);
}

static bool is_elsewhere(const tug_expert_store *s, int layer, int expert) {
    const uint8_t *elsewhere = s->layer[layer].p.moe->elsewhere;
    return elsewhere && elsewhere[expert];
}

/* Experts of a layer that are nowhere but here. */
static int n_only_ours(const tug_expert_store *s, int layer) {
    int n = 0;
    for (int e = 0; e < s->n_expert; e++) n += !is_elsewhere(s, layer, e);
    return n;
}

/* Queues what this step lacks, then what the next layer's will. */
static void queue_reads(tug_expert_store *s) {
    for (; s->cursor < s->n; s->cursor++) {
        const int e = s->experts[s->cursor];
        if (s->named[s->cursor]) continue; /* computed, and perhaps gone since */
        if (tug_expert_cache_state(s->cache, s->step_layer, e) != TUG_EXPERT_ABSENT) {
            continue;
        }
        if (!fetch(s, s->step_layer, e)) return;
    }
    if (!s->ahead) return;
    for (; s->ahead_at < s->n_expert; s->ahead_at++) {
        const int layer = s->step_layer + 1, e = s->ahead_at;
        if (is_elsewhere(s, layer, e) ||
            tug_expert_cache_state(s->cache, layer, e) != TUG_EXPERT_ABSENT) {
            continue;
        }
        if (!fetch(s, layer, e)) return;
    }
}

/* ---- the source ----------------------------------------------------------------------- */

static tug_status begin(void *ud, int layer, const int32_t *experts,
                        const int32_t *counts, int n, int64_t n_tok, tug_err *err) {
    tug_expert_store *s = ud;
    TUG_CHECK(s->step_layer < 0);
    if (layer == 0) TUG_TRY(tug_reader_check(s->reader, err));
    collect(s, false);
    s->step++;
    s->step_layer = layer;
    s->experts = experts;
    s->n = n;
    s->n_named = s->cursor = s->ahead_at = 0;
    s->failed = false;
    s->ahead =
        n_tok > 1 && layer + 1 < s->n_layer && n >= AHEAD_SHARE * n_only_ours(s, layer);
    memset(s->named, 0, (size_t)n * sizeof *s->named);
    s->wanted_bytes += (uint64_t)n * expert_bytes(&s->layer[layer]);
    tug_expert_cache_begin(s->cache, layer, experts, counts, n, n_tok);
    queue_reads(s);
    return TUG_OK;
}

/* Experts in memory that were not named yet, packed. */
static int name_some(tug_expert_store *s, int32_t *at, int max) {
    int n = 0, n_pieces = 0;
    for (int i = 0; i < s->n && n < max; i++) {
        if (s->named[i]) continue;
        const int e = s->experts[i];
        const tug_expert_state state = tug_expert_cache_state(s->cache, s->step_layer, e);
        if (state != TUG_EXPERT_HOME && state != TUG_EXPERT_STAGED) continue;
        if (is_raw(s, s->step_layer, e)) {
            n_pieces = settle_pieces(s, s->step_layer, e, n_pieces);
        }
        s->named[i] = true;
        at[n++] = i;
    }
    pack(s, n_pieces);
    s->n_named += n;
    return n;
}

static tug_status next(void *ud, int32_t *at, int max, bool wait, int *n, tug_err *err) {
    tug_expert_store *s = ud;
    for (;;) {
        collect(s, false);
        queue_reads(s);
        if (s->failed) {
            return TUG_FAIL(err, TUG_EIO, "%s", tug_reader_error(s->reader));
        }
        *n = name_some(s, at, max);
        if (*n > 0 || !wait || s->n_named == s->n) return TUG_OK;
        TUG_CHECK(tug_reader_in_flight(s->reader) > 0);
        collect(s, true);
    }
}

static void done(void *ud, const int32_t *at, int n) {
    tug_expert_store *s = ud;
    for (int i = 0; i < n; i++) {
        tug_expert_cache_done(s->cache, s->step_layer, s->experts[at[i]]);
    }
    collect(s, false);
    queue_reads(s);
}

static void end(void *ud) {
    tug_expert_store *s = ud;
    if (s->step_layer < 0) return; /* begin failed */
    tug_expert_cache_end(s->cache);
    s->step_layer = -1;
}

static bool hold(void *ud, int layer, int expert) {
    return tug_expert_cache_hold(((tug_expert_store *)ud)->cache, layer, expert);
}

static void release(void *ud, int layer, int expert) {
    tug_expert_cache_release(((tug_expert_store *)ud)->cache, layer, expert);
}

static void room_of(void *ud, int layer, int held, int other, uint8_t *at[PIECES]) {
    const tug_expert_store *s = ud;
    const int slot = tug_expert_cache_slot(s->cache, layer, held);
    for (int i = 0; i < PIECES; i++) at[i] = raw_memory(s, layer, other, slot, i);
}

static void replace(void *ud, int layer, int held, int other, const tug_expert_use *past,
                    uint32_t now) {
    tug_expert_store *s = ud;
    const int slot = tug_expert_cache_slot(s->cache, layer, held);
    forget(s, layer, held);
    const bool came = tug_expert_cache_replace(s->cache, layer, held, other, past, now);
    s->class[s->layer[layer].class].slot[slot].raw = came;
}

/* ---- filling -------------------------------------------------------------------------- */

typedef struct filling {
    tug_expert_store *s;
    int layer, at; /* the next to be asked for: of turns, one for each expert and round */
    uint64_t done, total;
} filling;

/* Slots up to this one become memory, some at a time: touching it is work, which the disk
 * does not wait for. */
static tug_status take_slots(size_class *c, int slot, tug_err *err) {
    const int homes = c->n_slots - c->staging;
    while (c->n_taken <= slot) {
        int n = homes - c->n_taken;
        if (n > TAKEN_AT_ONCE) n = TAKEN_AT_ONCE;
        TUG_TRY(tug_pinned_take(&c->memory, (uint64_t)c->n_taken * c->slot_bytes,
                                (uint64_t)n * c->slot_bytes, err));
        c->n_taken += n;
    }
    return TUG_OK;
}

/* Who is asked for next: first those that are nowhere else, then the others; -1: nobody. */
static int next_to_fill(filling *f) {
    const int n = f->s->n_expert;
    for (; f->at < 2 * n; f->at++) {
        if (is_elsewhere(f->s, f->layer, f->at % n) == (f->at >= n)) return f->at++ % n;
    }
    return -1;
}

/* Asks for experts until the reader is full or there are no more empty homes. */
static tug_status fill_queue(filling *f, tug_err *err) {
    tug_expert_store *s = f->s;
    while (f->layer < s->n_layer && has_room(s)) {
        const int expert = next_to_fill(f);
        int slot = -1;
        if (expert >= 0) slot = tug_expert_cache_settle(s->cache, f->layer, expert);
        if (slot < 0) {
            f->layer++;
            f->at = 0;
            continue;
        }
        const tug_status taken =
            take_slots(&s->class[s->layer[f->layer].class], slot, err);
        if (taken != TUG_OK) {
            tug_expert_cache_failed(s->cache, f->layer, expert);
            return taken;
        }
        submit(s, f->layer, expert, slot);
    }
    return TUG_OK;
}

/* Packs the experts whose last read is among these. */
static void fill_pack(filling *f, const tug_read_done *done, int n) {
    tug_expert_store *s = f->s;
    int n_pieces = 0;
    for (int i = 0; i < n; i++) {
        const int layer = layer_of(done[i].tag), expert = expert_of(done[i].tag);
        if (tug_expert_cache_state(s->cache, layer, expert) != TUG_EXPERT_HOME ||
            !is_raw(s, layer, expert)) {
            continue;
        }
        n_pieces = settle_pieces(s, layer, expert, n_pieces);
        f->done += expert_bytes(&s->layer[layer]);
    }
    pack(s, n_pieces);
}

tug_status tug_expert_store_fill(tug_expert_store *s, tug_expert_fill_fn *progress,
                                 void *ud, tug_err *err) {
    filling f = {.s = s};
    bool go_on = true;
    tug_status taken = TUG_OK;
    s->failed = false;
    for (int i = 0; i < s->n_layer; i++) {
        f.total += (uint64_t)s->layer[i].p.home * expert_bytes(&s->layer[i]);
    }
    for (;;) {
        if (go_on && !s->failed && taken == TUG_OK) taken = fill_queue(&f, err);
        tug_read_done done[DONE_AT_ONCE];
        const int n = tug_reader_wait(s->reader, done, DONE_AT_ONCE, true);
        if (n == 0) break;
        for (int i = 0; i < n; i++) {
            land(s, &done[i]);
            if (done[i].status != TUG_OK) s->failed = true;
        }
        fill_pack(&f, done, n);
        if (progress && go_on) go_on = progress(ud, f.done, f.total);
    }
    if (taken != TUG_OK) return taken;
    if (s->failed) return TUG_FAIL(err, TUG_EIO, "%s", tug_reader_error(s->reader));
    if (!go_on) return TUG_FAIL(err, TUG_ECANCELED, "loading was canceled");
    pin_all(s);
    return TUG_OK;
}

/* ---- giving and taking ---------------------------------------------------------------- */

typedef struct adjusting {
    tug_expert_store *s;
    bool refused; /* the system would not give memory */
} adjusting;

static void moved(void *ud, int class, int slot, bool given_up, int layer, int expert) {
    adjusting *a = ud;
    size_class *c = &a->s->class[class];
    const uint64_t at = (uint64_t)slot * c->slot_bytes;
    const int in_block = slot / c->block_slots;
    pin_block *b = &c->block[in_block];
    if (expert >= 0) forget(a->s, layer, expert);
    if (given_up) {
        unpin_slots(a->s, c, in_block);
        b->n_gone++;
        tug_pinned_give(&c->memory, at, c->slot_bytes);
    } else if (tug_pinned_take(&c->memory, at, c->slot_bytes, NULL) != TUG_OK) {
        a->refused = true; /* it is memory all the same as soon as something is read, */
    } else if (--b->n_gone == 0) { /* but then its block is not pinned again */
        pin_slots(a->s, c, in_block);
    }
}

/* One home of each layer less, or more; bytes that moved, 0: there is nothing to move. */
static int64_t adjust_round(adjusting *a, int64_t bytes) {
    tug_expert_store *s = a->s;
    int64_t sum = 0;
    for (int i = 0; i < s->n_layer && !a->refused; i++) {
        const int64_t slot = (int64_t)s->class[s->layer[i].class].slot_bytes;
        const int home = tug_expert_cache_home(s->cache, i);
        const int step = bytes < 0 ? -1 : 1;
        if (step < 0 && (home <= 1 || sum <= bytes)) continue;
        if (step > 0 && (home >= s->layer[i].p.home || sum + slot > bytes)) continue;
        tug_expert_cache_resize(s->cache, i, home + step, moved, a);
        sum += step * slot;
    }
    return sum;
}

int64_t tug_expert_store_adjust(tug_expert_store *s, int64_t bytes) {
    adjusting a = {.s = s};
    int64_t sum = 0;
    while (bytes != sum) {
        const int64_t n = adjust_round(&a, bytes - sum);
        if (n == 0) break;
        sum += n;
        if (bytes < 0 && sum <= bytes) break;
    }
    return sum;
}

void tug_expert_store_watch(tug_expert_store *s, uint64_t ceiling, uint64_t ours) {
    const double now = tug_now();
    if (now - s->watched < WATCH_S) return;
    s->watched = now;
    const tug_pressure_sample sample = tug_pressure_read();
    const int64_t bytes = tug_pressure_decide(&sample, ceiling, ours);
    if (bytes != 0) (void)tug_expert_store_adjust(s, bytes);
}

tug_expert_store_stats tug_expert_store_get_stats(tug_expert_store *s) {
    tug_expert_store_stats st = {.experts = tug_expert_cache_counters(s->cache),
                                 .reads = tug_reader_get_stats(s->reader),
                                 .wanted_bytes = s->wanted_bytes,
                                 .locked = true};
    for (int i = 0; i < s->n_class; i++) {
        st.slots += (uint64_t)s->class[i].staging;
        st.bytes += (uint64_t)s->class[i].staging * s->class[i].slot_bytes;
        st.locked = st.locked && s->class[i].memory.locked;
    }
    for (int i = 0; i < s->n_layer; i++) {
        const uint64_t home = (uint64_t)tug_expert_cache_home(s->cache, i);
        st.slots += home;
        st.bytes += home * s->class[s->layer[i].class].slot_bytes;
    }
    return st;
}

/* ---- life ----------------------------------------------------------------------------- */

/* The class of slots that large; a new one if there is none. */
static int find_class(tug_expert_store *s, uint64_t slot_bytes) {
    for (int i = 0; i < s->n_class; i++) {
        if (s->class[i].slot_bytes == slot_bytes) return i;
    }
    s->class[s->n_class] = (size_class){.slot_bytes = slot_bytes};
    return s->n_class++;
}

static void bind_layers(tug_expert_store *s, const tug_expert_store_params *p) {
    for (int i = 0; i < s->n_layer; i++) {
        store_layer *l = &s->layer[i];
        tug_moe_weights *moe = p->layer[i].moe;
        *l = (store_layer){.p = p->layer[i], .w = {&moe->gate, &moe->up, &moe->down}};
        l->class = find_class(s, tug_expert_slot_bytes(moe));
        s->class[l->class].staging = p->staging;
        s->class[l->class].n_slots += l->p.home;
        moe->source = &s->source;
        moe->layer = i;
        for (int j = 0; j < PIECES; j++) {
            tug_weight *w = l->w[j];
            l->mats[j] = s->mats + ((size_t)i * PIECES + (size_t)j) * (size_t)s->n_expert;
            w->packed = tug_backend_packs(s->be, w);
            w->data = NULL;
            w->mats = l->mats[j];
            const size_t group = TUG_PACK_ROWS * (size_t)w->row_bytes;
            if (w->packed && group > s->temp_bytes) s->temp_bytes = group;
        }
    }
}

/* Staging; homes become memory as they are filled. */
static tug_status take_staging(tug_expert_store *s, tug_err *err) {
    for (int i = 0; i < s->n_class; i++) {
        size_class *c = &s->class[i];
        c->n_slots += c->staging;
        const uint64_t bytes = (uint64_t)c->n_slots * c->slot_bytes;
        c->slot = tug_alloc_array((size_t)c->n_slots, sizeof *c->slot);
        if (!c->slot) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for expert slots");
        const uint64_t staging = (uint64_t)c->staging * c->slot_bytes;
        TUG_TRY(tug_pinned_reserve(&c->memory, bytes, err));
        TUG_TRY(tug_pinned_take(&c->memory, bytes - staging, staging, err));
        TUG_TRY(make_blocks(c, err));
    }
    return TUG_OK;
}

static tug_status create_cache(tug_expert_store *s, tug_err *err) {
    int *const numbers = tug_alloc_array(3 * (size_t)s->n_layer, sizeof *numbers);
    if (!numbers) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for expert slots");
    int *class_of = numbers, *home = numbers + s->n_layer, *staging = home + s->n_layer;
    for (int i = 0; i < s->n_layer; i++) {
        class_of[i] = s->layer[i].class;
        home[i] = s->layer[i].p.home;
    }
    for (int i = 0; i < s->n_class; i++) staging[i] = s->class[i].staging;
    const tug_expert_cache_params p = {.n_layer = s->n_layer,
                                       .n_expert = s->n_expert,
                                       .n_class = s->n_class,
                                       .class_of = class_of,
                                       .home = home,
                                       .staging = staging,
                                       .policy = tug_expert_policy_at(0)};
    const tug_status status = tug_expert_cache_create(&s->cache, &p, err);
    tug_free(numbers);
    return status;
}

static tug_status create_parts(tug_expert_store *s, const tug_expert_store_params *p,
                               tug_err *err) {
    const size_t n_layer = (size_t)s->n_layer, n_expert = (size_t)s->n_expert;
    s->layer = tug_alloc_array(n_layer, sizeof *s->layer);
    s->class = tug_alloc_array(n_layer, sizeof *s->class);
    s->mats = tug_alloc_zero(n_layer * PIECES * n_expert * sizeof *s->mats);
    /* Of a layer, or of all that landed while filling. */
    s->pieces = tug_alloc_array(PIECES * (n_expert + DONE_AT_ONCE), sizeof *s->pieces);
    s->named = tug_alloc_array(n_expert, sizeof *s->named);
    if (!s->layer || !s->class || !s->mats || !s->pieces || !s->named) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the expert store");
    }
    bind_layers(s, p);
    s->temp = tug_alloc_array((size_t)tug_backend_n_threads(s->be), s->temp_bytes);
    if (!s->temp) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the expert store");
    TUG_TRY(create_cache(s, err));
    TUG_TRY(take_staging(s, err));
    const tug_reader_params reader = {
        .paths = p->paths, .n_files = p->n_files, .depth = DEPTH};
    return tug_reader_create(&s->reader, &reader, err);
}

tug_status tug_expert_store_create(tug_expert_store **out,
                                   const tug_expert_store_params *p, tug_err *err) {
    *out = NULL;
    TUG_CHECK(p->n_layer >= 1 && p->n_expert >= 1 && p->staging >= 1);
    tug_expert_store *s = tug_alloc_zero(sizeof *s);
    if (!s) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the expert store");
    s->be = p->be;
    s->n_layer = p->n_layer;
    s->n_expert = p->n_expert;
    s->step_layer = -1;
    s->source = (tug_expert_source){.ud = s,
                                    .begin = begin,
                                    .next = next,
                                    .done = done,
                                    .end = end,
                                    .hold = hold,
                                    .release = release,
                                    .room_of = room_of,
                                    .replace = replace};
    const tug_status status = create_parts(s, p, err);
    if (status != TUG_OK) {
        tug_expert_store_destroy(&s);
        return status;
    }
    *out = s;
    return TUG_OK;
}

void tug_expert_store_destroy(tug_expert_store **store) {
    tug_expert_store *s = *store;
    if (!s) return;
    tug_reader_destroy(&s->reader); /* before the memory it reads into */
    tug_expert_cache_destroy(&s->cache);
    for (int i = 0; i < s->n_class; i++) {
        for (int j = 0; j < s->class[i].n_block; j++) unpin_slots(s, &s->class[i], j);
        tug_pinned_free(&s->class[i].memory);
        tug_free(s->class[i].block);
        tug_free(s->class[i].slot);
    }
    tug_free(s->temp);
    tug_free(s->named);
    tug_free(s->pieces);
    tug_free(s->mats);
    tug_free(s->class);
    tug_free(s->layer);
    tug_free(s);
    *store = NULL;
}
