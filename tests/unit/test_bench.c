/* test_bench.c - medians, fits, the verdict on constructed runs, and reports of runs that
 * never took place.  SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/outfile.h"
#include "bench/bench_report.h"
#include "fault/fault.h"
#include "support/tmpdir.h"

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-9 * (fabs(a) + fabs(b)) + 1e-12;
}

static void medians(void **state) {
    (void)state;
    const double v[] = {5, 1, 9, 3};
    const tug_spread even = tug_spread_of(v, 4), odd = tug_spread_of(v, 3);
    assert_true(near(even.median, 4) && near(even.min, 1) && near(even.max, 9));
    assert_true(near(odd.median, 5) && near(odd.min, 1) && near(odd.max, 9));
    assert_int_equal(tug_spread_of(v, 0).n, 0);
    assert_true(near(tug_spread_of(v, 1).median, 5));
}

static void lines(void **state) {
    (void)state;
    const double x[] = {0, 1000, 2000, 4000}, on[] = {7, 8, 9, 11}, off[] = {0, 3, 2, 5};
    const tug_line exact = tug_line_fit(x, on, 4), noisy = tug_line_fit(x, off, 4);
    assert_true(exact.ok && near(exact.a, 7) && near(exact.b, 1e-3));
    /* By hand: means 1750 and 2.5, sums of products 9500 and of squares 8750000. */
    assert_true(noisy.ok && near(noisy.b, 9500.0 / 8750000));
    assert_true(near(noisy.a, 2.5 - 1750 * noisy.b));
    assert_false(tug_line_fit(x, on, 2).ok);
    const double twice[] = {1, 1, 2};
    assert_false(tug_line_fit(twice, on, 3).ok);
    assert_false(tug_line_fit(x, on, 0).ok);
}

/* ---- the verdict --------------------------------------------------------------------- */

/* A machine of 50 GB/s, 1000 GMAC/s int8 and 250 f32, and a second of two threads. */
static const tug_limits limits = {50e9, 1000e9, 250e9, 0};

static tug_profile one_second(tug_work work) {
    tug_profile p = {.n_threads = 2, .n_tokens = 1};
    p.stage[TUG_STAGE_EXPERTS] =
        (tug_stage_profile){.seconds = 0.7, .busy_s = 1.4, .work = work};
    p.stage[TUG_STAGE_OTHER] = (tug_stage_profile){.seconds = 0.3, .busy_s = 0.6};
    return p;
}

static void expect_of(tug_profile p, tug_load load, tug_bound bound, const char *words) {
    load.wall_s = 1.0;
    const tug_verdict v = tug_verdict_of(&p, &load, &limits);
    tug_buf text = {0};
    tug_verdict_say(&v, &limits, &text);
    if (v.bound != bound || !strstr(text.p, words)) print_error("%s\n", text.p);
    assert_int_equal(v.bound, bound);
    assert_non_null(strstr(text.p, words));
    tug_buf_free(&text);
}

static void expect(tug_profile p, double run_delay, double steal, tug_bound bound,
                   const char *words) {
    expect_of(p, (tug_load){.run_delay_s = run_delay, .steal_s = steal}, bound, words);
}

