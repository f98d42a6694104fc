#!/bin/sh
# Turn the page of `tug serve` into C: its bytes, and the content security policy that names
# the hash of its one script and its one style.
#
#   tools/embed_page.sh src/serve/page/index.html > page_data.c
set -eu
page=$1

# What a browser hashes: everything between the tags, the first and last newline included.
hash_of() {
    [ "$(grep -c "^<$1>\$" "$page")" = 1 ] && [ "$(grep -c "<$1" "$page")" = 1 ] || {
        echo "$page: there must be one <$1>, alone on its line" >&2
        exit 1
    }
    digits=$({ echo; sed -n "/^<$1>\$/,/^<\/$1>\$/p" "$page" | sed '1d;$d'; } | sha256sum)
    # printf knows octal escapes everywhere, hexadecimal ones not
    octal=$(echo "${digits%% *}" | awk '{
        hex = "0123456789abcdef"
        for (i = 1; i < length($0); i += 2)
            printf "\\0%03o", 16 * (index(hex, substr($0, i, 1)) - 1) + index(hex, substr($0, i + 1, 1)) - 1
    }')
    printf '%b' "$octal" | base64
}

script=$(hash_of script)
style=$(hash_of style)
cat <<END
/* From $page by tools/embed_page.sh. */
#include "serve/page.h"

static const unsigned char page[] = {
END
od -An -v -tu1 "$page" | sed 's/[0-9][0-9]*/&,/g'
cat <<END
};

tug_str tug_page_html(void) {
    return tug_str_make((const char *)page, sizeof page);
}

tug_str tug_page_policy(void) {
    return tug_str_of("default-src 'none'; script-src 'sha256-$script'; "
                      "style-src 'sha256-$style'; connect-src 'self'; img-src data:; "
                      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
}
END
