// memory.cc - device memory with bounds, pinned host memory, poison.
//
// Device memory is one reserved range of addresses.  An allocation ends at a page's end and
// has a guard page on either side; freed addresses are not used again.  Outside of driver
// calls nothing in the range can be touched; inside, an allocation is opened by the first
// touch, in the handler of SIGSEGV, and closed again when the call returns.
// SPDX-License-Identifier: MIT
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <map>
#include <sys/mman.h>
#include <vector>

#include "cuda_emu/emu.h"

namespace emu {

namespace {

enum : size_t { RANGE = (size_t)64 << 30, PAGE = 4096, ALIGN = 256 };

uintptr_t range;
size_t range_used, bytes_used;
std::map<uintptr_t, allocation> live; // by address
std::vector<allocation *> opened;
int depth;
std::map<uintptr_t, size_t> pinned, registered;

size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

allocation *find_pages(uintptr_t address) {
    for (auto it = live.upper_bound(address + ALIGN + PAGE); it != live.begin();) {
        allocation &a = (--it)->second;
        if (address >= a.pages && address < a.pages + a.page_bytes) return &a;
        if (a.pages + a.page_bytes <= address) break;
    }
    return nullptr;
}

// The allocation that an address outside of all belongs to most likely.
const allocation *nearest(uintptr_t address) {
    auto it = live.upper_bound(address);
    return it == live.begin() ? nullptr : &(--it)->second;
}

void on_fault(int, siginfo_t *info, void *) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(info->si_addr);
    allocation *a = in_device_range(at) ? find_pages(at) : nullptr;
    if (a && depth > 0 && !a->open) {
        mprotect(reinterpret_cast<void *>(a->pages), a->page_bytes,
                 PROT_READ | PROT_WRITE);
        a->open = true;
        opened.push_back(a);
        return;
    }
    if (a && depth == 0) {
        broken("the host touches device memory at %p outside of a driver call",
               info->si_addr);
    }
    if (in_device_range(at)) {
        const allocation *n = nearest(at);
        if (!n) broken("access to device address %p, in no allocation", info->si_addr);
        broken(
            "access to device address %p, %zu bytes behind the end of %zu bytes at %#zx",
            info->si_addr, at - n->at - n->bytes, n->bytes, n->at);
    }
    broken("access to address %p, which is nobody's%s", info->si_addr,
           in_kernel() ? ": a stack, shared memory or a wild pointer" : "");
}

void check_tail(const allocation &a) {
    const unsigned char *p = reinterpret_cast<unsigned char *>(a.at);
    for (size_t i = a.bytes; i < a.pages + a.page_bytes - a.at; i++) {
        if (p[i] != POISON) {
            broken("write %zu bytes behind the end of %zu bytes of device memory at %#zx",
                   i - a.bytes, a.bytes, a.at);
        }
    }
}

void prepare() {
    if (range) return;
    void *p = mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) broken("no range of addresses for device memory");
    range = reinterpret_cast<uintptr_t>(p);
    note_range(range, RANGE);
    static char stack[64 << 10];
    stack_t alt = {};
    alt.ss_sp = stack;
    alt.ss_size = sizeof stack;
    sigaltstack(&alt, nullptr);
}

// At every driver call: test frameworks put handlers of their own in place.
void take_signals() {
    struct sigaction act = {};
    act.sa_sigaction = on_fault;
    act.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &act, nullptr);
    sigaction(SIGBUS, &act, nullptr);
}

} // namespace

bool in_device_range(uintptr_t address) {
    return range && address >= range && address < range + RANGE;
}

void open_device_memory() {
    prepare();
    if (depth++ == 0) take_signals();
}

void close_device_memory() {
    if (--depth > 0) return;
    for (allocation *a : opened) {
        check_tail(*a);
        mprotect(reinterpret_cast<void *>(a->pages), a->page_bytes, PROT_NONE);
        a->open = false;
    }
    opened.clear();
}

