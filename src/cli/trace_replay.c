/* trace_replay.c - `tug trace --replay`: hit rates of recorded traces.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/outfile.h"
#include "base/sys.h"
#include "cli/cli.h"
#include "cli/trace_cmd.h"

typedef struct replay {
    tug_trace trace, profile;
    tug_curves *curves; /* owned */
    tug_buf out;
} replay;

static tug_status read_traces(replay *r, const trace_options *o, tug_err *err) {
    for (int i = 0; i < o->n_files; i++) {
        TUG_TRY(tug_trace_read(&r->trace, o->files[i], err));
    }
    if (o->run.engine.n_batch > 0) {
        TUG_TRY(tug_trace_split(&r->trace, (int32_t)o->run.engine.n_batch, err));
    }
    if (!o->profile) return TUG_OK;
    TUG_TRY(tug_trace_set_shape(&r->profile, o->profile, r->trace.n_layer,
                                r->trace.n_expert, r->trace.n_used, err));
    return tug_trace_read(&r->profile, o->profile, err);
}

static tug_status fill_spec(replay *r, trace_options *o, tug_err *err) {
    tug_curves_spec *s = &o->curves;
    if (s->n_sizes == 0) tug_curves_default_sizes(s, r->trace.n_expert);
    if (s->staging == 0) s->staging = 2 * r->trace.n_used;
    s->profile = o->profile ? &r->profile : &r->trace;
    for (int i = 0; i < s->n_sizes; i++) {
        if (s->sizes[i] <= r->trace.n_expert) continue;
        return TUG_FAIL(err, TUG_ERANGE, "--slots %d: a layer has only %d experts",
                        s->sizes[i], r->trace.n_expert);
    }
    return TUG_OK;
}

static tug_status plot(replay *r, const trace_options *o, tug_err *err) {
    const char *slash = strrchr(o->files[0], '/');
    tug_buf svg = {0};
    tug_curves_svg(r->curves, slash ? slash + 1 : o->files[0], &svg);
    tug_status s = tug_buf_ok(&svg, err);
    if (s == TUG_OK) s = tug_outfile_write(o->plot, tug_buf_view(&svg), err);
    tug_buf_free(&svg);
    return s;
}

static tug_status run(replay *r, trace_options *o, tug_err *err) {
    if (o->plot) TUG_TRY(tug_outfile_check(o->plot, err));
    TUG_TRY(read_traces(r, o, err));
    TUG_TRY(fill_spec(r, o, err));
    r->curves = tug_alloc_zero(sizeof *r->curves);
    if (!r->curves) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the curves");
    TUG_TRY(tug_curves_run(r->curves, &r->trace, &o->curves, err));
    if (o->json) {
        tug_curves_json(r->curves, &r->out);
    } else {
        tug_curves_text(r->curves, &r->out);
    }
    TUG_TRY(tug_buf_ok(&r->out, err));
    if (o->plot) TUG_TRY(plot(r, o, err));
    (void)fwrite(r->out.p, 1, r->out.n, stdout);
    return cli_flush(err);
}

int trace_replay(trace_options *o) {
    replay r = {0};
    tug_err err;
    const tug_status s = run(&r, o, &err);
    tug_trace_free(&r.trace);
    tug_trace_free(&r.profile);
    tug_free(r.curves);
    tug_buf_free(&r.out);
    return s == TUG_OK ? CLI_OK : cli_fail(&err);
}
