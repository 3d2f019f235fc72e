//! `upgrade`: a device gets a new server, and its clients notice nothing.

use super::device::Device;
use super::exit::{Failure, say};
use super::recover::{ask, known, not_ours, refused};
use super::serve::{self, Way};
use super::signals::{HAND_OVER, Signals};
use super::state::{FileName, Record};
use super::supervise::{self, Background, Unit};
use super::{BackendName, devices, number, trace};
use clap::Args;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::OwnedFd;
use ublkit::{DeviceInfo, Errno, ErrorKind, Features, Recovery};

#[derive(Args, Debug)]
pub(super) struct Upgrade {
    #[command(flatten)]
    device: Device,
    /// Seconds to wait for the old server's end and for the kernel at the most, each
    #[arg(long, value_name = "SECONDS", value_parser = number::count, default_value = "60")]
    timeout: u16,
    /// Also of a disk that a unit of systemd's serves: it leaves the unit, which ends
    ///
    /// Nobody starts its server again, then, or stops it before the machine goes down. Not where
    /// the kernel cannot quiesce the device (before 6.16, or in batches).
    #[arg(long)]
    leave_unit: bool,
    #[command(flatten)]
    pub(super) background: Background,
    #[command(flatten)]
    tracing: trace::Tracing,
}

/// Replaces the server, and serves the device until it is stopped.
pub(super) fn run(upgrade: &Upgrade) -> Result<(), Failure> {
    let Upgrade { ref device, timeout, leave_unit, background, ref tracing } = *upgrade;
    if background.begin(tracing)? {
        return Ok(());
    }
    let signals = Signals::catch(background.is_there())?;
    let id = device.id()?;
    let info = ask(id)?;
    let patience = Duration::from_secs(timeout.into());
    let (mut record, mut serve) = known(&info, patience)?;
    if serve.backend == BackendName::Memory {
        return Err(refused(format!(
            "the data of ublk device {id} is in its server's memory, and would be gone with it: \
             copy it to a disk that is served from a file"
        )));
    }
    if let Some(pid) = devices::server(&info) {
        let old = Old::find(pid, &record).ok_or_else(|| not_ours(id, pid))?;
        // What can be looked at before leaves nobody without a server.
        record.check_file(serve.path.as_deref().and_then(FileName::of))?;
        tracing.check()?;
        let unit = supervise::unit_of(pid);
        let reissues = Recovery::of(info.features) == Recovery::Reissue;
        match &unit {
            Some(unit) if !leave_unit => return Err(refused(of_unit(id, unit, reissues))),
            Some(unit) if reissues && !info.waits_when_quiesced() => {
                return Err(refused(unit_goes_on(id, unit)));
            }
            _ => {}
        }
        // Who is killed is started again where a unit sees to it, and would be in our way.
        old.end(id, &info, patience, reissues && unit.is_none())?;
        if let Some(unit) = &unit {
            say(&leaves_unit(id, unit));
        }
        let left = |failure| {
            say(&unserved(id));
            failure
        };
        // Until then the disk could become larger.
        (record, serve) = known(&info, patience).map_err(left)?;
    }
    (serve.patience.timeout, serve.tracing) = (timeout, tracing.clone());
    serve.supervision.background = background;
    serve::go(&serve, &signals, Way::Recovered(id, Box::new(record)))
}

/// What is told of a device that would leave its unit,
pub(super) fn of_unit(id: u32, unit: &Unit, reissues: bool) -> String {
    let kill = unit.command("kill -s KILL");
    let instead = match reissues {
        true => format!(
            "with '--resume' and 'Restart=on-failure', '{kill}' has systemd start the new program \
             (docs/systemd)"
        ),
        false => {
            "with '--recover reissue' systemd could start the new program (docs/systemd)".into()
        }
    };
    format!(
        "ublk device {id} is served by {unit}, which would end: {instead}; or say '--leave-unit'"
    )
}

