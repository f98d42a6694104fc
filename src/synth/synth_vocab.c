/* synth_vocab.c - see synth_vocab.h.  SPDX-License-Identifier: MIT */
#include "synth/synth_vocab.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/file.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "synth/chat_template.h"
#include "tokenizer/tokenizer.h"
#include "json/json.h"

/* Commonest first. */
static const char small_letters[] = "etaoinshrdlcumwfgypbvkjxqz";
static const char capitals[] = "ETAOINSHRDLCUMWFGYPBVKJXQZ";

enum { N_BYTES = 256, QWEN_FIRST_SPECIAL = 151643, QWEN_N_TOKENS = 151669 };

static const struct {
    const char *text;
    int32_t type;
} specials[] = {
    {"<|endoftext|>", TUG_TOKEN_CONTROL},
    {"<|im_start|>", TUG_TOKEN_CONTROL},
    {"<|im_end|>", TUG_TOKEN_CONTROL},
    {"<|object_ref_start|>", TUG_TOKEN_CONTROL},
    {"<|object_ref_end|>", TUG_TOKEN_CONTROL},
    {"<|box_start|>", TUG_TOKEN_CONTROL},
    {"<|box_end|>", TUG_TOKEN_CONTROL},
    {"<|quad_start|>", TUG_TOKEN_CONTROL},
    {"<|quad_end|>", TUG_TOKEN_CONTROL},
    {"<|vision_start|>", TUG_TOKEN_CONTROL},
    {"<|vision_end|>", TUG_TOKEN_CONTROL},
    {"<|vision_pad|>", TUG_TOKEN_CONTROL},
    {"<|image_pad|>", TUG_TOKEN_CONTROL},
    {"<|video_pad|>", TUG_TOKEN_CONTROL},
    {"<tool_call>", TUG_TOKEN_USER},
    {"</tool_call>", TUG_TOKEN_USER},
    {"<|fim_prefix|>", TUG_TOKEN_CONTROL},
    {"<|fim_middle|>", TUG_TOKEN_CONTROL},
    {"<|fim_suffix|>", TUG_TOKEN_CONTROL},
    {"<|fim_pad|>", TUG_TOKEN_CONTROL},
    {"<|repo_name|>", TUG_TOKEN_CONTROL},
    {"<|file_sep|>", TUG_TOKEN_CONTROL},
    {"<tool_response>", TUG_TOKEN_USER},
    {"</tool_response>", TUG_TOKEN_USER},
    {"<think>", TUG_TOKEN_USER},
    {"</think>", TUG_TOKEN_USER},
};

enum { N_SPECIALS = sizeof specials / sizeof specials[0] };

static tug_status no_memory(tug_err *err) {
    return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the tokenizer of the model");
}

void tug_synth_vocab_free(tug_synth_vocab *v) {
    tug_arena_free(&v->arena);
    *v = (tug_synth_vocab){0};
}

/* n tokens, all padding so far. */
static tug_status alloc_tokens(tug_synth_vocab *v, int64_t n, tug_err *err) {
    v->tokens = tug_arena_array(&v->arena, (size_t)n, sizeof *v->tokens);
    v->types = tug_arena_array(&v->arena, (size_t)n, sizeof *v->types);
    if (!v->tokens || !v->types) return no_memory(err);
    v->n = n;
    for (int64_t i = 0; i < n; i++) {
        v->tokens[i] = (tug_str){0};
        v->types[i] = TUG_TOKEN_UNUSED;
    }
    return TUG_OK;
}

static tug_status pad(tug_synth_vocab *v, tug_err *err) {
    for (int64_t i = 0; i < v->n; i++) {
        char text[32];
        if (v->tokens[i].p) continue;
        (void)snprintf(text, sizeof text, "[PAD%lld]", (long long)i);
        v->tokens[i] = tug_arena_copy(&v->arena, tug_str_of(text));
        if (!v->tokens[i].p) return no_memory(err);
    }
    return TUG_OK;
}

/* ---- generated -------------------------------------------------------------------- */

/* The 256 bytes in the order of GPT-2's alphabet: printable Latin-1 first, then the others
 * as U+0100 and up. */
