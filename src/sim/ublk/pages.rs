//! Requests' own pages in rings' tables: put there by themselves or by hand, for operations that
//! copy nothing. A request ends when it was answered and nobody uses its pages any more.

use super::device::{SlotName, State};
use crate::errno::Errno;
use crate::sim::world::{Audit, FileId, World};
use std::collections::BTreeMap;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::ublk_auto_buf_reg;

/// A part of a request's data, from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Part {
    pub(in crate::sim) request: u64,
    start: usize,
}

/// By how many places of tables, and operations, each request's pages are used.
#[derive(Debug, Default)]
pub(in crate::sim) struct PageUses(BTreeMap<u64, u32>);

impl PageUses {
    pub(super) fn any(&self, request: u64) -> bool {
        self.0.contains_key(&request)
    }

    fn add(&mut self, request: u64) {
        *self.0.entry(request).or_default() += 1;
    }

    /// Whether that was the last one.
    fn remove(&mut self, request: u64) -> bool {
        let Some(uses) = self.0.get_mut(&request) else { return false };
        *uses -= 1;
        let is_last = *uses == 0;
        if is_last {
            self.0.remove(&request);
        }
        is_last
    }

    /// What is still used, in words.
    pub(in crate::sim) fn leftovers(&self) -> impl Iterator<Item = String> {
        self.0.keys().map(|request| format!("the pages of request {request} are used"))
    }
}

impl World {
    /// Whether a ring uses pages of a device's requests.
    pub(in crate::sim) fn uses_pages(&self, place: usize) -> bool {
        self.devices.all[place].requests().iter().any(|request| self.page_uses.any(*request))
    }

    /// Puts a request's pages into a place of a ring's table.
    fn register_pages(&mut self, ring: FileId, place: usize, request: u64) -> Result<(), Errno> {
        let is_refused = self.choices.chance(self.faults.refuse_pages.into(), 256);
        let table = self.ring(ring).and_then(|ring| ring.table.as_mut());
        let entry = table.and_then(|table| table.get_mut(place)).ok_or(Errno::EINVAL)?;
        if entry.is_some() {
            return Err(Errno::EBUSY);
        }
        if is_refused {
            return Err(Errno::ENOMEM);
        }
        *entry = Some(request);
        self.page_uses.add(request);
        Ok(())
    }

    /// Empties a place of a ring's table.
    fn unregister_pages(&mut self, ring: FileId, place: usize) -> Result<(), Errno> {
        let table = self.ring(ring).and_then(|ring| ring.table.as_mut());
        let entry = table.and_then(|table| table.get_mut(place)).ok_or(Errno::EINVAL)?;
        let request = entry.take().ok_or(Errno::EINVAL)?;
        self.put_pages(request);
        Ok(())
    }

    /// A place of a table, or an operation, uses a request's pages no more.
    pub(in crate::sim) fn put_pages(&mut self, request: u64) {
        if !self.page_uses.remove(request) {
            return;
        }
        for place in 0..self.devices.all.len() {
            for name in self.devices.all[place].names(place) {
                let slot = self.devices.all[place].slot(name.queue, name.tag);
                let answer = slot.and_then(|slot| slot.answered.take_if(|(id, _)| *id == request));
                if let Some((id, result)) = answer {
                    self.answer_request(name, id, result);
                    return;
                }
            }
        }
    }

