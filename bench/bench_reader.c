/* bench_reader.c - how fast experts come from a file into pinned memory, beside fio.
 *
 *   usage: bench_reader FILE [--depth=N] [--rounds=N] [--gb=X] [--fio=ENGINE]
 *
 * FILE (any large file) is read as if it were layers of 512 experts in Q3_K_M: all gates,
 * all ups, all downs.  Round after round, and medians of these:
 *   fill     the first X GB in order of experts: memory taken before; while reading; fio
 *            (sequential reads of the same size and depth, with --fio)
 *   misses   512 experts anywhere; fio (random reads)
 *   alone    one expert at a time, anywhere, with and without a busy thread on every
 *            processor: how long it takes, and the processor time it costs
 * Needs X GB of memory and a file that nobody else reads meanwhile.
 * SPDX-License-Identifier: MIT */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "base/sys.h"
#include "memory/pinned.h"
#include "memory/reader.h"

enum {
    N_EXPERT = 512,
    N_PIECE = 3,
    N_MISS = 512,
    N_ALONE = 128,
    MAX_ROUNDS = 32,
    MAX_BUSY = 64,
    FIRST = 5983136 /* where the tensors begin: in the middle of a block */
};

/* Gate and up in Q3_K, down in Q4_K, of 512 x 2048 weights. */
static const uint64_t piece_bytes[N_PIECE] = {450560, 450560, 589824};

typedef struct bench {
    const char *path;
    int depth, rounds;
    const char *fio; /* engine, NULL: not beside it */
    tug_reader *reader;
    tug_pinned memory;
    uint64_t slot_bytes, file_bytes;
    int n_experts, n_slots; /* in the file; that --gb has room for */
    tug_rng rng;
} bench;

typedef struct outcome {
    double s, cpu_s; /* seconds; processor seconds of all threads but the busy ones */
    uint64_t bytes;
} outcome;

static void must(tug_status s, const char *why) {
    if (s == TUG_OK) return;
    (void)fprintf(stderr, "bench_reader: %s\n", why);
    exit(1);
}

/* ---- busy threads --------------------------------------------------------------------- */

static struct {
    pthread_t threads[MAX_BUSY];
    int n;
    _Atomic bool stop;
    volatile double sink;
} busy;

static void *compute(void *arg) {
    (void)arg;
    double x = 1.0;
    while (!atomic_load_explicit(&busy.stop, memory_order_relaxed)) {
        for (int i = 0; i < 1000; i++) x = x * 1.0000001 + 1e-9;
    }
    busy.sink = x;
    return NULL;
}

static void busy_start(void) {
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    atomic_store(&busy.stop, false);
    for (busy.n = 0; busy.n < n && busy.n < MAX_BUSY; busy.n++) {
        if (pthread_create(&busy.threads[busy.n], NULL, compute, NULL) != 0) exit(1);
    }
}

static void busy_stop(void) {
    atomic_store(&busy.stop, true);
    while (busy.n > 0) pthread_join(busy.threads[--busy.n], NULL);
}

