/* plan_machine.c - see plan_machine.h.  SPDX-License-Identifier: MIT */
#include "plan/plan_machine.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "plan/plan_near.h"

#define GIB UINT64_C(1073741824)

/* Shares of nominal bandwidths that reach the user of a link; see docs/PLAN.md. */
static const double RAM_SHARE = 0.80, PCIE_SHARE = 0.825;

/* f32 TFLOPS as rated to what products of experts sustain. */
static const double EXPERT_FLOPS = 1.05;

/* A driver's context, and a desktop without a browser. */
static const double VRAM_TAKEN = 0.0344;
static const uint64_t RAM_TAKEN = UINT64_C(3000000000);

/* ---- parts ------------------------------------------------------------------------ */

/* Processor time of a byte that is packed, read: measured on a Xeon with AVX-512. */
static const double PACK_BYTE_S = 0.30e-9, READ_BYTE_S = 0.05e-9;

/* int8 multiply-adds in a cycle, and weights that a core can use a second. */
static const struct {
    double int8, f32, core_gb_s;
} levels[TUG_CPU_LEVELS] = {{4, 4, 1.0}, {32, 16, 12.0}, {64, 24, 16.0}};

static void set_cores(tug_plan_machine *m, int n, double ghz, tug_cpu_level level) {
    m->n_cores = n;
    m->int8_macs_s = n * ghz * 1e9 * levels[level].int8;
    m->f32_macs_s = n * ghz * 1e9 * levels[level].f32;
    m->core_bytes_s = levels[level].core_gb_s * 1e9;
    m->int16_attention = level >= TUG_CPU_AVX512;
    m->pack_byte_s = PACK_BYTE_S;
    m->read_byte_s = READ_BYTE_S;
}

void tug_plan_use_cpu(tug_plan_machine *m, const tug_plan_cpu *cpu) {
    set_cores(m, cpu->n_cores, cpu->ghz, cpu->level);
    if (cpu->most_gb_s > 0.0) m->ram_bytes_s = fmin(m->ram_bytes_s, cpu->most_gb_s * 1e9);
    m->watts += cpu->watts;
}

double tug_plan_pcie_bytes_s(int gen, int lanes) {
    static const double lane[] = {0.0, 0.25, 0.5, 0.985, 1.969, 3.938, 7.563};
    return lane[gen] * 1e9 * lanes * PCIE_SHARE;
}

static void set_gpu_costs(tug_plan_machine *m) {
    m->node_s = 1.8e-6;
    m->handoff_s = 20e-6;
    m->fork_s = 8e-6;
}

void tug_plan_use_gpu(tug_plan_machine *m, const tug_plan_gpu *gpu) {
    m->has_gpu = true;
    m->vram_total = (uint64_t)gpu->vram_mib << 20;
    m->vram_available = (uint64_t)((double)m->vram_total * (1.0 - VRAM_TAKEN));
    m->vram_bytes_s = gpu->vram_gb_s * 1e9;
    m->vram_measured = false;
    m->gpu_flops = gpu->tflops * 1e12 * EXPERT_FLOPS;
    m->link_bytes_s = tug_plan_pcie_bytes_s(gpu->pcie_gen, gpu->pcie_lanes);
    set_gpu_costs(m);
    m->watts += gpu->watts;
}

void tug_plan_use_disk(tug_plan_machine *m, const tug_plan_disk *disk) {
    m->disk_bytes_s = disk->gb_s * 1e9;
    m->disk_latency_s = disk->latency_ms * 1e-3;
}

static void set_ram(tug_plan_machine *m, uint64_t total) {
    const uint64_t taken = RAM_TAKEN < total / 4 ? RAM_TAKEN : total / 4;
    m->ram_total = total;
    m->ram_available = total - taken;
}

/* ---- this machine ----------------------------------------------------------------- */

