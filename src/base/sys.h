/* sys.h - the operating system as one table, so that tests can make call n fail.
 *
 * OWNS   the process-wide table `tug_sys` of allocation, file, socket and clock calls.
 * NOT    policy: what to do when a call fails is the caller's business.
 *
 * Everything in src/ that allocates, reads a file, talks to a socket or asks for the
 * time goes through the inline wrappers below.  Tests replace entries of `tug_sys`
 * (tests/fault/fault.h) before they call the code under test and put them back after;
 * nothing else writes to it.  SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_SYS_H
#define TUG_BASE_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

typedef struct tug_sys_table {
    /* memory */
    void *(*realloc)(void *old, size_t bytes); /* old == NULL allocates */
    void *(*aligned_alloc)(size_t align, size_t bytes);
    void (*free)(void *p);
    void *(*mmap)(void *addr, size_t len, int prot, int flags, int fd, off_t off);
    int (*munmap)(void *addr, size_t len);
    int (*madvise)(void *addr, size_t len, int advice);
    int (*mlock)(const void *addr, size_t len);
    int (*munlock)(const void *addr, size_t len);
    /* files */
    int (*open)(const char *path, int flags, unsigned mode);
    int (*close)(int fd);
    int (*set_flags)(int fd, int flags);                   /* fcntl F_SETFL */
    int (*fadvise)(int fd, off_t at, off_t n, int advice); /* an errno, not -1 */
    int (*fstat)(int fd, struct stat *st);
    ssize_t (*read)(int fd, void *buf, size_t n);
    ssize_t (*pread)(int fd, void *buf, size_t n, off_t at);
    ssize_t (*write)(int fd, const void *buf, size_t n);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*statvfs)(const char *path, struct statvfs *out);
    /* sockets */
    ssize_t (*recv)(int fd, void *buf, size_t n, int flags);
    ssize_t (*send)(int fd, const void *buf, size_t n, int flags);
    int (*accept4)(int fd, struct sockaddr *from, socklen_t *n, int flags);
    /* bits nobody can guess */
    ssize_t (*getrandom)(void *buf, size_t n, unsigned flags);
    /* clock */
    int (*clock_gettime)(clockid_t id, struct timespec *ts);
} tug_sys_table;

extern tug_sys_table tug_sys;

/* NULL when out of memory.  Zero bytes gives a pointer that may be freed.  Arrays go
 * through tug_alloc_array, which also refuses a product that does not fit. */
void *tug_alloc(size_t bytes) __attribute__((malloc));
void *tug_alloc_zero(size_t bytes) __attribute__((malloc));
void *tug_alloc_array(size_t n, size_t elem_bytes) __attribute__((malloc));
void *tug_realloc_array(void *old, size_t n, size_t elem_bytes);
void *tug_alloc_aligned(size_t align, size_t bytes) __attribute__((malloc));
void tug_free(void *p);

/* Whole pages for something big that lives long, zeroed, in 2 MB pages where the kernel
 * has some; n may be 0.  NULL when out of memory; n of the free is that of the allocation. */
void *tug_alloc_pages(size_t n) __attribute__((malloc));
void tug_free_pages(void *p, size_t n);

/* Tells the kernel that the whole pages inside the mapped file range [p, p + n) will not
 * be read soon: they stop counting as this process's memory.  Memory that is not a file's
 * map loses its contents. */
void tug_forget_pages(const void *p, size_t n);

/* Monotonic seconds. */
double tug_now(void);

/* Seconds of processor time that this thread has used. */
double tug_thread_seconds(void);

/* An environment variable, NULL when it is not set or empty. */
const char *tug_env(const char *name);

#endif
