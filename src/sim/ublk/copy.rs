//! User copy: a request's data by `pread` and `pwrite` on the char device.

use super::device::State;
use crate::errno::Errno;
use crate::sim::profile::Rule;
use crate::sim::user;
use crate::sim::world::World;
use ublkit_sys::ublk as sys;

/// An offset on the char device, taken apart.
struct Place {
    queue: u16,
    tag: u16,
    byte: usize,
}

impl Place {
    fn at(offset: u64) -> Result<Self, Errno> {
        let rest = offset.checked_sub(1 << 31).ok_or(Errno::EINVAL)?;
        let field = |shift: u32, bits: u32| rest >> shift & ((1 << bits) - 1);
        Ok(Self {
            queue: u16::try_from(field(41, 12)).map_err(|_| Errno::EINVAL)?,
            tag: u16::try_from(field(25, 16)).map_err(|_| Errno::EINVAL)?,
            byte: usize::try_from(field(0, 25)).map_err(|_| Errno::EINVAL)?,
        })
    }
}

impl World {
    /// `pread` to a part of the program's memory: what a write brings. Answers how much was copied.
    pub(in crate::sim) fn read_data(
        &mut self,
        device: usize,
        offset: u64,
        (address, wanted): (u64, usize),
    ) -> Result<usize, Errno> {
        let (asking, at, len_bytes) = self.find_data(device, offset, sys::UBLK_IO_OP_WRITE)?;
        let count = self.copyable(len_bytes.min(wanted));
        let asking = self.clients.askings.get(&asking).ok_or(Errno::EINVAL)?;
        let copied = user::copy_out(address, &asking.data[at..at + count]);
        Ok(self.copied(copied, wanted))
    }

    /// `pwrite` from there: what a read is answered. Answers how much was copied.
    pub(in crate::sim) fn write_data(
        &mut self,
        device: usize,
        offset: u64,
        (address, wanted): (u64, usize),
    ) -> Result<usize, Errno> {
        let (asking, at, len_bytes) = self.find_data(device, offset, sys::UBLK_IO_OP_READ)?;
        let count = self.copyable(len_bytes.min(wanted));
        let asking = self.clients.askings.get_mut(&asking).ok_or(Errno::EINVAL)?;
        let copied = user::copy_in(address, &mut asking.data[at..at + count]);
        Ok(self.copied(copied, wanted))
    }

    /// How much of `len_bytes` is copied, where less would be told.
    fn copyable(&mut self, len_bytes: usize) -> usize {
        if self.profile.has(Rule::CopyCountsBytes) { self.shortened(len_bytes) } else { len_bytes }
    }

    /// What is answered when `count` of the `wanted` bytes were there.
    fn copied(&self, count: usize, wanted: usize) -> usize {
        let all = count > 0 && !self.profile.has(Rule::CopyCountsBytes);
        if all { wanted } else { count }
    }

    /// The asking, the place in its data, and how much of the request follows.
    fn find_data(
        &mut self,
        place: usize,
        offset: u64,
        direction: u8,
    ) -> Result<(u64, usize, usize), Errno> {
        let asked_first = self.profile.has(Rule::CopyIsAskedForFirst);
        let device = &mut self.devices.all[place];
        if device.info.state == sys::UBLK_S_DEV_DEAD {
            return Err(Errno::EACCES);
        }
        let knows_integrity = self.profile.features() & sys::UBLK_F_INTEGRITY != 0;
        if knows_integrity && offset & sys::UBLKSRV_IO_INTEGRITY_FLAG != 0 {
            return Err(Errno::EINVAL);
        }
        let at = Place::at(offset)?;
        let user_copy = device.has(sys::UBLK_F_USER_COPY);
        let queue = device.queues.get_mut(usize::from(at.queue)).ok_or(Errno::EINVAL)?;
        if !user_copy {
            let refusal = if asked_first { Errno::EACCES } else { Errno::EINVAL };
            return Err(refusal);
        }
        let slot = queue.slots.get(usize::from(at.tag)).ok_or(Errno::EINVAL)?;
        let request = slot.request.filter(|_| slot.state == State::Owned);
        let request = request.and_then(|id| self.clients.requests.get(&id)).ok_or(Errno::EINVAL)?;
        let len_bytes = request.data_bytes();
        if len_bytes == 0 || at.byte > len_bytes {
            return Err(Errno::EINVAL);
        }
        if request.op != direction {
            return Err(Errno::EACCES);
        }
        Ok((request.asking, request.data_at + at.byte, len_bytes - at.byte))
    }
}
