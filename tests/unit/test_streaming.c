/* test_streaming.c - a model whose experts come from its file: what goes wrong with the file
 * ends in a sentence and never in a wrong number; memory is given back and taken; counts are
 * what the simulator says.  That no bit differs when all goes well is in
 * tests/golden/test_golden.c.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sys.h"
#include "engine/residency.h"
#include "fault/fault.h"
#include "support/tmpdir.h"
#include "trace/simulate.h"
#include "tug_profile.h"

#define MODEL "models/tug-tiny-coder-q8_0.gguf"

enum { N_TOK = 48, MAX_LAYER = 64 };

/* ---- a model in a folder of its own --------------------------------------------------- */

typedef struct fixture {
    tmpdir dir;
    const char *path;
    tug_model *model;
    tug_session *session;
    float *logits; /* (n_vocab,) of the text, with all weights in memory */
    int64_t n_vocab;
} fixture;

static void copy_file(const char *from, const char *to) {
    tug_file f;
    tug_buf bytes = {0};
    assert_int_equal(tug_file_open(&f, from, NULL), TUG_OK);
    assert_int_equal(tug_read_all(f.fd, from, 1 << 28, &bytes, NULL), TUG_OK);
    tug_file_close(&f);
    FILE *out = fopen(to, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes.p, 1, bytes.n, out), bytes.n);
    assert_int_equal(fclose(out), 0);
    tug_buf_free(&bytes);
}

static tug_status append_text(tug_session *s, int64_t n, tug_err *err) {
    int32_t ids[N_TOK];
    for (int i = 0; i < N_TOK; i++) ids[i] = (i * i * 31 + i * 7) % 1000;
    return tug_session_append(s, ids, n, err);
}

static tug_status open_streamed(tug_model **model, const char *path, int home,
                                int staging, tug_err *err) {
    int homes[MAX_LAYER];
    for (int i = 0; i < MAX_LAYER; i++) homes[i] = home;
    const tug_residency plan = {
        .streamed = true, .home = homes, .staging = staging, .n_batch = 64};
    const tug_model_params p = {.path = path, .n_threads = 2};
    return tug_model_open_as(model, &p, &plan, err);
}

static void start(fixture *f, int home, int staging) {
    const tug_session_params sp = {.n_ctx = 4 * N_TOK};
    assert_int_equal(open_streamed(&f->model, f->path, home, staging, NULL), TUG_OK);
    assert_int_equal(tug_session_create(&f->session, f->model, &sp, NULL), TUG_OK);
}

static void stop(fixture *f) {
    tug_session_destroy(&f->session);
    tug_model_close(&f->model);
}

static int setup(void **state) {
    static fixture f;
    f = (fixture){.dir = tmpdir_make()};
    static char path[128];
    (void)snprintf(path, sizeof path, "%s", tmpdir_path(&f.dir, "model.gguf"));
    f.path = path;
    copy_file(MODEL, path);
    const tug_model_params p = {.path = path, .n_threads = 2};
    const tug_session_params sp = {.n_ctx = 4 * N_TOK};
    assert_int_equal(tug_model_open(&f.model, &p, NULL), TUG_OK);
    assert_false(tug_model_get_info(f.model).streamed);
    assert_int_equal(tug_session_create(&f.session, f.model, &sp, NULL), TUG_OK);
    assert_int_equal(append_text(f.session, N_TOK, NULL), TUG_OK);
    f.n_vocab = tug_model_get_info(f.model).n_vocab;
    f.logits = tug_alloc_array((size_t)f.n_vocab, sizeof *f.logits);
    assert_non_null(f.logits);
    memcpy(f.logits, tug_session_logits(f.session), (size_t)f.n_vocab * sizeof(float));
    stop(&f);
    *state = &f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    tug_free(f->logits);
    tmpdir_remove(&f->dir);
    return 0;
}

/* The session holds the text, and its logits are those of a model in memory. */
static void expect_text(const fixture *f) {
    assert_int_equal(tug_session_n_tokens(f->session), N_TOK);
    assert_memory_equal(tug_session_logits(f->session), f->logits,
                        (size_t)f->n_vocab * sizeof(float));
}

static void expect_refused(fixture *f, const char *words) {
    tug_err err = {0};
    assert_int_equal(append_text(f->session, N_TOK, &err), TUG_EIO);
    if (!strstr(err.msg, words)) fail_msg("'%s' does not say '%s'", err.msg, words);
    assert_int_equal(tug_session_n_tokens(f->session), 0);
    assert_null(tug_session_logits(f->session));
}

