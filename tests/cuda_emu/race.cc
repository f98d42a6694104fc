// race.cc - races and reads of memory that was never written.
//
// The kernels of this build are compiled with -fsanitize=thread; the functions that the
// compiler then calls at every access are here instead of in its runtime.  Every byte of
// device and shared memory has a cell: who wrote it last, who read it last, in which epoch.
// An epoch is what lies between two barriers of one block, counted over the whole run, so
// two accesses of one epoch are not ordered, but by a __syncwarp within a warp; and
// accesses of one launch from before the block's first epoch are another block's.
// SPDX-License-Identifier: MIT
#include <cstdio>
#include <cstring>
#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>
#include <vector>

#include "cuda_emu/emu.h"

namespace emu {

const bool race_build = true;

namespace {

struct reader {
    uint16_t thread, warp_epoch;
};
struct cell {
    uint32_t w_epoch; // 0: never written
    uint16_t w_thread, w_warp_epoch;
    uint32_t r_epoch;
    reader r[2]; // the last two that differ
    uint8_t n_readers, w_atomic;
};

struct region {
    span memory;
    cell *cells;
};

uint32_t epoch = 1, launch_first, block_first;
region device, dynamic, statics;
span stacks;
std::vector<span> library; // this library's own variables and constants

cell *make_cells(size_t bytes) {
    void *p = mmap(nullptr, bytes * sizeof(cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) broken("no memory for the cells of %zu bytes", bytes);
    return static_cast<cell *>(p);
}

cell *find_in(const region &r, uintptr_t at) {
    return at - r.memory.at < r.memory.bytes ? &r.cells[at - r.memory.at] : nullptr;
}

int list_segments(struct dl_phdr_info *info, size_t, void *) {
    const uintptr_t here = reinterpret_cast<uintptr_t>(&list_segments);
    bool mine = false;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &h = info->dlpi_phdr[i];
        mine = mine ||
               (h.p_type == PT_LOAD && here - info->dlpi_addr - h.p_vaddr < h.p_memsz);
    }
    for (int i = 0; mine && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &h = info->dlpi_phdr[i];
        if (h.p_type == PT_LOAD)
            library.push_back({info->dlpi_addr + h.p_vaddr, h.p_memsz});
    }
    return mine;
}

bool is_harmless(uintptr_t at, size_t bytes) {
    if (at - stacks.at < stacks.bytes || host_is_pinned(at, bytes)) return true;
    if (library.empty()) dl_iterate_phdr(list_segments, nullptr);
    for (const span &s : library) {
        if (at - s.at < s.bytes) return true;
    }
    return is_argument(at);
}

const char *const did[] = {"reads", "writes", "changes atomically"};

struct where {
    uintptr_t at;
    size_t bytes;
    const void *code;
};

[[noreturn]] void tell(const where &w, access a, const char *problem, int other) {
    Dl_info info = {};
    dladdr(w.code, &info);
    const size_t offset =
        reinterpret_cast<uintptr_t>(w.code) - reinterpret_cast<uintptr_t>(info.dli_fbase);
    char who[64] = "";
    if (other >= 0) snprintf(who, sizeof who, " (thread %d of the block)", other);
    broken("thread %u %s %zu bytes at %#zx: %s%s\n  addr2line -Cfie %s %#zx",
           thread_number(), did[a], w.bytes, w.at, problem, who,
           info.dli_fname ? info.dli_fname : "?", offset - 1);
}

// Not ordered against what `thread` did in this epoch.
bool meets(unsigned thread, unsigned its_warp_epoch) {
    const unsigned me = thread_number();
    if (thread == me) return false;
    return thread / 32 != me / 32 || its_warp_epoch == (uint16_t)warp_epoch();
}

void check_write_before(const cell &c, const where &w, access a, bool shared) {
    if (c.w_epoch < launch_first || (a == ATOMIC && c.w_atomic)) return;
    if (c.w_epoch < block_first) {
        if (!shared) tell(w, a, "another block of the launch wrote them", -1);
    } else if (c.w_epoch == epoch && meets(c.w_thread, c.w_warp_epoch)) {
        tell(w, a, "another thread wrote them with no barrier between", c.w_thread);
    }
}

void check_reads_before(const cell &c, const where &w, access a, bool shared) {
    if (c.r_epoch < launch_first) return;
    if (c.r_epoch < block_first) {
        if (!shared) tell(w, a, "another block of the launch read them", -1);
    } else if (c.r_epoch == epoch) {
        for (int i = 0; i < c.n_readers; i++) {
            if (meets(c.r[i].thread, c.r[i].warp_epoch)) {
                tell(w, a, "another thread read them with no barrier between",
                     c.r[i].thread);
            }
        }
    }
}

void note_reader(cell *c) {
    const reader me = {(uint16_t)thread_number(), (uint16_t)warp_epoch()};
    if (c->r_epoch != epoch) c->n_readers = 0;
    c->r_epoch = epoch;
    if (c->n_readers > 0 && c->r[0].thread == me.thread) {
        c->r[0] = me;
        return;
    }
    if (c->n_readers > 0) c->r[1] = c->r[0];
    c->r[0] = me;
    c->n_readers = c->n_readers > 0 ? 2 : 1;
}

void touch(cell *c, const where &w, access a, bool shared) {
    if (a != WRITE && (c->w_epoch == 0 || (shared && c->w_epoch < block_first))) {
        tell(w, a, "nobody wrote them", -1);
    }
    check_write_before(*c, w, a, shared);
    if (a == READ) {
        note_reader(c);
        return;
    }
    check_reads_before(*c, w, a, shared);
    c->w_epoch = epoch;
    c->w_thread = (uint16_t)thread_number();
    c->w_warp_epoch = (uint16_t)warp_epoch();
    c->w_atomic = a == ATOMIC;
}

void look_at(const void *p, size_t bytes, access a, const void *code) {
    if (!in_kernel() || bytes == 0) return;
    const where w = {reinterpret_cast<uintptr_t>(p), bytes, code};
    bool shared = true;
    cell *c = find_in(statics, w.at);
    if (!c) c = find_in(dynamic, w.at);
    if (!c) {
        shared = false;
        c = find_in(device, w.at);
        if (c && !device_find(w.at))
            tell(w, a, "they are in no allocation or behind the end of one", -1);
    }
    if (!c) {
        if (!is_harmless(w.at, bytes))
            tell(w, a, "they are host memory and not pinned", -1);
        return;
    }
    for (size_t i = 0; i < bytes; i++) touch(c + i, w, a, shared);
}

} // namespace

void note(const void *p, size_t bytes, access a) {
    look_at(p, bytes, a, __builtin_return_address(0));
}

void note_launch() {
    launch_first = epoch + 1;
    const span s = static_shared(), d = dynamic_shared_pages();
    if (statics.memory.bytes != s.bytes) statics.cells = make_cells(s.bytes);
    statics.memory = s;
    if (!dynamic.cells) dynamic = {d, make_cells(d.bytes)};
}

void note_epoch(bool new_block) {
    epoch++;
    if (new_block) block_first = epoch;
}

void note_range(uintptr_t at, size_t bytes) {
    device = {{at, bytes}, make_cells(bytes)};
}

void note_fresh(uintptr_t at, size_t bytes) {
    memset(find_in(device, at), 0, bytes * sizeof(cell));
}

void note_filled(uintptr_t at, size_t bytes) {
    cell *c = find_in(device, at);
    for (size_t i = 0; c && i < bytes; i++) c[i] = {epoch, 0, 0, 0, {}, 0, 0};
}

void note_stacks(uintptr_t at, size_t bytes) {
    stacks = {at, bytes};
}

} // namespace emu

