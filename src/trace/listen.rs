//! What is said in a ring, decoded.

use super::event::{Command, Payload, Place, Slot, What};
use super::kernel::Traced;
use super::ring::{Asked, Heard, SlotState, Watch};
use super::sums::Sums;
use super::view::{at_address, copy};
use super::voice::{CharDevice, Kind, lock};
use crate::kernel::Kernel;
use crate::memory::page_bytes;
use std::sync::Arc;
use ublkit_sys::abi::{Abi, from_bytes};
use ublkit_sys::io_uring::{
    IORING_OP_URING_CMD, IOSQE_FIXED_FILE, io_uring_cqe, io_uring_sqe, io_uring_sqe128,
};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{
    SECTOR_BYTES, descriptors_offset_bytes, ublk_batch_io, ublk_params, ublksrv_ctrl_cmd,
    ublksrv_ctrl_dev_info, ublksrv_io_cmd, ublksrv_io_desc,
};

/// A struct that may be sent shorter than it is here: what is missing is zero.
fn padded<T: Abi>(bytes: &[u8]) -> Option<T> {
    let mut whole = vec![0; size_of::<T>().max(bytes.len())];
    whole[..bytes.len()].copy_from_slice(bytes);
    from_bytes(&whole)
}

/// What a command carries to the kernel.
fn question(opcode: u32, bytes: &[u8]) -> Option<Payload> {
    match opcode {
        sys::UBLK_U_CMD_ADD_DEV => padded(bytes).map(Payload::Device),
        sys::UBLK_U_CMD_SET_PARAMS => padded::<ublk_params>(bytes).map(Payload::Params),
        sys::UBLK_U_CMD_REG_BUF => from_bytes(bytes).map(Payload::Buffer),
        _ => None,
    }
}

/// What a command that succeeded brings back.
fn answer(opcode: u32, bytes: &[u8]) -> Option<Payload> {
    match opcode {
        sys::UBLK_U_CMD_ADD_DEV | sys::UBLK_U_CMD_GET_DEV_INFO | sys::UBLK_U_CMD_GET_DEV_INFO2 => {
            padded::<ublksrv_ctrl_dev_info>(bytes).map(Payload::Device)
        }
        sys::UBLK_U_CMD_GET_PARAMS => padded::<ublk_params>(bytes).map(Payload::Params),
        sys::UBLK_U_CMD_GET_FEATURES => {
            let bits = bytes.first_chunk()?;
            Some(Payload::Features(u64::from_ne_bytes(*bits)))
        }
        sys::UBLK_U_CMD_GET_QUEUE_AFFINITY => {
            let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
            let cpus = (0..).zip(bits).filter(|(_, is_set)| *is_set);
            Some(Payload::Cpus(cpus.map(|(cpu, _)| cpu).collect()))
        }
        _ => None,
    }
}

/// Bytes of a descriptor where the kernel does not say another size.
#[expect(clippy::cast_possible_truncation, reason = "24 bytes")]
const DESCRIPTOR_BYTES: u16 = size_of::<ublksrv_io_desc>() as u16;

/// Which command an SQE is.
pub(super) fn opcode(sqe: &io_uring_sqe128) -> u32 {
    let [a, b, c, d, ..] = sqe.head.off.to_le_bytes(); // the upper half is padding
    u32::from_le_bytes([a, b, c, d])
}

/// The end of an SQE as the struct that a command carries there.
pub(super) fn carried<T: Abi>(sqe: &io_uring_sqe128) -> Option<T> {
    let words = sqe.head.cmd.iter().chain(&sqe.tail);
    let bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
    from_bytes(&bytes)
}

impl<K: Kernel> Traced<K> {
    fn file_of(&self, heard: &Heard<K::Mapping>, sqe: &io_uring_sqe) -> Option<Kind<K::Mapping>> {
        if sqe.flags & IOSQE_FIXED_FILE == 0 {
            return lock(&self.voice.shared.files).get(&sqe.fd).cloned();
        }
        heard.fixed.get(usize::try_from(sqe.fd).ok()?)?.clone()
    }

    /// Tells what is about to be submitted.
    pub(super) fn tell_sqes(&self, watch: &Watch<K::Mapping>, to_submit: u32) {
        let mut heard = watch.lock();
        for sqe in heard.new_sqes(to_submit) {
            let file = self.file_of(&heard, &sqe.head);
            let is_command = sqe.head.opcode == IORING_OP_URING_CMD;
            let to_another = is_command && file.is_none();
            let told = match file {
                Some(Kind::Control) if is_command => self.tell_command(&mut heard, &sqe),
                Some(Kind::Char(device)) if is_command => {
                    self.tell_slot_command(&mut heard, device, &sqe)
                }
                _ => None,
            };
            if told.is_none() {
                let io_uring_sqe { opcode, user_data, .. } = sqe.head;
                let command = to_another.then(|| self::opcode(&sqe));
                self.voice.say(|_| What::Sent { opcode, command, user_data });
                heard.begin_entry(&sqe.head, Asked::Other { opcode });
            }
        }
    }