/// of one that cannot, for its server would be killed, and systemd starts killed ones again,
pub(super) fn unit_goes_on(id: u32, unit: &Unit) -> String {
    let kill = unit.command("kill -s KILL");
    format!(
        "ublk device {id} cannot be quiesced here, so that its server would be killed, and {unit} \
         may start the next: with '--resume' and 'Restart=on-failure', '{kill}' has it start the \
         new program"
    )
}

/// and of one that has.
pub(super) fn leaves_unit(id: u32, unit: &Unit) -> String {
    format!(
        "ublk device {id} has left {unit}: systemd does not look after its server any more, nor \
         stop it before the machine goes down"
    )
}

/// What is told of a device whose old server is gone, and that has no new one.
pub(super) fn unserved(id: u32) -> String {
    format!("ublk device {id} has no server now: 'ublkit recover {id}' is one")
}

/// A device's server, whatever its number comes to mean.
pub(super) struct Old {
    process: OwnedFd,
}

impl Old {
    pub(super) fn find(pid: u32, record: &Record) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let process = pidfd_open(number, PidfdFlags::empty()).ok()?;
        // Looked at after it was opened, so that it is that one.
        let is_it = record.server.pid == pid && record.server.is_alive();
        is_it.then_some(Self { process })
    }

    /// Has it let go of its device and end. Otherwise it is killed, if it may be.
    fn end(
        &self,
        id: u32,
        info: &DeviceInfo,
        timeout: Duration,
        may_be_killed: bool,
    ) -> Result<(), Failure> {
        let quiesces = info.waits_when_quiesced();
        if !quiesces && !may_be_killed {
            return Err(cannot_wait(id, info.features.contains(Features::BATCH_IO)));
        }
        if quiesces {
            self.signal(Signal::from_named_raw(HAND_OVER).unwrap_or(Signal::USR1))?;
            if self.ends_within(timeout) {
                return Ok(());
            }
            if !may_be_killed {
                return Err(keeps_it(id, timeout));
            }
            say(ASKED_AGAIN);
        }
        self.signal(Signal::KILL)?;
        if self.ends_within(timeout) { Ok(()) } else { Err(outlives_kill(id)) }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), Failure> {
        match pidfd_send_signal(&self.process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(not_signalled(error.into())),
        }
    }

    fn ends_within(&self, timeout: Duration) -> bool {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&limit)) == Ok(1)
    }
}

/// What is told where a server is killed.
pub(super) const ASKED_AGAIN: &str =
    "the old server does not end, so it is killed; what it was asked is asked again";

/// Requests would fail meanwhile.
pub(super) fn cannot_wait(id: u32, batches: bool) -> Failure {
    let why = match batches {
        true => "cannot be quiesced, for it is served in batches",
        false => "cannot be quiesced by this kernel (6.16 can)",
    };
    let sentence = format!(
        "ublk device {id} {why}, so that requests under way would fail: serve with \
         '--recover reissue' instead"
    );
    Failure::Said(ErrorKind::Unsupported, sentence)
}

/// The old server does not let go.
pub(super) fn keeps_it(id: u32, timeout: Duration) -> Failure {
    let sentence = format!(
        "the server of ublk device {id} did not end within {} s; clients wait, for it or for the \
         next: kill it, so that the requests that it has fail, and 'ublkit recover {id}'",
        timeout.as_secs()
    );
    Failure::Said(ErrorKind::Timeout, sentence)
}

/// The kernel does not let go of the old server.
pub(super) fn outlives_kill(id: u32) -> Failure {
    let sentence = format!(
        "the killed server of ublk device {id} is still there: the kernel's log (dmesg) may say \
         why; 'ublkit recover {id}' goes on once it is gone"
    );
    Failure::Said(ErrorKind::Timeout, sentence)
}

/// It is somebody else's.
pub(super) fn not_signalled(errno: Errno) -> Failure {
    let sentence = format!("cannot signal the server: {errno}; run as its user");
    Failure::Said(ErrorKind::Permission, sentence)
}
