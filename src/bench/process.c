/* process.c - see process.h.  SPDX-License-Identifier: MIT */
#include "bench/process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sys.h"

/* Second number of /proc/self/task/TID/schedstat: nanoseconds in the run queue. */
static void add_run_delay(tug_load *l) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks) return;
    for (const struct dirent *e; (e = readdir(tasks));) {
        char path[64], text[128];
        unsigned long long ran, waited;
        if (e->d_name[0] == '.' || strlen(e->d_name) > 20) continue;
        (void)snprintf(path, sizeof path, "/proc/self/task/%.20s/schedstat", e->d_name);
        if (!tug_read_small(path, text, sizeof text) ||
            sscanf(text, "%llu %llu", &ran, &waited) != 2) {
            continue;
        }
        l->run_delay_s += 1e-9 * (double)waited;
        l->has_run_delay = true;
    }
    (void)closedir(tasks);
}

/* The first line of /proc/stat: cpu user nice system idle iowait irq softirq steal ... */
static void add_machine(tug_load *l) {
    char text[512];
    unsigned long long v[8];
    if (!tug_read_small("/proc/stat", text, sizeof text) ||
        sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2],
               &v[3], &v[4], &v[5], &v[6], &v[7]) != 8) {
        return;
    }
    const double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
    const double busy = (double)(v[0] + v[1] + v[2] + v[5] + v[6]) * tick;
    l->steal_s = (double)v[7] * tick;
    l->others_s = busy - l->cpu_s;
}

static double seconds_of(struct timeval t) {
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

tug_load tug_load_now(void) {
    struct rusage used;
    tug_load l = {.wall_s = tug_now()};
    if (getrusage(RUSAGE_SELF, &used) == 0) {
        l.cpu_s = seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
        l.switches = used.ru_nvcsw;
        l.preemptions = used.ru_nivcsw;
    }
    add_run_delay(&l);
    add_machine(&l);
    return l;
}

/* Counters of different clocks: a difference can come out just below zero. */
static double since(double from, double to) {
    return to > from ? to - from : 0.0;
}

void tug_load_add(tug_load *sum, const tug_load *from, const tug_load *to) {
    sum->wall_s += since(from->wall_s, to->wall_s);
    sum->cpu_s += since(from->cpu_s, to->cpu_s);
    sum->run_delay_s += since(from->run_delay_s, to->run_delay_s);
    sum->steal_s += since(from->steal_s, to->steal_s);
    sum->others_s += since(from->others_s, to->others_s);
    sum->switches += to->switches - from->switches;
    sum->preemptions += to->preemptions - from->preemptions;
    sum->has_run_delay = to->has_run_delay;
}

static uint64_t field(const char *text, const char *key) {
    const char *line = strstr(text, key);
    return line ? strtoull(line + strlen(key), NULL, 10) * 1024 : 0;
}

tug_rss tug_rss_now(void) {
    char text[4096];
    if (!tug_read_small("/proc/self/status", text, sizeof text)) return (tug_rss){0};
    return (tug_rss){.peak = field(text, "VmHWM:"),
                     .anon = field(text, "RssAnon:"),
                     .file = field(text, "RssFile:")};
}
