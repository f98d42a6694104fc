/* plan_probe.c - see plan_probe.h.  SPDX-License-Identifier: MIT */
#include "plan/plan_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "base/sys.h"
#include "base/threads.h"

enum {
    READ_BYTES = 3 << 19, /* as an expert of the 80B model in Q3_K_M */
    AT_ONCE = 8,
    TARGETS = 16, /* of one that reads, in turn: slots of experts are in no cache */
    ROUND = 64,   /* reads between two looks at the clock */
    ALONE = 24,   /* reads one by one, for the latency */
    ALIGN = 4096,
    FILE_BYTES = 1 << 30,
    PIECE = 4 << 20
};

typedef struct reader {
    int fd;
    uint64_t n_places; /* aligned starts of whole reads */
    uint8_t *buffer;   /* owned, (AT_ONCE, TARGETS, READ_BYTES) */
    uint64_t at[ROUND];
    size_t n_done[AT_ONCE];
    double busy_s[AT_ONCE]; /* of a processor, all reads together */
    bool failed[AT_ONCE];
    int why[AT_ONCE];
} reader;

static bool read_at(const reader *r, uint8_t *to, uint64_t at, int *why) {
    for (size_t n = 0; n < READ_BYTES;) {
        const ssize_t got = tug_sys.pread(r->fd, to + n, READ_BYTES - n, (off_t)(at + n));
        if (got < 0 && errno == EINTR) continue;
        *why = got < 0 ? errno : EIO;
        if (got <= 0) return false;
        n += (size_t)got;
    }
    return true;
}

static void read_range(void *ud, int64_t begin, int64_t end, int thread) {
    reader *r = ud;
    const double before = tug_thread_seconds();
    for (int64_t i = begin; i < end && !r->failed[thread]; i++) {
        const size_t target = (size_t)thread * TARGETS + r->n_done[thread]++ % TARGETS;
        uint8_t *to = r->buffer + target * READ_BYTES;
        r->failed[thread] = !read_at(r, to, r->at[i], &r->why[thread]);
    }
    r->busy_s[thread] += tug_thread_seconds() - before;
}

static tug_status check_reads(const reader *r, tug_err *err) {
    for (int i = 0; i < AT_ONCE; i++) {
        if (!r->failed[i]) continue;
        return TUG_FAIL(err, TUG_EIO, "the disk probe cannot read: %s",
                        strerror(r->why[i]));
    }
    return TUG_OK;
}

static void choose_places(reader *r, tug_rng *rng, int n) {
    for (int i = 0; i < n; i++) r->at[i] = tug_rng_u64(rng) % r->n_places * ALIGN;
}

static tug_status measure(reader *r, tug_pool *pool, double seconds,
                          tug_plan_disk_speed *out, tug_err *err) {
    tug_rng rng;
    tug_rng_seed(&rng, 1);
    const double start = tug_now();
    double n = 0.0, took = 0.0;
    while (took < seconds) {
        choose_places(r, &rng, ROUND);
        tug_pool_for(pool, ROUND, 1, read_range, r);
        TUG_TRY(check_reads(r, err));
        n += ROUND;
        took = tug_now() - start;
    }
    out->bytes_s = n * READ_BYTES / took;
    for (int i = 0; i < AT_ONCE; i++) out->cpu_byte_s += r->busy_s[i] / (n * READ_BYTES);
    choose_places(r, &rng, ALONE);
    const double alone = tug_now();
    read_range(r, 0, ALONE, 0);
    TUG_TRY(check_reads(r, err));
    out->latency_s = (tug_now() - alone) / ALONE - READ_BYTES / out->bytes_s;
    if (out->latency_s < 1e-5) out->latency_s = 1e-5;
    return TUG_OK;
}

