/* fault.c - see fault.h.  SPDX-License-Identifier: MIT */
#include "fault/fault.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/sys.h"

static tug_sys_table real;
static bool active;

static struct {
    unsigned calls; /* which kinds are counted */
    uint64_t nth;   /* 0: none fails */
    bool for_good;  /* also every call after the nth */
    int how;        /* errno or FAULT_SHORT */

    uint64_t seen;
    bool hit;
    int64_t blocks, maps, files;
    uint64_t alloc_max, alloc_sum;
} st;

/* Counts a call; is it one that fails?  errno is set then. */
static bool fails(unsigned kind) {
    if (!(st.calls & kind)) return false;
    st.seen++;
    if (st.nth == 0 || (st.for_good ? st.seen < st.nth : st.seen != st.nth)) return false;
    st.hit = true;
    errno = st.how > 0 ? st.how : 0;
    return true;
}

static void count_request(size_t bytes) {
    if (bytes > st.alloc_max) st.alloc_max = bytes;
    st.alloc_sum += bytes;
}

static void *fault_realloc(void *old, size_t bytes) {
    count_request(bytes);
    if (fails(FAULT_ALLOC)) return NULL;
    void *const p = real.realloc(old, bytes);
    st.blocks += p && !old;
    return p;
}

static void *fault_aligned_alloc(size_t align, size_t bytes) {
    count_request(bytes);
    if (fails(FAULT_ALLOC)) return NULL;
    void *const p = real.aligned_alloc(align, bytes);
    st.blocks += p != NULL;
    return p;
}

static void fault_free(void *p) {
    st.blocks -= p != NULL;
    real.free(p);
}

static void *fault_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t off) {
    if (fails(FAULT_MMAP)) return MAP_FAILED;
    void *const p = real.mmap(addr, len, prot, flags, fd, off);
    st.maps += p != MAP_FAILED;
    return p;
}

static int fault_munmap(void *addr, size_t len) {
    st.maps--;
    return real.munmap(addr, len);
}

static int fault_madvise(void *addr, size_t len, int advice) {
    return fails(FAULT_MADVISE) ? -1 : real.madvise(addr, len, advice);
}

static int fault_mlock(const void *addr, size_t len) {
    return fails(FAULT_MLOCK) ? -1 : real.mlock(addr, len);
}

static int fault_set_flags(int fd, int flags) {
    return fails(FAULT_FLAGS) ? -1 : real.set_flags(fd, flags);
}

static int fault_open(const char *path, int flags, unsigned mode) {
    if (fails(FAULT_OPEN)) return -1;
    const int fd = real.open(path, flags, mode);
    st.files += fd >= 0;
    return fd;
}

static int fault_close(int fd) {
    st.files--;
    return real.close(fd);
}

static int fault_fstat(int fd, struct stat *out) {
    return fails(FAULT_FSTAT) ? -1 : real.fstat(fd, out);
}

/* What is left of a transfer of n bytes: n, 1 when this call is short, 0 when it fails. */
static size_t allowed(unsigned kind, size_t n) {
    if (!fails(kind)) return n;
    return st.how == FAULT_SHORT && n > 0 ? 1 : 0;
}

static ssize_t fault_read(int fd, void *buf, size_t n) {
    const size_t m = allowed(FAULT_READ, n);
    return m == 0 && n > 0 ? -1 : real.read(fd, buf, m);
}

static ssize_t fault_pread(int fd, void *buf, size_t n, off_t at) {
    const size_t m = allowed(FAULT_READ, n);
    return m == 0 && n > 0 ? -1 : real.pread(fd, buf, m, at);
}

static ssize_t fault_write(int fd, const void *buf, size_t n) {
    const size_t m = allowed(FAULT_WRITE, n);
    return m == 0 && n > 0 ? -1 : real.write(fd, buf, m);
}

static int fault_rename(const char *from, const char *to) {
    return fails(FAULT_RENAME) ? -1 : real.rename(from, to);
}

static int fault_statvfs(const char *path, struct statvfs *out) {
    return fails(FAULT_STATVFS) ? -1 : real.statvfs(path, out);
}

static ssize_t fault_recv(int fd, void *buf, size_t n, int flags) {
    const size_t m = allowed(FAULT_RECV, n);
    return m == 0 && n > 0 ? -1 : real.recv(fd, buf, m, flags);
}

static ssize_t fault_send(int fd, const void *buf, size_t n, int flags) {
    const size_t m = allowed(FAULT_SEND, n);
    return m == 0 && n > 0 ? -1 : real.send(fd, buf, m, flags);
}

static int fault_clock(clockid_t id, struct timespec *ts) {
    return fails(FAULT_CLOCK) ? -1 : real.clock_gettime(id, ts);
}

static void start(unsigned calls, uint64_t nth, bool for_good, int how) {
    if (!active) real = tug_sys;
    active = true;
    const tug_sys_table hooks = {
        .realloc = fault_realloc,
        .aligned_alloc = fault_aligned_alloc,
        .free = fault_free,
        .mmap = fault_mmap,
        .munmap = fault_munmap,
        .madvise = fault_madvise,
        .mlock = fault_mlock,
        .munlock = real.munlock,
        .set_flags = fault_set_flags,
        .fadvise = real.fadvise, /* only ever a wish */
        .open = fault_open,
        .close = fault_close,
        .fstat = fault_fstat,
        .read = fault_read,
        .pread = fault_pread,
        .write = fault_write,
        .rename = fault_rename,
        .unlink = real.unlink, /* what cleans up after a failure is not to fail */
        .statvfs = fault_statvfs,
        .recv = fault_recv,
        .send = fault_send,
        .clock_gettime = fault_clock,
    };
    tug_sys = hooks;
    st.calls = calls;
    st.nth = nth;
    st.for_good = for_good;
    st.how = how;
    st.seen = 0;
    st.hit = false;
    st.blocks = st.maps = st.files = 0;
    st.alloc_max = st.alloc_sum = 0;
}

void fault_fail_alloc(uint64_t n) {
    start(FAULT_ALLOC, n, true, ENOMEM);
}

void fault_fail_once(unsigned calls, uint64_t n, int how) {
    start(calls, n, false, how);
}

void fault_watch(void) {
    start(0, 0, false, 0);
}

bool fault_stop(void) {
    if (active) tug_sys = real;
    active = false;
    return st.hit;
}

int64_t fault_live_blocks(void) {
    return st.blocks;
}

int64_t fault_live_maps(void) {
    return st.maps;
}

int64_t fault_live_files(void) {
    return st.files;
}

uint64_t fault_alloc_max(void) {
    return st.alloc_max;
}

uint64_t fault_alloc_sum(void) {
    return st.alloc_sum;
}
