/* test_reader.c - memory/reader.h: the right bytes around block edges, many at once, in
 * files that fail, end early, change, or come from a slow disk.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/sys.h"
#include "fault/fault.h"
#include "memory/reader.h"
#include "support/tmpdir.h"

enum { BLOCK = TUG_READER_BLOCK, SIZE = 7 * BLOCK + 777, MAX_FILES = 5 };

typedef struct fixture {
    tmpdir dir;
    char paths[MAX_FILES][128];
    const char *list[MAX_FILES];
} fixture;

static fixture fx;

static uint8_t byte_of(int file, uint64_t at) {
    return (uint8_t)((at * 2654435761u >> 13) + (uint64_t)file * 31 + at);
}

/* Written long ago, so that the next write is seen however coarse the file's clock is. */
static void age(const char *path) {
    const struct timespec t[2] = {{1000000000, 5}, {1000000000, 5}};
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void write_file(int i) {
    static char bytes[SIZE];
    for (uint64_t at = 0; at < SIZE; at++) bytes[at] = (char)byte_of(i, at);
    char name[16];
    (void)snprintf(name, sizeof name, "part-%d", i);
    const char *path = tmpdir_write(&fx.dir, name, tug_str_make(bytes, SIZE));
    (void)snprintf(fx.paths[i], sizeof fx.paths[i], "%s", path);
    fx.list[i] = fx.paths[i];
    age(path);
}

static int make_files(void **state) {
    (void)state;
    fx.dir = tmpdir_make();
    for (int i = 0; i < MAX_FILES; i++) write_file(i);
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    (void)fault_stop();
    tmpdir_remove(&fx.dir);
    return 0;
}

static tug_reader *create(int n_files, int depth) {
    tug_reader *r = NULL;
    const tug_reader_params p = {fx.list, n_files, depth};
    assert_int_equal(tug_reader_create(&r, &p, NULL), TUG_OK);
    return r;
}

/* `n` bytes that end where a page begins that nobody may touch. */
static uint8_t *guarded(uint64_t n) {
    uint8_t *p =
        mmap(NULL, n + BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    assert_int_equal(mprotect(p + n, BLOCK, PROT_NONE), 0);
    return p;
}

static tug_status read_now(tug_reader *r, const tug_read *read) {
    tug_read_done done = {0};
    assert_true(tug_reader_submit(r, read));
    assert_int_equal(tug_reader_wait(r, &done, 1, true), 1);
    assert_int_equal(done.tag, read->tag);
    return done.status;
}

static void assert_bytes(const tug_read *read) {
    const uint8_t *p = read->memory + tug_reader_skip(read->offset);
    for (uint64_t i = 0; i < read->n; i++) {
        if (p[i] != byte_of(read->file, read->offset + i)) {
            fail_msg("byte %llu of a read of %llu at %llu", (unsigned long long)i,
                     (unsigned long long)read->n, (unsigned long long)read->offset);
        }
    }
}

static void read_around_edges(tug_reader *r) {
    static const uint64_t offsets[] = {0,         1,          511,        512,
                                       BLOCK - 1, BLOCK,      BLOCK + 1,  3 * BLOCK - 1,
                                       5 * BLOCK, SIZE - 778, SIZE - 777, SIZE - 1};
    static const uint64_t lengths[] = {
        1, 2, 511, 512, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 3 * BLOCK + 1, SIZE};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
            const uint64_t left = SIZE - offsets[i];
            const uint64_t n = lengths[j] < left ? lengths[j] : left;
            const uint64_t room = tug_reader_room(n);
            const tug_read read = {0, offsets[i], n, guarded(room), i * 100 + j};
            assert_int_equal(read_now(r, &read), TUG_OK);
            assert_bytes(&read);
            (void)munmap(read.memory, room + BLOCK);
        }
    }
}

static void bytes_are_right_around_block_edges(void **state) {
    (void)state;
    tug_reader *r = create(1, 2);
    read_around_edges(r);
    const tug_reader_stats s = tug_reader_get_stats(r);
    assert_int_equal(s.n_reads, 12 * 10);
    assert_true(s.n_bytes > SIZE && s.busy_s > 0.0);
    tug_reader_destroy(&r);
    assert_null(r);
}

/* A file system may refuse the flag, or the first read. */
static void bytes_are_right_without_direct_reads(void **state) {
    (void)state;
    static const unsigned refused[] = {FAULT_FLAGS, FAULT_READ};
    for (int i = 0; i < 2; i++) {
        fault_fail_once(refused[i], 1, EINVAL);
        tug_reader *r = create(1, 2);
        read_around_edges(r);
        assert_false(tug_reader_get_stats(r).direct);
        tug_reader_destroy(&r);
        assert_true(fault_stop());
    }
}

