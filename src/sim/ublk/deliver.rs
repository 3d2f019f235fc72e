//! A request's way: to a tag, to the server, and back as an answer.

use super::device::{Slot, SlotName, State};
use crate::errno::Errno;
use crate::sim::block::Request;
use crate::sim::profile::Rule;
use crate::sim::uring::Work;
use crate::sim::user;
use crate::sim::world::{Audit, FileId, World};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::ublksrv_io_desc;

/// Error numbers that reach a client as they are; all others become `EIO`.
const PASSED_ON: &[i32] = &[
    libc::EOPNOTSUPP,
    libc::ETIMEDOUT,
    libc::ENOSPC,
    libc::ENOLINK,
    libc::EREMOTEIO,
    libc::EBADE,
    libc::ENODATA,
    libc::EILSEQ,
    libc::ENOMEM,
    libc::EBUSY,
    libc::EAGAIN,
    libc::ENODEV,
    libc::ETOOMANYREFS,
    libc::EOVERFLOW,
    libc::ETIME,
    libc::EINVAL,
];

/// What a client is told when the server says `-number`.
fn passed_on(number: i32) -> Errno {
    let passed = PASSED_ON.contains(&number).then(|| Errno::new(number)).flatten();
    passed.unwrap_or(Errno::EIO)
}

impl super::Devices {
    /// The queues that can give a waiting request a tag.
    pub(in crate::sim) fn list_dispatches(&self, list: &mut dyn FnMut(usize, u16)) {
        for (place, device) in self.all.iter().enumerate() {
            let undeliverable = device.quieted || device.disk.is_none();
            // The queue is frozen or parked while there is no server.
            let serverless = device.info.state == sys::UBLK_S_DEV_QUIESCED
                && !device.disk.as_ref().is_some_and(|disk| disk.dying)
                && !device.force_abort;
            for (index, queue) in (0..).zip(&device.queues) {
                let about_to_go = queue.canceling && device.parks() && !device.force_abort;
                let waits = (serverless || about_to_go) && !device.aborts(queue);
                let parks = undeliverable || waits;
                let has_tag = || queue.slots.iter().any(Slot::is_free);
                if !queue.waiting.is_empty() && !parks && has_tag() {
                    list(place, index);
                }
            }
        }
    }
}

impl super::Devices {
    /// Whether a slot can be given a request with so much data now.
    pub(in crate::sim) fn has_room(&mut self, name: SlotName, data_bytes: usize) -> bool {
        let device = &mut self.all[name.device];
        let most = device.info.max_io_buf_bytes as usize;
        data_bytes <= most && device.slot(name.queue, name.tag).is_some_and(|slot| slot.is_free())
    }
}

impl World {
    /// The first waiting request of a queue is given a tag, and goes to the driver.
    pub(in crate::sim) fn dispatch(&mut self, place: usize, queue: u16) {
        let device = &mut self.devices.all[place];
        let fails = device.force_abort
            || device.info.state == sys::UBLK_S_DEV_FAIL_IO
            || device.queues[usize::from(queue)].canceling
            || device.aborts(&device.queues[usize::from(queue)]);
        let target = device.info.state == sys::UBLK_S_DEV_FAIL_IO;
        let Some(id) = device.queues[usize::from(queue)].waiting.pop_front() else { return };
        if fails {
            let errno = if target { Errno::EREMOTEIO } else { Errno::EIO };
            self.end_request(id, Err(errno));
            return;
        }
        let slots = &device.queues[usize::from(queue)].slots;
        let free: Vec<u16> =
            (0..).zip(slots).filter(|(_, slot)| slot.is_free()).map(|(tag, _)| tag).collect();
        let tag = free[self.choices.below(free.len())];
        self.give_tag(SlotName { device: place, queue, tag }, id);
    }