void tug_plan_machine_here(tug_plan_machine *m, uint64_t total, uint64_t available) {
    *m = (tug_plan_machine){.name = "this machine"};
    m->ram_total = total != UINT64_MAX ? total : available != UINT64_MAX ? available : 0;
    m->ram_available = available < m->ram_total ? available : m->ram_total;
    set_cores(m, tug_cpu_count(), 3.5, tug_cpu_detect());
    m->ram_bytes_s = fmin(m->n_cores * 17e9, 50e9);
    m->disk_bytes_s = 1.5e9;
    m->disk_latency_s = 2e-4;
    m->assumed = TUG_PLAN_ASSUMED_RAM | TUG_PLAN_ASSUMED_CPU | TUG_PLAN_ASSUMED_DISK;
}

/* "NVIDIA GeForce RTX 5060 Ti" to "rtx5060ti". */
static void short_name(const char *name, char *out, size_t cap) {
    static const char *const noise[] = {"NVIDIA", "GeForce", "Generation", " "};
    size_t n = 0;
    while (*name && n + 1 < cap) {
        size_t skip = 0;
        for (size_t i = 0; i < sizeof noise / sizeof *noise && skip == 0; i++) {
            const size_t len = strlen(noise[i]);
            if (strncasecmp(name, noise[i], len) == 0) skip = len;
        }
        if (skip == 0) out[n++] = (char)tolower((unsigned char)*name);
        name += skip > 0 ? skip : 1;
    }
    out[n] = '\0';
}

/* The row of this name and, of cards that there are with less memory, of this size. */
static const tug_plan_gpu *find_gpu(const tug_plan_gpu_here *here) {
    char name[64];
    short_name(here->name, name, sizeof name);
    const size_t n = strlen(name);
    for (int i = 0; tug_plan_gpu_at(i); i++) {
        const tug_plan_gpu *row = tug_plan_gpu_at(i);
        const double size = (double)row->vram_mib * 0x1p20 / (double)here->vram_total;
        const bool same = strncmp(row->name, name, n) == 0 &&
                          (row->name[n] == '\0' || row->name[n] == '-');
        if (same && size > 0.85 && size < 1.15) return row;
    }
    return NULL;
}

/* Of a card that is not in the table: two transfers in a cycle of the memory's clock, 128
 * lanes a multiprocessor; what is not told, as a small card of its time has it. */
static void guess_gpu(tug_plan_machine *m, const tug_plan_gpu_here *here) {
    const double clock = here->sm_mhz > 0 ? here->sm_mhz * 1e6 : 2e9;
    const int n_sm = here->n_sm > 0 ? here->n_sm : 30;
    const bool told = here->memory_mhz > 0 && here->bus_bits > 0;
    m->vram_bytes_s = told ? here->memory_mhz * 1e6 * 2.0 * here->bus_bits / 8.0 : 360e9;
    m->gpu_flops = n_sm * 128.0 * 2.0 * clock * EXPERT_FLOPS;
    m->link_bytes_s = tug_plan_pcie_bytes_s(4, 16);
    set_gpu_costs(m);
    if (!told) m->assumed |= TUG_PLAN_ASSUMED_GPU;
}

void tug_plan_machine_gpu(tug_plan_machine *m, const tug_plan_gpu_here *here) {
    const tug_plan_gpu *row = find_gpu(here);
    if (row) tug_plan_use_gpu(m, row);
    if (!row) guess_gpu(m, here);
    m->has_gpu = true;
    m->vram_total = here->vram_total;
    m->vram_available = here->vram_available;
    const bool told = here->pcie_gen >= 1 && here->pcie_gen <= 6 && here->pcie_lanes > 0;
    if (!told) {
        m->assumed |= TUG_PLAN_ASSUMED_GPU;
    } else {
        const double link = tug_plan_pcie_bytes_s(here->pcie_gen, here->pcie_lanes);
        m->link_bytes_s = row ? fmin(m->link_bytes_s, link) : link;
    }
}

/* ---- words ------------------------------------------------------------------------ */

