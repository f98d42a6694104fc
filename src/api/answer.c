/* answer.c - see answer.h: the order of events, and what is kept of them.
 *
 * INVARIANTS
 *  1. Events come in the order of answer.h; anything else is a bug of the caller.
 *  2. An allocation that failed makes every later `out` fail, so that a body with a hole
 *     in it is never taken for a whole one.
 * SPDX-License-Identifier: MIT */
#include "api/answer_impl.h"
#include "base/sys.h"

static const tug_answer_ops *const ops_of[] = {
    [TUG_API_CHAT] = &tug_answer_chat_ops,
    [TUG_API_COMPLETIONS] = &tug_answer_completions_ops,
    [TUG_API_RESPONSES] = &tug_answer_responses_ops,
    [TUG_API_MESSAGES] = &tug_answer_messages_ops,
};

static bool copy(tug_answer *a, tug_str s, tug_str *out) {
    *out = tug_arena_copy(&a->arena, s);
    if (!out->p) a->failed = true;
    return out->p != NULL;
}

static bool set_id(tug_answer *a) {
    tug_buf id = {0};
    tug_buf_text(&id, a->ops->id_prefix);
    tug_buf_str(&id, a->id_part);
    const bool ok = !id.failed && copy(a, tug_buf_view(&id), &a->id);
    tug_buf_free(&id);
    return ok;
}

tug_status tug_answer_create(tug_answer **out, const tug_api_request *request,
                             tug_str model, tug_str id_part, int64_t created,
                             tug_err *err) {
    TUG_CHECK(request->n_choices >= 1);
    *out = NULL;
    tug_answer *a = tug_alloc(sizeof *a);
    if (!a) return TUG_FAIL(err, TUG_ENOMEM, "out of memory while beginning an answer");
    *a = (tug_answer){.request = request, .created = created};
    a->ops = ops_of[request->api];
    const size_t n = (size_t)request->n_choices;
    a->choice = tug_alloc_array(n, sizeof *a->choice);
    if (a->choice) memset(a->choice, 0, n * sizeof *a->choice);
    if (!a->choice || !copy(a, model, &a->model) || !copy(a, id_part, &a->id_part) ||
        !set_id(a)) {
        tug_answer_destroy(&a);
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory while beginning an answer");
    }
    *out = a;
    return TUG_OK;
}

static void free_choice(tug_answer_choice *c) {
    for (size_t i = 0; i < c->n; i++) tug_buf_free(&c->item[i].text);
    tug_free(c->item);
    tug_free(c->token);
}

void tug_answer_destroy(tug_answer **answer) {
    tug_answer *a = *answer;
    *answer = NULL;
    if (!a) return;
    if (a->choice) {
        for (int32_t i = 0; i < a->request->n_choices; i++) free_choice(&a->choice[i]);
    }
    tug_free(a->choice);
    tug_buf_free(&a->warnings);
    tug_arena_free(&a->arena);
    tug_free(a);
}

const char *tug_answer_content_type(const tug_answer *answer) {
    return answer->request->stream ? "text/event-stream" : "application/json";
}

/* ---- what is kept -------------------------------------------------------------------- */

static bool keeps_items(const tug_answer *a) {
    return !a->request->stream || a->ops->keeps_items;
}

/* One more element for an array that doubles; NULL when out of memory. */
static void *grow(tug_answer *a, void *array, size_t n, size_t *cap, size_t elem_bytes) {
    if (n < *cap) return array;
    const size_t wanted = *cap ? 2 * *cap : 8;
    void *const grown = tug_realloc_array(array, wanted, elem_bytes);
    if (grown) {
        *cap = wanted;
    } else {
        a->failed = true;
    }
    return grown;
}

static tug_answer_item *add_item(tug_answer *a) {
    tug_answer_choice *const c = tug_answer_now(a);
    tug_answer_item *const grown = grow(a, c->item, c->n, &c->cap, sizeof *grown);
    if (!grown) return NULL;
    c->item = grown;
    c->item[c->n] = (tug_answer_item){.first_token = c->n_token};
    return &c->item[c->n++];
}

