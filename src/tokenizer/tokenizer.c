/* tokenizer.c - making a tokenizer from a vocabulary, and looking tokens up.
 * Encoding is in encode.c, decoding in detok.c.  SPDX-License-Identifier: MIT */
#include "tokenizer/tokenizer.h"

#include "base/sys.h"
#include "tokenizer/tokenizer_impl.h"

/* ---- special ids --------------------------------------------------------------- */

static tug_status check_id(const tug_tokenizer *tk, const char *name, int64_t id,
                           int32_t *out, tug_err *err) {
    if (id != TUG_NO_TOKEN && (id < 0 || id >= tk->tokens.n)) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "the %s token is %lld, but the vocabulary has ids 0 to %d; the "
                        "file is damaged",
                        name, (long long)id, tk->tokens.n - 1);
    }
    *out = (int32_t)id;
    return TUG_OK;
}

static void add_eog(tug_tokenizer *tk, int32_t id) {
    if (id == TUG_NO_TOKEN || tug_tokenizer_is_eog(tk, id)) return;
    TUG_CHECK(tk->n_eog < TUG_EOG_MAX);
    tk->eog[tk->n_eog++] = id;
}

static tug_status set_special(tug_tokenizer *tk, const tug_vocab_spec *spec,
                              tug_err *err) {
    tug_special_ids *s = &tk->special;
    TUG_TRY(check_id(tk, "bos", spec->bos_id, &s->bos, err));
    TUG_TRY(check_id(tk, "eos", spec->eos_id, &s->eos, err));
    TUG_TRY(check_id(tk, "eot", spec->eot_id, &s->eot, err));
    TUG_TRY(check_id(tk, "padding", spec->pad_id, &s->pad, err));
    s->add_bos = spec->add_bos;
    if (s->add_bos && s->bos == TUG_NO_TOKEN) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "the vocabulary asks for a bos token in front of every text but "
                        "names none; the file is damaged");
    }
    /* Files name one or two of them; the models of the family use all. */
    static const char *const names[] = {"<|im_end|>", "<|endoftext|>", "<|fim_pad|>",
                                        "<|repo_name|>", "<|file_sep|>"};
    add_eog(tk, s->eos);
    add_eog(tk, s->eot);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        add_eog(tk, tug_token_table_marker(&tk->tokens, tug_str_of(names[i])));
    }
    return TUG_OK;
}

/* ---- life ---------------------------------------------------------------------- */

static tug_status init(tug_tokenizer *tk, const tug_vocab_spec *spec, tug_err *err) {
    TUG_TRY(tug_token_table_init(&tk->tokens, spec, err));
    TUG_TRY(tug_bpe_init(&tk->bpe, &tk->tokens, spec, err));
    TUG_TRY(tug_pretok_init(&tk->pretok, spec->pre, err));
    return set_special(tk, spec, err);
}

tug_status tug_tokenizer_create(tug_tokenizer **out, const tug_vocab_spec *spec,
                                tug_err *err) {
    *out = NULL;
    tug_tokenizer *tk = tug_alloc_zero(sizeof *tk);
    if (!tk) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the tokenizer");
    const tug_status s = init(tk, spec, err);
    if (s != TUG_OK) {
        tug_tokenizer_destroy(&tk);
    } else {
        *out = tk;
    }
    return s;
}

void tug_tokenizer_destroy(tug_tokenizer **tk) {
    if (!*tk) return;
    tug_pretok_deinit(&(*tk)->pretok);
    tug_bpe_deinit(&(*tk)->bpe);
    tug_token_table_deinit(&(*tk)->tokens);
    tug_free(*tk);
    *tk = NULL;
}

/* ---- lookups ------------------------------------------------------------------- */

int32_t tug_tokenizer_size(const tug_tokenizer *tk) {
    return tk->tokens.n;
}

tug_special_ids tug_tokenizer_special(const tug_tokenizer *tk) {
    return tk->special;
}

static bool in_vocabulary(const tug_tokenizer *tk, int32_t id) {
    return id >= 0 && id < tk->tokens.n;
}

tug_str tug_tokenizer_bytes(const tug_tokenizer *tk, int32_t id) {
    if (!in_vocabulary(tk, id)) return tug_str_make(NULL, 0);
    return tug_token_table_bytes(&tk->tokens, id);
}

tug_token_type tug_tokenizer_type(const tug_tokenizer *tk, int32_t id) {
    if (!in_vocabulary(tk, id)) return TUG_TOKEN_UNUSED;
    return (tug_token_type)tk->tokens.types[id];
}

int32_t tug_tokenizer_find(const tug_tokenizer *tk, tug_str bytes) {
    const int32_t marker = tug_token_table_marker(&tk->tokens, bytes);
    if (marker != TUG_NO_TOKEN) return marker;
    return tug_token_table_normal(&tk->tokens, bytes);
}

bool tug_tokenizer_is_eog(const tug_tokenizer *tk, int32_t id) {
    for (int i = 0; i < tk->n_eog; i++) {
        if (tk->eog[i] == id) return true;
    }
    return false;
}

/* ---- lists of ids -------------------------------------------------------------- */

tug_status tug_ids_push(tug_ids *ids, int32_t id, tug_err *err) {
    if (ids->n == ids->cap) {
        const size_t cap = ids->cap + ids->cap / 2 + 64;
        int32_t *p = tug_realloc_array(ids->p, cap, sizeof *p);
        if (!p) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for %zu token ids", cap);
        ids->p = p;
        ids->cap = cap;
    }
    ids->p[ids->n++] = id;
    return TUG_OK;
}

void tug_ids_free(tug_ids *ids) {
    tug_free(ids->p);
    *ids = (tug_ids){0};
}
