/* cmd_eval.c - `tug eval`: how well the model predicts a text.
 *
 * The ids are cut into windows of -c tokens that begin every --stride tokens; each window
 * starts from an empty session.  A token is scored once, in the first window that has a
 * token before it: the first token of the text never, and without overlap the first one
 * of no window.  The score is the negative natural logarithm of its probability.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>

#include "base/sys.h"
#include "cli/cli.h"
#include "cli/cli_model.h"
#include "cli/interrupt.h"
#include "cli/prompt.h"
#include "json/json.h"

enum { OPT_FILE = CLI_OPT_OWN, OPT_IDS, OPT_STRIDE, OPT_PER_TOKEN, OPT_JSON };
enum { FILE_WINDOW = 512, N_TOP = 5 };

static const char short_options[] = ":h" CLI_ENGINE_SHORT;

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"file", required_argument, NULL, OPT_FILE},
    {"ids", required_argument, NULL, OPT_IDS},
    {"stride", required_argument, NULL, OPT_STRIDE},
    {"per-token", no_argument, NULL, OPT_PER_TOKEN},
    {"json", no_argument, NULL, OPT_JSON},
    CLI_ENGINE_LONG,
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: tug eval -m FILE (--file TEXT | --ids 1,2,3) [options]\n"
    "\n"
    "Mean negative log-likelihood (nats per token) and perplexity of a text.\n"
    "\n"
    "      --file FILE           the text; - is standard input\n"
    "      --ids 1,2,3           token ids instead of text\n"
    "  -c, --ctx-size N          window (default: 512 for --file, all for --ids)\n"
    "      --stride N            tokens from window to window (default: the window);\n"
    "                            less gives every scored token more context\n"
    "      --json                one JSON object: n (tokens scored), mean_nll, ppl\n"
    "      --per-token           with --json also nll of each scored token and top5:\n"
    "                            [id, log-probability] of what may follow the last\n"
    "\n"
    "model\n" CLI_ENGINE_HELP "\n"
    "examples\n"
    "  tug eval -m model.gguf --file book.txt -c 2048 --stride 1024\n"
    "  tug eval -m model.gguf --ids 9707,11,1879 --json --per-token\n";

typedef struct eval {
    cli_engine_options engine;
    const char *file, *ids_text; /* borrowed from argv; one of them is set */
    bool per_token, json;
    cli_model m;
    tug_ids ids;
    int64_t n_vocab, window, stride; /* 0 until known */
    int64_t n_windows;
    double *nll; /* owned, (n,) so far: of the scored tokens, in order */
    int64_t n;
    const int32_t *targets; /* borrowed from ids: what the rows to come must predict, */
    int64_t n_targets;      /* and how many of them */
} eval;

/* ---- scoring --------------------------------------------------------------------- */

/* log sum exp of a row, by which a logit becomes a log-probability. */
static double log_sum(const float *logits, int64_t n) {
    double largest = -INFINITY, sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        if ((double)logits[i] > largest) largest = (double)logits[i];
    }
    for (int64_t i = 0; i < n; i++) sum += exp((double)logits[i] - largest);
    return largest + log(sum);
}

static void score_row(void *ud, int64_t index, const float *logits) {
    eval *e = ud;
    (void)index;
    if (e->n_targets == 0) return; /* the row after the window's last token */
    e->nll[e->n++] = log_sum(logits, e->n_vocab) - (double)logits[*e->targets++];
    e->n_targets--;
}

/* Tokens [begin, end) from an empty session; those from `scored` on get a score. */
static tug_status run_window(eval *e, int64_t begin, int64_t end, int64_t scored,
                             tug_err *err) {
    const int64_t first = scored > begin ? scored : begin + 1; /* of the targets */
    tug_session_reset(e->m.session);
    e->targets = e->ids.p + first;
    e->n_targets = end - first;
    e->n_windows++;
    return cli_model_append(&e->m, e->ids.p + begin, end - begin, first - 1 - begin,
                            score_row, e, err);
}

static uint64_t tokens_to_run(int64_t n, int64_t window, int64_t stride) {
    uint64_t total = 0;
    for (int64_t begin = 0, end = 0; end < n; begin += stride) {
        end = begin + window < n ? begin + window : n;
        total += (uint64_t)(end - begin);
    }
    return total;
}