static double cpu_of(clockid_t id) {
    struct timespec t = {0, 0};
    (void)tug_sys.clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_now(void) {
    double s = cpu_of(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < busy.n; i++) {
        clockid_t id;
        if (pthread_getcpuclockid(busy.threads[i], &id) == 0) s -= cpu_of(id);
    }
    return s;
}

/* ---- reading -------------------------------------------------------------------------- */

static tug_read piece_of(const bench *b, int expert, int piece, int slot) {
    const uint64_t layer_bytes =
        N_EXPERT * (piece_bytes[0] + piece_bytes[1] + piece_bytes[2]);
    const uint64_t e = (uint64_t)expert % N_EXPERT;
    uint64_t at = FIRST + (uint64_t)expert / N_EXPERT * layer_bytes;
    uint64_t in_slot = 0;
    for (int i = 0; i < piece; i++) {
        at += N_EXPERT * piece_bytes[i];
        in_slot += tug_reader_room(piece_bytes[i]);
    }
    return (tug_read){0, at + e * piece_bytes[piece], piece_bytes[piece],
                      b->memory.base + (uint64_t)slot * b->slot_bytes + in_slot,
                      (uint64_t)expert};
}

/* Takes in what has ended; `block` waits for one. */
static void reap(bench *b, bool block) {
    tug_read_done done[64];
    const int n = tug_reader_wait(b->reader, done, 64, block);
    for (int i = 0; i < n; i++) must(done[i].status, tug_reader_error(b->reader));
}

static void read_expert(bench *b, int expert, int slot) {
    for (int i = 0; i < N_PIECE; i++) {
        const tug_read r = piece_of(b, expert, i, slot);
        while (!tug_reader_submit(b->reader, &r)) reap(b, true);
    }
}

static void finish(bench *b) {
    while (tug_reader_in_flight(b->reader) > 0) reap(b, true);
}

static void take(bench *b, int slot, int n) {
    tug_err err;
    must(tug_pinned_take(&b->memory, (uint64_t)slot * b->slot_bytes,
                         (uint64_t)n * b->slot_bytes, &err),
         err.msg);
}

static outcome timed(const bench *b, int n_experts, double start, double cpu) {
    const uint64_t bytes = b->slot_bytes - N_PIECE * TUG_READER_BLOCK;
    return (outcome){tug_now() - start, cpu_now() - cpu, (uint64_t)n_experts * bytes};
}

/* Fills every slot; takes the memory before the clock starts, or as it goes along. */
static outcome fill(bench *b, bool take_before) {
    enum { AT_ONCE = 4 }; /* little, so that reads go on meanwhile */
    if (take_before) take(b, 0, b->n_slots);
    const double start = tug_now(), cpu = cpu_now();
    for (int i = 0; i < b->n_slots; i++) {
        if (!take_before && i % AT_ONCE == 0) {
            take(b, i, b->n_slots - i < AT_ONCE ? b->n_slots - i : AT_ONCE);
        }
        read_expert(b, i, i);
    }
    finish(b);
    const outcome o = timed(b, b->n_slots, start, cpu);
    tug_pinned_give(&b->memory, 0, b->memory.taken);
    return o;
}

static int any_expert(bench *b) {
    return (int)(tug_rng_u64(&b->rng) % (uint64_t)b->n_experts);
}

static outcome misses(bench *b) {
    const double start = tug_now(), cpu = cpu_now();
    for (int i = 0; i < N_MISS; i++) read_expert(b, any_expert(b), i % N_ALONE);
    finish(b);
    return timed(b, N_MISS, start, cpu);
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Experts one by one; s is that of the one in the middle, *slow that of the 95th in 100. */
static outcome alone(bench *b, double *slow) {
    double s[N_ALONE];
    const double start = tug_now(), cpu = cpu_now();
    for (int i = 0; i < N_ALONE; i++) {
        const double t = tug_now();
        read_expert(b, any_expert(b), i);
        finish(b);
        s[i] = tug_now() - t;
    }
    outcome o = timed(b, N_ALONE, start, cpu);
    qsort(s, N_ALONE, sizeof *s, by_value);
    o.s = s[N_ALONE / 2];
    *slow = s[N_ALONE * 95 / 100];
    return o;
}

/* ---- fio ------------------------------------------------------------------------------ */

/* GB/s of reads of the mean piece, in order or anywhere. */
static double run_fio(const bench *b, bool in_order, uint64_t bytes) {
    char command[1024];
    const uint64_t block = (b->slot_bytes / N_PIECE - TUG_READER_BLOCK) / 4096 * 4096;
    (void)snprintf(command, sizeof command,
                   "fio --name=x --readonly --filename='%s' --direct=1 --rw=%s "
                   "--ioengine=%s --iodepth=%d --bs=%llu --io_size=%llu --randseed=%u "
                   "--output-format=terse --terse-version=3",
                   b->path, in_order ? "read" : "randread", b->fio, b->depth,
                   (unsigned long long)block, (unsigned long long)bytes,
                   (unsigned)rand());
    FILE *f = popen(command, "r");
    char line[8192] = "";
    if (!f || !fgets(line, sizeof line, f) || pclose(f) != 0) return NAN;
    char *p = line; /* field 7: KiB/s of the reads */
    for (int i = 0; i < 6 && p; i++) p = strchr(p, ';') ? strchr(p, ';') + 1 : NULL;
    return p ? strtod(p, NULL) * 1024e-9 : NAN;
}

/* ---- rounds --------------------------------------------------------------------------- */

enum {
    FILL,
    FILL_TAKING,
    FILL_FIO,
    MISSES,
    MISSES_FIO,
    ALONE_MS,
    ALONE_P95,
    ALONE_CPU,
    BUSY_MS,
    BUSY_P95,
    BUSY_CPU,
    FILL_CPU,
    N_COLUMNS
};

static const char *const columns[N_COLUMNS] = {
    "fill GB/s",   "fill, taking", "fill, fio",   "misses GB/s",
    "misses, fio", "alone ms",     "alone p95",   "alone cpu us",
    "busy ms",     "busy p95",     "busy cpu us", "fill cpu s/GB"};

static double gb_per_s(outcome o) {
    return (double)o.bytes * 1e-9 / o.s;
}

static void one_round(bench *b, double *out) {
    double slow;
    outcome o = fill(b, true);
    out[FILL] = gb_per_s(o);
    out[FILL_CPU] = o.cpu_s / ((double)o.bytes * 1e-9);
    out[FILL_FIO] = b->fio ? run_fio(b, true, o.bytes) : NAN;
    out[FILL_TAKING] = gb_per_s(fill(b, false));
    take(b, 0, N_ALONE);
    o = misses(b);
    out[MISSES] = gb_per_s(o);
    out[MISSES_FIO] = b->fio ? run_fio(b, false, o.bytes) : NAN;
    o = alone(b, &slow);
    out[ALONE_MS] = o.s * 1e3;
    out[ALONE_P95] = slow * 1e3;
    out[ALONE_CPU] = o.cpu_s * 1e6 / N_ALONE;
    busy_start();
    o = alone(b, &slow);
    out[BUSY_MS] = o.s * 1e3;
    out[BUSY_P95] = slow * 1e3;
    out[BUSY_CPU] = o.cpu_s * 1e6 / N_ALONE;
    busy_stop();
    tug_pinned_give(&b->memory, 0, b->memory.taken);
}

static double median(double (*rounds)[N_COLUMNS], int n, int column) {
    double v[MAX_ROUNDS];
    for (int i = 0; i < n; i++) v[i] = rounds[i][column];
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2.0;
}

static void print_row(const char *name, const double *v) {
    (void)printf("%-8s", name);
    for (int c = 0; c < N_COLUMNS; c++) (void)printf(" %13.3f", v[c]);
    (void)printf("\n");
    (void)fflush(stdout);
}

static void run(bench *b) {
    static double rounds[MAX_ROUNDS][N_COLUMNS];
    (void)printf("%-8s", "");
    for (int c = 0; c < N_COLUMNS; c++) (void)printf(" %13s", columns[c]);
    (void)printf("\n");
    for (int i = 0; i < b->rounds; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "round %d", i + 1);
        one_round(b, rounds[i]);
        print_row(name, rounds[i]);
    }
    double m[N_COLUMNS];
    for (int c = 0; c < N_COLUMNS; c++) m[c] = median(rounds, b->rounds, c);
    print_row("median", m);
}

static void open_bench(bench *b, double gb) {
    tug_err err;
    struct stat st;
    if (stat(b->path, &st) != 0) must(TUG_EIO, "cannot open the file");
    b->file_bytes = (uint64_t)st.st_size;
    for (int i = 0; i < N_PIECE; i++) b->slot_bytes += tug_reader_room(piece_bytes[i]);
    const uint64_t layer = N_EXPERT * (b->slot_bytes - N_PIECE * TUG_READER_BLOCK);
    if (b->file_bytes < FIRST + layer) must(TUG_EIO, "the file is smaller than 0.8 GB");
    b->n_experts = (int)((b->file_bytes - FIRST) / layer) * N_EXPERT;
    const int wanted = gb > 0.0 ? (int)(gb * 1e9 / (double)b->slot_bytes) : b->n_experts;
    b->n_slots = wanted < b->n_experts ? wanted : b->n_experts;
    if (b->n_slots < N_ALONE) b->n_slots = N_ALONE;
    const tug_reader_params p = {&b->path, 1, b->depth};
    must(tug_reader_create(&b->reader, &p, &err), err.msg);
    must(tug_pinned_reserve(&b->memory, (uint64_t)b->n_slots * b->slot_bytes, &err),
         err.msg);
    tug_rng_seed(&b->rng, (uint64_t)time(NULL));
}

int main(int argc, char **argv) {
    bench b = {.depth = 16, .rounds = 5};
    double gb = 0.0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--depth=", 8) == 0) {
            b.depth = atoi(argv[i] + 8);
        } else if (strncmp(argv[i], "--rounds=", 9) == 0) {
            b.rounds = atoi(argv[i] + 9);
        } else if (strncmp(argv[i], "--gb=", 5) == 0) {
            gb = strtod(argv[i] + 5, NULL);
        } else if (strncmp(argv[i], "--fio=", 6) == 0) {
            b.fio = argv[i] + 6;
        } else if (argv[i][0] != '-' && !b.path) {
            b.path = argv[i];
        } else {
            b.depth = 0;
        }
    }
    if (!b.path || b.depth < 1 || b.rounds < 1 || b.rounds > MAX_ROUNDS) {
        (void)fprintf(stderr,
                      "usage: bench_reader FILE [--depth=N] [--rounds=N] [--gb=X] "
                      "[--fio=ENGINE]\n");
        return 2;
    }
    open_bench(&b, gb);
    (void)printf("%s, depth %d, %d experts of %.2f MB, %s reads\n", b.path, b.depth,
                 b.n_slots, (double)b.slot_bytes * 1e-6,
                 tug_reader_get_stats(b.reader).direct ? "direct" : "usual");
    run(&b);
    tug_reader_destroy(&b.reader);
    tug_pinned_free(&b.memory);
    return 0;
}