/* ---- the disk ------------------------------------------------------------------------- */

/* Reads by the reader's threads: so many more work, then they fail; negative: all work. */
static atomic_long good_reads;
static atomic_int delay_us;
static ssize_t (*real_pread)(int fd, void *buf, size_t n, off_t at);

/* The next read fails, but not before so many others are done. */
static atomic_bool sticks;
static atomic_long until;

static ssize_t some_pread(int fd, void *buf, size_t n, off_t at) {
    if (atomic_exchange(&sticks, false)) {
        while (atomic_load(&until) > 0) (void)usleep(100);
        errno = EIO;
        return -1;
    }
    atomic_fetch_sub(&until, 1);
    if (atomic_load(&delay_us) > 0) (void)usleep((useconds_t)atomic_load(&delay_us));
    if (atomic_load(&good_reads) >= 0 && atomic_fetch_sub(&good_reads, 1) <= 0) {
        atomic_store(&good_reads, 0);
        errno = EIO;
        return -1;
    }
    return real_pread(fd, buf, n, at);
}

/* Before a model is opened: its threads look at the table. */
static void watch_reads(void) {
    if (tug_sys.pread != some_pread)
        real_pread = tug_sys.pread; /* a test may have failed */
    tug_sys.pread = some_pread;
    atomic_store(&good_reads, -1);
    atomic_store(&delay_us, 0);
}

static void leave_reads(void) {
    tug_sys.pread = real_pread;
}

static void a_read_error_ends_the_request(void **state) {
    fixture *f = *state;
    watch_reads();
    for (long good = 0; good < 200; good = good * 2 + 1) {
        start(f, 2, 3);
        tug_session_mark *mark = NULL;
        assert_int_equal(append_text(f->session, N_TOK / 2, NULL), TUG_OK);
        assert_int_equal(tug_session_save(f->session, &mark, NULL), TUG_OK);
        tug_session_reset(f->session);
        atomic_store(&good_reads, good);
        expect_refused(f, "cannot read");
        atomic_store(&good_reads, -1);
        assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
        expect_text(f);
        /* A save point from before is as good as it was. */
        assert_int_equal(tug_session_restore(f->session, mark, NULL), TUG_OK);
        assert_int_equal(tug_session_n_tokens(f->session), N_TOK / 2);
        tug_session_mark_destroy(&mark);
        stop(f);
    }
    leave_reads();
}

/* A read of a request that is over fails when the next one has used other experts and given up
 * their slots: it is done again, they are not. */
static void a_late_read_error_costs_one_read(void **state) {
    fixture *f = *state;
    watch_reads();
    start(f, 2, 3);
    atomic_store(&until, 1L << 40);
    atomic_store(&sticks, true);
    atomic_store(&good_reads, 1);
    expect_refused(f, "cannot read");
    atomic_store(&good_reads, -1);
    atomic_store(&until, 3 * 8);
    const double before = tug_model_streaming(f->model).read_bytes;
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    expect_text(f);
    const double once = tug_model_streaming(f->model).read_bytes - before;
    tug_session_reset(f->session);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    const double again = tug_model_streaming(f->model).read_bytes - before - once;
    assert_true(once < 1.1 * again);
    stop(f);
    leave_reads();
}

static void a_read_error_while_loading_ends_it(void **state) {
    fixture *f = *state;
    watch_reads();
    for (long good = 0; good < 300; good = good * 2 + 1) {
        tug_err err = {0};
        tug_model *model = NULL;
        atomic_store(&good_reads, good);
        const tug_status s = open_streamed(&model, f->path, 8, 4, &err);
        /* The first read only asks whether the file can be read directly. */
        assert_true(s == TUG_EIO || (s == TUG_OK && good > 100));
        if (s != TUG_OK) assert_null(model);
        tug_model_close(&model);
    }
    leave_reads();
}

static void a_slow_disk_changes_nothing(void **state) {
    fixture *f = *state;
    watch_reads();
    start(f, 1, 2);
    atomic_store(&delay_us, 500);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    expect_text(f);
    assert_true(tug_model_streaming(f->model).waited_s > 0.0);
    stop(f);
    leave_reads();
}

/* ---- the file ------------------------------------------------------------------------- */