static tug_status add_bytes(tug_synth_vocab *v, tug_err *err) {
    int64_t id = 0;
    uint32_t other = 256;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t b = 0; b < N_BYTES; b++) {
            const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b != 0xAD);
            if (printable != (pass == 0)) continue;
            char letter[4];
            const int len = tug_utf8_encode(printable ? b : other++, letter);
            v->types[id] = TUG_TOKEN_NORMAL;
            v->tokens[id] = tug_arena_copy(&v->arena, tug_str_make(letter, (size_t)len));
            if (!v->tokens[id++].p) return no_memory(err);
        }
    }
    return TUG_OK;
}

/* Token `id` becomes left + right, and there is a merge for it. */
static tug_status add_merge(tug_synth_vocab *v, int64_t id, tug_str left, tug_str right,
                            tug_err *err) {
    tug_buf b = {0};
    tug_buf_str(&b, left);
    tug_buf_char(&b, ' ');
    tug_buf_str(&b, right);
    tug_str merge = {0}, token = {0};
    if (!b.failed) merge = tug_arena_copy(&v->arena, tug_buf_view(&b));
    tug_buf_clear(&b);
    tug_buf_str(&b, left);
    tug_buf_str(&b, right);
    if (!b.failed) token = tug_arena_copy(&v->arena, tug_buf_view(&b));
    tug_buf_free(&b);
    if (!merge.p || !token.p) return no_memory(err);
    v->merges[v->n_merges++] = merge;
    v->tokens[id] = token;
    v->types[id] = TUG_TOKEN_NORMAL;
    return TUG_OK;
}

/* Runs of 2, 4, 8, 16 blanks; then every token so far that is a letter, a blank, or made
 * here from one, longer by a letter: all of two letters, all of three, ...  No two ways
 * lead to the same token. */
static tug_status add_merges(tug_synth_vocab *v, int64_t n_normal, tug_err *err) {
    const tug_str blank = tug_str_of("\xC4\xA0"); /* U+0120 */
    int64_t id = N_BYTES;
    tug_str run = blank;
    for (int i = 0; i < 4 && id < n_normal; i++, id++) {
        TUG_TRY(add_merge(v, id, run, run, err));
        run = v->tokens[id];
    }
    tug_str roots[53];
    int n_roots = 0;
    roots[n_roots++] = blank;
    for (int i = 0; i < 26; i++) {
        roots[n_roots++] = tug_str_make(&small_letters[i], 1);
        roots[n_roots++] = tug_str_make(&capitals[i], 1);
    }
    const tug_str *prefix = roots;
    int64_t n_prefix = n_roots;
    while (id < n_normal) {
        const int64_t first = id;
        for (int64_t i = 0; i < 26 * n_prefix && id < n_normal; i++, id++) {
            TUG_TRY(add_merge(v, id, prefix[i % n_prefix],
                              tug_str_make(&small_letters[i / n_prefix], 1), err));
        }
        prefix = v->tokens + first;
        n_prefix = id - first;
    }
    return TUG_OK;
}

tug_status tug_synth_vocab_make(tug_synth_vocab *v, int64_t n, tug_err *err) {
    TUG_CHECK(n >= TUG_SYNTH_MIN_VOCAB);
    TUG_TRY(alloc_tokens(v, n, err));
    const int64_t first = n >= QWEN_N_TOKENS ? QWEN_FIRST_SPECIAL : n - N_SPECIALS;
    v->merges = tug_arena_array(&v->arena, (size_t)(first - N_BYTES), sizeof *v->merges);
    if (!v->merges) return no_memory(err);
    TUG_TRY(add_bytes(v, err));
    TUG_TRY(add_merges(v, first, err));
    for (int i = 0; i < N_SPECIALS; i++) {
        v->tokens[first + i] = tug_str_of(specials[i].text);
        v->types[first + i] = specials[i].type;
    }
    v->pad_id = first;
    v->eos_id = first + 2;
    return pad(v, err);
}

/* ---- read ------------------------------------------------------------------------- */

