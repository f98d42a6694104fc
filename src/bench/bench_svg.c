/* bench_svg.c - speed against depth as a picture.
 *
 * Two panels, prefill and decode.  x is log2 of the depth, with 0 left of the axis' first
 * octave; y is tok/s from 0.  A point is the median, its whisker the spread, the line
 * the model's formula 1 / (a + b d).  Colours are classes, so that the document can follow
 * the reader's light or dark ground.  SPDX-License-Identifier: MIT */
#include <math.h>

#include "bench/bench_report.h"

enum { WIDTH = 920, HEIGHT = 420, PANEL_W = 360, PANEL_H = 260, TOP = 70, COLOURS = 8 };
static const int panel_left[] = {70, 520};

typedef struct panel {
    const tug_bench *b;
    tug_buf *out;
    tug_bench_kind kind;
    int left;
    double x0, x1; /* log2 range; depth 0 stands at x0 */
    double top;    /* tok/s at the upper edge */
} panel;

static double octave(const panel *p, double depth) {
    return depth >= 1.0 ? log2(depth) : p->x0;
}

static double at_x(const panel *p, double depth) {
    return p->left + PANEL_W * (octave(p, depth) - p->x0) / (p->x1 - p->x0);
}

static double at_y(const panel *p, double tok_s) {
    return TOP + PANEL_H * (1.0 - tok_s / p->top);
}

/* ---- axes ---------------------------------------------------------------------------- */

/* 1, 2 or 5 times a power of ten, so that `most` needs at most five steps. */
static double nice_step(double most) {
    const double power = pow(10.0, floor(log10(most / 5.0)));
    for (int i = 0; i < 3; i++) {
        static const double steps[] = {1.0, 2.0, 5.0};
        if (steps[i] * power * 5.0 >= most) return steps[i] * power;
    }
    return 10.0 * power;
}

/* The range of what was measured; false when that is nothing. */
static bool set_range(panel *p) {
    double least = INFINITY, most = 0.0, speed = 0.0;
    bool zero = false;
    for (int i = 0; i < p->b->n_cases; i++) {
        const tug_bench_case *c = &p->b->cases[i];
        if (c->kind != p->kind || c->n == 0) continue;
        const double x = (double)tug_bench_x(c);
        if (x < 1.0) zero = true;
        if (x >= 1.0 && x < least) least = x;
        if (x > most) most = x;
        const double max = tug_spread_of(c->tok_s, c->n).max;
        if (max > speed) speed = max;
    }
    if (speed <= 0.0) return false;
    p->x0 = isfinite(least) ? floor(log2(least)) - (zero ? 1.0 : 0.0) : 0.0;
    p->x1 = most >= 1.0 ? ceil(log2(most)) : 1.0;
    if (p->x1 <= p->x0) p->x1 = p->x0 + 1.0;
    const double step = nice_step(speed);
    p->top = step * ceil(speed / step);
    return true;
}

static void axes(const panel *p) {
    const double step = nice_step(p->top), bottom = TOP + PANEL_H;
    for (double v = 0.0; v <= p->top * 1.0001; v += step) {
        tug_buf_printf(p->out,
                       "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" "
                       "y2=\"%.1f\"/>\n<text class=\"tick\" x=\"%d\" y=\"%.1f\" "
                       "text-anchor=\"end\">%g</text>\n",
                       p->left, at_y(p, v), p->left + PANEL_W, at_y(p, v), p->left - 8,
                       at_y(p, v) + 4, v);
    }
    const int every = p->x1 - p->x0 > 8.0 ? 2 : 1;
    for (int e = (int)p->x0; e <= (int)p->x1; e += every) {
        const double x = p->left + PANEL_W * (e - p->x0) / (p->x1 - p->x0);
        tug_buf_printf(p->out,
                       "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
                       "text-anchor=\"middle\">",
                       x, bottom + 18);
        bool zero = false;
        for (int i = 0; i < p->b->n_cases; i++) {
            const tug_bench_case *c = &p->b->cases[i];
            zero |= c->kind == p->kind && c->n > 0 && tug_bench_x(c) < 1;
        }
        if (zero && e == (int)p->x0) {
            tug_buf_text(p->out, "0");
        } else if (e >= 10) {
            tug_buf_printf(p->out, "%.0fK", exp2(e - 10));
        } else {
            tug_buf_printf(p->out, "%.0f", exp2(e));
        }
        tug_buf_text(p->out, "</text>\n");
    }
    tug_buf_printf(p->out,
                   "<text class=\"title\" x=\"%d\" y=\"%d\">%s, tok/s</text>\n"
                   "<text class=\"tick\" x=\"%d\" y=\"%.1f\" text-anchor=\"middle\">%s"
                   "</text>\n",
                   p->left, TOP - 16, p->kind == TUG_BENCH_DECODE ? "decode" : "prefill",
                   p->left + PANEL_W / 2, bottom + 36,
                   p->b->spec.contexts && p->kind == TUG_BENCH_PREFILL
                       ? "tokens of the whole prompt"
                       : "tokens in the context before");
}

/* ---- one series ---------------------------------------------------------------------- */

static void curve(const panel *p, tug_line fit, int colour) {
    enum { STEPS = 60 };
    if (!fit.ok) return;
    tug_buf_printf(p->out, "<polyline class=\"fit c%d\" points=\"", colour);
    for (int i = 0; i <= STEPS; i++) {
        const double e = p->x0 + (p->x1 - p->x0) * i / STEPS;
        const double t = fit.a + fit.b * exp2(e), speed = t > 0.0 ? 1.0 / t : INFINITY;
        if (speed > p->top) continue;
        tug_buf_printf(p->out, "%.1f,%.1f ", at_x(p, exp2(e)), at_y(p, speed));
    }
    tug_buf_text(p->out, "\"/>\n");
}

