#!/usr/bin/env bash
# usage: boot.sh [--cpus N] [--memory 1G] [--timeout SECONDS] [--out DIR]
#                [--icount] VMLINUZ -- COMMAND...
# Runs COMMAND as root on the kernel VMLINUZ in a virtual machine that sees this
# machine's root read-only and DIR read-write. Exits with the command's code, or
# 70 when the guest crashed, 124 when the command took longer than --timeout.
# DIR gets log (the command's output), dmesg, console.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

cpus=2 memory=1G timeout=300 out='' icount=0
boot_limit=${UBLKIT_VM_BOOT_SECONDS:-60}  # to the start of the command
grace=20                                   # for the guest to report a timeout

usage() {
  sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

while (($#)); do
  case $1 in
    --icount) icount=1 ;;
    --cpus | --memory | --timeout | --out)
      (($# > 1)) || usage
      declare "${1#--}=$2"
      shift
      ;;
    --) break ;;
    -*) usage ;;
    *) break ;;
  esac
  shift
done
if (($# < 3)) || [[ $2 != -- ]]; then usage; fi
vmlinuz=$1
shift 2
[[ $cpus =~ ^[1-9][0-9]*$ && $timeout =~ ^[1-9][0-9]*$ && $memory =~ ^[1-9][0-9]*[MG]$ ]] || usage
[[ -r $vmlinuz ]] || die 2 "no readable kernel image $vmlinuz"
vmlinuz=$(realpath -- "$vmlinuz")

open_cache
vng=$cache_dir/venv/bin/vng
if ! [[ -x $vng ]] || ! command -v qemu-system-x86_64 >/dev/null; then
  die 3 "the tools are missing; run tests/vm/prepare.sh first"
fi
if [[ -z $out ]]; then
  mkdir -p "$cache_dir/out"
  out=$(mktemp -d "$cache_dir/out/$(date +%H%M%S).XXXX")
fi
mkdir -p -- "$out"
out=$(cd -P -- "$out" && pwd)
case $out$vmlinuz in
  *[!A-Za-z0-9._/+@,=-]*) die 2 "DIR and VMLINUZ must not have blanks or shell characters in their paths" ;;
esac

kvm=0
[[ ${UBLKIT_VM_KVM:-0} != 1 ]] || kvm=1
vng_opts=(--verbose --force-9p --user root --cpus "$cpus" --memory "$memory" --rwdir="$out")
# Warnings and oopses reach the console even when the guest cannot report any
# more; the rest would only slow an emulated serial line down.
vng_opts+=(--append loglevel=5 --append log_buf_len=4M --append sysrq_always_enabled=1)
if ((kvm)); then
  qemu_opts="-pidfile $out/.qemu.pid"
else
  # The last -cpu wins. Without erms and fsrm the kernel copies in words: under
  # emulation a `rep movsb` costs one step a byte.
  qemu_opts="-cpu max,-erms,-fsrm -pidfile $out/.qemu.pid"
  # QEMU's emulation of several CPUs has races while the kernel sets up PCI and
  # patches its code, so the other CPUs come up after that, in the guest script.
  vng_opts+=(--disable-kvm --append maxcpus=1)
  if ((icount)); then
    # The guest's clocks count instructions; needs a single CPU.
    ((cpus == 1)) || die 2 "--icount needs --cpus 1"
    qemu_opts+=' -accel tcg,thread=single -icount shift=0,sleep=off'
  else
    qemu_opts+=' -accel tcg,thread=multi'
  fi
fi
qemu_opts+=" ${UBLKIT_VM_QEMU_OPTS:-}"

write_guest_script() { # COMMAND...
  local name
  {
    echo 'out='"$(printf %q "$out")"
    echo 'limit='"$timeout"
    echo 'cpus='"$cpus"
    echo 'repo='"$(printf %q "$repo_dir")"
    for name in PATH HOME TERM ${!UBLKIT_*} ${!RUST_*}; do
      if [[ -n ${!name+set} ]]; then printf 'export %s=%q\n' "$name" "${!name}"; fi
    done
    printf 'command=('
    printf '%q ' "$@"
    echo ')'
    cat <<'GUEST'
exec </dev/null
exec >>"$out/.setup" 2>&1
finish() { # CODE: the code comes last, so it vouches for the rest
  dmesg >"$out/.dmesg.new" && mv "$out/.dmesg.new" "$out/dmesg"
  echo "$1" >"$out/.rc.new" && mv "$out/.rc.new" "$out/.rc"
  # No disk to keep in order, so no orderly shutdown that a stuck device could
  # hold up.
  echo o >/proc/sysrq-trigger
  sleep 30
}
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev/shm || { mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm; }
mountpoint -q /run || mount -t tmpfs tmpfs /run
# vng lays a writable overlay over /tmp, through which this machine's files
# there can be read; a tmpfs only where it did not.
[ -w /tmp ] || mount -t tmpfs -o mode=1777 tmpfs /tmp
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
modprobe configfs && { mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config; }
for cpu in /sys/devices/system/cpu/cpu[0-9]*/online; do
  if [ -e "$cpu" ] && [ "$(cat "$cpu")" = 0 ]; then echo 1 >"$cpu"; fi
done
[ "$(nproc)" = "$cpus" ] || echo "$(nproc) CPUs are up, not $cpus"
if ! modprobe ublk_drv || ! cd "$repo"; then
  { echo "boot.sh: the guest could not be prepared:"; cat "$out/.setup"; } >>"$out/log"
  finish 70
fi
# The kernel's log as it grows, for the run that ends without a report.
dmesg >"$out/dmesg"
stdbuf -oL dmesg --follow-new >>"$out/dmesg" 2>&1 &
follow=$!
: >"$out/.started"
(
  sleep "$limit"
  echo "boot.sh: the command still runs after $limit s" >>"$out/log"
  # Which tasks wait, and where: into the kernel's log.
  echo w >/proc/sysrq-trigger
  for p in /proc/[0-9]*; do
    mapfile -d '' -t words <"$p/cmdline"
    ((${#words[@]})) || continue # a kernel thread; blocked ones are in the log
    for t in "$p"/task/[0-9]*; do
      echo "== ${t#/proc/} $(cat "$t/comm") (${words[*]})"
      grep State "$t/status"
      cat "$t/stack"
    done
  done >"$out/stacks" 2>/dev/null
  kill "$follow"
  finish 124
) &
watchdog=$!
"${command[@]}" >>"$out/log" 2>&1
code=$?
kill "$watchdog" "$follow"
finish "$code"
GUEST
  } >"$out/.run"
}

vm='' shown=0
# QEMU first, so that what started it sees it end and leaves no orphans; then
# whatever is left of the group.
kill_vm() {
  local pid
  [[ -n $vm ]] || return 0
  if pid=$(cat "$out/.qemu.pid" 2>/dev/null) && grep -qa qemu "/proc/$pid/cmdline" 2>/dev/null; then
    kill -TERM "$pid" 2>/dev/null || true
  else
    kill -TERM -- "-$vm" 2>/dev/null || true
  fi
  for _ in {1..40}; do
    guest_runs || break
    sleep 0.05
  done
  kill -KILL -- "-$vm" 2>/dev/null || true
  wait "$vm" 2>/dev/null || true
  vm=''
}
guest_runs() { kill -0 "$vm" 2>/dev/null; }

# Prints what the log gained since the last call.
stream() {
  local size
  size=$(stat -c %s -- "$out/log" 2>/dev/null) || return 0
  if ((size > shown)); then
    tail -c "+$((shown + 1))" -- "$out/log" | head -c "$((size - shown))"
    shown=$size
  fi
}
trap 'trap "" INT TERM HUP; kill_vm; rm -rf -- "$out/.tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# What the guest said last, for the reader of a failure.
last_words() {
  if [[ -s $out/.setup ]]; then
    say "the guest's preparations said:"
    cat -- "$out/.setup" >&2
  fi
  say "the last lines of $out/console:"
  tail -n 30 -- "$out/console" | tr -d '\r' >&2
}

# After the guest's end without a report the console knows what dmesg could not
# record any more.
add_console() {
  { echo "--- console"; tr -d '\r' <"$out/console"; } >>"$out/dmesg"
}

# Sets state: done, early (ended before the command), crashed, overdue.
run_once() {
  local deadline
  rm -rf -- "$out"/{.rc,.started,.setup,.qemu.pid,.tmp,log,dmesg,console,stacks}
  : >"$out/log"
  mkdir "$out/.tmp"
  shown=0
  # A group of its own, so that all of vng, its shells and QEMU can be ended. If
  # this script is killed outright, the loop ends the group, and so in any case
  # does timeout.
  # shellcheck disable=SC2016
  setsid bash -c 'boot=$1; shift
      (while kill -0 "$boot"; do sleep 1; done; kill -KILL 0) >/dev/null 2>&1 &
      exec "$@"' - "$$" \
    timeout --kill-after=5 "$((boot_limit + timeout + grace + 30))" \
    env PATH="$cache_dir/venv/bin:$PATH" TMPDIR="$out/.tmp" \
    "$vng" -r "$vmlinuz" "${vng_opts[@]}" --qemu-opts="$qemu_opts" \
    -- "bash $out/.run" </dev/null >"$out/console" 2>&1 9>&- &
  vm=$!
  deadline=$((SECONDS + boot_limit))
  while [[ ! -e $out/.started && ! -e $out/.rc ]]; do
    if ! guest_runs || ((SECONDS > deadline)); then
      state=early
      kill_vm
      return
    fi
    sleep 0.1
  done
  deadline=$((SECONDS + timeout + grace))
  state=''
  while [[ -z $state ]]; do
    sleep 0.1
    # The order matters: a guest may report and power off between two looks.
    if ! guest_runs; then state=crashed; fi
    if [[ -e $out/.rc ]]; then
      state='done'
    elif ((SECONDS > deadline)); then
      state=overdue
    fi
    stream
  done
  # A guest that has reported has nothing more to say.
  kill_vm
  if [[ $state != 'done' ]]; then add_console; fi
}

# Emulation takes the whole machine: one at a time.
if ((!kvm)); then
  exec 9>"$cache_dir/boot.lock"
  if ! flock -n 9; then
    say "waiting for another virtual machine to end"
    # A blocking flock would hold back the traps.
    until flock -n 9; do sleep 0.5; done
  fi
fi

rm -f -- "$out/console.first"
write_guest_script "$@"
state=''
run_once
for _ in 1 2; do
  [[ $state == early ]] || break
  cp -- "$out/console" "$out/console.first"
  # Into the test's own log: how often, and with what words, should be seen.
  tail -n 8 -- "$out/console.first" | tr -d '\r' >&2
  say "the guest ended, or was not up after $boot_limit s, before the command started; booting again"
  run_once
done

case $state in
  done)
    code=$(<"$out/.rc")
    [[ $code =~ ^[0-9]+$ ]] || die 70 "the guest's exit code reads '$code'"
    if [[ -e $out/stacks ]]; then
      say "the command ran over $timeout s; $out/stacks and $out/dmesg tell where it was"
    fi
    exit "$code"
    ;;
  early)
    last_words
    say "the guest did not get as far as the command, three times"
    exit 70
    ;;
  crashed)
    last_words
    say "the guest crashed while the command ran: it ended without an exit code"
    exit 70
    ;;
  overdue)
    last_words
    say "the guest hung: the command ran over $timeout s and the guest could not even report it"
    exit 124
    ;;
esac