    pub(in crate::sim) fn give_tag(&mut self, name: SlotName, id: u64) {
        let describes_late = self.profile.has(Rule::DescribesLate);
        let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) else { return };
        slot.request = Some(id);
        let batches = self.devices.all[name.device].has(sys::UBLK_F_BATCH_IO);
        let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) else { return };
        if batches && slot.state == State::Idle {
            self.announce(name);
            return;
        }
        let Some(pending) = slot.pending.filter(|_| slot.state == State::Idle && !slot.aborted)
        else {
            // No command waits: a server that is gone. It is resolved with the char device.
            return;
        };
        if !describes_late {
            self.describe(name);
        }
        self.add_work(pending.ring, Work::Deliver(name));
    }

    /// Writes the descriptor of a slot's request.
    fn describe(&mut self, name: SlotName) {
        self.describe_with(name, 0);
    }

    /// The same, with more flags.
    fn describe_with(&mut self, name: SlotName, flags: u32) {
        let device = &mut self.devices.all[name.device];
        let stride = device.stride_bytes();
        let Some(slot) = device.slot(name.queue, name.tag) else { return };
        let addr = slot.addr;
        let Some(request) = slot.request.and_then(|id| self.clients.requests.get(&id)) else {
            return;
        };
        let descriptor = ublksrv_io_desc {
            op_flags: u32::from(request.op) | request.flags | flags,
            nr_sectors: request.sectors,
            start_sector: request.sector,
            addr,
        };
        let descriptor = self.maybe_misdescribe(descriptor);
        self.write_descriptor(name, stride, descriptor);
    }

    /// Now and then, where that is asked for, a descriptor says something else.
    fn maybe_misdescribe(&mut self, mut descriptor: ublksrv_io_desc) -> ublksrv_io_desc {
        if self.choices.chance(self.faults.lies.into(), 256) {
            self.audit.lies += 1;
            match self.choices.below(4) {
                0 => descriptor.op_flags = u32::try_from(self.choices.word() >> 32).unwrap_or(0),
                1 => descriptor.op_flags ^= 1 << self.choices.below(32),
                2 => descriptor.nr_sectors = [0, 1, 1000, u32::MAX][self.choices.below(4)],
                _ => descriptor.start_sector = self.choices.word() >> self.choices.below(64),
            }
        }
        descriptor
    }

    fn write_descriptor(&mut self, name: SlotName, stride: usize, descriptor: ublksrv_io_desc) {
        let queue = &self.devices.all[name.device].queues[usize::from(name.queue)];
        queue.descriptors.store(usize::from(name.tag) * stride, descriptor);
    }

    /// Overwrites the descriptor of a slot that was answered, as a new request may at any time.
    pub(super) fn scribble(&mut self, name: SlotName) {
        if self.faults.scribble {
            let word = self.choices_word();
            let junk = ublksrv_io_desc {
                op_flags: 0xdead_0000 | u32::from(name.tag),
                nr_sectors: u32::MAX,
                start_sector: word,
                addr: 1,
            };
            let stride = self.devices.all[name.device].stride_bytes();
            self.write_descriptor(name, stride, junk);
        }
    }

    fn choices_word(&self) -> u64 {
        self.audit.committed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// In the server's task: its command completes with the request.
    pub(in crate::sim) fn deliver(&mut self, name: SlotName) {
        self.something_happens();
        let needs_data = self.devices.all[name.device].has(sys::UBLK_F_NEED_GET_DATA);
        let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) else { return };
        let (Some(id), State::Idle, Some(pending)) = (slot.request, slot.state, slot.pending)
        else {
            return;
        };
        let Some(request) = self.clients.requests.get(&id) else { return };
        let is_write = request.op == sys::UBLK_IO_OP_WRITE;
        if !self.files.contains_key(&pending.ring) {
            return; // resolved when the ring is torn down
        }
        if self.task_of(name).is_some_and(|task| self.tasks[task].ended) {
            self.miss(name);
            return;
        }
        if needs_data && is_write {
            self.describe(name);
            let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) else {
                return;
            };
            slot.state = State::OwnedWantsData;
            slot.pending = None;
            self.brings(pending.ring, name.tag, id);
            self.complete_slot(pending, sys::UBLK_IO_RES_NEED_GET_DATA);
            return;
        }
        self.deliver_data(name);
    }

    /// A request comes to a slot whose task has ended.
    fn miss(&mut self, name: SlotName) {
        let device = &mut self.devices.all[name.device];
        let parks = device.parks() && !device.force_abort;
        let Some(id) = device.slot(name.queue, name.tag).and_then(|slot| slot.request.take())
        else {
            return;
        };
        if parks {
            device.queues[usize::from(name.queue)].parked.push_back(id);
        } else {
            self.end_request(id, Err(Errno::EIO));
        }
    }

    fn task_of(&mut self, name: SlotName) -> Option<usize> {
        let slot = self.devices.all[name.device].slot(name.queue, name.tag)?;
        slot.task
    }

    /// A request is handed over to the server, and its slot's command completes.
    pub(super) fn deliver_data(&mut self, name: SlotName) {
        let slot = self.devices.all[name.device].slot(name.queue, name.tag);
        let Some(pending) = slot.and_then(|slot| slot.pending) else { return };
        if self.hand_over(name, pending.ring) {
            if let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) {
                slot.pending = None;
            }
            self.complete_slot(pending, sys::UBLK_IO_RES_OK);
        }
    }

    /// The data of a write is copied to the server, or a request's pages are put into the ring's
    /// table, and the request is the server's. `false` when it did not come to that.
    pub(super) fn hand_over(&mut self, name: SlotName, ring: FileId) -> bool {
        let slot = self.devices.all[name.device].slot(name.queue, name.tag);
        let Some((Some(id), addr)) = slot.map(|slot| (slot.request, slot.addr)) else {
            return false;
        };
        let copies = self.devices.all[name.device].copies();
        let Some(request) = self.clients.requests.get(&id).cloned() else { return false };
        if copies && request.op == sys::UBLK_IO_OP_WRITE {
            let no_room = self.faults.no_room;
            if no_room == 255 || self.choices.chance(no_room.into(), 256) {
                self.requeue(name);
                return false;
            }
            let copied = self.copy_to_server(&request, addr);
            if copied < request.data_bytes() {
                // What could not be copied is left out, as if the client had asked for less.
                let sectors = u32::try_from(copied / 512).unwrap_or(0);
                if sectors == 0 {
                    let line =
                        format!("queue {} tag {}: a buffer takes nothing", name.queue, name.tag);
                    Audit::note(&mut self.audit.mistakes, line);
                    self.requeue(name);
                    return false;
                }
                if let Some(request) = self.clients.requests.get_mut(&id) {
                    request.sectors = sectors;
                }
            }
        }
        let registered = self.register_automatically(name, ring);
        self.describe_with(name, registered.unwrap_or(0));
        let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) else {
            return false;
        };
        if let Err(errno) = registered {
            slot.request = None; // the server learns nothing of it
            self.end_request(id, Err(errno));
            return false;
        }
        slot.state = State::Owned;
        self.audit.delivered += 1;
        self.brings(ring, name.tag, id);
        true
    }

    fn complete_slot(&mut self, pending: super::device::Pending, result: i32) {
        if !pending.skips {
            self.post(pending.ring, crate::sim::uring::cqe(pending.user_data, result));
        }
        self.let_go(pending.file);
    }

    fn copy_to_server(&self, request: &Request, addr: u64) -> usize {
        let Some(asking) = self.clients.askings.get(&request.asking) else { return 0 };
        let data = &asking.data[request.data_at..][..request.data_bytes()];
        user::copy_out(addr, data)
    }

    /// A request loses its tag and waits again; another that waits already is first.
    pub(super) fn requeue(&mut self, name: SlotName) {
        let device = &mut self.devices.all[name.device];
        let Some(slot) = device.slot(name.queue, name.tag) else { return };
        if let Some(id) = slot.request.take() {
            let waiting = &mut device.queues[usize::from(name.queue)].waiting;
            waiting.insert(waiting.len().min(1), id);
        }
    }

    /// What a server's `result` means for its request.
    pub(super) fn answer_request(&mut self, name: SlotName, id: u64, result: i32) {
        let Some(request) = self.clients.requests.get(&id).cloned() else { return };
        if result < 0 {
            self.end_request(id, Err(passed_on(result.wrapping_neg())));
            return;
        }
        let len_bytes = request.data_bytes();
        let done = usize::try_from(result).unwrap_or(0);
        let has_data = matches!(request.op, sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_WRITE);
        // Of requests without data the driver does not look at the number.
        if done != if has_data { len_bytes } else { 0 } {
            let Request { op, sector, .. } = request;
            let line = format!("operation {op} at sector {sector}: {done} of {len_bytes} bytes");
            Audit::note(&mut self.audit.mistakes, line);
        }
        if !has_data {
            self.end_request(id, Ok(()));
            return;
        }
        let is_read = request.op == sys::UBLK_IO_OP_READ;
        if is_read && done == 0 {
            self.end_request(id, Err(Errno::EIO));
            return;
        }
        let copies = self.devices.all[name.device].copies();
        if is_read && copies && !self.copy_from_server(name, &request, done.min(len_bytes)) {
            if self.profile.has(Rule::FaultsFail) {
                self.end_request(id, Err(Errno::EIO));
            } else {
                self.send_again(name, id);
            }
            return;
        }
        let goes_on = is_read && copies || !self.profile.has(Rule::ShortIsAll);
        if done >= len_bytes || !goes_on {
            self.end_request(id, Ok(()));
            return;
        }
        // The rest is asked for with the same tag.
        let sectors = u32::try_from(done / 512).unwrap_or(0);
        if let Some(request) = self.clients.requests.get_mut(&id) {
            request.sector += u64::from(sectors);
            request.sectors -= sectors;
            request.data_at += sectors as usize * 512;
        }
        self.send_again(name, id);
    }

    /// A request is to go to the server again. With one queue there is a scheduler (`mq-deadline`),
    /// which takes the tag back: another request that waits already is first. With more queues it
    /// keeps its tag.
    fn send_again(&mut self, name: SlotName, id: u64) {
        let queues = &mut self.devices.all[name.device].queues;
        if queues.len() > 1 {
            self.give_tag(name, id);
            return;
        }
        let waiting = &mut queues[usize::from(name.queue)].waiting;
        waiting.insert(waiting.len().min(1), id);
    }

    /// The data of a read comes from the buffer that its COMMIT named.
    fn copy_from_server(&mut self, name: SlotName, request: &Request, len_bytes: usize) -> bool {
        let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) else {
            return false;
        };
        let addr = slot.addr;
        let Some(asking) = self.clients.askings.get_mut(&request.asking) else { return false };
        let data = &mut asking.data[request.data_at..][..len_bytes];
        user::copy_in(addr, data) == len_bytes
    }
}
