/* prompt_cache.c - which session a request gets, and what goes when memory is short; the
 * rules and why are in docs/PROMPT-CACHE.md.
 * SPDX-License-Identifier: MIT */
#include "serve/prompt_cache.h"

#include "base/sys.h"
#include "serve/cache_slot.h"

enum { DEFAULT_SESSIONS = 4, DEFAULT_SMALL_TAIL = 1024 };

struct tug_prompt_cache {
    tug_cache_slot *slots; /* owned, (n,) */
    int32_t n;
    uint64_t ceiling; /* UINT64_MAX: none */
    int64_t small_tail;
    uint64_t clock; /* one tick a take */
    uint64_t n_hits, n_forks, n_dropped, reused_tokens, computed_tokens;
};

/* ---- life ---------------------------------------------------------------------------- */

static uint64_t fixed_bytes(const tug_prompt_cache *pc) {
    return tug_session_get_memory(pc->slots[0].session).recurrent;
}

/* Empty sessions may fill half of the ceiling; one has to be. */
static bool has_room_for_another(const tug_prompt_cache *pc) {
    return pc->n == 0 || fixed_bytes(pc) <= pc->ceiling / 2 / (uint64_t)(pc->n + 1);
}

static tug_status create_sessions(tug_prompt_cache *pc, tug_model *model,
                                  const tug_prompt_cache_params *p, int32_t n_wanted,
                                  tug_err *err) {
    tug_session_params sp = {.n_ctx = p->n_ctx,
                             .n_batch = p->n_batch,
                             .kv_type = p->kv_type,
                             .on_prefill = p->on_prefill,
                             .ud = p->ud};
    while (pc->n < n_wanted && has_room_for_another(pc)) {
        tug_session *session = NULL;
        const tug_status s = tug_session_create(&session, model, &sp, err);
        if (s != TUG_OK) return pc->n > 0 ? TUG_OK : s;
        pc->slots[pc->n++].session = session;
        /* The further ones share what the first one was measured against. */
        sp.n_ctx = tug_session_n_ctx(session);
        sp.n_batch = tug_session_n_batch(session);
        sp.unchecked = true;
    }
    return TUG_OK;
}

tug_status tug_prompt_cache_create(tug_prompt_cache **out, tug_model *model,
                                   const tug_prompt_cache_params *params, tug_err *err) {
    *out = NULL;
    const int32_t n = params->max_sessions ? params->max_sessions : DEFAULT_SESSIONS;
    if (n < 1 || n > TUG_CACHE_MAX_SESSIONS) {
        return TUG_FAIL(err, TUG_ERANGE, "%d sessions: the number must be 1 to %d", n,
                        TUG_CACHE_MAX_SESSIONS);
    }
    tug_prompt_cache *pc = tug_alloc_zero(sizeof *pc);
    if (pc) pc->slots = tug_alloc_zero((size_t)n * sizeof *pc->slots);
    tug_status s = TUG_OK;
    if (!pc || !pc->slots) {
        s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for the prompt cache");
    } else {
        pc->ceiling = params->ceiling_bytes ? params->ceiling_bytes : UINT64_MAX;
        pc->small_tail = params->small_tail ? params->small_tail : DEFAULT_SMALL_TAIL;
        s = create_sessions(pc, model, params, n, err);
    }
    if (s != TUG_OK) {
        tug_prompt_cache_destroy(&pc);
        return s;
    }
    *out = pc;
    return TUG_OK;
}

void tug_prompt_cache_destroy(tug_prompt_cache **cache) {
    tug_prompt_cache *pc = *cache;
    if (!pc) return;
    for (int32_t i = 0; i < pc->n; i++) tug_slot_close(&pc->slots[i]);
    tug_free(pc->slots);
    tug_free(pc);
    *cache = NULL;
}

int32_t tug_prompt_cache_n_sessions(const tug_prompt_cache *pc) {
    return pc->n;
}

int64_t tug_prompt_cache_n_ctx(const tug_prompt_cache *pc) {
    return tug_session_n_ctx(pc->slots[0].session);
}

/* ---- what a session is worth --------------------------------------------------------- */

