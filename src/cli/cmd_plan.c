/* cmd_plan.c - `tug plan`: where every byte of a model goes, how fast it will be, and what
 * would help.  This file turns flags into a model, a machine and a request; the plan is
 * src/plan, docs/PLAN.md.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>

#include "base/outfile.h"
#include "base/sys.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "engine/planning.h"
#include "memory/meminfo.h"
#include "plan/plan_machine.h"
#include "plan/plan_model.h"
#include "plan/plan_probe.h"
#include "plan/plan_report.h"
#include "tug_profile.h"

enum {
    OPT_RAM = CLI_OPT_OWN,
    OPT_VRAM,
    OPT_HARDWARE,
    OPT_PROBE,
    OPT_GPU,
    OPT_CACHE_TYPE,
    OPT_SEQUENCES,
    OPT_CHECKPOINTS,
    OPT_ROUTING,
    OPT_POLICY,
    OPT_COST,
    OPT_JSON,
    OPT_PLOT
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"model", required_argument, NULL, 'm'},
    {"ctx-size", required_argument, NULL, 'c'},
    {"batch-size", required_argument, NULL, 'b'},
    {"ram", required_argument, NULL, OPT_RAM},
    {"vram", required_argument, NULL, OPT_VRAM},
    {"hardware", required_argument, NULL, OPT_HARDWARE},
    {"probe", no_argument, NULL, OPT_PROBE},
    {"gpu", required_argument, NULL, OPT_GPU},
    {"cache-type", required_argument, NULL, OPT_CACHE_TYPE},
    {"sequences", required_argument, NULL, OPT_SEQUENCES},
    {"checkpoints", required_argument, NULL, OPT_CHECKPOINTS},
    {"routing", required_argument, NULL, OPT_ROUTING},
    {"policy", required_argument, NULL, OPT_POLICY},
    {"cost", required_argument, NULL, OPT_COST},
    {"json", no_argument, NULL, OPT_JSON},
    {"plot", required_argument, NULL, OPT_PLOT},
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: tug plan NAME[:QUANT] [options]\n"
    "       tug plan -m FILE [options]\n"
    "\n"
    "Where every byte of a model goes on a machine, how fast it will be and what bounds\n"
    "it, and what would help most.  NAME is qwen3-coder-next (or tiny): nothing has to\n"
    "be downloaded.\n"
    "\n"
    "  -m, --model FILE          a GGUF file; of a split one, the first part\n"
    "  -c, --ctx-size N          tokens of context (default 32768)\n"
    "      --ram SIZE            use at most so much RAM: 20G (default: what is free,\n"
    "                            less a margin)\n"
    "      --vram SIZE           use at most so much VRAM; 0: no GPU\n"
    "      --cache-type TYPE     attention cache: f16 (default), q8_0 or f32\n"
    "      --sequences N         conversations at once (default 1)\n"
    "      --checkpoints N       kept copies of the recurrent state (default 4)\n"
    "  -b, --batch-size N        prompt tokens that go through a layer together\n"
    "\n"
    "machine\n"
    "      --hardware LIST       another machine: "
    "rtx5060ti,ddr5-6000,32G,pcie4x8,nvme4;\n"
    "                            numbers: ram-bw=60,disk=1.2; `here,...` changes this "
    "one\n"
    "      --probe               measure this one: RAM, arithmetic, the disk with the\n"
    "                            file or with 1 GB written to the current folder, and\n"
    "                            GPU 0 if there is one\n"
    "      --gpu N               that GPU instead, or none\n"
    "      --routing KIND        typical (default), optimistic, skewed (models of\n"
    "                            `tug synth`) or uniform\n"
    "      --policy KIND         cache (default), or split: whole layers on the GPU, as\n"
    "                            llama.cpp does it\n"
    "\n"
    "output\n"
    "      --json                everything as one JSON object\n"
    "      --plot FILE.svg       the memories as stacked bars\n"
    "      --cost LIST           what tokens cost: tokens=200K (written a day),\n"
    "                            prompt=5M (read a day), kwh=0.30, watts=180,\n"
    "                            hardware=900, years=4, api=1.5 and api-prompt=0.3 (of "
    "a\n"
    "                            million)\n"
    "\n"
    "examples\n"
    "  tug plan qwen3-coder-next:Q3_K_M --hardware rtx5060ti,ddr5-6000,32G,pcie4x8\n"
    "  tug plan -m model.gguf --ram 20G --probe\n";

enum { NO_GPU = -1 };

typedef struct options {
    tug_plan_request request;
    const char *name, *path, *hardware, *cost, *plot; /* borrowed from argv or NULL */
    bool probe, json;
    int64_t gpu; /* that --probe measures; NO_GPU */
    bool gpu_given;
} options;