static void verdicts(void **state) {
    (void)state;
    const tug_work compute = {.bytes = 5e9, .macs_int8 = 500e9, .macs_f32 = 25e9};
    const tug_work reading = {.bytes = 35e9, .macs_int8 = 40e9};
    const tug_work little = {.bytes = 2e9, .macs_int8 = 40e9};
    const tug_work cached = {.bytes = 90e9, .macs_int8 = 300e9};
    expect(one_second(compute), 0, 0, TUG_BOUND_COMPUTE,
           "compute-bound: the multiplications alone need 60 % of the time at the "
           "measured peaks (1000 GMAC/s int8, 250 f32); most time goes to experts (70 %, "
           "at 86 % of its limit)");
    expect(one_second(reading), 0, 0, TUG_BOUND_BANDWIDTH,
           "needs 70 % of the time at the measured 50.0 GB/s");
    expect(one_second(little), 0, 0, TUG_BOUND_OVERHEAD,
           "the memory (4 %) nor the multipliers (4 %)");
    expect(one_second(cached), 0, 0, TUG_BOUND_COMPUTE, "compute-bound");
    tug_profile small = one_second(reading); /* a model of 1 MB, a cache of 2 */
    small.model_bytes = 1e6;
    tug_limits large_cache = limits;
    large_cache.cache_bytes = 2e6;
    const tug_load quiet = {.wall_s = 1.0};
    assert_int_equal(tug_verdict_of(&small, &quiet, &large_cache).bound,
                     TUG_BOUND_OVERHEAD);
    large_cache.cache_bytes = 0.5e6;
    assert_int_equal(tug_verdict_of(&small, &quiet, &large_cache).bound,
                     TUG_BOUND_BANDWIDTH);
    /* 10 % of two threads' time, whoever took it, and whatever else is true. */
    expect(one_second(compute), 0.21, 0, TUG_BOUND_STARVED, "for 10 % of the time");
    expect(one_second(reading), 0.1, 0.3, TUG_BOUND_STARVED, "for 20 % of the time");
    /* Threads that wait for each other: tug itself had 1.9 of 2 seconds. */
    expect_of(one_second(reading), (tug_load){.run_delay_s = 1.2, .cpu_s = 1.9},
              TUG_BOUND_BANDWIDTH, "needs 70 % of the time");
    expect_of(one_second(reading), (tug_load){.run_delay_s = 1.2, .cpu_s = 1.5},
              TUG_BOUND_STARVED, "for 25 % of the time");
    expect(one_second(reading), 0.19, 0, TUG_BOUND_BANDWIDTH, "bandwidth-bound");

    tug_profile waiting = one_second(little);
    waiting.stage[TUG_STAGE_EXPERTS].wait_s = 0.5;
    waiting.stage[TUG_STAGE_OTHER].alone_s = 0.3;
    expect(
        waiting, 0, 0, TUG_BOUND_SYNC,
        "waited for each other 25 % of the time and for work that one does alone 15 %");
    waiting = one_second(reading); /* waits, but is near its limit all the same */
    waiting.stage[TUG_STAGE_EXPERTS].wait_s = 0.6;
    expect(waiting, 0, 0, TUG_BOUND_BANDWIDTH, "bandwidth-bound");
    expect((tug_profile){.n_threads = 1}, 0, 0, TUG_BOUND_OVERHEAD, "overhead");
}

static void shared_expert_gets_its_part(void **state) {
    (void)state;
    tug_profile p = {.n_threads = 2};
    p.stage[TUG_STAGE_EXPERTS] = (tug_stage_profile){
        .seconds = 1.0, .busy_s = 1.8, .wait_s = 0.2, .work = {.bytes = 30e9}};
    p.stage[TUG_STAGE_SHARED].work = (tug_work){.bytes = 1, .macs_int8 = 200e9};
    tug_profile_split_shared(&p, &limits); /* 0.6 s of reading to 0.2 s of multiplying */
    assert_true(near(p.stage[TUG_STAGE_EXPERTS].seconds, 0.75));
    assert_true(near(p.stage[TUG_STAGE_SHARED].seconds, 0.25));
    assert_true(near(p.stage[TUG_STAGE_SHARED].busy_s, 0.45));
    assert_true(near(p.stage[TUG_STAGE_EXPERTS].wait_s, 0.15));
    tug_profile none = {.n_threads = 1};
    none.stage[TUG_STAGE_EXPERTS].seconds = 1.0;
    tug_profile_split_shared(&none, &limits);
    assert_true(near(none.stage[TUG_STAGE_EXPERTS].seconds, 1.0));
}

/* ---- reports ------------------------------------------------------------------------- */

