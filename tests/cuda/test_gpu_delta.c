/* test_gpu_delta.c - the op of Gated DeltaNet as the backend of the GPU puts it together,
 * against the CPU's: heads of 128 x 128, which many tokens pass in chunks and few one by one.
 * SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cuda/gpu_world.h"

/* Two value heads on the 4 multiprocessors of the emulated driver: enough for chunks. */
enum {
    DIM = 128,
    N_V = 2,
    N_CH = 2 * DIM + N_V * DIM,
    N_ROW = N_CH + N_V * DIM + 2 * N_V
};
enum { N_TOK = 201, WIDTH = 4, N_OUT = N_V * DIM, N_STATE = N_V * DIM * DIM };

static const tug_delta_shape shape = {1, N_V, DIM, DIM, WIDTH, 1e-6f};

typedef struct inputs {
    float proj[N_TOK][N_ROW], conv_w[WIDTH][N_CH], dt_bias[N_V], a_coef[N_V], norm[DIM];
    float s[N_STATE], conv[WIDTH - 1][N_CH];
} inputs;

typedef struct outputs {
    float out[N_TOK][N_OUT], s[N_STATE];
} outputs;

static void fill(float *x, size_t n, float from, float to) {
    static tug_rng rng;
    for (size_t i = 0; i < n; i++) x[i] = from + (to - from) * (float)tug_rng_unit(&rng);
}

static inputs *make_inputs(void) {
    inputs *in = malloc(sizeof *in);
    assert_non_null(in);
    fill(in->proj[0], sizeof in->proj / sizeof(float), -2, 2);
    fill(in->conv_w[0], sizeof in->conv_w / sizeof(float), -0.5f, 0.5f);
    fill(in->dt_bias, N_V, -1, 1);
    fill(in->a_coef, N_V, -1, -0.01f);
    fill(in->norm, DIM, 0.5f, 1.5f);
    fill(in->s, N_STATE, -0.5f, 0.5f);
    fill(in->conv[0], sizeof in->conv / sizeof(float), -2, 2);
    return in;
}

/* The op on tokens [0, split) and on the others. */
static void run(tug_backend *be, const inputs *in, int split, outputs *got) {
    tug_err err;
    void *place, *room;
    const tug_backend_limits limits = {
        .n_tok = N_TOK, .n_in = 64, .dim = 64, .conv_channels = N_CH, .n_v_head = N_V};
    must(tug_backend_reserve(be, &limits, &err), &err);
    must(tug_backend_alloc(be, &place, sizeof *in, "a test", &err), &err);
    must(tug_backend_alloc(be, &room, sizeof got->out, "a test", &err), &err);
    tug_backend_write(be, place, in, sizeof *in);
    inputs *there = place; /* addresses only */
    float *out = room;
    tug_delta_state state = {there->s, there->conv[0]};
    const int first[3] = {0, split, N_TOK};
    for (int i = split > 0 ? 0 : 1; i < 2; i++) {
        tug_op_delta(be, &shape, out + (size_t)first[i] * N_OUT, there->proj[first[i]],
                     N_ROW, there->conv_w[0], there->dt_bias, there->a_coef, there->norm,
                     &state, first[i + 1] - first[i]);
    }
    tug_backend_read(be, got->out, room, sizeof got->out);
    tug_backend_read(be, got->s, there->s, sizeof got->s);
    must(tug_backend_wait(be, &err), &err);
    tug_backend_free(be, room, sizeof got->out);
    tug_backend_free(be, place, sizeof *in);
}

static double nmse(const float *got, const float *want, size_t n) {
    double off = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - (double)want[i];
        off += d * d;
        size += (double)want[i] * (double)want[i];
    }
    return off / size;
}

static void test_delta(void **state) {
    (void)state;
    (void)find_driver();
    tug_err err;
    tug_backend *cpu, *gpu;
    must(tug_backend_cpu_create(&cpu, TUG_CPU_REF, 1, &err), &err);
    must(tug_backend_cuda_create(&gpu, TUG_CPU_REF, 1, 0, 0, &err), &err);
    inputs *in = make_inputs();
    outputs *want = malloc(sizeof *want), *got = malloc(sizeof *got);
    assert_true(want && got);
    run(cpu, in, 0, want);
    /* Calls of 64 tokens and more go in chunks, others do not. */
    static const int splits[][2] = {{0, 1}, {63, 1}, {64, 2}, {150, 1}};
    for (int i = 0; i < 4; i++) {
        const unsigned long before = emu.launches ? emu.launches("tug_delta_scan") : 0;
        run(gpu, in, splits[i][0], got);
        const double out = nmse(got->out[0], want->out[0], (size_t)N_TOK * N_OUT);
        const double s = nmse(got->s, want->s, N_STATE);
        if (!(out <= 1e-11 && s <= 1e-11)) fail_msg("NMSE %.3g, state %.3g", out, s);
        if (!emu.launches) continue;
        assert_int_equal(emu.launches("tug_delta_scan") - before, splits[i][1]);
    }
    free(got);
    free(want);
    free(in);
    tug_backend_destroy(&gpu);
    tug_backend_destroy(&cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_delta)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
