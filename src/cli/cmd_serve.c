/* cmd_serve.c - `tug serve`: the command line.  SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/sys.h"
#include "cli/cli.h"
#include "cli/cli_model.h"
#include "cli/client_config.h"
#include "cli/find_model.h"
#include "cli/interrupt.h"
#include "gguf/gguf.h"
#include "serve/serve.h"

enum {
    OPT_HOST = CLI_OPT_OWN,
    OPT_PORT,
    OPT_UNIX,
    OPT_CERT,
    OPT_KEY,
    OPT_API_KEYS,
    OPT_OPEN,
    OPT_ALLOW_HOST,
    OPT_CORS,
    OPT_ALIAS,
    OPT_PARALLEL,
    OPT_QUEUE,
    OPT_CACHE_RAM,
    OPT_NO_CONSTRAINT,
    OPT_DRAIN,
    OPT_PRINT_CONFIG,
    OPT_SCRIPT
};

static const char short_options[] = ":h" CLI_ENGINE_SHORT;

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"host", required_argument, NULL, OPT_HOST},
    {"port", required_argument, NULL, OPT_PORT},
    {"unix-socket", required_argument, NULL, OPT_UNIX},
    {"tls-cert", required_argument, NULL, OPT_CERT},
    {"tls-key", required_argument, NULL, OPT_KEY},
    {"api-key-file", required_argument, NULL, OPT_API_KEYS},
    {"insecure-no-auth", no_argument, NULL, OPT_OPEN},
    {"allowed-host", required_argument, NULL, OPT_ALLOW_HOST},
    {"cors-origin", required_argument, NULL, OPT_CORS},
    {"alias", required_argument, NULL, OPT_ALIAS},
    {"parallel", required_argument, NULL, OPT_PARALLEL},
    {"queue", required_argument, NULL, OPT_QUEUE},
    {"cache-ram", required_argument, NULL, OPT_CACHE_RAM},
    {"no-constraint", no_argument, NULL, OPT_NO_CONSTRAINT},
    {"drain-timeout", required_argument, NULL, OPT_DRAIN},
    {"print-config", required_argument, NULL, OPT_PRINT_CONFIG},
    {"script", required_argument, NULL, OPT_SCRIPT},
    CLI_ENGINE_LONG,
    {NULL, 0, NULL, 0},
};

static const char help[] =
    "usage: tug serve [-m FILE] [options]\n"
    "\n"
    "Serves a model to coding agents on http://127.0.0.1:8080: chat/completions,\n"
    "completions, responses and messages under /v1, a page to look at under /.\n"
    "Without -m: the newest model in ~/.local/share/tug/models, or the demo's.\n"
    "\n"
    "for your agent\n"
    "      --print-config NAME   the configuration of a client, on stdout: opencode,\n"
    "                            claude-code, codex, qwen-code, aider, continue,\n"
    "                            cline, zed, open-webui (docs/agents.md)\n"
    "      --alias NAME          what clients call the model (default: the file's)\n"
    "\n"
    "where and who\n"
    "      --host ADDRESS        default 127.0.0.1; others need --api-key-file\n"
    "      --port N              default 8080; 0: any free one\n"
    "      --unix-socket PATH    instead of host and port\n"
    "      --tls-cert, --tls-key FILE   PEM; https instead of http\n"
    "      --api-key-file FILE   one key a line, readable by you alone (chmod 600)\n"
    "      --insecure-no-auth    a host other than this one, without keys\n"
    "      --allowed-host NAME   a further name of this server; may be repeated\n"
    "      --cors-origin URL     a web page that may call us; may be repeated\n"
    "\n"
    "work\n"
    "      --parallel N          requests computed at once, and conversations kept\n"
    "                            (default 4; on a GPU 2, each has its room there)\n"
    "      --queue N             requests that run or wait, at most (default 256)\n"
    "      --cache-ram GB        ceiling of the conversations kept (default: half of\n"
    "                            what is free)\n"
    "      --no-constraint       calls and JSON only as good as the model makes them\n"
    "      --drain-timeout S     at the end, let requests finish (default 30)\n"
    "\n"
    "model\n" CLI_ENGINE_HELP
    "  -c, --ctx-size N          tokens of context (default: the model's, if it fits)\n"
    "\n"
    "examples\n"
    "  tug serve\n"
    "  tug serve -m model.gguf --port 9000\n"
    "  tug serve --print-config opencode > opencode.json\n";

typedef struct serve_options {
    cli_engine_options engine;
    tug_serve_config serve;
    const char **hosts, **origins; /* owned, (argc,) */
    const char *alias, *print_config;
    double cache_gb, drain_s;
} serve_options;

static tug_status parse_port(const char *arg, uint16_t *out, tug_err *err) {
    int64_t port = 0;
    TUG_TRY(cli_parse_i64("--port", arg, 0, 65535, &port, err));
    *out = (uint16_t)port;
    return TUG_OK;
}

