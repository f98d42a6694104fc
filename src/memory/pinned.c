/* pinned.c - see pinned.h.
 *
 * DESIGN
 * Memory is taken in steps, and before each one the system is asked what it has left: a
 * page that is touched when nothing is left wakes the OOM killer instead of giving an error.
 * Pages are touched before they are locked, because only touching in one call
 * (MADV_POPULATE_WRITE) reports that it failed.
 *
 * A huge page of which a part is given back stays whole, and taken, until the kernel is
 * short of memory; nobody would see that we gave.  MADV_COLD splits it at once.
 * SPDX-License-Identifier: MIT */
#include "memory/pinned.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/sys.h"
#include "memory/pressure.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

enum { PAGE = 4096, HUGE_PAGE = 2 << 20, STEP = 64 << 20 };

/* As much as we are allowed to allow ourselves. */
static void raise_lock_limit(void) {
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0) return;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_MEMLOCK, &limit);
}

tug_status tug_pinned_reserve(tug_pinned *p, uint64_t n, tug_err *err) {
    *p = (tug_pinned){.n = n, .locked = true};
    if (n > SIZE_MAX / 2) {
        return TUG_FAIL(err, TUG_ERANGE, "%.1f GB are beyond any memory",
                        (double)n * 1e-9);
    }
    p->map_n = n + HUGE_PAGE;
    void *map = tug_sys.mmap(NULL, p->map_n, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        *p = (tug_pinned){0};
        return TUG_FAIL(err, TUG_ENOMEM,
                        "cannot reserve %.1f GB of address space: %s; is there a limit "
                        "(ulimit -v)?",
                        (double)n * 1e-9, strerror(errno));
    }
    const uintptr_t skip = -(uintptr_t)map % HUGE_PAGE;
    p->map = map;
    p->base = (uint8_t *)map + skip;
    (void)tug_sys.madvise(p->base, n, MADV_HUGEPAGE); /* a wish: some kernels have none */
    raise_lock_limit();
    return TUG_OK;
}

void tug_pinned_free(tug_pinned *p) {
    if (p->map) (void)tug_sys.munmap(p->map, p->map_n);
    *p = (tug_pinned){0};
}

static tug_status check_room(uint64_t n, tug_err *err) {
    const tug_pressure_sample s = tug_pressure_read();
    const uint64_t room = tug_pressure_free(&s);
    if (n <= room) return TUG_OK;
    return TUG_FAIL(
        err, TUG_ENOMEM,
        "not taking %.2f GB of memory: %.2f GB are available, and %.2f GB of "
        "these are left to other programs; close some, or use a smaller --ram",
        (double)n * 1e-9, (double)tug_pressure_available(&s) * 1e-9,
        (double)(tug_pressure_available(&s) - room) * 1e-9);
}

/* 0 or an errno. */
static int touch(uint8_t *p, size_t n) {
    if (tug_sys.madvise(p, n, MADV_POPULATE_WRITE) == 0) return 0;
    if (errno != EINVAL) return errno;
    for (size_t i = 0; i < n; i += PAGE) ((volatile uint8_t *)p)[i] = 0;
    return 0;
}

static tug_status take_step(tug_pinned *p, uint64_t at, uint64_t n, tug_err *err) {
    const int why = touch(p->base + at, n);
    if (why != 0) {
        return TUG_FAIL(err, TUG_ENOMEM, "cannot take %.2f GB of memory: %s",
                        (double)n * 1e-9, strerror(why));
    }
    if (tug_sys.mlock(p->base + at, n) != 0) p->locked = false; /* we may not */
    return TUG_OK;
}

static void split_huge_pages(tug_pinned *p, uint64_t begin, uint64_t end) {
    if (begin < end) (void)tug_sys.madvise(p->base + begin, end - begin, MADV_COLD);
}

static void give_pages(tug_pinned *p, uint64_t at, uint64_t n) {
    (void)tug_sys.munlock(p->base + at, n);
    const uint64_t end = at + n;
    const uint64_t first_whole = (at + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    const uint64_t last_whole = end / HUGE_PAGE * HUGE_PAGE;
    if (first_whole <= last_whole) {
        split_huge_pages(p, at, first_whole);
        split_huge_pages(p, last_whole, end);
    } else {
        split_huge_pages(p, at, end);
    }
    (void)tug_sys.madvise(p->base + at, n, MADV_DONTNEED);
}

tug_status tug_pinned_take(tug_pinned *p, uint64_t at, uint64_t n, tug_err *err) {
    TUG_CHECK(at % PAGE == 0 && n % PAGE == 0 && at <= p->n && n <= p->n - at);
    for (uint64_t done = 0; done < n;) {
        const uint64_t step = n - done < STEP ? n - done : STEP;
        tug_status s = check_room(n - done, err);
        if (s == TUG_OK) s = take_step(p, at + done, step, err);
        if (s != TUG_OK) {
            give_pages(p, at, done + step);
            return s;
        }
        done += step;
    }
    p->taken += n;
    return TUG_OK;
}

void tug_pinned_give(tug_pinned *p, uint64_t at, uint64_t n) {
    TUG_CHECK(at % PAGE == 0 && n % PAGE == 0 && n <= p->taken);
    give_pages(p, at, n);
    p->taken -= n;
}
