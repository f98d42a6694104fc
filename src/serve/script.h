/* script.h - test builds: answers from a file in place of the model's choice of tokens.
 *
 * The file is an array of rules {"when", "say", "times", "prefill_s", "token_s"}.  A request
 * takes the first rule with uses left (times, 1 unless said, 0: always) whose `when` occurs
 * in its prompt; the tokens of `say` then come out of the sampler, one by one and as slowly
 * as it says, and pass through everything that real ones pass through.
 *
 * Without TUG_SCRIPTED there is no such thing: loading one is an error.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_SCRIPT_H
#define TUG_SERVE_SCRIPT_H

#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"
#include "base/str.h"

struct tug_serve;

typedef struct tug_script {
    tug_arena arena;
    struct tug_script_rule *rule; /* in the arena, (n,) */
    size_t n;
} tug_script;

typedef struct tug_scripted {
    const int32_t *ids; /* NULL: no rule, the model speaks for itself */
    size_t n;
    double prefill_s, token_s;
} tug_scripted;

TUG_NODISCARD tug_status tug_script_load(struct tug_serve *s, const char *path,
                                         tug_err *err);
void tug_script_free(tug_script *script);

/* Takes `front`. */
tug_scripted tug_script_choose(struct tug_serve *s, tug_str prompt);

#endif
