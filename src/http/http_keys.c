/* http_keys.c - see http_keys.h.  SPDX-License-Identifier: MIT */
#include "http/http_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>

#include "base/file.h"
#include "base/sys.h"

enum { KEY_FILE_MAX = 1 << 20 };

static tug_status read_private(const char *path, tug_buf *out, tug_err *err) {
    const int fd = tug_sys.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
    if (fd < 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot open the key file %s: %s", path,
                        strerror(errno));
    }
    struct stat st;
    tug_status status = TUG_OK;
    if (tug_sys.fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = TUG_FAIL(err, TUG_EIO, "the key file %s is not a regular file", path);
    } else if (st.st_mode & 077) {
        status =
            TUG_FAIL(err, TUG_EUSAGE,
                     "others can read the key file %s (mode %03o); run chmod 600 on it",
                     path, (unsigned)(st.st_mode & 0777));
    } else {
        status = tug_read_all(fd, path, KEY_FILE_MAX, out, err);
    }
    (void)tug_sys.close(fd);
    return status;
}

static tug_str trim(tug_str s) {
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
        s = tug_str_make(s.p + 1, s.n - 1);
    while (s.n > 0 && strchr(" \t\r", s.p[s.n - 1])) s.n--;
    return s;
}

static bool is_key(tug_str line) {
    for (size_t i = 0; i < line.n; i++) {
        if (line.p[i] <= ' ' || line.p[i] > '~') return false;
    }
    return line.n <= TUG_KEY_MAX;
}

static tug_status add_line(tug_keys *keys, tug_str line, int number, const char *path,
                           tug_err *err) {
    if (line.n == 0 || line.p[0] == '#') return TUG_OK;
    if (!is_key(line)) {
        return TUG_FAIL(
            err, TUG_EFORMAT,
            "line %d of the key file %s is not a key: up to %d printable ASCII "
            "characters without spaces",
            number, path, TUG_KEY_MAX);
    }
    if (keys->n == TUG_KEYS_MAX) {
        return TUG_FAIL(err, TUG_ERANGE, "the key file %s has more than %d keys", path,
                        TUG_KEYS_MAX);
    }
    tug_buf_str(&keys->text, line);
    keys->end[keys->n++] = keys->text.n;
    return TUG_OK;
}

static tug_status add_lines(tug_keys *keys, tug_str text, const char *path,
                            tug_err *err) {
    int number = 1;
    while (text.n > 0) {
        const char *const newline = memchr(text.p, '\n', text.n);
        const size_t n = newline ? (size_t)(newline - text.p) : text.n;
        TUG_TRY(add_line(keys, trim(tug_str_make(text.p, n)), number++, path, err));
        const size_t used = newline ? n + 1 : n;
        text = tug_str_make(text.p + used, text.n - used);
    }
    TUG_TRY(tug_buf_ok(&keys->text, err));
    if (keys->n == 0) {
        return TUG_FAIL(err, TUG_EFORMAT,
                        "the key file %s holds no key; write one on a line of its own",
                        path);
    }
    return TUG_OK;
}

tug_status tug_keys_load(tug_keys *out, const char *path, tug_err *err) {
    tug_buf text = {0};
    out->end = tug_alloc_array(TUG_KEYS_MAX, sizeof *out->end);
    tug_status status =
        out->end ? read_private(path, &text, err)
                 : TUG_FAIL(err, TUG_ENOMEM, "no memory for the API keys of %s", path);
    if (status == TUG_OK) status = add_lines(out, tug_buf_view(&text), path, err);
    if (text.p) explicit_bzero(text.p, text.n);
    tug_buf_free(&text);
    if (status != TUG_OK) tug_keys_free(out);
    return status;
}

void tug_keys_free(tug_keys *keys) {
    if (keys->text.p) explicit_bzero(keys->text.p, keys->text.n);
    tug_buf_free(&keys->text);
    tug_free(keys->end);
    *keys = (tug_keys){0};
}

/* 1 when equal.  Runs over all of `given`, whatever the key holds. */
static unsigned equal(tug_str key, tug_str given) {
    size_t differ = key.n ^ given.n;
    for (size_t i = 0; i < given.n; i++) {
        const size_t at = i < key.n ? i : 0;
        differ |= (size_t)(unsigned char)(key.p[at] ^ given.p[i]);
    }
    /* The top bit of differ | -differ says whether any bit is set. */
    return (unsigned)(~(differ | ((size_t)0 - differ)) >> (sizeof differ * 8 - 1));
}

int tug_keys_find(const tug_keys *keys, tug_str given) {
    if (given.n == 0 || given.n > TUG_KEY_MAX) return -1;
    unsigned found = 0; /* 1 + the index */
    size_t begin = 0;
    for (size_t i = 0; i < keys->n; i++) {
        const tug_str key = tug_str_make(keys->text.p + begin, keys->end[i] - begin);
        found |= (unsigned)(i + 1) * equal(key, given) * (unsigned)(found == 0);
        begin = keys->end[i];
    }
    return (int)found - 1;
}
