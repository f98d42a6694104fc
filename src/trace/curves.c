/* curves.c - see curves.h.  SPDX-License-Identifier: MIT */
#include "trace/curves.h"

#include <math.h>
#include <stdio.h>

#include "base/sys.h"
#include "json/json.h"

void tug_curves_default_sizes(tug_curves_spec *spec, int n_expert) {
    static const double shares[] = {1.0 / 16, 1.0 / 8, 3.0 / 16, 1.0 / 4,
                                    1.0 / 3,  1.0 / 2, 3.0 / 4};
    spec->n_sizes = 0;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        const int size = (int)(shares[i] * n_expert);
        if (size < 1 || (spec->n_sizes && size <= spec->sizes[spec->n_sizes - 1]))
            continue;
        spec->sizes[spec->n_sizes++] = size;
    }
    if (spec->n_sizes == 0) spec->sizes[spec->n_sizes++] = 1;
}

/* ---- running ------------------------------------------------------------------------- */

static tug_status run_size(tug_curves *c, const tug_trace *t, int i, float *heat,
                           tug_err *err) {
    const tug_curves_spec *s = &c->spec;
    tug_simulate_params p = {.home = s->sizes[i], .staging = s->staging};
    for (int k = 0; k < s->n_policies; k++) {
        p.policy = s->policies[k];
        p.heat = NULL;
        if (p.policy->pins) {
            tug_pin_most_used(s->profile, (int)lround(s->pinned_share * p.home), heat);
            p.heat = heat;
        }
        TUG_TRY(tug_simulate(t, &p, &c->policy[k][i], err));
    }
    return tug_simulate_best(t, p.home, p.staging, &c->best[i], err);
}

static void count_tokens(tug_curves *c, const tug_trace *t) {
    for (int64_t b = 0; b < t->n_batches; b++) {
        *(t->batches[b] == 1 ? &c->n_decode : &c->n_prompt) += t->batches[b];
    }
}

tug_status tug_curves_run(tug_curves *out, const tug_trace *t,
                          const tug_curves_spec *spec, tug_err *err) {
    *out = (tug_curves){.spec = *spec,
                        .n_layer = t->n_layer,
                        .n_expert = t->n_expert,
                        .n_used = t->n_used};
    count_tokens(out, t);
    TUG_TRY(tug_routing_of(t, &out->routing, err));
    const size_t n = (size_t)t->n_layer * (size_t)t->n_expert;
    float *heat = tug_alloc_array(n, sizeof *heat);
    if (!heat) return TUG_FAIL(err, TUG_ENOMEM, "out of memory for a profile");
    tug_status s = TUG_OK;
    for (int i = 0; i < spec->n_sizes && s == TUG_OK; i++) {
        s = run_size(out, t, i, heat, err);
    }
    tug_free(heat);
    return s;
}

/* ---- as text ------------------------------------------------------------------------- */

static void put_rate(tug_buf *out, tug_hits h) {
    tug_buf_printf(out, "%9.1f", 100.0 * tug_hit_rate(h));
}

static void put_table(const tug_curves *c, bool decode, tug_buf *out) {
    tug_buf_printf(out, "\nhit rate in percent, %s\n   slots  share",
                   decode ? "decode" : "prompts");
    for (int k = 0; k < c->spec.n_policies; k++) {
        tug_buf_printf(out, "%9s", c->spec.policies[k]->name);
    }
    tug_buf_text(out, "    bound\n");
    for (int i = 0; i < c->spec.n_sizes; i++) {
        const int slots = c->spec.sizes[i];
        tug_buf_printf(out, "%8d %5.0f%%", slots, 100.0 * slots / c->n_expert);
        for (int k = 0; k < c->spec.n_policies; k++) {
            const tug_simulation *s = &c->policy[k][i];
            put_rate(out, decode ? s->decode : s->prompt);
        }
        put_rate(out, decode ? c->best[i].decode : c->best[i].prompt);
        tug_buf_char(out, '\n');
    }
}