static tug_status not_ours(const char *path, const char *what, tug_err *err) {
    return TUG_FAIL(err, TUG_EFORMAT,
                    "%s %s: --vocab wants the tokenizer.json of a Qwen model", path,
                    what);
}

static bool id_of(const tug_json *v, int64_t *id) {
    if (!tug_json_is(v, TUG_JSON_NUMBER) || !tug_json_is_integer(v) || v->n > 7) {
        return false;
    }
    *id = strtoll(v->v.text, NULL, 10);
    return *id >= 0;
}

typedef struct source {
    const char *path;
    const tug_json *vocab, *merges, *added;
} source;

static tug_status find_parts(source *s, const tug_json *root, tug_err *err) {
    const tug_json *model = tug_json_get(root, "model");
    s->vocab = tug_json_get(model, "vocab");
    s->merges = tug_json_get(model, "merges");
    s->added = tug_json_get(root, "added_tokens");
    if (!tug_json_is(s->vocab, TUG_JSON_OBJECT)) {
        return not_ours(s->path, "has no model.vocab", err);
    }
    if (!tug_json_is(s->merges, TUG_JSON_ARRAY)) {
        return not_ours(s->path, "has no model.merges", err);
    }
    if (!tug_json_is(s->added, TUG_JSON_ARRAY)) {
        return not_ours(s->path, "has no added_tokens", err);
    }
    return TUG_OK;
}

/* One more than the largest id. */
static tug_status count_ids(const source *s, int64_t *n, tug_err *err) {
    int64_t id;
    *n = 0;
    for (size_t i = 0; i < s->vocab->n; i++) {
        if (!id_of(tug_json_value(s->vocab, i), &id)) {
            return not_ours(s->path, "has a token without an id", err);
        }
        if (id >= *n) *n = id + 1;
    }
    for (size_t i = 0; i < s->added->n; i++) {
        const tug_json *t = tug_json_at(s->added, i);
        if (!id_of(tug_json_get(t, "id"), &id) ||
            !tug_json_is(tug_json_get(t, "content"), TUG_JSON_STRING)) {
            return not_ours(s->path, "has an added token without id or content", err);
        }
        if (id >= *n) *n = id + 1;
    }
    return TUG_OK;
}

/* <|like this|> is never made from a user's text, as converters decide it. */
static bool looks_special(tug_str s) {
    return s.n > 4 && memcmp(s.p, "<|", 2) == 0 && memcmp(s.p + s.n - 2, "|>", 2) == 0;
}

static tug_status take_tokens(tug_synth_vocab *v, const source *s, tug_err *err) {
    int64_t id = 0;
    for (size_t i = 0; i < s->vocab->n; i++) {
        TUG_CHECK(id_of(tug_json_value(s->vocab, i), &id));
        v->tokens[id] = tug_json_key(s->vocab, i);
        v->types[id] = TUG_TOKEN_NORMAL;
    }
    v->eos_id = v->pad_id = -1;
    for (size_t i = 0; i < s->added->n; i++) {
        const tug_json *t = tug_json_at(s->added, i);
        const tug_json *special = tug_json_get(t, "special");
        TUG_CHECK(id_of(tug_json_get(t, "id"), &id));
        const tug_str text = tug_json_text(tug_json_get(t, "content"));
        const bool control = (tug_json_is(special, TUG_JSON_BOOL) && special->v.truth) ||
                             looks_special(text);
        v->tokens[id] = text;
        v->types[id] = control ? TUG_TOKEN_CONTROL : TUG_TOKEN_USER;
        if (tug_str_is(text, "<|im_end|>")) v->eos_id = id;
        if (tug_str_is(text, "<|endoftext|>")) v->pad_id = id;
    }
    if (v->eos_id >= 0 && v->pad_id >= 0) return TUG_OK;
    return not_ours(s->path, "has no <|im_end|> or <|endoftext|>", err);
}

