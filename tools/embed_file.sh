#!/bin/sh
# Turn a file into C, so that the program needs it no more at run time: a function that
# returns its bytes.
#
#   tools/embed_file.sh FILE HEADER FUNCTION > data.c
set -eu
cat <<END
/* From $1 by tools/embed_file.sh. */
#include "$2"

static const unsigned char bytes[] = {
END
od -An -v -tu1 "$1" | sed 's/[0-9][0-9]*/&,/g'
cat <<END
};

tug_str $3(void) {
    return tug_str_make((const char *)bytes, sizeof bytes);
}
END
