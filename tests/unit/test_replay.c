/* test_replay.c - the turns that the model wrote come back token by token, whatever the
 * client made of them.  SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "chat/chat_request.h"
#include "fault/fault.h"
#include "serve/prompt_ids.h"
#include "serve/replay.h"
#include "support/tiny_vocab.h"

static tug_tokenizer *tk;
static tug_encoder *encoder;

static int setup(void **state) {
    static tiny_vocab vocab;
    (void)state;
    tiny_vocab_make(&vocab);
    assert_int_equal(tug_tokenizer_create(&tk, &vocab.spec, NULL), TUG_OK);
    assert_int_equal(tug_encoder_create(&encoder, tk, NULL), TUG_OK);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    tug_encoder_destroy(&encoder);
    tug_tokenizer_destroy(&tk);
    return 0;
}

/* ---- helpers ------------------------------------------------------------------------- */

/* The ids of a request, and its prompt's text when wanted. */
static tug_status build(tug_replay *replay, int64_t space, const char *request,
                        tug_prompt_ids *out, tug_buf *text, tug_err *err) {
    tug_arena arena = {0};
    tug_chat_prompt prompt = {0};
    const tug_json *json = NULL;
    const tug_prompt_turn *turns = NULL;
    tug_chat chat;
    tug_status s = tug_json_parse(tug_str_of(request), &arena, &json, err);
    if (s == TUG_OK) s = tug_chat_from_json(json, &arena, &chat, err);
    if (s == TUG_OK && replay) {
        s = tug_prompt_recall(replay, space, tk, &chat, &arena, &turns, err);
    }
    if (s == TUG_OK) s = tug_chat_render(&chat, &prompt, err);
    if (s == TUG_OK) {
        s = tug_prompt_ids_build(encoder, tk, &prompt, turns, out, err);
    }
    if (text) tug_buf_str(text, tug_buf_view(&prompt.text));
    tug_chat_prompt_free(&prompt);
    tug_arena_free(&arena);
    return s;
}

/* A text one token a byte, as no encoder would write it. */
static size_t bytes_as_ids(const char *text, int32_t *ids) {
    size_t n = 0;
    for (; text[n]; n++) ids[n] = tug_tokenizer_find(tk, tug_str_make(text + n, 1));
    return n;
}

static void encode_to(tug_ids *ids, const char *text) {
    assert_int_equal(tug_encode(encoder, tug_str_of(text), TUG_CONTROL_PARSED, ids, NULL),
                     TUG_OK);
}

static void expect_ids(const tug_prompt_ids *p, const tug_ids *want) {
    assert_int_equal(p->ids.n, want->n);
    assert_memory_equal(p->ids.p, want->p, want->n * sizeof *want->p);
}

static tug_replay *replay_of(size_t turns, size_t bytes) {
    tug_replay *r = NULL;
    assert_int_equal(tug_replay_create(&r, turns, bytes, NULL), TUG_OK);
    return r;
}

static bool add_text(tug_replay *r, int64_t space, const char *text, const char *ids) {
    int32_t list[256];
    const tug_replay_key key = {.space = space, .text = tug_str_of(text)};
    return tug_replay_add(r, &key, list, bytes_as_ids(ids, list));
}

/* Number of ids found, -1: not known. */
static int find_text(tug_replay *r, int64_t space, const char *text) {
    tug_ids ids = {0};
    const tug_replay_key key = {.space = space, .text = tug_str_of(text)};
    const bool found = tug_replay_find(r, &key, &ids);
    const int n = found ? (int)ids.n : -1;
    assert_true(found || ids.n == 0);
    tug_ids_free(&ids);
    return n;
}

/* ---- a conversation ------------------------------------------------------------------ */

#define SAMPLED                                                            \
    "hello\n\n<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n" \
    "</function>\n</tool_call>"
#define FIRST "[{\"role\":\"user\",\"content\":\"hello world\"}"
/* As a client might send the turn back: another order, other numbers, no text. */
#define RETURNED(id)                                                                  \
    FIRST ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"" id   \
          "\",\"function\":{\"name\":\"f\",\"arguments\":\"{ \\\"b\\\" : 2,\\\"a\\\"" \
          ":1.0}\"}}]},{\"role\":\"tool\",\"content\":\"hello\"}"

