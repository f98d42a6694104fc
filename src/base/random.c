/* random.c - see random.h.  SPDX-License-Identifier: MIT */
#include "base/random.h"

#include <errno.h>
#include <string.h>

#include "base/sys.h"

static tug_status random_bytes(void *out, size_t n, tug_err *err) {
    unsigned char *p = out;
    for (size_t at = 0; at < n;) {
        const ssize_t got = tug_sys.getrandom(p + at, n - at, 0);
        if (got > 0) {
            at += (size_t)got;
        } else if (errno != EINTR) {
            return TUG_FAIL(err, TUG_EIO, "the kernel gives no random numbers: %s",
                            strerror(errno));
        }
    }
    return TUG_OK;
}

tug_status tug_random_text(char *out, size_t n, tug_err *err) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    enum { N_LETTERS = sizeof letters - 1 };
    for (size_t at = 0; at < n;) {
        unsigned char bytes[64];
        TUG_TRY(random_bytes(bytes, sizeof bytes, err));
        for (size_t i = 0; i < sizeof bytes && at < n; i++) {
            /* 4 * 62: higher ones would favour the first letters */
            if (bytes[i] < 4 * N_LETTERS) out[at++] = letters[bytes[i] % N_LETTERS];
        }
    }
    out[n] = '\0';
    return TUG_OK;
}

tug_status tug_random_u64(uint64_t *out, tug_err *err) {
    return random_bytes(out, sizeof *out, err);
}
