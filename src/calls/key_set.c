/* key_set.c - open addressing, at most half full.  SPDX-License-Identifier: MIT */
#include "calls/key_set.h"

#include "base/sys.h"

static uint64_t hash_of(tug_str key) { /* FNV-1a */
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < key.n; i++) {
        h = (h ^ (unsigned char)key.p[i]) * 0x100000001B3u;
    }
    return h ^ h >> 32;
}

/* Where the key is, or the free slot where it would be. */
static struct tug_key_slot *find(const tug_key_set *set, tug_str key, uint64_t hash) {
    size_t i = (size_t)hash & (set->n_slots - 1);
    for (;; i = (i + 1) & (set->n_slots - 1)) {
        struct tug_key_slot *const s = &set->slot[i];
        if (s->end == 0) return s;
        if (s->hash != hash) continue;
        if (tug_str_eq(tug_str_make(set->bytes.p + s->at, s->end - s->at), key)) return s;
    }
}

static bool grow(tug_key_set *set) {
    const size_t n = set->n_slots ? set->n_slots * 2 : 16;
    struct tug_key_slot *const old = set->slot;
    const size_t n_old = set->n_slots;
    struct tug_key_slot *slot = tug_alloc_array(n, sizeof *slot);
    if (!slot) return false;
    memset(slot, 0, n * sizeof *slot);
    set->slot = slot;
    set->n_slots = n;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].end == 0) continue;
        const tug_str key =
            tug_str_make(set->bytes.p + old[i].at, old[i].end - old[i].at);
        *find(set, key, old[i].hash) = old[i];
    }
    tug_free(old);
    return true;
}

bool tug_key_set_has(const tug_key_set *set, tug_str key) {
    return set->n > 0 && find(set, key, hash_of(key))->end != 0;
}

tug_status tug_key_set_add(tug_key_set *set, tug_str key, tug_err *err) {
    TUG_CHECK(key.n > 0);
    if (set->n >= set->n_slots / 2 && !grow(set)) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the %zu keys of a tool call",
                        set->n + 1);
    }
    struct tug_key_slot *const s = find(set, key, hash_of(key));
    if (s->end != 0) return TUG_OK;
    const size_t at = set->bytes.n;
    tug_buf_str(&set->bytes, key);
    TUG_TRY(tug_buf_ok(&set->bytes, err));
    *s = (struct tug_key_slot){hash_of(key), at, set->bytes.n};
    set->n++;
    return TUG_OK;
}

void tug_key_set_clear(tug_key_set *set) {
    tug_buf_clear(&set->bytes);
    if (set->n > 0) memset(set->slot, 0, set->n_slots * sizeof *set->slot);
    set->n = 0;
}

void tug_key_set_free(tug_key_set *set) {
    tug_buf_free(&set->bytes);
    tug_free(set->slot);
    *set = (tug_key_set){0};
}
