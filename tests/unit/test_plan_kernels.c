/* test_plan_kernels.c - plans from measured kernels: what a batch of experts costs.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "plan/plan_machine.h"
#include "plan/plan_model.h"
#include "plan/plan_routing.h"

static tug_err err;

static void near(double got, double want, double share) {
    if (fabs(got - want) > share * want)
        fail_msg("%g is not %g +- %g", got, want, share * want);
}

static double straight(const void *ud, double n_tok) {
    return *(const double *)ud * n_tok;
}

static double once(const void *ud, double n_tok) {
    assert_true(n_tok >= 1.0);
    return *(const double *)ud;
}

/* The mean over experts and chance keeps the number of uses, and finds those without any. */
static void over_experts(void **state) {
    (void)state;
    const double unit = 2.0;
    for (int r = 0; r < TUG_PLAN_ROUTINGS; r++) {
        const tug_plan_routing routing = (tug_plan_routing)r;
        for (double n = 1.0; n < 5000.0; n *= 3.0) {
            near(tug_plan_over_experts(routing, 512, 10, n, straight, &unit), 2 * 10 * n,
                 2e-3);
            near(tug_plan_over_experts(routing, 512, 10, n, once, &unit),
                 2 * tug_plan_touched(routing, 0.0, 512, 10, n), 0.03);
        }
    }
}

/* Of 8192 tokens, in two batches; routed evenly an expert has 80 tokens in each. */
static tug_plan_time prefill(const tug_plan_model *m, const tug_plan_machine *hw) {
    const tug_plan_request rq = {
        .n_ctx = 8192, .n_batch = 4096, .routing = TUG_PLAN_UNIFORM};
    tug_plan p;
    if (tug_plan_make(m, hw, &rq, &p, &err) != TUG_OK) fail_msg("%s", err.msg);
    return p.points[p.n_points - 1].prefill;
}

/* Experts cost what was measured at their number of tokens, which has their norms, gates and
 * sums in it; other products stay. */
static void measured_experts(void **state) {
    (void)state;
    const double once_s = 5e-12, token_s = 1e-12; /* of a weight */
    tug_plan_model m;
    tug_plan_machine hw;
    assert_int_equal(tug_plan_model_named(&m, "qwen3-coder-next:Q8_0", &err), TUG_OK);
    assert_int_equal(tug_plan_machine_parse(&hw, "128G,ddr5-6000x8", &err), TUG_OK);
    const tug_plan_time assumed = prefill(&m, &hw);
    for (int i = 0; i < TUG_PLAN_EXPERT_POINTS; i++) {
        hw.kernels.expert_s[TUG_PLAN_Q8_0][i] =
            once_s + token_s * tug_plan_expert_tokens[i];
    }
    const tug_plan_time measured = prefill(&m, &hw);
    near(measured.busy_ms[TUG_PLAN_T_EXPERTS],
         2.0 * 48 * 512 * (3.0 * 2048 * 512) * (once_s + 80 * token_s) * 1e3, 1e-3);
    near(measured.busy_ms[TUG_PLAN_T_DENSE], assumed.busy_ms[TUG_PLAN_T_DENSE], 1e-9);
    assert_true(measured.busy_ms[TUG_PLAN_T_FIXED] < assumed.busy_ms[TUG_PLAN_T_FIXED]);
}

/* The delta rule's rate stands for its products and for its elements. */
static void measured_mixers(void **state) {
    (void)state;
    tug_plan_model m;
    tug_plan_machine hw;
    assert_int_equal(tug_plan_model_named(&m, "qwen3-coder-next:Q8_0", &err), TUG_OK);
    assert_int_equal(tug_plan_machine_parse(&hw, "128G", &err), TUG_OK);
    hw.kernels.delta_macs_s = 1e10;
    hw.kernels.elements_s = 1e30;
    for (int i = 0; i < TUG_PLAN_EXPERT_POINTS; i++) {
        hw.kernels.expert_s[TUG_PLAN_Q8_0][i] = 1e-12;
    }
    near(prefill(&m, &hw).busy_ms[TUG_PLAN_T_FIXED],
         8192 * 36.0 * 3 * (32 * 128 * 128) / 1e10 * 1e3, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_experts),
        cmocka_unit_test(measured_experts),
        cmocka_unit_test(measured_mixers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
