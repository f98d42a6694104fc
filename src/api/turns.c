/* turns.c - see turns.h.  SPDX-License-Identifier: MIT */
#include "api/turns.h"

void tug_turns_free(tug_turns *t) {
    tug_buf_free(&t->joined);
}

static void forget(tug_turns *t) {
    t->role = NULL;
    t->text = tug_str_make(NULL, 0);
    tug_buf_clear(&t->joined);
}

static tug_chat_message *open_turn(const tug_turns *t) {
    TUG_CHECK(t->role && t->list.n > 0);
    return &t->list.m[t->list.n - 1];
}

void tug_turns_drop(tug_turns *t) {
    (void)open_turn(t);
    t->list.n--;
    forget(t);
}

bool tug_turns_is_empty(const tug_turns *t) {
    return !t->text.p && open_turn(t)->n_calls == 0;
}

tug_status tug_turns_close(tug_turns *t, tug_err *err) {
    if (!t->role) return TUG_OK;
    TUG_TRY(tug_buf_ok(&t->joined, err));
    tug_str text = t->text;
    if (t->joined.n > 0) {
        text = tug_arena_copy(t->list.arena, tug_buf_view(&t->joined));
        if (!text.p) return tug_field_no_memory(err);
    }
    open_turn(t)->content = text;
    forget(t);
    return TUG_OK;
}

tug_status tug_turns_open(tug_turns *t, const char *role, tug_err *err) {
    TUG_TRY(tug_turns_close(t, err));
    TUG_TRY(tug_api_messages_add(&t->list, role, tug_str_make(NULL, 0), err));
    t->role = role;
    return TUG_OK;
}

tug_status tug_turns_go_on(tug_turns *t, const char *role, tug_err *err) {
    if (t->role && tug_str_is(tug_str_of(t->role), role)) return TUG_OK;
    return tug_turns_open(t, role, err);
}

void tug_turns_text(tug_turns *t, tug_str text) {
    TUG_CHECK(t->role);
    if (!t->text.p) {
        t->text = text.p ? text : tug_str_of("");
        return;
    }
    if (t->joined.n == 0) tug_buf_str(&t->joined, t->text);
    tug_buf_char(&t->joined, '\n');
    tug_buf_str(&t->joined, text);
}

tug_status tug_turns_call(tug_turns *t, tug_chat_call call, tug_err *err) {
    (void)open_turn(t);
    return tug_api_messages_add_call(&t->list, call, err);
}

/* ---- blocks -------------------------------------------------------------------------- */

static bool is_one_of(tug_str s, const char *const *list) {
    while (*list && !tug_str_is(s, *list)) list++;
    return *list != NULL;
}

/* The text of a document that is sent as such, not as a picture of it. */
static const tug_json *document_text(const tug_json *block) {
    const tug_json *const source = tug_json_get(block, "source");
    const tug_json *const type = tug_json_get(source, "type");
    const bool is_text =
        tug_json_is(type, TUG_JSON_STRING) && tug_str_is(tug_json_text(type), "text");
    return is_text ? tug_json_get(source, "data") : NULL;
}

tug_status tug_turns_block_text(const tug_json *block, const char *path,
                                bool media_is_refused, tug_str *out, tug_err *err) {
    static const char *const texts[] = {"text", "input_text", "output_text", NULL};
    static const char *const media[] = {"image",      "input_image", "document", "file",
                                        "input_file", "input_audio", NULL};
    *out = tug_str_make(NULL, 0);
    if (block->kind != TUG_JSON_OBJECT) {
        return TUG_FAIL(err, TUG_EFORMAT, "%s is %s; it must be an object with a type",
                        path, tug_json_kind_text(block));
    }
    tug_str type = tug_str_make(NULL, 0);
    TUG_TRY(tug_field_str(block, path, "type", &type, err));
    if (!type.p) return tug_field_wrong(err, path, "type", NULL, "a string");
    const char *const key = tug_str_is(type, "refusal") ? "refusal" : "text";
    const tug_json *text = tug_json_get(block, key);
    if (tug_str_is(type, "document") && document_text(block)) {
        text = document_text(block);
    } else if (is_one_of(type, media)) {
        *out = tug_str_of("[not shown: this model reads only text]");
        if (!media_is_refused) return TUG_OK;
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "%s is of type %s; the model reads only text, so leave it out",
                        path, type.p);
    } else if (!is_one_of(type, texts) && !tug_str_is(type, "refusal")) {
        return TUG_OK;
    }
    if (!tug_json_is(text, TUG_JSON_STRING)) {
        return tug_field_wrong(err, path, key, text, "a string");
    }
    *out = tug_json_text(text);
    return TUG_OK;
}

