#!/usr/bin/env bash
# usage: kernels.sh [--update] WHICH...
#        kernels.sh --list
# WHICH is `newest`, a series such as 6.12 or a release such as 6.18.5. Fetches
# Debian's newest kernel of that name for amd64 and prints `VERSION VMLINUZ_PATH`,
# one line per kernel. Answers from the cache when it can; --update asks the
# archive again. --list prints the series that can be had, oldest first.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

# What the tests load. The cloud flavour is a third of the size but has no 9p,
# which carries the guest's root.
modules=(ublk_drv null_blk brd loop xfs ext4 9p 9pnet_virtio overlay)
# Kernels older than 6.12 have no ublk_drv in Debian; experimental has release
# candidates, under names that are not looked for.
suites=${UBLKIT_VM_SUITES:-trixie trixie-backports bookworm-backports sid}

usage() { die 2 "usage: kernels.sh [--update] newest|MAJOR.MINOR[.PATCH]..., or kernels.sh --list"; }

image_of() { printf '%s\n' "$kernels/$1/boot/vmlinuz-$1"; } # RELEASE

whole() { # RELEASE
  [[ -r $(image_of "$1") && -r $kernels/$1/lib/modules/$1/modules.dep ]]
}

cached() { # WHICH
  local release
  [[ -r $kernels/stamp-$1 ]] || return 1
  release=$(<"$kernels/stamp-$1")
  whole "$release" || return 1
  printf '%s %s\n' "$release" "$(image_of "$release")"
}

# An apt of our own, so that neither root nor the machine's package state is
# needed.
private_apt() {
  local mirror suite
  apt_dir=$cache_dir/apt
  apt_opts=(-o Dir::Etc::sourcelist="$apt_dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$apt_dir/lists" -o Dir::Cache="$apt_dir/cache"
    -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Sandbox::User="$(id -un)"
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::Retries=3 -o Acquire::http::Timeout=30 -o APT::Update::Error-Mode=any -qq)
  if ((apt_ready)); then return; fi
  command -v apt-get >/dev/null || die 1 "kernels are fetched with apt-get, which is not here; give boot.sh a kernel of your own"
  mirror=$(debian_mirror) ||
    die 1 "this machine's package sources name no Debian archive; set UBLKIT_VM_MIRROR to the URL of one"
  mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial"
  for suite in $suites; do
    echo "deb [arch=amd64$(signed_by)] $mirror $suite main"
  done >"$apt_dir/sources.list"
  apt-get "${apt_opts[@]}" update >"$apt_dir/update.log" 2>&1 ||
    say "not every suite of the Debian archive could be read: $(grep -m1 '^[EW]:' "$apt_dir/update.log" || echo 'no reason given')"
  names=$(apt-cache "${apt_opts[@]}" pkgnames linux- | sort -u)
  apt_ready=1
}

