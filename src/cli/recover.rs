//! `recover`: a device whose server is gone is served again, as its record says.

use super::device::Device;
use super::exit::Failure;
use super::serve::{self, Way};
use super::signals::Signals;
use super::state::{self, Record};
use super::supervise::Background;
use super::{BackendName, Cli, Command, Serve, devices, number, trace};
use clap::{Args, Parser};
use core::time::Duration;
use std::time::Instant;
use ublkit::sys::ublk::SECTOR_BYTES;
use ublkit::{DeviceInfo, DeviceState, ErrorKind, Recovery};

/// How long a server that was killed may take to be gone.
const DYING: Duration = Duration::from_secs(2);

#[derive(Args, Debug)]
pub(super) struct Recover {
    #[command(flatten)]
    device: Device,
    /// Of 'memory', whose data is gone with its server: go on with zeros
    ///
    /// Whoever has the disk open or mounted finds other data than was written.
    #[arg(long)]
    data_lost: bool,
    /// Seconds to wait for the old server's end and for the kernel at the most
    #[arg(long, value_name = "SECONDS", value_parser = number::count, default_value = "60")]
    timeout: u16,
    #[command(flatten)]
    pub(super) background: Background,
    #[command(flatten)]
    tracing: trace::Tracing,
}

/// Serves the device until it is stopped.
pub(super) fn run(recover: &Recover) -> Result<(), Failure> {
    let Recover { ref device, data_lost, timeout, background, ref tracing } = *recover;
    if background.begin(tracing)? {
        return Ok(());
    }
    let signals = Signals::catch(background.is_there())?;
    go_on(device.id()?, &signals, &Next { data_lost, timeout, background, tracing })
}

/// What is said to a device's next server.
pub(super) struct Next<'a> {
    pub(super) data_lost: bool,
    /// Seconds.
    pub(super) timeout: u16,
    pub(super) background: Background,
    pub(super) tracing: &'a trace::Tracing,
}

/// Serves a device whose server is gone, until it is stopped.
pub(super) fn go_on(id: u32, signals: &Signals, next: &Next) -> Result<(), Failure> {
    let info = ask(id)?;
    let begun = Instant::now();
    while let Some(pid) = devices::server(&ask(id)?) {
        if begun.elapsed() > DYING {
            return Err(Failure::Said(
                ErrorKind::Busy,
                format!(
                    "process {pid} serves ublk device {id}: 'ublkit upgrade {id}' replaces it, \
                     'ublkit stop {id}' stops it"
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (record, mut serve) = known(&info, Duration::from_secs(next.timeout.into()))?;
    if serve.backend == BackendName::Memory && !next.data_lost {
        return Err(refused(format!(
            "the data of ublk device {id} was in its server's memory, and is gone with it: delete \
             the device, or go on with zeros by 'ublkit recover --data-lost'"
        )));
    }
    (serve.patience.timeout, serve.tracing) = (next.timeout, next.tracing.clone());
    serve.supervision.background = next.background;
    serve::go(&serve, signals, Way::Recovered(id, Box::new(record)))
}

/// What the driver says of a device.
pub(super) fn ask(id: u32) -> Result<DeviceInfo, Failure> {
    devices::info(&mut devices::control()?, id)
}

/// The record of a device that can be recovered, and what it says of serving it. Drivers before
/// 6.15 may say nothing for half a minute, until they have noticed that a server is gone.
pub(super) fn known(info: &DeviceInfo, timeout: Duration) -> Result<(Record, Serve), Failure> {
    let id = info.id.unwrap_or_default();
    if Recovery::of(info.features) == Recovery::None {
        return Err(refused(format!(
            "ublk device {id} was made without recovery: it can only be deleted; serve with \
             --recover to have it"
        )));
    }
    if info.state == DeviceState::Dead {
        return Err(refused(format!(
            "ublk device {id} was stopped: there is no disk to recover; 'ublkit delete {id}' \
             removes the rest"
        )));
    }
    let Some(record) = state::of(info)? else {
        if let Some(pid) = devices::server(info) {
            return Err(not_ours(id, pid));
        }
        return Err(Failure::Said(
            ErrorKind::Failed,
            format!(
                "there is no record of ublk device {id}: another program made it, or the record is \
                 lost; 'ublkit delete {id}' removes it"
            ),
        ));
    };
    let mut serve = said(id, &record)?;
    let (size, _) = size_bytes(info, timeout)?; // it may have grown
    if serve.backend == BackendName::Memory {
        // As much as it was given at first, whatever it has become.
        serve.room = serve.room.or(serve.size).map(|room| room.max(size));
    }
    // A file that is gone is not made anew.
    (serve.size, serve.at_most) =
        if serve.backend == BackendName::File { (None, Some(size)) } else { (Some(size), None) };
    Ok((record, serve))
}

/// The device is served by another than its record tells of, if it has one.
pub(super) fn not_ours(id: u32, pid: u32) -> Failure {
    let sentence = format!(
        "process {pid} serves ublk device {id}, and no record tells of it as its server: use its \
         own means"
    );
    Failure::Said(ErrorKind::Busy, sentence)
}

/// What a record says of serving its device.
pub(super) fn said(id: u32, record: &Record) -> Result<Serve, Failure> {
    let words = ["ublkit", "serve"].map(String::from).into_iter();
    let parsed = Cli::try_parse_from(words.chain(record.arguments.iter().cloned()));
    let Ok(Cli { command: Command::Serve(mut serve) }) = parsed else {
        return Err(Failure::Said(
            ErrorKind::Failed,
            format!(
                "the record of ublk device {id} says 'ublkit serve {}', which this ublkit does not \
                 understand: use the one that made it",
                record.arguments.join(" ")
            ),
        ));
    };
    serve.path = serve.path.map(|path| record.folder.join(path));
    Ok(serve)
}

/// How large the kernel has a device's disk, and in blocks of how many bytes.
pub(super) fn size_bytes(info: &DeviceInfo, timeout: Duration) -> Result<(u64, u64), Failure> {
    let mut control = devices::control()?;
    let device = devices::commands(&mut control, info.id.unwrap_or_default(), info);
    let params = device.within(timeout).params()?;
    let block_bytes = 1_u64.checked_shl(params.basic.logical_bs_shift.into());
    let size_bytes = params.basic.dev_sectors.saturating_mul(SECTOR_BYTES);
    Ok((size_bytes, block_bytes.unwrap_or(SECTOR_BYTES)))
}

pub(super) fn refused(sentence: String) -> Failure {
    Failure::Said(ErrorKind::Usage, sentence)
}
