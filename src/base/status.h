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

/* Append only: the numbers are part of the public API. */
#define TUG_STATUS_MAP(XX)                            \
    XX(OK, "success")                                 \
    XX(ENOMEM, "out of memory")                       \
    XX(EIO, "input/output error")                     \
    XX(EFORMAT, "malformed file or request")          \
    XX(EUNSUPPORTED, "well formed but not supported") \
    XX(ERANGE, "value or size out of range")          \
    XX(ESTATE, "call not allowed in this state")      \
    XX(EBUSY, "no slot free, retry later")            \
    XX(ECANCELED, "canceled by caller")               \
    XX(EDEVICE, "accelerator error")                  \
    XX(EUSAGE, "wrong command line")

typedef enum tug_status {
#define XX(name, msg) TUG_##name,
    TUG_STATUS_MAP(XX)
#undef XX
        TUG_STATUS_COUNT
} tug_status;

typedef struct tug_err {
    tug_status code;
    int line;
    const char *file; /* static string: where the error was born */
    char msg[256];    /* one sentence, names and numbers, no trailing newline */
} tug_err;

#define TUG_NODISCARD          __attribute__((warn_unused_result))
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