static tug_status parse_int(const char *flag, const char *arg, int *out, tug_err *err) {
    int64_t n = 0;
    TUG_TRY(cli_parse_i64(flag, arg, 1, 65536, &n, err));
    *out = (int)n;
    return TUG_OK;
}

static tug_status set_option(serve_options *o, int c, const char *arg, tug_err *err) {
    tug_http_config *http = &o->serve.http;
    switch (c) {
    case OPT_HOST: http->host = arg; return TUG_OK;
    case OPT_PORT: return parse_port(arg, &http->port, err);
    case OPT_UNIX: http->unix_socket = arg; return TUG_OK;
    case OPT_CERT: http->tls_cert = arg; return TUG_OK;
    case OPT_KEY: http->tls_key = arg; return TUG_OK;
    case OPT_API_KEYS: http->key_file = arg; return TUG_OK;
    case OPT_OPEN: http->allow_open = true; return TUG_OK;
    case OPT_ALLOW_HOST: o->hosts[http->n_hosts++] = arg; return TUG_OK;
    case OPT_CORS: o->origins[http->n_origins++] = arg; return TUG_OK;
    case OPT_ALIAS: o->alias = arg; return TUG_OK;
    case OPT_PARALLEL: return parse_int("--parallel", arg, &o->serve.n_sessions, err);
    case OPT_QUEUE: return parse_int("--queue", arg, &o->serve.n_queue, err);
    case OPT_CACHE_RAM:
        return cli_parse_f64("--cache-ram", arg, 0.001, 1e6, &o->cache_gb, err);
    case OPT_NO_CONSTRAINT: o->serve.constrain = false; return TUG_OK;
    case OPT_DRAIN:
        return cli_parse_f64("--drain-timeout", arg, 0, 86400, &o->drain_s, err);
    case OPT_PRINT_CONFIG: o->print_config = arg; return TUG_OK;
    case OPT_SCRIPT: o->serve.script = arg; return TUG_OK;
    default: return cli_engine_option(&o->engine, c, arg, err);
    }
}

/* The file's name without folder and ".gguf". */
static void model_id(const char *path, tug_buf *out) {
    const char *slash = strrchr(path, '/');
    const tug_str name = tug_str_of(slash ? slash + 1 : path);
    const size_t n = name.n > 5 ? name.n - 5 : name.n;
    tug_buf_append(out, name.p, n);
}

static void base_url(const serve_options *o, uint16_t port, tug_buf *out) {
    const tug_http_config *http = &o->serve.http;
    if (http->unix_socket) {
        tug_buf_printf(out, "unix:%s", http->unix_socket);
        return;
    }
    const char *host = http->host ? http->host : "127.0.0.1";
    const bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    const bool six = !any && strchr(host, ':');
    tug_buf_printf(out, "%s://%s%s%s:%u", http->tls_cert ? "https" : "http",
                   six ? "[" : "", any ? "127.0.0.1" : host, six ? "]" : "", port);
}

/* Says where we are, then waits for a signal. */
static void wait_for_end(const serve_options *o, tug_serve *server) {
    const struct timespec pause = {.tv_nsec = 100000000};
    tug_buf url = {0};
    base_url(o, tug_serve_port(server), &url);
    (void)fprintf(
        stderr,
        "tug: serving %s with %lld tokens of context on %s\n"
        "     `tug serve --print-config NAME` configures a client; Ctrl-C ends\n",
        o->serve.model_id, (long long)tug_serve_n_ctx(server), url.p ? url.p : "?");
    tug_buf_free(&url);
    while (!cli_interrupt_pending()) (void)nanosleep(&pause, NULL);
    (void)fprintf(stderr, "tug: finishing what runs (Ctrl-C again ends at once)\n");
    tug_serve_drain(server, o->drain_s);
}

static void say(void *ud, const char *sentence) {
    (void)ud;
    (void)fprintf(stderr, "tug: %s\n", sentence);
}

/* A conversation takes VRAM from experts, whoever else uses it. */
enum { GPU_SESSIONS = 2 };

/* Fewer than were asked for. */
static void say_sessions(const serve_options *o, const tug_model *m) {
    const tug_model_info i = tug_model_get_info(m);
    if (!i.gpu || i.n_sessions >= o->engine.n_sessions) return;
    (void)fprintf(stderr,
                  "tug: VRAM has room for %d of %d conversations: other requests wait; a "
                  "smaller -c or a larger --vram makes room for more\n",
                  i.n_sessions, o->engine.n_sessions);
}

