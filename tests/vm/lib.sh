# shellcheck shell=bash
# Shared by the scripts of this folder; sourced, never run.

vm_dir=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
repo_dir=$(cd -P -- "$vm_dir/../.." && pwd)
cache_dir=${UBLKIT_VM_CACHE:-$repo_dir/target/vm}
# sbin is not on every user's PATH, and depmod and mkfs live there.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() { # CODE SENTENCE
  local code=$1
  shift
  say "$*"
  exit "$code"
}

open_cache() {
  mkdir -p -- "$cache_dir" || die 1 "cannot create the cache folder $cache_dir"
  cache_dir=$(cd -P -- "$cache_dir" && pwd)
  # vng hands these paths through a shell unquoted.
  case $cache_dir$repo_dir in
    *[!A-Za-z0-9._/+@,=-]*)
      die 1 "the repository and UBLKIT_VM_CACHE must not have blanks or shell characters in their paths" ;;
  esac
}

# URI of the Debian archive this machine installs from, whatever form its
# sources have: apt itself is asked, with an empty lists folder, so it answers
# from the sources alone.
debian_mirror() {
  local empty uri
  if [[ -n ${UBLKIT_VM_MIRROR:-} ]]; then
    printf '%s\n' "$UBLKIT_VM_MIRROR"
    return
  fi
  empty=$(mktemp -d)
  mkdir "$empty/partial"
  # shellcheck disable=SC2016
  uri=$(apt-get indextargets -o Dir::State::lists="$empty" --no-release-info \
    --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk '$3 == "main" && $1 !~ /security/ &&
         $2 ~ /^(bullseye|bookworm|trixie|forky|sid|stable|oldstable|testing|unstable)(-backports|-updates)?$/ {
           print $1; exit }')
  rm -rf -- "$empty"
  [[ -n $uri ]] || return 1
  printf '%s\n' "$uri"
}

# The archive's key ring, where the machine has it as a file.
signed_by() {
  local ring
  for ring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
    if [[ -r $ring ]]; then
      printf ' signed-by=%s' "$ring"
      return
    fi
  done
}