static tug_status measure_file(int fd, uint64_t size, double seconds,
                               tug_plan_disk_speed *out, tug_err *err) {
    if (size < 16 * (uint64_t)READ_BYTES) {
        return TUG_FAIL(err, TUG_ERANGE, "the disk probe needs a file of at least %d MB",
                        (16 * READ_BYTES) >> 20);
    }
    reader r = {.fd = fd, .n_places = (size - READ_BYTES) / ALIGN};
    const size_t n_bytes = (size_t)AT_ONCE * TARGETS * READ_BYTES;
    r.buffer = tug_alloc_pages(n_bytes);
    if (!r.buffer) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the disk probe");
    memset(r.buffer, 1, n_bytes); /* a page's first use is no part of a read */
    tug_pool *pool = NULL;
    tug_status s = tug_pool_create(&pool, AT_ONCE, err);
    if (s == TUG_OK) s = measure(&r, pool, seconds, out, err);
    tug_pool_destroy(&pool);
    tug_free_pages(r.buffer, n_bytes);
    return s;
}

/* ---- the file --------------------------------------------------------------------- */

/* Past the page cache, where the file system can; *cached: it cannot. */
static int open_direct(const char *path, bool *cached) {
    const int fd = tug_sys.open(path, O_RDONLY | O_CLOEXEC | O_DIRECT, 0);
    *cached = fd < 0 && errno == EINVAL;
    return *cached ? tug_sys.open(path, O_RDONLY | O_CLOEXEC, 0) : fd;
}

/* FILE_BYTES that no disk can squeeze, and all of them on it. */
static tug_status fill(int fd, const char *path, tug_err *err) {
    uint64_t *piece = tug_alloc_aligned(ALIGN, PIECE);
    if (!piece) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for the disk probe");
    tug_rng rng;
    tug_rng_seed(&rng, 2);
    for (size_t i = 0; i < PIECE / sizeof *piece; i++) piece[i] = tug_rng_u64(&rng);
    bool ok = true;
    for (int64_t done = 0; ok && done < FILE_BYTES;) {
        piece[0] = (uint64_t)done;
        const ssize_t n = tug_sys.write(fd, piece, PIECE);
        if (n < 0 && errno == EINTR) continue;
        ok = n > 0;
        done += ok ? n : 0;
    }
    ok = ok && fsync(fd) == 0;
    const int why = errno;
    tug_free(piece);
    if (ok) return TUG_OK;
    return TUG_FAIL(err, TUG_EIO,
                    "cannot write %s, which the disk probe reads again: %s; give it a "
                    "large file with -m",
                    path, strerror(why));
}

static tug_status make_file(const char *path, tug_err *err) {
    const int fd = tug_sys.open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return TUG_FAIL(err, TUG_EIO,
                        "cannot make %s for the disk probe: %s; give it a large file "
                        "with -m",
                        path, strerror(errno));
    }
    const tug_status s = fill(fd, path, err);
    (void)tug_sys.close(fd);
    if (s != TUG_OK) (void)tug_sys.unlink(path);
    return s;
}

tug_status tug_plan_probe_disk(const char *path, const char *folder, double seconds,
                               tug_plan_disk_speed *out, tug_err *err) {
    *out = (tug_plan_disk_speed){0};
    char own[512];
    (void)snprintf(own, sizeof own, "%s/.tug-disk-probe.%ld", folder, (long)getpid());
    if (!path) TUG_TRY(make_file(own, err));
    const char *which = path ? path : own;
    const int fd = open_direct(which, &out->cached);
    const int why = errno;
    if (!path) (void)tug_sys.unlink(own); /* the open file stays until it is closed */
    if (fd < 0) {
        return TUG_FAIL(err, TUG_EIO, "cannot open %s: %s", which, strerror(why));
    }
    struct stat st;
    const uint64_t size =
        tug_sys.fstat(fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
    const tug_status s = measure_file(fd, size, seconds, out, err);
    (void)tug_sys.close(fd);
    return s;
}

/* ---- power ------------------------------------------------------------------------ */

bool tug_plan_joules(const char *root, double *joules) {
    bool found = false;
    *joules = 0.0;
    for (int i = 0; i < 64; i++) { /* packages are numbered from 0 */
        char path[256], text[64];
        (void)snprintf(path, sizeof path, "%s/intel-rapl:%d/energy_uj", root, i);
        if (!tug_read_small(path, text, sizeof text)) break;
        *joules += strtod(text, NULL) * 1e-6;
        found = true;
    }
    return found;
}