/* ---- results of calls ---------------------------------------------------------------- */

static void add_line(tug_buf *out, tug_str text, bool *any) {
    if (*any) tug_buf_char(out, '\n');
    *any = true;
    tug_buf_str(out, text);
}

/* The texts of the blocks, and of the blocks inside of them (search results). */
static tug_status join_blocks(const tug_json *blocks, const char *path, tug_buf *out,
                              bool *any, tug_err *err) {
    for (size_t i = 0; i < blocks->n; i++) {
        const tug_json *const block = tug_json_at(blocks, i);
        const tug_field_path at = tug_field_path_make("%s[%zu]", path, i);
        tug_str text;
        TUG_TRY(tug_turns_block_text(block, at.text, false, &text, err));
        if (text.p) add_line(out, text, any);
        const tug_json *const inner = tug_json_get(block, "content");
        if (!text.p && tug_json_is(inner, TUG_JSON_ARRAY)) {
            const tug_field_path within = tug_field_path_make("%s.content", at.text);
            TUG_TRY(join_blocks(inner, within.text, out, any, err));
        }
    }
    return TUG_OK;
}

static bool says_error(tug_str text) {
    static const char word[] = "error";
    const size_t n = sizeof word - 1;
    for (size_t i = 0; i + n <= text.n && text.p[i] != '\n'; i++) {
        size_t same = 0;
        while (same < n && (text.p[i + same] | 0x20) == word[same]) same++;
        if (same == n) return true;
    }
    return false;
}

static tug_status result_text(const tug_json *content, const char *path, bool is_error,
                              tug_buf *out, tug_err *err) {
    bool any = false;
    tug_buf text = {0};
    tug_status s = TUG_OK;
    if (tug_json_is(content, TUG_JSON_STRING)) {
        tug_buf_str(&text, tug_json_text(content));
    } else if (tug_json_is(content, TUG_JSON_ARRAY)) {
        s = join_blocks(content, path, &text, &any, err);
    } else if (tug_field_is_said(content)) {
        s = TUG_FAIL(err, TUG_EFORMAT, "%s is %s; it must be a string or an array", path,
                     tug_json_kind_text(content));
    }
    if (s == TUG_OK) s = tug_buf_ok(&text, err);
    if (is_error && !says_error(tug_buf_view(&text))) tug_buf_text(out, "Error: ");
    tug_buf_str(out, tug_buf_view(&text));
    tug_buf_free(&text);
    return s == TUG_OK ? tug_buf_ok(out, err) : s;
}

tug_status tug_turns_result(tug_turns *t, const tug_json *content, const char *path,
                            bool is_error, tug_err *err) {
    TUG_TRY(tug_turns_close(t, err));
    if (tug_json_is(content, TUG_JSON_STRING) && !is_error) {
        return tug_api_messages_add(&t->list, "tool", tug_json_text(content), err);
    }
    tug_buf text = {0};
    tug_status s = result_text(content, path, is_error, &text, err);
    if (s == TUG_OK) {
        const tug_str kept = tug_arena_copy(t->list.arena, tug_buf_view(&text));
        s = kept.p ? tug_api_messages_add(&t->list, "tool", kept, err)
                   : tug_field_no_memory(err);
    }
    tug_buf_free(&text);
    return s;
}
