/* http_access.c - see http_access.h.  SPDX-License-Identifier: MIT */
#include "http/http_access.h"

#include <strings.h>

#include "base/sys.h"

static tug_status add_hosts(tug_access *a, const tug_http_config *c, tug_err *err) {
    a->hosts = tug_alloc_array(c->n_hosts, sizeof *a->hosts);
    if (!a->hosts) return TUG_FAIL(err, TUG_ENOMEM, "no memory for the allowed hosts");
    for (size_t i = 0; i < c->n_hosts; i++) {
        if (!tug_authority_parse(tug_str_of(c->allowed_hosts[i]),
                                 &a->hosts[a->n_hosts++])) {
            return TUG_FAIL(
                err, TUG_EUSAGE,
                "the allowed host \"%s\" is not of the form NAME or NAME:PORT",
                c->allowed_hosts[i]);
        }
    }
    return TUG_OK;
}

static tug_status add_origins(tug_access *a, const tug_http_config *c, tug_err *err) {
    a->origins = tug_alloc_array(c->n_origins, sizeof *a->origins);
    if (!a->origins) return TUG_FAIL(err, TUG_ENOMEM, "no memory for the CORS origins");
    for (size_t i = 0; i < c->n_origins; i++) {
        const tug_str text = tug_str_of(c->cors_origins[i]);
        tug_origin *const o = &a->origins[a->n_origins];
        if (tug_str_is(text, "*")) {
            a->any_origin = true;
        } else if (tug_origin_parse(text, &o->who, &o->is_https)) {
            a->n_origins++;
        } else {
            return TUG_FAIL(err, TUG_EUSAGE,
                            "the CORS origin \"%s\" is not of the form http://NAME:PORT",
                            c->cors_origins[i]);
        }
    }
    return TUG_OK;
}

tug_status tug_access_make(tug_access *out, const tug_http_config *config, tug_err *err) {
    out->is_tls = config->tls_cert != NULL;
    tug_status status = add_hosts(out, config, err);
    if (status == TUG_OK) status = add_origins(out, config, err);
    if (status == TUG_OK && config->key_file) {
        status = tug_keys_load(&out->keys, config->key_file, err);
        out->has_keys = status == TUG_OK;
    }
    if (status == TUG_OK && out->any_origin && !out->has_keys) {
        status =
            TUG_FAIL(err, TUG_EUSAGE,
                     "every page of the web may call this server (CORS origin *) and no "
                     "key is asked for; give a key file, or name the origins");
    }
    if (status != TUG_OK) tug_access_free(out);
    return status;
}

void tug_access_free(tug_access *access) {
    tug_free(access->hosts);
    tug_free(access->origins);
    tug_keys_free(&access->keys);
    *access = (tug_access){0};
}

bool tug_access_host(const tug_access *access, const tug_authority *host,
                     const char *local) {
    /* Any port: a tunnel or a container may have another one in front of ours. */
    if (!host->is_v6 && strcmp(host->host, "localhost") == 0) return true;
    if (tug_authority_is_loopback(host)) return true;
    if (local && tug_address_eq(host->host, local)) return true;
    for (size_t i = 0; i < access->n_hosts; i++) {
        const tug_authority *const allowed = &access->hosts[i];
        if (tug_authority_eq(host, allowed, allowed->port ? 0 : host->port)) return true;
    }
    return false;
}

bool tug_access_is_cors(const tug_access *access, tug_str origin) {
    tug_authority who;
    bool is_https;
    if (!tug_origin_parse(origin, &who, &is_https)) return false;
    if (access->any_origin) return true;
    for (size_t i = 0; i < access->n_origins; i++) {
        const tug_origin *const o = &access->origins[i];
        if (o->is_https == is_https &&
            tug_authority_eq(&who, &o->who, is_https ? 443 : 80)) {
            return true;
        }
    }
    return false;
}

bool tug_access_origin(const tug_access *access, tug_str origin,
                       const tug_authority *host) {
    if (tug_access_is_cors(access, origin)) return true;
    tug_authority who;
    bool is_https;
    if (!tug_origin_parse(origin, &who, &is_https)) return false;
    /* https in front of our http is a proxy that ends TLS; the reverse cannot be. */
    if (access->is_tls && !is_https) return false;
    return tug_authority_eq(&who, host, is_https ? 443 : 80);
}

static tug_str bearer(tug_str header) {
    static const char scheme[] = "bearer";
    const size_t n = sizeof scheme - 1;
    if (header.n <= n || strncasecmp(header.p, scheme, n) != 0 || header.p[n] != ' ') {
        return tug_str_make(NULL, 0);
    }
    size_t at = n;
    while (at < header.n && header.p[at] == ' ') at++;
    return tug_str_make(header.p + at, header.n - at);
}

int tug_access_key(const tug_access *access, tug_str authorization, tug_str x_api_key) {
    const int first = tug_keys_find(&access->keys, bearer(authorization));
    const int second = tug_keys_find(&access->keys, x_api_key);
    return first >= 0 ? first : second;
}
