//! `wait`: until a device is live, or gone.

use super::device::Device;
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
    #[command(flatten)]
    device: Device,
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
    let Wait { ref device, gone, timeout, .. } = *wait;
    let begun = Instant::now();
    while !is_so(device, gone)? {
        if begun.elapsed() >= Duration::from_secs(timeout.into()) {
            return Err(late(device, gone, timeout));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// It did not come to that.
pub(super) fn late(device: &Device, gone: bool, timeout: u16) -> Failure {
    let what = if gone { "gone" } else { "live" };
    let remedy = "'ublkit list' tells what is, and '--timeout' waits longer";
    let sentence = format!("{device} was not {what} within {timeout} s: {remedy}");
    Failure::Said(ErrorKind::Timeout, sentence)
}

fn is_so(device: &Device, gone: bool) -> Result<bool, Failure> {
    // A name may be given later, or to another device.
    let found = device.id().and_then(|id| Ok((id, devices::info(&mut devices::control()?, id)?)));
    match found {
        Err(failure) if devices::is_gone(&failure) => Ok(gone),
        Err(failure) => Err(failure),
        Ok((id, info)) => {
            let disk = format!("/dev/ublkb{id}");
            Ok(!gone && info.state == DeviceState::Live && Path::new(&disk).exists())
        }
    }
}