static void point(const panel *p, const tug_bench_case *c, int colour) {
    const tug_spread s = tug_spread_of(c->tok_s, c->n);
    const double x = at_x(p, (double)tug_bench_x(c));
    tug_buf_printf(p->out,
                   "<line class=\"whisker c%d\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" "
                   "y2=\"%.1f\"/>\n<circle class=\"c%d\" cx=\"%.1f\" cy=\"%.1f\" "
                   "r=\"4\"><title>%s %lld at %lld: %.1f tok/s (%.1f..%.1f)</title>"
                   "</circle>\n",
                   colour, x, at_y(p, s.min), x, at_y(p, s.max), colour, x,
                   at_y(p, s.median), p->kind == TUG_BENCH_DECODE ? "decode" : "prefill",
                   (long long)c->n_tokens, (long long)tug_bench_x(c), s.median, s.min,
                   s.max);
}

/* The points of the cases with n_tokens (0: whole prompts), their curve and their line in
 * the legend. */
static void series(const panel *p, int64_t n_tokens, int i) {
    const int colour = i % COLOURS, y = TOP + PANEL_H + 56 + 16 * i;
    const tug_line fit = tug_bench_fit(p->b, p->kind, n_tokens);
    curve(p, fit, colour);
    for (int k = 0; k < p->b->n_cases; k++) {
        const tug_bench_case *c = &p->b->cases[k];
        if (c->kind != p->kind || c->n == 0) continue;
        if (n_tokens == 0 ? c->filling : c->n_tokens == n_tokens) point(p, c, colour);
    }
    tug_buf_printf(p->out,
                   "<circle class=\"c%d\" cx=\"%d\" cy=\"%d\" r=\"4\"/>\n"
                   "<text class=\"tick\" x=\"%d\" y=\"%d\">",
                   colour, p->left + 4, y - 4, p->left + 16, y);
    if (n_tokens > 0) {
        tug_buf_printf(p->out, "%lld tokens", (long long)n_tokens);
    } else {
        tug_buf_text(p->out, "whole prompt");
    }
    if (fit.ok) tug_buf_text(p->out, "; time of a token ");
    tug_bench_formula(fit, p->out);
    tug_buf_text(p->out, "</text>\n");
}

static void draw_panel(const tug_bench *b, tug_bench_kind kind, tug_buf *out) {
    panel p = {.b = b, .out = out, .kind = kind, .left = panel_left[kind]};
    if (!set_range(&p)) return;
    axes(&p);
    if (kind == TUG_BENCH_DECODE) {
        series(&p, b->spec.n_decode, 0);
    } else if (b->spec.contexts) {
        series(&p, 0, 0);
    } else {
        for (int i = 0; i < b->spec.n_prompts; i++) series(&p, b->spec.prompts[i], i);
    }
}

/* ---- the document -------------------------------------------------------------------- */

static void style(tug_buf *out) {
    static const char *const light[COLOURS] = {"#0b62c4", "#b8430c", "#1a7f37",
                                               "#7a3fb0", "#9a6700", "#0e7490",
                                               "#b3246b", "#57606a"};
    static const char *const dark[COLOURS] = {"#6cb2ff", "#ff9a66", "#5fd07f", "#c69cff",
                                              "#e3b341", "#56d4e8", "#ff85c0", "#a0a8b0"};
    tug_buf_text(out,
                 "<style>\n"
                 "text { font: 12px system-ui, sans-serif; fill: #1f2328; }\n"
                 ".title { font-weight: 600; font-size: 14px; }\n"
                 ".grid { stroke: #8c959f; stroke-opacity: 0.35; }\n"
                 ".whisker { stroke-width: 2; } .fit { fill: none; stroke-width: 1.5; "
                 "stroke-dasharray: 5 4; }\n");
    for (int d = 0; d < 2; d++) {
        if (d) {
            tug_buf_text(out, "@media (prefers-color-scheme: dark) {\n"
                              "text { fill: #e6edf3; }\n");
        }
        for (int i = 0; i < COLOURS; i++) {
            const char *c = d ? dark[i] : light[i];
            tug_buf_printf(out,
                           "circle.c%d { fill: %s; } .fit.c%d, .whisker.c%d { "
                           "stroke: %s; }\n",
                           i, c, i, i, c);
        }
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

void tug_bench_svg(const tug_bench *b, const tug_bench_subject *s, tug_buf *out) {
    const char *slash = strrchr(s->path, '/');
    const int n_series = b->spec.n_prompts > 1 ? b->spec.n_prompts : 1;
    const int height = HEIGHT + 16 * (n_series - 1);
    tug_buf_printf(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                   "width=\"%d\" height=\"%d\" role=\"img\">\n",
                   WIDTH, height, WIDTH, height);
    style(out);
    tug_buf_text(out, "<text class=\"title\" x=\"70\" y=\"28\">");
    escaped(out, slash ? slash + 1 : s->path);
    tug_buf_printf(out, ": %s, %d threads, %d repetitions, cache %s%s</text>\n",
                   s->model.cpu_level, s->model.n_threads, b->spec.n_reps, s->cache_type,
                   b->interrupted ? ", interrupted" : "");
    draw_panel(b, TUG_BENCH_PREFILL, out);
    draw_panel(b, TUG_BENCH_DECODE, out);
    tug_buf_text(out, "</svg>\n");
}