static void a_truncated_file_is_seen(void **state) {
    fixture *f = *state;
    start(f, 1, 2);
    assert_int_equal(truncate(f->path, 1 << 20), 0);
    expect_refused(f, "is shorter than when it was opened");
    stop(f);
    copy_file(MODEL, f->path);
}

static void a_file_that_is_written_to_is_seen(void **state) {
    fixture *f = *state;
    start(f, 1, 2);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    tug_session_reset(f->session);
    const int fd = open(f->path, O_WRONLY);
    assert_true(fd >= 0);
    struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    assert_int_equal(futimens(fd, now), 0);
    assert_int_equal(close(fd), 0);
    expect_refused(f, "was written to after it was opened");
    stop(f);
}

static void a_replaced_file_does_not_matter(void **state) {
    fixture *f = *state;
    start(f, 1, 2);
    const char *other = tmpdir_write(&f->dir, "other", tug_str_of("no model"));
    assert_int_equal(rename(other, f->path), 0);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    expect_text(f);
    stop(f);
    copy_file(MODEL, f->path);
}

/* ---- memory --------------------------------------------------------------------------- */

static void memory_is_given_back_and_taken(void **state) {
    fixture *f = *state;
    start(f, 12, 4);
    const tug_expert_memory full = tug_model_expert_memory(f->model);
    const int64_t slot = (int64_t)(full.bytes / full.slots);
    tug_expert_store *store = f->model->experts;

    assert_int_equal(tug_expert_store_adjust(store, -3 * slot), -3 * slot);
    assert_int_equal(tug_model_expert_memory(f->model).bytes,
                     full.bytes - 3 * (uint64_t)slot);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    expect_text(f);

    /* Never below one slot a layer. */
    (void)tug_expert_store_adjust(store, INT64_MIN / 2);
    const tug_expert_memory least = tug_model_expert_memory(f->model);
    const int64_t n_layer = tug_model_get_info(f->model).n_layer;
    assert_int_equal(least.slots,
                     (uint64_t)n_layer + full.slots - 12 * (uint64_t)n_layer);
    tug_session_reset(f->session);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    expect_text(f);

    /* Never above what it began with.  (The watch may have taken some back meanwhile.) */
    assert_true(tug_expert_store_adjust(store, INT64_MAX / 2) >= 0);
    assert_int_equal(tug_model_expert_memory(f->model).bytes, full.bytes);
    tug_session_reset(f->session);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    expect_text(f);
    stop(f);
}

static void a_ceiling_that_is_passed_costs_slots(void **state) {
    fixture *f = *state;
    start(f, 12, 4);
    const uint64_t before = tug_model_expert_memory(f->model).slots;
    tug_expert_store_watch(f->model->experts, 1 << 20, 64 << 20);
    assert_true(tug_model_expert_memory(f->model).slots < before);
    assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
    expect_text(f);
    stop(f);
}

static void no_allocation_that_fails_leaks(void **state) {
    fixture *f = *state;
    for (uint64_t n = 1;; n++) {
        tug_model *model = NULL;
        fault_fail_alloc(n);
        const tug_status s = open_streamed(&model, f->path, 2, 2, NULL);
        if (s == TUG_OK) tug_model_close(&model);
        const int64_t left = fault_live_blocks();
        const bool hit = fault_stop();
        assert_int_equal(left, 0);
        if (!hit) break;
        assert_int_equal(s, TUG_ENOMEM);
    }
}

static bool not_beyond_half(void *ud, uint64_t done, uint64_t total) {
    (void)ud;
    return done < total / 2;
}

static void loading_can_be_canceled(void **state) {
    const fixture *f = *state;
    int homes[MAX_LAYER];
    for (int i = 0; i < MAX_LAYER; i++) homes[i] = 10;
    tug_model *model = NULL;
    const tug_residency plan = {
        .streamed = true, .home = homes, .staging = 2, .n_batch = 64};
    const tug_model_params p = {
        .path = f->path, .n_threads = 2, .on_load = not_beyond_half};
    assert_int_equal(tug_model_open_as(&model, &p, &plan, NULL), TUG_ECANCELED);
    assert_null(model);
}

/* Cancels at the n-th report. */
static bool counts_down(void *ud, uint64_t done, uint64_t total) {
    int *left = ud;
    assert_true(done <= total);
    return --*left > 0;
}

/* In the middle of a batch too: the session is where the batch began, and goes on as if
 * nothing had been. */
