/* test_nvml.c - what the management library tells, on the one that tests build
 * (tests/cuda_emu/nvml): all, some of it, a degraded link, none.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cuda/nvml.h"

#define PCI "00000000:01:00.0"

static tug_nvml_facts facts;
static tug_nvml_now now;
static tug_err err;

static void ask(const char *options) {
    tug_nvml *n;
    setenv("TUG_NVML", options, 1);
    if (tug_nvml_open(&n, PCI, &err) != TUG_OK) fail_msg("%s", err.msg);
    tug_nvml_get_facts(n, &facts);
    tug_nvml_get_now(n, &now);
    tug_nvml_close(&n);
    assert_null(n);
}

static void assert_refused(const char *options, const char *why) {
    tug_nvml *n;
    setenv("TUG_NVML", options, 1);
    assert_int_equal(tug_nvml_open(&n, PCI, &err), TUG_EUNSUPPORTED);
    assert_null(n);
    assert_non_null(strstr(err.msg, "power and PCIe link are not known: "));
    if (!strstr(err.msg, why)) fail_msg("'%s' does not say '%s'", err.msg, why);
}

static bool near(double got, double want) {
    return got > want - 1e-6 && got < want + 1e-6;
}

static void test_all_is_told(void **state) {
    (void)state;
    ask("others=300 watts=120 busy=55");
    assert_int_equal(facts.bus_bits, 128);
    assert_int_equal(facts.memory_mhz, 14001);
    assert_int_equal(facts.sm_mhz, 2570);
    assert_int_equal(facts.max_gen, 4);
    assert_int_equal(facts.max_width, 8);
    assert_true(near(facts.watts_limit, 180.0));
    assert_int_equal(now.gen, 4);
    assert_int_equal(now.width, 8);
    assert_int_equal(now.sm_mhz, 2400);
    assert_int_equal(now.memory_mhz, 13801);
    assert_true(near(now.watts, 120.0));
    assert_true(near(now.busy, 0.55));
    assert_true(near(now.others, 300.0 * (1 << 20)));
    assert_true(now.joules >= 1000.0);
}

static void test_energy_grows(void **state) {
    (void)state;
    tug_nvml *n;
    tug_nvml_now before, after;
    setenv("TUG_NVML", "watts=1000", 1);
    assert_int_equal(tug_nvml_open(&n, PCI, &err), TUG_OK);
    tug_nvml_get_now(n, &before);
    (void)usleep(20000);
    tug_nvml_get_now(n, &after);
    assert_true(after.joules - before.joules >= 15.0);
    tug_nvml_close(&n);
}

static void test_some_is_told(void **state) {
    (void)state;
    ask("fail=power");
    assert_true(now.watts == 0.0 && now.joules == 0.0);
    assert_int_equal(now.gen, 4);
    assert_true(near(now.busy, 0.70));
    ask("fail=all");
    assert_int_equal(facts.max_gen, 0);
    assert_int_equal(now.width, 0);
    assert_true(now.busy == TUG_NVML_NOT_TOLD && now.others == TUG_NVML_NOT_TOLD);
    char text[256];
    assert_false(tug_nvml_link_warning(&facts, &now, text, sizeof text));
    ask("busy=1000"); /* no percentage */
    assert_true(now.busy == TUG_NVML_NOT_TOLD);
}

static void test_degraded_links(void **state) {
    (void)state;
    static const struct {
        const char *options, *want; /* NULL: nothing to say */
    } cases[] = {
        {"", NULL},
        {"max_gen=5 gen=5", NULL},
        {"width=4", "runs as 4.0 x4, and card and slot could do 4.0 x8"},
        {"gen=3", "runs as 3.0 x8, and card and slot could do 4.0 x8"},
        {"gen=1 width=1 max_gen=5 max_width=16", "runs as 1.0 x1, and"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256] = "";
        ask(cases[i].options);
        const bool warned = tug_nvml_link_warning(&facts, &now, text, sizeof text);
        assert_int_equal(warned, cases[i].want != NULL);
        if (warned && !strstr(text, cases[i].want)) fail_msg("%s", text);
        assert_int_equal(strstr(text, "seated") != NULL,
                         strstr(text, " x4,") || strstr(text, " x1,"));
    }
}

static void test_refusals(void **state) {
    (void)state;
    assert_refused("fail=init", "does not start");
    assert_refused("fail=device", "does not know this GPU");
    tug_nvml *n;
    setenv("TUG_NVML", "", 1);
    assert_int_equal(tug_nvml_open(&n, "0", &err), TUG_EUNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_told),  cmocka_unit_test(test_energy_grows),
        cmocka_unit_test(test_some_is_told), cmocka_unit_test(test_degraded_links),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
