/* nvml.c - libnvidia-ml.so.1 for tests: one GPU that tells what the environment variable
 * TUG_NVML says.
 *
 *     watts=150 gen=4 width=8 max_gen=4 max_width=8 busy=70 others=0 (MB, of another process)
 *     fail=init | device | all      nothing after that call works
 *     fail=power                    only power and energy are not told
 *
 * Energy is watts times the seconds since it was loaded.  SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };

typedef struct utilisation {
    unsigned gpu, memory;
} utilisation;

typedef struct process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} process;

static int the_device;
static double started;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The text behind "key=" in TUG_NVML, or NULL. */
static const char *option(const char *key) {
    const char *at = getenv("TUG_NVML");
    const size_t n = strlen(key);
    for (; at && *at; at += strcspn(at, " ")) {
        at += strspn(at, " ");
        if (strncmp(at, key, n) == 0 && at[n] == '=') return at + n + 1;
    }
    return NULL;
}

static unsigned number(const char *key, unsigned usual) {
    const char *text = option(key);
    return text ? (unsigned)strtoul(text, NULL, 10) : usual;
}

static int fails(const char *what) {
    const char *text = option("fail");
    return text && strncmp(text, what, strlen(what)) == 0;
}

static int tell(void *device, unsigned *out, const char *key, unsigned usual) {
    if (device != &the_device) return INVALID_ARGUMENT;
    if (fails("all")) return NOT_SUPPORTED;
    *out = number(key, usual);
    return SUCCESS;
}

EXPORT int nvmlInit_v2(void) {
    started = now();
    return fails("init") ? NOT_FOUND : SUCCESS;
}

EXPORT int nvmlShutdown(void) {
    return SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, void **device) {
    if (fails("device") || strlen(pci) != 16) return NOT_FOUND;
    *device = &the_device;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryBusWidth(void *d, unsigned *out) {
    return tell(d, out, "bus", 128);
}

EXPORT int nvmlDeviceGetMaxClockInfo(void *d, int clock, unsigned *out) {
    return tell(d, out, "max_mhz", clock == 2 ? 14001 : 2570);
}

EXPORT int nvmlDeviceGetClockInfo(void *d, int clock, unsigned *out) {
    return tell(d, out, "mhz", clock == 2 ? 13801 : 2400);
}

EXPORT int nvmlDeviceGetMaxPcieLinkGeneration(void *d, unsigned *out) {
    return tell(d, out, "max_gen", 4);
}

EXPORT int nvmlDeviceGetMaxPcieLinkWidth(void *d, unsigned *out) {
    return tell(d, out, "max_width", 8);
}

EXPORT int nvmlDeviceGetCurrPcieLinkGeneration(void *d, unsigned *out) {
    return tell(d, out, "gen", 4);
}

EXPORT int nvmlDeviceGetCurrPcieLinkWidth(void *d, unsigned *out) {
    return tell(d, out, "width", 8);
}

EXPORT int nvmlDeviceGetEnforcedPowerLimit(void *d, unsigned *out) {
    return tell(d, out, "limit", 180000);
}

EXPORT int nvmlDeviceGetPowerUsage(void *d, unsigned *out) {
    const int r = fails("power") ? NOT_SUPPORTED : tell(d, out, "watts", 150);
    *out *= 1000;
    return r;
}

EXPORT int nvmlDeviceGetTotalEnergyConsumption(void *d, unsigned long long *out) {
    unsigned watts = 0;
    const int r = fails("power") ? NOT_SUPPORTED : tell(d, &watts, "watts", 150);
    *out = 1000000 + (unsigned long long)((now() - started) * watts * 1e3);
    return r;
}

EXPORT int nvmlDeviceGetUtilizationRates(void *d, utilisation *out) {
    out->memory = 0;
    return tell(d, &out->gpu, "busy", 70);
}

/* This process, and one more if it has memory. */
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, process *list) {
    unsigned mb = 0;
    const int r = tell(d, &mb, "others", 0);
    if (*n < 2) return INVALID_ARGUMENT;
    list[0] = (process){.pid = (unsigned)getpid(), .bytes = 1 << 20};
    list[1] =
        (process){.pid = (unsigned)getpid() + 1, .bytes = (unsigned long long)mb << 20};
    *n = mb ? 2 : 1;
    return r;
}
