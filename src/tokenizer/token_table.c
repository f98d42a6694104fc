/* token_table.c - see token_table.h.  SPDX-License-Identifier: MIT */
#include "tokenizer/token_table.h"

#include "base/sys.h"
#include "base/utf8.h"
#include "tokenizer/hash.h"

/* ---- GPT-2's byte alphabet ----------------------------------------------------- */

/* Every byte is written as one printable character: the printable ones of Latin-1 as
 * themselves, the other 68 in order as U+0100 and up.  Returns -1 for all else. */
static int byte_of_letter(uint32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xFF && cp != 0xAD)) {
        return (int)cp;
    }
    if (cp >= 0x100 && cp <= 0x120) return (int)(cp - 0x100);        /* 00..20 */
    if (cp >= 0x121 && cp <= 0x142) return (int)(cp - 0x121 + 0x7F); /* 7F..A0 */
    return cp == 0x143 ? 0xAD : -1;
}

bool tug_token_unspell(tug_str spelling, tug_buf *out) {
    size_t i = 0;
    while (i < spelling.n) {
        const int len = tug_utf8_next(spelling.p + i, spelling.n - i);
        if (len <= 0) return false;
        const int byte = byte_of_letter(tug_utf8_decode(spelling.p + i, len));
        if (byte < 0) return false;
        tug_buf_char(out, (char)(unsigned char)byte);
        i += (size_t)len;
    }
    return true;
}

/* ---- bytes to id --------------------------------------------------------------- */

static bool is_marker(int32_t type) {
    return type == TUG_TOKEN_CONTROL || type == TUG_TOKEN_USER;
}

/* The slot of these bytes: the one that holds them, or the free one where they go. */
static int32_t *index_slot(const tug_token_table *t, const tug_token_index *index,
                           tug_str bytes) {
    uint64_t i = tug_hash_bytes(bytes.p, bytes.n) & index->mask;
    for (;; i = (i + 1) & index->mask) {
        int32_t *slot = &index->slot[i];
        if (*slot == TUG_NO_TOKEN) return slot;
        if (tug_str_eq(tug_token_table_bytes(t, *slot), bytes)) return slot;
    }
}

int32_t tug_token_table_normal(const tug_token_table *t, tug_str bytes) {
    return *index_slot(t, &t->normal, bytes);
}

int32_t tug_token_table_marker(const tug_token_table *t, tug_str bytes) {
    return *index_slot(t, &t->markers, bytes);
}

/* Room for n tokens, at most half full so that a search ends. */
static tug_status index_init(tug_token_index *index, uint64_t n, tug_err *err) {
    uint64_t size = 8;
    while (size < 2 * n) size *= 2;
    index->slot = tug_alloc_array(size, sizeof *index->slot);
    if (!index->slot) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for an index of %llu tokens",
                        (unsigned long long)n);
    }
    for (uint64_t i = 0; i < size; i++) index->slot[i] = TUG_NO_TOKEN;
    index->mask = size - 1;
    return TUG_OK;
}

static tug_status index_add(tug_token_table *t, tug_token_index *index, int32_t id,
                            tug_err *err) {
    int32_t *slot = index_slot(t, index, tug_token_table_bytes(t, id));
    if (*slot != TUG_NO_TOKEN) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "tokens %d and %d of the vocabulary have the same text; the "
                        "file is damaged",
                        *slot, id);
    }
    *slot = id;
    return TUG_OK;
}

static tug_status build_indexes(tug_token_table *t, tug_err *err) {
    uint64_t n_normal = 0, n_markers = 0;
    for (int32_t id = 0; id < t->n; id++) {
        n_normal += t->types[id] == TUG_TOKEN_NORMAL;
        n_markers += is_marker(t->types[id]);
    }
    TUG_TRY(index_init(&t->normal, n_normal, err));
    TUG_TRY(index_init(&t->markers, n_markers, err));
    bool has_length[TUG_MARKER_BYTES_MAX + 1] = {false};
    for (int32_t id = 0; id < t->n; id++) {
        if (t->types[id] == TUG_TOKEN_NORMAL) TUG_TRY(index_add(t, &t->normal, id, err));
        if (!is_marker(t->types[id])) continue;
        TUG_TRY(index_add(t, &t->markers, id, err));
        const tug_str text = tug_token_table_bytes(t, id);
        t->marker_starts[(unsigned char)text.p[0]] = true;
        has_length[text.n] = true;
    }
    for (int len = TUG_MARKER_BYTES_MAX; len > 0; len--) {
        if (has_length[len]) t->marker_lengths[t->n_marker_lengths++] = (uint8_t)len;
    }
    return TUG_OK;
}