/* ---- flags ------------------------------------------------------------------------ */

static tug_status parse_vram(options *o, const char *arg, tug_err *err) {
    o->request.no_gpu = strcmp(arg, "0") == 0;
    if (o->request.no_gpu) return TUG_OK;
    return cli_parse_size("--vram", arg, &o->request.vram_ceiling, err);
}

static tug_status parse_gpu(options *o, const char *arg, tug_err *err) {
    o->gpu_given = true;
    o->gpu = NO_GPU;
    if (strcmp(arg, "none") == 0) return TUG_OK;
    return cli_parse_i64("--gpu", arg, 0, 1024, &o->gpu, err);
}

/* One of n words, in the order of the enum that *out is. */
static tug_status parse_word(const char *flag, const char *arg, const char *const *words,
                             int n, int *out, tug_err *err) {
    char all[96] = "";
    for (int i = 0; i < n; i++) {
        if (strcmp(arg, words[i]) == 0) {
            *out = i;
            return TUG_OK;
        }
        const size_t at = strlen(all);
        (void)snprintf(all + at, sizeof all - at, "%s%s",
                       i == 0       ? ""
                       : i == n - 1 ? " or "
                                    : ", ",
                       words[i]);
    }
    return TUG_FAIL(err, TUG_EUSAGE, "%s is %s, not '%s'", flag, all, arg);
}

static tug_status set_word(options *o, int c, const char *arg, tug_err *err) {
    static const char *const caches[] = {"f16", "q8_0", "f32"};
    static const char *const routings[] = {"typical", "optimistic", "skewed", "uniform"};
    static const char *const policies[] = {"cache", "split"};
    int i = 0;
    if (c == OPT_CACHE_TYPE) {
        TUG_TRY(parse_word("--cache-type", arg, caches, TUG_PLAN_KVS, &i, err));
        o->request.kv = (tug_plan_kv)i;
    } else if (c == OPT_ROUTING) {
        TUG_TRY(parse_word("--routing", arg, routings, TUG_PLAN_ROUTINGS, &i, err));
        o->request.routing = (tug_plan_routing)i;
    } else {
        TUG_TRY(parse_word("--policy", arg, policies, TUG_PLAN_POLICIES, &i, err));
        o->request.policy = (tug_plan_policy)i;
    }
    return TUG_OK;
}

static tug_status set_plot(options *o, const char *path, tug_err *err) {
    const char *dot = strrchr(path, '.');
    if (!dot || strcmp(dot, ".svg") != 0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--plot draws SVG, which browsers show: name a file that ends in "
                        ".svg, not '%s'",
                        path);
    }
    o->plot = path;
    return TUG_OK;
}

static tug_status set_option(options *o, int c, const char *arg, tug_err *err) {
    tug_plan_request *rq = &o->request;
    switch (c) {
    case 'm': o->path = arg; return TUG_OK;
    case 'c': return cli_parse_i64("--ctx-size", arg, 1, INT32_MAX, &rq->n_ctx, err);
    case 'b': return cli_parse_i64("--batch-size", arg, 1, 1 << 20, &rq->n_batch, err);
    case OPT_SEQUENCES:
        return cli_parse_i64("--sequences", arg, 1, 65536, &rq->n_seq, err);
    case OPT_CHECKPOINTS:
        TUG_TRY(cli_parse_i64("--checkpoints", arg, 0, 1 << 20, &rq->n_checkpoints, err));
        if (rq->n_checkpoints == 0) rq->n_checkpoints = -1;
        return TUG_OK;
    case OPT_RAM: return cli_parse_size("--ram", arg, &rq->ram_ceiling, err);
    case OPT_VRAM: return parse_vram(o, arg, err);
    case OPT_HARDWARE: o->hardware = arg; return TUG_OK;
    case OPT_PROBE: o->probe = true; return TUG_OK;
    case OPT_GPU: return parse_gpu(o, arg, err);
    case OPT_COST: o->cost = arg; return TUG_OK;
    case OPT_JSON: o->json = true; return TUG_OK;
    case OPT_PLOT: return set_plot(o, arg, err);
    default: return set_word(o, c, arg, err);
    }
}

