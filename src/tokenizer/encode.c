/* encode.c - text to ids: cut at markers, normalise, cut into pieces, merge.
 *
 * Source code repeats its words, so most pieces are found in a cache of earlier results
 * and are never merged again.  The cache is direct-mapped: a new piece takes the place of
 * whatever had its slot, so it needs no bookkeeping and never grows.
 *
 * SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "base/utf8.h"
#include "tokenizer/hash.h"
#include "tokenizer/nfc.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"

enum {
    TEXT_MAX_BYTES = 512 << 20, /* NFC may triple it; ids and offsets stay below 2^31 */
    CACHE_SLOTS =
        32768, /* 2 MiB, about a processor's L2: half is a fifth slower, twice a fifth faster */
    CACHED_BYTES = 30,
    CACHED_IDS = 8
};

/* One cache line. */
typedef struct cached_piece {
    uint8_t n_bytes; /* 0 where free */
    uint8_t n_ids;
    char bytes[CACHED_BYTES];
    int32_t ids[CACHED_IDS];
} cached_piece;
_Static_assert(sizeof(cached_piece) == 64, "one piece per cache line");

struct tug_encoder {
    const tug_tokenizer *tk;  /* borrowed */
    cached_piece *cache;      /* owned, (CACHE_SLOTS,) */
    pcre2_match_data *result; /* owned */
    tug_bpe_scratch merging;
    tug_nfc nfc;
    tug_buf joined; /* the text of several segments */
};

tug_status tug_encoder_create(tug_encoder **out, const tug_tokenizer *tk, tug_err *err) {
    *out = NULL;
    tug_encoder *e = tug_alloc_zero(sizeof *e);
    if (!e) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for an encoder");
    e->tk = tk;
    e->cache = tug_alloc_aligned(sizeof *e->cache, CACHE_SLOTS * sizeof *e->cache);
    tug_status s;
    if (e->cache) {
        memset(e->cache, 0, CACHE_SLOTS * sizeof *e->cache);
        s = tug_pretok_result_create(&e->result, &tk->pretok, err);
    } else {
        s = TUG_FAIL(err, TUG_ENOMEM, "out of memory for an encoder's cache");
    }
    if (s != TUG_OK) {
        tug_encoder_destroy(&e);
    } else {
        *out = e;
    }
    return s;
}

void tug_encoder_destroy(tug_encoder **e) {
    if (!*e) return;
    tug_pretok_result_destroy((*e)->result);
    tug_bpe_scratch_deinit(&(*e)->merging);
    tug_nfc_deinit(&(*e)->nfc);
    tug_buf_free(&(*e)->joined);
    tug_free((*e)->cache);
    tug_free(*e);
    *e = NULL;
}

/* ---- ordinary text ------------------------------------------------------------- */

static tug_status encode_piece(tug_encoder *e, tug_str piece, tug_ids *out,
                               tug_err *err) {
    if (piece.n > CACHED_BYTES) {
        return tug_bpe_encode(&e->tk->bpe, &e->merging, piece, out, err);
    }
    cached_piece *c = &e->cache[tug_hash_bytes(piece.p, piece.n) % CACHE_SLOTS];
    if (c->n_bytes == piece.n && memcmp(c->bytes, piece.p, piece.n) == 0) {
        for (int i = 0; i < c->n_ids; i++) TUG_TRY(tug_ids_push(out, c->ids[i], err));
        return TUG_OK;
    }
    const size_t before = out->n;
    TUG_TRY(tug_bpe_encode(&e->tk->bpe, &e->merging, piece, out, err));
    const size_t n_ids = out->n - before;
    if (n_ids > CACHED_IDS) return TUG_OK;
    c->n_bytes = (uint8_t)piece.n;
    c->n_ids = (uint8_t)n_ids;
    memcpy(c->bytes, piece.p, piece.n);
    memcpy(c->ids, out->p + before, n_ids * sizeof *c->ids);
    return TUG_OK;
}

