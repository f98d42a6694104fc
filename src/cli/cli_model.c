/* cli_model.c - see cli_model.h.  SPDX-License-Identifier: MIT */
#include "cli/cli_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/sys.h"
#include "cli/interrupt.h"

static bool on_load(void *ud, uint64_t done, uint64_t total) {
    cli_model *m = ud;
    cli_progress_update(&m->progress, done, total);
    return !cli_interrupt_pending();
}

static bool on_prefill(void *ud, uint64_t done, uint64_t total) {
    cli_model *m = ud;
    const uint64_t all = m->done_total ? m->done_total : total;
    cli_progress_update(&m->progress, m->done_before + done, all);
    return !cli_interrupt_pending();
}

static void say_gpu(const tug_model *m) {
    const tug_model_info i = tug_model_get_info(m);
    if (!i.gpu) return;
    (void)fprintf(stderr,
                  "gpu: %s, %.1f of %.1f GB of VRAM taken, %lld of %lld experts have a "
                  "copy there\n",
                  i.gpu, (double)i.vram_used * 1e-9, (double)i.vram_bytes * 1e-9,
                  (long long)i.n_experts_on_gpu, (long long)(i.n_layer * i.n_expert));
    char warning[256];
    if (tug_model_gpu_warning(m, warning, sizeof warning)) {
        (void)fprintf(stderr, "tug: warning: %s\n", warning);
    }
}

tug_model_params cli_model_params(const cli_engine_options *o) {
    return (tug_model_params){
        .path = o->model,
        .n_threads = (int)o->n_threads,
        .cpu_level = o->cpu_level,
        .ram_bytes = o->ram_bytes,
        .gpu = o->gpu,
        .vram_bytes = o->vram_bytes,
        .n_sessions = o->n_sessions,
        .n_ctx = o->n_ctx,
        .n_batch = o->n_batch,
        .kv_type = o->kv_type,
        .session_bytes = o->session_bytes,
    };
}

/* With the bar and the clock. */
static tug_status load(cli_model *m, const tug_model_params *params, tug_err *err) {
    cli_progress_begin(&m->progress, "loading");
    const double start = tug_now();
    const tug_status status = tug_model_open(&m->model, params, err);
    m->load_s = tug_now() - start;
    cli_progress_end(&m->progress);
    return status;
}

/* May a GPU be the reason?  If it is not, loading without it fails as well, and says why. */
static bool may_do_without(const cli_engine_options *o, tug_status s) {
    if (!o->gpu || strcmp(o->gpu, "none") == 0 || o->need_gpu) return false;
    return s == TUG_EUNSUPPORTED || s == TUG_ENOMEM || s == TUG_EDEVICE;
}

tug_status cli_model_open(cli_model *m, const cli_engine_options *o, tug_err *err) {
    *m = (cli_model){0};
    tug_model_params params = cli_model_params(o);
    params.on_load = on_load;
    params.ud = m;
    cli_progress_init(&m->progress);
    tug_status status = load(m, &params, err);
    if (may_do_without(o, status)) {
        const tug_err why = *err;
        params.gpu = NULL;
        status = load(m, &params, err);
        if (status == TUG_OK) {
            (void)fprintf(stderr, "tug: going on without a GPU: %s\n", why.msg);
        }
    }
    const char *plan = status == TUG_OK ? tug_model_plan(m->model, o->verbose) : NULL;
    if (plan) (void)fputs(plan, stderr);
    if (status != TUG_OK) return status;
    say_gpu(m->model);
    m->verbose = o->verbose;
    (void)tug_model_gpu_now(m->model, false, &m->loaded);
    return TUG_OK;
}

void cli_model_close(cli_model *m) {
    tug_session_destroy(&m->session);
    tug_model_close(&m->model);
}

tug_status cli_model_start(cli_model *m, const cli_engine_options *o, int64_t n_ctx,
                           tug_err *err) {
    const tug_session_params params = {
        .n_ctx = n_ctx,
        .n_batch = o->n_batch,
        .kv_type = o->kv_type,
        .on_prefill = on_prefill,
        .ud = m,
    };
    return tug_session_create(&m->session, m->model, &params, err);
}

tug_status cli_model_append(cli_model *m, const int32_t *ids, int64_t n, int64_t first,
                            tug_logits_fn *fn, void *ud, tug_err *err) {
    const int64_t before = tug_session_n_tokens(m->session);
    const double start = tug_now();
    if (!m->progress.what) cli_progress_begin(&m->progress, "reading the prompt");
    const tug_status status =
        tug_session_append_each(m->session, ids, n, first, fn, ud, err);
    if (!m->done_total) cli_progress_end(&m->progress);
    m->prefill_s += tug_now() - start;
    m->n_prefill += tug_session_n_tokens(m->session) - before;
    return status;
}

uint64_t cli_peak_ram(void) {
    static const char path[] = "/proc/self/status", key[] = "VmHWM:";
    enum { MAX_STATUS_BYTES = 1 << 16 };
    tug_file f;
    tug_buf text = {0};
    uint64_t kib = 0;
    if (tug_file_open(&f, path, NULL) != TUG_OK) return 0;
    /* Files of /proc say they have no bytes, so they are read to their end. */
    if (tug_read_all(f.fd, path, MAX_STATUS_BYTES, &text, NULL) == TUG_OK && text.p) {
        const char *line = strstr(text.p, key);
        if (line) kib = strtoull(line + sizeof key - 1, NULL, 10);
    }
    tug_buf_free(&text);
    tug_file_close(&f);
    return kib * 1024;
}

void cli_print_peak_ram(void) {
    const double bytes = (double)cli_peak_ram();
    const bool large = bytes >= 1e9;
    (void)fprintf(stderr, " · peak RAM %.1f %s\n", bytes * (large ? 1e-9 : 1e-6),
                  large ? "GB" : "MB");
}
