/* bench_report.h - the result of a bench as a table, as JSON, and as a picture.  All append
 * to a buffer (failures are sticky there) and work on interrupted runs.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BENCH_BENCH_REPORT_H
#define TUG_BENCH_BENCH_REPORT_H

#include "base/str.h"
#include "bench/bench.h"

/* What a report says of the run besides its measurements; all borrowed. */
typedef struct tug_bench_subject {
    const char *path;
    tug_model_info model;
    int n_processors;
    int64_t n_ctx, n_batch;
    const char *cache_type; /* "f16" */
} tug_bench_subject;

/* For people: a table, the stages of the deepest cases, the sentence. */
void tug_bench_text(const tug_bench *b, const tug_bench_subject *s, tug_buf *out);

/* For programs: everything; docs/BENCH.md lists the members. */
void tug_bench_json(const tug_bench *b, const tug_bench_subject *s, tug_buf *out);

/* Speed against depth, an SVG document that reads on light and dark ground. */
void tug_bench_svg(const tug_bench *b, const tug_bench_subject *s, tug_buf *out);

/* What bounds the run, one sentence with its full stop; nothing when nothing was
 * measured. */
void tug_bench_sentence(const tug_bench *b, tug_buf *out);

/* "t(d) = 1.23 ms + 4.5 ns d" of a fit; nothing when there is none. */
void tug_bench_formula(tug_line fit, tug_buf *out);

#endif
