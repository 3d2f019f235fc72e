//! Many slots with one command: PREP, COMMIT and FETCH of devices with `BATCH_IO`, in the driver's
//! order of checks.

use super::device::{Fetch, Pending, Slot, SlotName, State};
use crate::errno::Errno;
use crate::sim::uring::{FileCommand, Issuer, Outcome, Work, cqe};
use crate::sim::user;
use crate::sim::world::{Audit, FileId, World};
use std::collections::VecDeque;
use ublkit_sys::abi::from_bytes;
use ublkit_sys::io_uring::{
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER, IORING_CQE_F_MORE, IORING_URING_CMD_MULTISHOT,
    io_uring_cqe,
};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{ublk_batch_io, ublk_elem_header, ublksrv_io_cmd};

/// Tags in one completion, at the most.
const MOST_TAGS: usize = 128;

/// An element, unpacked.
#[derive(Clone, Copy)]
struct Element {
    head: ublk_elem_header,
    /// What the slot keeps: the buffer, or the place in the ring's table with its flags.
    addr: u64,
}

/// A command, unpacked.
struct BatchCommand {
    place: usize,
    ring: FileId,
    admin: bool,
    header: ublk_batch_io,
    address: u64,
}

impl World {
    /// A command arrives at the char device of such a device.
    pub(super) fn batch_command(
        &mut self,
        issuer: Issuer,
        file: FileId,
        place: usize,
        command: &FileCommand,
    ) -> Result<Outcome, Errno> {
        let header = command.payload.first_chunk::<16>().and_then(|bytes| from_bytes(bytes));
        let header: ublk_batch_io = header.expect("16 bytes of 80");
        let sent = BatchCommand {
            place,
            ring: issuer.ring,
            admin: issuer.admin,
            header,
            address: command.addr,
        };
        match command.op {
            sys::UBLK_U_IO_PREP_IO_CMDS => {
                self.check_batch(&sent)?;
                self.prepare(&sent).map(|()| Outcome::Done(0))
            }
            sys::UBLK_U_IO_COMMIT_IO_CMDS => {
                self.check_batch(&sent)?;
                self.commit_batch(&sent).map(Outcome::Done)
            }
            sys::UBLK_U_IO_FETCH_IO_CMDS => {
                let queues = self.devices.all[place].info.nr_hw_queues;
                let is_multishot = command.flags & IORING_URING_CMD_MULTISHOT != 0;
                if header.q_id >= queues
                    || !is_multishot
                    || header.elem_bytes != 2
                    || header.flags != 0
                {
                    return Err(Errno::EINVAL);
                }
                let FileCommand { user_data, skips, group, .. } = *command;
                let pending = Pending { ring: issuer.ring, user_data, file, skips };
                self.fetch_tags(place, header.q_id, Fetch { pending, group })
            }
            other => self.lone_command(&sent, other, command),
        }
    }

    /// What is not for many slots: pages by hand, and nothing else.
    fn lone_command(
        &mut self,
        sent: &BatchCommand,
        op: u32,
        command: &FileCommand,
    ) -> Result<Outcome, Errno> {
        let io = command.payload.first_chunk::<16>().and_then(|bytes| from_bytes(bytes));
        let ublksrv_io_cmd { q_id: queue, tag, addr, .. } = io.expect("16 bytes of 80");
        if op == sys::UBLK_U_IO_UNREGISTER_IO_BUF {
            return self.unregister_by_hand(sent.place, sent.ring, addr).map(|()| Outcome::Done(0));
        }
        self.devices.all[sent.place].slot(queue, tag).ok_or(Errno::EINVAL)?;
        if op != sys::UBLK_U_IO_REGISTER_IO_BUF {
            return Err(Errno::EOPNOTSUPP);
        }
        let name = SlotName { device: sent.place, queue, tag };
        self.register_by_hand(name, sent.ring, addr).map(|()| Outcome::Done(0))
    }

    /// What is wrong with a command of elements, whatever they are.
    fn check_batch(&self, sent: &BatchCommand) -> Result<(), Errno> {
        let device = &self.devices.all[sent.place];
        let ublk_batch_io { q_id, flags, nr_elem, elem_bytes, .. } = sent.header;
        let refuse_if = |is_wrong, errno| if is_wrong { Err(errno) } else { Ok(()) };
        let has = |flag| flags & flag != 0;
        let has_address = has(sys::UBLK_BATCH_F_HAS_BUF_ADDR);
        let falls_back = has(sys::UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK);
        let has_zone = has(sys::UBLK_BATCH_F_HAS_ZONE_LBA);
        refuse_if(q_id >= device.info.nr_hw_queues, Errno::EINVAL)?;
        refuse_if(nr_elem > device.info.queue_depth, Errno::E2BIG)?;
        refuse_if(has_zone && !device.has(sys::UBLK_F_ZONED), Errno::EINVAL)?;
        refuse_if(has_address && !device.copies(), Errno::EINVAL)?;
        refuse_if(falls_back && !device.has(sys::UBLK_F_AUTO_BUF_REG), Errno::EINVAL)?;
        refuse_if(flags & !0b111 != 0 || falls_back && has_address, Errno::EINVAL)?;
        let right = 8 + 8 * (u8::from(has_address) + u8::from(has_zone));
        refuse_if(elem_bytes != right, Errno::EINVAL)
    }

