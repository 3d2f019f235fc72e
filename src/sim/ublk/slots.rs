//! Commands for slots: FETCH, COMMIT_AND_FETCH, NEED_GET_DATA, in the driver's order of checks.

use super::device::{Device, Pending, Slot, SlotName, State};
use crate::errno::Errno;
use crate::sim::profile::Rule;
use crate::sim::uring::{FileCommand, Issuer, Outcome};
use crate::sim::world::{Audit, FileId, World};
use ublkit_sys::abi::from_bytes;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::ublksrv_io_cmd;

/// The low byte of each opcode is its number.
const FETCH: u32 = sys::UBLK_U_IO_FETCH_REQ & 0xff;
const COMMIT_AND_FETCH: u32 = sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ & 0xff;
const GET_DATA: u32 = sys::UBLK_U_IO_NEED_GET_DATA & 0xff;
const REGISTER: u32 = sys::UBLK_U_IO_REGISTER_IO_BUF & 0xff;
const UNREGISTER: u32 = sys::UBLK_U_IO_UNREGISTER_IO_BUF & 0xff;

/// Whether a server could have known that the command would be refused so: not of what goes on
/// elsewhere, nor of how much memory the kernel has.
fn is_mistake(number: u32, errno: Errno) -> bool {
    errno != Errno::ENODEV && (number, errno) != (REGISTER, Errno::ENOMEM)
}

/// A command for a slot, unpacked.
struct SlotCommand {
    number: u32,
    io: ublksrv_io_cmd,
    pending: Pending,
    task: usize,
    admin: bool,
    /// The SQE's own address: which place of the ring's table a request's pages are to have.
    sqe_addr: u64,
}

impl SlotCommand {
    /// Whether the place in the ring's table is one, where requests' pages go there by themselves.
    fn place_is_wrong(&self, device: &Device) -> bool {
        let known = u64::from(u16::MAX) | u64::from(sys::UBLK_AUTO_BUF_REG_F_MASK) << 16;
        device.has(sys::UBLK_F_AUTO_BUF_REG) && self.sqe_addr & !known != 0
    }

    /// What the slot keeps: the buffer, or that place.
    fn addr(&self, device: &Device) -> u64 {
        if device.has(sys::UBLK_F_AUTO_BUF_REG) { self.sqe_addr } else { self.io.addr }
    }
}

impl World {
    /// A command arrives at a char device.
    pub(in crate::sim) fn slot_command(
        &mut self,
        issuer: Issuer,
        file: FileId,
        device: usize,
        command: &FileCommand,
    ) -> Outcome {
        self.threads.serves();
        let io: ublksrv_io_cmd = from_bytes(&command.payload).expect("16 bytes of 80");
        let FileCommand { user_data, skips, .. } = *command;
        let pending = Pending { ring: issuer.ring, user_data, file, skips };
        let kind = command.op >> 8 & 0xff;
        let sent = SlotCommand {
            number: command.op & 0xff,
            io,
            pending,
            task: issuer.task,
            admin: issuer.admin,
            sqe_addr: command.addr,
        };
        if self.devices.all[device].has(sys::UBLK_F_BATCH_IO) {
            return self.batch_command(issuer, file, device, command).unwrap_or_else(|errno| {
                if is_mistake(command.op & 0xff, errno) {
                    let line = format!("command {:#x} for many slots: {errno}", command.op & 0xff);
                    Audit::note(&mut self.audit.refused, line);
                }
                Outcome::Done(-errno.number())
            });
        }
        let is_right_kind = kind == u32::from(b'u') || kind == 0;
        let late_kind = !self.profile.has(Rule::KindComesFirst);
        let result = if !is_right_kind && !late_kind {
            Err(Errno::EOPNOTSUPP)
        } else {
            self.slot_command_checked(device, &sent, is_right_kind)
        };
        match result {
            Ok(outcome) => outcome,
            Err(errno) => {
                let ublksrv_io_cmd { q_id, tag, .. } = io;
                let number = sent.number;
                let line = format!("command {number:#x} for queue {q_id} tag {tag}: {errno}");
                if is_mistake(number, errno) {
                    Audit::note(&mut self.audit.refused, line);
                }
                Outcome::Done(-errno.number())
            }
        }
    }

    fn slot_command_checked(
        &mut self,
        place: usize,
        sent: &SlotCommand,
        is_right_kind: bool,
    ) -> Result<Outcome, Errno> {
        let profile = self.profile;
        let device = &mut self.devices.all[place];
        // Since then pages may be registered by any task, and unregistered whatever the slot.
        let by_any_task = profile.features() & sys::UBLK_F_BUF_REG_OFF_DAEMON != 0;
        let ring = sent.pending.ring;
        let ublksrv_io_cmd { q_id: queue, tag, addr, .. } = sent.io;
        if sent.number == UNREGISTER && by_any_task {
            return self.unregister_by_hand(place, ring, addr).map(|()| Outcome::Done(0));
        }
        let name = SlotName { device: place, queue, tag };
        let owner = device.queues.get(usize::from(queue)).and_then(|queue| queue.task);
        let slot = *device.slot(queue, tag).ok_or(Errno::EINVAL)?;
        if profile.has(Rule::TaskPerSlot) {
            if sent.number == FETCH {
                return self.fetch(name, sent);
            }
            if slot.task != Some(sent.task) {
                if sent.number == REGISTER && by_any_task {
                    return self.register_by_hand(name, ring, addr).map(|()| Outcome::Done(0));
                }
                return Err(Errno::EINVAL);
            }
        } else {
            if owner.is_some_and(|owner| owner != sent.task) {
                return Err(Errno::EINVAL);
            }
            if slot.state == State::Idle {
                return Err(Errno::EBUSY);
            }
        }
        if profile.has(Rule::TaskPerSlot) && !owned(slot.state) {
            return Err(Errno::EBUSY);
        }
        if (slot.state == State::OwnedWantsData) != (sent.number == GET_DATA) {
            return Err(Errno::EINVAL);
        }
        if !is_right_kind {
            return Err(Errno::EOPNOTSUPP);
        }
        match sent.number {
            FETCH => self.fetch(name, sent),
            COMMIT_AND_FETCH => self.commit(name, sent),
            GET_DATA => self.give_data(name, sent),
            REGISTER => self.register_by_hand(name, ring, addr).map(|()| Outcome::Done(0)),
            UNREGISTER => self.unregister_by_hand(place, ring, addr).map(|()| Outcome::Done(0)),
            _ => Err(Errno::EINVAL),
        }
    }

