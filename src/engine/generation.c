/* generation.c - the loop that turns a session into text, and the reasons to end it.
 *
 * OWNS   what happened since the prompt: the token not yet computed, text held back.
 * NOT    the prompt (the caller appends it), the choice of a token (sampler.c).
 *
 * A sampled token is appended to the session by the step after it.  So the first step
 * costs no computation, the last token none either, and a chat continues with that token
 * and the next message in one append.  SPDX-License-Identifier: MIT */
#include "base/str.h"
#include "base/sys.h"
#include "engine/stop_match.h"
#include "tokenizer/tokenizer.h"
#include "tug.h"

struct tug_generation {
    tug_session *session;       /* borrowed */
    tug_sampler *sampler;       /* borrowed */
    const tug_tokenizer *vocab; /* borrowed from the model */
    tug_detok detok;
    tug_stop_match stops;
    tug_buf piece;           /* text of the current token */
    tug_buf text;            /* what the current step hands out */
    tug_token_rule_fn *rule; /* or NULL */
    void *rule_ud;
    int64_t left; /* tokens until max_tokens, -1: no limit */
    int32_t pending;
    tug_finish finish;
};

const char *tug_finish_name(tug_finish finish) {
    static const char *const names[] = {"none",   "eos",     "stop",
                                        "length", "context", "canceled"};
    const unsigned i = (unsigned)finish;
    return i < sizeof names / sizeof *names ? names[i] : "unknown";
}

tug_status tug_generation_create(tug_generation **out, tug_model *model,
                                 tug_session *session, tug_sampler *sampler,
                                 const tug_generation_params *params, tug_err *err) {
    *out = NULL;
    if (!tug_session_logits(session)) {
        return TUG_FAIL(err, TUG_ESTATE,
                        "nothing to continue: append at least one token first");
    }
    tug_generation *g = tug_alloc_zero(sizeof *g);
    if (!g) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a generation");
    g->session = session;
    g->sampler = sampler;
    g->vocab = tug_model_tokenizer(model);
    g->detok = tug_detok_start(g->vocab, false);
    g->left = params && params->max_tokens > 0 ? params->max_tokens : -1;
    g->pending = TUG_NO_TOKEN;
    g->rule = params ? params->rule : NULL;
    g->rule_ud = params ? params->rule_ud : NULL;
    const tug_status status = tug_stop_match_init(&g->stops, params ? params->stop : NULL,
                                                  params ? params->n_stop : 0, err);
    if (status != TUG_OK) {
        tug_generation_destroy(&g);
        return status;
    }
    *out = g;
    return TUG_OK;
}

void tug_generation_destroy(tug_generation **generation) {
    tug_generation *g = *generation;
    if (!g) return;
    tug_stop_match_deinit(&g->stops);
    tug_buf_free(&g->piece);
    tug_buf_free(&g->text);
    tug_free(g);
    *generation = NULL;
}

int32_t tug_generation_pending(const tug_generation *g) {
    return g->pending;
}

/* Text of the token that was just sampled, through the stop strings. */
static tug_status add_text(tug_generation *g, int32_t id, tug_err *err) {
    bool found = false;
    TUG_TRY(tug_detok_add(&g->detok, id, &g->piece, err));
    TUG_TRY(
        tug_stop_match_feed(&g->stops, tug_buf_view(&g->piece), &g->text, &found, err));
    if (found) g->finish = TUG_FINISH_STOP;
    return TUG_OK;
}

/* What was held back comes out, unless a stop string ended the text. */
static tug_status release_text(tug_generation *g, tug_err *err) {
    if (g->finish == TUG_FINISH_STOP) return TUG_OK;
    bool found = false;
    tug_buf_clear(&g->piece);
    TUG_TRY(tug_detok_finish(&g->detok, &g->piece, err));
    TUG_TRY(
        tug_stop_match_feed(&g->stops, tug_buf_view(&g->piece), &g->text, &found, err));
    if (found) g->finish = TUG_FINISH_STOP;
    return tug_stop_match_finish(&g->stops, &g->text, err);
}

/* The token before this step becomes part of the session. */
static tug_status append_pending(tug_generation *g, tug_err *err) {
    if (g->pending == TUG_NO_TOKEN) return TUG_OK;
    TUG_TRY(tug_session_append(g->session, &g->pending, 1, err));
    g->pending = TUG_NO_TOKEN;
    return TUG_OK;
}

static tug_status sample(tug_generation *g, tug_err *err) {
    const float *logits = tug_session_logits(g->session);
    const int32_t id =
        g->rule ? tug_sampler_pick_where(g->sampler, logits, g->rule, g->rule_ud)
                : tug_sampler_pick(g->sampler, logits);
    if (id < 0) {
        return TUG_FAIL(err, TUG_ESTATE,
                        "the rule on the answer allows no token of the vocabulary here");
    }
    TUG_TRY(tug_sampler_accept(g->sampler, id, err));
    g->pending = id;
    if (g->left > 0) g->left--;
    if (tug_tokenizer_is_eog(g->vocab, id)) {
        g->finish = TUG_FINISH_EOS;
        return TUG_OK;
    }
    TUG_TRY(add_text(g, id, err));
    if (g->finish != TUG_FINISH_NONE) return TUG_OK;
    if (g->left == 0) {
        g->finish = TUG_FINISH_LENGTH;
    } else if (tug_session_n_tokens(g->session) >= tug_session_n_ctx(g->session)) {
        g->finish = TUG_FINISH_CONTEXT;
    }
    return TUG_OK;
}

static tug_status hand_out(tug_generation *g, int32_t id, tug_generated *out,
                           tug_err *err) {
    if (g->finish != TUG_FINISH_NONE) TUG_TRY(release_text(g, err));
    *out = (tug_generated){
        .id = id, .text = g->text.p, .n_text = g->text.n, .finish = g->finish};
    return TUG_OK;
}

tug_status tug_generation_step(tug_generation *g, tug_generated *out, tug_err *err) {
    *out = (tug_generated){.id = TUG_NO_TOKEN};
    if (g->finish != TUG_FINISH_NONE) {
        return TUG_FAIL(err, TUG_ESTATE,
                        "this text has ended (%s); start a new generation",
                        tug_finish_name(g->finish));
    }
    tug_buf_clear(&g->piece);
    tug_buf_clear(&g->text);
    TUG_TRY(append_pending(g, err));
    TUG_TRY(sample(g, err));
    return hand_out(g, g->pending, out, err);
}

tug_status tug_generation_cancel(tug_generation *g, tug_generated *out, tug_err *err) {
    *out = (tug_generated){.id = TUG_NO_TOKEN, .finish = g->finish};
    if (g->finish != TUG_FINISH_NONE) return TUG_OK;
    tug_buf_clear(&g->text);
    g->finish = TUG_FINISH_CANCELED;
    return hand_out(g, TUG_NO_TOKEN, out, err);
}
