#!/usr/bin/env bash
# Says what a C compiler makes of the kernel's headers, as sorted lines:
#   const NAME VALUE                  every macro without arguments, and every enumerator, as an
#                                     unsigned decimal of 64 bits
#   declared NAME                     every struct that the headers declare
#   struct NAME SIZE                  the structs of witness.c
#   field STRUCT.FIELD OFFSET SIZE
# Use: generate.sh [--older] INCLUDE_DIR [VERSION] >FILE
#   --older: leave out lines of witness.c that these headers know nothing about
set -euo pipefail
export LC_ALL=C

older=no
if [ "${1-}" = --older ]; then older=yes; shift; fi
if [ $# -lt 1 ] || [ ! -r "$1/linux/ublk_cmd.h" ]; then
    echo "use: generate.sh [--older] INCLUDE_DIR [VERSION], with linux/ublk_cmd.h in it" >&2
    exit 2
fi
include=$1
version=${2-unknown}
here=$(cd "$(dirname "$0")" && pwd)
cc=${CC:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Names that HEADER itself defines, as "macro NAME", "enum NAME" or "struct NAME": the preprocessor
# drops comments and says with line markers whose text follows. Function-like macros and macros
# without a value (include guards) are not constants.
names() {
    printf '#include <%s>\n' "$1" | "$cc" -E -dD -I"$include" -x c - | awk -v header="/$1" '
        /^# [0-9]+ "/ {
            file = $3; gsub(/"/, "", file)
            ours = substr(file, length(file) - length(header) + 1) == header
            next
        }
        !ours { next }
        /^#define / { if ($2 !~ /\(/ && NF > 2) print "macro", $2; next }
        /^#/ { next }
        /^struct [a-z_0-9]+ *\{/ { name = $2; sub(/\{.*/, "", name); print "struct", name }
        /^ *enum( [a-z_0-9]+)? *\{/ { inside = 1; sub(/^[^{]*\{/, "") }
        inside {
            last = /\}/
            sub(/\}.*/, "")
            count = split($0, parts, ",")
            for (i = 1; i <= count; i++)
                if (match(parts[i], /^[ \t]*[A-Za-z_][A-Za-z_0-9]*/)) {
                    name = substr(parts[i], RSTART, RLENGTH)
                    gsub(/[ \t]/, "", name)
                    print "enum", name
                }
            if (last) inside = 0
        }'
}

headers="linux/ublk_cmd.h linux/io_uring.h linux/io_uring/query.h linux/blkzoned.h \
    linux/blkdev.h"
for header in $headers; do
    [ -r "$include/$header" ] || continue
    names "$header"
done >"$work/names"
names linux/fs.h | grep ' LBMD_PI_' >>"$work/names" || true

{
    printf '#include <errno.h>\n#include <stdio.h>\n'
    for header in linux/fs.h $headers; do
        [ ! -r "$include/$header" ] || printf '#include <%s>\n' "$header"
    done
    printf '#define P(name) printf("const %%s %%llu\\n", #name, (unsigned long long)(name))\n'
    printf 'int main(void)\n{\n'
    awk '$1 != "struct" { print "P(" $2 ");" }' "$work/names" | sort -u
    printf 'return 0;\n}\n'
} >"$work/constants.c"
"$cc" -I"$include" -o "$work/constants" "$work/constants.c"

cp "$here/witness.c" "$work/witness.c"
if [ $older = yes ]; then
    # Each line of the table is a statement of its own: remove those that do not compile.
    "$cc" -fmax-errors=0 -ftrack-macro-expansion=0 -fsyntax-only -I"$include" \
        "$work/witness.c" 2>"$work/errors" || true
    lines=$(sed -n 's/.*witness\.c:\([0-9]*\):[0-9]*: error:.*/\1/p' "$work/errors" | sort -un)
    for line in $lines; do
        printf '%s{/^\t[A-Z]*(/!q3;d}\n' "$line"
    done >"$work/remove"
    sed -i -f "$work/remove" "$work/witness.c"
fi
"$cc" -I"$include" -o "$work/structs" "$work/witness.c"

echo "# linux-libc-dev $version"
{
    "$work/constants"
    "$work/structs"
    awk '$1 == "struct" { print "declared", $2 }' "$work/names"
} | sort -u