static tug_status complete(options *o, int n, char **words, tug_err *err) {
    if (n > 0 && !o->path) {
        o->name = words[0];
        n--;
        words++;
    }
    if (n > 0) return TUG_FAIL(err, TUG_EUSAGE, "'%s' is one too many", words[0]);
    if (!o->name && !o->path) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "plan wants a model: a name such as qwen3-coder-next:Q3_K_M, or "
                        "-m FILE");
    }
    if (o->gpu_given && !o->probe) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "--gpu says which GPU --probe measures: add --probe, or describe "
                        "one with --hardware");
    }
    const bool here = !o->hardware || strncmp(o->hardware, "here", 4) == 0;
    if (!o->probe || here) return TUG_OK;
    return TUG_FAIL(err, TUG_EUSAGE,
                    "--probe measures this machine and --hardware describes another one: "
                    "use one of them");
}

/* Returns -1 to go on, else the exit code. */
static int parse(options *o, int argc, char **argv) {
    tug_err err;
    for (int c; (c = cli_getopt(argc, argv, ":hm:c:b:", long_options)) != -1;) {
        if (c == 'h') {
            (void)fputs(help, stdout);
            return cli_flush(&err) == TUG_OK ? CLI_OK : cli_fail(&err);
        }
        if (c == '?' || c == ':') return cli_getopt_failed(argv[0], c, argv);
        if (set_option(o, c, optarg, &err) != TUG_OK) {
            return cli_usage(argv[0], "%s", err.msg);
        }
    }
    if (complete(o, argc - optind, argv + optind, &err) != TUG_OK) {
        return cli_usage(argv[0], "%s", err.msg);
    }
    return -1;
}

/* ---- the machine ------------------------------------------------------------------ */

/* Has the model weights of this kind? */
static bool is_used(const tug_plan_model *m, int kind) {
    bool used = m->expert_work[kind] > 0.0;
    for (int i = 0; i < TUG_PLAN_PARTS; i++) used |= m->part_work[i][kind] > 0.0;
    return used;
}

/* The kernels that this model uses. */
static tug_status probe_kernels(tug_plan_kernels *k, const tug_plan_model *model,
                                tug_limits_probe *probe, tug_err *err) {
    static const int points[] = TUG_EXPERT_TOKENS;
    _Static_assert((int)TUG_PRODUCTS == (int)TUG_PLAN_INT8_KINDS, "in the same order");
    _Static_assert((int)TUG_EXPERT_POINTS == (int)TUG_PLAN_EXPERT_POINTS,
                   "the same ones");
    TUG_CHECK(memcmp(points, tug_plan_expert_tokens, sizeof points) == 0);
    for (int i = 0; i < TUG_PRODUCTS; i++) {
        if (!is_used(model, i)) continue;
        tug_product_speed speed;
        TUG_TRY(tug_limits_probe_products(probe, (tug_product)i, &speed, err));
        k->macs_s[i] = speed.macs_s;
        k->setup_tokens[i] = speed.setup_tokens;
        memcpy(k->expert_s[i], speed.expert_s, sizeof speed.expert_s);
        if (speed.pack_bytes_s > 0.0) k->pack_byte_s[i] = 1.0 / speed.pack_bytes_s;
    }
    tug_mixer_speed mixers;
    TUG_TRY(tug_limits_probe_mixers(probe, &mixers, err));
    k->delta_macs_s = mixers.delta_macs_s;
    k->elements_s = mixers.elements_s;
    return TUG_OK;
}

/* The best of a second: what the machine can do.  Also what its processor draws meanwhile,
 * where it tells. */
static tug_status probe_cpu(tug_plan_machine *m, const tug_plan_model *model,
                            tug_err *err) {
    static const char power[] = "/sys/class/powercap";
    tug_limits_probe *probe = NULL;
    TUG_TRY(tug_limits_probe_create(&probe, NULL, err));
    double before = 0.0, after = 0.0;
    const bool metered = tug_plan_joules(power, &before);
    const double start = tug_now();
    m->ram_bytes_s = m->int8_macs_s = m->f32_macs_s = 0.0;
    do {
        const tug_limits l = tug_limits_probe_run(probe);
        if (l.read_bytes_s > m->ram_bytes_s) m->ram_bytes_s = l.read_bytes_s;
        if (l.int8_macs_s > m->int8_macs_s) m->int8_macs_s = l.int8_macs_s;
        if (l.f32_macs_s > m->f32_macs_s) m->f32_macs_s = l.f32_macs_s;
    } while (tug_now() - start < 1.0);
    const double seconds = tug_now() - start;
    const tug_status s = probe_kernels(&m->kernels, model, probe, err);
    if (metered && tug_plan_joules(power, &after) && after > before) {
        m->watts = (after - before) / seconds; /* counters wrap: then nothing is known */
    }
    tug_limits_probe_destroy(&probe);
    m->assumed &= ~(unsigned)(TUG_PLAN_ASSUMED_RAM | TUG_PLAN_ASSUMED_CPU);
    return s;
}

