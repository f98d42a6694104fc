/* driver.c - loads the CUDA driver.  SPDX-License-Identifier: MIT */
#include "cuda/driver.h"

#include <dlfcn.h>
#include <string.h>

static tug_status find_functions(tug_cu *cu, tug_err *err) {
    const struct {
        const char *name;
        size_t at;
    } wanted[] = {
#define TUG_CU_ENTRY(name, params) {#name, offsetof(tug_cu, name)},
        TUG_CU_FUNCTIONS(TUG_CU_ENTRY)
#undef TUG_CU_ENTRY
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *f = dlsym(cu->library, wanted[i].name);
        if (!f) {
            return TUG_FAIL(
                err, TUG_EUNSUPPORTED,
                "the NVIDIA driver is too old: it has no %s; tug needs one for "
                "CUDA 12 or later",
                wanted[i].name);
        }
        /* ISO C has no conversion from an object pointer to a function pointer. */
        memcpy((char *)cu + wanted[i].at, &f, sizeof f);
    }
    return TUG_OK;
}

static tug_status start(tug_cu *cu, tug_err *err) {
    if (cu->cuDriverGetVersion(&cu->version) != TUG_CU_SUCCESS) {
        return TUG_FAIL(err, TUG_EDEVICE, "the NVIDIA driver does not say its version");
    }
    if (cu->version < TUG_CU_OLDEST) {
        return TUG_FAIL(
            err, TUG_EUNSUPPORTED,
            "the NVIDIA driver is too old: it is for CUDA %d.%d, tug needs one "
            "for CUDA %d.%d or later",
            cu->version / 1000, cu->version % 1000 / 10, TUG_CU_OLDEST / 1000,
            TUG_CU_OLDEST % 1000 / 10);
    }
    const tug_cu_result r = cu->cuInit(0);
    if (r == TUG_CU_NO_DEVICE) {
        return TUG_FAIL(err, TUG_EUNSUPPORTED,
                        "there is an NVIDIA driver, but no GPU that it can use");
    }
    if (r != TUG_CU_SUCCESS) {
        const char *name = "?";
        cu->cuGetErrorName(r, &name);
        return TUG_FAIL(err, TUG_EDEVICE, "the NVIDIA driver does not start: %s (%d)",
                        name, r);
    }
    return TUG_OK;
}

tug_status tug_cu_load(tug_cu *cu, tug_err *err) {
    *cu = (tug_cu){0};
    cu->library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!cu->library) {
        const char *why = dlerror();
        return TUG_FAIL(err, TUG_EUNSUPPORTED, "there is no NVIDIA driver (%s)",
                        why ? why : "libcuda.so.1 cannot be loaded");
    }
    tug_status s = find_functions(cu, err);
    if (s == TUG_OK) s = start(cu, err);
    if (s != TUG_OK) tug_cu_unload(cu);
    return s;
}

void tug_cu_unload(tug_cu *cu) {
    if (cu->library) dlclose(cu->library);
    *cu = (tug_cu){0};
}