static void prefill_can_be_canceled_between_layers(void **state) {
    fixture *f = *state;
    start(f, 1, 2);
    tug_session_destroy(&f->session);
    int left = 0;
    const tug_session_params sp = {
        .n_ctx = 4 * N_TOK, .n_batch = 20, .on_prefill = counts_down, .ud = &left};
    assert_int_equal(tug_session_create(&f->session, f->model, &sp, NULL), TUG_OK);
    for (int at = 1; at < 12; at++) {
        tug_session_reset(f->session);
        left = at;
        assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_ECANCELED);
        const int64_t kept = tug_session_n_tokens(f->session);
        assert_true(kept == 0 || kept == 20 || kept == 40);
        assert_true((tug_session_logits(f->session) != NULL) == (kept > 0));
        left = 1000;
        int32_t ids[N_TOK];
        for (int i = 0; i < N_TOK; i++) ids[i] = (i * i * 31 + i * 7) % 1000;
        assert_int_equal(tug_session_append(f->session, ids + kept, N_TOK - kept, NULL),
                         TUG_OK);
        expect_text(f);
    }
    stop(f);
}

/* ---- the simulator -------------------------------------------------------------------- */

typedef struct recording {
    tug_trace trace;
    int64_t first;
    int n_used;
} recording;

static void record(void *ud, int layer, const int32_t *ids, int n_used, int64_t n_tok) {
    recording *r = ud;
    r->n_used = n_used;
    if (layer == 0) {
        assert_int_equal(tug_trace_add_batch(&r->trace, (int32_t)n_tok, &r->first, NULL),
                         TUG_OK);
    }
    for (int64_t t = 0; t < n_tok; t++) {
        uint16_t *to = tug_trace_ids(&r->trace, r->first + t, layer);
        for (int i = 0; i < n_used; i++) to[i] = (uint16_t)ids[t * n_used + i];
    }
}

/* Hit rates within a point of each other, from one slot to most experts. */
static void counts_are_the_simulators(void **state) {
    fixture *f = *state;
    for (int home = 1; home <= 16; home += 5) {
        start(f, home, 2);
        const tug_model_info info = tug_model_get_info(f->model);
        recording r = {0};
        assert_int_equal(tug_trace_set_shape(&r.trace, "here", (int)info.n_layer,
                                             (int)info.n_expert, (int)info.n_expert_used,
                                             NULL),
                         TUG_OK);
        tug_model_on_routes(f->model, record, &r);
        assert_int_equal(append_text(f->session, N_TOK, NULL), TUG_OK);
        for (int32_t id = 0; id < 2 * N_TOK; id++) { /* and as many one by one */
            const int32_t next = (id * 193) % 1000;
            assert_int_equal(tug_session_append(f->session, &next, 1, NULL), TUG_OK);
        }
        const tug_streaming got = tug_model_streaming(f->model);
        tug_simulation sim;
        const tug_simulate_params p = {
            .policy = tug_expert_policy_at(0), .home = home, .staging = 2};
        assert_int_equal(tug_simulate(&r.trace, &p, &sim, NULL), TUG_OK);
        const double wanted = (double)(sim.prompt.wanted + sim.decode.wanted);
        const double hits = (double)(sim.prompt.hits + sim.decode.hits);
        assert_true(got.wanted == wanted);
        /* What was fetched ahead is not in the simulator. */
        const double here = (got.hits + got.early) / wanted, there = hits / wanted;
        if (here < there - 0.01 || here > there + 0.01 + got.early / wanted) {
            fail_msg("%d slots: engine %.4f, simulator %.4f", home, here, there);
        }
        tug_trace_free(&r.trace);
        stop(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_error_ends_the_request),
        cmocka_unit_test(a_late_read_error_costs_one_read),
        cmocka_unit_test(a_read_error_while_loading_ends_it),
        cmocka_unit_test(a_slow_disk_changes_nothing),
        cmocka_unit_test(a_truncated_file_is_seen),
        cmocka_unit_test(a_file_that_is_written_to_is_seen),
        cmocka_unit_test(a_replaced_file_does_not_matter),
        cmocka_unit_test(memory_is_given_back_and_taken),
        cmocka_unit_test(a_ceiling_that_is_passed_costs_slots),
        cmocka_unit_test(no_allocation_that_fails_leaks),
        cmocka_unit_test(loading_can_be_canceled),
        cmocka_unit_test(prefill_can_be_canceled_between_layers),
        cmocka_unit_test(counts_are_the_simulators),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