// ---- what the compiler calls -----------------------------------------------------------------

#define HOOK          extern "C" __attribute__((visibility("hidden")))
#define LOOK(p, n, a) emu::look_at((p), (n), emu::a, __builtin_return_address(0))
#define SIZED(n)                                   \
    HOOK void __tsan_read##n(void *p) {            \
        LOOK(p, n, READ);                          \
    }                                              \
    HOOK void __tsan_write##n(void *p) {           \
        LOOK(p, n, WRITE);                         \
    }                                              \
    HOOK void __tsan_volatile_read##n(void *p) {   \
        LOOK(p, n, READ);                          \
    }                                              \
    HOOK void __tsan_volatile_write##n(void *p) {  \
        LOOK(p, n, WRITE);                         \
    }                                              \
    HOOK void __tsan_unaligned_read##n(void *p) {  \
        LOOK(p, n, READ);                          \
    }                                              \
    HOOK void __tsan_unaligned_write##n(void *p) { \
        LOOK(p, n, WRITE);                         \
    }
SIZED(1)
SIZED(2)
SIZED(4)
SIZED(8)
SIZED(16)
HOOK void __tsan_read_range(void *p, size_t n) {
    LOOK(p, n, READ);
}
HOOK void __tsan_write_range(void *p, size_t n) {
    LOOK(p, n, WRITE);
}
HOOK void *__tsan_memcpy(void *d, const void *s, size_t n) {
    LOOK(s, n, READ);
    LOOK(d, n, WRITE);
    return memcpy(d, s, n);
}
HOOK void *__tsan_memmove(void *d, const void *s, size_t n) {
    LOOK(s, n, READ);
    LOOK(d, n, WRITE);
    return memmove(d, s, n);
}
HOOK void *__tsan_memset(void *d, int v, size_t n) {
    LOOK(d, n, WRITE);
    return memset(d, v, n);
}
HOOK void __tsan_init(void) {}
HOOK void __tsan_func_entry(void *) {}
HOOK void __tsan_func_exit(void) {}
