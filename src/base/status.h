/* status.h - how every fallible call of tug reports.
 *
 * A fallible function returns tug_status and takes `tug_err *err` last (may be NULL).
 * The sentence is written once, where the error is born (TUG_FAIL), and forwarded
 * untouched (TUG_TRY).  It names the thing and the remedy, because a person reads it.
 * A broken contract between our own functions is not an error but a bug: TUG_CHECK.
 *
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_STATUS_H
#define TUG_BASE_STATUS_H

#include "tug_status.h"

#define TUG_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

#ifdef __cplusplus
extern "C" {
#endif

/* Short fixed text of a code, never NULL. */
const char *tug_status_text(tug_status code);

/* Fills *err (if not NULL) and returns `code`, so that `return TUG_FAIL(...)` works.
 * Control characters that a hostile file smuggled into the arguments are replaced. */
tug_status tug_err_set(tug_err *err, tug_status code, const char *file, int line,
                       const char *fmt, ...) TUG_PRINTF(5, 6) __attribute__((cold));

void tug_check_failed(const char *cond, const char *file, int line)
    __attribute__((noreturn, cold));

#ifdef __cplusplus
}
#endif

#define TUG_FAIL(err, code, ...) \
    tug_err_set((err), (code), __FILE__, __LINE__, __VA_ARGS__)

#define TUG_TRY(expr)                                          \
    do {                                                       \
        const tug_status tug_try_status_ = (expr);             \
        if (tug_try_status_ != TUG_OK) return tug_try_status_; \
    } while (0)

/* Stays on in release builds.  Never for input: only for our own contracts. */
#define TUG_CHECK(cond) ((cond) ? (void)0 : tug_check_failed(#cond, __FILE__, __LINE__))

#endif