static void put_percent(tug_buf *out, const char *what, double share) {
    if (isfinite(share)) tug_buf_printf(out, "%s %.1f %%\n", what, 100.0 * share);
}

void tug_curves_text(const tug_curves *c, tug_buf *out) {
    const tug_routing *r = &c->routing;
    tug_buf_printf(out,
                   "%d layers, %d of %d experts a token; %lld tokens of prompts, %lld "
                   "decoded; %d staging slots\n",
                   c->n_layer, c->n_used, c->n_expert, (long long)c->n_prompt,
                   (long long)c->n_decode, c->spec.staging);
    put_percent(out, "used again by the next token", r->repeated);
    put_percent(out, "uses by the busiest eighth, of 300 tokens", r->top_text);
    put_percent(out, "uses by the busiest eighth, of all tokens", r->top_all);
    tug_buf_text(out, "experts that tokens in a row use:");
    for (int i = 0; i < TUG_ROUTING_WINDOWS && isfinite(r->distinct[i]); i++) {
        tug_buf_printf(out, " %d: %.1f", r->window[i], r->distinct[i]);
    }
    tug_buf_char(out, '\n');
    if (c->n_decode > 0) put_table(c, true, out);
    if (c->n_prompt > 0) put_table(c, false, out);
}

/* ---- as JSON ------------------------------------------------------------------------- */

static void key_i64(tug_json_writer *w, const char *key, int64_t v) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_write_i64(w, v);
}

static void key_f64(tug_json_writer *w, const char *key, double v) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_write_f64(w, v);
}

static void write_hits(tug_json_writer *w, const char *key, tug_hits h) {
    tug_json_write_key(w, tug_str_of(key));
    tug_json_begin_object(w);
    key_i64(w, "wanted", (int64_t)h.wanted);
    key_i64(w, "hits", (int64_t)h.hits);
    tug_json_end_object(w);
}

static void write_curve(tug_json_writer *w, const tug_curves *c, const char *name,
                        const tug_simulation *at) {
    tug_json_write_key(w, tug_str_of(name));
    tug_json_begin_array(w);
    for (int i = 0; i < c->spec.n_sizes; i++) {
        tug_json_begin_object(w);
        key_i64(w, "slots", c->spec.sizes[i]);
        write_hits(w, "decode", at[i].decode);
        write_hits(w, "prompt", at[i].prompt);
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
}

static void write_routing(tug_json_writer *w, const tug_routing *r) {
    tug_json_write_key(w, tug_str_of("routing"));
    tug_json_begin_object(w);
    key_f64(w, "repeated", r->repeated);
    key_f64(w, "top_eighth_of_text", r->top_text);
    key_f64(w, "top_eighth_of_all", r->top_all);
    tug_json_write_key(w, tug_str_of("distinct"));
    tug_json_begin_object(w);
    for (int i = 0; i < TUG_ROUTING_WINDOWS; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%d", r->window[i]);
        key_f64(w, key, r->distinct[i]);
    }
    tug_json_end_object(w);
    tug_json_end_object(w);
}

void tug_curves_json(const tug_curves *c, tug_buf *out) {
    tug_json_writer w = tug_json_writer_make(out, TUG_JSON_SPACED);
    tug_json_begin_object(&w);
    key_i64(&w, "n_layer", c->n_layer);
    key_i64(&w, "n_expert", c->n_expert);
    key_i64(&w, "n_used", c->n_used);
    key_i64(&w, "prompt_tokens", c->n_prompt);
    key_i64(&w, "decode_tokens", c->n_decode);
    key_i64(&w, "staging", c->spec.staging);
    write_routing(&w, &c->routing);
    tug_json_write_key(&w, tug_str_of("policies"));
    tug_json_begin_object(&w);
    for (int k = 0; k < c->spec.n_policies; k++) {
        write_curve(&w, c, c->spec.policies[k]->name, c->policy[k]);
    }
    tug_json_end_object(&w);
    write_curve(&w, c, "bound", c->best);
    tug_json_end_object(&w);
    tug_buf_char(out, '\n');
}
