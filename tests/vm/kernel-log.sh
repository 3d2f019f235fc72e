#!/usr/bin/env bash
# usage: kernel-log.sh DMESG_FILE | kernel-log.sh --self-test
# Exits 1 and prints the places where a kernel log reports a fault of the
# kernel; 2 when there is no log to judge. I/O errors are not faults here: tests
# make them on purpose.
set -euo pipefail

# Start of a message: a time stamp, and a caller's id where the kernel adds one.
start='^(<[0-9]+>)?(\[[ 0-9.]+\] )?(\[ *[TC][0-9]+\] )?'
bad=(
  "${start}(watchdog: )?BUG: "          # null pointers, page faults, KASAN, KFENCE, sleeping while atomic, soft lockups
  'kernel BUG at '
  "${start}([A-Za-z ]+: )?Oops\b"
  'general protection fault'
  'Kernel panic'
  "${start}WARNING: "                   # WARN_ON, lockdep, suspicious RCU usage
  'KASAN: |UBSAN: |KCSAN: |KMSAN: |KFENCE: '
  'blocked for more than [0-9]+ seconds'
  'soft lockup|[Hh]ard LOCKUP|hard lockup'
  'rcu.*(self-detected stall|detected stalls|kthread starved|detected expedited stalls)'
  'refcount_t: |list_(add|del) corruption|Bad page state|bad page map'
  '[Uu]nable to handle (kernel|page)|stack-protector: |kernel stack overflow'
  "${start}INFO: (possible|trying to register|task )"
  'page allocation failure|Out of memory: |invoked oom-killer'
  "${start}BUG [a-z]|sysfs: cannot create duplicate filename"
)
# Lines that are no fault of ours and harm nobody; each with its reason. A line number is that of one
# release: the next one is looked at anew.
allowed=(
  # 7.3.4: a server that is killed while its device stops. The stop has just taken a slot's command
  # (ublk_cancel_cmd) when the ring's own cancelling looks whether it is there (WARN_ON_ONCE(io->cmd
  # != cmd)), without the lock, and then finds it taken.
  'WARNING: drivers/block/ublk_drv.c:2929 at ublk_ch_uring_cmd'
  # 7.2.13: io_buffer_register_bvec fills the list of a request's pages before it writes how long that
  # is, which the compiler's check goes by. The list has room.
  'UBSAN: array-index-out-of-bounds in .*/linux-7\.2\.13/io_uring/rsrc\.c:1070:'
  # Cases take a server's memory away; the line that follows would tell of the whole machine's.
  '[ ]ublk[0-9]+-q[0-9]+ invoked oom-killer'
)

