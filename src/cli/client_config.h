/* client_config.h - the configuration that a coding agent needs to use this server, as
 * `tug serve --print-config CLIENT` prints it.
 *
 * A client is a row of a table: a text with places for the address, the model and so on.
 * Which of them have been run is said in docs/agents.md.  SPDX-License-Identifier: MIT */
#ifndef TUG_SERVE_CLIENT_CONFIG_H
#define TUG_SERVE_CLIENT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

typedef struct tug_client_config {
    tug_str url;   /* "http://127.0.0.1:8080", without /v1 */
    tug_str model; /* the id that /v1/models names */
    int64_t n_ctx; /* tokens of a session */
    bool has_key;  /* the server asks for one; clients find it in TUG_API_KEY */
} tug_client_config;

/* Appends the text, whose first line is a comment that says where it goes.  An unknown
 * client is TUG_EUSAGE with the names of those that are known; TUG_ERANGE when url or model
 * hold what no configuration can carry. */
TUG_NODISCARD tug_status tug_client_config_write(const char *client,
                                                 const tug_client_config *config,
                                                 tug_buf *out, tug_err *err);

/* "opencode, claude-code, ...": for sentences and --help. */
TUG_NODISCARD tug_status tug_client_config_names(tug_buf *out, tug_err *err);

#endif
