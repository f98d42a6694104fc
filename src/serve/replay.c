/* replay.c - a hash table of turns, newest first in a list; see replay.h.
 * SPDX-License-Identifier: MIT */
#include "serve/replay.h"

#include <pthread.h>
#include <string.h>

#include "base/sys.h"

enum { DEFAULT_TURNS = 4096 };
#define DEFAULT_BYTES ((size_t)64 << 20)

/* One allocation: the turn, its ids, its key. */
typedef struct turn {
    struct turn *next_same;     /* in its bucket */
    struct turn *newer, *older; /* by the last time it was asked for */
    uint64_t hash;
    size_t n_ids, n_key, bytes;
    int32_t ids[];
} turn;

struct tug_replay {
    pthread_mutex_t lock; /* guards everything below */
    turn **buckets;       /* owned, (n_buckets,), a power of two */
    size_t n_buckets;
    turn *newest, *oldest;
    size_t max_turns, max_bytes;
    tug_replay_stats stats;
};

/* ---- keys ---------------------------------------------------------------------------- */

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static tug_str strip(tug_str s) {
    while (s.n > 0 && is_space(s.p[s.n - 1])) s.n--;
    while (s.n > 0 && is_space(s.p[0])) {
        s.p++;
        s.n--;
    }
    return s;
}

/* The key as bytes that only an equal key has: the number of calls tells what follows, the
 * ids with their lengths or the text. */
static bool flatten(const tug_replay_key *key, tug_buf *out) {
    tug_buf_append(out, &key->space, sizeof key->space);
    tug_buf_append(out, &key->n_calls, sizeof key->n_calls);
    for (size_t i = 0; i < key->n_calls; i++) {
        if (key->call_ids[i].n == 0) return false;
        tug_buf_append(out, &key->call_ids[i].n, sizeof key->call_ids[i].n);
        tug_buf_str(out, key->call_ids[i]);
    }
    if (key->n_calls > 0) return !out->failed;
    const tug_str text = strip(key->text);
    tug_buf_str(out, text);
    return text.n > 0 && !out->failed;
}

/* FNV-1a: only finds the bucket, a turn is known by all of its key. */
static uint64_t hash_of(tug_str s) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * 0x100000001B3u;
    return h ^ h >> 32;
}

static tug_str key_of(const turn *t) {
    return tug_str_make((const char *)(t->ids + t->n_ids), t->n_key);
}

/* ---- the table ----------------------------------------------------------------------- */

static turn **bucket_of(tug_replay *r, uint64_t hash) {
    return &r->buckets[hash & (r->n_buckets - 1)];
}

static turn *find(tug_replay *r, tug_str key, uint64_t hash) {
    for (turn *t = *bucket_of(r, hash); t; t = t->next_same) {
        if (t->hash == hash && tug_str_eq(key_of(t), key)) return t;
    }
    return NULL;
}

static void unlink_age(tug_replay *r, turn *t) {
    *(t->newer ? &t->newer->older : &r->newest) = t->older;
    *(t->older ? &t->older->newer : &r->oldest) = t->newer;
}

static void link_newest(tug_replay *r, turn *t) {
    t->newer = NULL;
    t->older = r->newest;
    *(r->newest ? &r->newest->newer : &r->oldest) = t;
    r->newest = t;
}

static void forget(tug_replay *r, turn *t) {
    turn **at = bucket_of(r, t->hash);
    while (*at != t) at = &(*at)->next_same;
    *at = t->next_same;
    unlink_age(r, t);
    r->stats.n_turns--;
    r->stats.n_bytes -= t->bytes;
    tug_free(t);
}

static void insert(tug_replay *r, turn *t) {
    turn *old = find(r, key_of(t), t->hash);
    if (old) forget(r, old);
    while (r->oldest && (r->stats.n_turns >= r->max_turns ||
                         t->bytes > r->max_bytes - r->stats.n_bytes)) {
        forget(r, r->oldest);
    }
    turn **bucket = bucket_of(r, t->hash);
    t->next_same = *bucket;
    *bucket = t;
    link_newest(r, t);
    r->stats.n_turns++;
    r->stats.n_bytes += t->bytes;
}

