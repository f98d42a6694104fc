/* cli.c - see cli.h.  SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/sys.h"

int cli_fail(const tug_err *err) {
    (void)fflush(stdout);
    (void)fprintf(stderr, "tug: %s\n", err->msg);
    if (err->code == TUG_ECANCELED) return CLI_INTERRUPTED;
    return err->code == TUG_EUSAGE ? CLI_USAGE : CLI_FAILED;
}

int cli_usage(const char *cmd, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    (void)fprintf(stderr, "tug: ");
    (void)vfprintf(stderr, fmt, ap);
    (void)fprintf(stderr, "; see `tug %s --help`\n", cmd);
    va_end(ap);
    return CLI_USAGE;
}

tug_status cli_parse_i64(const char *flag, const char *text, int64_t min, int64_t max,
                         int64_t *out, tug_err *err) {
    char *end = NULL;
    errno = 0;
    const long long v = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || isspace((unsigned char)text[0])) {
        return TUG_FAIL(err, TUG_EUSAGE, "%s wants a whole number, not '%s'", flag, text);
    }
    if (errno == ERANGE || v < min || v > max) {
        return TUG_FAIL(err, TUG_EUSAGE, "%s must be between %lld and %lld, not %s", flag,
                        (long long)min, (long long)max, text);
    }
    *out = v;
    return TUG_OK;
}

tug_status cli_parse_f64(const char *flag, const char *text, double min, double max,
                         double *out, tug_err *err) {
    char *end = NULL;
    const double v = strtod(text, &end);
    if (end == text || *end != '\0' || isspace((unsigned char)text[0]) || isnan(v)) {
        return TUG_FAIL(err, TUG_EUSAGE, "%s wants a number, not '%s'", flag, text);
    }
    if (v < min || v > max) {
        return TUG_FAIL(err, TUG_EUSAGE, "%s must be between %g and %g, not %s", flag,
                        min, max, text);
    }
    *out = v;
    return TUG_OK;
}

tug_status cli_parse_size(const char *flag, const char *arg, uint64_t *out,
                          tug_err *err) {
    char *end;
    const double n = strtod(arg, &end);
    const double unit = *end == 'G' || *end == 'g' ? 1e9 : 1e6;
    const bool known = end != arg && strchr("GgMm", *end) && *end != '\0';
    if (known && (end[1] == '\0' || strcasecmp(end + 1, "B") == 0) && n * unit >= 1e6 &&
        n * unit < 1e15) {
        *out = (uint64_t)(n * unit);
        return TUG_OK;
    }
    return TUG_FAIL(err, TUG_EUSAGE, "%s is a size like 20G or 800M, not '%s'", flag,
                    arg);
}

tug_status cli_parse_ids(const char *text, int32_t **ids, int64_t *n, tug_err *err) {
    *ids = NULL;
    *n = 0;
    /* At most one id per two characters, so one allocation is enough. */
    int32_t *out = tug_alloc_array(strlen(text) / 2 + 1, sizeof *out);
    if (!out) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the token ids");
    const char *p = text + strspn(text, ", \t\n");
    while (*p) {
        char *end = NULL;
        errno = 0;
        const long v = strtol(p, &end, 10);
        const size_t sep = strspn(end, ", \t\n");
        if (!isdigit((unsigned char)*p) || errno == ERANGE || v > INT32_MAX ||
            (sep == 0 && *end != '\0')) {
            tug_free(out);
            return TUG_FAIL(err, TUG_EUSAGE,
                            "token ids are whole numbers from 0, separated by commas; "
                            "'%.20s' is none",
                            p);
        }
        out[(*n)++] = (int32_t)v;
        p = end + sep;
    }
    *ids = out;
    return TUG_OK;
}

tug_status cli_flush(tug_err *err) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO, "cannot write to standard output: %s", strerror(errno));
}