/* "left right", or in newer files ["left", "right"]. */
static tug_status take_merges(tug_synth_vocab *v, const source *s, tug_err *err) {
    v->merges = tug_arena_array(&v->arena, s->merges->n, sizeof *v->merges);
    if (!v->merges) return no_memory(err);
    tug_buf b = {0};
    for (size_t i = 0; i < s->merges->n; i++) {
        const tug_json *m = tug_json_at(s->merges, i);
        if (tug_json_is(m, TUG_JSON_STRING)) {
            v->merges[v->n_merges++] = tug_json_text(m);
            continue;
        }
        if (!tug_json_is(m, TUG_JSON_ARRAY) || m->n != 2 ||
            !tug_json_is(tug_json_at(m, 0), TUG_JSON_STRING) ||
            !tug_json_is(tug_json_at(m, 1), TUG_JSON_STRING)) {
            tug_buf_free(&b);
            return not_ours(s->path, "has a merge that is no pair of texts", err);
        }
        tug_buf_clear(&b);
        tug_buf_str(&b, tug_json_text(tug_json_at(m, 0)));
        tug_buf_char(&b, ' ');
        tug_buf_str(&b, tug_json_text(tug_json_at(m, 1)));
        const tug_str merge =
            b.failed ? (tug_str){0} : tug_arena_copy(&v->arena, tug_buf_view(&b));
        if (!merge.p) {
            tug_buf_free(&b);
            return no_memory(err);
        }
        v->merges[v->n_merges++] = merge;
    }
    tug_buf_free(&b);
    return TUG_OK;
}

static tug_status take(tug_synth_vocab *v, const source *s, int64_t n, tug_err *err) {
    int64_t used = 0;
    TUG_TRY(count_ids(s, &used, err));
    if (n == 0) n = (used + 127) / 128 * 128;
    if (used > n) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "%s has %lld tokens: --vocab-size must be at least that", s->path,
                        (long long)used);
    }
    TUG_TRY(alloc_tokens(v, n, err));
    TUG_TRY(take_tokens(v, s, err));
    TUG_TRY(take_merges(v, s, err));
    return pad(v, err);
}

tug_status tug_synth_vocab_read(tug_synth_vocab *v, const char *path, int64_t n,
                                tug_err *err) {
    tug_map map;
    TUG_TRY(tug_map_open(&map, path, err));
    const tug_json *root = NULL;
    source s = {.path = path};
    tug_status status = tug_json_parse(
        tug_str_make((const char *)map.data, (size_t)map.size), &v->arena, &root, err);
    tug_map_close(&map);
    if (status == TUG_EFORMAT) return not_ours(path, "is no JSON", err);
    TUG_TRY(status);
    TUG_TRY(find_parts(&s, root, err));
    return take(v, &s, n, err);
}

/* ----------------------------------------------------------------------------------- */

void tug_synth_vocab_put(const tug_synth_vocab *v, tug_gguf_meta *m) {
    tug_gguf_put_str(m, "tokenizer.ggml.model", tug_str_of("gpt2"));
    tug_gguf_put_str(m, "tokenizer.ggml.pre", tug_str_of("qwen2"));
    tug_gguf_put_array(m, "tokenizer.ggml.tokens", TUG_GGUF_STRING, (uint64_t)v->n);
    for (int64_t i = 0; i < v->n; i++) tug_gguf_add_str(m, v->tokens[i]);
    tug_gguf_put_array(m, "tokenizer.ggml.token_type", TUG_GGUF_I32, (uint64_t)v->n);
    for (int64_t i = 0; i < v->n; i++) tug_gguf_add_i32(m, v->types[i]);
    tug_gguf_put_array(m, "tokenizer.ggml.merges", TUG_GGUF_STRING,
                       (uint64_t)v->n_merges);
    for (int64_t i = 0; i < v->n_merges; i++) tug_gguf_add_str(m, v->merges[i]);
    tug_gguf_put_u32(m, "tokenizer.ggml.eos_token_id", (uint32_t)v->eos_id);
    tug_gguf_put_u32(m, "tokenizer.ggml.padding_token_id", (uint32_t)v->pad_id);
    tug_gguf_put_u32(m, "tokenizer.ggml.bos_token_id", (uint32_t)v->pad_id);
    tug_gguf_put_bool(m, "tokenizer.ggml.add_bos_token", false);
    tug_gguf_put_str(m, "tokenizer.chat_template", tug_str_of(tug_synth_chat_template));
}
