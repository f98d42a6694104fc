/* endpoints.h - what the paths of routes.c do.  Each answers its exchange, now or later.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_ENDPOINTS_H
#define TUG_SERVE_ENDPOINTS_H

#include "api/request.h"
#include "http/http.h"
#include "serve/serve.h"

/* Answers of the model, and how long a prompt is (ep_answer.c). */
void tug_ep_answer(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_count(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_apply_template(tug_serve *s, tug_http_exchange *x, tug_api api);

/* Text and tokens (ep_text.c). */
void tug_ep_tokenize(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_detokenize(tug_serve *s, tug_http_exchange *x, tug_api api);

/* About the server (ep_info.c, ep_status.c). */
void tug_ep_page(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_openapi(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_health(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_models(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_model(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_props(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_unsupported(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_status(tug_serve *s, tug_http_exchange *x, tug_api api);
void tug_ep_metrics(tug_serve *s, tug_http_exchange *x, tug_api api);

#endif