/* What was named; applied in one order, so that the order of the words does not matter. */
typedef struct parts {
    const tug_plan_gpu *gpu;
    const tug_plan_cpu *cpu;
    const tug_plan_disk *disk;
    uint64_t ram;
    double ram_bytes_s;
    int pcie_gen, pcie_lanes;
    bool here;
} parts;

static bool find_part(parts *p, const char *word) {
    for (int i = 0; tug_plan_gpu_at(i); i++) {
        if (strcasecmp(word, tug_plan_gpu_at(i)->name) == 0) p->gpu = tug_plan_gpu_at(i);
    }
    for (int i = 0; tug_plan_cpu_at(i); i++) {
        if (strcasecmp(word, tug_plan_cpu_at(i)->name) == 0) p->cpu = tug_plan_cpu_at(i);
    }
    for (int i = 0; tug_plan_disk_at(i); i++) {
        if (strcasecmp(word, tug_plan_disk_at(i)->name) == 0)
            p->disk = tug_plan_disk_at(i);
    }
    return (p->gpu && strcasecmp(word, p->gpu->name) == 0) ||
           (p->cpu && strcasecmp(word, p->cpu->name) == 0) ||
           (p->disk && strcasecmp(word, p->disk->name) == 0);
}

static tug_status too_odd(const char *word, const char *why, tug_err *err) {
    return TUG_FAIL(err, TUG_EUSAGE, "'%.40s' is no hardware that can be: %s", word, why);
}

/* "ddr5-6000", "ddr4-3200x4"; *found: the word begins like one. */
static tug_status memory_word(parts *p, const char *word, bool *found, tug_err *err) {
    const tug_plan_memory *row = NULL;
    size_t n = 0;
    for (int i = 0; (row = tug_plan_memory_at(i)); i++) {
        n = strlen(row->name);
        if (strncasecmp(word, row->name, n) == 0 && word[n] == '-') break;
    }
    *found = row != NULL;
    if (!row) return TUG_OK;
    char *end = NULL;
    const long speed = strtol(word + n + 1, &end, 10);
    long channels = 2;
    if (*end == 'x') channels = strtol(end + 1, &end, 10);
    char why[96];
    (void)snprintf(why, sizeof why, "%s is %d to %d MT/s on 1 to 12 channels (%s-%dx2)",
                   row->name, row->least, row->most, row->name, row->least);
    if (*end != '\0' || speed < row->least || speed > row->most || channels < 1 ||
        channels > 12) {
        return too_odd(word, why, err);
    }
    p->ram_bytes_s = (double)speed * 1e6 * 8.0 * (double)channels * RAM_SHARE;
    return TUG_OK;
}

static tug_status link_word(parts *p, const char *word, bool *found, tug_err *err) {
    *found = strncasecmp(word, "pcie", 4) == 0;
    if (!*found || word[4] == '=') {
        *found = false;
        return TUG_OK;
    }
    int gen = 0, lanes = 0, n = 0;
    const int got = sscanf(word + 4, "%1dx%2d%n", &gen, &lanes, &n);
    const bool power = lanes >= 1 && lanes <= 16 && (lanes & (lanes - 1)) == 0;
    if (got != 2 || word[4 + n] != '\0' || gen < 1 || gen > 6 || !power) {
        return too_odd(word, "a link is pcie1x1 to pcie6x16", err);
    }
    p->pcie_gen = gen;
    p->pcie_lanes = lanes;
    return TUG_OK;
}

/* "32G": RAM is sold in GiB. */
static tug_status size_word(parts *p, const char *word, bool *found, tug_err *err) {
    char *end = NULL;
    const double n = strtod(word, &end);
    *found = end != word && (strcasecmp(end, "G") == 0 || strcasecmp(end, "GB") == 0 ||
                             strcasecmp(end, "GiB") == 0);
    if (!*found) return TUG_OK;
    if (!(n >= 1.0 && n <= 16384.0)) return too_odd(word, "RAM is 1G to 16384G", err);
    p->ram = (uint64_t)(n * (double)GIB);
    return TUG_OK;
}

