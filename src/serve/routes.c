/* routes.c - which path does what.  SPDX-License-Identifier: MIT */
#include "base/sys.h"
#include "serve/endpoints.h"
#include "serve/serve_impl.h"

typedef void endpoint_fn(tug_serve *s, tug_http_exchange *x, tug_api api);

/* Every path exists with and without /v1 before it. */
static const struct route {
    const char *path, *method;
    tug_api api; /* whose errors its clients understand */
    endpoint_fn *run;
} routes[] = {
    {"/", "GET", TUG_API_CHAT, tug_ep_page},
    {"/openapi.json", "GET", TUG_API_CHAT, tug_ep_openapi},
    {"/health", "GET", TUG_API_CHAT, tug_ep_health},
    {"/status", "GET", TUG_API_CHAT, tug_ep_status},
    {"/metrics", "GET", TUG_API_CHAT, tug_ep_metrics},
    {"/props", "GET", TUG_API_CHAT, tug_ep_props},
    {"/models", "GET", TUG_API_CHAT, tug_ep_models},
    {"/models/*", "GET", TUG_API_CHAT, tug_ep_model},
    {"/tokenize", "POST", TUG_API_CHAT, tug_ep_tokenize},
    {"/detokenize", "POST", TUG_API_CHAT, tug_ep_detokenize},
    {"/apply-template", "POST", TUG_API_CHAT, tug_ep_apply_template},
    {"/chat/completions", "POST", TUG_API_CHAT, tug_ep_answer},
    {"/completions", "POST", TUG_API_COMPLETIONS, tug_ep_answer},
    {"/responses", "POST", TUG_API_RESPONSES, tug_ep_answer},
    {"/messages", "POST", TUG_API_MESSAGES, tug_ep_answer},
    {"/chat/completions/input_tokens", "POST", TUG_API_CHAT, tug_ep_count},
    {"/responses/input_tokens", "POST", TUG_API_RESPONSES, tug_ep_count},
    {"/messages/count_tokens", "POST", TUG_API_MESSAGES, tug_ep_count},
    {"/embeddings", "POST", TUG_API_CHAT, tug_ep_unsupported},
    {"/rerank", "POST", TUG_API_CHAT, tug_ep_unsupported},
};

static tug_str without_version(tug_str path) {
    const tug_str v1 = tug_str_of("/v1");
    if (tug_str_starts(path, v1) && path.n > v1.n && path.p[v1.n] == '/') {
        path = tug_str_make(path.p + v1.n, path.n - v1.n);
    }
    /* One slash too many at the end is a common slip of base URLs. */
    if (path.n > 1 && path.p[path.n - 1] == '/') path.n--;
    return path;
}

static bool matches(const struct route *r, tug_str path) {
    const tug_str p = tug_str_of(r->path);
    if (p.p[p.n - 1] != '*') return tug_str_eq(path, p);
    return path.n > p.n - 1 && tug_str_starts(path, tug_str_make(p.p, p.n - 1));
}

static const struct route *find(tug_str path) {
    path = without_version(path);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (matches(&routes[i], path)) return &routes[i];
    }
    return NULL;
}

tug_api tug_serve_api_of(tug_str path) {
    const struct route *r = find(path);
    return r ? r->api : TUG_API_CHAT;
}

static bool method_fits(tug_str method, const char *wanted) {
    return tug_str_is(method, wanted) ||
           (tug_str_is(method, "HEAD") && strcmp(wanted, "GET") == 0);
}

void tug_serve_handle(void *ud, tug_http_exchange *x) {
    tug_serve *s = ud;
    const struct route *r = find(tug_http_path(x));
    if (!r) {
        tug_serve_refuse(x, TUG_API_CHAT, TUG_FAULT_NOT_FOUND,
                         tug_str_of("there is nothing here; docs/API.md lists what "
                                    "there is"));
    } else if (!method_fits(tug_http_method(x), r->method)) {
        tug_serve_header(x, "Allow", r->method);
        tug_serve_refuse(x, r->api, TUG_FAULT_METHOD,
                         tug_str_of(strcmp(r->method, "GET") == 0
                                        ? "this path wants GET"
                                        : "this path wants POST"));
    } else {
        r->run(s, x, r->api);
    }
}

/* ---- answers ------------------------------------------------------------------------- */

void tug_serve_send(tug_http_exchange *x, int status, const char *content_type,
                    tug_str body) {
    tug_err err;
    const tug_status sent = tug_http_respond(x, status, content_type, body, &err);
    (void)sent;
}

void tug_serve_header(tug_http_exchange *x, const char *name, const char *value) {
    tug_err err;
    const tug_status set = tug_http_set_header(x, name, tug_str_of(value), &err);
    (void)set;
}

void tug_serve_send_json(tug_http_exchange *x, tug_buf *body) {
    tug_err err;
    if (tug_buf_ok(body, &err) == TUG_OK) {
        tug_serve_send(x, 200, "application/json", tug_buf_view(body));
    } else {
        tug_serve_refuse_err(x, TUG_API_CHAT, &err);
    }
    tug_buf_free(body);
}

/* ---- errors -------------------------------------------------------------------------- */

void tug_serve_refuse(tug_http_exchange *x, tug_api api, tug_api_fault fault,
                      tug_str sentence) {
    tug_buf body = {0};
    tug_api_error(api, fault, sentence, 0, 0, &body);
    if (fault == TUG_FAULT_UNAVAILABLE || fault == TUG_FAULT_BUSY) {
        tug_serve_header(x, "Retry-After", "2");
    }
    tug_serve_send(x, tug_api_fault_status(fault), "application/json",
                   tug_buf_view(&body));
    tug_buf_free(&body);
}

void tug_serve_refuse_err(tug_http_exchange *x, tug_api api, const tug_err *err) {
    tug_api_fault fault = TUG_FAULT_INTERNAL;
    switch (err->code) {
    case TUG_EFORMAT:
    case TUG_ERANGE:
    case TUG_EUNSUPPORTED:
    case TUG_EUSAGE: fault = TUG_FAULT_INVALID; break;
    case TUG_ENOMEM:
    case TUG_EBUSY:
    case TUG_ECANCELED: fault = TUG_FAULT_UNAVAILABLE; break;
    default: break;
    }
    tug_serve_refuse(x, api, fault, tug_str_of(err->msg));
}
