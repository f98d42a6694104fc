/* http_authority.h - a host with a port, and an origin, as they stand in headers.
 *
 * Everything fails closed: what is not exactly of the form is refused.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_HTTP_AUTHORITY_H
#define TUG_HTTP_AUTHORITY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum { TUG_HOST_MAX = 255 };

typedef struct tug_authority {
    char host[TUG_HOST_MAX + 1]; /* lower case, no trailing dot; an address without [] */
    bool is_v6;                  /* stood in brackets */
    int port;                    /* 1..65535; 0: none was given */
} tug_authority;

/* "name", "name.:80", "127.0.0.1:80", "[::1]:80". */
bool tug_authority_parse(tug_str text, tug_authority *out);

/* "http://name:80"; nothing may follow.  *is_https says which scheme. */
bool tug_origin_parse(tug_str text, tug_authority *out, bool *is_https);

/* The same host and, with a missing port read as `default_port`, the same port. */
bool tug_authority_eq(const tug_authority *a, const tug_authority *b, int default_port);

/* An address of the machine itself: 127.0.0.0/8, ::1. */
bool tug_authority_is_loopback(const tug_authority *a);

/* Do the two texts name one address?  "::ffff:1.2.3.4" is 1.2.3.4.  False for names. */
bool tug_address_eq(const char *a, const char *b);

#endif