static tug_status run_windows(eval *e, tug_err *err) {
    const int64_t n = (int64_t)e->ids.n;
    tug_status status = TUG_OK;
    e->m.done_total = tokens_to_run(n, e->window, e->stride);
    cli_progress_begin(&e->m.progress, "evaluating");
    for (int64_t begin = 0, scored = 0; scored < n && status == TUG_OK;
         begin += e->stride) {
        const int64_t end = begin + e->window < n ? begin + e->window : n;
        status = run_window(e, begin, end, scored, err);
        e->m.done_before += (uint64_t)(end - begin);
        scored = end;
    }
    cli_progress_end(&e->m.progress);
    return status;
}

/* ---- reporting ------------------------------------------------------------------- */

static double mean_nll(const eval *e) {
    double sum = 0.0;
    for (int64_t i = 0; i < e->n; i++) sum += e->nll[i];
    return e->n > 0 ? sum / (double)e->n : NAN;
}

static void write_number(tug_json_writer *w, const char *key, double value) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_write_f64(w, value);
}

/* The likeliest successors of the last token, the first of equals first. */
static void write_top(tug_json_writer *w, const float *logits, int64_t n_vocab) {
    int32_t top[N_TOP];
    int n = 0;
    for (int32_t id = 0; id < n_vocab; id++) {
        int at = n;
        while (at > 0 && logits[id] > logits[top[at - 1]]) at--;
        if (at == N_TOP) continue;
        if (n < N_TOP) n++;
        for (int i = n - 1; i > at; i--) top[i] = top[i - 1];
        top[at] = id;
    }
    const double base = log_sum(logits, n_vocab);
    tug_json_write_key(w, tug_str_of("top5"));
    tug_json_begin_array(w);
    for (int i = 0; i < n; i++) {
        tug_json_begin_array(w);
        tug_json_write_i64(w, top[i]);
        tug_json_write_f64(w, (double)logits[top[i]] - base);
        tug_json_end_array(w);
    }
    tug_json_end_array(w);
}

static tug_status print_json(const eval *e, tug_err *err) {
    tug_buf out = {0};
    tug_json_writer w = tug_json_writer_make(&out, TUG_JSON_SPACED);
    tug_json_begin_object(&w);
    tug_json_write_key(&w, tug_str_of("n"));
    tug_json_write_i64(&w, e->n);
    write_number(&w, "mean_nll", mean_nll(e));
    write_number(&w, "ppl", exp(mean_nll(e)));
    if (e->per_token) {
        tug_json_write_key(&w, tug_str_of("nll"));
        tug_json_begin_array(&w);
        for (int64_t i = 0; i < e->n; i++) tug_json_write_f64(&w, e->nll[i]);
        tug_json_end_array(&w);
        write_top(&w, tug_session_logits(e->m.session), e->n_vocab);
    }
    tug_json_end_object(&w);
    tug_buf_char(&out, '\n');
    const tug_status status = tug_buf_ok(&out, err);
    if (status == TUG_OK) (void)fwrite(out.p, 1, out.n, stdout);
    tug_buf_free(&out);
    return status;
}

static tug_status print_result(const eval *e, tug_err *err) {
    if (e->json) {
        TUG_TRY(print_json(e, err));
    } else {
        (void)printf("tokens      %zu, windows of %lld, stride %lld\n"
                     "scored      %lld\n"
                     "mean nll    %.4f nats\n"
                     "perplexity  %.4f\n",
                     e->ids.n, (long long)e->window, (long long)e->stride,
                     (long long)e->n, mean_nll(e), exp(mean_nll(e)));
    }
    TUG_TRY(cli_flush(err));
    (void)fprintf(stderr, "load %.1f s · %lld tokens %.0f tok/s", e->m.load_s,
                  (long long)e->m.n_prefill,
                  e->m.prefill_s > 0.0 ? (double)e->m.n_prefill / e->m.prefill_s : 0.0);
    cli_print_peak_ram();
    return TUG_OK;
}

/* ---- the command ----------------------------------------------------------------- */

static tug_status read_ids(eval *e, tug_err *err) {
    int64_t n = 0;
    TUG_TRY(cli_parse_ids(e->ids_text, &e->ids.p, &n, err));
    e->ids.n = e->ids.cap = (size_t)n;
    return TUG_OK;
}

