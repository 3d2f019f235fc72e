#!/usr/bin/env bash
# usage: rivals.sh [NAME...]
# Fetches and builds the other servers that ublkit is measured beside, into target/bench/rivals:
# kublk, rublk, libublk, or those that are named. One that is there already is left alone. What
# cannot be had is said, and is missing in the tables. As root on Debian it installs what they are
# built with.
set -euo pipefail
here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd -P -- "$here/../.." && pwd)
rivals=$repo/target/bench/rivals
fetch=$repo/sys/tests/witness/fetch.sh
export CARGO_TARGET_DIR=$rivals/target
mkdir -p "$rivals/bin"

say() { printf 'rivals.sh: %s\n' "$*" >&2; }

# The compiler's library that rublk's bindings are made with, and a C compiler.
needs() {
  local missing=() package
  for package in gcc libclang-dev clang; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    say "missing: sudo apt-get install -y --no-install-recommends ${missing[*]}"
    return 1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >&2
}

# From the crate registry; without its parts for graphics memory.
rublk() {
  cargo install --quiet --locked --no-track --force --root "$rivals" --no-default-features rublk
}

# The examples of libublk: its crate, fetched as the dependency of an empty one, and built apart.
libublk() {
  local stub=$rivals/stub source=$rivals/libublk manifest
  mkdir -p "$stub/src"
  : >"$stub/src/lib.rs"
  printf '%s\n' '[package]' 'name = "stub"' 'version = "0.0.0"' 'edition = "2021"' \
    '[dependencies]' 'libublk = "*"' '[workspace]' >"$stub/Cargo.toml"
  manifest=$(cd "$stub" && cargo metadata --quiet --format-version 1 |
    grep -oE '"manifest_path":"[^"]*/libublk-[0-9][^"]*"' | head -n 1 | cut -d'"' -f4)
  rm -rf -- "$source"
  cp -r -- "$(dirname -- "$manifest")" "$source"
  printf '\n[workspace]\n' >>"$source/Cargo.toml"
  (cd "$source" && cargo build --quiet --release --example null --example ramdisk)
  cp -- "$CARGO_TARGET_DIR/release/examples/ramdisk" "$rivals/bin/libublk-ramdisk"
  cp -- "$CARGO_TARGET_DIR/release/examples/null" "$rivals/bin/libublk-null"
}

# The selftest server of the newest kernel, from Debian's source package, with that kernel's headers
# and a liburing that is new enough, which is linked in.
kublk() {
  local include uring name tar source=$rivals/linux/tools/testing/selftests/ublk
  include=$("$fetch" "$rivals/headers" trixie-backports linux-libc-dev linux-source | head -n 1)
  name=$(dpkg-deb -f "$rivals"/headers/apt/download/linux-source_*.deb Depends |
    grep -oE 'linux-source-[0-9.]+' | head -n 1)
  "$fetch" "$rivals/source" trixie-backports "$name" >/dev/null
  uring=$("$fetch" "$rivals/uring" trixie liburing-dev | head -n 1)
  tar=$rivals/source/unpacked/usr/src/$name.tar.xz
  mkdir -p "$rivals/linux"
  tar -xf "$tar" -C "$rivals/linux" --strip-components=1 --wildcards '*/selftests/ublk/*'
  rm -rf -- "$rivals/source"
  gcc -O3 -D_GNU_SOURCE -o "$rivals/bin/kublk" \
    "$source"/{kublk,null,file_backed,common,stripe,batch,fault_inject}.c \
    -isystem "$uring" -isystem "$include" -isystem "$include/x86_64-linux-gnu" \
    "$uring"/../lib/x86_64-linux-gnu/liburing.a -lpthread
}

# A process of its own for each, which its first step that fails ends.
if [[ ${1:-} == --one ]]; then
  needs
  "$2"
  exit
fi

names=("$@")
((${#names[@]})) || names=(kublk libublk rublk)
missing=0
for name in "${names[@]}"; do
  case $name in
    libublk) program=$rivals/bin/libublk-null ;;
    kublk | rublk) program=$rivals/bin/$name ;;
    *) say "there is no $name"; exit 2 ;;
  esac
  if ! [[ -x $program ]] && ! "${BASH_SOURCE[0]}" --one "$name"; then
    say "$name could not be had"
    missing=1
    continue
  fi
  echo "$name: $program"
done
exit "$missing"
