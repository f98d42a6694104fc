/* kt.c - see kt.h.  SPDX-License-Identifier: MIT */
#include "kernels/kt.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/rng.h"

enum { MAX_BUFS = 256, MAX_PRINTED = 40, CANARY = 0xA5 };

/* A mapping: guard page, slack, the buffer, guard page. */
typedef struct buf {
    unsigned char *map;
    size_t map_bytes;
    unsigned char *data;
    size_t bytes;
} buf;

static struct {
    /* options */
    const char *only;
    uint64_t seed;
    /* the run */
    tug_rng rng;
    const char *kernel, *level;
    char shape[160];
    int64_t passed, failed, skipped;
    buf bufs[MAX_BUFS];
    int n_bufs;
    sigjmp_buf on_fault;
    volatile sig_atomic_t fault; /* the signal; 0: faults are not ours to catch */
    volatile sig_atomic_t armed;
} kt;

/* ---- buffers ---------------------------------------------------------------------- */

static void give_up(const char *what) {
    perror(what);
    exit(2);
}

void *kt_buf(size_t bytes, size_t align) {
    if (kt.n_bufs == MAX_BUFS) {
        (void)fprintf(stderr, "kt: more than %d buffers; call kt_release_all\n",
                      MAX_BUFS);
        exit(2);
    }
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t room = (bytes + align - 1) / align * align;
    const size_t body = (room + page - 1) / page * page;
    const size_t map_bytes = body + 2 * page;
    unsigned char *map =
        mmap(NULL, map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) give_up("kt: mmap");
    if (mprotect(map, page, PROT_NONE) != 0 ||
        mprotect(map + page + body, page, PROT_NONE) != 0) {
        give_up("kt: mprotect");
    }
    memset(map + page, CANARY, body);
    buf *b = &kt.bufs[kt.n_bufs++];
    *b = (buf){map, map_bytes, map + page + body - room, bytes};
    return b->data;
}

static bool untouched(const unsigned char *p, const unsigned char *end) {
    while (p < end && *p == CANARY) p++;
    return p == end;
}

void kt_release_all(void) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    bool intact = true;
    for (int i = 0; i < kt.n_bufs; i++) {
        const buf *b = &kt.bufs[i];
        intact &= untouched(b->map + page, b->data);
        intact &= untouched(b->data + b->bytes, b->map + b->map_bytes - page);
        if (munmap(b->map, b->map_bytes) != 0) give_up("kt: munmap");
    }
    if (kt.n_bufs > 0) kt_true(intact, "wrote outside a buffer");
    kt.n_bufs = 0;
}

float *kt_floats(int64_t n) {
    return kt_buf((size_t)n * sizeof(float), sizeof(float));
}

float kt_rand(float lo, float hi) {
    return lo + (hi - lo) * (float)tug_rng_unit(&kt.rng);
}

int64_t kt_rand_int(int64_t lo, int64_t hi) {
    return lo + (int64_t)(tug_rng_u64(&kt.rng) % (uint64_t)(hi - lo + 1));
}

float *kt_uniform(int64_t n, float lo, float hi) {
    float *x = kt_floats(n);
    for (int64_t i = 0; i < n; i++) x[i] = kt_rand(lo, hi);
    return x;
}

/* The sum of twelve uniform numbers is normal enough, and has no tails to argue about. */
float *kt_normal(int64_t n, float deviation) {
    float *x = kt_floats(n);
    for (int64_t i = 0; i < n; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++) sum += tug_rng_unit(&kt.rng);
        x[i] = deviation * (float)sum;
    }
    return x;
}

void *kt_copy_bytes(const void *x, size_t bytes) {
    void *copy = kt_buf(bytes, 1);
    if (bytes > 0) memcpy(copy, x, bytes);
    return copy;
}

float *kt_copy(const float *x, int64_t n) {
    float *copy = kt_floats(n);
    if (n > 0) memcpy(copy, x, (size_t)n * sizeof *x);
    return copy;
}

void kt_spoil(float *x, int64_t n, float big) {
    const float odd[] = {0.0f, -0.0f, 1e-40f, -1e-42f, big, -big};
    const int n_odd = (int)(sizeof odd / sizeof *odd);
    for (int64_t i = 0; i < n; i++) {
        if (kt_rand_int(0, 3) == 0) x[i] = odd[kt_rand_int(0, n_odd - 1)];
    }
}

/* ---- checks ----------------------------------------------------------------------- */

void kt_shape(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(kt.shape, sizeof kt.shape, fmt, ap);
    va_end(ap);
}

void kt_true(bool ok, const char *fmt, ...) {
    if (ok) {
        kt.passed++;
        return;
    }
    if (++kt.failed > MAX_PRINTED) return;
    char text[240];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)printf("FAIL %s %s [%s] %s (--seed=%llu)\n", kt.kernel, kt.level, kt.shape,
                 text, (unsigned long long)kt.seed);
    (void)fflush(stdout);
}

double kt_nmse(const float *got, const float *want, int64_t n) {
    double err = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)got[i], w = (double)want[i];
        if (isfinite(g) != isfinite(w)) return INFINITY;
        if (!isfinite(w)) continue;
        err += (g - w) * (g - w);
        sum += w * w;
    }
    if (err <= 0) return 0;
    return sum > 0 ? err / sum : INFINITY;
}