static tug_status unknown_word(const char *word, tug_err *err) {
    const char *known[128] = {"here", "ddr5-6000", "ddr4-3200", "pcie4x8", "32G"};
    int n = 5;
    for (int i = 0; tug_plan_gpu_at(i) && n < 127; i++)
        known[n++] = tug_plan_gpu_at(i)->name;
    for (int i = 0; tug_plan_cpu_at(i) && n < 127; i++)
        known[n++] = tug_plan_cpu_at(i)->name;
    for (int i = 0; tug_plan_disk_at(i) && n < 127; i++)
        known[n++] = tug_plan_disk_at(i)->name;
    char near[96];
    tug_plan_near_words(known, word, near, sizeof near);
    return TUG_FAIL(err, TUG_EUSAGE, "no hardware is known as '%.40s': %s", word, near);
}

static tug_status part_word(parts *p, const char *word, tug_err *err) {
    bool found = false;
    if (strcmp(word, "here") == 0) {
        p->here = true;
        return TUG_OK;
    }
    if (find_part(p, word)) return TUG_OK;
    TUG_TRY(memory_word(p, word, &found, err));
    if (!found) TUG_TRY(link_word(p, word, &found, err));
    if (!found) TUG_TRY(size_word(p, word, &found, err));
    return found ? TUG_OK : unknown_word(word, err);
}

/* ---- numbers ---------------------------------------------------------------------- */

static tug_status number_word(tug_plan_machine *m, const char *word, const char *value,
                              tug_err *err) {
    const struct {
        const char *key, *unit;
        double *out, scale, min, max;
        unsigned known; /* what is then not assumed any more */
    } keys[] = {
        {"ram-bw", "GB/s", &m->ram_bytes_s, 1e9, 0.5, 5000, TUG_PLAN_ASSUMED_RAM},
        {"disk", "GB/s", &m->disk_bytes_s, 1e9, 0.001, 500, TUG_PLAN_ASSUMED_DISK},
        {"disk-latency", "ms", &m->disk_latency_s, 1e-3, 0, 1000, 0},
        {"int8", "GMAC/s", &m->int8_macs_s, 1e9, 1, 1e6, TUG_PLAN_ASSUMED_CPU},
        {"f32", "GMAC/s", &m->f32_macs_s, 1e9, 1, 1e6, 0},
        {"core-bw", "GB/s", &m->core_bytes_s, 1e9, 0.1, 500, 0},
        {"vram-bw", "GB/s", &m->vram_bytes_s, 1e9, 10, 50000, 0},
        {"pcie", "GB/s", &m->link_bytes_s, 1e9, 0.1, 500, 0},
        {"gpu-flops", "TFLOPS", &m->gpu_flops, 1e12, 0.1, 10000, 0},
        {"watts", "W", &m->watts, 1, 1, 100000, 0},
    };
    const size_t n = (size_t)(value - 1 - word);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strncasecmp(word, keys[i].key, n) != 0 || keys[i].key[n] != '\0') continue;
        char *end = NULL;
        const double v = strtod(value, &end);
        if (end == value || *end != '\0' || !(v >= keys[i].min && v <= keys[i].max)) {
            return TUG_FAIL(err, TUG_EUSAGE,
                            "%s must be between %g and %g %s, not '%.24s'", keys[i].key,
                            keys[i].min, keys[i].max, keys[i].unit, value);
        }
        *keys[i].out = v * keys[i].scale;
        if (keys[i].out == &m->int8_macs_s) { /* another processor than was measured */
            m->kernels = (tug_plan_kernels){0};
        }
        m->assumed &= ~keys[i].known;
        return TUG_OK;
    }
    return TUG_FAIL(err, TUG_EUSAGE,
                    "'%.40s' sets nothing: numbers are ram-bw, disk, disk-latency, int8, "
                    "f32, core-bw, vram-bw, pcie, gpu-flops, watts",
                    word);
}

