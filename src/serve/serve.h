/* serve.h - a model behind the APIs that coding agents speak.  docs/SERVER.md is the map.
 *
 * OWNS  endpoints, queue, worker, prompt cache, metrics.
 * NOT   the model (borrowed), the process: signals, exit codes, the terminal are the command's.
 *
 *     tug_serve_start(&server, &config, &err);
 *     ... tug_serve_port(server) ... wait for a signal ...
 *     tug_serve_drain(server, 30.0);     // finishes what runs, then cancels
 *     tug_serve_stop(&server);
 * SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_SERVE_H
#define TUG_SERVE_SERVE_H

#include "base/status.h"
#include "http/http.h"
#include "tug.h"

typedef struct tug_serve tug_serve;

typedef struct tug_serve_config {
    tug_model *model;       /* borrowed; from now on the server's worker uses it alone */
    const char *model_path; /* for /props */
    const char *model_id;   /* what clients call it */
    const char *version;
    tug_http_config http; /* its callbacks and ud are the server's to fill in */

    int64_t n_ctx, n_batch; /* as in tug_session_params */
    tug_kv_cache_type kv_type;
    int n_sessions;       /* requests computed at once; 0: 4; on a GPU not more than the
                             model was opened for (tug_model_info.n_sessions) */
    int n_queue;          /* requests that wait or run, at most; 0: 256 */
    uint64_t cache_bytes; /* ceiling of the conversations kept; 0: half of what is free */
    bool constrain;       /* calls and JSON are valid by construction */
    const char *script;   /* test builds: a file of answers, or NULL */

    /* How to load the model again, for the CPU, when its GPU fails; NULL: then requests
     * end with errors until the server is started anew. */
    const tug_model_params *reload;    /* borrowed */
    void (*say)(void *, const char *); /* a sentence for whoever runs the server, on */
    void *say_ud;                      /* the worker's thread; may be NULL */
} tug_serve_config;

TUG_NODISCARD tug_status tug_serve_start(tug_serve **out, const tug_serve_config *config,
                                         tug_err *err);
uint16_t tug_serve_port(const tug_serve *server);
int64_t tug_serve_n_ctx(const tug_serve *server);

/* Takes no more requests and waits at most so long for those it has. */
void tug_serve_drain(tug_serve *server, double seconds);
void tug_serve_stop(tug_serve **server);

#endif