judge() { # FILE: 0 clean, 1 faulty; prints the places
  local expr allow
  expr=$(IFS='|'; echo "${bad[*]}")
  if ((${#allowed[@]})); then
    allow=$(IFS='|'; echo "${allowed[*]}")
  else
    allow='$^'
  fi
  # With the lines that follow: a trace is little use without its frames.
  awk -v lines=40 '
    FILENAME == ARGV[1] { hit[$1] = 1; next }
    FNR in hit { left = lines; found = 1 }
    left > 0 { print FNR ": " $0; left-- }
    /---\[ end trace/ { left = 0 }
    END { exit found }
  ' <(grep -anE -- "$expr" "$1" | grep -avE -- "$allow" | cut -d: -f1) "$1"
}

self_test() {
  local dir failed=0 name verdict want
  dir=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf -- '$dir'" EXIT
  sample() { cat >"$dir/$1"; }
  sample bad-null <<'S'
[   12.345678] BUG: kernel NULL pointer dereference, address: 0000000000000008
[   12.345679] #PF: supervisor read access in kernel mode
S
  sample bad-fault <<<'[   12.345678] BUG: unable to handle page fault for address: ffffffffc0a81000'
  sample bad-oops <<<'[   12.345680] Oops: Oops: 0000 [#1] PREEMPT SMP PTI'
  sample bad-oops-arch <<<'[   12.345680] Internal error: Oops: 0000000096000004 [#1] SMP'
  sample bad-gpf <<<'[   99.000001] Oops: general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] SMP'
  sample bad-bug <<'S'
[   33.100000] ------------[ cut here ]------------
[   33.100001] kernel BUG at drivers/block/ublk_drv.c:1203!
S
  sample bad-warn-old <<'S'
[   20.000000] ------------[ cut here ]------------
[   20.000001] WARNING: CPU: 1 PID: 321 at drivers/block/ublk_drv.c:900 ublk_queue_rq+0x12/0x90 [ublk_drv]
[   20.000002] Call Trace:
[   20.000003] ---[ end trace 0000000000000000 ]---
S
  sample bad-warn-new <<<'[   20.000001] WARNING: drivers/block/ublk_drv.c:900 at ublk_queue_rq+0x12/0x90, CPU#1: ublk/321'
  sample bad-warn-caller <<<'[   20.000001] [  T321] WARNING: block/blk-mq.c:11 at blk_mq_x+0x1/0x2, CPU#0: fio/9'
  sample bad-lockdep <<<'[   20.000001] WARNING: possible circular locking dependency detected'
  sample bad-rcu-usage <<<'[   20.000001] WARNING: suspicious RCU usage'
  sample bad-kasan <<<'[   41.000000] BUG: KASAN: slab-use-after-free in ublk_ch_release+0x1f/0x80'
  sample bad-ubsan <<<'[   41.000000] UBSAN: array-index-out-of-bounds in drivers/block/ublk_drv.c:77:9'
  sample bad-ubsan-else <<<'[   41.000000] UBSAN: array-index-out-of-bounds in /build/reproducible-path/linux-7.2.13/io_uring/rsrc.c:1071:12'
  sample bad-hung <<<'[  243.000000] INFO: task fio:412 blocked for more than 120 seconds.'
  sample bad-soft <<<'[   60.000000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [fio:412]'
  sample bad-hard <<<'[   60.000000] watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 0'
  sample bad-rcu-self <<<'[   81.000000] rcu: INFO: rcu_preempt self-detected stall on CPU'
  sample bad-rcu-other <<<'[   81.000000] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:'
  sample bad-atomic <<<'[   81.000000] BUG: sleeping function called from invalid context at mm/page_alloc.c:1'
  sample bad-panic <<<'[   81.000000] Kernel panic - not syncing: Fatal exception'
  sample bad-refcount <<<'[   81.000000] refcount_t: underflow; use-after-free.'
  sample bad-list <<<'[   81.000000] list_del corruption. prev->next should be ffff8880'
  sample bad-page <<<'[   81.000000] BUG: Bad page state in process fio  pfn:12345'
  sample bad-oom <<<'[   81.000000] Out of memory: Killed process 300 (fio) total-vm:1kB'
  sample bad-order <<<'[   81.000000] fio: page allocation failure: order:9, mode:0xcc0'
  sample bad-gpf-old <<<'[   99.000001] general protection fault: 0000 [#1] SMP'
  sample bad-hung-only <<<'[  243.000000] task fio:412 blocked for more than 120 seconds.'
  sample bad-unable <<<'[   12.345678] Unable to handle kernel NULL pointer dereference at virtual address 8'
  sample bad-key <<<'[   12.345678] INFO: trying to register non-static key.'
  sample bad-slab <<<'[   12.345678] BUG kmalloc-64 (Not tainted): Poison overwritten'
  sample bad-bare <<<'WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2'
  sample good <<'S'
[    0.000000] Linux version 6.12.0 (debug build, BUG reports to nobody)
[    0.100000] Command line: console=ttyS0 panic=-1 hung_task_panic=0
[    0.200000] rcu: Preemptible hierarchical RCU implementation.
[    0.300000] rcu: RCU event tracing is enabled.
[    0.310000] rcu: 	RCU CPU stall warnings timeout set to 21 seconds.
[    0.400000] Warning: unable to open an initial console.
[    0.500000] watchdog: Delayed init of the lockup detector failed: -19
[    1.000000] I/O error, dev ublkb0, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 0
[    1.100000] Buffer I/O error on dev ublkb0, logical block 1, async page read
[    1.200000] EXT4-fs (ublkb0): mounted filesystem ro without journal
[    1.300000] virtme-ng-init: WARNING: failed to restore symlink
[    1.400000] Invalid ELF header magic: != ELF
[    1.500000] sysrq: Show Blocked State
[    1.600000] UBSAN: array-index-out-of-bounds in /build/reproducible-path/linux-7.2.13/io_uring/rsrc.c:1070:12
S
  for name in "$dir"/*; do
    verdict=good
    judge "$name" >/dev/null || verdict=bad
    want=good
    [[ $name == */good ]] || want=bad
    if [[ $verdict != "$want" ]]; then
      echo "self-test: ${name##*/} was judged $verdict" >&2
      failed=1
    fi
  done
  # A fault at the end of a long clean log, and the trace behind it.
  { for _ in {1..200}; do cat "$dir/good"; done; cat "$dir/bad-warn-old"; } >"$dir/long"
  if judge "$dir/long" >"$dir/shown" || ! grep -q 'end trace' "$dir/shown"; then
    echo "self-test: a late fault was missed or shown without its trace" >&2
    failed=1
  fi
  # An absent or empty log vouches for nothing.
  : >"$dir/empty"
  for name in "$dir/empty" "$dir/none"; do
    verdict=0
    "${BASH_SOURCE[0]}" "$name" >/dev/null 2>&1 || verdict=$?
    if ((verdict != 2)); then
      echo "self-test: ${name##*/} log gave code $verdict" >&2
      failed=1
    fi
  done
  ((failed == 0)) || exit 1
  echo "kernel-log.sh: self-test passed"
}

case ${1:-} in
  --self-test) self_test ;;
  '' | -*)
    sed -n '2s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
  *)
    if ! grep -aq '[^[:space:]]' "$1" 2>/dev/null; then
      echo "kernel-log.sh: no kernel log in $1" >&2
      exit 2
    fi
    if ! judge "$1"; then
      echo "kernel-log.sh: the kernel reported a fault, see above ($1)" >&2
      exit 1
    fi
    ;;
esac