static tug_status read_file(eval *e, tug_buf *text, tug_err *err) {
    TUG_TRY(cli_read_text(e->file, text, err));
    if (text->n > 0) return TUG_OK;
    return TUG_FAIL(err, TUG_ERANGE, "%s is empty: there is nothing to score", e->file);
}

static tug_status choose_windows(eval *e, tug_err *err) {
    const int64_t n = (int64_t)e->ids.n;
    e->window = e->engine.n_ctx ? e->engine.n_ctx : e->file ? FILE_WINDOW : n;
    if (e->stride == 0) e->stride = e->window;
    if (e->stride > e->window) {
        return TUG_FAIL(
            err, TUG_EUSAGE,
            "a stride of %lld skips tokens: it can be at most the window, %lld",
            (long long)e->stride, (long long)e->window);
    }
    if (n < 2 && !e->per_token) {
        return TUG_FAIL(
            err, TUG_ERANGE,
            "%lld token: nothing comes before it, so there is nothing to score; "
            "give at least two",
            (long long)n);
    }
    return TUG_OK;
}

static tug_status evaluate(eval *e, tug_buf *text, tug_err *err) {
    TUG_TRY(e->file ? read_file(e, text, err) : read_ids(e, err));
    if (!e->file && e->ids.n == 0) {
        return TUG_FAIL(err, TUG_EUSAGE, "--ids holds no token ids");
    }
    TUG_TRY(cli_model_open(&e->m, &e->engine, err));
    e->n_vocab = tug_model_get_info(e->m.model).n_vocab;
    if (e->file) {
        TUG_TRY(cli_encode_plain(tug_model_tokenizer(e->m.model), tug_buf_view(text),
                                 TUG_CONTROL_IS_TEXT, &e->ids, err));
    }
    TUG_TRY(choose_windows(e, err));
    e->nll = tug_alloc_array(e->ids.n, sizeof *e->nll);
    if (!e->nll) {
        return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the scores of %zu tokens",
                        e->ids.n);
    }
    const int64_t n = (int64_t)e->ids.n;
    TUG_TRY(cli_model_start(&e->m, &e->engine, e->window < n ? e->window : n, err));
    TUG_TRY(run_windows(e, err));
    return print_result(e, err);
}

static tug_status set_option(eval *e, int c, const char *arg, tug_err *err) {
    switch (c) {
    case OPT_FILE: e->file = arg; return TUG_OK;
    case OPT_IDS: e->ids_text = arg; return TUG_OK;
    case OPT_STRIDE: return cli_parse_i64("--stride", arg, 1, INT32_MAX, &e->stride, err);
    case OPT_PER_TOKEN: e->per_token = true; return TUG_OK;
    case OPT_JSON: e->json = true; return TUG_OK;
    default: return cli_engine_option(&e->engine, c, arg, err);
    }
}

int cmd_eval(int argc, char **argv) {
    eval e = {0};
    tug_err err;
    for (int c; (c = cli_getopt(argc, argv, short_options, long_options)) != -1;) {
        if (c == 'h') {
            (void)fputs(help, stdout);
            return cli_flush(&err) == TUG_OK ? CLI_OK : cli_fail(&err);
        }
        if (c == '?' || c == ':') return cli_getopt_failed("eval", c, argv);
        if (set_option(&e, c, optarg, &err) != TUG_OK)
            return cli_usage("eval", "%s", err.msg);
    }
    if (optind < argc) return cli_usage("eval", "'%s' is no option", argv[optind]);
    if (!e.engine.model) return cli_usage("eval", "eval wants a model: -m FILE");
    if (!e.file == !e.ids_text)
        return cli_usage("eval", "give --file or --ids, one of them");
    if (e.per_token && !e.json) return cli_usage("eval", "--per-token needs --json");
    cli_interrupt_install();
    tug_buf text = {0};
    const tug_status status = evaluate(&e, &text, &err);
    tug_free(e.nll);
    tug_ids_free(&e.ids);
    tug_buf_free(&text);
    cli_model_close(&e.m);
    return status == TUG_OK ? CLI_OK : cli_fail(&err);
}
