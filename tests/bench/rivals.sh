#!/usr/bin/env bash
# usage: rivals.sh [--build]
# The other servers that ublkit is measured beside. Prints a line for each: `NAME PATH`, or
# `NAME - WHY` for one that is not there. With --build, fetches and builds what is missing, into
# target/bench/rivals; as root on Debian it installs what they need, too.
set -euo pipefail
here=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd -P -- "$here/../.." && pwd)
rivals=$repo/target/bench/rivals
export CARGO_TARGET_DIR=$rivals/target
jobs=${JOBS:-$(nproc)}

say() { printf 'rivals.sh: %s\n' "$*" >&2; }

# Headers and libraries that they are built with.
needs=(liburing-dev libclang-dev clang)

install_needs() {
  local missing=() package
  for package in "${needs[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  ((${#missing[@]} == 0)) && return
  if ((EUID != 0)); then
    echo "needs packages: sudo apt-get install -y --no-install-recommends ${missing[*]}"
    return 1
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" \
    >"$rivals/apt.log" 2>&1 || { echo "${missing[*]} could not be installed; see $rivals/apt.log"; return 1; }
}

# rublk, from the crate registry, without its parts for graphics memory.
build_rublk() {
  cargo install --quiet --locked --jobs "$jobs" --root "$rivals" --no-default-features rublk
}

# libublk's examples: its crate, fetched as the dependency of an empty one, and built apart.
build_libublk() {
  local fetch=$rivals/fetch source=$rivals/libublk manifest
  mkdir -p "$fetch/src"
  : >"$fetch/src/lib.rs"
  printf '[package]\nname = "fetch"\nversion = "0.0.0"\n[dependencies]\nlibublk = "*"\n[workspace]\n' >"$fetch/Cargo.toml"
  manifest=$(cd "$fetch" && cargo metadata --quiet --format-version 1 |
    grep -oE '"manifest_path":"[^"]*/libublk-[0-9][^"]*"' | head -n 1 | cut -d'"' -f4)
  rm -rf -- "$source"
  cp -r -- "$(dirname -- "$manifest")" "$source"
  printf '\n[workspace]\n' >>"$source/Cargo.toml"
  (cd "$source" && cargo build --quiet --release --jobs "$jobs" --example null --example ramdisk)
  cp -- "$CARGO_TARGET_DIR"/release/examples/null "$rivals/bin/libublk-null"
  cp -- "$CARGO_TARGET_DIR"/release/examples/ramdisk "$rivals/bin/libublk-ramdisk"
}

# The kernel's own selftest server, from Debian's source package of the newest kernel.
build_kublk() {
  local source=$rivals/linux
  if ! [[ -d $source/tools/testing/selftests/ublk ]]; then
    "$here/../vm/kernels.sh" --source newest "$source" tools/testing/selftests/ublk \
      tools/testing/selftests/lib.mk include/uapi tools/include
  fi
  make --quiet --no-print-directory -C "$source/tools/testing/selftests/ublk" -j"$jobs"
}
