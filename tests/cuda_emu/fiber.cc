// fiber.cc - the threads of a block as fibers, barriers and warp collectives.
//
// A fiber runs until it waits for others or returns.  Nothing is preempted, so the order of
// threads between two barriers is fixed (or reversed); what depends on it is a race, and
// race.cc finds those.  SPDX-License-Identifier: MIT
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <vector>

#include "cuda_emu/emu.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)0)
#endif

namespace emu {

dim thread_idx, block_idx, block_dim, grid_dim;

namespace {

enum { MAX_THREADS = 1024, STACK = 256 << 10, GUARD = 4096, MAX_COPIES = 256 };

enum state { FRESH, READY, AT_BARRIER, AT_COLLECTIVE, DONE };

struct pending_copy {
    void *dst;
    const void *src;
    size_t bytes, src_bytes;
    unsigned group;
};

struct fiber {
    void *sp;
    state st;
    unsigned n, warp, lane;
    dim idx;
    const char *what; // of the collective it waits in
    unsigned mask;
    void *args;
    std::vector<pending_copy> copies;
    unsigned group; // of cp.async that is open
};

// Lanes that came to a collective and wait for the rest of their mask.
struct group {
    const char *what;
    unsigned mask, arrived;
};
struct warp_state {
    group groups[32]; // masks do not overlap
    unsigned n_groups, epoch;
};

fiber fibers[MAX_THREADS];
warp_state warps[MAX_THREADS / 32];
fiber *self;
void *scheduler_sp;
const launch *now;
unsigned n_threads, n_at_barrier, n_done;
char *stacks;
unsigned char *shared_pages;
span statics;
enum { SHARED_PAGES = 256 << 10 };

} // namespace

#if defined(__x86_64__)
// void emu_switch(void **save, void *to): callee-saved registers on the stack, stacks swapped.
extern "C" void emu_switch(void **save, void *to);
asm(".text\n.p2align 4\n.globl emu_switch\n.hidden emu_switch\n.type "
    "emu_switch,@function\n"
    "emu_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
    "  ret\n"
    ".size emu_switch,.-emu_switch\n");

static void *first_frame(char *top, void (*entry)()) {
    void **sp = reinterpret_cast<void **>(top);
    *--sp = nullptr; // entry never returns; keeps the ABI's alignment at its first line
    *--sp = reinterpret_cast<void *>(entry);
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    return sp;
}
#elif defined(__aarch64__)
extern "C" void emu_switch(void **save, void *to);
asm(".text\n.p2align 4\n.globl emu_switch\n.hidden emu_switch\n.type "
    "emu_switch,%function\n"
    "emu_switch:\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp, #0]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n"
    "  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #0]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
    "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n"
    "  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n"
    ".size emu_switch,.-emu_switch\n");

static void *first_frame(char *top, void (*entry)()) {
    void **sp = reinterpret_cast<void **>(top - 160);
    memset(sp, 0, 160);
    sp[11] = reinterpret_cast<void *>(entry); // x30
    return sp;
}
#else
#error "the emulator knows how to switch stacks on x86-64 and aarch64"
#endif

unsigned lane_id() {
    return self->lane;
}
unsigned thread_number() {
    return self->n;
}
unsigned warp_epoch() {
    return warps[self->warp].epoch;
}
bool in_kernel() {
    return self != nullptr;
}
void *dynamic_shared() {
    const size_t n = (now->shared_bytes + 15u) & ~15u;
    return shared_pages + SHARED_PAGES - n;
}
span dynamic_shared_pages() {
    return {reinterpret_cast<uintptr_t>(shared_pages), SHARED_PAGES};
}
bool is_argument(uintptr_t address) {
    return address - reinterpret_cast<uintptr_t>(now->args) < now->k->args_bytes;
}

static const char *const state_text[] = {
    "has not begun", "runs", "waits at __syncthreads", "waits in", "has returned"};

static void tell_place() {
    if (!now) return;
    fprintf(stderr, "  kernel %s, grid %ux%ux%u, block %ux%ux%u, block (%u,%u,%u)",
            now->k->name, grid_dim.x, grid_dim.y, grid_dim.z, block_dim.x, block_dim.y,
            block_dim.z, block_idx.x, block_idx.y, block_idx.z);
    if (self)
        fprintf(stderr, ", thread (%u,%u,%u)", self->idx.x, self->idx.y, self->idx.z);
    fprintf(stderr, "\n");
}

void broken(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "cuda_emu: ");
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    tell_place();
    fflush(nullptr);
    abort();
}

// ---- fibers ----------------------------------------------------------------------------

