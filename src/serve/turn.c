/* turn.c - see turn.h.  SPDX-License-Identifier: MIT */
#include "serve/turn.h"

#include <math.h>

#include "base/random.h"
#include "base/sys.h"
#include "serve/job.h"
#include "serve/logprobs.h"
#include "serve/serve_impl.h"

/* ---- what may come ------------------------------------------------------------------- */

/* The rule of an answer: the script if there is one, else the constraint. */
static bool token_rule(void *ud, int32_t id) {
    const tug_job *job = ud;
    const tug_turn *t = &job->turn;
    const tug_tokenizer *vocab = job->serve->vocab;
    if (t->script) {
        return t->at_script < t->n_script ? id == t->script[t->at_script]
                                          : tug_tokenizer_is_eog(vocab, id);
    }
    if (tug_tokenizer_is_eog(vocab, id)) return tug_constraint_may_end(t->constraint);
    if (tug_tokenizer_type(vocab, id) == TUG_TOKEN_CONTROL) return false;
    const tug_str bytes = tug_tokenizer_bytes(vocab, id);
    if (tug_constraint_is_free(t->constraint) &&
        (bytes.n == 0 || !memchr(bytes.p, '<', bytes.n))) {
        return true;
    }
    return tug_constraint_allows(t->constraint, bytes);
}

/* ---- what came ----------------------------------------------------------------------- */

static tug_status on_text(void *ud, tug_str text, tug_err *err) {
    tug_job *job = ud;
    tug_turn *t = &job->turn;
    bool found = false;
    if (t->stop_found != SIZE_MAX) return TUG_OK;
    tug_buf_clear(&t->passed);
    TUG_TRY(tug_stop_match_feed(&t->stops, text, &t->passed, &found, err));
    if (found) t->stop_found = t->stops.found;
    tug_buf_str(&t->said, tug_buf_view(&t->passed));
    if (t->passed.n > 0) {
        tug_answer_text(job->answer, tug_buf_view(&t->passed), NULL, &job->out);
    }
    return tug_buf_ok(&t->said, err);
}

/* Which of the request's tools that is; SIZE_MAX: none. */
static size_t find_tool(const tug_api_request *r, tug_str name) {
    for (size_t i = 0; i < r->tools.n; i++) {
        if (tug_str_eq(r->tools.tool[i].name, name)) return i;
    }
    return SIZE_MAX;
}

static tug_status new_call_id(tug_job *job, tug_str *out, tug_err *err) {
    const char *prefix = job->request.api == TUG_API_MESSAGES ? "toolu_" : "call_";
    char id[8 + TUG_ID_PART + 1];
    const size_t n = strlen(prefix);
    memcpy(id, prefix, n);
    TUG_TRY(tug_random_text(id + n, TUG_ID_PART, err));
    *out = tug_arena_copy(&job->arena, tug_str_of(id));
    return out->p ? TUG_OK : TUG_FAIL(err, TUG_ENOMEM, "out of memory for a call");
}

static tug_status on_begin(void *ud, tug_str name, tug_err *err) {
    tug_job *job = ud;
    tug_turn *t = &job->turn;
    if (t->stop_found != SIZE_MAX) return TUG_OK;
    if (t->n_calls == t->cap_calls) {
        const size_t cap = t->cap_calls ? 2 * t->cap_calls : 8;
        tug_str *ids = tug_realloc_array(t->call_ids, cap, sizeof *ids);
        if (!ids) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for %zu calls", cap);
        t->call_ids = ids;
        t->cap_calls = cap;
    }
    tug_str id;
    TUG_TRY(new_call_id(job, &id, err));
    t->call_ids[t->n_calls++] = id;
    tug_answer_call_begin(job->answer, id, name, find_tool(&job->request, name),
                          &job->out);
    return TUG_OK;
}

static tug_status on_arguments(void *ud, tug_str json, tug_err *err) {
    (void)err;
    tug_job *job = ud;
    if (job->turn.stop_found != SIZE_MAX) return TUG_OK;
    tug_answer_call_arguments(job->answer, json, &job->out);
    return TUG_OK;
}

static tug_status on_end(void *ud, bool complete, tug_err *err) {
    (void)err;
    tug_job *job = ud;
    if (job->turn.stop_found != SIZE_MAX) return TUG_OK;
    if (complete) job->turn.n_complete++;
    tug_answer_call_end(job->answer, complete, &job->out);
    return TUG_OK;
}

