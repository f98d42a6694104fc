/* plan_svg.c - the memories of a machine as stacked bars.
 *
 * One bar per memory, as long as its ceiling in GB on one scale; the disk's shows the file,
 * with what only the disk has.  Colours follow the reader's light or dark ground.
 * SPDX-License-Identifier: MIT */
#include <math.h>

#include "plan/plan_report.h"

enum { WIDTH = 920, LEFT = 70, BAR_W = 800, TOP = 64, BAR_H = 38, STEP = 62 };

/* Of the places, and of the two parts of the file on disk. */
enum { ON_DISK_ONLY = TUG_PLAN_USES, IN_MEMORY, COLOURS };

static const struct {
    const char *light, *dark, *label;
} looks[COLOURS] = {
    [TUG_PLAN_USE_DENSE] = {"#0b62c4", "#6cb2ff", "dense weights"},
    [TUG_PLAN_USE_EMBEDDING] = {"#0e7490", "#56d4e8", "embedding"},
    [TUG_PLAN_USE_ONLY_HERE] = {"#1a7f37", "#5fd07f", "experts"},
    [TUG_PLAN_USE_COPIES] = {"#7bc58f", "#2f7d48", "experts that RAM has too"},
    [TUG_PLAN_USE_KV] = {"#b8430c", "#ff9a66", "attention cache"},
    [TUG_PLAN_USE_STATE] = {"#7a3fb0", "#c69cff", "recurrent state"},
    [TUG_PLAN_USE_CHECKPOINTS] = {"#b3246b", "#ff85c0", "checkpoints"},
    [TUG_PLAN_USE_WORKSPACE] = {"#9a6700", "#e3b341", "activations"},
    [TUG_PLAN_USE_STAGING] = {"#c9a227", "#8f6b00", "experts on their way"},
    [TUG_PLAN_USE_MARGIN] = {"#57606a", "#a0a8b0", "program and margin"},
    [TUG_PLAN_USE_FREE] = {"#d0d7de", "#30363d", "free"},
    [ON_DISK_ONLY] = {"#8c2f0e", "#d97757", "experts only on disk"},
    [IN_MEMORY] = {"#c8ccd0", "#484f58", "in memory, too"},
};

typedef struct picture {
    tug_buf *out;
    double bytes; /* of the whole width */
    bool seen[COLOURS];
} picture;

static double width(const picture *p, double bytes) {
    return BAR_W * bytes / p->bytes;
}

static void style(tug_buf *out) {
    tug_buf_text(out, "<style>\n"
                      "text { font: 12px system-ui, sans-serif; fill: #1f2328; }\n"
                      ".title { font-weight: 600; font-size: 14px; }\n"
                      ".grid { stroke: #8c959f; stroke-opacity: 0.35; }\n");
    for (int i = 0; i < COLOURS; i++) {
        tug_buf_printf(out, ".c%d { fill: %s; }\n", i, looks[i].light);
    }
    tug_buf_text(out, "@media (prefers-color-scheme: dark) {\n"
                      "text { fill: #e6edf3; }\n");
    for (int i = 0; i < COLOURS; i++) {
        tug_buf_printf(out, ".c%d { fill: %s; }\n", i, looks[i].dark);
    }
    tug_buf_text(out, "}\n</style>\n");
}

/* Text of a file's name inside XML; bytes that no terminal shows are left out. */
static void escaped(tug_buf *out, const char *z) {
    for (; *z; z++) {
        switch (*z) {
        case '<': tug_buf_text(out, "&lt;"); break;
        case '>': tug_buf_text(out, "&gt;"); break;
        case '&': tug_buf_text(out, "&amp;"); break;
        default:
            if (*z >= ' ' && *z <= '~') tug_buf_char(out, *z);
        }
    }
}

/* A piece of a bar from `at` on; returns where it ends. */
static double piece(picture *p, int row, double at, int colour, double bytes) {
    if (bytes <= 0.0) return at;
    p->seen[colour] = true;
    tug_buf_printf(p->out,
                   "<rect class=\"c%d\" x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\">"
                   "<title>%s: %.2f GB</title></rect>\n",
                   colour, LEFT + width(p, at), TOP + STEP * row, width(p, bytes), BAR_H,
                   looks[colour].label, bytes * 1e-9);
    return at + bytes;
}