static tug_status probe_disk(tug_plan_machine *m, const char *path, tug_err *err) {
    tug_plan_disk_speed speed;
    TUG_TRY(tug_plan_probe_disk(path, ".", 2.0, &speed, err));
    m->disk_bytes_s = speed.bytes_s;
    m->disk_latency_s = speed.latency_s;
    m->read_byte_s = speed.cpu_byte_s;
    m->assumed &= ~(unsigned)TUG_PLAN_ASSUMED_DISK;
    if (speed.cached) {
        (void)fprintf(stderr, "tug: note: this file system has no direct reads; memory "
                              "may have answered the disk probe\n");
    }
    return TUG_OK;
}

/* A machine without a GPU is planned without one, and *why says why; the one that was asked
 * for has to be there. */
static tug_status probe_gpu(const options *o, tug_plan_machine *m, tug_err *why,
                            tug_err *err) {
    if (o->gpu == NO_GPU || o->request.no_gpu) return TUG_OK;
    const tug_status s = tug_planning_probe_gpu(m, (int)o->gpu, why);
    if (s == TUG_OK || !o->gpu_given) return TUG_OK;
    *err = *why;
    return s;
}

static tug_status make_machine(const options *o, const tug_plan_model *model,
                               tug_plan_machine *m, tug_err *no_gpu, tug_err *err) {
    tug_plan_machine_here(m, tug_memory_total(), tug_memory_available());
    if (o->probe) {
        TUG_TRY(probe_cpu(m, model, err));
        TUG_TRY(probe_disk(m, o->path, err));
        TUG_TRY(probe_gpu(o, m, no_gpu, err));
    }
    return o->hardware ? tug_plan_machine_parse(m, o->hardware, err) : TUG_OK;
}

/* ---- the model -------------------------------------------------------------------- */

static tug_status make_model(const options *o, tug_plan_model *m, tug_err *err) {
    if (o->name) return tug_plan_model_named(m, o->name, err);
    tug_gguf *g = NULL;
    TUG_TRY(tug_gguf_open(&g, o->path, err));
    const tug_status s = tug_plan_model_of_file(m, g, err);
    tug_gguf_close(&g);
    return s;
}

/* ---- printing --------------------------------------------------------------------- */

static tug_status print(const options *o, const tug_plan_subject *s, tug_err *err) {
    tug_buf out = {0};
    (o->json ? tug_plan_json : tug_plan_text)(s, &out);
    tug_status status = tug_buf_ok(&out, err);
    if (status == TUG_OK) {
        (void)fwrite(out.p, 1, out.n, stdout);
        status = cli_flush(err);
    }
    if (status == TUG_OK && o->plot) {
        tug_buf_clear(&out);
        tug_plan_svg(s, &out);
        status = tug_buf_ok(&out, err);
        if (status == TUG_OK) {
            status = tug_outfile_write(o->plot, tug_buf_view(&out), err);
        }
    }
    tug_buf_free(&out);
    return status;
}

static tug_status run(const options *o, tug_err *err) {
    tug_plan_model model;
    tug_plan_machine machine;
    tug_plan plan;
    tug_plan_advice advice[TUG_PLAN_ADVICES];
    tug_plan_cost_input prices;
    tug_plan_cost cost;
    if (o->plot) TUG_TRY(tug_outfile_check(o->plot, err));
    if (o->cost) TUG_TRY(tug_plan_cost_parse(&prices, o->cost, err));
    TUG_TRY(make_model(o, &model, err));
    tug_err no_gpu = {0};
    TUG_TRY(make_machine(o, &model, &machine, &no_gpu, err));
    TUG_TRY(tug_plan_make(&model, &machine, &o->request, &plan, err));
    if (o->cost) TUG_TRY(tug_plan_cost_make(&plan, &machine, &prices, &cost, err));
    const int n = tug_plan_advise(&model, &machine, &o->request, &plan, advice);
    const tug_plan_subject s = {.model = &model,
                                .machine = &machine,
                                .request = &o->request,
                                .plan = &plan,
                                .advice = advice,
                                .n_advice = n,
                                .cost = o->cost ? &cost : NULL,
                                .no_gpu = no_gpu.msg[0] ? no_gpu.msg : NULL};
    return print(o, &s, err);
}

int cmd_plan(int argc, char **argv) {
    options o = {0};
    const int code = parse(&o, argc, argv);
    if (code >= 0) return code;
    tug_err err;
    return run(&o, &err) == TUG_OK ? CLI_OK : cli_fail(&err);
}