/* ---- life ---------------------------------------------------------------------------- */

static void pick_float(float *slot, float asked) {
    if (!isnan(asked)) *slot = asked;
}

static tug_status make_sampler(tug_job *job, tug_err *err) {
    const tug_api_request *r = &job->request;
    const tug_api_sampling *s = &r->sampling;
    tug_sampler_params p = tug_sampler_defaults(job->serve->config.model);
    pick_float(&p.temperature, s->temperature);
    pick_float(&p.top_p, s->top_p);
    pick_float(&p.min_p, s->min_p);
    pick_float(&p.repeat_penalty, s->repeat_penalty);
    pick_float(&p.presence_penalty, s->presence_penalty);
    pick_float(&p.frequency_penalty, s->frequency_penalty);
    if (s->top_k != INT32_MIN) p.top_k = s->top_k;
    /* The API's penalties count over the whole answer. */
    if (p.presence_penalty != 0.0f || p.frequency_penalty != 0.0f) p.penalty_last_n = -1;
    if (s->has_seed) {
        p.seed = s->seed + (uint64_t)job->choice;
    } else {
        TUG_TRY(tug_random_u64(&p.seed, err));
    }
    tug_logit_bias *bias = tug_arena_array(&job->arena, s->n_bias, sizeof *bias);
    if (!bias) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for logit_bias");
    for (size_t i = 0; i < s->n_bias; i++) {
        bias[i] = (tug_logit_bias){
            s->bias[i].id, s->bias[i].bias <= -100.0f ? -INFINITY : s->bias[i].bias};
    }
    p.bias = bias;
    p.n_bias = s->n_bias;
    return tug_sampler_create(&job->turn.sampler, job->serve->info.n_vocab, &p, err);
}

static bool wants_parser(const tug_api_request *r) {
    return r->api != TUG_API_COMPLETIONS && r->tools.n > 0 && r->choice != TUG_TOOLS_NONE;
}

static bool wants_constraint(const tug_job *job) {
    const tug_api_request *r = &job->request;
    return job->serve->config.constrain && r->api != TUG_API_COMPLETIONS &&
           (r->tools.n > 0 || r->format != TUG_FORMAT_TEXT);
}

static tug_status make_constraint(const tug_api_request *r, tug_constraint **out,
                                  tug_err *err) {
    const tug_constraint_spec spec = {.tools = r->tools,
                                      .choice = r->choice,
                                      .named = r->named,
                                      .parallel = r->parallel,
                                      .format = r->format,
                                      .schema = r->schema};
    return tug_constraint_create(out, &spec, err);
}

static tug_status make_parts(tug_job *job, tug_err *err) {
    tug_turn *t = &job->turn;
    const tug_api_request *r = &job->request;
    TUG_TRY(make_sampler(job, err));
    if (wants_parser(r)) {
        const tug_call_sink sink = {job, on_text, on_begin, on_arguments, on_end};
        TUG_TRY(tug_call_parser_create(&t->parser, r->tools, &sink, err));
    }
    if (wants_constraint(job)) TUG_TRY(make_constraint(r, &t->constraint, err));
    TUG_TRY(tug_loop_create(&t->loop, err));
    const char **stops = tug_arena_array(&job->arena, r->n_stop, sizeof *stops);
    if (!stops) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for stop strings");
    for (size_t i = 0; i < r->n_stop; i++) stops[i] = r->stop[i].p;
    TUG_TRY(tug_stop_match_init(&t->stops, stops, r->n_stop, err));
    const bool ruled = t->constraint || t->script;
    const tug_generation_params params = {
        .max_tokens = r->max_tokens, .rule = ruled ? token_rule : NULL, .rule_ud = job};
    return tug_generation_create(&t->generation, job->serve->config.model,
                                 job->lease.session, t->sampler, &params, err);
}

tug_status tug_turn_begin(tug_job *job, tug_err *err) {
    const tug_turn script = job->turn; /* chosen by the request's checks */
    job->turn = (tug_turn){.stop_found = SIZE_MAX,
                           .script = script.script,
                           .n_script = script.n_script,
                           .script_s = script.script_s};
    TUG_TRY(make_parts(job, err));
    if (!job->turn.constraint || job->warned) return TUG_OK;
    job->warned = true;
    const tug_str warnings = tug_constraint_warnings(job->turn.constraint);
    if (warnings.n > 0) tug_answer_warning(job->answer, warnings);
    return TUG_OK;
}

