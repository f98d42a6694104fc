/* nvml.c - see nvml.h.  SPDX-License-Identifier: MIT */
#include "cuda/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"

/* ---- the library's own declarations ---------------------------------------------------------- */

typedef struct nvmlDevice_st *device;

typedef struct utilisation {
    unsigned gpu, memory; /* percent */
} utilisation;

typedef struct process {
    unsigned pid;
    unsigned long long bytes; /* NOT_AVAILABLE: not told */
    unsigned gpu_instance, compute_instance;
} process;

enum { SUCCESS = 0, INSUFFICIENT_SIZE = 7 };
enum { CLOCK_SM = 1, CLOCK_MEMORY = 2 };
#define NOT_AVAILABLE (~0ULL)

/* X(name in the library, parameters).  Without the first three there is nothing to ask. */
enum { NECESSARY = 3 };
#define FUNCTIONS(X)                                                                    \
    X(nvmlInit_v2, (void))                                                              \
    X(nvmlShutdown, (void))                                                             \
    X(nvmlDeviceGetHandleByPciBusId_v2, (const char *pci, device *out))                 \
    X(nvmlDeviceGetMemoryBusWidth, (device d, unsigned *bits))                          \
    X(nvmlDeviceGetMaxClockInfo, (device d, int clock, unsigned *mhz))                  \
    X(nvmlDeviceGetClockInfo, (device d, int clock, unsigned *mhz))                     \
    X(nvmlDeviceGetMaxPcieLinkGeneration, (device d, unsigned *gen))                    \
    X(nvmlDeviceGetMaxPcieLinkWidth, (device d, unsigned *lanes))                       \
    X(nvmlDeviceGetCurrPcieLinkGeneration, (device d, unsigned *gen))                   \
    X(nvmlDeviceGetCurrPcieLinkWidth, (device d, unsigned *lanes))                      \
    X(nvmlDeviceGetEnforcedPowerLimit, (device d, unsigned *milliwatts))                \
    X(nvmlDeviceGetPowerUsage, (device d, unsigned *milliwatts))                        \
    X(nvmlDeviceGetTotalEnergyConsumption, (device d, unsigned long long *millijoules)) \
    X(nvmlDeviceGetUtilizationRates, (device d, utilisation * out))                     \
    X(nvmlDeviceGetComputeRunningProcesses_v3, (device d, unsigned *n, process *list))

struct tug_nvml {
#define MEMBER(name, params) int(*name) params;
    FUNCTIONS(MEMBER)
#undef MEMBER
    void *library; /* of dlopen */
    bool started;
    device dev;
};

/* ---- open ------------------------------------------------------------------------------------- */

static tug_status unknown(const char *why, tug_err *err) {
    return TUG_FAIL(err, TUG_EUNSUPPORTED, "power and PCIe link are not known: %s", why);
}

static tug_status find_functions(tug_nvml *n, tug_err *err) {
    const struct {
        const char *name;
        size_t at;
    } wanted[] = {
#define ENTRY(name, params) {#name, offsetof(tug_nvml, name)},
        FUNCTIONS(ENTRY)
#undef ENTRY
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *f = dlsym(n->library, wanted[i].name);
        if (!f && i < NECESSARY) return unknown("libnvidia-ml.so.1 is too old", err);
        /* ISO C has no conversion from an object pointer to a function pointer. */
        memcpy((char *)n + wanted[i].at, &f, sizeof f);
    }
    return TUG_OK;
}

static tug_status start(tug_nvml *n, const char *pci, tug_err *err) {
    n->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!n->library) return unknown("there is no libnvidia-ml.so.1", err);
    TUG_TRY(find_functions(n, err));
    n->started = n->nvmlInit_v2() == SUCCESS;
    if (!n->started) return unknown("libnvidia-ml.so.1 does not start", err);
    if (n->nvmlDeviceGetHandleByPciBusId_v2(pci, &n->dev) == SUCCESS) return TUG_OK;
    return unknown("libnvidia-ml.so.1 does not know this GPU", err);
}

tug_status tug_nvml_open(tug_nvml **out, const char *pci, tug_err *err) {
    *out = tug_alloc_zero(sizeof **out);
    if (!*out) return unknown("out of memory", err);
    const tug_status s = start(*out, pci, err);
    if (s != TUG_OK) tug_nvml_close(out);
    return s;
}

void tug_nvml_close(tug_nvml **nvml) {
    tug_nvml *n = *nvml;
    if (!n) return;
    if (n->started) (void)n->nvmlShutdown();
    if (n->library) dlclose(n->library);
    tug_free(n);
    *nvml = NULL;
}

