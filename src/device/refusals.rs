//! What is said of devices such as only a strange driver has, an old one, or another program.

use crate::control::{DeviceInfo, DeviceState};
use crate::error::Error;
use crate::features::Features;

/// A device, as far as it can be odd.
fn brief(info: &DeviceInfo) -> String {
    let DeviceInfo { queues, depth, max_io_bytes, descriptor_bytes, .. } = info;
    format!(
        "{queues} queues of {depth} slots, requests of {max_io_bytes} bytes, and descriptors of \
         {descriptor_bytes}"
    )
}

/// It has a number, as every device has.
pub(crate) fn nameless() -> Error {
    Error::Impossible("a device was added without a number".into())
}

/// It is not what was wished for, nor less.
pub(crate) fn ungranted(granted: &DeviceInfo, wish: &DeviceInfo) -> Error {
    Error::Impossible(format!("it granted {}, for {}", brief(granted), brief(wish)))
}

/// There can be no such device.
pub(crate) fn unsound(id: u32, info: &DeviceInfo) -> Error {
    Error::Impossible(format!("it says of ublk device {id}: {}", brief(info)))
}

/// Another program made it.
pub(crate) fn unserved(id: u32, features: Features) -> Error {
    Error::Refused(format!(
        "ublk device {id} has {features}, which this version of ublkit does not serve: have the \
         program that made it recover it, or delete it"
    ))
}

/// A driver before 6.15 gives descriptors to one process alone.
pub(crate) fn half_recovered(id: u32) -> Error {
    Error::Refused(format!(
        "ublk device {id} can only be deleted: a process began to recover it and died, and this \
         driver gives what that had mapped to no other"
    ))
}

/// The driver has another idea of it.
pub(crate) fn unrecoverable(id: u32, state: DeviceState) -> Error {
    Error::Refused(format!(
        "ublk device {id} cannot be recovered: the driver says that it is {state}; \
         'ublkit show {id}' tells more"
    ))
}