/* ---- putting it together ---------------------------------------------------------- */

/* What words that were not given mean. */
static void usual_machine(tug_plan_machine *m, const parts *p) {
    static const tug_plan_cpu usual_cpu = {"8 cores", 8, 4.3, 0.0, TUG_CPU_AVX2, 120};
    const tug_plan_disk *nvme = tug_plan_disk_at(0);
    for (int i = 0; tug_plan_disk_at(i); i++) {
        if (strcmp(tug_plan_disk_at(i)->name, "nvme4") == 0) nvme = tug_plan_disk_at(i);
    }
    *m = (tug_plan_machine){0};
    m->ram_bytes_s = p->ram_bytes_s > 0.0 ? p->ram_bytes_s : 51.2e9 * RAM_SHARE;
    tug_plan_use_cpu(m, &usual_cpu);
    tug_plan_use_disk(m, nvme);
    if (p->ram_bytes_s <= 0.0) m->assumed |= TUG_PLAN_ASSUMED_RAM;
    if (!p->cpu) m->assumed |= TUG_PLAN_ASSUMED_CPU;
    if (!p->disk) m->assumed |= TUG_PLAN_ASSUMED_DISK;
    if (p->cpu) m->watts = 0.0;
}

static tug_status apply(tug_plan_machine *m, const parts *p, tug_err *err) {
    if (!p->here && p->ram == 0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "how much RAM has that machine? Add it, such as 32G, or begin "
                        "with `here` for this one");
    }
    if (!p->here) usual_machine(m, p);
    if (p->ram > 0) set_ram(m, p->ram);
    if (p->ram_bytes_s > 0.0) {
        m->ram_bytes_s = p->ram_bytes_s;
        m->assumed &= ~(unsigned)TUG_PLAN_ASSUMED_RAM;
    }
    if (p->cpu) {
        tug_plan_use_cpu(m, p->cpu);
        m->assumed &= ~(unsigned)TUG_PLAN_ASSUMED_CPU;
    }
    if (p->disk) {
        tug_plan_use_disk(m, p->disk);
        m->assumed &= ~(unsigned)TUG_PLAN_ASSUMED_DISK;
    }
    if (p->gpu) tug_plan_use_gpu(m, p->gpu);
    if (p->pcie_gen == 0) return TUG_OK;
    if (!m->has_gpu) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "a PCIe link leads to a GPU, and none is named: add one, such as "
                        "rtx5060ti");
    }
    m->link_bytes_s =
        fmin(m->link_bytes_s, tug_plan_pcie_bytes_s(p->pcie_gen, p->pcie_lanes));
    return TUG_OK;
}

/* The next word of a list to `word`; false after the last. */
static bool next_word(const char **at, char *word, size_t cap) {
    *at += strspn(*at, ", ");
    const size_t n = strcspn(*at, ", ");
    if (n == 0) return false;
    (void)snprintf(word, cap, "%.*s", n < cap ? (int)n : (int)cap - 1, *at);
    *at += n;
    return true;
}

tug_status tug_plan_machine_parse(tug_plan_machine *m, const char *text, tug_err *err) {
    parts p = {0};
    char word[64];
    for (const char *at = text; next_word(&at, word, sizeof word);) {
        if (!strchr(word, '=')) TUG_TRY(part_word(&p, word, err));
    }
    TUG_TRY(apply(m, &p, err));
    (void)snprintf(m->name, sizeof m->name, "%s", text);
    for (const char *at = text; next_word(&at, word, sizeof word);) {
        const char *equals = strchr(word, '=');
        if (equals) TUG_TRY(number_word(m, word, equals + 1, err));
    }
    if (m->has_gpu) return TUG_OK;
    if (m->vram_bytes_s > 0.0 || m->link_bytes_s > 0.0 || m->gpu_flops > 0.0) {
        return TUG_FAIL(err, TUG_EUSAGE,
                        "numbers of a GPU need a GPU: add one, such as rtx5060ti");
    }
    return TUG_OK;
}
