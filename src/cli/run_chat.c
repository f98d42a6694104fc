/* run_chat.c - `tug run --chat`: a conversation that is only ever appended to.
 *
 * The session holds what was said.  What it does not hold yet waits in `queue`: the end
 * of the last turn (the token sampled last was never computed), and after Ctrl-C the rest
 * of a message.  The next message goes behind it, and all of that is one append.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "base/sys.h"
#include "cli/cli.h"
#include "cli/line_edit.h"
#include "cli/prompt.h"
#include "cli/run.h"
#include "cli/run_answer.h"

typedef struct dialogue {
    const run_options *o; /* borrowed */
    cli_model m;
    const tug_tokenizer *vocab; /* borrowed from m */
    tug_encoder *encoder;       /* owned */
    tug_sampler_params sampling;
    tug_sampler *sampler; /* owned */
    line_edit *edit;      /* owned */
    int32_t turn_end;     /* <|im_end|> */
    tug_ids queue;        /* said, but not in the session yet */
    size_t n_accepted;    /* of the queue's beginning, known to the sampler */
    cli_answer answer;
} dialogue;

/* ---- turns ----------------------------------------------------------------------- */

/* Appends the queue.  After Ctrl-C what was not computed stays in it. */
static tug_status append_queue(dialogue *d, tug_err *err) {
    tug_ids *q = &d->queue;
    const int64_t before = tug_session_n_tokens(d->m.session);
    const tug_status status =
        cli_model_append(&d->m, q->p, (int64_t)q->n, 0, NULL, NULL, err);
    const size_t n_done = (size_t)(tug_session_n_tokens(d->m.session) - before);
    for (size_t i = d->n_accepted; i < n_done; i++) {
        TUG_TRY(tug_sampler_accept(d->sampler, q->p[i], err));
    }
    if (n_done > 0) d->n_accepted = 0;
    q->n -= n_done;
    memmove(q->p, q->p + n_done, q->n * sizeof *q->p);
    return status;
}

/* Queues the end of the assistant's turn; `pending` is its last token or TUG_NO_TOKEN. */
static tug_status close_turn(dialogue *d, int32_t pending, tug_err *err) {
    if (pending != TUG_NO_TOKEN && !tug_tokenizer_is_eog(d->vocab, pending)) {
        TUG_TRY(tug_ids_push(&d->queue, pending, err));
        d->n_accepted = d->queue.n;
    }
    TUG_TRY(tug_ids_push(&d->queue, d->turn_end, err));
    if (pending == d->turn_end) d->n_accepted = d->queue.n;
    return tug_encode(d->encoder, tug_str_of("\n"), TUG_CONTROL_IS_TEXT, &d->queue, err);
}

static tug_status queue_message(dialogue *d, tug_str message, tug_err *err) {
    const bool first = tug_session_n_tokens(d->m.session) == 0 && d->queue.n == 0;
    return cli_encode_turn(d->encoder, first ? d->o->system : NULL, message, &d->queue,
                           err);
}

static tug_status generate(dialogue *d, tug_err *err) {
    const tug_generation_params params = run_generation_params(d->o);
    TUG_TRY(cli_answer_generate(&d->answer, &d->m, d->sampler, &params, true, err));
    (void)fputc('\n', stdout);
    TUG_TRY(cli_flush(err));
    if (d->answer.finish == TUG_FINISH_CONTEXT) {
        (void)fputs("tug: the context is full; /reset begins a new conversation\n",
                    stderr);
    }
    return close_turn(d, d->answer.pending, err);
}

/* One message and its answer.  A message that is refused leaves no trace. */
static tug_status turn(dialogue *d, tug_str message, tug_err *err) {
    const size_t mark = d->queue.n;
    tug_status status = queue_message(d, message, err);
    if (status == TUG_OK) status = append_queue(d, err);
    if (status == TUG_ECANCELED) return close_turn(d, TUG_NO_TOKEN, err);
    if (status != TUG_OK) {
        d->queue.n = mark;
        return status;
    }
    return generate(d, err);
}

/* ---- commands -------------------------------------------------------------------- */

static const char help[] = "/reset   begin a new conversation\n"
                           "/exit    leave (also Ctrl-D)\n"
                           "/help    this\n"
                           "A line that ends with \\ goes on in the next one.  "
                           "Ctrl-C stops an answer.\n";

