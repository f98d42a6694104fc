/* call_log.h - what a parser of calls tells its sink, as one text to compare:
 *
 *     T:Let me look.|C:read_file|A:{"path":"a.c"}|E+
 *
 * T text, C a call begins, A its arguments, E+ or E- it ends complete or not.  Pieces of
 * one text, or of one call's arguments, are joined.  Tools come with it.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_CALL_LOG_H
#define TUG_TESTS_CALL_LOG_H

#include <stdbool.h>

#include "base/arena.h"
#include "calls/call_parser.h"

typedef struct call_log {
    tug_buf text; /* the log */
    char last;    /* T, C, A, E, or 0 */
    bool uneven;  /* a piece of text or arguments was cut inside a character */
    int fail_at;  /* > 0: the sink fails when it is told that many things */
} call_log;

tug_call_sink call_log_sink(call_log *log);
void call_log_clear(call_log *log);

/* Tools read from JSON: [{"name": ..., "parameters": ...}, ...]; n 0 when it is none. */
tug_tools call_log_tools(const char *json, tug_arena *arena);

/* Feeds in[0..a), in[a..b), in[b..), or single bytes, and finishes. */
tug_status call_log_run3(call_log *log, tug_tools tools, tug_str in, size_t a, size_t b,
                         bool whole);
tug_status call_log_run1(call_log *log, tug_tools tools, tug_str in, bool whole);

#endif
