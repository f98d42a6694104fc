/* curves_svg.c - hit rate against memory as a picture.
 *
 * x is the share of the experts that have a home, y the hit rate, both from 0 to 100 %.
 * Colours are classes, so that the document can follow the reader's light or dark ground.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "trace/curves.h"

enum { WIDTH = 620, HEIGHT = 440, LEFT = 64, TOP = 56, PLOT_W = 400, PLOT_H = 320 };

static double at_x(double share) {
    return LEFT + PLOT_W * share;
}

static double at_y(double rate) {
    return TOP + PLOT_H * (1.0 - rate);
}

static void style(tug_buf *out) {
    static const char *const light[] = {"#0b62c4", "#b8430c", "#1a7f37", "#7a3fb0",
                                        "#9a6700", "#0e7490", "#b3246b", "#57606a"};
    static const char *const dark[] = {"#6cb2ff", "#ff9a66", "#5fd07f", "#c69cff",
                                       "#e3b341", "#56d4e8", "#ff85c0", "#a0a8b0"};
    tug_buf_text(out, "<style>\n"
                      "text { font: 12px system-ui, sans-serif; fill: #1f2328; }\n"
                      ".title { font-weight: 600; font-size: 14px; }\n"
                      ".grid { stroke: #8c959f; stroke-opacity: 0.35; }\n"
                      ".curve { fill: none; stroke-width: 2; }\n"
                      ".bound { fill: none; stroke: #8c959f; stroke-width: 2; "
                      "stroke-dasharray: 5 4; }\n");
    for (int d = 0; d < 2; d++) {
        if (d) {
            tug_buf_text(out, "@media (prefers-color-scheme: dark) {\n"
                              "text { fill: #e6edf3; }\n");
        }
        for (int i = 0; i < TUG_CURVES_POLICIES; i++) {
            tug_buf_printf(out, ".c%d { stroke: %s; }\n", i, d ? dark[i] : light[i]);
        }
    }
    tug_buf_text(out, "}\n</style>\n");
}

static void axes(const char *kind, tug_buf *out) {
    for (int i = 0; i <= 5; i++) {
        const double v = i / 5.0;
        tug_buf_printf(out,
                       "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" "
                       "y2=\"%.1f\"/>\n<text x=\"%d\" y=\"%.1f\" "
                       "text-anchor=\"end\">%d</text>\n<text x=\"%.1f\" y=\"%d\" "
                       "text-anchor=\"middle\">%d</text>\n",
                       LEFT, at_y(v), LEFT + PLOT_W, at_y(v), LEFT - 8, at_y(v) + 4,
                       20 * i, at_x(v), TOP + PLOT_H + 18, 20 * i);
    }
    tug_buf_printf(out,
                   "<text x=\"%d\" y=\"%d\">hit rate, %%, %s</text>\n"
                   "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">experts with a home, "
                   "%%</text>\n",
                   LEFT, TOP - 10, kind, LEFT + PLOT_W / 2, TOP + PLOT_H + 40);
}

static void curve(const tug_curves *c, const tug_simulation *at, bool decode,
                  const char *class, tug_buf *out) {
    tug_buf_printf(out, "<polyline class=\"%s\" points=\"", class);
    for (int i = 0; i < c->spec.n_sizes; i++) {
        const double share = (double)c->spec.sizes[i] / c->n_expert;
        const double rate = tug_hit_rate(decode ? at[i].decode : at[i].prompt);
        tug_buf_printf(out, "%s%.1f,%.1f", i ? " " : "", at_x(share), at_y(rate));
    }
    tug_buf_text(out, "\"/>\n");
}

static void legend(const char *class, const char *name, int row, tug_buf *out) {
    const int x = LEFT + PLOT_W + 20, y = TOP + 10 + 20 * row;
    tug_buf_printf(out,
                   "<polyline class=\"%s\" points=\"%d,%d %d,%d\"/>\n"
                   "<text x=\"%d\" y=\"%d\">%s</text>\n",
                   class, x, y, x + 24, y, x + 32, y + 4, name);
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

void tug_curves_svg(const tug_curves *c, const char *title, tug_buf *out) {
    const bool decode = c->n_decode > 0;
    tug_buf_printf(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
                   "width=\"%d\" height=\"%d\" role=\"img\">\n",
                   WIDTH, HEIGHT, WIDTH, HEIGHT);
    style(out);
    tug_buf_printf(out, "<text class=\"title\" x=\"%d\" y=\"24\">", LEFT);
    escaped(out, title);
    tug_buf_printf(out, ": %d of %d experts a token, %d layers</text>\n", c->n_used,
                   c->n_expert, c->n_layer);
    axes(decode ? "decode" : "prompts", out);
    curve(c, c->best, decode, "bound", out);
    legend("bound", "bound", c->spec.n_policies, out);
    for (int k = 0; k < c->spec.n_policies; k++) {
        char class[24];
        (void)snprintf(class, sizeof class, "curve c%d", k);
        curve(c, c->policy[k], decode, class, out);
        legend(class, c->spec.policies[k]->name, k, out);
    }
    tug_buf_text(out, "</svg>\n");
}
