/* trace_record.c - `tug trace` with a model, or with made-up routes: writes a trace.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "base/outfile.h"
#include "cli/cli.h"
#include "cli/trace_cmd.h"
#include "tug_profile.h"

typedef struct recorder {
    tug_trace trace;
    int64_t first;     /* token of the batch that is being computed */
    int next_layer;    /* of it; 0: none is */
    tug_status status; /* the first failure; nothing is recorded after it */
    tug_err err;
} recorder;

static void on_routes(void *ud, int layer, const int32_t *ids, int n_used,
                      int64_t n_tok) {
    recorder *r = ud;
    if (r->status != TUG_OK) return;
    if (layer == 0) {
        r->status = tug_trace_add_batch(&r->trace, (int32_t)n_tok, &r->first, &r->err);
        if (r->status != TUG_OK) return;
    }
    TUG_CHECK(n_used == r->trace.n_used && r->first + n_tok == r->trace.n_tokens);
    for (int64_t i = 0; i < n_tok; i++) {
        uint16_t *to = tug_trace_ids(&r->trace, r->first + i, layer);
        for (int k = 0; k < n_used; k++) to[k] = (uint16_t)ids[i * n_used + k];
    }
    r->next_layer = (layer + 1) % r->trace.n_layer;
}

static void on_opened(void *ud, tug_model *model) {
    recorder *r = ud;
    const tug_model_info info = tug_model_get_info(model);
    r->status = tug_trace_set_shape(&r->trace, "this model", (int)info.n_layer,
                                    (int)info.n_expert, (int)info.n_expert_used, &r->err);
    if (r->status == TUG_OK) tug_model_on_routes(model, on_routes, r);
}

/* A batch that ended in the middle says nothing. */
static void drop_part(recorder *r) {
    if (r->next_layer == 0) return;
    r->trace.n_tokens = r->first;
    r->trace.n_batches--;
}

static tug_status save(const tug_trace *t, const char *path, tug_err *err) {
    if (t->n_tokens == 0) {
        return TUG_FAIL(err, TUG_ERANGE, "no token was computed: %s is not written",
                        path);
    }
    TUG_TRY(tug_trace_write(t, path, err));
    (void)fprintf(stderr,
                  "%s: %lld tokens in %lld batches, %d layers, %d of %d experts\n", path,
                  (long long)t->n_tokens, (long long)t->n_batches, t->n_layer, t->n_used,
                  t->n_expert);
    return TUG_OK;
}

int trace_record(trace_options *o) {
    recorder r = {.status = TUG_OK};
    tug_err err;
    if (tug_outfile_check(o->output, &err) != TUG_OK) return cli_fail(&err);
    o->run.opened = on_opened;
    o->run.opened_ud = &r;
    int code = run_once(&o->run);
    drop_part(&r);
    if (r.status != TUG_OK) {
        code = cli_fail(&r.err);
    } else if (code == CLI_OK || code == CLI_INTERRUPTED) {
        if (save(&r.trace, o->output, &err) != TUG_OK) code = cli_fail(&err);
    }
    tug_trace_free(&r.trace);
    return code;
}

int trace_synth(trace_options *o) {
    tug_trace t = {0};
    tug_err err;
    tug_status s = tug_outfile_check(o->output, &err);
    if (s == TUG_OK) s = tug_synth_routes(&t, &o->routes, &err);
    if (s == TUG_OK) s = save(&t, o->output, &err);
    tug_trace_free(&t);
    return s == TUG_OK ? CLI_OK : cli_fail(&err);
}
