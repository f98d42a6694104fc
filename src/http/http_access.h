/* http_access.h - who may talk to us: Host, Origin, key.
 *
 * OWNS  the lists of names, pages and keys, made once at the start, then only read.
 *
 * A page of the web runs in a browser on this machine and so reaches loopback addresses.
 * Two checks keep it out.  Host: a name that an attacker pointed at us (DNS rebinding) is
 * not on the list.  Origin and Sec-Fetch-Site: a page of another site says what it is.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_HTTP_ACCESS_H
#define TUG_HTTP_ACCESS_H

#include "http/http.h"
#include "http/http_authority.h"
#include "http/http_keys.h"

typedef struct tug_origin {
    tug_authority who;
    bool is_https;
} tug_origin;

typedef struct tug_access {
    tug_authority *hosts; /* owned, (n_hosts,) */
    size_t n_hosts;
    tug_origin *origins; /* owned, (n_origins,) */
    size_t n_origins;
    bool any_origin; /* "*" was configured */
    tug_keys keys;
    bool has_keys;
    bool is_tls;
} tug_access;

/* Copies what it needs of the config; refuses names and origins that are none.
 * Zero-initialise *out; tug_access_free is always safe. */
TUG_NODISCARD tug_status tug_access_make(tug_access *out, const tug_http_config *config,
                                         tug_err *err);
void tug_access_free(tug_access *access);

/* Is `host` a name of this server?  `local` is the address at which the connection came in,
 * as text, or NULL (a unix socket). */
bool tug_access_host(const tug_access *access, const tug_authority *host,
                     const char *local);

/* May a page of `origin` call us?  `host`: the checked Host of the same request; a page
 * that we served ourselves has it as its origin. */
bool tug_access_origin(const tug_access *access, tug_str origin,
                       const tug_authority *host);

/* Is it configured, so that answers carry CORS headers? */
bool tug_access_is_cors(const tug_access *access, tug_str origin);

/* The key in `Authorization: Bearer K` or `x-api-key: K`; -1: neither is one of ours. */
int tug_access_key(const tug_access *access, tug_str authorization, tug_str x_api_key);

#endif