static void many_reads_of_many_files(void **state) {
    (void)state;
    enum { N = 400, DEPTH = 7, MAX = 3 * BLOCK };
    tug_reader *r = create(MAX_FILES, DEPTH);
    tug_read reads[N];
    tug_rng rng;
    tug_rng_seed(&rng, 7);
    uint8_t *memory = tug_alloc_aligned(BLOCK, N * tug_reader_room(MAX));
    for (uint64_t i = 0; i < N; i++) {
        const uint64_t n = 1 + tug_rng_u64(&rng) % MAX;
        reads[i] = (tug_read){(int)(i % MAX_FILES), tug_rng_u64(&rng) % (SIZE - n + 1), n,
                              memory + i * tug_reader_room(MAX), i};
    }
    bool seen[N] = {false};
    int n_sent = 0, n_done = 0;
    while (n_done < N) {
        while (n_sent < N && tug_reader_submit(r, &reads[n_sent])) n_sent++;
        assert_int_equal(tug_reader_in_flight(r), n_sent - n_done);
        assert_true(n_sent == N || n_sent - n_done == DEPTH);
        tug_read_done done[DEPTH];
        const int n = tug_reader_wait(r, done, 3, true);
        assert_in_range(n, 1, 3);
        for (int i = 0; i < n; i++) {
            assert_int_equal(done[i].status, TUG_OK);
            assert_false(seen[done[i].tag]);
            seen[done[i].tag] = true;
            assert_bytes(&reads[done[i].tag]);
        }
        n_done += n;
    }
    tug_read_done none;
    assert_int_equal(tug_reader_wait(r, &none, 1, true), 0);
    assert_int_equal(tug_reader_get_stats(r).n_reads, N);
    assert_string_equal(tug_reader_error(r), "");
    tug_reader_destroy(&r);
    tug_free(memory);
}

/* ---- what goes wrong ------------------------------------------------------------------ */

/* Creates a reader and reads the whole file; *err has what failed, if anything. */
static tug_status create_and_read(tug_err *err, uint8_t *memory) {
    tug_reader *r = NULL;
    const tug_reader_params p = {fx.list, 2, 1};
    const tug_status s = tug_reader_create(&r, &p, err);
    if (s != TUG_OK) {
        assert_null(r);
        return s;
    }
    const tug_read read = {1, 5, SIZE - 5, memory, 9};
    const tug_status got = read_now(r, &read);
    if (got == TUG_OK) assert_bytes(&read);
    if (got != TUG_OK)
        (void)snprintf(err->msg, sizeof err->msg, "%s", tug_reader_error(r));
    tug_reader_destroy(&r);
    return got;
}

static void every_call_fails_once(void **state) {
    (void)state;
    static const struct {
        unsigned calls;
        int how;
        bool harmless;
    } faults[] = {{FAULT_OPEN, EACCES, false},
                  {FAULT_OPEN, EINTR, true},
                  {FAULT_FSTAT, EIO, false},
                  {FAULT_FLAGS, EINVAL, true},
                  {FAULT_READ, EINTR, true}};
    uint8_t *memory = guarded(tug_reader_room(SIZE));
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        bool hit = true;
        uint64_t n = 1;
        for (; hit; n++) {
            tug_err err = {0};
            fault_fail_once(faults[i].calls, n, faults[i].how);
            const tug_status s = create_and_read(&err, memory);
            assert_int_equal(fault_live_files(), 0);
            assert_int_equal(fault_live_blocks(), 0);
            hit = fault_stop();
            assert_int_equal(s, hit && !faults[i].harmless ? TUG_EIO : TUG_OK);
            if (s != TUG_OK) assert_non_null(strstr(err.msg, "part-"));
        }
        assert_true(n > 2);
    }
    (void)munmap(memory, tug_reader_room(SIZE) + BLOCK);
}

static void memory_runs_out(void **state) {
    (void)state;
    uint8_t *memory = guarded(tug_reader_room(SIZE));
    bool hit = true;
    uint64_t n = 1;
    for (; hit; n++) {
        tug_err err = {0};
        fault_fail_alloc(n);
        const tug_status s = create_and_read(&err, memory);
        assert_int_equal(fault_live_files(), 0);
        assert_int_equal(fault_live_blocks(), 0);
        hit = fault_stop();
        assert_int_equal(s, hit ? TUG_ENOMEM : TUG_OK);
    }
    assert_true(n > 8);
    (void)munmap(memory, tug_reader_room(SIZE) + BLOCK);
}