static void a_turn_with_calls_comes_back_as_sampled(void **state) {
    (void)state;
    tug_replay *r = replay_of(0, 0);
    tug_prompt_ids first = {0}, second = {0}, other = {0};
    tug_ids want = {0};
    tug_buf text = {0};
    tug_err err;
    assert_int_equal(build(r, 0, "{\"messages\":" FIRST "]}", &first, NULL, &err),
                     TUG_OK);
    int32_t sampled[256];
    const size_t n = bytes_as_ids(SAMPLED, sampled);
    const tug_str id = tug_str_of("call_77");
    const tug_replay_key key = {.call_ids = &id, .n_calls = 1, .text = tug_str_of("x")};
    assert_true(tug_replay_add(r, &key, sampled, n));

    for (size_t i = 0; i < first.ids.n; i++) {
        assert_int_equal(tug_ids_push(&want, first.ids.p[i], NULL), TUG_OK);
    }
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(tug_ids_push(&want, sampled[i], NULL), TUG_OK);
    }
    encode_to(&want, "<|im_end|>\n<|im_start|>user\n<tool_response>\nhello\n"
                     "</tool_response><|im_end|>\n<|im_start|>assistant\n");
    const char *again = "{\"messages\":" RETURNED("call_77") "]}";
    assert_int_equal(build(r, 0, again, &second, &text, &err), TUG_OK);
    expect_ids(&second, &want);
    assert_int_equal(second.n_recalled, n);
    tug_buf_char(&text, '\0');
    assert_non_null(strstr(text.p, "assistant\n" SAMPLED "<|im_end|>\n"));

    /* Somebody else's turn, and another call's, are what the client says. */
    assert_int_equal(build(r, 1, again, &other, NULL, &err), TUG_OK);
    assert_int_equal(other.n_recalled, 0);
    assert_true(other.ids.n != want.n ||
                memcmp(other.ids.p, want.p, want.n * sizeof *want.p) != 0);
    assert_int_equal(
        build(r, 0, "{\"messages\":" RETURNED("call_78") "]}", &other, NULL, &err),
        TUG_OK);
    assert_int_equal(other.n_recalled, 0);
    /* So is one without an id, and everything when nothing is asked for. */
    assert_int_equal(build(r, 0, "{\"messages\":" RETURNED("") "]}", &other, NULL, &err),
                     TUG_OK);
    assert_int_equal(other.n_recalled, 0);
    assert_int_equal(build(NULL, 0, again, &other, NULL, &err), TUG_OK);
    assert_int_equal(other.n_recalled, 0);
    tug_buf_free(&text);
    tug_ids_free(&want);
    tug_prompt_ids_free(&first);
    tug_prompt_ids_free(&second);
    tug_prompt_ids_free(&other);
    tug_replay_destroy(&r);
    assert_null(r);
}

static void a_turn_of_text_comes_back_as_sampled(void **state) {
    (void)state;
    tug_replay *r = replay_of(0, 0);
    tug_prompt_ids p = {0}, q = {0};
    tug_err err;
    assert_true(add_text(r, 0, "hello there", "hello there\n"));
    const char *closed =
        "{\"messages\":" FIRST ",{\"role\":\"assistant\",\"content\":\" hello there\"},"
        "{\"role\":\"user\",\"content\":\"more\"}]}";
    assert_int_equal(build(r, 0, closed, &p, NULL, &err), TUG_OK);
    assert_int_equal(p.n_recalled, 12);
    assert_int_equal(build(r, 0,
                           "{\"messages\":" FIRST
                           ",{\"role\":\"assistant\",\"content\":\"hello there"
                           "!\"},{\"role\":\"user\",\"content\":\"more\"}]}",
                           &q, NULL, &err),
                     TUG_OK);
    assert_int_equal(q.n_recalled, 0);
    /* The model is to go on with it: then it is a beginning, not a finished turn. */
    assert_int_equal(build(r, 0,
                           "{\"messages\":" FIRST
                           ",{\"role\":\"assistant\",\"content\":\"hello "
                           "there\"}]}",
                           &q, NULL, &err),
                     TUG_OK);
    assert_int_equal(q.n_recalled, 0);
    /* What a user said is nobody's turn. */
    assert_int_equal(
        build(r, 0, "{\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]}",
              &q, NULL, &err),
        TUG_OK);
    assert_int_equal(q.n_recalled, 0);
    tug_prompt_ids_free(&p);
    tug_prompt_ids_free(&q);
    tug_replay_destroy(&r);
}

