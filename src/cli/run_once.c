/* run_once.c - `tug run` with a prompt: read it, load, continue it, report.
 *
 * The prompt is read and checked before the model is loaded: a typo in a file name should
 * not cost a minute.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <unistd.h>

#include "base/sys.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/prompt.h"
#include "cli/run.h"
#include "cli/run_answer.h"

typedef struct once {
    const run_options *o; /* borrowed */
    tug_buf text;         /* the prompt, unless it came as ids */
    tug_ids ids;          /* the prompt */
    cli_model m;
    tug_sampler_params sampling;
    tug_sampler *sampler; /* owned */
    cli_answer answer;
} once;

static tug_status read_ids(once *r, tug_err *err) {
    int64_t n = 0;
    TUG_TRY(cli_parse_ids(r->o->ids, &r->ids.p, &n, err));
    r->ids.n = r->ids.cap = (size_t)n;
    return TUG_OK;
}

static tug_status read_prompt(once *r, tug_err *err) {
    if (r->o->ids) return read_ids(r, err);
    if (r->o->file) return cli_read_text(r->o->file, &r->text, err);
    tug_buf_text(&r->text, r->o->prompt);
    TUG_TRY(tug_buf_ok(&r->text, err));
    return cli_check_utf8("the prompt", tug_buf_view(&r->text), err);
}

static tug_status encode_message(once *r, tug_err *err) {
    tug_encoder *e = NULL;
    int32_t turn_end;
    TUG_TRY(cli_chat_check(r->m.model, &turn_end, err));
    TUG_TRY(tug_encoder_create(&e, tug_model_tokenizer(r->m.model), err));
    const tug_status status =
        cli_encode_turn(e, r->o->system, tug_buf_view(&r->text), &r->ids, err);
    tug_encoder_destroy(&e);
    return status;
}

static tug_status encode_prompt(once *r, tug_err *err) {
    if (r->o->ids) return TUG_OK; /* the session checks their range */
    if (r->o->chat) return encode_message(r, err);
    return cli_encode_plain(tug_model_tokenizer(r->m.model), tug_buf_view(&r->text),
                            r->o->special ? TUG_CONTROL_PARSED : TUG_CONTROL_IS_TEXT,
                            &r->ids, err);
}

/* Without -c: room for the prompt and for -n tokens, if that is known, so that a short
 * question does not reserve a context of 262,144. */
static int64_t context_size(const once *r) {
    if (r->o->engine.n_ctx > 0 || r->o->n_predict == 0) return r->o->engine.n_ctx;
    const int64_t most = tug_model_get_info(r->m.model).n_ctx_train;
    const int64_t need = (int64_t)r->ids.n + r->o->n_predict;
    return need < most ? need : most;
}

static tug_status prefill(once *r, tug_err *err) {
    TUG_TRY(cli_model_start(&r->m, &r->o->engine, context_size(r), err));
    r->sampling = cli_sampling_params(&r->o->sampling, r->m.model);
    TUG_TRY(tug_sampler_create(&r->sampler, tug_model_get_info(r->m.model).n_vocab,
                               &r->sampling, err));
    TUG_TRY(cli_model_append(&r->m, r->ids.p, (int64_t)r->ids.n, 0, NULL, NULL, err));
    for (size_t i = 0; i < r->ids.n; i++) {
        TUG_TRY(tug_sampler_accept(r->sampler, r->ids.p[i], err));
    }
    return TUG_OK;
}

static tug_status answer(once *r, tug_err *err) {
    const tug_status status = prefill(r, err);
    if (status == TUG_ECANCELED) {
        r->answer.finish = TUG_FINISH_CANCELED;
        return TUG_OK;
    }
    TUG_TRY(status);
    const tug_generation_params params = run_generation_params(r->o);
    return cli_answer_generate(&r->answer, &r->m, r->sampler, &params, !r->o->json, err);
}

static tug_status report(once *r, tug_err *err) {
    /* On a terminal the summary begins on a line of its own; stdout stays exact. */
    const tug_buf *text = &r->answer.text;
    if (!r->o->json && isatty(STDERR_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 &&
        text->n > 0 && text->p[text->n - 1] != '\n') {
        (void)fputc('\n', stderr);
    }
    cli_answer_summary(&r->answer, &r->m, &r->sampling);
    if (!r->o->json) return TUG_OK;
    return cli_answer_json(&r->answer, &r->m, &r->sampling, &r->ids, err);
}

static tug_status run(once *r, tug_err *err) {
    TUG_TRY(read_prompt(r, err));
    if (r->ids.n == 0 && r->text.n == 0) {
        return TUG_FAIL(err, TUG_ERANGE,
                        "the prompt is empty: give some text with -p, --file or a pipe");
    }
    TUG_TRY(cli_model_open(&r->m, &r->o->engine, err));
    if (r->o->opened) r->o->opened(r->o->opened_ud, r->m.model);
    TUG_TRY(encode_prompt(r, err));
    TUG_TRY(answer(r, err));
    return report(r, err);
}

int run_once(const run_options *o) {
    once r = {.o = o};
    tug_err err;
    const tug_status status = run(&r, &err);
    const int code = status != TUG_OK                         ? cli_fail(&err)
                     : r.answer.finish == TUG_FINISH_CANCELED ? CLI_INTERRUPTED
                                                              : CLI_OK;
    cli_answer_free(&r.answer);
    tug_sampler_destroy(&r.sampler);
    cli_model_close(&r.m);
    tug_ids_free(&r.ids);
    tug_buf_free(&r.text);
    return code;
}
