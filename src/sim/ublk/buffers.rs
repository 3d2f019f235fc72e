//! Buffers that clients and the server share (`SHMEM_ZC`): REG_BUF, UNREG_BUF, and their indices.
//!
//! The driver also looks for their pages in clients' requests. The simulation's clients have no
//! memory of their own, so that none of theirs is ever found.

use super::control::{Control, Progress, Stage, Step};
use super::device::Device;
use crate::errno::Errno;
use crate::sim::maps::{self, Run};
use crate::sim::user::{self, PAGE_BYTES};
use crate::sim::world::World;
use std::collections::BTreeMap;
use ublkit_sys::abi::{as_bytes, from_bytes};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{ublk_shmem_buf_reg, ublksrv_ctrl_cmd};

/// The longest buffer.
const MAX_BYTES: u64 = 4 << 30;

/// What a device has of shared memory.
#[derive(Default)]
pub(super) struct Buffers {
    registered: BTreeMap<u16, Vec<Run>>,
    /// The pages of REG_BUFs under way, by command.
    pinned: BTreeMap<u64, Vec<Run>>,
    /// Requests that came while the disk is frozen, and their queues.
    outside: Vec<(u16, u64)>,
    /// A command waits until all requests inside are answered; new ones stay outside.
    frozen: bool,
}

impl core::fmt::Debug for Buffers {
    /// Says nothing that differs from run to run: no page.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { registered, pinned, outside, frozen } = self;
        let (registered, pinned) = (registered.keys(), pinned.keys());
        write!(f, "{registered:?} {pinned:?} {outside:?} {frozen}")
    }
}

impl Buffers {
    /// Whether a new request has to stay outside; if so, it does.
    pub(super) fn keeps_out(&mut self, queue: u16, request: u64) -> bool {
        if self.frozen {
            self.outside.push((queue, request));
        }
        self.frozen
    }

    /// The lowest index that is free. That there is one is looked at before the pages are.
    fn register(&mut self, pages: Vec<Run>) -> Result<u16, Errno> {
        let is_free = |index: &u16| !self.registered.contains_key(index);
        let index = (0..=u16::MAX).find(is_free).ok_or(Errno::ENOSPC)?;
        let others = |at: usize| self.registered.values().flatten().chain(&pages[..at]);
        if pages.iter().enumerate().any(|(at, page)| others(at).any(|other| other.overlaps(page))) {
            return Err(Errno::EEXIST);
        }
        self.registered.insert(index, pages);
        Ok(index)
    }
}

/// What a REG_BUF asks for: where, how long, and whether its pages are to be written.
fn checked(asked: &ublk_shmem_buf_reg) -> Result<(u64, u64, bool), Errno> {
    let ublk_shmem_buf_reg { addr, len, flags, reserved } = *asked;
    let whole = (addr | len).is_multiple_of(PAGE_BYTES as u64);
    let unknown = flags & !sys::UBLK_SHMEM_BUF_READ_ONLY != 0 || reserved != 0;
    if unknown || len == 0 || len > MAX_BYTES || !whole {
        return Err(Errno::EINVAL);
    }
    Ok((addr, len, flags & sys::UBLK_SHMEM_BUF_READ_ONLY == 0))
}

/// The index that an UNREG_BUF names, with the lower half of a word.
fn index(cmd: &ublksrv_ctrl_cmd) -> Result<u16, Errno> {
    u16::try_from(cmd.data[0] & u64::from(u32::MAX)).map_err(|_| Errno::EINVAL)
}

