/* vocab.c - see vocab.h.  SPDX-License-Identifier: MIT */
#include "engine/vocab.h"

#include "base/sys.h"

#define KEY(name) "tokenizer.ggml." name

static tug_status missing(const tug_gguf *g, const char *key, tug_err *err) {
    return TUG_FAIL(err, TUG_EFORMAT, "%s has no %s; convert the model again",
                    tug_gguf_path(g), key);
}

static tug_status get_str(const tug_gguf *g, const char *key, tug_str *out,
                          tug_err *err) {
    bool found = false;
    TUG_TRY(tug_gguf_get_str(g, key, out, &found, err));
    return found ? TUG_OK : missing(g, key, err);
}

static tug_status get_id(const tug_gguf *g, const char *key, int64_t *out, tug_err *err) {
    bool found = false;
    uint32_t id = 0;
    TUG_TRY(tug_gguf_get_u32(g, key, &id, &found, err));
    *out = found ? (int64_t)id : TUG_NO_TOKEN;
    return TUG_OK;
}

/* The three arrays of a spec while it is being read. */
typedef struct vocab_arrays {
    tug_str *tokens;
    int32_t *types;
    tug_str *merges;
} vocab_arrays;

static tug_status read_arrays(vocab_arrays *a, tug_vocab_spec *spec, const tug_gguf *g,
                              tug_err *err) {
    bool found = false;
    TUG_TRY(
        tug_gguf_get_strings(g, KEY("tokens"), &a->tokens, &spec->n_tokens, &found, err));
    if (!found) return missing(g, KEY("tokens"), err);
    TUG_TRY(
        tug_gguf_get_i32s(g, KEY("token_type"), &a->types, &spec->n_types, &found, err));
    if (!found) return missing(g, KEY("token_type"), err);
    TUG_TRY(
        tug_gguf_get_strings(g, KEY("merges"), &a->merges, &spec->n_merges, &found, err));
    if (!found) return missing(g, KEY("merges"), err);
    spec->tokens = a->tokens;
    spec->types = a->types;
    spec->merges = a->merges;
    return TUG_OK;
}

static tug_status read_spec(vocab_arrays *a, tug_vocab_spec *spec, const tug_gguf *g,
                            tug_err *err) {
    tug_str model = {0};
    TUG_TRY(get_str(g, KEY("model"), &model, err));
    if (!tug_str_is(model, "gpt2")) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s has a tokenizer of the kind '%.*s'; only gpt2 (byte-level "
                        "BPE) is known",
                        tug_gguf_path(g), model.n > 40 ? 40 : (int)model.n, model.p);
    }
    TUG_TRY(get_str(g, KEY("pre"), &spec->pre, err));
    TUG_TRY(get_id(g, KEY("bos_token_id"), &spec->bos_id, err));
    TUG_TRY(get_id(g, KEY("eos_token_id"), &spec->eos_id, err));
    TUG_TRY(get_id(g, KEY("eot_token_id"), &spec->eot_id, err));
    TUG_TRY(get_id(g, KEY("padding_token_id"), &spec->pad_id, err));
    TUG_TRY(tug_gguf_get_bool(g, KEY("add_bos_token"), &spec->add_bos, NULL, err));
    return read_arrays(a, spec, g, err);
}

tug_status tug_vocab_load(tug_tokenizer **out, const tug_gguf *g, tug_err *err) {
    *out = NULL;
    vocab_arrays arrays = {0};
    tug_vocab_spec spec = {0};
    tug_status s = read_spec(&arrays, &spec, g, err);
    if (s == TUG_OK) s = tug_tokenizer_create(out, &spec, err);
    tug_free(arrays.tokens);
    tug_free(arrays.types);
    tug_free(arrays.merges);
    return s;
}