static void append(tug_answer *a, tug_answer_item *item, tug_str bytes) {
    tug_buf_str(&item->text, bytes);
    a->failed |= item->text.failed;
}

static void keep_text(tug_answer *a, tug_str text) {
    tug_answer_choice *const c = tug_answer_now(a);
    tug_answer_item *item = c->n > 0 ? &c->item[c->n - 1] : NULL;
    if (text.n == 0) return;
    if (!item || item->is_call) item = add_item(a);
    if (item) append(a, item, text);
}

static void keep_token(tug_answer *a, const tug_answer_token *t) {
    tug_answer_choice *const c = tug_answer_now(a);
    tug_answer_token *const grown =
        grow(a, c->token, c->n_token, &c->cap_token, sizeof *grown);
    tug_token_logprob *const top =
        tug_arena_array(&a->arena, (size_t)t->n_top, sizeof *top);
    if (grown) c->token = grown;
    if (!top) a->failed = true;
    if (!grown || !top) return;
    tug_answer_token kept = *t;
    kept.top = top;
    if (!copy(a, t->chosen.bytes, &kept.chosen.bytes)) return;
    for (int32_t i = 0; i < t->n_top; i++) {
        top[i].logprob = t->top[i].logprob;
        if (!copy(a, t->top[i].bytes, &top[i].bytes)) return;
    }
    c->token[c->n_token++] = kept;
}

static void keep_call(tug_answer *a, tug_str id, tug_str name, size_t tool) {
    tug_answer_item *const item = add_item(a);
    if (!item) return;
    item->is_call = true;
    item->tool = tool;
    (void)copy(a, id, &item->id); /* what fails is noted */
    (void)copy(a, name, &item->name);
}

/* The call that is open, NULL when out of memory. */
static tug_answer_item *open_item(tug_answer *a) {
    tug_answer_choice *const c = tug_answer_now(a);
    return c->n > 0 && c->item[c->n - 1].is_call ? &c->item[c->n - 1] : NULL;
}

/* ---- events -------------------------------------------------------------------------- */

static void report(const tug_answer *a, tug_buf *out) {
    if (a->failed) out->failed = true;
}

/* A choice goes on, or the next one begins with its first event. */
static void enter_choice(tug_answer *a) {
    if (a->phase == TUG_ANSWER_BETWEEN) {
        TUG_CHECK(a->i_choice + 1 < a->request->n_choices);
        a->i_choice++;
        a->phase = TUG_ANSWER_CHOICE;
    }
    TUG_CHECK(a->phase == TUG_ANSWER_CHOICE);
}

void tug_answer_begin(tug_answer *a, const tug_answer_usage *usage, tug_buf *out) {
    TUG_CHECK(a->phase == TUG_ANSWER_CREATED);
    a->phase = TUG_ANSWER_CHOICE;
    a->usage = *usage;
    if (a->request->stream) a->ops->begin(a, out);
    report(a, out);
}

void tug_answer_text(tug_answer *a, tug_str text, const tug_answer_token *token,
                     tug_buf *out) {
    /* The tokens of a call are not among those of the text. */
    if (a->phase == TUG_ANSWER_CALL && text.n == 0) return;
    enter_choice(a);
    if (!a->request->logprobs) token = NULL;
    if (keeps_items(a)) {
        keep_text(a, text);
        if (token) keep_token(a, token);
    }
    if (a->request->stream && (text.n > 0 || token)) a->ops->text(a, text, token, out);
    report(a, out);
}

void tug_answer_call_begin(tug_answer *a, tug_str id, tug_str name, size_t tool,
                           tug_buf *out) {
    enter_choice(a);
    TUG_CHECK(a->ops->call_begin);
    a->phase = TUG_ANSWER_CALL;
    if (keeps_items(a)) keep_call(a, id, name, tool);
    if (a->request->stream) a->ops->call_begin(a, id, name, tool, out);
    tug_answer_now(a)->n_calls++;
    report(a, out);
}