double kt_max_rel(const float *got, const float *want, int64_t n, double floor) {
    double max = 0;
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)got[i], w = (double)want[i];
        if (isfinite(g) != isfinite(w)) return INFINITY;
        if (isfinite(w) && g != w) max = fmax(max, fabs(g - w) / (fabs(w) + floor));
    }
    return max;
}

void kt_near(const char *what, const float *got, const float *want, int64_t n,
             double limit) {
    const double nmse = kt_nmse(got, want, n);
    kt_true(nmse <= limit, "%s: NMSE %.2e, limit %.0e", what, nmse, limit);
}

void kt_close(const char *what, const float *got, const float *want, int64_t n,
              double rel, double floor) {
    const double max = kt_max_rel(got, want, n, floor);
    kt_true(max <= rel, "%s: relative error %.2e, limit %.0e", what, max, rel);
}

void kt_same(const char *what, const void *got, const void *want, size_t bytes) {
    const unsigned char *a = got, *b = want;
    size_t i = 0;
    while (i < bytes && a[i] == b[i]) i++;
    kt_true(i == bytes, "%s: byte %zu of %zu differs", what, i, bytes);
}

/* ---- the run ---------------------------------------------------------------------- */

/* A fault inside a test is the kernel's: go back to run_test.  Leaving a handler by
 * siglongjmp is fine for a synchronous signal. */
static void on_signal(int sig) {
    if (!kt.armed) {
        (void)signal(sig, SIG_DFL);
        (void)raise(sig);
        return;
    }
    kt.fault = sig;
    siglongjmp(kt.on_fault, 1);
}

static void catch_faults(void) {
    const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction sa;
        memset(&sa, 0, sizeof sa);
        sa.sa_handler = on_signal;
        if (sigaction(signals[i], &sa, NULL) != 0) give_up("kt: sigaction");
    }
}

static void run_test(const kt_test *test, const kt_env *env) {
    kt.kernel = test->name;
    kt.shape[0] = '\0';
    tug_rng_seed(&kt.rng, kt.seed);
    kt.armed = 1;
    if (sigsetjmp(kt.on_fault, 1) == 0) {
        test->run(env);
    } else {
        const int sig = kt.fault;
        kt_true(false, "%s",
                sig == SIGILL   ? "illegal instruction"
                : sig == SIGFPE ? "arithmetic fault"
                                : "reads or writes outside its buffers");
    }
    kt.armed = 0;
    kt_release_all();
}

/* Whether the table entries at `offset` are the same pointer. */
static bool same_kernel(const tug_kernels *a, const tug_kernels *b, size_t offset) {
    return memcmp((const char *)a + offset, (const char *)b + offset,
                  sizeof(void (*)(void))) == 0;
}

static void run_level(tug_cpu_level level, kt_init_fn *init, const kt_test *tests,
                      int n_tests) {
    static tug_kernels ref, below, k;
    init(&ref, TUG_CPU_REF);
    init(&k, level);
    if (level > TUG_CPU_REF) init(&below, (tug_cpu_level)(level - 1));
    kt.level = tug_cpu_level_name(level);
    for (int i = 0; i < n_tests; i++) {
        if (kt.only && !strstr(tests[i].name, kt.only)) continue;
        if (level > TUG_CPU_REF && same_kernel(&k, &below, tests[i].offset)) continue;
        const kt_env env = {&k, &ref, tests[i].arg};
        run_test(&tests[i], &env);
    }
}

static int list(const kt_test *tests, int n_tests) {
    for (int i = 0; i < n_tests; i++) (void)printf("%s\n", tests[i].name);
    return 0;
}

int kt_main(int argc, char **argv, const char *family, kt_init_fn *init,
            const kt_test *tests, int n_tests) {
    tug_cpu_level first = TUG_CPU_REF, last = tug_cpu_detect();
    kt.seed = 1;
    for (int i = 1; i < argc; i++) {
        tug_err err;
        if (strncmp(argv[i], "--fn=", 5) == 0) {
            kt.only = argv[i] + 5;
        } else if (strncmp(argv[i], "--seed=", 7) == 0) {
            kt.seed = strtoull(argv[i] + 7, NULL, 10);
        } else if (strncmp(argv[i], "--cpu=", 6) == 0) {
            if (tug_cpu_level_parse(argv[i] + 6, &last, &err) != TUG_OK) {
                (void)fprintf(stderr, "%s\n", err.msg);
                return 2;
            }
            first = last;
        } else if (strcmp(argv[i], "--list") == 0) {
            return list(tests, n_tests);
        } else {
            (void)fprintf(stderr,
                          "usage: %s [--fn=TEXT] [--cpu=LEVEL] [--seed=N] [--list]\n",
                          argv[0]);
            return 2;
        }
    }
    catch_faults();
    for (int level = (int)first; level <= (int)last; level++) {
        run_level((tug_cpu_level)level, init, tests, n_tests);
    }
    for (int level = (int)tug_cpu_detect() + 1; level < TUG_CPU_LEVELS; level++) {
        (void)printf("SKIP kernels/%s: this processor has no %s\n", family,
                     tug_cpu_level_name((tug_cpu_level)level));
        kt.skipped++;
    }
    (void)printf("kernels/%s: %lld passed, %lld failed, %lld skipped\n", family,
                 (long long)kt.passed, (long long)kt.failed, (long long)kt.skipped);
    return kt.failed > 0 || kt.passed == 0;
}