static tug_status serve(serve_options *o, tug_err *err) {
    cli_model m = {0};
    tug_serve *server = NULL;
    o->engine.model = o->serve.model_path;
    o->engine.n_sessions = o->serve.n_sessions > 0 ? o->serve.n_sessions : GPU_SESSIONS;
    o->engine.session_bytes = (uint64_t)(o->cache_gb * 1e9);
    TUG_TRY(cli_model_open(&m, &o->engine, err));
    say_sessions(o, m.model);
    o->serve.model = m.model;
    o->serve.n_ctx = o->engine.n_ctx;
    o->serve.n_batch = o->engine.n_batch;
    o->serve.kv_type = o->engine.kv_type;
    o->serve.cache_bytes = (uint64_t)(o->cache_gb * 1e9);
    const tug_model_params reload = cli_model_params(&o->engine);
    o->serve.reload = &reload;
    o->serve.say = say;
    const tug_status status = tug_serve_start(&server, &o->serve, err);
    if (status == TUG_OK) wait_for_end(o, server);
    tug_serve_stop(&server);
    cli_model_close(&m);
    return status;
}

/* What the file says, without loading it: the server may offer less when memory is short. */
static tug_status file_context(const char *path, int64_t *n_ctx, tug_err *err) {
    tug_gguf *g = NULL;
    uint32_t n = 0;
    TUG_TRY(tug_gguf_open(&g, path, err));
    const tug_status status =
        tug_gguf_get_u32(g, "qwen3next.context_length", &n, NULL, err);
    tug_gguf_close(&g);
    *n_ctx = n;
    return status;
}

static tug_status print_config(serve_options *o, tug_err *err) {
    tug_buf url = {0}, out = {0};
    if (o->engine.n_ctx == 0) {
        TUG_TRY(file_context(o->serve.model_path, &o->engine.n_ctx, err));
    }
    base_url(o, o->serve.http.port, &url);
    tug_status status =
        cli_client_config(o->print_config, url.p ? url.p : "", o->serve.model_id,
                          o->engine.n_ctx, o->serve.http.key_file != NULL, &out, err);
    if (status == TUG_OK) {
        (void)fwrite(out.p, 1, out.n, stdout);
        status = cli_flush(err);
    }
    tug_buf_free(&url);
    tug_buf_free(&out);
    return status;
}

static tug_status run(serve_options *o, tug_err *err) {
    tug_buf path = {0}, id = {0};
    tug_status status = TUG_OK;
    if (o->engine.model) {
        tug_buf_text(&path, o->engine.model);
    } else {
        status = cli_find_model(&path, err);
    }
    if (status == TUG_OK) status = tug_buf_ok(&path, err);
    if (status == TUG_OK) {
        model_id(path.p, &id);
        status = tug_buf_ok(&id, err);
    }
    if (status == TUG_OK) {
        o->serve.model_path = path.p;
        o->serve.model_id = o->alias ? o->alias : id.p;
        status = o->print_config ? print_config(o, err) : serve(o, err);
    }
    tug_buf_free(&path);
    tug_buf_free(&id);
    return status;
}

static int parse_and_run(serve_options *o, int argc, char **argv) {
    tug_err err;
    for (int c; (c = cli_getopt(argc, argv, short_options, long_options)) != -1;) {
        if (c == 'h') {
            (void)fputs(help, stdout);
            return cli_flush(&err) == TUG_OK ? CLI_OK : cli_fail(&err);
        }
        if (c == '?' || c == ':') return cli_getopt_failed("serve", c, argv);
        if (set_option(o, c, optarg, &err) != TUG_OK)
            return cli_usage("serve", "%s", err.msg);
    }
    if (optind < argc) {
        return cli_usage("serve", "'%s' is no option; a model goes after -m",
                         argv[optind]);
    }
    if (!o->serve.http.tls_cert != !o->serve.http.tls_key) {
        return cli_usage("serve", "--tls-cert and --tls-key go together");
    }
    cli_interrupt_install();
    cli_interrupt_by_term();
    return run(o, &err) == TUG_OK ? CLI_OK : cli_fail(&err);
}

int cmd_serve(int argc, char **argv) {
    serve_options o = {
        .serve = {.version = CLI_VERSION, .constrain = true, .http = {.port = 8080}},
        .hosts = tug_alloc_array((size_t)argc, sizeof *o.hosts),
        .origins = tug_alloc_array((size_t)argc, sizeof *o.origins),
        .drain_s = 30.0,
    };
    tug_err err;
    int code;
    if (o.hosts && o.origins) {
        o.serve.http.allowed_hosts = o.hosts;
        o.serve.http.cors_origins = o.origins;
        code = parse_and_run(&o, argc, argv);
    } else {
        (void)TUG_FAIL(&err, TUG_ENOMEM, "out of memory for the command line");
        code = cli_fail(&err);
    }
    tug_free((void *)o.hosts);
    tug_free((void *)o.origins);
    return code;
}