/* How much of the slot's tokens another session could go on from. */
static int64_t held_elsewhere(const tug_prompt_cache *pc, const tug_cache_slot *slot) {
    int64_t n = 0, most = 0;
    const int32_t *ids = tug_session_tokens(slot->session, &n);
    for (int32_t i = 0; i < pc->n; i++) {
        const tug_cache_slot *other = &pc->slots[i];
        if (other == slot || other->space != slot->space) continue;
        const int64_t at = tug_slot_find(other, ids, n).n_tokens;
        if (at > most) most = at;
    }
    return most;
}

/* What is lost when the slot keeps only its first n_keep tokens: tokens that would have to
 * be computed again, worth less the more requests went by without it. */
static double loss(const tug_prompt_cache *pc, const tug_cache_slot *slot,
                   int64_t n_keep) {
    const int64_t n = tug_slot_n_tokens(slot);
    if (n <= n_keep) return 0;
    const int64_t elsewhere = held_elsewhere(pc, slot);
    const int64_t kept = n_keep > elsewhere ? n_keep : elsewhere;
    if (n <= kept) return 0;
    return (double)(n - kept) / (double)(1 + pc->clock - slot->used);
}

/* The idle session that is worth least, an empty one if there is one; NULL: none. */
static tug_cache_slot *cheapest(const tug_prompt_cache *pc, const tug_cache_slot * not,
                                bool filled, double *out_loss) {
    tug_cache_slot *best = NULL;
    double best_loss = 0;
    for (int32_t i = 0; i < pc->n; i++) {
        tug_cache_slot *slot = &pc->slots[i];
        const bool is_empty = tug_slot_n_tokens(slot) == 0;
        if (slot->leased || slot == not || (filled && is_empty)) continue;
        const double l = is_empty ? -1 : loss(pc, slot, 0);
        if (best && (l > best_loss || (!(l < best_loss) && slot->used >= best->used))) {
            continue;
        }
        best = slot;
        best_loss = l;
    }
    if (out_loss) *out_loss = best_loss;
    return best;
}

/* ---- memory -------------------------------------------------------------------------- */

static uint64_t held_bytes(const tug_prompt_cache *pc) {
    uint64_t sum = 0;
    for (int32_t i = 0; i < pc->n; i++) sum += tug_slot_bytes(&pc->slots[i]);
    return sum;
}

/* Is there room for `extra` bytes more? */
static bool fits(const tug_prompt_cache *pc, uint64_t extra) {
    const uint64_t held = held_bytes(pc);
    return held <= pc->ceiling && extra <= pc->ceiling - held;
}

static bool thin_one(tug_prompt_cache *pc, bool leased) {
    tug_cache_slot *best = NULL;
    double best_loss = 0;
    for (int32_t i = 0; i < pc->n; i++) {
        tug_cache_slot *slot = &pc->slots[i];
        if (slot->leased != leased || !tug_slot_can_thin(slot)) continue;
        const double l = loss(pc, slot, 0);
        if (best && l >= best_loss) continue;
        best = slot;
        best_loss = l;
    }
    if (best) tug_slot_thin(best);
    return best != NULL;
}

static bool drop_one(tug_prompt_cache *pc, const tug_cache_slot * not ) {
    tug_cache_slot *slot = cheapest(pc, not, true, NULL);
    if (!slot) return false;
    tug_slot_empty(slot);
    pc->n_dropped++;
    return true;
}

/* Save points of idle sessions go first, then idle sessions but not `keep`. */
static bool make_room(tug_prompt_cache *pc, uint64_t extra, const tug_cache_slot *keep) {
    while (!fits(pc, extra)) {
        if (!thin_one(pc, false) && !drop_one(pc, keep)) return false;
    }
    return true;
}

/* ---- take ---------------------------------------------------------------------------- */

/* How a request will start. */
typedef struct plan {
    tug_cache_slot *target, *source; /* the same: in place; source NULL: from nothing */
    tug_cache_point point;
} plan;

