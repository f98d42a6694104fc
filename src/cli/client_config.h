/* client_config.h - the configuration that a coding agent needs to use this server, as
 * `tug serve --print-config CLIENT` prints it.
 *
 * A client is a row of a table: a text with places for the address, the model and so on.
 * Which of them have been run is said in docs/agents.md.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_CLIENT_CONFIG_H
#define TUG_CLI_CLIENT_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"

/* Appends the text, whose first line is a comment that says where it goes.  `url` is without
 * /v1; `n_ctx` the tokens of a session.  With has_key, clients find the key in TUG_API_KEY.  An unknown
 * client is TUG_EUSAGE with the names of those that are known; TUG_ERANGE when url or model
 * hold what no configuration can carry, or n_ctx is too small for any answer. */
TUG_NODISCARD tug_status cli_client_config(const char *client, const char *url,
                                           const char *model, int64_t n_ctx, bool has_key,
                                           tug_buf *out, tug_err *err);

/* "opencode, claude-code, ...": for sentences and --help. */
TUG_NODISCARD tug_status cli_client_names(tug_buf *out, tug_err *err);

#endif
