/* outfile.h - a result that becomes a file at the end of long work.
 * SPDX-License-Identifier: MIT */
#ifndef TUG_BASE_OUTFILE_H
#define TUG_BASE_OUTFILE_H

#include "base/str.h"

/* Can `path` be written?  Asked before the work; leaves a file that is there as it is, and
 * none that was not. */
TUG_NODISCARD tug_status tug_outfile_check(const char *path, tug_err *err);

/* Writes all of `bytes`, replacing what was there.  A file that cannot be written completely
 * is removed. */
TUG_NODISCARD tug_status tug_outfile_write(const char *path, tug_str bytes, tug_err *err);

#endif
