/* cpu.c - see cpu.h.  SPDX-License-Identifier: MIT */
#include "base/cpu.h"

#include <sched.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* __builtin_cpu_supports("f16c") is unknown to clang 14.  The registers are AVX's, whose
 * state the other checks cover. */
static int has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}

tug_cpu_level tug_cpu_detect(void) {
    /* gcc's and clang's run-time checks include XGETBV: a feature whose registers the
     * OS does not save is reported as absent. */
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !has_f16c() || !__builtin_cpu_supports("bmi2")) {
        return TUG_CPU_REF;
    }
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vnni")) {
        return TUG_CPU_AVX2;
    }
    return TUG_CPU_AVX512;
}
#else
/* Only the specification so far. */
tug_cpu_level tug_cpu_detect(void) {
    return TUG_CPU_REF;
}
#endif

static const char *const level_names[TUG_CPU_LEVELS] = {"ref", "avx2", "avx512"};

const char *tug_cpu_level_name(tug_cpu_level level) {
    TUG_CHECK((unsigned)level < TUG_CPU_LEVELS);
    return level_names[level];
}

tug_status tug_cpu_level_parse(const char *name, tug_cpu_level *out, tug_err *err) {
    const tug_cpu_level have = tug_cpu_detect();
    if (strcmp(name, "auto") == 0) {
        *out = have;
        return TUG_OK;
    }
    for (int i = 0; i < TUG_CPU_LEVELS; i++) {
        if (strcmp(name, level_names[i]) != 0) continue;
        if (i > (int)have) {
            return TUG_FAIL(err, TUG_EUNSUPPORTED,
                            "this processor has no %s; the best it has is %s", name,
                            level_names[have]);
        }
        *out = (tug_cpu_level)i;
        return TUG_OK;
    }
    return TUG_FAIL(err, TUG_EUSAGE,
                    "unknown CPU level '%s': use auto, ref, avx2 or avx512", name);
}

int tug_cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}