static const tug_bench_subject subject = {
    .path = "a <b> & \"c\".gguf",
    .model = {.name = "n", .cpu_level = "ref", .n_threads = 1, .n_bytes = 1000},
    .n_processors = 2,
    .cache_type = "f16"};

static void fill_cases(tug_bench *b, double a, double slope) {
    for (int i = 0; i < b->n_cases; i++) {
        tug_bench_case *c = &b->cases[i];
        c->n = c->n_limits = 1;
        c->tok_s[0] = c->model_tok_s[0] = 1.0 / (a + slope * (double)tug_bench_x(c));
        c->read_bytes_s[0] = 50e9;
        c->int8_macs_s[0] = 1000e9;
        c->f32_macs_s[0] = 250e9;
        c->profile = one_second((tug_work){.bytes = 35e9});
        c->load.wall_s = 1.0;
        c->load.cpu_s = 1.5;
    }
}

static void reports_of_a_made_up_run(void **state) {
    (void)state;
    const tug_bench_spec spec = {.prompts = {512, 64},
                                 .n_prompts = 2,
                                 .depths = {0, 1024, 4096},
                                 .n_depths = 3,
                                 .n_decode = 8,
                                 .n_reps = 1};
    tug_bench b;
    assert_int_equal(tug_bench_context(&spec), 4096 + 512);
    assert_int_equal(tug_bench_init(&b, &spec, NULL), TUG_OK);
    assert_int_equal(b.n_cases, 9);
    fill_cases(&b, 1e-3, 1e-7);
    const tug_line fit = tug_bench_fit(&b, TUG_BENCH_DECODE, 8);
    assert_true(fit.ok && near(fit.a, 1e-3) && near(fit.b, 1e-7));
    assert_false(tug_bench_fit(&b, TUG_BENCH_DECODE, 9).ok);
    assert_true(near(tug_bench_cpu(&b.cases[0]), 0.75));

    tug_buf out = {0};
    tug_bench_text(&b, &subject, &out);
    assert_non_null(strstr(out.p, "Prefill is bandwidth-bound"));
    assert_non_null(strstr(out.p, "; decode is bandwidth-bound"));
    assert_non_null(strstr(out.p, "t(d) = 1 ms + 100 ns d"));
    tug_buf_clear(&out);
    tug_bench_svg(&b, &subject, &out);
    assert_non_null(strstr(out.p, "a &lt;b&gt; &amp; \"c\".gguf"));
    assert_non_null(strstr(out.p, "prefers-color-scheme: dark"));
    tug_buf_free(&out);
    tug_bench_free(&b);
}

/* ---- the GPU -------------------------------------------------------------------------- */

static tug_gpu_load a_second_of_gpu(void) {
    const tug_gpu_now before = {.in_bytes = 100,
                                .out_bytes = 50,
                                .launches = 10,
                                .vram_peak = 7,
                                .joules = 1000,
                                .busy = 0.1};
    const tug_gpu_now after = {.expert_hits = 300,
                               .expert_misses = 100,
                               .promoted = 20,
                               .seeded = 7,
                               .returned = 16,
                               .carried = 80,
                               .expert_in_bytes = 1e9,
                               .in_bytes = 100 + 2e9,
                               .out_bytes = 50 + 1e9,
                               .launches = 10 + 800,
                               .vram_peak = 9,
                               .vram_budget = 20,
                               .joules = 1000 + 120,
                               .busy = 0.8};
    tug_gpu_load g = {0};
    tug_gpu_load_add(&g, &before, &after, 1.0, 40.0);
    tug_gpu_load_limits(&g, &(tug_gpu_limits){300e9, 1e9, 20e9, 30e-6});
    tug_gpu_load_limits(&g, &(tug_gpu_limits){400e9, 1e9, 25e9, 50e-6});
    return g;
}