static void yield() {
    fiber *me = self;
    emu_switch(&me->sp, scheduler_sp);
}

static void finish_copies(fiber *f, unsigned groups_left) {
    size_t kept = 0;
    for (pending_copy &c : f->copies) {
        if (c.group + groups_left >= f->group) {
            f->copies[kept++] = c;
            continue;
        }
        memcpy(c.dst, c.src, c.src_bytes);
        memset(static_cast<char *>(c.dst) + c.src_bytes, 0, c.bytes - c.src_bytes);
        note(c.dst, c.bytes, WRITE);
    }
    f->copies.resize(kept);
}

static void fiber_main() {
    now->k->body(now->args);
    if (!self->copies.empty()) broken("a thread returns while its cp.async is under way");
    self->st = DONE;
    n_done++;
    yield();
    abort(); // nobody resumes a fiber that is done
}

static void resume(fiber *f) {
    if (f->st == FRESH) {
        char *top = stacks + (size_t)(f->n + 1) * (STACK + GUARD);
        // The frames of the fiber before, which did not return, left red zones there.
        ASAN_UNPOISON_MEMORY_REGION(top - (8 << 10), 8 << 10);
        f->sp = first_frame(top, fiber_main);
        f->st = READY;
    }
    self = f;
    thread_idx = f->idx;
    emu_switch(&scheduler_sp, f->sp);
    self = nullptr;
}

[[noreturn]] static void stuck() {
    fprintf(stderr, "cuda_emu: no thread of the block can go on\n");
    self = nullptr;
    tell_place();
    for (unsigned i = 0; i < n_threads; i++) {
        const fiber *f = &fibers[i];
        if (i > 0 && f->st == f[-1].st && f->what == f[-1].what && f->mask == f[-1].mask)
            continue;
        fprintf(stderr, "  thread %u %s", i, state_text[f->st]);
        if (f->st == AT_COLLECTIVE) fprintf(stderr, " %s, mask %08x", f->what, f->mask);
        fprintf(stderr, "\n");
    }
    fflush(nullptr);
    abort();
}

// ---- waiting for each other ------------------------------------------------------------

void barrier() {
    if (++n_at_barrier == n_threads) {
        n_at_barrier = 0;
        for (unsigned i = 0; i < n_threads; i++) {
            if (fibers[i].st == AT_BARRIER) fibers[i].st = READY;
        }
        note_epoch(false);
        return;
    }
    self->st = AT_BARRIER;
    yield();
}

void collective(const char *what, unsigned mask, void *args, compute_fn *compute,
                bool orders_memory) {
    fiber *me = self, *first = me - me->lane;
    warp_state *w = &warps[me->warp];
    const unsigned in_warp =
        n_threads - me->warp * 32 < 32 ? n_threads - me->warp * 32 : 32;
    const unsigned live = in_warp == 32 ? ~0u : (1u << in_warp) - 1;
    // A full mask in a warp that the block does not fill: those lanes do not exist.
    mask &= live;
    if (!(mask >> me->lane & 1))
        broken("%s: the mask %08x leaves out the caller", what, mask);
    me->what = what;
    me->mask = mask;
    me->args = args;
    group *g = w->groups, *const end = g + w->n_groups;
    while (g < end && !(g->mask & mask)) g++;
    if (g == end) {
        *g = {what, mask, 0};
        w->n_groups++;
    } else if (g->mask != mask || g->what != what) {
        const int other = __builtin_ctz(g->arrived);
        broken("lane %d is in %s with mask %08x, lane %u in %s with mask %08x", other,
               g->what, g->mask, me->lane, what, mask);
    }
    g->arrived |= 1u << me->lane;
    if (g->arrived != mask) {
        me->st = AT_COLLECTIVE;
        yield();
        return;
    }
    *g = w->groups[--w->n_groups];
    void *list[32] = {};
    for (unsigned i = 0; i < in_warp; i++) {
        if (!(mask >> i & 1)) continue;
        list[i] = first[i].args;
        first[i].st = READY;
    }
    if (compute) compute(list, mask);
    if (orders_memory) w->epoch++;
}

// ---- cp.async --------------------------------------------------------------------------

void copy_async(void *dst, const void *src, size_t bytes, size_t src_bytes) {
    if ((bytes != 4 && bytes != 8 && bytes != 16) || src_bytes > bytes) {
        broken("cp.async of %zu of %zu bytes", src_bytes, bytes);
    }
    if (reinterpret_cast<uintptr_t>(dst) % bytes ||
        reinterpret_cast<uintptr_t>(src) % bytes) {
        broken("cp.async of %zu bytes from %p to %p: not aligned", bytes, src, dst);
    }
    note(src, src_bytes, READ);
    note(dst, bytes, WRITE);
    memset(dst, POISON, bytes);
    if (self->copies.size() >= MAX_COPIES)
        broken("%d cp.async without a wait", MAX_COPIES);
    self->copies.push_back({dst, src, bytes, src_bytes, self->group});
}

