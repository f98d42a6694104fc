/* plan_json.c - a plan as one JSON object.  SPDX-License-Identifier: MIT */
#include "plan/plan_report.h"
#include "json/json.h"

typedef tug_json_writer writer;

static void key(writer *w, const char *name) {
    tug_json_write_key(w, tug_str_of(name));
}

static void text(writer *w, const char *name, const char *value) {
    key(w, name);
    tug_json_write_str(w, tug_str_of(value));
}

static void number(writer *w, const char *name, double value) {
    key(w, name);
    tug_json_write_f64(w, value);
}

static void bytes(writer *w, const char *name, uint64_t value) {
    key(w, name);
    tug_json_write_u64(w, value);
}

static void whole(writer *w, const char *name, int64_t value) {
    key(w, name);
    tug_json_write_i64(w, value);
}

static void truth(writer *w, const char *name, bool value) {
    key(w, name);
    tug_json_write_bool(w, value);
}

static void begin(writer *w, const char *name) {
    key(w, name);
    tug_json_begin_object(w);
}

/* ---- what went in ----------------------------------------------------------------- */

static void model(writer *w, const tug_plan_model *m, tug_plan_kv kv) {
    begin(w, "model");
    text(w, "name", m->name);
    bytes(w, "file_bytes", m->file_bytes);
    begin(w, "dense_bytes");
    for (int i = 0; i < TUG_PLAN_PARTS; i++) {
        bytes(w, tug_plan_part_name((tug_plan_part)i), m->dense[i]);
    }
    tug_json_end_object(w);
    bytes(w, "embedding_bytes", m->embedding);
    bytes(w, "expert_bytes", m->experts);
    whole(w, "layers", m->spec.n_layer);
    whole(w, "experts", m->spec.n_expert);
    whole(w, "experts_used", m->spec.n_expert_used);
    bytes(w, "kv_bytes_per_token", m->kv_token[kv]);
    bytes(w, "state_bytes", m->state);
    tug_json_end_object(w);
}

static void gpu(writer *w, const tug_plan_machine *m) {
    key(w, "gpu");
    if (!m->has_gpu) {
        tug_json_write_null(w);
        return;
    }
    tug_json_begin_object(w);
    bytes(w, "vram_bytes", m->vram_total);
    bytes(w, "vram_available_bytes", m->vram_available);
    number(w, "vram_bytes_s", m->vram_bytes_s);
    truth(w, "vram_measured", m->vram_measured);
    number(w, "link_bytes_s", m->link_bytes_s);
    number(w, "handoff_s", m->handoff_s);
    number(w, "flops", m->gpu_flops);
    tug_json_end_object(w);
}

/* 0: not measured */
static void kernels(writer *w, const tug_plan_kernels *k) {
    static const char *const kinds[TUG_PLAN_INT8_KINDS] = {"q3_k", "q4_k", "q5_k", "q6_k",
                                                           "q8_0"};
    begin(w, "products_macs_s");
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++) number(w, kinds[i], k->macs_s[i]);
    tug_json_end_object(w);
    key(w, "expert_tokens");
    tug_json_begin_array(w);
    for (int i = 0; i < TUG_PLAN_EXPERT_POINTS; i++)
        tug_json_write_i64(w, tug_plan_expert_tokens[i]);
    tug_json_end_array(w);
    begin(w, "expert_macs_s"); /* at so many tokens */
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++) {
        key(w, kinds[i]);
        tug_json_begin_array(w);
        for (int j = 0; j < TUG_PLAN_EXPERT_POINTS; j++) {
            const double s = k->expert_s[i][j];
            tug_json_write_f64(w, s > 0.0 ? tug_plan_expert_tokens[j] / s : 0.0);
        }
        tug_json_end_array(w);
    }
    tug_json_end_object(w);
    begin(w, "pack_cpu_bytes_s");
    for (int i = 0; i < TUG_PLAN_INT8_KINDS; i++) {
        number(w, kinds[i], k->pack_byte_s[i] > 0.0 ? 1.0 / k->pack_byte_s[i] : 0.0);
    }
    tug_json_end_object(w);
    number(w, "delta_macs_s", k->delta_macs_s);
    number(w, "elements_s", k->elements_s);
}

static void machine(writer *w, const tug_plan_machine *m) {
    begin(w, "machine");
    text(w, "name", m->name);
    bytes(w, "ram_bytes", m->ram_total);
    bytes(w, "ram_available_bytes", m->ram_available);
    number(w, "ram_bytes_s", m->ram_bytes_s);
    whole(w, "cores", m->n_cores);
    number(w, "int8_macs_s", m->int8_macs_s);
    number(w, "f32_macs_s", m->f32_macs_s);
    kernels(w, &m->kernels);
    number(w, "disk_bytes_s", m->disk_bytes_s);
    number(w, "disk_latency_s", m->disk_latency_s);
    number(w, "disk_cpu_byte_s", m->read_byte_s);
    number(w, "watts", m->watts);
    key(w, "assumed");
    tug_json_begin_array(w);
    if (m->assumed & TUG_PLAN_ASSUMED_RAM) tug_json_write_str(w, tug_str_of("ram"));
    if (m->assumed & TUG_PLAN_ASSUMED_CPU) tug_json_write_str(w, tug_str_of("cpu"));
    if (m->assumed & TUG_PLAN_ASSUMED_DISK) tug_json_write_str(w, tug_str_of("disk"));
    if (m->assumed & TUG_PLAN_ASSUMED_GPU) tug_json_write_str(w, tug_str_of("gpu"));
    tug_json_end_array(w);
    gpu(w, m);
    tug_json_end_object(w);
}