fn supported(device: &Device) -> Result<(), Errno> {
    if device.has(sys::UBLK_F_SHMEM_ZC) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

impl World {
    /// REG_BUF before it has the mutex: its pages are pinned.
    pub(super) fn pin_buffer(&mut self, control: &Control, place: usize) -> Result<(), Errno> {
        supported(&self.devices.all[place])?;
        // A shorter struct is one that ends in zeros.
        let mut asked = ublk_shmem_buf_reg::default();
        let mut bytes = as_bytes(&asked).to_vec();
        let len = bytes.len().min(control.cmd.len.into());
        user::read(control.cmd.addr, &mut bytes[..len])?;
        asked = from_bytes(&bytes).expect("that long");
        let (address, len_bytes, writes) = checked(&asked)?;
        let pages = maps::pinned(address, len_bytes, writes)?;
        self.devices.all[place].buffers.pinned.insert(control.id, pages);
        Ok(())
    }

    /// UNREG_BUF before it has the mutex.
    pub(super) fn check_index(&self, cmd: &ublksrv_ctrl_cmd, place: usize) -> Result<(), Errno> {
        supported(&self.devices.all[place])?;
        index(cmd).map(drop)
    }

    /// Both with the mutex, which they keep: a disk is frozen first, so that no request is being
    /// looked at meanwhile.
    pub(super) fn freeze(&mut self, control: &Control, place: usize) -> Step {
        let device = &mut self.devices.all[place];
        if device.disk.is_none() {
            return self.change_buffers(control, place);
        }
        device.mutex = Some(control.id);
        device.buffers.frozen = true;
        Ok(Progress::Stage(Stage::Frozen))
    }

    /// All requests inside are answered.
    pub(super) fn frozen(&mut self, control: &Control, place: usize) -> Step {
        let buffers = &mut self.devices.all[place].buffers;
        buffers.frozen = false;
        for (queue, request) in std::mem::take(&mut buffers.outside) {
            self.devices.wait_for_tag(place, queue, request);
        }
        self.change_buffers(control, place)
    }

    fn change_buffers(&mut self, control: &Control, place: usize) -> Step {
        let buffers = &mut self.devices.all[place].buffers;
        // Only a REG_BUF has pages.
        if let Some(pages) = buffers.pinned.remove(&control.id) {
            return buffers.register(pages).map(|index| Progress::Answer(index.into()));
        }
        let index = index(&control.cmd)?;
        let known = buffers.registered.remove(&index);
        known.map(|_| Progress::Answer(0)).ok_or(Errno::ENOENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: ublk_shmem_buf_reg =
        ublk_shmem_buf_reg { addr: 4096, len: 8192, flags: 0, reserved: 0 };

    #[test]
    fn what_may_be_asked_for() {
        assert_eq!(checked(&SOUND), Ok((4096, 8192, true)));
        let read_only =
            ublk_shmem_buf_reg { flags: sys::UBLK_SHMEM_BUF_READ_ONLY, len: MAX_BYTES, ..SOUND };
        assert_eq!(checked(&read_only), Ok((4096, MAX_BYTES, false)));
        for wrong in [
            ublk_shmem_buf_reg { flags: 2, ..SOUND },
            ublk_shmem_buf_reg { flags: 3, ..SOUND },
            ublk_shmem_buf_reg { reserved: 1, ..SOUND },
            ublk_shmem_buf_reg { len: 0, ..SOUND },
            ublk_shmem_buf_reg { len: MAX_BYTES + 4096, ..SOUND },
            ublk_shmem_buf_reg { len: 8191, ..SOUND },
            ublk_shmem_buf_reg { addr: 4097, ..SOUND },
        ] {
            assert_eq!(checked(&wrong), Err(Errno::EINVAL), "{wrong:?}");
        }
    }

    #[test]
    fn indices_that_may_be() {
        let of = |number| index(&ublksrv_ctrl_cmd { data: [number], ..Default::default() });
        assert_eq!((of(0), of(65_535)), (Ok(0), Ok(65_535)));
        assert_eq!((of(65_536), of(u64::MAX)), (Err(Errno::EINVAL), Err(Errno::EINVAL)));
        assert_eq!((of(1 << 32), of(7 << 32 | 3)), (Ok(0), Ok(3)));
    }

    /// So many pages of our own memory.
    fn own(pages: usize) -> (user::Pages, Vec<Run>) {
        let memory = user::Pages::new(pages * PAGE_BYTES);
        let address = memory.base().as_ptr().expose_provenance() as u64;
        let runs = maps::pinned(address, (pages * PAGE_BYTES) as u64, true).unwrap();
        (memory, runs)
    }

    #[test]
    fn the_lowest_index_that_is_free() {
        let mut buffers = Buffers::default();
        let [one, other, third] = [own(1), own(2), own(1)];
        assert_eq!(buffers.register(one.1.clone()), Ok(0));
        assert_eq!(buffers.register(other.1.clone()), Ok(1));
        assert_eq!(buffers.register(other.1.clone()), Err(Errno::EEXIST));
        let both = [third.1.clone(), one.1.clone()].concat();
        assert_eq!(buffers.register(both), Err(Errno::EEXIST), "one of two");
        let twice = [third.1.clone(), third.1.clone()].concat();
        assert_eq!(buffers.register(twice), Err(Errno::EEXIST), "the same page twice");
        assert!(buffers.registered.remove(&0).is_some());
        assert_eq!(buffers.register(third.1), Ok(0));
        assert_eq!(buffers.register(one.1), Ok(2));
    }

    #[test]
    fn no_index_is_left() {
        let all = (0..=u16::MAX).map(|index| (index, Vec::new())).collect();
        let mut buffers = Buffers { registered: all, ..Buffers::default() };
        assert_eq!(buffers.register(own(1).1), Err(Errno::ENOSPC));
        assert!(buffers.registered.remove(&65_535).is_some());
        assert_eq!(buffers.register(own(1).1), Ok(65_535));
    }

    #[test]
    fn a_frozen_disk_keeps_requests_out() {
        let mut buffers = Buffers::default();
        assert!(!buffers.keeps_out(0, 7) && buffers.outside.is_empty());
        buffers.frozen = true;
        assert!(buffers.keeps_out(1, 8) && buffers.outside == [(1, 8)]);
    }
}