    /// A request with data is about to go to a server whose device wants its pages in the table of
    /// `ring`, that of the command that brings it, at the place that the slot's command named. What
    /// the descriptor is to say of it; an error is the client's.
    pub(super) fn register_automatically(
        &mut self,
        name: SlotName,
        ring: FileId,
    ) -> Result<u32, Errno> {
        let device = &mut self.devices.all[name.device];
        let wanted = device.has(sys::UBLK_F_AUTO_BUF_REG);
        let slot = *device.slot(name.queue, name.tag).ok_or(Errno::EINVAL)?;
        let Some(id) = slot.request else { return Ok(0) };
        let has_data = self.clients.requests.get(&id).is_some_and(|it| it.data_bytes() > 0);
        if !wanted || !has_data {
            return Ok(0);
        }
        let ublk_auto_buf_reg { index, flags, .. } = ublk_auto_buf_reg::from_sqe_addr(slot.addr);
        match self.register_pages(ring, index.into(), id) {
            Ok(()) => {
                self.audit.registered += 1;
                if let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) {
                    slot.registered = Some((ring, index));
                }
                Ok(0)
            }
            Err(errno) => {
                let has_table = self.ring(ring).is_some_and(|ring| ring.table.is_some());
                if has_table && errno != Errno::ENOMEM {
                    let SlotName { queue, tag, .. } = name;
                    let line = format!("queue {queue} tag {tag}: place {index}: {errno}");
                    Audit::note(&mut self.audit.mistakes, line);
                }
                self.audit.fell_back += 1;
                let falls_back = flags & sys::UBLK_AUTO_BUF_REG_FALLBACK != 0;
                if falls_back { Ok(sys::UBLK_IO_F_NEED_REG_BUF) } else { Err(Errno::EIO) }
            }
        }
    }

    /// A slot is answered through a ring: what was put into that ring's table by itself leaves it.
    pub(super) fn unregister_automatically(&mut self, name: SlotName, through: FileId) {
        let slot = self.devices.all[name.device].slot(name.queue, name.tag);
        let Some((ring, place)) = slot.and_then(|slot| slot.registered.take()) else { return };
        let SlotName { queue, tag, .. } = name;
        if ring != through {
            let line = format!("queue {queue} tag {tag} is answered through another ring");
            Audit::note(&mut self.audit.mistakes, line);
        } else if self.unregister_pages(ring, place.into()).is_err() {
            let line = format!("queue {queue} tag {tag}: place {place} was emptied before");
            Audit::note(&mut self.audit.mistakes, line);
        }
    }

    /// REGISTER_IO_BUF: of a slot whose request the server has.
    pub(super) fn register_by_hand(
        &mut self,
        name: SlotName,
        ring: FileId,
        place: u64,
    ) -> Result<(), Errno> {
        let device = &mut self.devices.all[name.device];
        let allowed = device.has(sys::UBLK_F_SUPPORT_ZERO_COPY);
        let slot = *device.slot(name.queue, name.tag).ok_or(Errno::EINVAL)?;
        let request = slot.request.filter(|_| allowed && slot.state == State::Owned);
        let id = request.ok_or(Errno::EINVAL)?;
        if self.clients.requests.get(&id).is_none_or(|request| request.data_bytes() == 0) {
            return Err(Errno::EINVAL);
        }
        let place = usize::try_from(place).map_err(|_| Errno::EINVAL)?;
        let registered = self.register_pages(ring, place, id);
        match registered {
            Ok(()) => self.audit.registered += 1,
            Err(_) => self.audit.fell_back += 1,
        }
        registered
    }

    /// UNREGISTER_IO_BUF: of whatever slot.
    pub(super) fn unregister_by_hand(
        &mut self,
        device: usize,
        ring: FileId,
        place: u64,
    ) -> Result<(), Errno> {
        if !self.devices.all[device].has(sys::UBLK_F_SUPPORT_ZERO_COPY) {
            return Err(Errno::EINVAL);
        }
        let place = usize::try_from(place).map_err(|_| Errno::EINVAL)?;
        self.unregister_pages(ring, place)
    }

    /// An operation begins to use a part of the pages at a place of its ring's table: to write them
    /// to a file, which is for a WRITE's alone, or to fill them, which is for a READ's.
    pub(in crate::sim) fn use_pages(
        &mut self,
        ring: FileId,
        place: u16,
        start: u64,
        len_bytes: usize,
        is_write: bool,
    ) -> Result<Part, Errno> {
        let table = self.ring(ring).and_then(|ring| ring.table.as_ref());
        let entry = table.and_then(|table| *table.get(usize::from(place))?);
        let request = entry.and_then(|id| Some((id, self.clients.requests.get(&id)?)));
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let wanted = if is_write { sys::UBLK_IO_OP_WRITE } else { sys::UBLK_IO_OP_READ };
        let part = request.and_then(|(id, request)| {
            let end = start.checked_add(len_bytes)?;
            let fits = request.op == wanted && end <= request.data_bytes();
            fits.then_some(Part { request: id, start })
        });
        let Some(part) = part else {
            let line = format!("place {place} holds no {len_bytes} bytes from {start} on for this");
            Audit::note(&mut self.audit.mistakes, line);
            return Err(Errno::EFAULT);
        };
        self.page_uses.add(part.request);
        Ok(part)
    }

    /// An operation fills a part of a request's pages; answers how much of it.
    pub(in crate::sim) fn fill_pages(&mut self, part: Part, data: &[u8]) -> usize {
        let Some(pages) = self.pages_of(part, data.len()) else { return 0 };
        pages.copy_from_slice(data);
        data.len()
    }

    /// An operation takes what a part of a request's pages holds; answers how much of it.
    pub(in crate::sim) fn take_pages(&mut self, part: Part, data: &mut [u8]) -> usize {
        let Some(pages) = self.pages_of(part, data.len()) else { return 0 };
        data.copy_from_slice(pages);
        data.len()
    }

    fn pages_of(&mut self, part: Part, len_bytes: usize) -> Option<&mut [u8]> {
        let request = self.clients.requests.get(&part.request)?;
        let asking = self.clients.askings.get_mut(&request.asking)?;
        asking.data.get_mut(request.data_at + part.start..)?.get_mut(..len_bytes)
    }
}
