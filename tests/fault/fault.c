/* fault.c - see fault.h.  SPDX-License-Identifier: MIT */
#include "fault/fault.h"

#include <stddef.h>

#include "base/sys.h"

static tug_sys_table real;
static uint64_t calls, fail_from;
static int64_t live;
static bool active;

static bool fails(void) {
    return ++calls >= fail_from;
}

static void *failing_realloc(void *old, size_t bytes) {
    void *const p = fails() ? NULL : real.realloc(old, bytes);
    live += p && !old;
    return p;
}

static void *failing_aligned_alloc(size_t align, size_t bytes) {
    void *const p = fails() ? NULL : real.aligned_alloc(align, bytes);
    live += p != NULL;
    return p;
}

static void counting_free(void *p) {
    live -= p != NULL;
    real.free(p);
}

void fault_fail_alloc(uint64_t n) {
    if (!active) real = tug_sys;
    active = true;
    calls = 0;
    live = 0;
    fail_from = n;
    tug_sys.realloc = failing_realloc;
    tug_sys.aligned_alloc = failing_aligned_alloc;
    tug_sys.free = counting_free;
}

bool fault_stop(void) {
    if (active) tug_sys = real;
    active = false;
    return calls >= fail_from;
}

int64_t fault_live_blocks(void) {
    return live;
}
