//! The driver, `ublk_drv`, as far as a server can tell.

pub(super) mod add;
mod batch;
mod buffers;
mod control;
mod copy;
mod deliver;
mod device;
mod end;
pub(super) mod info;
mod life;
pub(super) mod limits;
mod pages;
pub(super) mod params;
mod slots;

pub(super) use device::SlotName;
pub(super) use pages::{PageUses, Part};

use self::control::Control;
use self::device::{Device, Open};
use super::merge::Digest;
use super::user::Pages;
use super::world::{Kind, World};
use crate::errno::Errno;
use limits::Limits;
use std::sync::Arc;
use ublkit_sys::ublk as sys;

/// All devices, and the control commands under way.
#[derive(Debug, Default)]
pub(super) struct Devices {
    all: Vec<Device>,
    controls: Vec<Control>,
    next_control: u64,
    /// Control commands that were begun.
    begun: u64,
}

impl Devices {
    /// The number of the device at a place.
    pub(super) fn number(&self, device: usize) -> u32 {
        self.all[device].info.dev_id
    }

    /// The place of the device with a number.
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        self.all.iter().position(|device| !device.freed && device.info.dev_id == id)
    }

    pub(super) fn limits(&self, device: usize) -> Option<Limits> {
        let disk = self.all.get(device)?.disk.as_ref()?;
        (!disk.dying).then_some(disk.limits)
    }

    pub(super) fn queues(&self, device: usize) -> u16 {
        self.all[device].info.nr_hw_queues
    }

    pub(super) fn state(&self, device: usize) -> u16 {
        self.all[device].info.state
    }

    pub(super) fn digest(&self, digest: &mut Digest) {
        self.all.iter().for_each(|device| device.digest(digest));
        self.controls.iter().for_each(|control| control.digest(digest));
    }

    /// Devices that were not deleted.
    pub(super) fn leftovers(&self) -> impl Iterator<Item = String> {
        let left = self.all.iter().filter(|device| !device.freed);
        left.map(|device| format!("device {} is not deleted", device.info.dev_id))
    }

    /// A new request comes in, unless the disk is frozen.
    pub(super) fn enter(&mut self, device: usize, queue: u16, request: u64) {
        if !self.all[device].buffers.keeps_out(queue, request) {
            self.wait_for_tag(device, queue, request);
        }
    }

    /// A request waits for a tag.
    pub(super) fn wait_for_tag(&mut self, device: usize, queue: u16, request: u64) {
        self.all[device].queues[usize::from(queue)].waiting.push_back(request);
    }

    /// The last open file of a char device is closed.
    pub(super) fn let_go(&mut self, device: usize) {
        self.all[device].open = Open::Closing;
    }
}

impl World {
    /// Opens `/dev/ublkcN`.
    pub(super) fn open_char_device(&mut self, process: usize, id: u32) -> Result<i32, Errno> {
        let place = self.devices.find(id).ok_or(Errno::ENOENT)?;
        let times = u32::from(self.faults.late_node);
        if times > 0 && self.choices.chance(times, 256) {
            return Err(Errno::ENOENT);
        }
        let device = &mut self.devices.all[place];
        if device.unlinked {
            return Err(Errno::ENOENT);
        }
        let is_mine = self.processes[process].admin || device.has(sys::UBLK_F_UNPRIVILEGED_DEV);
        if !is_mine {
            return Err(Errno::EACCES);
        }
        if device.open != Open::Nobody {
            return Err(Errno::EBUSY);
        }
        device.open = Open::By(process);
        Ok(self.open_file(process, Kind::Char(place)))
    }

    /// A client opens the disk of a device; answers the device's place.
    pub(super) fn open_disk(&mut self, id: u32) -> Option<usize> {
        let place = self.devices.find(id)?;
        self.devices.limits(place)?;
        self.devices.all[place].openers += 1;
        Some(place)
    }

    /// A client closes it again.
    pub(super) fn close_disk(&mut self, place: usize) {
        self.devices.all[place].openers -= 1;
        self.free_devices();
    }

    /// `mmap` of a char device: the descriptors of one queue.
    pub(super) fn map_descriptors(
        &mut self,
        process: usize,
        device: usize,
        offset_bytes: u64,
        len_bytes: usize,
        writable: bool,
    ) -> Result<Arc<Pages>, Errno> {
        self.devices.all[device].map(process, offset_bytes, len_bytes, writable)
    }
}

impl Limits {
    pub(super) fn block_bytes(&self) -> u32 {
        self.logical_block_bytes
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity_sectors.saturating_mul(512)
    }

    pub(super) fn chunk_border(&self) -> u64 {
        self.chunk_sectors.into()
    }

    /// The most sectors that a request of this kind has.
    pub(super) fn most_sectors(&self, op: u8) -> u64 {
        u64::from(match op {
            sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_WRITE => self.max_sectors,
            sys::UBLK_IO_OP_DISCARD => self.max_discard_sectors,
            sys::UBLK_IO_OP_WRITE_ZEROES => self.max_write_zeroes_sectors,
            _ => 1,
        })
    }

    /// Why the block layer answers itself, and asks no driver.
    pub(super) fn refuses(&self, op: u8, offset: u64, len_bytes: u64) -> Option<Errno> {
        if op == sys::UBLK_IO_OP_FLUSH {
            return None;
        }
        let blocks = u64::from(self.logical_block_bytes);
        let end = offset.checked_add(len_bytes);
        if op != sys::UBLK_IO_OP_READ && self.read_only {
            return Some(Errno::EPERM);
        }
        if self.most_sectors(op) == 0 {
            return Some(Errno::EOPNOTSUPP);
        }
        if !(offset | len_bytes).is_multiple_of(blocks) || len_bytes == 0 {
            return Some(Errno::EINVAL);
        }
        end.is_none_or(|end| end > self.capacity_bytes()).then_some(Errno::EIO)
    }
}
