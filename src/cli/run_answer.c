/* run_answer.c - see run_answer.h.  SPDX-License-Identifier: MIT */
#include "cli/run_answer.h"

#include <stdio.h>

#include "base/sys.h"
#include "cli/cli.h"
#include "cli/interrupt.h"
#include "tug_profile.h"
#include "json/json.h"

void cli_answer_free(cli_answer *a) {
    tug_ids_free(&a->ids);
    tug_buf_free(&a->text);
}

/* ---- generating ------------------------------------------------------------------ */

static tug_status take(cli_answer *a, const tug_generated *step, bool print,
                       tug_err *err) {
    if (step->id != TUG_NO_TOKEN) TUG_TRY(tug_ids_push(&a->ids, step->id, err));
    if (step->n_text == 0) return TUG_OK;
    tug_buf_append(&a->text, step->text, step->n_text);
    TUG_TRY(tug_buf_ok(&a->text, err));
    if (!print) return TUG_OK;
    (void)fwrite(step->text, 1, step->n_text, stdout); /* cli_flush sees a failure */
    return cli_flush(err);
}

/* One step, and its time if it computed something: the first of an answer only samples. */
static tug_status step_once(cli_answer *a, const cli_model *m, tug_generation *g,
                            tug_generated *step, tug_err *err) {
    if (cli_interrupt_pending()) return tug_generation_cancel(g, step, err);
    const int64_t before = tug_session_n_tokens(m->session);
    const double start = tug_now();
    TUG_TRY(tug_generation_step(g, step, err));
    const int64_t n = tug_session_n_tokens(m->session) - before;
    if (n > 0) a->decode_s += tug_now() - start;
    a->n_decoded += n;
    return TUG_OK;
}

tug_status cli_answer_generate(cli_answer *a, cli_model *m, tug_sampler *sampler,
                               const tug_generation_params *params, bool print,
                               tug_err *err) {
    tug_generation *g = NULL;
    tug_generated step = {0};
    TUG_TRY(tug_generation_create(&g, m->model, m->session, sampler, params, err));
    tug_status status = TUG_OK;
    while (status == TUG_OK && step.finish == TUG_FINISH_NONE) {
        status = step_once(a, m, g, &step, err);
        if (status == TUG_OK) status = take(a, &step, print, err);
    }
    a->finish = step.finish;
    a->pending = tug_generation_pending(g);
    tug_generation_destroy(&g);
    return status;
}

/* ---- reporting ------------------------------------------------------------------- */

static double per_second(int64_t n, double seconds) {
    return seconds > 0.0 ? (double)n / seconds : 0.0;
}

/* Of all tokens since the model was loaded, on a GPU. */
static void say_gpu_work(const cli_answer *a, const cli_model *m) {
    tug_gpu_now now;
    const tug_gpu_now *then = &m->loaded;
    const double n_tok = (double)(m->n_prefill + a->n_decoded);
    if (!tug_model_gpu_now(m->model, false, &now) || n_tok <= 0.0) return;
    const double hits = now.expert_hits - then->expert_hits;
    const double uses = hits + now.expert_misses - then->expert_misses;
    (void)fprintf(stderr, "gpu, a token: PCIe %.3f MB in, %.3f MB out",
                  1e-6 * (now.in_bytes - then->in_bytes) / n_tok,
                  1e-6 * (now.out_bytes - then->out_bytes) / n_tok);
    if (uses > 0.0) {
        (void)fprintf(stderr,
                      " · experts %.1f %% in VRAM, %.2f promoted, %.2f carried; %.0f "
                      "moved after prompts",
                      100.0 * hits / uses, (now.promoted - then->promoted) / n_tok,
                      (now.carried - then->carried) / n_tok, now.seeded - then->seeded);
    }
    (void)fputc('\n', stderr);
}

void cli_answer_summary(const cli_answer *a, const cli_model *m,
                        const tug_sampler_params *sampling) {
    (void)fprintf(stderr, "load %.1f s · prefill %lld tokens %.0f tok/s", m->load_s,
                  (long long)m->n_prefill, per_second(m->n_prefill, m->prefill_s));
    (void)fprintf(stderr, " · decode %zu tokens %.1f tok/s", a->ids.n,
                  per_second(a->n_decoded, a->decode_s));
    if (sampling->temperature > 0.0f) {
        (void)fprintf(stderr, " · seed %llu", (unsigned long long)sampling->seed);
    }
    const tug_streaming s = tug_model_streaming(m->model);
    if (s.wanted > 0.0) {
        (void)fprintf(stderr, " · experts %.0f %% in memory, %.0f MB read",
                      100.0 * s.hits / s.wanted, s.read_bytes * 1e-6);
    }
    cli_print_peak_ram();
    if (m->verbose) say_gpu_work(a, m);
}

static void write_key(tug_json_writer *w, const char *key) {
    tug_json_write_key(w, tug_str_of(key));
}

static void write_ids(tug_json_writer *w, const char *key, const tug_ids *ids) {
    write_key(w, key);
    tug_json_begin_array(w);
    for (size_t i = 0; i < ids->n; i++) tug_json_write_i64(w, ids->p[i]);
    tug_json_end_array(w);
}

static void write_number(tug_json_writer *w, const char *key, double value) {
    write_key(w, key);
    tug_json_write_f64(w, value);
}

static void write_timings(tug_json_writer *w, const cli_answer *a, const cli_model *m) {
    write_key(w, "timings");
    tug_json_begin_object(w);
    write_number(w, "load_s", m->load_s);
    write_number(w, "prefill_s", m->prefill_s);
    write_number(w, "prefill_tok_s", per_second(m->n_prefill, m->prefill_s));
    write_number(w, "decode_s", a->decode_s);
    write_number(w, "decode_tok_s", per_second(a->n_decoded, a->decode_s));
    tug_json_end_object(w);
}

tug_status cli_answer_json(const cli_answer *a, const cli_model *m,
                           const tug_sampler_params *sampling, const tug_ids *prompt,
                           tug_err *err) {
    tug_buf out = {0};
    tug_json_writer w = tug_json_writer_make(&out, TUG_JSON_SPACED);
    tug_json_begin_object(&w);
    write_ids(&w, "prompt_ids", prompt);
    write_ids(&w, "ids", &a->ids);
    write_key(&w, "text");
    tug_json_write_str(&w, tug_buf_view(&a->text));
    write_key(&w, "finish");
    tug_json_write_str(&w, tug_str_of(tug_finish_name(a->finish)));
    write_key(&w, "seed");
    tug_json_write_u64(&w, sampling->seed);
    write_timings(&w, a, m);
    write_key(&w, "peak_ram_bytes");
    tug_json_write_u64(&w, cli_peak_ram());
    tug_json_end_object(&w);
    tug_buf_char(&out, '\n');
    tug_status status = tug_buf_ok(&out, err);
    if (status == TUG_OK) {
        (void)fwrite(out.p, 1, out.n, stdout);
        status = cli_flush(err);
    }
    tug_buf_free(&out);
    return status;
}
