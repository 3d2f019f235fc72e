#!/usr/bin/env bash
# Fetches linux-libc-dev from Debian, without touching the machine's own package state, and unpacks
# it into DEST. Prints two lines: the include directory, and the package's upstream version.
# Use: fetch.sh DEST [SUITE [PACKAGE...]]
# (SUITE: trixie-backports, the newest headers that Debian offers; PACKAGE: others instead)
# The mirror is the one that this machine's apt uses, or $UBLKIT_MIRROR.
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "use: fetch.sh DEST [SUITE [PACKAGE...]]" >&2
    exit 2
fi
for tool in apt-get apt-cache dpkg dpkg-deb; do
    if ! command -v "$tool" >/dev/null; then
        echo "fetch.sh needs $tool, which Debian and its like have; elsewhere unpack Debian's" \
            "linux-libc-dev by hand and give generate.sh its usr/include" >&2
        exit 2
    fi
done
mkdir -p "$1"
dest=$(cd "$1" && pwd)
suite=${2-trixie-backports}
packages=("${@:3}")
[ ${#packages[@]} -gt 0 ] || packages=(linux-libc-dev)

# The first Debian mirror in a one-line (deb [options] URI suite) or a deb822 (URIs: URI) file; not
# the archives beside it (security, debug) and not other people's repositories.
mirror() {
    local files=()
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources; do
        [ ! -r "$file" ] || files+=("$file")
    done
    [ ${#files[@]} -gt 0 ] || return 0
    awk '
        /^[ \t]*#/ { next }
        /^deb(-src)?[ \t]/ { sub(/^deb(-src)?[ \t]+(\[[^]]*\][ \t]*)?/, ""); print $1 }
        /^URIs:/ { for (i = 2; i <= NF; i++) print $i }
    ' "${files[@]}" | grep -E '^[a-z+]+:.*/debian/?$' | head -n 1
}
mirror=${UBLKIT_MIRROR-$(mirror || true)}
if [ -z "$mirror" ]; then
    echo "no Debian mirror in /etc/apt: name one in UBLKIT_MIRROR, with /debian at its end" >&2
    exit 2
fi

root=$dest/apt
rm -rf "$root" "$dest/unpacked"
mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/download"
key=/usr/share/keyrings/debian-archive-keyring.gpg
signed=
[ ! -r "$key" ] || signed="[signed-by=$key] "
echo "deb ${signed}$mirror $suite main" >"$root/sources.list"
options=(
    -qq
    -o "Dir::Etc::sourcelist=$root/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$root/lists" -o Dir::State::status=/dev/null
    -o "Dir::Cache=$root/cache"
)
[ "$(id -u)" != 0 ] || options+=(-o APT::Sandbox::User=root)
apt-get "${options[@]}" update >&2
(cd "$root/download" && apt-get "${options[@]}" download "${packages[@]}" >&2)
for deb in "$root"/download/*.deb; do
    dpkg -x "$deb" "$dest/unpacked"
done
deb=$(echo "$root/download/${packages[0]}"_*.deb)
version=$(dpkg-deb -f "$deb" Version)
version=${version#*:}
echo "$dest/unpacked/usr/include"
echo "${version%-*}"
