/* gpu_world.h - what the tests of the GPU backend share: the emulated driver's own functions, and
 * how much VRAM leaves how much room.  Behind cmocka.h.  SPDX-License-Identifier: MIT */
#ifndef TUG_TESTS_CUDA_GPU_WORLD_H
#define TUG_TESTS_CUDA_GPU_WORLD_H

#include <dlfcn.h>
#include <string.h>

#include "backend/backend_cuda_impl.h"
#include "cuda_emu/control.h"

/* As in control.h; all NULL on a real driver. */
static struct gpu_emulator {
    void (*configure)(const char *);
    void (*recover)(void);
    void (*get_live)(tug_emu_live *);
    int (*has_failed)(void);
    unsigned long (*calls)(void);
    unsigned long (*launches)(const char *);
} emu;

/* The driver that the tests run on, NULL: there is none. */
static inline void *find_driver(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) return NULL;
    *(void **)&emu.configure = dlsym(driver, "tug_emu_configure");
    *(void **)&emu.recover = dlsym(driver, "tug_emu_recover");
    *(void **)&emu.get_live = dlsym(driver, "tug_emu_get_live");
    *(void **)&emu.has_failed = dlsym(driver, "tug_emu_failed");
    *(void **)&emu.calls = dlsym(driver, "tug_emu_calls");
    *(void **)&emu.launches = dlsym(driver, "tug_emu_launches");
    return driver;
}

static inline void must(tug_status s, const tug_err *err) {
    if (s != TUG_OK) fail_msg("%s", err->msg);
}

/* Only the emulated driver knows. */
static inline void assert_nothing_lives(const char *when) {
    tug_emu_live live, none = {0};
    if (!emu.get_live) return;
    emu.get_live(&live);
    if (memcmp(&live, &none, sizeof live) == 0) return;
    fail_msg(
        "after %s: %zu pieces of device memory, %zu of pinned memory, %zu streams, %zu "
        "events, %zu modules, %zu graphs, %zu contexts are left",
        when, live.device, live.host, live.streams, live.events, live.modules,
        live.graphs, live.contexts);
}

/* What is set aside to move experts, beside room for n of them in slots of so many bytes. */
static inline uint64_t carrier_for(uint64_t slot, int64_t n) {
    for (int k = TUG_CUDA_CARRIED; k > 0; k /= 2) {
        const uint64_t bytes = tug_cuda_carrier_bytes(slot, k);
        if (bytes <= ((uint64_t)n * slot + bytes) / 8) return bytes;
    }
    return 0;
}

#endif
