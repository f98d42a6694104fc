/* options.h - flags that several commands share: the model and how it runs, sampling.
 *
 * A command puts the two macros into its own getopt tables and hands what it does not
 * know itself to cli_engine_option.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_OPTIONS_H
#define TUG_CLI_OPTIONS_H

#include <getopt.h>

#include "base/status.h"
#include "tug.h"

/* Values of flags without a letter.  A command's own ones start at CLI_OPT_OWN. */
enum {
    CLI_OPT_CPU = 256,
    CLI_OPT_CACHE_TYPE,
    CLI_OPT_RAM,
    CLI_OPT_GPU,
    CLI_OPT_VRAM,
    CLI_OPT_SAMPLING,
    CLI_OPT_OWN = 512
};

/* ---- model and machine ----------------------------------------------------------- */

typedef struct cli_engine_options {
    const char *model;                 /* borrowed from argv; NULL until given */
    const char *cpu_level;             /* borrowed from argv; NULL: auto */
    int64_t n_threads, n_ctx, n_batch; /* 0: the library's default */
    tug_kv_cache_type kv_type;
    uint64_t ram_bytes;     /* 0: what is free */
    const char *gpu;        /* borrowed from argv; NULL: none */
    bool need_gpu;          /* without it the command has no meaning */
    uint64_t vram_bytes;    /* 0: what is free */
    int n_sessions;         /* with room in VRAM; 0: one */
    uint64_t session_bytes; /* of these for sessions; 0: one */
    bool verbose;
} cli_engine_options;

#define CLI_ENGINE_SHORT "m:c:t:b:v"
#define CLI_ENGINE_LONG                                                                  \
    {"model", required_argument, NULL, 'm'}, {"ctx-size", required_argument, NULL, 'c'}, \
        {"threads", required_argument, NULL, 't'}, {"verbose", no_argument, NULL, 'v'},  \
        {"batch-size", required_argument, NULL, 'b'},                                    \
        {"cpu", required_argument, NULL, CLI_OPT_CPU},                                   \
        {"ram", required_argument, NULL, CLI_OPT_RAM},                                   \
        {"gpu", required_argument, NULL, CLI_OPT_GPU},                                   \
        {"vram", required_argument, NULL, CLI_OPT_VRAM}, {                               \
        "cache-type", required_argument, NULL, CLI_OPT_CACHE_TYPE                        \
    }

/* Lines for --help, without -c, whose meaning differs. */
#define CLI_ENGINE_HELP                                                                 \
    "  -m, --model FILE          GGUF file; of a split one, the first part\n"           \
    "  -t, --threads N           threads (default: all processors)\n"                   \
    "  -b, --batch-size N        prompt tokens computed at once (default 2048,\n"       \
    "                            or as memory is)\n"                                    \
    "      --cache-type TYPE     attention cache: f16, i16, q8_0 or f32;\n"             \
    "                            i16 (as large as f16) with AVX-512, else f16\n"        \
    "      --ram SIZE            the most memory to take, 20G or 800M (default: what\n" \
    "                            is free); experts beyond it stay in the file\n"        \
    "      --gpu N               compute on GPU N as well (default: none)\n"            \
    "      --vram SIZE           the most of its memory to take (default: what is\n"    \
    "                            free); what the model's dense part leaves of it\n"     \
    "                            holds experts, the CPU computes the others\n"          \
    "  -v, --verbose             the whole plan, when not all fits in memory; of a\n"   \
    "                            GPU also what crossed to it\n"                         \
    "      --cpu LEVEL           auto (default), ref, avx2 or avx512\n"

TUG_NODISCARD tug_status cli_engine_option(cli_engine_options *o, int c, const char *arg,
                                           tug_err *err);

/* ---- sampling -------------------------------------------------------------------- */

/* In the order of the rows in options.c. */
typedef enum cli_sampling_flag {
    CLI_TEMP,
    CLI_TOP_K,
    CLI_TOP_P,
    CLI_MIN_P,
    CLI_REPEAT_PENALTY,
    CLI_REPEAT_LAST_N,
    CLI_PRESENCE_PENALTY,
    CLI_FREQUENCY_PENALTY,
    CLI_N_SAMPLING
} cli_sampling_flag;

typedef struct cli_sampling_options {
    bool given[CLI_N_SAMPLING];
    double value[CLI_N_SAMPLING];
    bool seed_given;
    uint64_t seed;
} cli_sampling_options;

#define CLI_SAMPLING_SHORT "s:"
#define CLI_SAMPLING_LONG                                                 \
    {"temp", required_argument, NULL, CLI_OPT_SAMPLING + CLI_TEMP},       \
        {"top-k", required_argument, NULL, CLI_OPT_SAMPLING + CLI_TOP_K}, \
        {"top-p", required_argument, NULL, CLI_OPT_SAMPLING + CLI_TOP_P}, \
        {"min-p", required_argument, NULL, CLI_OPT_SAMPLING + CLI_MIN_P}, \
        {"repeat-penalty", required_argument, NULL,                       \
         CLI_OPT_SAMPLING + CLI_REPEAT_PENALTY},                          \
        {"repeat-last-n", required_argument, NULL,                        \
         CLI_OPT_SAMPLING + CLI_REPEAT_LAST_N},                           \
        {"presence-penalty", required_argument, NULL,                     \
         CLI_OPT_SAMPLING + CLI_PRESENCE_PENALTY},                        \
        {"frequency-penalty", required_argument, NULL,                    \
         CLI_OPT_SAMPLING + CLI_FREQUENCY_PENALTY},                       \
    {                                                                     \
        "seed", required_argument, NULL, 's'                              \
    }

#define CLI_SAMPLING_HELP                                                           \
    "      --temp X              temperature; 0 always takes the likeliest token\n" \
    "      --top-k N             draw from the N likeliest tokens; 0: off\n"        \
    "      --top-p X             ... from the likeliest that add up to X; 1: off\n" \
    "      --min-p X             ... from those with X times the best; 0: off\n"    \
    "      --repeat-penalty X    divide the logits of recent tokens; 1: off\n"      \
    "      --presence-penalty X  subtract X from tokens that occurred; 0: off\n"    \
    "      --frequency-penalty X subtract X per occurrence; 0: off\n"               \
    "      --repeat-last-n N     tokens the penalties look back on (default 64;\n"  \
    "                            -1: all)\n"                                        \
    "  -s, --seed N              repeat an earlier draw (default: a new one)\n"

TUG_NODISCARD tug_status cli_sampling_option(cli_sampling_options *o, int c,
                                             const char *arg, tug_err *err);

/* The model's defaults with what was given, and a new seed unless one was. */
tug_sampler_params cli_sampling_params(const cli_sampling_options *o,
                                       const tug_model *model);

/* ---- getopt ---------------------------------------------------------------------- */

/* Calls getopt_long with its own messages switched off. */
int cli_getopt(int argc, char **argv, const char *letters, const struct option *longs);

/* The sentence for '?' (unknown) and ':' (no value) of cli_getopt; returns CLI_USAGE. */
int cli_getopt_failed(const char *cmd, int c, char **argv);

#endif
