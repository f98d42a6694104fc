/* file.c - see file.h.  SPDX-License-Identifier: MIT */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "base/sys.h"

tug_status tug_file_open(tug_file *f, const char *path, tug_err *err) {
    *f = (tug_file){.fd = -1};
    int fd;
    do fd = tug_sys.open(path, O_RDONLY | O_CLOEXEC, 0);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot open %s: %s", path, strerror(errno));
    }
    struct stat st;
    if (tug_sys.fstat(fd, &st) != 0) {
        const int why = errno;
        (void)tug_sys.close(fd);
        return TUG_FAIL(err, TUG_EIO, "cannot examine %s: %s", path, strerror(why));
    }
    if (!S_ISREG(st.st_mode)) {
        (void)tug_sys.close(fd);
        return TUG_FAIL(err, TUG_EIO, "%s is %s", path,
                        S_ISDIR(st.st_mode) ? "a folder: name a file in it"
                                            : "not a regular file");
    }
    f->fd = fd;
    f->size = (uint64_t)st.st_size;
    return TUG_OK;
}

void tug_file_close(tug_file *f) {
    if (f->fd >= 0) (void)tug_sys.close(f->fd);
    f->fd = -1;
}

tug_status tug_file_read_at(const tug_file *f, void *dst, size_t n, uint64_t at,
                            const char *path, tug_err *err) {
    if (!tug_range_ok(at, n, f->size)) {
        return TUG_FAIL(err, TUG_ERANGE, "%s ends before byte %llu", path,
                        (unsigned long long)at + n);
    }
    char *p = dst;
    while (n > 0) {
        const ssize_t got = tug_sys.pread(f->fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            return TUG_FAIL(err, TUG_EIO, "cannot read %s at byte %llu: %s", path,
                            (unsigned long long)at, strerror(errno));
        }
        if (got == 0) {
            return TUG_FAIL(err, TUG_EIO,
                            "%s became shorter while it was being read (byte %llu)", path,
                            (unsigned long long)at);
        }
        p += got;
        n -= (size_t)got;
        at += (uint64_t)got;
    }
    return TUG_OK;
}

bool tug_read_small(const char *path, char *buf, size_t cap) {
    const int fd = tug_sys.open(path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return false;
    const ssize_t n = tug_sys.read(fd, buf, cap - 1);
    (void)tug_sys.close(fd);
    if (n <= 0) return false;
    buf[n] = '\0';
    return true;
}

tug_status tug_map_open(tug_map *m, const char *path, tug_err *err) {
    *m = (tug_map){0};
    tug_file f;
    TUG_TRY(tug_file_open(&f, path, err));
    tug_status s = TUG_OK;
    if (f.size > SIZE_MAX / 2) {
        s = TUG_FAIL(err, TUG_ERANGE, "%s is too large to map", path);
    } else if (f.size > 0) {
        void *p = tug_sys.mmap(NULL, (size_t)f.size, PROT_READ, MAP_PRIVATE, f.fd, 0);
        if (p == MAP_FAILED) {
            s = TUG_FAIL(err, TUG_EIO, "cannot map %s: %s", path, strerror(errno));
        } else {
            m->data = p;
            m->size = f.size;
        }
    }
    tug_file_close(&f);
    return s;
}

void tug_map_close(tug_map *m) {
    if (m->data) {
        union {
            const uint8_t *ro;
            void *rw;
        } p = {.ro = m->data}; /* munmap wants a non-const pointer */
        (void)tug_sys.munmap(p.rw, (size_t)m->size);
    }
    *m = (tug_map){0};
}

tug_status tug_read_all(int fd, const char *name, size_t limit, tug_buf *out,
                        tug_err *err) {
    char chunk[65536];
    const size_t start = out->n;
    for (;;) {
        const ssize_t got = tug_sys.read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            return TUG_FAIL(err, TUG_EIO, "cannot read %s: %s", name, strerror(errno));
        }
        if (got == 0) return tug_buf_ok(out, err);
        if ((size_t)got > limit - (out->n - start)) {
            return TUG_FAIL(err, TUG_ERANGE, "%s is longer than %zu bytes", name, limit);
        }
        tug_buf_append(out, chunk, (size_t)got);
        TUG_TRY(tug_buf_ok(out, err));
    }
}