static tug_status reset(dialogue *d, tug_err *err) {
    tug_session_reset(d->m.session);
    d->queue.n = 0;
    d->n_accepted = 0;
    tug_sampler_destroy(&d->sampler); /* with its memory of tokens to penalise */
    return tug_sampler_create(&d->sampler, tug_model_get_info(d->m.model).n_vocab,
                              &d->sampling, err);
}

/* One word that begins with '/': a path or a comment is longer or has other signs. */
static bool is_command(tug_str line) {
    if (line.n < 2 || line.p[0] != '/') return false;
    for (size_t i = 1; i < line.n; i++) {
        if (line.p[i] < 'a' || line.p[i] > 'z') return false;
    }
    return true;
}

/* *leave: the conversation is over. */
static tug_status command(dialogue *d, tug_str line, bool *leave, tug_err *err) {
    if (tug_str_is(line, "/exit")) {
        *leave = true;
    } else if (tug_str_is(line, "/reset")) {
        return reset(d, err);
    } else if (tug_str_is(line, "/help")) {
        (void)fputs(help, stderr);
    } else {
        (void)fprintf(stderr, "there is no %.*s; /help lists what there is\n",
                      (int)line.n, line.p);
    }
    return TUG_OK;
}

/* ---- the loop -------------------------------------------------------------------- */

static tug_status set_up(dialogue *d, tug_err *err) {
    TUG_TRY(cli_model_open(&d->m, &d->o->engine, err));
    const tug_model_info info = tug_model_get_info(d->m.model);
    d->vocab = tug_model_tokenizer(d->m.model);
    TUG_TRY(cli_chat_check(d->m.model, &d->turn_end, err));
    TUG_TRY(cli_model_start(&d->m, &d->o->engine, d->o->engine.n_ctx, err));
    TUG_TRY(tug_encoder_create(&d->encoder, d->vocab, err));
    d->sampling = cli_sampling_params(&d->o->sampling, d->m.model);
    TUG_TRY(tug_sampler_create(&d->sampler, info.n_vocab, &d->sampling, err));
    TUG_TRY(line_edit_create(&d->edit, err));
    (void)fprintf(stderr, "%s · context %lld tokens · /help explains, Ctrl-D leaves\n",
                  info.name[0] ? info.name : d->o->engine.model,
                  (long long)tug_session_n_ctx(d->m.session));
    return TUG_OK;
}

static tug_status handle(dialogue *d, tug_str line, bool *leave, tug_err *err) {
    if (line.n == 0) return TUG_OK;
    const tug_status status =
        is_command(line) ? command(d, line, leave, err) : turn(d, line, err);
    /* A message that cannot be taken is said so and the conversation goes on; what else
     * can fail will fail again. */
    if (status != TUG_ERANGE && status != TUG_EFORMAT) return status;
    (void)cli_fail(err);
    return TUG_OK;
}

static tug_status converse(dialogue *d, tug_err *err) {
    tug_buf line = {0};
    tug_status status = TUG_OK;
    for (bool leave = false; status == TUG_OK && !leave;) {
        switch (line_edit_read(d->edit, &line)) {
        case LINE_CANCELED: (void)fputc('\n', stderr); continue;
        case LINE_END:
            (void)fputc('\n', stderr);
            leave = true;
            break;
        case LINE_MESSAGE:
            status = tug_buf_ok(&line, err);
            if (status == TUG_OK) status = handle(d, tug_buf_view(&line), &leave, err);
            break;
        }
    }
    tug_buf_free(&line);
    return status;
}

int run_chat(const run_options *o) {
    dialogue d = {.o = o};
    tug_err err;
    tug_status status = set_up(&d, &err);
    if (status == TUG_OK) status = converse(&d, &err);
    if (status == TUG_OK) cli_answer_summary(&d.answer, &d.m, &d.sampling);
    line_edit_destroy(&d.edit); /* gives the terminal back */
    cli_answer_free(&d.answer);
    tug_sampler_destroy(&d.sampler);
    tug_encoder_destroy(&d.encoder);
    cli_model_close(&d.m);
    tug_ids_free(&d.queue);
    return status == TUG_OK ? CLI_OK : cli_fail(&err);
}