/* Tokens that are half a character, and ones that look like the end of the turn. */
static void any_tokens_come_back(void **state) {
    (void)state;
    tug_replay *r = replay_of(0, 0);
    tug_prompt_ids p = {0};
    tug_buf text = {0};
    tug_err err;
    const int32_t end = tug_tokenizer_find(tk, tug_str_of("<|im_end|>"));
    const int32_t half = tug_tokenizer_find(tk, tug_str_make("\xF0\x9F", 2));
    assert_true(end >= 0 && half >= 0);
    const int32_t ids[] = {half, end, half};
    const tug_replay_key key = {.text = tug_str_of("x")};
    assert_true(tug_replay_add(r, &key, ids, 3));
    assert_int_equal(build(r, 0,
                           "{\"messages\":" FIRST
                           ",{\"role\":\"assistant\",\"content\":\"x\"},"
                           "{\"role\":\"user\",\"content\":\"more\"}]}",
                           &p, &text, &err),
                     TUG_OK);
    assert_int_equal(p.n_recalled, 3);
    tug_buf_char(&text, '\0');
    assert_non_null(strstr(text.p, "assistant\n\xEF\xBF\xBD<|im_end|>\xEF\xBF\xBD<|im"));
    /* An end inside of the turn is none of the template's. */
    const int64_t last = p.last_turn;
    assert_int_equal(p.ids.p[last], tug_tokenizer_find(tk, tug_str_of("<|im_start|>")));
    assert_int_equal(p.ids.p[last + 1], tug_tokenizer_find(tk, tug_str_of("u")));
    tug_buf_free(&text);
    tug_prompt_ids_free(&p);
    tug_replay_destroy(&r);
}

static void expect_places(const char *request, const char *head, const char *last) {
    tug_prompt_ids p = {0};
    tug_ids want = {0};
    tug_buf text = {0};
    tug_err err;
    assert_int_equal(build(NULL, 0, request, &p, &text, &err), TUG_OK);
    encode_to(&want, head);
    assert_int_equal(p.head, want.n);
    want.n = 0;
    encode_to(&want, last);
    assert_int_equal(p.last_turn, want.n);
    assert_memory_equal(p.ids.p, want.p, want.n * sizeof *want.p);
    want.n = 0;
    tug_buf_char(&text, '\0');
    encode_to(&want, text.p); /* nothing typed here spells a control token */
    expect_ids(&p, &want);
    tug_ids_free(&want);
    tug_buf_free(&text);
    tug_prompt_ids_free(&p);
}

#define SYS     "<|im_start|>system\nbe good<|im_end|>\n"
#define USER    "<|im_start|>user\nhello<|im_end|>\n"
#define ANSWER  "<|im_start|>assistant\nhi<|im_end|>\n"
#define J(r, c) "{\"role\":\"" r "\",\"content\":\"" c "\"}"

static void knows_places_for_save_points(void **state) {
    (void)state;
    expect_places("{\"messages\":[" J("user", "hello") "]}", "", "");
    expect_places("{\"messages\":[" J("system", "be good") "," J("user", "hello") "]}",
                  SYS, SYS);
    expect_places("{\"messages\":[" J("system", "be good") "," J("user", "hello") "," J(
                      "assistant", "hi") "," J("user", "more") "]}",
                  SYS, SYS USER ANSWER);
    expect_places("{\"messages\":[" J("system", "be good") "," J("user", "hello") "," J(
                      "assistant", "hi") "," J("tool", "one") "," J("tool", "two") "]}",
                  SYS, SYS USER ANSWER);
    expect_places("{\"messages\":[" J("system", "be good") "," J("user", "hello") "," J(
                      "assistant", "hi") "]}", /* which it continues */
                  SYS, SYS);
    expect_places("{\"messages\":[" J("assistant", "hi") "]}", "", "");
    expect_places("{\"messages\":[" J("system", "be good") "]}", "", "");
}

/* ---- the table ----------------------------------------------------------------------- */

static void keys_are_compared_whole(void **state) {
    (void)state;
    tug_replay *r = replay_of(0, 0);
    tug_ids out = {0};
    int32_t ids[] = {1, 2, 3};
    const tug_str ab[] = {tug_str_of("a"), tug_str_of("b")};
    const tug_str ba[] = {tug_str_of("b"), tug_str_of("a")};
    const tug_str joined[] = {tug_str_of("ab")};
    const tug_str lone[] = {tug_str_of("a"), tug_str_of("")};
    const tug_replay_key key = {.call_ids = ab, .n_calls = 2};
    assert_true(tug_replay_add(r, &key, ids, 3));
    assert_true(tug_replay_find(r, &key, &out));
    const tug_replay_key others[] = {
        {.call_ids = ba, .n_calls = 2},     {.call_ids = ab, .n_calls = 1},
        {.call_ids = joined, .n_calls = 1}, {.space = 1, .call_ids = ab, .n_calls = 2},
        {.call_ids = lone, .n_calls = 2},   {.text = tug_str_of("ab")},
        {.text = tug_str_of(" \n")},        {.text = {NULL, 0}},
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_false(tug_replay_find(r, &others[i], &out));
    }
    assert_int_equal(out.n, 3);
    assert_false(tug_replay_add(r, &others[4], ids, 3));
    assert_false(tug_replay_add(r, &others[6], ids, 3));

    ids[0] = 9; /* the same turn again replaces it; no ids are a turn, too */
    assert_true(tug_replay_add(r, &key, ids, 1));
    assert_true(tug_replay_find(r, &key, &out));
    assert_int_equal(out.n, 4);
    assert_int_equal(out.p[3], 9);
    assert_true(tug_replay_add(r, &key, NULL, 0));
    assert_true(tug_replay_find(r, &key, &out));
    assert_int_equal(out.n, 4);
    assert_int_equal(tug_replay_get_stats(r).n_turns, 1);
    tug_ids_free(&out);
    tug_replay_destroy(&r);
}