    /// The element at `index`, from the server's memory.
    fn element(&self, sent: &BatchCommand, index: u16) -> Result<Element, Errno> {
        let mut bytes = [0; 24];
        let each = usize::from(sent.header.elem_bytes);
        let at = sent.address.wrapping_add(u64::from(index) * each as u64);
        user::read(at, &mut bytes[..each])?;
        let head: ublk_elem_header = from_bytes(&bytes[..8]).expect("8 bytes");
        let falls_back = sent.header.flags & sys::UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK != 0;
        let addr = if sent.header.flags & sys::UBLK_BATCH_F_HAS_BUF_ADDR != 0 {
            u64::from_ne_bytes(*bytes[8..].first_chunk().expect("8 more"))
        } else if self.devices.all[sent.place].has(sys::UBLK_F_AUTO_BUF_REG) {
            let flags = if falls_back { u64::from(sys::UBLK_AUTO_BUF_REG_FALLBACK) } else { 0 };
            u64::from(head.buf_index) | flags << 16
        } else {
            0
        };
        Ok(Element { head, addr })
    }

    /// PREP: all of its slots, or none.
    fn prepare(&mut self, sent: &BatchCommand) -> Result<(), Errno> {
        let queue = sent.header.q_id;
        let elements = (0..sent.header.nr_elem).map(|index| self.element(sent, index));
        let elements: Vec<Element> = elements.collect::<Result<_, _>>()?;
        let mut done = Vec::new();
        for element in elements {
            if let Err(errno) = self.prepare_one(sent, element) {
                let device = &mut self.devices.all[sent.place];
                for tag in done {
                    device.ready = false;
                    if let Some(slot) = device.slot(queue, tag) {
                        slot.state = State::New;
                    }
                }
                return Err(errno);
            }
            done.push(element.head.tag);
        }
        Ok(())
    }

    fn prepare_one(&mut self, sent: &BatchCommand, element: Element) -> Result<(), Errno> {
        let queue = sent.header.q_id;
        let device = &mut self.devices.all[sent.place];
        let copies = device.copies();
        let (stopping, ready) = (device.stopping, device.ready);
        let slot = device.slot(queue, element.head.tag).ok_or(Errno::EINVAL)?;
        if copies && element.addr == 0 {
            return Err(Errno::EINVAL);
        }
        if stopping {
            return Err(Errno::ENODEV);
        }
        if ready {
            return Err(Errno::EBUSY);
        }
        if slot.state != State::New {
            return Err(Errno::EINVAL);
        }
        (slot.state, slot.addr) = (State::Idle, element.addr);
        device.untrusted |= !sent.admin;
        self.audit.fetched += 1;
        let is_new = |slot: &Slot| slot.state == State::New;
        let this = &mut device.queues[usize::from(queue)];
        if !this.slots.iter().any(is_new) {
            (this.canceling, this.refuses_fetches) = (false, false);
        }
        device.ready = !device.queues.iter().flat_map(|queue| &queue.slots).any(is_new);
        Ok(())
    }