uintptr_t device_alloc(size_t bytes, size_t limit) {
    prepare();
    const size_t inside = round_up(bytes, ALIGN), pages = round_up(inside, PAGE);
    if (inside > limit || bytes_used > limit - inside) return 0;
    if (range_used + pages + 2 * PAGE > RANGE) broken("all device addresses are used up");
    allocation a = {};
    a.pages = range + range_used + PAGE;
    a.page_bytes = pages;
    a.at = a.pages + pages - inside;
    a.bytes = bytes;
    range_used += pages + PAGE;
    bytes_used += inside;
    void *p = reinterpret_cast<void *>(a.pages);
    mprotect(p, pages, PROT_READ | PROT_WRITE);
    memset(p, POISON, pages);
    mprotect(p, pages, PROT_NONE);
    note_fresh(a.at, inside);
    live[a.at] = a;
    opened.reserve(live.size()); // the handler of a signal must not allocate
    return a.at;
}

bool device_free(uintptr_t at) {
    auto it = live.find(at);
    if (it == live.end()) return false;
    allocation &a = it->second;
    for (size_t i = 0; i < opened.size(); i++) {
        if (opened[i] == &a) opened.erase(opened.begin() + (long)i--);
    }
    void *p = reinterpret_cast<void *>(a.pages);
    mprotect(p, a.page_bytes, PROT_READ);
    check_tail(a);
    // A new map over it gives the memory back and keeps the addresses unusable.
    if (mmap(p, a.page_bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED) {
        broken("device memory cannot be given back");
    }
    bytes_used -= round_up(a.bytes, ALIGN);
    live.erase(it);
    return true;
}

size_t device_used() {
    return bytes_used;
}
size_t device_live() {
    return live.size();
}

const allocation *device_find(uintptr_t address) {
    const allocation *a = nearest(address);
    return a && address - a->at < a->bytes ? a : nullptr;
}

// ---- host memory -----------------------------------------------------------------------

void *host_alloc(size_t bytes) {
    void *p = mmap(nullptr, round_up(bytes, PAGE), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return nullptr;
    memset(p, POISON, bytes);
    pinned[reinterpret_cast<uintptr_t>(p)] = bytes;
    return p;
}

bool host_free(void *p) {
    auto it = pinned.find(reinterpret_cast<uintptr_t>(p));
    if (it == pinned.end()) return false;
    munmap(p, round_up(it->second, PAGE));
    pinned.erase(it);
    return true;
}

bool host_register(void *p, size_t bytes) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(p);
    if (host_is_pinned(at, 1)) return false;
    registered[at] = bytes;
    return true;
}

bool host_unregister(void *p) {
    return registered.erase(reinterpret_cast<uintptr_t>(p)) == 1;
}

static bool inside(const std::map<uintptr_t, size_t> &m, uintptr_t at, size_t bytes) {
    auto it = m.upper_bound(at);
    if (it == m.begin()) return false;
    --it;
    return at - it->first <= it->second && bytes <= it->second - (at - it->first);
}

bool host_is_pinned(uintptr_t address, size_t bytes) {
    return inside(pinned, address, bytes) || inside(registered, address, bytes);
}

size_t host_live() {
    return pinned.size() + registered.size();
}

// ---- static shared memory ----------------------------------------------------------------

static int find_tls(struct dl_phdr_info *info, size_t, void *out) {
    const uintptr_t here = reinterpret_cast<uintptr_t>(&find_tls);
    bool mine = false;
    const ElfW(Phdr) *tls = nullptr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) &h = info->dlpi_phdr[i];
        if (h.p_type == PT_LOAD && here - info->dlpi_addr - h.p_vaddr < h.p_memsz)
            mine = true;
        if (h.p_type == PT_TLS) tls = &h;
    }
    if (mine && tls && info->dlpi_tls_data) {
        *static_cast<span *>(out) = {reinterpret_cast<uintptr_t>(info->dlpi_tls_data),
                                     tls->p_memsz};
    }
    return mine;
}

span static_shared() {
    // The library's segment exists in this thread once something in it was touched.
    static __thread volatile char first_touch;
    (void)first_touch;
    span found = {};
    dl_iterate_phdr(find_tls, &found);
    return found;
}

} // namespace emu