static void the_longest_not_asked_for_go_first(void **state) {
    (void)state;
    tug_replay *r = replay_of(3, 0);
    assert_true(add_text(r, 0, "one", "1"));
    assert_true(add_text(r, 0, "two", "22"));
    assert_true(add_text(r, 0, "three", "333"));
    assert_int_equal(find_text(r, 0, "one"), 1);
    assert_true(add_text(r, 0, "four", "4444"));
    assert_int_equal(find_text(r, 0, "two"), -1);
    assert_int_equal(find_text(r, 0, "one"), 1);
    assert_int_equal(find_text(r, 0, "three"), 3);
    assert_int_equal(find_text(r, 0, "four"), 4);
    assert_int_equal(tug_replay_get_stats(r).n_turns, 3);
    const size_t bytes = tug_replay_get_stats(r).n_bytes;
    tug_replay_destroy(&r);

    r = replay_of(1000, bytes);
    for (int i = 0; i < 500; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "text %d", i);
        assert_true(add_text(r, 0, text, "123"));
        assert_true(tug_replay_get_stats(r).n_bytes <= bytes);
        assert_int_equal(find_text(r, 0, text), 3);
    }
    static int32_t long_one[100000];
    const tug_replay_key key = {.text = tug_str_of("long")};
    assert_false(tug_replay_add(r, &key, long_one, 100000)); /* more than all of it */
    assert_int_equal(find_text(r, 0, "text 499"), 3);
    tug_replay_destroy(&r);
}

static void *use(void *ud) {
    tug_replay *r = ud;
    for (int i = 0; i < 2000; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "%d", i % 50);
        if (i % 3 == 0) (void)add_text(r, 0, text, text);
        const int n = find_text(r, 0, text);
        if (n >= 0 && n != (int)strlen(text)) return r;
    }
    return NULL;
}

static void threads_share_it(void **state) {
    (void)state;
    tug_replay *r = replay_of(20, 0);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use, r), 0);
    }
    for (int i = 0; i < 3; i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
    assert_true(tug_replay_get_stats(r).n_turns <= 20);
    tug_replay_destroy(&r);
}

/* Out of memory: one sentence where there has to be a prompt, otherwise not known. */
static void every_allocation_fails_once(void **state) {
    (void)state;
    bool hit = true;
    for (uint64_t n = 1; hit; n++) {
        tug_replay *r = NULL;
        tug_prompt_ids p = {0};
        tug_err err = {0};
        fault_fail_alloc(n);
        tug_status s = tug_replay_create(&r, 10, 0, &err);
        if (s == TUG_OK) {
            const tug_str id = tug_str_of("call_77");
            const tug_replay_key key = {.call_ids = &id, .n_calls = 1};
            const int32_t ids[] = {1, 2};
            (void)tug_replay_add(r, &key, ids, 2);
            s = build(r, 0, "{\"messages\":" RETURNED("call_77") "]}", &p, NULL, &err);
        }
        tug_prompt_ids_free(&p);
        tug_replay_destroy(&r);
        assert_int_equal(fault_live_blocks(), 0);
        hit = fault_stop();
        if (s != TUG_OK) {
            assert_int_equal(s, TUG_ENOMEM);
            assert_true(strlen(err.msg) > 10);
        }
        assert_true(hit ? n < 200 : s == TUG_OK && n > 5);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_with_calls_comes_back_as_sampled),
        cmocka_unit_test(a_turn_of_text_comes_back_as_sampled),
        cmocka_unit_test(any_tokens_come_back),
        cmocka_unit_test(knows_places_for_save_points),
        cmocka_unit_test(keys_are_compared_whole),
        cmocka_unit_test(the_longest_not_asked_for_go_first),
        cmocka_unit_test(threads_share_it),
        cmocka_unit_test(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