static bool is_better(const tug_cache_slot *a, tug_cache_point at_a, uint64_t hint,
                      const plan *b) {
    if (at_a.n_tokens != b->point.n_tokens) return at_a.n_tokens > b->point.n_tokens;
    if (!b->source) return false;
    if (a->leased != b->source->leased) return !a->leased;
    if ((a->hint == hint) != (b->source->hint == hint)) return a->hint == hint;
    return tug_slot_n_tokens(a) < tug_slot_n_tokens(b->source);
}

static plan find_source(tug_prompt_cache *pc, const tug_prompt_want *want,
                        uint64_t hint) {
    plan best = {0};
    for (int32_t i = 0; want->reuse && i < pc->n; i++) {
        tug_cache_slot *slot = &pc->slots[i];
        if (slot->space != want->space) continue;
        const tug_cache_point at = tug_slot_find(slot, want->ids, want->n);
        if (is_better(slot, at, hint, &best)) best = (plan){NULL, slot, at};
    }
    return best;
}

/* In place, or in another session that is worth less than what would be lost here? */
static void choose_target(const tug_prompt_cache *pc, plan *p) {
    double other_loss = 0;
    tug_cache_slot *other = cheapest(pc, p->source, false, &other_loss);
    p->target = other;
    if (!p->source || p->source->leased) return;
    const int64_t tail = tug_slot_n_tokens(p->source) - p->point.n_tokens;
    if (!other || tail <= pc->small_tail ||
        loss(pc, p->source, p->point.n_tokens) <= other_loss) {
        p->target = p->source;
    }
}

/* The least that has to be held once the plan runs: what is out, and the prompt. */
static bool can_fit(const tug_prompt_cache *pc, const plan *p, int64_t n,
                    bool with_source) {
    const tug_session_memory m = tug_session_get_memory(p->target->session);
    uint64_t least = (uint64_t)n * m.per_token;
    for (int32_t i = 0; i < pc->n; i++) {
        const tug_cache_slot *slot = &pc->slots[i];
        const bool stays = slot->leased || (with_source && slot == p->source);
        least += stays && slot != p->target ? tug_slot_bytes(slot) : m.recurrent;
    }
    return least <= pc->ceiling;
}

static int32_t n_leased(const tug_prompt_cache *pc) {
    int32_t n = 0;
    for (int32_t i = 0; i < pc->n; i++) n += pc->slots[i].leased;
    return n;
}

static tug_status check_want(const tug_prompt_cache *pc, const tug_prompt_want *want,
                             tug_err *err) {
    if (want->n < 1) return TUG_FAIL(err, TUG_EUSAGE, "there are no tokens to run");
    if (want->n <= tug_prompt_cache_n_ctx(pc)) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE,
                    "the prompt has %lld tokens, but the context holds %lld: shorten it "
                    "or start the server with a larger -c",
                    (long long)want->n, (long long)tug_prompt_cache_n_ctx(pc));
}

static tug_status make_plan(tug_prompt_cache *pc, const tug_prompt_want *want,
                            uint64_t hint, plan *out, tug_err *err) {
    *out = find_source(pc, want, hint);
    choose_target(pc, out);
    if (!out->target) {
        return TUG_FAIL(err, TUG_EBUSY, "all %d sessions are in use: try again later",
                        pc->n);
    }
    if (!can_fit(pc, out, want->n, false) && n_leased(pc) > 0) {
        return TUG_FAIL(err, TUG_EBUSY,
                        "the memory for sessions is in use: try again later");
    }
    /* No room for both a conversation and its copy: then the copy takes its place. */
    if (out->source && !out->source->leased && !can_fit(pc, out, want->n, true)) {
        out->target = out->source;
    }
    return TUG_OK;
}

/* FNV-1a; a hint decides nothing that could be wrong. */
static uint64_t hash_hint(tug_str s) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * 0x100000001B3u;
    return h;
}

/* Room is made before a copy is, and what is copied from stays. */
static void carry_out(tug_prompt_cache *pc, const plan *p, const tug_prompt_want *want) {
    tug_cache_slot *slot = p->target, *source = p->source;
    if (slot == source) {
        tug_slot_start(slot, slot, p->point, want->n);
    } else {
        pc->n_dropped += tug_slot_n_tokens(slot) > 0;
        tug_slot_empty(slot);
    }
    slot->leased = true;
    slot->n_prompt = want->n;
    slot->n_reused = p->point.n_tokens;
    slot->space = want->space;
    const bool source_is_out = source && source->leased;
    if (source) source->leased = true;
    (void)make_room(pc, 0, NULL); /* what is out now may be more than the ceiling */
    if (!source || slot == source) return;
    source->leased = source_is_out;
    tug_slot_start(slot, source, p->point, want->n);
    pc->n_forks++;
}