static void missing_files_are_named(void **state) {
    (void)state;
    tug_reader *r = NULL;
    tug_err err = {0};
    const char *paths[] = {fx.list[0], tmpdir_path(&fx.dir, "nowhere")};
    const tug_reader_params p = {paths, 2, 1};
    assert_int_equal(tug_reader_create(&r, &p, &err), TUG_EIO);
    assert_non_null(strstr(err.msg, "nowhere"));
    assert_null(r);
}

static void a_truncated_file_is_an_error(void **state) {
    (void)state;
    tug_reader *r = create(1, 2);
    uint8_t *memory = guarded(tug_reader_room(SIZE));
    const tug_read all = {0, 0, SIZE, memory, 1}, head = {0, 100, BLOCK, memory, 2};
    assert_int_equal(tug_reader_check(r, NULL), TUG_OK);
    static const uint64_t ends[] = {SIZE - 1, 3 * BLOCK + 5, 2 * BLOCK, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(truncate(fx.list[0], (off_t)ends[i]), 0);
        assert_int_equal(read_now(r, &all), TUG_EIO);
        assert_non_null(
            strstr(tug_reader_error(r), "is shorter than when it was opened"));
        assert_non_null(strstr(tug_reader_error(r), "part-0"));
        tug_err err = {0};
        assert_int_equal(tug_reader_check(r, &err), TUG_EIO);
        assert_non_null(strstr(err.msg, "is shorter"));
        assert_int_equal(read_now(r, &head), ends[i] >= 100 + BLOCK ? TUG_OK : TUG_EIO);
    }
    assert_int_equal(tug_reader_get_stats(r).n_reads, 3);
    tug_reader_destroy(&r);
    (void)munmap(memory, tug_reader_room(SIZE) + BLOCK);
    write_file(0);
}

static void a_file_that_is_written_to_is_noticed(void **state) {
    (void)state;
    tug_reader *r = create(2, 1);
    assert_int_equal(tug_reader_check(r, NULL), TUG_OK);
    const int fd = open(fx.list[1], O_WRONLY);
    assert_int_equal(pwrite(fd, "x", 1, 50), 1);
    (void)close(fd);
    tug_err err = {0};
    assert_int_equal(tug_reader_check(r, &err), TUG_EIO);
    assert_non_null(strstr(err.msg, "part-1 was written to"));
    tug_reader_destroy(&r);
    write_file(1);
}

static void a_file_that_is_replaced_is_still_there(void **state) {
    (void)state;
    tug_reader *r = create(1, 1);
    const char *other = tmpdir_write(&fx.dir, "other", tug_str_of("something else"));
    assert_int_equal(rename(other, fx.list[0]), 0);
    assert_int_equal(tug_reader_check(r, NULL), TUG_OK);
    uint8_t *memory = guarded(tug_reader_room(SIZE));
    const tug_read all = {0, 0, SIZE, memory, 1};
    assert_int_equal(read_now(r, &all), TUG_OK);
    assert_bytes(&all);
    tug_reader_destroy(&r);
    (void)munmap(memory, tug_reader_room(SIZE) + BLOCK);
    write_file(0);
}

/* ---- disks with a will of their own --------------------------------------------------- */

static struct {
    tug_sys_table real;
    _Atomic int inside, most_inside, n_begun, n_ended;
    int want_inside;  /* a read waits until so many are inside */
    int ms;           /* and then so long */
    off_t bad_offset; /* fails there with EIO */
    ssize_t most;     /* bytes a read gives; 0: all */
} disk;

static void sleep_ms(int ms) {
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    (void)nanosleep(&t, NULL);
}

static ssize_t disk_pread(int fd, void *buf, size_t n, off_t at) {
    atomic_fetch_add(&disk.n_begun, 1);
    const int now = atomic_fetch_add(&disk.inside, 1) + 1;
    int most = atomic_load(&disk.most_inside);
    while (now > most && !atomic_compare_exchange_weak(&disk.most_inside, &most, now)) {
    }
    for (int i = 0; i < 10000 && atomic_load(&disk.most_inside) < disk.want_inside; i++) {
        sleep_ms(1);
    }
    sleep_ms(disk.ms);
    ssize_t got = -1;
    if (at == disk.bad_offset) {
        errno = EIO;
    } else {
        got = disk.real.pread(fd, buf, n, at);
    }
    if (disk.most > 0 && got > disk.most) got = disk.most;
    atomic_fetch_sub(&disk.inside, 1);
    atomic_fetch_add(&disk.n_ended, 1);
    return got;
}

static void disk_start(void) {
    memset(&disk, 0, sizeof disk);
    disk.real = tug_sys;
    disk.bad_offset = -1;
    tug_sys.pread = disk_pread;
}

static void disk_stop(void) {
    tug_sys = disk.real;
}

