/* tug_status.h - status codes and error sentences of libtug.
 *
 * A fallible function returns tug_status and takes `tug_err *err` last (may be NULL).
 * On anything but TUG_OK, err->msg is one sentence for a person: what, and what to do.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_STATUS_H
#define TUG_STATUS_H

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

#define TUG_NODISCARD __attribute__((warn_unused_result))

#endif