/* Text without markers. */
static tug_status encode_plain(tug_encoder *e, tug_str text, tug_ids *out, tug_err *err) {
    if (text.n == 0) return TUG_OK;
    TUG_TRY(tug_nfc_apply(&e->nfc, text, &text, err));
    while (text.n > 0) {
        size_t n = 0;
        TUG_TRY(tug_pretok_piece(&e->tk->pretok, e->result, text, &n, err));
        TUG_TRY(encode_piece(e, tug_str_make(text.p, n), out, err));
        text = tug_str_make(text.p + n, text.n - n);
    }
    return TUG_OK;
}

/* ---- markers ------------------------------------------------------------------- */

/* A reader of the segments that moves forward with the text. */
typedef struct rights {
    const tug_segment *segments; /* (n,) */
    size_t n;
    size_t i;     /* the segment that is being looked at */
    size_t start; /* its first byte in the joined text */
} rights;

/* Do all bytes of [from, to) allow control tokens?  `from` never goes back. */
static bool control_allowed(rights *r, size_t from, size_t to) {
    while (r->i < r->n && r->start + r->segments[r->i].text.n <= from) {
        r->start += r->segments[r->i++].text.n;
    }
    size_t start = r->start;
    for (size_t i = r->i; i < r->n && start < to; start += r->segments[i++].text.n) {
        if (r->segments[i].text.n > 0 && r->segments[i].mode != TUG_CONTROL_PARSED) {
            return false;
        }
    }
    return true;
}

/* The longest marker at text[at] that may stand there, or TUG_NO_TOKEN. */
static int32_t marker_at(const tug_token_table *t, rights *r, tug_str text, size_t at) {
    for (int i = 0; i < t->n_marker_lengths; i++) {
        const size_t n = t->marker_lengths[i];
        if (n > text.n - at) continue;
        const int32_t id = tug_token_table_marker(t, tug_str_make(text.p + at, n));
        if (id == TUG_NO_TOKEN) continue;
        if (t->types[id] == TUG_TOKEN_USER || control_allowed(r, at, at + n)) return id;
    }
    return TUG_NO_TOKEN;
}

static tug_status encode_text(tug_encoder *e, tug_str text, rights r, tug_ids *out,
                              tug_err *err) {
    const tug_token_table *t = &e->tk->tokens;
    if (text.n > TEXT_MAX_BYTES) {
        return TUG_FAIL(err, TUG_ERANGE, "a text of %zu bytes is too long: %d at most",
                        text.n, TEXT_MAX_BYTES);
    }
    size_t bad_at = 0;
    if (!tug_utf8_valid(text.p, text.n, &bad_at)) {
        return TUG_FAIL(err, TUG_EFORMAT, "the text is not UTF-8 at byte %zu", bad_at);
    }
    size_t done = 0;
    for (size_t at = 0; at < text.n;) {
        int32_t id = TUG_NO_TOKEN;
        if (t->marker_starts[(unsigned char)text.p[at]]) id = marker_at(t, &r, text, at);
        if (id == TUG_NO_TOKEN) {
            at++;
            continue;
        }
        TUG_TRY(encode_plain(e, tug_str_make(text.p + done, at - done), out, err));
        TUG_TRY(tug_ids_push(out, id, err));
        at += tug_token_table_bytes(t, id).n;
        done = at;
    }
    return encode_plain(e, tug_str_make(text.p + done, text.n - done), out, err);
}

/* ---- the calls ----------------------------------------------------------------- */

tug_status tug_encode_segments(tug_encoder *e, const tug_segment *segments, size_t n,
                               tug_ids *out, tug_err *err) {
    tug_str text = {0};
    if (n == 1) {
        text = segments[0].text;
    } else {
        tug_buf_clear(&e->joined);
        for (size_t i = 0; i < n; i++) tug_buf_str(&e->joined, segments[i].text);
        TUG_TRY(tug_buf_ok(&e->joined, err));
        text = tug_buf_view(&e->joined);
    }
    const size_t before = out->n;
    const tug_status s = encode_text(e, text, (rights){segments, n, 0, 0}, out, err);
    if (s != TUG_OK) out->n = before;
    return s;
}

tug_status tug_encode(tug_encoder *e, tug_str text, tug_control_mode mode, tug_ids *out,
                      tug_err *err) {
    const tug_segment whole = {text, mode};
    return tug_encode_segments(e, &whole, 1, out, err);
}
