#!/usr/bin/env bash
# Compares the newest committed witness with the newest headers that Debian offers. Exit: 0 the
# same, 1 different, 2 could not be found out.
# Use: check.sh [INCLUDE_DIR VERSION]        (without: fetched into a temporary directory)
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ $# -eq 2 ]; then
    include=$1 version=$2
else
    "$here/fetch.sh" "$work" >"$work/found" || exit 2
    { read -r include; read -r version; } <"$work/found"
fi
committed=$(find "$here" -name '[0-9]*.[0-9]*.txt' | sort -V | tail -n 1)
"$here/generate.sh" "$include" "$version" >"$work/new" || exit 2

# The first line may differ: a new version of the package with the same ABI is no news.
if diff -u <(tail -n +2 "$committed") <(tail -n +2 "$work/new") >"$work/diff"; then
    echo "linux-libc-dev $version says the same as $(basename "$committed")"
    exit 0
fi
cat "$work/diff"
minor=$(echo "$version" | cut -d. -f1,2)
echo "The headers of $version differ: write the differences into sys/src, get the headers with" \
    "'fetch.sh DEST', and commit what 'generate.sh INCLUDE_DIR $version' prints as" \
    "sys/tests/witness/$minor.txt." >&2
exit 1