/* ---- reading the vocabulary ---------------------------------------------------- */

static tug_status check_token(int32_t id, tug_str text, int32_t type, tug_err *err) {
    if (type < TUG_TOKEN_NORMAL || type > TUG_TOKEN_UNUSED) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "token %d has type %d; a byte-level vocabulary has types 1 to 5",
                        id, type);
    }
    if (text.n == 0 && type != TUG_TOKEN_UNUSED) {
        return TUG_FAIL(err, TUG_EFORMAT, "token %d is empty; the file is damaged", id);
    }
    const size_t limit = is_marker(type) ? TUG_MARKER_BYTES_MAX : TUG_TOKEN_BYTES_MAX;
    if (text.n > limit) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "token %d is %zu bytes long; one of type %d may have %zu", id,
                        text.n, type, limit);
    }
    return TUG_OK;
}

/* Appends what token `id` stands for.  Only normal tokens are spelled; the others are in
 * the file as they are in text. */
static tug_status append_token(tug_buf *bytes, int32_t id, tug_str text, int32_t type,
                               tug_err *err) {
    TUG_TRY(check_token(id, text, type, err));
    if (type == TUG_TOKEN_NORMAL) {
        if (!tug_token_unspell(text, bytes)) {
            return TUG_FAIL(err, TUG_EFORMAT,
                            "token %d, '%.*s', is not spelled in GPT-2's byte alphabet; "
                            "convert the model again",
                            id, text.n > 40 ? 40 : (int)text.n, text.p);
        }
    } else {
        size_t bad_at = 0;
        if (!tug_utf8_valid(text.p, text.n, &bad_at)) {
            return TUG_FAIL(err, TUG_EFORMAT, "token %d is no UTF-8 at byte %zu", id,
                            bad_at);
        }
        tug_buf_str(bytes, text);
    }
    if (bytes->n > UINT32_MAX) {
        return TUG_FAIL(err, TUG_ERANGE, "the vocabulary has more than 4 GiB of text");
    }
    return tug_buf_ok(bytes, err);
}

static tug_status fill(tug_token_table *t, const tug_vocab_spec *spec, tug_buf *bytes,
                       tug_err *err) {
    t->at = tug_alloc_array((size_t)t->n + 1, sizeof *t->at);
    t->types = tug_alloc_array((size_t)t->n, sizeof *t->types);
    if (!t->at || !t->types) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a vocabulary of %d tokens",
                        t->n);
    }
    t->at[0] = 0;
    for (int32_t id = 0; id < t->n; id++) {
        const int32_t type = spec->types[id];
        TUG_TRY(append_token(bytes, id, spec->tokens[id], type, err));
        t->types[id] = (uint8_t)type;
        t->at[id + 1] = (uint32_t)bytes->n;
    }
    return TUG_OK;
}

tug_status tug_token_table_init(tug_token_table *t, const tug_vocab_spec *spec,
                                tug_err *err) {
    *t = (tug_token_table){0};
    if (spec->n_tokens == 0 || spec->n_tokens >= INT32_MAX) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "the vocabulary has %llu tokens; a model has 1 to 2147483646",
                        (unsigned long long)spec->n_tokens);
    }
    if (spec->n_types != spec->n_tokens) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "the vocabulary has %llu tokens but %llu token types; the file "
                        "is damaged",
                        (unsigned long long)spec->n_tokens,
                        (unsigned long long)spec->n_types);
    }
    t->n = (int32_t)spec->n_tokens;
    tug_buf bytes = {0};
    tug_status s = fill(t, spec, &bytes, err);
    t->bytes = bytes.p; /* the table owns them from here on */
    if (s == TUG_OK) s = build_indexes(t, err);
    if (s != TUG_OK) tug_token_table_deinit(t);
    return s;
}

void tug_token_table_deinit(tug_token_table *t) {
    tug_free(t->bytes);
    tug_free(t->at);
    tug_free(t->types);
    tug_free(t->normal.slot);
    tug_free(t->markers.slot);
    *t = (tug_token_table){0};
}