/* ---- asking ----------------------------------------------------------------------------------- */

typedef int ask_fn(device d, unsigned *value);
typedef int ask_clock_fn(device d, int clock, unsigned *mhz);

/* 0: not told, or more than anybody has. */
static int told(const tug_nvml *n, ask_fn *f) {
    unsigned value = 0;
    return f && f(n->dev, &value) == SUCCESS && value < 1u << 30 ? (int)value : 0;
}

static int told_clock(const tug_nvml *n, ask_clock_fn *f, int clock) {
    unsigned mhz = 0;
    return f && f(n->dev, clock, &mhz) == SUCCESS && mhz < 1u << 30 ? (int)mhz : 0;
}

void tug_nvml_get_facts(const tug_nvml *n, tug_nvml_facts *out) {
    *out = (tug_nvml_facts){
        .bus_bits = told(n, n->nvmlDeviceGetMemoryBusWidth),
        .memory_mhz = told_clock(n, n->nvmlDeviceGetMaxClockInfo, CLOCK_MEMORY),
        .sm_mhz = told_clock(n, n->nvmlDeviceGetMaxClockInfo, CLOCK_SM),
        .max_gen = told(n, n->nvmlDeviceGetMaxPcieLinkGeneration),
        .max_width = told(n, n->nvmlDeviceGetMaxPcieLinkWidth),
        .watts_limit = 1e-3 * told(n, n->nvmlDeviceGetEnforcedPowerLimit),
    };
}

static double joules(const tug_nvml *n) {
    unsigned long long mj = 0;
    if (!n->nvmlDeviceGetTotalEnergyConsumption ||
        n->nvmlDeviceGetTotalEnergyConsumption(n->dev, &mj) != SUCCESS) {
        return 0.0;
    }
    return 1e-3 * (double)mj;
}

static double busy(const tug_nvml *n) {
    utilisation u = {0};
    if (!n->nvmlDeviceGetUtilizationRates ||
        n->nvmlDeviceGetUtilizationRates(n->dev, &u) != SUCCESS || u.gpu > 100) {
        return TUG_NVML_NOT_TOLD;
    }
    return 0.01 * u.gpu;
}

/* A container sees no processes but perhaps its own, and some drivers tell no sizes. */
static double others(const tug_nvml *n) {
    process list[64];
    unsigned count = sizeof list / sizeof *list;
    double bytes = 0.0;
    if (!n->nvmlDeviceGetComputeRunningProcesses_v3 ||
        n->nvmlDeviceGetComputeRunningProcesses_v3(n->dev, &count, list) != SUCCESS ||
        count > sizeof list / sizeof *list) {
        return TUG_NVML_NOT_TOLD;
    }
    for (unsigned i = 0; i < count; i++) {
        if (list[i].pid == (unsigned)getpid()) continue;
        if (list[i].bytes == NOT_AVAILABLE) return TUG_NVML_NOT_TOLD;
        bytes += (double)list[i].bytes;
    }
    return bytes;
}

void tug_nvml_get_now(const tug_nvml *n, tug_nvml_now *out) {
    *out = (tug_nvml_now){
        .gen = told(n, n->nvmlDeviceGetCurrPcieLinkGeneration),
        .width = told(n, n->nvmlDeviceGetCurrPcieLinkWidth),
        .sm_mhz = told_clock(n, n->nvmlDeviceGetClockInfo, CLOCK_SM),
        .memory_mhz = told_clock(n, n->nvmlDeviceGetClockInfo, CLOCK_MEMORY),
        .watts = 1e-3 * told(n, n->nvmlDeviceGetPowerUsage),
        .joules = joules(n),
        .busy = busy(n),
        .others = others(n),
    };
}

/* ---- the link --------------------------------------------------------------------------------- */

bool tug_nvml_link_warning(const tug_nvml_facts *f, const tug_nvml_now *now, char *text,
                           size_t cap) {
    const bool narrow = now->width > 0 && now->width < f->max_width;
    const bool slow = now->gen > 0 && now->gen < f->max_gen;
    if (!narrow && !slow) return false;
    (void)snprintf(text, cap,
                   "the GPU's PCIe link runs as %d.0 x%d, and card and slot could do "
                   "%d.0 x%d: experts reach the GPU slower than they might%s",
                   now->gen, now->width, f->max_gen, f->max_width,
                   narrow ? "; is the card seated well, or another slot's lanes in use?"
                          : "");
    return true;
}