static void a_slow_disk_gets_all_at_once(void **state) {
    (void)state;
    enum { DEPTH = 6 };
    tug_reader *r = create(1, DEPTH);
    disk_start();
    disk.want_inside = DEPTH; /* with fewer at once this takes minutes */
    disk.ms = 20;
    uint8_t *memory = tug_alloc_aligned(BLOCK, DEPTH * tug_reader_room(BLOCK));
    tug_read reads[DEPTH];
    for (int i = 0; i < DEPTH; i++) {
        reads[i] = (tug_read){0, (uint64_t)i * BLOCK + 1, BLOCK,
                              memory + (size_t)i * tug_reader_room(BLOCK), (uint64_t)i};
        assert_true(tug_reader_submit(r, &reads[i]));
    }
    tug_read_done done[DEPTH];
    assert_false(tug_reader_submit(r, &reads[0]));
    assert_int_equal(tug_reader_wait(r, done, DEPTH, false), 0);
    for (int n = 0; n < DEPTH;) {
        const int got = tug_reader_wait(r, done, DEPTH, true);
        for (int i = 0; i < got; i++) {
            assert_int_equal(done[i].status, TUG_OK);
            assert_bytes(&reads[done[i].tag]);
        }
        n += got;
    }
    disk_stop();
    const tug_reader_stats s = tug_reader_get_stats(r);
    assert_int_equal(disk.most_inside, DEPTH);
    assert_true(s.busy_s >= 0.02 && s.waited_s > 0.0);
    tug_reader_destroy(&r);
    tug_free(memory);
}

static void one_bad_block_is_one_failed_read(void **state) {
    (void)state;
    enum { N = 7 };
    tug_reader *r = create(2, N);
    disk_start();
    disk.bad_offset = 4 * BLOCK;
    uint8_t *memory = tug_alloc_aligned(BLOCK, N * tug_reader_room(BLOCK));
    tug_read reads[N];
    for (int i = 0; i < N; i++) {
        reads[i] = (tug_read){1, (uint64_t)i * BLOCK, BLOCK,
                              memory + (size_t)i * tug_reader_room(BLOCK), (uint64_t)i};
        assert_true(tug_reader_submit(r, &reads[i]));
    }
    for (int n = 0; n < N; n++) {
        tug_read_done done;
        assert_int_equal(tug_reader_wait(r, &done, 1, true), 1);
        assert_int_equal(done.status, done.tag == 4 ? TUG_EIO : TUG_OK);
        if (done.tag != 4) assert_bytes(&reads[done.tag]);
    }
    assert_non_null(strstr(tug_reader_error(r), "part-1 at byte 16384: "));
    disk.bad_offset = -1;
    assert_int_equal(read_now(r, &reads[4]), TUG_OK); /* the disk got better */
    assert_bytes(&reads[4]);
    disk_stop();
    tug_reader_destroy(&r);
    tug_free(memory);
}

static void short_reads_go_on(void **state) {
    (void)state;
    static const ssize_t most[] = {BLOCK, BLOCK + 1, 2 * BLOCK + 512};
    tug_reader *r = create(1, 1);
    disk_start();
    for (int i = 0; i < 3; i++) {
        disk.most = most[i];
        read_around_edges(r);
    }
    disk_stop();
    assert_true(disk.n_begun > 3 * 12 * 10);
    tug_reader_destroy(&r);
}

/* Nothing writes to the memory of a read after destroy: the sanitizers look on. */
static void destroy_waits_for_the_disk(void **state) {
    (void)state;
    enum { DEPTH = 40 };
    tug_reader *r = create(1, DEPTH);
    disk_start();
    disk.ms = 30;
    uint8_t *memory = tug_alloc_aligned(BLOCK, DEPTH * tug_reader_room(BLOCK));
    for (int i = 0; i < DEPTH; i++) {
        const tug_read read = {0, 3, BLOCK, memory + (size_t)i * tug_reader_room(BLOCK),
                               0};
        assert_true(tug_reader_submit(r, &read));
    }
    while (atomic_load(&disk.n_begun) == 0) sleep_ms(1);
    tug_reader_destroy(&r);
    assert_int_equal(disk.n_begun, disk.n_ended);
    disk_stop();
    tug_free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_right_around_block_edges),
        cmocka_unit_test(bytes_are_right_without_direct_reads),
        cmocka_unit_test(many_reads_of_many_files),
        cmocka_unit_test(every_call_fails_once),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(a_truncated_file_is_an_error),
        cmocka_unit_test(a_file_that_is_written_to_is_noticed),
        cmocka_unit_test(a_file_that_is_replaced_is_still_there),
        cmocka_unit_test(a_slow_disk_gets_all_at_once),
        cmocka_unit_test(one_bad_block_is_one_failed_read),
        cmocka_unit_test(short_reads_go_on),
        cmocka_unit_test(destroy_waits_for_the_disk),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
