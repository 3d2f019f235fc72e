#!/usr/bin/env bash
# Makes sure that the tools for tests in a virtual machine exist.
# Exit 0: all there. Exit 3: something is missing, the command is printed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

vng_version=1.42

has() { command -v "$1" >/dev/null 2>&1; }

missing_packages() {
  has qemu-system-x86_64 || echo qemu-system-x86
  { has depmod && has modprobe; } || echo kmod
  has fio || echo fio
  has strace || echo strace
  has mkfs.ext4 || echo e2fsprogs
  has mkfs.xfs || echo xfsprogs
  # vng builds its initramfs from a static busybox and asks file(1) for the
  # version of a kernel image.
  { has busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1; } || echo busybox-static
  has file || echo file
  has ip || echo iproute2
  has xz || echo xz-utils
  [[ -x /usr/lib/systemd/systemd ]] || echo systemd
  has dpkg-deb || echo dpkg
  venv_ok || venv_python >/dev/null || printf '%s\n' python3 python3-venv
}

# A python that can make a virtual environment with pip in it; Debian's own
# cannot without python3-venv.
venv_python() {
  local p
  for p in python3 /usr/bin/python3; do
    if has "$p" && "$p" -c 'import venv, ensurepip' >/dev/null 2>&1; then
      printf '%s\n' "$p"
      return
    fi
  done
  return 1
}

# The stamp names the folder: a virtual environment that was moved is broken.
venv_ok() {
  [[ -x $cache_dir/venv/bin/python && -r $cache_dir/venv/stamp-$vng_version &&
    $(<"$cache_dir/venv/stamp-$vng_version") == "$cache_dir/venv" ]]
}

make_venv() {
  local python new=$cache_dir/venv
  python=$(venv_python) || die 3 "no python3 here can make a virtual environment (package python3-venv)"
  # Built in place (a virtual environment cannot be moved); the stamp comes
  # last, so half of one is never taken for whole.
  rm -rf -- "$new"
  "$python" -m venv "$new" >&2
  "$new/bin/python" -m pip install --quiet --disable-pip-version-check \
    "virtme-ng==$vng_version" >&2 ||
    die 1 "virtme-ng $vng_version could not be installed from PyPI"
  echo "$new" >"$new/stamp-$vng_version"
}

# Debian 12's QEMU 7.2 crashes one guest in twenty while the kernel patches its
# own code; the one in its backports does not.
want_backport() {
  local id='' codename=''
  # shellcheck disable=SC1091
  { id=$(. /etc/os-release && echo "${ID:-}"); codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}"); } 2>/dev/null
  [[ $id == debian && $codename == bookworm ]]
}

apt_lists() { # sets apt_opts and backports
  local apt_dir=$cache_dir/apt-host mirror
  export DEBIAN_FRONTEND=noninteractive
  # The lists are private: the machine's own stay as they are, and the
  # backports source does not outlive this script.
  rm -rf -- "$apt_dir"
  mkdir -p "$apt_dir/parts" "$apt_dir/lists/partial"
  trap 'rm -rf -- "$cache_dir/apt-host"' EXIT
  cp -L /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources "$apt_dir/parts/" 2>/dev/null || true
  backports=''
  if want_backport && mirror=$(debian_mirror); then
    backports=bookworm-backports
    echo "deb [arch=amd64$(signed_by)] $mirror $backports main" >"$apt_dir/parts/ublkit-backports.list"
  fi
  apt_opts=(-o Dir::Etc::sourceparts="$apt_dir/parts" -o Dir::State::lists="$apt_dir/lists"
    -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root
    -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 -qq)
  # A source that fails (a foreign one, say) need not be one that is needed.
  apt-get "${apt_opts[@]}" update >"$log" 2>&1 || say "some package sources could not be read; going on with the others"
}

apt_install() { # PACKAGE...
  local p rest=() qemu=0 inst=(apt-get "${apt_opts[@]}" install -y --no-install-recommends)
  for p in "$@"; do
    if [[ $p == qemu-system-x86 ]]; then qemu=1; else rest+=("$p"); fi
  done
  if ((qemu)); then
    if [[ -n $backports ]] && "${inst[@]}" -t "$backports" qemu-system-x86 >>"$log" 2>&1; then
      :
    else
      [[ -z $backports ]] || say "no QEMU from $backports; taking the stock one, which crashes a guest now and then"
      rest+=(qemu-system-x86)
    fi
  fi
  ((${#rest[@]} == 0)) || "${inst[@]}" "${rest[@]}" >>"$log" 2>&1
}

# udev, for the case that needs it: unpacked, not installed, or every guest would run it.
udev_ok() { [[ -x $cache_dir/udevadm ]]; }

fetch_udev() {
  local tmp
  has apt-get || die 1 "udev is fetched with apt-get, which is not here"
  tmp=$(mktemp -d "$cache_dir/.udev.XXXXXX")
  if ! (cd "$tmp" && apt-get "${apt_opts[@]}" download udev >>"$log" 2>&1 && dpkg-deb -x udev_*.deb x); then
    rm -rf -- "$tmp"
    die 1 "the Debian archive did not give udev: see $log"
  fi
  # One program, which is the daemon, too; where it lies differs between releases.
  find "$tmp/x" -type f -name udevadm -exec mv -- {} "$cache_dir/udevadm" \;
  rm -rf -- "$tmp"
  udev_ok || die 1 "the package udev has no udevadm"
}

open_cache
log=$cache_dir/install.log
mapfile -t need < <(missing_packages)
if ((${#need[@]} == 0)) && venv_ok && udev_ok; then exit 0; fi

exec 9>"$cache_dir/prepare.lock"
flock 9
mapfile -t need < <(missing_packages)
if ((${#need[@]})); then
  install=(apt-get install -y --no-install-recommends "${need[@]}")
  if ! has apt-get; then
    die 3 "missing, by their Debian names: ${need[*]}; install them with this system's package manager"
  fi
  if ((EUID != 0)); then
    say "missing packages; this installs them:"
    echo "sudo sh -c 'apt-get update && ${install[*]}'"
    exit 3
  fi
  say "installing ${need[*]}"
  apt_lists
  if ! apt_install "${need[@]}" 9>&-; then
    tail -n 20 -- "$cache_dir/install.log" >&2
    say "the installation failed; this is the command to try by hand:"
    echo "sh -c 'apt-get update && ${install[*]}'"
    exit 3
  fi
fi
venv_ok || make_venv
if ! udev_ok; then
  [[ -v apt_opts ]] || apt_lists
  fetch_udev
fi
mapfile -t need < <(missing_packages)
((${#need[@]} == 0)) || die 3 "still missing after the installation: ${need[*]}"
say "ready: $(qemu-system-x86_64 --version | sed -n 1p), virtme-ng $vng_version, $(fio --version)"