# Kernel releases of that name, newest first; -rt and -cloud do not match.
releases() { # WHICH
  local release version='[0-9]+\.[0-9]+'
  [[ $1 == newest ]] || version=${1//./\\.}
  sed -nE "s/^linux-(image|binary)-($version(\.[0-9]+)?[+-][0-9a-z.+]*-amd64)\$/\2/p" <<<"$names" |
    sort -uVr | while read -r release; do
    # Backports goes on listing older images, but not the modules of those whose
    # packages are split.
    if ! named "linux-binary-$release" || named "linux-modules-$release"; then echo "$release"; fi
  done
}

named() { grep -qxF -- "$1" <<<"$names"; } # PACKAGE

unpack() { # RELEASE: into $kernels/RELEASE, by rename
  local release=$1 tmp packages=() p image deb m
  for p in "linux-binary-$release" "linux-modules-$release" "linux-base-$release"; do
    # Split since 6.19; the base package carries modules.builtin.
    if named "$p"; then packages+=("$p"); fi
  done
  named "linux-binary-$release" || packages=("linux-image-$release")
  tmp=$(mktemp -d "$kernels/.new.XXXXXX")
  say "fetching ${packages[*]}"
  if ! (cd "$tmp" && apt-get "${apt_opts[@]}" download "${packages[@]}" >log 2>&1); then
    say "the Debian archive did not give ${packages[*]}: $(grep -m1 '^E:' "$tmp/log" || echo 'no reason given')"
    rm -rf -- "$tmp"
    return 1
  fi
  mkdir "$tmp/x" "$tmp/k" "$tmp/k/boot" "$tmp/k/lib"
  for deb in "$tmp"/*.deb; do
    dpkg-deb -x "$deb" "$tmp/x" || return 1
  done
  # One layout for both kinds of package: boot/vmlinuz-*, lib/modules/*.
  for image in "$tmp/x/boot/vmlinuz-$release" "$tmp/x/usr/lib/modules/$release/vmlinuz"; do
    if [[ -f $image ]]; then cp -L -- "$image" "$tmp/k/boot/vmlinuz-$release"; fi
  done
  for p in "$tmp/x/usr/lib/modules" "$tmp/x/lib/modules"; do
    if [[ -d $p/$release/kernel ]]; then mv -- "$p" "$tmp/k/lib/modules"; fi
  done
  for p in "$tmp/x/boot/config-$release" "$tmp/k/lib/modules/$release/config"; do
    if [[ -f $p ]]; then cp -- "$p" "$tmp/k/boot/config-$release"; fi
  done
  rm -f -- "$tmp/k/lib/modules/$release"/{vmlinuz,build,source}
  if ! [[ -f $tmp/k/boot/vmlinuz-$release ]] || ! depmod -b "$tmp/k" "$release"; then
    say "the packages of $release hold no complete kernel"
    rm -rf -- "$tmp"
    return 1
  fi
  for m in "${modules[@]}"; do
    if ! grep -qE "(^|/)$m\.ko" "$tmp/k/lib/modules/$release"/modules.{dep,builtin}; then
      say "kernel $release has no $m"
      rm -rf -- "$tmp"
      return 1
    fi
  done
  rm -rf -- "${kernels:?}/$release"
  mv -- "$tmp/k" "$kernels/$release"
  rm -rf -- "$tmp"
}

fetch() { # WHICH
  local which=$1 candidates release
  private_apt
  mapfile -t candidates < <(releases "$which")
  ((${#candidates[@]})) ||
    die 1 "kernel $which cannot be had: what could be read of ${suites// /, } has none"
  # An older upload may leave the archive while an index still names it.
  for release in "${candidates[@]:0:3}"; do
    if whole "$release" || unpack "$release"; then
      echo "$release" >"$kernels/.stamp.$$"
      mv -- "$kernels/.stamp.$$" "$kernels/stamp-$which"
      return
    fi
  done
  die 1 "kernel $which cannot be had: none of ${candidates[*]:0:3} could be fetched whole"
}

# After an update: kernels that no stamp names, unless a guest runs, which loads
# its modules from there.
prune() {
  local dir used
  exec 8>"$cache_dir/boot.lock"
  flock -n 8 || return 0
  used=$(cat "$kernels"/stamp-*)
  for dir in "$kernels"/*/; do
    dir=${dir%/}
    grep -qxF -- "${dir##*/}" <<<"$used" || rm -rf -- "$dir"
  done
}

update=0 list=0
case ${1:-} in
  --update) update=1; shift ;;
  --list) list=1; shift ;;
esac
(($# > 0 && !list || $# == 0 && list)) || usage
for which in "$@"; do
  [[ $which == newest || $which =~ ^[0-9]+\.[0-9]+(\.[0-9]+)?$ ]] || usage
done
open_cache
kernels=$cache_dir/kernels
mkdir -p "$kernels"
apt_ready=0 names='' apt_dir='' apt_opts=()
exec 9>"$kernels/lock"
if ((list)); then
  flock 9
  private_apt
  releases newest | cut -d. -f1,2 | sort -uV
  exit
fi
for which in "$@"; do
  if ((!update)) && cached "$which"; then continue; fi
  flock 9
  # Another caller may have fetched it while this one waited.
  if ((!update)) && cached "$which"; then continue; fi
  command -v depmod >/dev/null || die 1 "depmod is missing; run tests/vm/prepare.sh"
  # Left by a caller that was interrupted.
  rm -rf -- "$kernels"/.new.*
  fetch "$which"
  cached "$which"
done
((!update)) || prune