static void gpu_counters_add_up(void **state) {
    (void)state;
    tug_gpu_load g = a_second_of_gpu();
    assert_true(near(g.in_bytes, 2e9) && near(g.out_bytes, 1e9) && near(g.launches, 800));
    assert_true(near(tug_gpu_load_watts(&g), 120));
    assert_true(near(tug_gpu_load_tokens_per_joule(&g), 40.0 / 120));
    assert_true(near(tug_gpu_load_link_bytes_s(&g), 3e9));
    assert_true(near(g.limits.read_bytes_s, 400e9) && near(g.limits.link_bytes_s, 25e9));
    assert_true(near(g.limits.handoff_s, 30e-6));
    /* Nobody tells of energy or work: only what was told counts. */
    const tug_gpu_now silent = {.vram_budget = 20, .busy = -1.0};
    tug_gpu_load_add(&g, &silent, &silent, 3.0, 40.0);
    assert_true(near(tug_gpu_load_watts(&g), 120) && g.n_busy == 1);
    assert_true(near(tug_gpu_load_link_bytes_s(&g), 0.75e9));
    tug_gpu_load sum = {0}, nothing = {0};
    tug_gpu_load_sum(&sum, &g);
    tug_gpu_load_sum(&sum, &g);
    tug_gpu_load_sum(&sum, &nothing);
    assert_true(near(sum.seconds, 8.0) && near(sum.joules, 240) && sum.vram_peak == 9);
    assert_int_equal(sum.vram_budget, 20);
    assert_true(near(tug_gpu_load_watts(&nothing), 0.0));
    assert_true(near(tug_gpu_load_hit_rate(&g), 0.75) && near(sum.expert_hits, 600));
    assert_true(near(sum.promoted, 40) && near(sum.seeded, 14) && near(sum.carried, 160));
    assert_true(near(sum.returned, 32));
    assert_true(near(sum.expert_misses, 200) && near(sum.expert_in_bytes, 2e9));
    assert_true(tug_gpu_load_hit_rate(&nothing) < 0.0);
}

static void verdicts_on_a_gpu(void **state) {
    (void)state;
    const tug_load idle = {.wall_s = 1.0};
    tug_profile p = one_second((tug_work){.bytes = 300e9});
    p.stage[TUG_STAGE_HEAD].work.bytes = 40e9;
    p.stage[TUG_STAGE_DELTANET].work.bytes = 200e9;
    const tug_gpu_load g = a_second_of_gpu();
    tug_verdict v = tug_verdict_of(&p, &idle, &limits);
    tug_verdict_on_gpu(&v, &p, &g);
    /* Experts are left out: nobody knows who read them. */
    assert_true(near(tug_gpu_stage_share(&g, &p, TUG_STAGE_EXPERTS), 0.0));
    assert_true(near(v.gpu_read, 0.6) && near(v.gpu_link, 3.0 / 25));
    assert_int_equal(v.bound, TUG_BOUND_BANDWIDTH);
    assert_int_equal(v.stage, TUG_STAGE_DELTANET);
    tug_buf text = {0};
    tug_verdict_say(&v, &limits, &text);
    assert_non_null(strstr(text.p, "bandwidth-bound on the GPU: "));
    assert_non_null(strstr(text.p, "60 % of the time"));
    assert_non_null(strstr(text.p, "most of it deltanet"));
    tug_buf_free(&text);
    p.stage[TUG_STAGE_DELTANET].work.bytes = 0.0;
    tug_verdict_on_gpu(&v, &p, &g);
    assert_int_equal(v.bound, TUG_BOUND_LINK);
    tug_gpu_load slow = g;
    slow.seconds = 100.0;
    tug_verdict_on_gpu(&v, &p, &slow);
    assert_int_equal(v.bound, TUG_BOUND_OVERHEAD);
    v.bound = TUG_BOUND_STARVED; /* nothing else is then the model's */
    tug_verdict_on_gpu(&v, &p, &g);
    assert_int_equal(v.bound, TUG_BOUND_STARVED);
    assert_string_equal(tug_bound_name(TUG_BOUND_LINK), "pcie");
}

