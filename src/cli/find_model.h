/* find_model.h - the model to use when none was named.  SPDX-License-Identifier: MIT */
#ifndef TUG_CLI_FIND_MODEL_H
#define TUG_CLI_FIND_MODEL_H

#include "base/str.h"

/* The path of the newest *.gguf in ~/.local/share/tug/models (or $XDG_DATA_HOME/tug/models),
 * else in models/ of the source tree this program was built in. */
TUG_NODISCARD tug_status cli_find_model(tug_buf *path, tug_err *err);

#endif