void tug_turn_free(tug_turn *t) {
    tug_generation_destroy(&t->generation);
    tug_sampler_destroy(&t->sampler);
    tug_constraint_destroy(&t->constraint);
    tug_call_parser_destroy(&t->parser);
    tug_loop_destroy(&t->loop);
    tug_stop_match_deinit(&t->stops);
    tug_ids_free(&t->ids);
    tug_buf_free(&t->said);
    tug_buf_free(&t->passed);
    tug_free(t->call_ids);
    *t =
        (tug_turn){.script = t->script, .n_script = t->n_script, .script_s = t->script_s};
}

/* ---- one token ----------------------------------------------------------------------- */

static tug_status feed(tug_job *job, tug_str text, tug_err *err) {
    if (job->turn.parser) return tug_call_parser_feed(job->turn.parser, text, err);
    return text.n > 0 ? on_text(job, text, err) : TUG_OK;
}

/* The model's text is over: what was held back comes out. */
static tug_status finish_text(tug_job *job, bool whole, tug_err *err) {
    tug_turn *t = &job->turn;
    if (t->parser) TUG_TRY(tug_call_parser_finish(t->parser, whole, err));
    if (t->stop_found != SIZE_MAX) return TUG_OK;
    tug_buf_clear(&t->passed);
    TUG_TRY(tug_stop_match_finish(&t->stops, &t->passed, err));
    tug_buf_str(&t->said, tug_buf_view(&t->passed));
    if (t->passed.n > 0) {
        tug_answer_text(job->answer, tug_buf_view(&t->passed), NULL, &job->out);
    }
    return tug_buf_ok(&t->said, err);
}

static void show_token(tug_job *job, int32_t id) {
    if (!job->request.logprobs) return;
    tug_token_logprob top[TUG_TOP_LOGPROBS];
    const tug_answer_token token =
        tug_logprobs(job->serve->vocab, tug_session_logits(job->lease.session),
                     job->serve->info.n_vocab, id, job->request.top_logprobs, top);
    tug_answer_text(job->answer, tug_str_make("", 0), &token, &job->out);
}

/* Is one call enough, and there? */
static bool calls_done(const tug_job *job) {
    const tug_turn *t = &job->turn;
    if (t->constraint && tug_constraint_is_done(t->constraint)) return true;
    return t->parser && !job->request.parallel &&
           tug_call_parser_n_calls(t->parser) > 0 && !tug_call_parser_in_call(t->parser);
}

static tug_answer_end end_of(const tug_job *job, tug_finish finish) {
    const tug_turn *t = &job->turn;
    if (t->stop_found != SIZE_MAX) return TUG_END_STOP_STRING;
    if (t->looping) return TUG_END_LOOP;
    if (finish == TUG_FINISH_LENGTH) return TUG_END_LENGTH;
    if (finish == TUG_FINISH_CONTEXT) return TUG_END_CONTEXT;
    return t->n_complete > 0 ? TUG_END_CALLS : TUG_END_STOP;
}

tug_status tug_turn_step(tug_job *job, bool *done, tug_err *err) {
    tug_turn *t = &job->turn;
    tug_generated g;
    TUG_TRY(tug_generation_step(t->generation, &g, err));
    job->n_completion++;
    if (g.finish != TUG_FINISH_EOS) {
        TUG_TRY(tug_ids_push(&t->ids, g.id, err));
        if (t->constraint) {
            tug_constraint_accept(t->constraint,
                                  tug_tokenizer_bytes(job->serve->vocab, g.id));
        }
        t->looping = tug_loop_feed(t->loop, g.id);
        show_token(job, g.id);
    }
    if (t->script) t->at_script++;
    TUG_TRY(feed(job, tug_str_make(g.text, g.n_text), err));
    *done = g.finish != TUG_FINISH_NONE || t->stop_found != SIZE_MAX || t->looping ||
            calls_done(job);
    if (!*done) return TUG_OK;
    const bool cut =
        g.finish == TUG_FINISH_LENGTH || g.finish == TUG_FINISH_CONTEXT || t->looping;
    TUG_TRY(finish_text(job, !cut, err));
    job->end = end_of(job, g.finish);
    return TUG_OK;
}