    fn fetch(&mut self, name: SlotName, sent: &SlotCommand) -> Result<Outcome, Errno> {
        let profile = self.profile;
        let device = &mut self.devices.all[name.device];
        let needs_addr = device.copies() && !device.has(sys::UBLK_F_NEED_GET_DATA);
        let buffer_is_wrong = match device.copies() {
            true => needs_addr && sent.io.addr == 0,
            false => sent.io.addr != 0 || sent.place_is_wrong(device),
        };
        let addr = sent.addr(device);
        if profile.has(Rule::TaskPerSlot) {
            if buffer_is_wrong {
                return Err(Errno::EINVAL);
            }
            if device.stopping {
                return Err(Errno::ENODEV);
            }
            if device.ready {
                return Err(Errno::EBUSY);
            }
        } else {
            let queue = &device.queues[usize::from(name.queue)];
            if queue.slots.iter().all(|slot| slot.state != State::New) {
                return Err(Errno::EBUSY);
            }
        }
        let slot = device.slot(name.queue, name.tag).ok_or(Errno::EINVAL)?;
        if slot.state != State::New || buffer_is_wrong {
            return Err(Errno::EINVAL);
        }
        slot.state = State::Idle;
        slot.addr = addr;
        slot.task = Some(sent.task);
        slot.pending = Some(sent.pending);
        device.untrusted |= !sent.admin;
        let is_new = |slot: &Slot| slot.state == State::New;
        let queue = &mut device.queues[usize::from(name.queue)];
        if !queue.slots.iter().any(is_new) {
            queue.task = Some(sent.task); // the last one; looked at where a queue has one task
        }
        if !device.queues.iter().any(|queue| queue.slots.iter().any(is_new)) {
            device.ready = true;
            for queue in &mut device.queues {
                queue.canceling = false;
            }
        }
        self.audit.fetched += 1;
        self.hold(sent.pending.file);
        Ok(Outcome::Pending)
    }

    fn commit(&mut self, name: SlotName, sent: &SlotCommand) -> Result<Outcome, Errno> {
        let device = &mut self.devices.all[name.device];
        let slot = device.slot(name.queue, name.tag).ok_or(Errno::EINVAL)?;
        let Some(id) = slot.request.filter(|_| slot.state == State::Owned) else {
            return Err(Errno::EINVAL);
        };
        let op = self.clients.requests.get(&id).map_or(0, |request| request.op);
        let device = &mut self.devices.all[name.device];
        let may_be_none = device.has(sys::UBLK_F_NEED_GET_DATA) && op != sys::UBLK_IO_OP_READ;
        let buffer_is_wrong = match device.copies() {
            true => sent.io.addr == 0 && !may_be_none,
            false => {
                sent.io.addr != 0 && op != sys::UBLK_IO_OP_ZONE_APPEND
                    || sent.place_is_wrong(device)
            }
        };
        let addr = sent.addr(device);
        if buffer_is_wrong {
            return Err(Errno::EINVAL);
        }
        let slot = device.slot(name.queue, name.tag).ok_or(Errno::EINVAL)?;
        slot.state = State::Idle;
        slot.addr = addr;
        slot.pending = Some(sent.pending);
        self.hold(sent.pending.file);
        self.answered(name, id, sent.io.result, sent.pending.ring);
        Ok(Outcome::Pending)
    }

    /// The server has answered a slot's request, through a ring.
    pub(super) fn answered(&mut self, name: SlotName, id: u64, result: i32, ring: FileId) {
        self.audit.committed += 1;
        if let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) {
            slot.request = None;
        }
        self.scribble(name);
        self.unregister_automatically(name, ring);
        if self.page_uses.any(id) {
            if let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) {
                slot.answered = Some((id, result));
            }
        } else {
            self.answer_request(name, id, result);
        }
    }

    /// The server says where the data of a write goes.
    fn give_data(&mut self, name: SlotName, sent: &SlotCommand) -> Result<Outcome, Errno> {
        let slot = self.devices.all[name.device].slot(name.queue, name.tag).ok_or(Errno::EINVAL)?;
        slot.addr = sent.io.addr;
        slot.pending = Some(sent.pending);
        slot.state = State::Idle;
        self.hold(sent.pending.file);
        self.deliver_data(name);
        Ok(Outcome::Pending)
    }
}

fn owned(state: State) -> bool {
    matches!(state, State::Owned | State::OwnedWantsData)
}
