/* outfile.c - see outfile.h.  SPDX-License-Identifier: MIT */
#include "base/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/sys.h"

static tug_status cannot_write(const char *path, int why, tug_err *err) {
    return TUG_FAIL(err, TUG_EIO, "cannot write %s: %s", path, strerror(why));
}

tug_status tug_outfile_check(const char *path, tug_err *err) {
    int fd = tug_sys.open(path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0 && errno == ENOENT) {
        fd = tug_sys.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) (void)tug_sys.unlink(path);
    }
    if (fd < 0) return cannot_write(path, errno, err);
    (void)tug_sys.close(fd);
    return TUG_OK;
}

tug_status tug_outfile_write(const char *path, tug_str bytes, tug_err *err) {
    const int fd = tug_sys.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return cannot_write(path, errno, err);
    struct stat st = {0};
    const bool regular = tug_sys.fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    int why = 0;
    while (bytes.n > 0 && why == 0) {
        const ssize_t n = tug_sys.write(fd, bytes.p, bytes.n);
        if (n < 0 && errno != EINTR) why = errno;
        if (n > 0) bytes = tug_str_make(bytes.p + n, bytes.n - (size_t)n);
    }
    if (tug_sys.close(fd) != 0 && why == 0) why = errno;
    if (why == 0) return TUG_OK;
    if (regular) (void)tug_sys.unlink(path); /* a device stays */
    return cannot_write(path, why, err);
}