/* ---- what came out ---------------------------------------------------------------- */

static void tier(writer *w, const char *name, const tug_plan_tier *t) {
    key(w, name);
    if (t->ceiling == 0) {
        tug_json_write_null(w);
        return;
    }
    tug_json_begin_object(w);
    bytes(w, "ceiling", t->ceiling);
    for (int i = 0; i < TUG_PLAN_USES; i++) {
        bytes(w, tug_plan_use_name((tug_plan_use)i), t->use[i]);
    }
    tug_json_end_object(w);
}

static void slots(writer *w, const char *name, const int *n, int64_t n_layer) {
    key(w, name);
    tug_json_begin_array(w);
    for (int64_t i = 0; i < n_layer; i++) tug_json_write_i64(w, n[i]);
    tug_json_end_array(w);
}

static void time_of(writer *w, const char *name, const tug_plan_time *t) {
    begin(w, name);
    number(w, "tok_s", t->tok_s);
    number(w, "ms", t->ms);
    text(w, "bound", tug_plan_term_name(t->bound));
    for (int shown = 0; shown < 2; shown++) {
        begin(w, shown ? "wait_ms" : "busy_ms");
        for (int i = 0; i < TUG_PLAN_TERMS; i++) {
            number(w, tug_plan_term_name((tug_plan_term)i),
                   shown ? t->wait_ms[i] : t->busy_ms[i]);
        }
        tug_json_end_object(w);
    }
    tug_json_end_object(w);
}

static void plan(writer *w, const tug_plan_subject *s) {
    const tug_plan *p = s->plan;
    whole(w, "context", p->n_ctx);
    whole(w, "sequences", p->n_seq);
    whole(w, "checkpoints", p->n_checkpoints);
    whole(w, "batch", p->n_batch);
    text(w, "cache_type", tug_plan_kv_name(s->request->kv));
    text(w, "routing", tug_plan_routing_name(s->request->routing));
    truth(w, "on_gpu", p->on_gpu);
    tier(w, "ram", &p->ram);
    tier(w, "vram", &p->vram);
    bytes(w, "disk_expert_bytes", p->disk_experts);
    slots(w, "ram_slots", p->ram_slots, s->model->spec.n_layer);
    slots(w, "vram_slots", p->vram_slots, s->model->spec.n_layer);
    number(w, "vram_miss", p->vram_miss);
    number(w, "disk_miss", p->disk_miss);
    key(w, "points");
    tug_json_begin_array(w);
    for (int i = 0; i < p->n_points; i++) {
        tug_json_begin_object(w);
        whole(w, "tokens", p->points[i].n_ctx);
        time_of(w, "decode", &p->points[i].decode);
        time_of(w, "prefill", &p->points[i].prefill);
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
}

static void advice(writer *w, const tug_plan_subject *s) {
    key(w, "advice");
    tug_json_begin_array(w);
    for (int i = 0; i < s->n_advice; i++) {
        tug_json_begin_object(w);
        text(w, "what", s->advice[i].what);
        number(w, "gain", s->advice[i].gain);
        number(w, "decode_tok_s", s->advice[i].decode_tok_s);
        number(w, "prefill_tok_s", s->advice[i].prefill_tok_s);
        tug_json_end_object(w);
    }
    tug_json_end_array(w);
}

static void cost(writer *w, const tug_plan_cost *c) {
    key(w, "cost");
    if (!c) {
        tug_json_write_null(w);
        return;
    }
    tug_json_begin_object(w);
    number(w, "watts", c->watts);
    number(w, "hours_day", c->hours_day);
    number(w, "kwh_day", c->kwh_day);
    number(w, "energy_day", c->energy_day);
    number(w, "hardware_day", c->hardware_day);
    number(w, "api_day", c->api_day);
    number(w, "energy_million", c->energy_million);
    number(w, "total_million", c->total_million);
    number(w, "api_million", c->api_million);
    number(w, "break_even_days", c->break_even_days); /* null: never */
    tug_json_end_object(w);
}

void tug_plan_json(const tug_plan_subject *s, tug_buf *out) {
    writer w = tug_json_writer_make(out, TUG_JSON_PRETTY);
    tug_json_begin_object(&w);
    model(&w, s->model, s->request->kv);
    machine(&w, s->machine);
    plan(&w, s);
    advice(&w, s);
    cost(&w, s->cost);
    key(&w, "no_gpu");
    if (s->no_gpu) {
        tug_json_write_str(&w, tug_str_of(s->no_gpu));
    } else {
        tug_json_write_null(&w);
    }
    tug_json_end_object(&w);
    tug_buf_char(out, '\n');
}