tug_status tug_prompt_cache_take(tug_prompt_cache *pc, const tug_prompt_want *want,
                                 tug_prompt_lease *lease, tug_err *err) {
    *lease = (tug_prompt_lease){0};
    TUG_TRY(check_want(pc, want, err));
    const uint64_t hint = hash_hint(want->hint);
    plan p;
    TUG_TRY(make_plan(pc, want, hint, &p, err));
    carry_out(pc, &p, want);
    p.target->hint = hint;
    p.target->used = ++pc->clock;
    pc->n_hits += p.point.n_tokens > 0;
    pc->reused_tokens += (uint64_t)p.point.n_tokens;
    *lease = (tug_prompt_lease){p.target->session, p.point.n_tokens, p.target};
    /* What two conversations share is worth coming back to. */
    if (p.source && p.source != p.target) (void)tug_prompt_cache_save(pc, lease);
    return TUG_OK;
}

/* ---- save, give ---------------------------------------------------------------------- */

bool tug_prompt_cache_save(tug_prompt_cache *pc, tug_prompt_lease *lease) {
    tug_cache_slot *slot = lease->slot;
    const int64_t at = tug_slot_n_tokens(slot);
    tug_slot_drop_astray(slot);
    if (at == 0) return false;
    const int n = slot->n_marks;
    if (n > 0 && tug_session_mark_n_tokens(slot->marks[n - 1]) == at) return true;
    const uint64_t bytes = tug_session_get_memory(slot->session).per_mark;
    bool room = n < TUG_CACHE_MAX_MARKS;
    while (room && !fits(pc, bytes)) {
        /* The marks that are never thinned are worth an idle conversation. */
        room = thin_one(pc, false) || (!tug_slot_can_thin(slot) && drop_one(pc, slot)) ||
               thin_one(pc, true);
    }
    return (room && tug_slot_mark(slot, false)) || tug_slot_mark(slot, true);
}

void tug_prompt_cache_give(tug_prompt_cache *pc, tug_prompt_lease *lease) {
    tug_cache_slot *slot = lease->slot;
    *lease = (tug_prompt_lease){0};
    if (!slot) return;
    const int64_t n = tug_slot_n_tokens(slot);
    const int64_t n_done = n < slot->n_prompt ? n : slot->n_prompt;
    if (n_done > slot->n_reused) {
        pc->computed_tokens += (uint64_t)(n_done - slot->n_reused);
    }
    tug_slot_drop_astray(slot);
    slot->leased = false;
    slot->n_prompt = slot->n_reused = 0;
    /* The latest conversation stays, also alone above the ceiling: it was so until now. */
    (void)make_room(pc, 0, slot);
}

tug_prompt_cache_stats tug_prompt_cache_get_stats(const tug_prompt_cache *pc) {
    tug_prompt_cache_stats out = {
        .n_sessions = pc->n,
        .n_leased = n_leased(pc),
        .ceiling_bytes = pc->ceiling == UINT64_MAX ? 0 : pc->ceiling,
        .n_takes = pc->clock,
        .n_hits = pc->n_hits,
        .n_forks = pc->n_forks,
        .n_dropped = pc->n_dropped,
        .reused_tokens = pc->reused_tokens,
        .computed_tokens = pc->computed_tokens,
    };
    for (int32_t i = 0; i < pc->n; i++) {
        const tug_cache_slot *slot = &pc->slots[i];
        const tug_session_memory m = tug_session_get_memory(slot->session);
        out.n_empty += tug_slot_n_tokens(slot) == 0;
        out.n_marks += slot->n_marks;
        out.kv_bytes += m.kv;
        out.recurrent_bytes += m.recurrent;
        out.mark_bytes += m.marks;
    }
    return out;
}
