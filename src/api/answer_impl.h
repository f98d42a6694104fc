/* answer_impl.h - what the writers of the APIs share.  For src/api only.
 *
 * answer.c checks the order of events, keeps what was said (tug_answer_choice) where the
 * API will want it again, and calls the API's ops: while it streams, one op per event;
 * otherwise `body` alone, once, at the end.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_API_ANSWER_IMPL_H
#define TUG_API_ANSWER_IMPL_H

#include "api/answer.h"
#include "base/arena.h"
#include "json/json.h"

/* A stretch of text or a call, in the order they came. */
typedef struct tug_answer_item {
    bool is_call;
    bool complete;      /* calls: ended as a whole */
    size_t tool;        /* calls: index in request->tools or SIZE_MAX */
    tug_str id, name;   /* calls; owned by the answer's arena */
    tug_buf text;       /* owned: the text, or the call's arguments as JSON text */
    size_t first_token; /* texts: how many tokens with logprobs came before */
} tug_answer_item;

typedef struct tug_answer_choice {
    tug_answer_item *item; /* owned, (n of cap,) */
    size_t n, cap;
    tug_answer_token *token; /* owned, (n_token of cap_token,); texts in the arena */
    size_t n_token, cap_token;
    size_t n_calls, n_complete; /* calls, whole calls; counted for every API */
    tug_answer_end end;
    tug_str stop_string; /* owned by the arena; p NULL unless TUG_END_STOP_STRING */
} tug_answer_choice;

/* The part of a tug_answer that an API keeps for itself. */
typedef struct tug_answer_own {
    int64_t sequence;  /* responses: number of the next event */
    int64_t n_items;   /* responses, messages: items or blocks begun */
    bool item_open;    /* responses, messages: one of text is open */
    bool role_sent;    /* chat, completions: the first event of this choice */
    int64_t n_chars;   /* completions: characters of this choice so far */
    tug_str item_id;   /* responses: of the open item */
    size_t input_sent; /* responses: bytes of a custom call's arguments that are out */
} tug_answer_own;

/* `out` collects the bytes to send.  Unless it says otherwise an op is called while
 * streaming only.  calls are NULL where an API has none. */
typedef struct tug_answer_ops {
    const char *id_prefix;
    bool keeps_items; /* needs tug_answer_choice.item while streaming too */
    void (*begin)(tug_answer *a, tug_buf *out);
    void (*text)(tug_answer *a, tug_str text, const tug_answer_token *token,
                 tug_buf *out);
    void (*call_begin)(tug_answer *a, tug_str id, tug_str name, size_t tool,
                       tug_buf *out);
    void (*call_arguments)(tug_answer *a, tug_str json, tug_buf *out);
    void (*call_end)(tug_answer *a, bool complete, tug_buf *out);
    /* a->choice[a->i_choice] has its end. */
    void (*choice_end)(tug_answer *a, tug_buf *out);
    void (*finish)(tug_answer *a, tug_buf *out); /* a->usage is the final one */
    void (*alive)(tug_answer *a, int64_t done, int64_t total, tug_buf *out);
    void (*error)(tug_answer *a, tug_api_fault fault, tug_str sentence, tug_buf *out);
    void (*body)(tug_answer *a, tug_buf *out); /* without `stream`, instead of finish */
} tug_answer_ops;

extern const tug_answer_ops tug_answer_chat_ops;
extern const tug_answer_ops tug_answer_completions_ops;
extern const tug_answer_ops tug_answer_responses_ops;
extern const tug_answer_ops tug_answer_messages_ops;

typedef enum tug_answer_phase {
    TUG_ANSWER_CREATED,
    TUG_ANSWER_CHOICE,  /* begun, or between two events of a choice */
    TUG_ANSWER_CALL,    /* between call_begin and call_end */
    TUG_ANSWER_BETWEEN, /* a choice has ended */
    TUG_ANSWER_OVER
} tug_answer_phase;

struct tug_answer {
    const tug_answer_ops *ops;
    const tug_api_request *request; /* borrowed */
    tug_arena arena;
    tug_str model, id_part; /* owned by the arena */
    tug_str id;             /* prefix and id_part; owned by the arena */
    int64_t created;
    tug_answer_phase phase;
    tug_answer_usage usage;    /* of begin, and then of finish */
    tug_answer_choice *choice; /* owned, (request->n_choices,) */
    int32_t i_choice;          /* the one that is open, or ended last */
    tug_buf warnings;          /* owned: sentences, one per line */
    size_t n_warned;           /* bytes of `warnings` that are sent */
    bool failed;               /* out of memory: every later `out` fails */
    tug_answer_own own;
};

/* The choice that is open, or ended last. */
static inline tug_answer_choice *tug_answer_now(tug_answer *a) {
    return &a->choice[a->i_choice];
}

/* An id for an item of the answer: `prefix`, the id_part, `_` and the number; in the
 * arena.  Empty when out of memory, which is then noted. */
tug_str tug_answer_item_id(tug_answer *a, const char *prefix, int64_t number);

/* "data: ", to be followed by JSON on one line, and the end of an event. */
void tug_answer_open_event(tug_buf *out, const char *event); /* NULL: no `event:` line */
void tug_answer_close_event(tug_buf *out);

/* Warnings that were not sent yet, and notes them as sent; n == 0: none. */
tug_str tug_answer_new_warnings(tug_answer *a);

/* What a fault that was met while answering is called. */
tug_api_fault tug_api_fault_of(tug_status code);

/* The value of `error` of the OpenAI and of the Anthropic shape, an object. */
void tug_api_error_object(tug_json_writer *w, tug_api_fault fault, tug_str sentence);
void tug_api_error_object_messages(tug_json_writer *w, tug_api_fault fault,
                                   tug_str sentence);

#endif
