//! `wait`: until a device is live, or gone.

use super::exit::Failure;
use super::{devices, number};
use clap::Args;
use core::time::Duration;
use std::path::Path;
use std::time::Instant;
use ublkit::{DeviceState, ErrorKind};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
pub(super) struct Wait {
    /// The number N in /dev/ublkbN, or that path
    #[arg(value_parser = number::device)]
    id: u32,
    /// Until its disk is there, and served
    #[arg(long, required_unless_present = "gone", conflicts_with = "gone")]
    live: bool,
    /// Until there is no such device
    #[arg(long)]
    gone: bool,
    /// Seconds to wait at the most
    #[arg(long, value_name = "SECONDS", value_parser = number::count, default_value = "30")]
    timeout: u16,
}

pub(super) fn run(wait: &Wait) -> Result<(), Failure> {
    let Wait { id, gone, timeout, .. } = *wait;
    let begun = Instant::now();
    while !is_so(id, gone)? {
        if begun.elapsed() >= Duration::from_secs(timeout.into()) {
            let what = if gone { "gone" } else { "live" };
            let sentence = format!("ublk device {id} was not {what} within {timeout} s");
            return Err(Failure::Said(ErrorKind::Timeout, sentence));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn is_so(id: u32, gone: bool) -> Result<bool, Failure> {
    match devices::info(&mut devices::control()?, id) {
        Err(failure) if devices::is_gone(&failure) => Ok(gone),
        Err(failure) => Err(failure),
        Ok(info) => {
            let disk = format!("/dev/ublkb{id}");
            Ok(!gone && info.state == DeviceState::Live && Path::new(&disk).exists())
        }
    }
}
