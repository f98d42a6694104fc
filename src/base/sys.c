/* sys.c - see sys.h.  SPDX-License-Identifier: MIT */
#include "base/sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static int sys_open(const char *path, int flags, unsigned mode) {
    return open(path, flags, (mode_t)mode);
}

static int sys_set_flags(int fd, int flags) {
    return fcntl(fd, F_SETFL, flags);
}

/* glibc declares the address as a transparent union. */
static int sys_accept4(int fd, struct sockaddr *from, socklen_t *n, int flags) {
    return accept4(fd, from, n, flags);
}

tug_sys_table tug_sys = {
    .realloc = realloc,
    .aligned_alloc = aligned_alloc,
    .free = free,
    .mmap = mmap,
    .munmap = munmap,
    .madvise = madvise,
    .mlock = mlock,
    .munlock = munlock,
    .open = sys_open,
    .close = close,
    .set_flags = sys_set_flags,
    .fadvise = posix_fadvise,
    .fstat = fstat,
    .read = read,
    .pread = pread,
    .write = write,
    .rename = rename,
    .unlink = unlink,
    .statvfs = statvfs,
    .recv = recv,
    .send = send,
    .accept4 = sys_accept4,
    .getrandom = getrandom,
    .clock_gettime = clock_gettime,
};

void *tug_alloc(size_t bytes) {
    return tug_sys.realloc(NULL, bytes ? bytes : 1);
}

void *tug_alloc_zero(size_t bytes) {
    void *p = tug_alloc(bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void *tug_alloc_array(size_t n, size_t elem_bytes) {
    return tug_realloc_array(NULL, n, elem_bytes);
}

void *tug_realloc_array(void *old, size_t n, size_t elem_bytes) {
    size_t bytes;
    if (__builtin_mul_overflow(n, elem_bytes, &bytes)) return NULL;
    return tug_sys.realloc(old, bytes ? bytes : 1);
}

void *tug_alloc_aligned(size_t align, size_t bytes) {
    size_t padded; /* aligned_alloc wants a multiple of the alignment */
    if (__builtin_add_overflow(bytes ? bytes : 1, align - 1, &padded)) return NULL;
    return tug_sys.aligned_alloc(align, padded & ~(align - 1));
}

void tug_free(void *p) {
    tug_sys.free(p);
}

void *tug_alloc_pages(size_t n) {
    if (n == 0) n = 1; /* a map of nothing is an error */
    void *p =
        tug_sys.mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    (void)tug_sys.madvise(p, n, MADV_HUGEPAGE); /* a wish: some kernels have none */
    return p;
}

void tug_free_pages(void *p, size_t n) {
    if (p) (void)tug_sys.munmap(p, n ? n : 1);
}

void tug_forget_pages(const void *p, size_t n) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)p + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)p + n) / page * page;
    if (begin < end) {
        (void)tug_sys.madvise((char *)(void *)begin, end - begin, MADV_DONTNEED);
    }
}

static double seconds_of(clockid_t clock) {
    struct timespec ts = {0, 0};
    if (tug_sys.clock_gettime(clock, &ts) != 0) return 0.0;
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

double tug_now(void) {
    return seconds_of(CLOCK_MONOTONIC);
}

double tug_thread_seconds(void) {
    return seconds_of(CLOCK_THREAD_CPUTIME_ID);
}

const char *tug_env(const char *name) {
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}