    /// COMMIT: as far as the first element that cannot be. Answers how many bytes of them.
    fn commit_batch(&mut self, sent: &BatchCommand) -> Result<i32, Errno> {
        let mut done = 0;
        for index in 0..sent.header.nr_elem {
            let committed =
                self.element(sent, index).and_then(|element| self.commit_one(sent, element));
            match committed {
                Ok(()) => {
                    done += i32::from(sent.header.elem_bytes);
                    let is_last = index + 1 == sent.header.nr_elem;
                    if !is_last && self.choices.chance(self.faults.short_batch.into(), 256) {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(errno) => {
                    Audit::note(&mut self.audit.refused, format!("element {index}: {errno}"));
                    break;
                }
            }
        }
        Ok(done)
    }

    fn commit_one(&mut self, sent: &BatchCommand, element: Element) -> Result<(), Errno> {
        let ublk_elem_header { tag, result, .. } = element.head;
        let name = SlotName { device: sent.place, queue: sent.header.q_id, tag };
        let device = &mut self.devices.all[sent.place];
        let copies = device.copies();
        let slot = device.slot(name.queue, tag).ok_or(Errno::EINVAL)?;
        let request = slot.request.filter(|_| slot.state == State::Owned);
        let id = request.ok_or(Errno::EBUSY)?;
        if copies && element.addr == 0 {
            return Err(Errno::EINVAL);
        }
        (slot.state, slot.addr) = (State::Idle, element.addr);
        self.answered(name, id, result, sent.ring);
        Ok(())
    }

    /// FETCH: brings tags from here on.
    fn fetch_tags(&mut self, place: usize, queue: u16, fetch: Fetch) -> Result<Outcome, Errno> {
        let this = &mut self.devices.all[place].queues[usize::from(queue)];
        if this.refuses_fetches || this.canceling {
            return Err(Errno::ENODEV);
        }
        this.fetches.push_back(fetch);
        self.hold(fetch.pending.file);
        self.deliver_tags(place, queue);
        Ok(Outcome::Pending)
    }

    /// A slot has a request, and the server is to be told.
    pub(super) fn announce(&mut self, name: SlotName) {
        let SlotName { device, queue, tag } = name;
        let this = &mut self.devices.all[device].queues[usize::from(queue)];
        this.events.push_back(tag);
        if let Some(fetch) = this.fetches.front() {
            let ring = fetch.pending.ring;
            self.add_work(ring, Work::DeliverTags(device, queue));
        }
    }

    /// In the server's task: the tags of all that arrived come in its buffers.
    pub(in crate::sim) fn deliver_tags(&mut self, place: usize, queue: u16) {
        loop {
            let this = &mut self.devices.all[place].queues[usize::from(queue)];
            let Some(fetch) = this.fetches.front().copied() else { return };
            if this.events.is_empty() || !self.files.contains_key(&fetch.pending.ring) {
                return;
            }
            if !self.deliver_some(place, queue, fetch) {
                self.end_fetch(place, queue, -libc::ENOBUFS);
                return;
            }
        }
    }

    /// One completion with tags. `false`: there is no buffer, or it cannot be written.
    fn deliver_some(&mut self, place: usize, queue: u16, fetch: Fetch) -> bool {
        let ring = fetch.pending.ring;
        let fault = self.faults.no_buffer;
        let this = &mut self.devices.all[place].queues[usize::from(queue)];
        if fault == u8::MAX || !this.lacked_buffer && self.choices.chance(fault.into(), 256) {
            this.lacked_buffer = true;
            return false;
        }
        this.lacked_buffer = false;
        let Some(buffer) = self.next_buffer(ring, fetch.group) else { return false };
        if buffer.len_bytes < 2 {
            return false;
        }
        let most = (buffer.len_bytes / 2).min(MOST_TAGS);
        let events = &mut self.devices.all[place].queues[usize::from(queue)].events;
        let most = most.min(events.len());
        // Some of them may come later, in a completion of their own.
        let count = if most > 1 && self.faults.short_submit > 0 {
            1 + self.choices.below(most)
        } else {
            most
        };
        let tags: Vec<u16> = events.drain(..count).collect();
        let mut told: Vec<u16> = Vec::new();
        for tag in tags {
            self.something_happens();
            let name = SlotName { device: place, queue, tag };
            if self.hand_over(name, ring) {
                told.push(tag);
            }
        }
        if told.is_empty() {
            return true;
        }
        let bytes: Vec<u8> = told.iter().flat_map(|tag| tag.to_ne_bytes()).collect();
        if user::write(buffer.address, &bytes).is_err() {
            for tag in told {
                let this = &mut self.devices.all[place].queues[usize::from(queue)];
                this.events.push_back(tag);
                this.slots[usize::from(tag)].state = State::Idle;
                self.audit.delivered -= 1;
                self.unregister_automatically(SlotName { device: place, queue, tag }, ring);
            }
            return false;
        }
        self.use_buffer(ring, fetch.group);
        let number = u32::from(buffer.number) << IORING_CQE_BUFFER_SHIFT;
        let told = io_uring_cqe {
            user_data: fetch.pending.user_data,
            res: i32::try_from(bytes.len()).expect("256 at the most"),
            flags: number | IORING_CQE_F_BUFFER | IORING_CQE_F_MORE,
        };
        self.post(ring, told);
        true
    }

    /// The first command that brings tags ends.
    fn end_fetch(&mut self, place: usize, queue: u16, result: i32) {
        let this = &mut self.devices.all[place].queues[usize::from(queue)];
        let Some(Fetch { pending, .. }) = this.fetches.pop_front() else { return };
        self.post(pending.ring, cqe(pending.user_data, result));
        self.let_go(pending.file);
    }

    /// All commands that bring tags end, of one ring or of every: nothing more will come.
    pub(super) fn take_back_fetches(&mut self, place: usize, of: Option<FileId>) {
        let device = &self.devices.all[place];
        let all = of.is_none() && device.has(sys::UBLK_F_BATCH_IO);
        let serverless = device.info.state == sys::UBLK_S_DEV_QUIESCED;
        for queue in 0..device.queues.len() {
            let this = &mut self.devices.all[place].queues[queue];
            this.refuses_fetches |= all;
            if all && serverless {
                // Only those fail that come from now on; nobody looks at the others until then.
                this.parked.append(&mut this.waiting);
            }
            let (ended, left) = std::mem::take(&mut this.fetches)
                .into_iter()
                .partition(|fetch| of.is_none_or(|ring| fetch.pending.ring == ring));
            this.fetches = left;
            let ended: VecDeque<Fetch> = ended;
            if !ended.is_empty() {
                let is_idle = |slot: &&Slot| slot.state == State::Idle && slot.request.is_none();
                let idle = this.slots.iter().filter(is_idle).count();
                self.audit.aborted += idle as u64;
            }
            for Fetch { pending, .. } in ended {
                self.complete_later(pending.ring, pending.user_data, sys::UBLK_IO_RES_ABORT);
                self.let_go(pending.file);
            }
        }
    }
}