static turn *make_turn(tug_str key, const int32_t *ids, size_t n, size_t max_bytes) {
    size_t bytes;
    if (__builtin_mul_overflow(n, sizeof *ids, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(turn) + key.n, &bytes) ||
        bytes > max_bytes) {
        return NULL;
    }
    turn *t = tug_alloc(bytes);
    if (!t) return NULL;
    *t = (turn){.hash = hash_of(key), .n_ids = n, .n_key = key.n, .bytes = bytes};
    if (n > 0) memcpy(t->ids, ids, n * sizeof *ids);
    memcpy(t->ids + n, key.p, key.n);
    return t;
}

/* ---- the interface ------------------------------------------------------------------- */

static tug_status create_parts(tug_replay *r, tug_err *err) {
    for (r->n_buckets = 1; r->n_buckets < r->max_turns;) r->n_buckets *= 2;
    r->buckets = tug_alloc_array(r->n_buckets, sizeof *r->buckets);
    if (!r->buckets) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for %zu turns to remember",
                        r->max_turns);
    }
    for (size_t i = 0; i < r->n_buckets; i++) r->buckets[i] = NULL;
    return TUG_OK;
}

tug_status tug_replay_create(tug_replay **out, size_t max_turns, size_t max_bytes,
                             tug_err *err) {
    *out = NULL;
    if (max_turns > SIZE_MAX / 4 / sizeof(turn *)) max_turns = 0;
    tug_replay *r = tug_alloc_zero(sizeof *r);
    if (!r) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for turns to remember");
    if (pthread_mutex_init(&r->lock, NULL) != 0) {
        tug_free(r);
        return TUG_FAIL(err, TUG_ENOMEM, "no lock for turns to remember");
    }
    r->max_turns = max_turns ? max_turns : DEFAULT_TURNS;
    r->max_bytes = max_bytes ? max_bytes : DEFAULT_BYTES;
    const tug_status s = create_parts(r, err);
    if (s != TUG_OK) {
        tug_replay_destroy(&r);
        return s;
    }
    *out = r;
    return TUG_OK;
}

void tug_replay_destroy(tug_replay **replay) {
    tug_replay *r = *replay;
    if (!r) return;
    while (r->oldest) forget(r, r->oldest);
    (void)pthread_mutex_destroy(&r->lock);
    tug_free(r->buckets);
    tug_free(r);
    *replay = NULL;
}

bool tug_replay_add(tug_replay *r, const tug_replay_key *key, const int32_t *ids,
                    size_t n) {
    tug_buf flat = {0};
    turn *t =
        flatten(key, &flat) ? make_turn(tug_buf_view(&flat), ids, n, r->max_bytes) : NULL;
    tug_buf_free(&flat);
    if (!t) return false;
    pthread_mutex_lock(&r->lock);
    insert(r, t);
    pthread_mutex_unlock(&r->lock);
    return true;
}

static bool copy_ids(const turn *t, tug_ids *out) {
    const size_t n_before = out->n;
    for (size_t i = 0; i < t->n_ids; i++) {
        if (tug_ids_push(out, t->ids[i], NULL) == TUG_OK) continue;
        out->n = n_before;
        return false;
    }
    return true;
}

bool tug_replay_find(tug_replay *r, const tug_replay_key *key, tug_ids *out) {
    tug_buf flat = {0};
    bool found = false;
    if (flatten(key, &flat)) {
        const tug_str bytes = tug_buf_view(&flat);
        pthread_mutex_lock(&r->lock);
        turn *t = find(r, bytes, hash_of(bytes));
        if (t) {
            unlink_age(r, t);
            link_newest(r, t);
            found = copy_ids(t, out);
        }
        r->stats.n_found += found;
        r->stats.n_missed += !found;
        pthread_mutex_unlock(&r->lock);
    }
    tug_buf_free(&flat);
    return found;
}

tug_replay_stats tug_replay_get_stats(tug_replay *r) {
    pthread_mutex_lock(&r->lock);
    const tug_replay_stats stats = r->stats;
    pthread_mutex_unlock(&r->lock);
    return stats;
}