    fn tell_command(&self, heard: &mut Heard<K::Mapping>, sqe: &io_uring_sqe128) -> Option<()> {
        let cmd: ublksrv_ctrl_cmd = carried(sqe)?;
        let opcode = opcode(sqe);
        let memory = at_address(cmd.addr, cmd.len.into());
        let (path, data) = memory
            .as_ref()
            .and_then(|memory| memory.split_at_checked(cmd.dev_path_len.into()))
            .unwrap_or_default();
        let path = (!path.is_empty()).then(|| {
            let text = path.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(text).into_owned()
        });
        let device = (cmd.dev_id != u32::MAX).then_some(cmd.dev_id);
        let command = Command { opcode, device, number: cmd.data[0], path };
        let payload = question(opcode, data).filter(|_| memory.is_some());
        let path_bytes = u64::from(cmd.dev_path_len);
        let (address, len_bytes) =
            (cmd.addr.wrapping_add(path_bytes), u64::from(cmd.len).saturating_sub(path_bytes));
        let mut begun = None;
        self.voice.say(|at| {
            begun = Some(Asked::Control { command: command.clone(), at, address, len_bytes });
            What::Command { command, payload }
        });
        heard.begin(sqe.head.user_data, begun?);
        Some(())
    }

    fn tell_slot_command(
        &self,
        heard: &mut Heard<K::Mapping>,
        device: Arc<CharDevice<K::Mapping>>,
        sqe: &io_uring_sqe128,
    ) -> Option<()> {
        let ublksrv_io_cmd { q_id, tag, result, addr } = carried(sqe)?;
        let slot = Slot { device: device.id, queue: q_id, tag };
        // With automatic zero copy ublkit asks to be told of what could not be put there: not 0.
        let place = match sqe.head.addr {
            0 => Place::of(addr),
            word => Place::Table(sys::ublk_auto_buf_reg::from_sqe_addr(word).index),
        };
        match opcode(sqe) {
            sys::UBLK_U_IO_FETCH_REQ => self.tell_offer(heard, slot, None, place),
            sys::UBLK_U_IO_COMMIT_AND_FETCH_REQ => {
                self.tell_offer(heard, slot, Some(result), place);
            }
            sys::UBLK_U_IO_NEED_GET_DATA => {
                self.voice.say(|_| What::GetData { slot, place: self.voice.told(place) });
                heard.slots.insert(slot, SlotState { place, request: None });
            }
            op @ (sys::UBLK_U_IO_REGISTER_IO_BUF | sys::UBLK_U_IO_UNREGISTER_IO_BUF) => {
                let enter = op == sys::UBLK_U_IO_REGISTER_IO_BUF;
                self.voice.say(|_| What::Pages { slot, index: addr, enter });
                heard.begin_entry(&sqe.head, Asked::Other { opcode: sqe.head.opcode });
                return Some(());
            }
            sys::UBLK_U_IO_PREP_IO_CMDS | sys::UBLK_U_IO_COMMIT_IO_CMDS => {
                return self.tell_elements(heard, &device, sqe);
            }
            sys::UBLK_U_IO_FETCH_IO_CMDS => {
                let ublk_batch_io { q_id: queue, .. } = carried(sqe)?;
                let io_uring_sqe { opcode, user_data, .. } = sqe.head;
                self.voice.say(|_| What::Sent { opcode, command: None, user_data });
                heard.begin(user_data, Asked::Tags(queue, device));
                return Some(());
            }
            _ => return None,
        }
        heard.begin(sqe.head.user_data, Asked::Slot(slot, device));
        Some(())
    }

    /// A slot is offered, with the result of its request if it has had one.
    pub(super) fn tell_offer(
        &self,
        heard: &mut Heard<K::Mapping>,
        slot: Slot,
        result: Option<i32>,
        place: Place,
    ) {
        let told = self.voice.told(place);
        let state = SlotState { place, request: None };
        let SlotState { request, .. } = heard.slots.insert(slot, state).unwrap_or_default();
        let Some(result) = result else {
            return self.voice.say(|_| What::Fetch { slot, place: told });
        };
        let is_read = request
            .is_some_and(|(_, descriptor)| sys::op(descriptor.op_flags) == sys::UBLK_IO_OP_READ);
        // Lent to the kernel again, which takes the data from there.
        let sums = u64::try_from(result).ok().filter(|_| is_read);
        let sums = sums.and_then(|len_bytes| self.sums(place, len_bytes));
        self.voice.say(|at| {
            let latency = request.map(|(since, _)| at.saturating_sub(since));
            What::Commit { slot, result, place: told, latency, sums }
        });
    }