void tug_answer_call_arguments(tug_answer *a, tug_str json, tug_buf *out) {
    TUG_CHECK(a->phase == TUG_ANSWER_CALL);
    tug_answer_item *const item = keeps_items(a) ? open_item(a) : NULL;
    if (item) append(a, item, json);
    if (a->request->stream && json.n > 0) a->ops->call_arguments(a, json, out);
    report(a, out);
}

void tug_answer_call_end(tug_answer *a, bool complete, tug_buf *out) {
    TUG_CHECK(a->phase == TUG_ANSWER_CALL);
    a->phase = TUG_ANSWER_CHOICE;
    tug_answer_item *const item = keeps_items(a) ? open_item(a) : NULL;
    if (item) item->complete = complete;
    if (complete) tug_answer_now(a)->n_complete++;
    if (a->request->stream) a->ops->call_end(a, complete, out);
    report(a, out);
}

void tug_answer_choice_end(tug_answer *a, tug_answer_end end, tug_str stop_string,
                           tug_buf *out) {
    enter_choice(a);
    tug_answer_choice *const c = tug_answer_now(a);
    a->phase = TUG_ANSWER_BETWEEN;
    c->end = end;
    if (end == TUG_END_STOP_STRING) (void)copy(a, stop_string, &c->stop_string);
    if (end == TUG_END_LOOP) {
        tug_answer_warning(a, tug_str_of("the model repeated itself without end, so its "
                                         "answer was ended there"));
    }
    if (a->request->stream) a->ops->choice_end(a, out);
    report(a, out);
}

void tug_answer_finish(tug_answer *a, const tug_answer_usage *usage, tug_buf *out) {
    TUG_CHECK(a->phase == TUG_ANSWER_BETWEEN);
    a->phase = TUG_ANSWER_OVER;
    a->usage = *usage;
    if (a->request->stream) {
        a->ops->finish(a, out);
    } else {
        a->ops->body(a, out);
    }
    report(a, out);
}

void tug_answer_alive(tug_answer *a, int64_t done, int64_t total, tug_buf *out) {
    TUG_CHECK(a->phase != TUG_ANSWER_CREATED && a->phase != TUG_ANSWER_OVER);
    if (a->request->stream) a->ops->alive(a, done, total, out);
    report(a, out);
}

void tug_answer_error(tug_answer *a, tug_status code, tug_str sentence, tug_buf *out) {
    TUG_CHECK(a->phase != TUG_ANSWER_CREATED && a->phase != TUG_ANSWER_OVER);
    TUG_CHECK(a->request->stream);
    a->phase = TUG_ANSWER_OVER;
    a->ops->error(a, tug_api_fault_of(code), sentence, out);
    report(a, out);
}

/* ---- helpers of the writers ---------------------------------------------------------- */

void tug_answer_warning(tug_answer *a, tug_str sentence) {
    if (sentence.n == 0) return;
    if (a->warnings.n > 0) tug_buf_char(&a->warnings, '\n');
    tug_buf_str(&a->warnings, sentence);
    a->failed |= a->warnings.failed;
}

tug_str tug_answer_new_warnings(tug_answer *a) {
    if (a->n_warned == a->warnings.n) return tug_str_make(NULL, 0);
    size_t at = a->n_warned;
    if (at > 0) at++; /* the line break before it */
    a->n_warned = a->warnings.n;
    return tug_str_make(a->warnings.p + at, a->warnings.n - at);
}

tug_str tug_answer_item_id(tug_answer *a, const char *prefix, int64_t number) {
    tug_buf b = {0};
    tug_str id = {0};
    tug_buf_text(&b, prefix);
    tug_buf_str(&b, a->id_part);
    tug_buf_printf(&b, "_%lld", (long long)number);
    a->failed |= b.failed;
    if (!b.failed) (void)copy(a, tug_buf_view(&b), &id);
    tug_buf_free(&b);
    return id;
}

void tug_answer_open_event(tug_buf *out, const char *event) {
    if (event) {
        tug_buf_text(out, "event: ");
        tug_buf_text(out, event);
        tug_buf_char(out, '\n');
    }
    tug_buf_text(out, "data: ");
}

void tug_answer_close_event(tug_buf *out) {
    tug_buf_text(out, "\n\n");
}