static void bar_name(const picture *p, int row, const char *name, double bytes) {
    const int y = TOP + STEP * row + BAR_H / 2;
    tug_buf_printf(p->out,
                   "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n"
                   "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.1f GB</text>\n",
                   LEFT - 8, y - 2, name, LEFT - 8, y + 14, bytes * 1e-9);
}

static void memory(picture *p, int row, const char *name, const tug_plan_tier *t) {
    double at = 0.0;
    bar_name(p, row, name, (double)t->ceiling);
    for (int i = 0; i < TUG_PLAN_USES; i++) at = piece(p, row, at, i, (double)t->use[i]);
}

static void disk(picture *p, int row, const tug_plan_subject *s) {
    const double only = (double)s->plan->disk_experts;
    bar_name(p, row, "disk", (double)s->model->file_bytes);
    const double at = piece(p, row, 0.0, ON_DISK_ONLY, only);
    (void)piece(p, row, at, IN_MEMORY, (double)s->model->file_bytes - only);
}

static void scale(const picture *p, int rows) {
    const double gb = p->bytes * 1e-9, power = pow(10.0, floor(log10(gb)));
    const double step = gb / power >= 5.0   ? power
                        : gb / power >= 2.0 ? power / 2
                                            : power / 5;
    const int bottom = TOP + STEP * rows - (STEP - BAR_H);
    for (double v = 0.0; v <= gb * 1.0001; v += step) {
        const double x = LEFT + width(p, v * 1e9);
        tug_buf_printf(p->out,
                       "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" "
                       "y2=\"%d\"/>\n<text x=\"%.1f\" y=\"%d\" "
                       "text-anchor=\"middle\">%g</text>\n",
                       x, TOP - 6, x, bottom + 4, x, bottom + 20, v);
    }
    tug_buf_printf(p->out, "<text x=\"%d\" y=\"%d\">GB</text>\n", LEFT + BAR_W + 4,
                   bottom + 20);
}

static void legend(const picture *p, int y) {
    int n = 0;
    for (int i = 0; i < COLOURS; i++) {
        if (!p->seen[i]) continue;
        const int x = LEFT + 205 * (n % 4), line = y + 20 * (n / 4);
        tug_buf_printf(p->out,
                       "<rect class=\"c%d\" x=\"%d\" y=\"%d\" width=\"12\" "
                       "height=\"12\"/>\n<text x=\"%d\" y=\"%d\">%s</text>\n",
                       i, x, line - 10, x + 18, line, looks[i].label);
        n++;
    }
}

void tug_plan_svg(const tug_plan_subject *s, tug_buf *out) {
    const tug_plan *p = s->plan;
    const tug_plan_point *at = &p->points[p->n_points - 1];
    picture pic = {.out = out};
    pic.bytes = fmax((double)s->model->file_bytes,
                     fmax((double)p->ram.ceiling, (double)p->vram.ceiling));
    const int rows = p->on_gpu ? 3 : 2, height = TOP + STEP * rows + 88;
    tug_buf_printf(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                   "width=\"%d\" height=\"%d\" role=\"img\">\n",
                   WIDTH, height, WIDTH, height);
    style(out);
    tug_buf_printf(out, "<text class=\"title\" x=\"%d\" y=\"24\">", LEFT);
    escaped(out, s->model->name);
    tug_buf_text(out, " on ");
    escaped(out, s->machine->name);
    tug_buf_printf(
        out,
        "</text>\n<text x=\"%d\" y=\"44\">expected at %lld tokens: decode %.1f "
        "tok/s, prefill %.0f tok/s</text>\n",
        LEFT, (long long)at->n_ctx, at->decode.tok_s, at->prefill.tok_s);
    scale(&pic, rows);
    if (p->on_gpu) memory(&pic, 0, "VRAM", &p->vram);
    memory(&pic, rows - 2, "RAM", &p->ram);
    disk(&pic, rows - 1, s);
    legend(&pic, TOP + STEP * rows + 36);
    tug_buf_text(out, "</svg>\n");
}