    fn sums(&self, place: Place, len_bytes: u64) -> Option<Sums> {
        let Place::Buffer(address) = place else { return None };
        if !self.voice.shared.detail.sums {
            return None;
        }
        at_address(address, len_bytes).map(|data| Sums::of(&data))
    }

    /// Tells what has completed. What is told late may have been taken by the server already: then
    /// the memory that a command named is not looked at, for it may be another's.
    pub(super) fn tell_cqes(&self, watch: &Watch<K::Mapping>, is_late: bool) {
        let mut heard = watch.lock();
        let (cqes, completions) = heard.new_cqes();
        if completions > 0 {
            self.voice.say(|_| What::Missed { completions });
        }
        for cqe in cqes {
            let io_uring_cqe { user_data, res: result, .. } = cqe;
            match heard.end(user_data) {
                Some(Asked::Tags(queue, device)) => {
                    self.tell_tags(&mut heard, queue, device, cqe, is_late);
                }
                Some(Asked::Control { command, at, address, len_bytes }) => {
                    let has_data = result >= 0 && !is_late;
                    let data = has_data.then(|| at_address(address, len_bytes)).flatten();
                    let payload = data.and_then(|data| answer(command.opcode, &data));
                    let command = self.granted(command, payload.as_ref());
                    self.voice.say(|now| {
                        let latency = now.saturating_sub(at);
                        What::Answer { command, result, latency, payload }
                    });
                }
                Some(Asked::Slot(slot, device)) => {
                    let is_request = result == sys::UBLK_IO_RES_OK;
                    match is_request.then(|| self.descriptor(&device, slot)).flatten() {
                        Some(it) => self.tell_request(&mut heard, slot, it, is_late),
                        None if result == sys::UBLK_IO_RES_NEED_GET_DATA => {
                            self.voice.say(|_| What::NeedsData { slot });
                        }
                        None => self.voice.say(|_| What::Ended { slot, result }),
                    }
                }
                Some(Asked::Other { opcode }) => {
                    let opcode = Some(opcode);
                    self.voice.say(|_| What::Done { opcode, user_data, result });
                }
                None => self.voice.say(|_| What::Done { opcode: None, user_data, result }),
            }
        }
    }

    /// The command of an answer; of ADD_DEV with what was granted, which is noted.
    fn granted(&self, mut command: Command, payload: Option<&Payload>) -> Command {
        if let (sys::UBLK_U_CMD_ADD_DEV, Some(Payload::Device(info))) = (command.opcode, payload) {
            command.device = Some(info.dev_id);
            let sized = info.flags & sys::UBLK_F_IO_DESC_SIZE != 0;
            let bytes = if sized { info.io_desc_size } else { DESCRIPTOR_BYTES };
            lock(&self.voice.shared.descriptor_bytes).insert(info.dev_id, bytes);
        }
        command
    }

    /// A slot's command completed with a request.
    pub(super) fn tell_request(
        &self,
        heard: &mut Heard<K::Mapping>,
        slot: Slot,
        descriptor: ublksrv_io_desc,
        is_late: bool,
    ) {
        let state = heard.slots.entry(slot).or_default();
        let is_write = sys::op(descriptor.op_flags) == sys::UBLK_IO_OP_WRITE;
        let len_bytes = u64::from(descriptor.nr_sectors) * SECTOR_BYTES;
        let sums = if is_write && !is_late { self.sums(state.place, len_bytes) } else { None };
        self.voice.say(|at| {
            state.request = Some((at, descriptor));
            What::Request { slot, descriptor, sums }
        });
    }

    /// The descriptor of a slot that has a request.
    pub(super) fn descriptor(
        &self,
        device: &CharDevice<K::Mapping>,
        slot: Slot,
    ) -> Option<ublksrv_io_desc> {
        let noted = lock(&self.voice.shared.descriptor_bytes).get(&slot.device).copied();
        let bytes = noted.unwrap_or(DESCRIPTOR_BYTES);
        let is_possible = slot.queue < sys::UBLK_MAX_NR_QUEUES
            && (DESCRIPTOR_BYTES..=256).contains(&bytes)
            && bytes.is_multiple_of(8);
        if !is_possible {
            return None;
        }
        let first = descriptors_offset_bytes(slot.queue, bytes, page_bytes());
        let place = first + u64::from(slot.tag) * u64::from(bytes);
        let maps = lock(&device.descriptors);
        let mut mapped = maps.iter().filter_map(|(offset, memory)| {
            let offset = usize::try_from(place.checked_sub(*offset)?).ok()?;
            Some((offset, memory.upgrade()?))
        });
        mapped.find_map(|(offset, memory)| copy(&*memory, offset))
    }
}
