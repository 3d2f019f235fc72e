//! What `--help` shows of each command's use.

pub(super) const SERVE_EXAMPLES: &str = "Examples:
  ublkit serve memory --size 1G
  ublkit serve memory --size 1T --queues 4 --depth 64 --id 7
  ublkit serve null --size 250G --block-size 4096
  ublkit serve file disk.img --size 10G
  ublkit serve file /dev/sdb --direct
  ublkit serve file disk.img --recover reissue --name scratch --resume
  ublkit serve file disk.img --background
  ublkit serve memory --size 1G --trace
  ublkit serve memory --size 1G --trace=talk.jsonl --trace-format json";

pub(super) const REPLAY_EXAMPLES: &str = "Example:
  ublkit replay talk.jsonl memory";

pub(super) const WAIT_EXAMPLES: &str = "Examples:
  ublkit wait 0 --live && mount /dev/ublkb0 /mnt
  ublkit wait 0 --gone --timeout 60";

pub(super) const RECOVER_EXAMPLES: &str = "Example:
  ublkit serve file disk.img --recover reissue
  ublkit recover 0     # after its server has died
  ublkit recover scratch --background";

pub(super) const UPGRADE_EXAMPLES: &str = "Examples:
  ublkit upgrade 0
  ublkit upgrade scratch --background";

pub(super) const DELETE_EXAMPLES: &str = "Examples:
  ublkit delete 0
  ublkit delete --all";

pub(in crate::cli) const STAT_EXAMPLES: &str = "Examples:
  ublkit stat 0 --watch
  ublkit stat 0 --interval 10 --json | jq .all.latency_ns
  ublkit stat --prometheus > /var/lib/node_exporter/ublkit.prom

What --prometheus prints is text, for node_exporter's textfile collector or whatever else serves it:
ublkit itself listens nowhere. Of each device and queue, since its server began:
  ublkit_requests_total           requests answered with success: read, write, other
  ublkit_bytes_total              bytes of those that read and write
  ublkit_errors_total             requests answered with an error
  ublkit_panics_total             of those: because the backend panicked
  ublkit_timeouts_total           of those: because they had waited for too long
  ublkit_in_flight                requests not answered yet
  ublkit_sampled_latency_seconds  time in the server, of a sample of requests: a histogram";

pub(super) const DOCTOR_EXAMPLES: &str = "Examples:
  sudo ublkit doctor
  ublkit doctor --json | jq '.findings[] | select(.verdict != \"ok\")'";

pub(super) const ABI_EXAMPLES: &str = "Examples:
  ublkit abi ublksrv_io UBLK_F
  ublkit abi --check

The check says of each thing:
  differs  the two sides do not fit together; the exit code is 1
  lacks    ublkit knows it, this kernel does not
  beyond   this kernel knows it, ublkit does not
  renamed  the same bytes, with another name";