static void reports_of_nothing(void **state) {
    (void)state;
    const tug_bench_spec spec = {
        .depths = {8192}, .n_depths = 1, .contexts = true, .n_decode = 8, .n_reps = 3};
    tug_bench b;
    tug_buf out = {0};
    assert_int_equal(tug_bench_init(&b, &spec, NULL), TUG_OK);
    assert_int_equal(b.n_cases, 2);
    assert_true(b.cases[0].filling && !b.cases[1].filling);
    b.interrupted = true;
    tug_bench_text(&b, &subject, &out);
    assert_non_null(strstr(out.p, "Nothing was measured."));
    tug_buf_clear(&out);
    tug_bench_json(&b, &subject, &out);
    assert_non_null(strstr(out.p, "\"cases\": []"));
    tug_buf_clear(&out);
    tug_bench_svg(&b, &subject, &out);
    assert_null(strstr(out.p, "<circle class"));
    tug_buf_free(&out);
    tug_bench_free(&b);
}

/* ---- the machine --------------------------------------------------------------------- */

static void load_grows(void **state) {
    (void)state;
    const tug_load before = tug_load_now();
    volatile double x = 0.0;
    while (tug_load_now().cpu_s < before.cpu_s + 0.02) x = x + 1.0;
    const tug_load after = tug_load_now();
    tug_load sum = {0};
    tug_load_add(&sum, &before, &after);
    assert_true(sum.wall_s >= 0.02 && sum.cpu_s >= 0.02 && sum.cpu_s < 60);
    assert_true(sum.run_delay_s >= 0 && sum.steal_s >= 0 && sum.others_s >= 0);
    const tug_rss rss = tug_rss_now();
    assert_true(rss.peak >= rss.anon && rss.anon > 4096 && rss.file > 4096);
}

static void output_files(void **state) {
    (void)state;
    const tmpdir dir = tmpdir_make();
    const char *path = tmpdir_path(&dir, "plot.svg");
    char text[8] = "";
    assert_int_equal(tug_outfile_check(path, NULL), TUG_OK);
    assert_int_not_equal(access(path, F_OK), 0); /* asking leaves nothing */
    assert_int_equal(tug_outfile_write(path, tug_str_of("longer"), NULL), TUG_OK);
    assert_int_equal(tug_outfile_check(path, NULL), TUG_OK);
    assert_int_equal(tug_outfile_write(path, tug_str_of("abc"), NULL), TUG_OK);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(text, 1, sizeof text, f), 3);
    (void)fclose(f);
    assert_string_equal(text, "abc");
    tug_err err;
    const char *nowhere = tmpdir_path(&dir, "none/plot.svg");
    assert_int_equal(tug_outfile_check(nowhere, &err), TUG_EIO);
    assert_non_null(strstr(err.msg, "cannot write"));
    assert_int_equal(tug_outfile_check(dir.path, &err), TUG_EIO);
    fault_fail_once(FAULT_WRITE, 1, FAULT_SHORT);
    assert_int_equal(tug_outfile_write(path, tug_str_of("abcdef"), &err), TUG_OK);
    assert_true(fault_stop());
    fault_fail_once(FAULT_WRITE, 1, ENOSPC);
    assert_int_equal(tug_outfile_write(path, tug_str_of("abcdef"), &err), TUG_EIO);
    assert_true(fault_stop());
    assert_int_not_equal(access(path, F_OK), 0); /* no half a file */
    tmpdir_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians),
        cmocka_unit_test(lines),
        cmocka_unit_test(verdicts),
        cmocka_unit_test(shared_expert_gets_its_part),
        cmocka_unit_test(reports_of_a_made_up_run),
        cmocka_unit_test(gpu_counters_add_up),
        cmocka_unit_test(verdicts_on_a_gpu),
        cmocka_unit_test(reports_of_nothing),
        cmocka_unit_test(load_grows),
        cmocka_unit_test(output_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
