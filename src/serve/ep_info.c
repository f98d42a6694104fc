/* ep_info.c - what is loaded: health, models, properties, the page, the API's description.
 * SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "serve/endpoints.h"
#include "serve/openapi.h"
#include "serve/page.h"
#include "serve/serve_impl.h"

static void key(tug_json_writer *w, const char *name) {
    tug_json_write_key(w, tug_str_of(name));
}

static void text(tug_json_writer *w, const char *name, const char *value) {
    key(w, name);
    tug_json_write_str(w, tug_str_of(value));
}

static void number(tug_json_writer *w, const char *name, int64_t value) {
    key(w, name);
    tug_json_write_i64(w, value);
}

static void truth(tug_json_writer *w, const char *name, bool value) {
    key(w, name);
    tug_json_write_bool(w, value);
}

static void empty_array(tug_json_writer *w, const char *name) {
    key(w, name);
    tug_json_begin_array(w);
    tug_json_end_array(w);
}

void tug_ep_health(tug_serve *s, tug_http_exchange *x, tug_api api) {
    (void)api;
    if (s->degraded) {
        tug_serve_send(x, 503, "application/json",
                       tug_str_of("{\"status\":\"degraded\"}"));
    } else {
        tug_serve_send(x, 200, "application/json", tug_str_of("{\"status\":\"ok\"}"));
    }
}

void tug_ep_unsupported(tug_serve *s, tug_http_exchange *x, tug_api api) {
    (void)s;
    tug_serve_refuse(x, api, TUG_FAULT_UNSUPPORTED,
                     tug_str_of("this model writes text; it makes no embeddings and "
                                "ranks nothing"));
}

/* ---- models -------------------------------------------------------------------------- */

/* As OpenAI's list has it, and with what clients look for to size their requests. */
static void write_model(tug_json_writer *w, const tug_serve *s) {
    tug_json_begin_object(w);
    text(w, "id", s->config.model_id);
    text(w, "object", "model");
    number(w, "created", 0);
    text(w, "owned_by", "tug");
    number(w, "max_model_len", s->n_ctx);
    key(w, "meta");
    tug_json_begin_object(w);
    number(w, "n_ctx_train", s->info.n_ctx_train);
    number(w, "n_params", (int64_t)s->info.n_params);
    number(w, "size", (int64_t)s->info.n_bytes);
    number(w, "n_vocab", s->info.n_vocab);
    tug_json_end_object(w);
    tug_json_end_object(w);
}

/* What Codex wants to know of a model. */
static void write_codex_model(tug_json_writer *w, const tug_serve *s) {
    tug_json_begin_object(w);
    text(w, "slug", s->config.model_id);
    text(w, "display_name", s->config.model_id);
    text(w, "description", "a local model");
    empty_array(w, "supported_reasoning_levels");
    text(w, "shell_type", "default");
    text(w, "visibility", "list");
    truth(w, "supported_in_api", true);
    number(w, "priority", 1);
    text(w, "base_instructions", "");
    truth(w, "supports_reasoning_summaries", false);
    truth(w, "support_verbosity", false);
    key(w, "apply_patch_tool_type");
    tug_json_write_null(w);
    key(w, "truncation_policy");
    tug_json_begin_object(w);
    text(w, "mode", "tokens");
    number(w, "limit", 10000);
    tug_json_end_object(w);
    truth(w, "supports_parallel_tool_calls", true);
    number(w, "context_window", s->n_ctx);
    number(w, "max_context_window", s->n_ctx);
    number(w, "auto_compact_token_limit", s->n_ctx / 10 * 9);
    number(w, "effective_context_window_percent", 95);
    empty_array(w, "experimental_supported_tools");
    key(w, "input_modalities");
    tug_json_begin_array(w);
    tug_json_write_str(w, tug_str_of("text"));
    tug_json_end_array(w);
    tug_json_end_object(w);
}