void copy_commit() {
    self->group++;
}

void copy_wait(unsigned groups_left) {
    finish_copies(self, groups_left);
}

// ---- blocks ----------------------------------------------------------------------------

static void make_stacks() {
    if (stacks) return;
    const size_t n = (size_t)MAX_THREADS * (STACK + GUARD);
    void *p = mmap(nullptr, n, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    void *q = mmap(nullptr, SHARED_PAGES + GUARD, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || q == MAP_FAILED) broken("no memory for the stacks of a block");
    stacks = static_cast<char *>(p);
    shared_pages = static_cast<unsigned char *>(q);
    for (size_t i = 0; i < MAX_THREADS; i++)
        mprotect(stacks + i * (STACK + GUARD), GUARD, PROT_NONE);
    mprotect(shared_pages + SHARED_PAGES, GUARD, PROT_NONE);
    note_stacks(reinterpret_cast<uintptr_t>(p), n);
}

// Static shared memory of all kernels lies together and is poison between launches.  So
// before a block only that must become poison again which this kernel writes: what differs
// after a block, looked for in its first launches and now and then later.
static unsigned char *static_byte(size_t i) {
    return reinterpret_cast<unsigned char *>(statics.at) + i;
}

static void look_at_statics() {
    size_t from = 0, to = statics.bytes;
    uint64_t word;
    while (from + 8 <= to && (memcpy(&word, static_byte(from), 8), word == ~0ull))
        from += 8;
    while (from < to && *static_byte(from) == POISON) from++;
    while (to >= from + 8 && (memcpy(&word, static_byte(to - 8), 8), word == ~0ull))
        to -= 8;
    while (to > from && *static_byte(to - 1) == POISON) to--;
    const kernel *k = now->k;
    if (from == to) return;
    if (k->shared_to == 0 || from < k->shared_from) k->shared_from = from;
    if (to > k->shared_to) k->shared_to = to;
}

static void poison_statics() {
    const kernel *k = now->k;
    if (k->shared_to > 0)
        memset(static_byte(k->shared_from), POISON, k->shared_to - k->shared_from);
}

static void begin_block() {
    poison_statics();
    if (now->shared_bytes)
        memset(dynamic_shared(), POISON, (now->shared_bytes + 15u) & ~15u);
    note_epoch(true);
    n_at_barrier = n_done = 0;
    for (unsigned i = 0; i < n_threads; i++) {
        fiber *f = &fibers[i];
        f->st = FRESH;
        f->n = i;
        f->warp = i / 32;
        f->lane = i % 32;
        f->idx = {i % block_dim.x, i / block_dim.x % block_dim.y,
                  i / block_dim.x / block_dim.y};
        f->what = nullptr;
        f->mask = f->group = 0;
        f->copies.clear();
    }
    for (unsigned i = 0; i < (n_threads + 31) / 32; i++)
        warps[i].n_groups = warps[i].epoch = 0;
}

static void run_block() {
    begin_block();
    while (n_done < n_threads) {
        bool went_on = false;
        for (unsigned i = 0; i < n_threads; i++) {
            fiber *f = &fibers[now->reversed ? n_threads - 1 - i : i];
            if (f->st != FRESH && f->st != READY) continue;
            resume(f);
            went_on = true;
        }
        if (!went_on) stuck();
    }
}

void run(const launch &l) {
    make_stacks();
    if (l.shared_bytes > SHARED_PAGES)
        broken("%u bytes of shared memory", l.shared_bytes);
    now = &l;
    const span s = static_shared();
    if (s.at != statics.at) memset(reinterpret_cast<void *>(s.at), POISON, s.bytes);
    statics = s;
    block_dim = l.block;
    grid_dim = l.grid;
    n_threads = l.block.x * l.block.y * l.block.z;
    note_launch();
    bool look = l.k->looked++ < 3 || l.k->looked % 64 == 0;
    const bool look_again = look;
    for (unsigned z = 0; z < l.grid.z; z++) {
        for (unsigned y = 0; y < l.grid.y; y++) {
            for (unsigned x = 0; x < l.grid.x; x++) {
                block_idx = {x, y, z};
                run_block();
                if (look) look_at_statics();
                look = false;
            }
        }
    }
    if (look_again) look_at_statics();
    poison_statics();
    now = nullptr;
}

} // namespace emu