void tug_ep_models(tug_serve *s, tug_http_exchange *x, tug_api api) {
    (void)api;
    tug_buf body = {0};
    tug_json_writer w = tug_json_writer_make(&body, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    text(&w, "object", "list");
    key(&w, "data");
    tug_json_begin_array(&w);
    write_model(&w, s);
    tug_json_end_array(&w);
    key(&w, "models");
    tug_json_begin_array(&w);
    write_codex_model(&w, s);
    tug_json_end_array(&w);
    tug_json_end_object(&w);
    tug_serve_send_json(x, &body);
}

void tug_ep_model(tug_serve *s, tug_http_exchange *x, tug_api api) {
    const tug_str path = tug_http_path(x), id = tug_str_of(s->config.model_id);
    const bool known = path.n > id.n && path.p[path.n - id.n - 1] == '/' &&
                       tug_str_eq(tug_str_make(path.p + path.n - id.n, id.n), id);
    if (!known) {
        tug_serve_refuse(
            x, api, TUG_FAULT_NOT_FOUND,
            tug_str_of("there is no such model; GET /v1/models names the one "
                       "that is loaded"));
        return;
    }
    tug_buf body = {0};
    tug_json_writer w = tug_json_writer_make(&body, TUG_JSON_COMPACT);
    write_model(&w, s);
    tug_serve_send_json(x, &body);
}

/* ---- properties ---------------------------------------------------------------------- */

/* null: the CPU alone.  The name goes with a GPU that fails, so all under the lock. */
static void write_gpu(tug_json_writer *w, tug_serve *s) {
    (void)pthread_mutex_lock(&s->lock);
    key(w, "gpu");
    if (s->info.gpu) {
        tug_json_begin_object(w);
        text(w, "name", s->info.gpu);
        number(w, "vram_budget", (int64_t)s->gpu.vram_budget);
        number(w, "vram_used", (int64_t)s->gpu.vram_used);
        number(w, "experts", s->info.n_experts_on_gpu);
        tug_json_end_object(w);
    } else {
        tug_json_write_null(w);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

void tug_ep_props(tug_serve *s, tug_http_exchange *x, tug_api api) {
    (void)api;
    const tug_sampler_params p = tug_sampler_defaults(s->config.model);
    size_t n = 0;
    const char *template = tug_model_chat_template(s->config.model, &n);
    tug_buf body = {0};
    tug_json_writer w = tug_json_writer_make(&body, TUG_JSON_COMPACT);
    tug_json_begin_object(&w);
    key(&w, "default_generation_settings");
    tug_json_begin_object(&w);
    number(&w, "n_ctx", s->n_ctx);
    key(&w, "params");
    tug_json_begin_object(&w);
    key(&w, "temperature");
    tug_json_write_f64(&w, (double)p.temperature);
    key(&w, "top_p");
    tug_json_write_f64(&w, (double)p.top_p);
    number(&w, "top_k", p.top_k);
    key(&w, "min_p");
    tug_json_write_f64(&w, (double)p.min_p);
    tug_json_end_object(&w);
    tug_json_end_object(&w);
    number(&w, "total_slots", s->config.n_sessions);
    text(&w, "model_path", s->config.model_path);
    key(&w, "chat_template");
    tug_json_write_str(&w, tug_str_make(template, template ? n : 0));
    key(&w, "modalities");
    tug_json_begin_object(&w);
    truth(&w, "vision", false);
    truth(&w, "audio", false);
    tug_json_end_object(&w);
    text(&w, "build_info", s->config.version);
    write_gpu(&w, s);
    tug_json_end_object(&w);
    tug_serve_send_json(x, &body);
}

/* ---- files: the page, the OpenAPI document --------------------------------------------- */

void tug_ep_page(tug_serve *s, tug_http_exchange *x, tug_api api) {
    (void)s;
    (void)api;
    tug_str policy = tug_page_policy();
    /* Nothing from anywhere else, nothing of ours inside another's page. */
    tug_serve_header(x, "Content-Security-Policy", policy.p);
    tug_serve_header(x, "Cache-Control", "no-cache");
    tug_serve_send(x, 200, "text/html; charset=utf-8", tug_page_html());
}

void tug_ep_openapi(tug_serve *s, tug_http_exchange *x, tug_api api) {
    (void)s;
    (void)api;
    tug_serve_send(x, 200, "application/json", tug_openapi_json());
}
