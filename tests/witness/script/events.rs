//! What happens after a step: completions and clients' answers, as text that is the same in every
//! run.

use super::bytes::{Bytes, runs};
use super::queues::descriptor;
use super::record::{Hint, WAITS};
use super::run::{Client, Run, SILENT, Sent};
use super::show;
use super::sqe::{Fd, Payload, Tail};
use super::world::{Answer, World};
use std::sync::Arc;
use std::time::Duration;
use ublkit::kernel::{Kernel, RingName};
use ublkit::sys::abi::from_bytes;
use ublkit::sys::io_uring::{
    IORING_CQE_F_MORE, IORING_ENTER_GETEVENTS, IORING_SETUP_IOPOLL, IORING_SETUP_R_DISABLED,
    IORING_SETUP_SQPOLL, io_uring_cqe,
};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::{UBLK_IO_RES_ABORT, ublk_params, ublksrv_ctrl_dev_info};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// How many times as quiet it must be after a command that may wait.
const PATIENCE: u32 = 5;
/// How long a step's expected answers are waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// Of an event: where it belongs among those of its step.
type Place = (usize, usize);

impl<W: World> Run<'_, W> {
    /// Looks until nothing new happens: at least until what is expected did, all control commands
    /// are answered but for those that are expected to wait, and it was quiet for a while; but not
    /// for ever.
    pub(super) fn settle(&mut self, expected: Hint) -> Vec<String> {
        let mut events: Vec<(Place, String)> = Vec::new();
        let begun = self.world.now();
        let mut last = begun;
        loop {
            let new = self.look();
            let now = self.world.now();
            if !new.is_empty() {
                events.extend(new);
                last = now;
            }
            let unanswered = self.sent.iter().filter(|sent| is_awaited(sent)).count();
            let patient = self.sent.iter().any(|sent| sent.sqe.patient && !sent.answered);
            let quiet = self.quiet * if patient || unanswered > 0 { PATIENCE } else { 1 };
            let is_late = now.saturating_sub(begun) > LIMIT;
            let is_done = events.len() >= expected.events
                && unanswered <= expected.waits
                && self.world.clients_wait();
            if is_late || is_done && now.saturating_sub(last) >= quiet {
                break;
            }
            self.world.sleep(PAUSE);
        }
        for (index, sent) in self.sent.iter_mut().enumerate() {
            if is_awaited(sent) {
                sent.given_up = true;
                events.push(((sent.ring, index + 1), format!("#{}{WAITS}", index + 1)));
            }
        }
        events.sort();
        events.into_iter().map(|(_, text)| text).collect()
    }

    /// What happened since the last look.
    fn look(&mut self) -> Vec<(Place, String)> {
        let mut events = Vec::new();
        let numbers: Vec<usize> = self.rings.keys().copied().collect();
        for number in numbers {
            let ring = &self.rings[&number];
            let shy = IORING_SETUP_IOPOLL | IORING_SETUP_R_DISABLED | IORING_SETUP_SQPOLL;
            if self.world.is_alive(ring.task) && ring.flags & shy == 0 {
                let file = Arc::clone(&ring.file);
                let flags = IORING_ENTER_GETEVENTS;
                self.world.run(ring.task, move |kernel| {
                    kernel.ring_enter(RingName::File(&file), 0, 0, flags, None)
                });
            }
            for cqe in self.rings[&number].queues.take() {
                if cqe.user_data != SILENT {
                    events.push(self.completed(number, cqe));
                }
            }
        }
        for (client, answer) in self.world.answers() {
            self.clients.insert(client, Client::Answered);
            let text = match answer {
                Answer::Done(data) if data.is_empty() => "done".into(),
                Answer::Done(data) => runs(&data),
                Answer::Failed(error) => show::errno(error),
                Answer::NoDisk => "no disk".into(),
            };
            events.push(((usize::MAX, client), format!("c{client}: {text}")));
        }
        events
    }

    fn completed(&mut self, ring: usize, cqe: io_uring_cqe) -> (Place, String) {
        let number = usize::try_from(cqe.user_data).unwrap_or(usize::MAX);
        let Some(sent) = number.checked_sub(1).and_then(|at| self.sent.get_mut(at)) else {
            return ((ring, number), format!("#{}={} UNKNOWN", cqe.user_data, cqe.res));
        };
        let again = if sent.answered { " AGAIN" } else { "" };
        sent.answered = cqe.flags & IORING_CQE_F_MORE == 0;
        let slot = sent.slot;
        let (sqe, memory) = (sent.sqe.clone(), sent.memory);
        let went_well = matches!(cqe.res, 0 | 1 | UBLK_IO_RES_ABORT);
        if let Some((queue, tag)) = slot {
            let known = self.tags.entry(queue).or_default();
            match (cqe.res, sent.committed.take()) {
                (0 | 1, _) => {
                    self.had.insert((ring, sqe.fd, queue, tag));
                    if !known.contains(&tag) {
                        known.push(tag);
                    }
                }
                (_, Some(at)) if !went_well => known.insert(at.min(known.len()), tag),
                _ => {}
            }
        }
        // Which idle slot of several gets a request is chance.
        let (name, place) = match slot {
            Some((queue, _)) if went_well && self.depth > 1 => (format!("queue {queue}"), 0),
            _ => (format!("#{number}"), number),
        };
        let mut text = format!("{name}={}{again}", show::result(cqe.res));
        if cqe.flags != 0 {
            text += &format!(" flags={:#x}", cqe.flags);
        }
        match &sqe.tail {
            Tail::Batch(_) => text += &self.batch_completed(ring, &sqe, memory, cqe),
            Tail::Io { queue, .. } if matches!(cqe.res, 0 | 1) => {
                let tag = slot.map_or(0, |(_, tag)| tag);
                if let Fd::Char(file) = sqe.fd {
                    text += &self.descriptor(file, *queue, tag);
                } else if sqe.flags & 1 != 0 {
                    text += &self.descriptor(0, *queue, tag);
                }
            }
            Tail::Control { payload, .. } if cqe.res >= 0 => {
                if let Some(memory) = memory {
                    text += &self.payload_text(sqe.op & 0xff, payload, memory);
                }
                if sqe.op & 0xff == u32::from(sys::UBLK_CMD_ADD_DEV) {
                    self.bind(&sqe.text, memory);
                }
            }
            _ => {}
        }
        ((ring, place), text)
    }

    /// A device was added: its name in the script is that of its command.
    fn bind(&mut self, text: &str, memory: Option<Bytes>) {
        let name = text.split_whitespace().nth(1).and_then(|name| name[1..].parse().ok());
        let info = memory.and_then(|bytes| from_bytes::<ublksrv_ctrl_dev_info>(&bytes.read(64)));
        if let (Some(mut name), Some(info)) = (name, info) {
            // A second one of that name is only there to be deleted in the end.
            while self.devices.get(&name).is_some_and(|id| *id != info.dev_id) {
                name += 100;
            }
            self.devices.insert(name, info.dev_id);
            self.depth = self.depth.max(info.queue_depth);
        }
    }

    /// The request of a slot.
    pub(super) fn descriptor(&self, file: usize, queue: u16, tag: u16) -> String {
        let mapped =
            |(place, _): &&(super::Place, _)| place.file == file && place.queue == Some(queue);
        let Some((_, mapping)) = self.maps.values().find(mapped) else { return String::new() };
        let Some(described) = descriptor(&**mapping, tag) else { return String::new() };
        let op = match sys::op(described.op_flags) {
            sys::UBLK_IO_OP_READ => "read".to_owned(),
            sys::UBLK_IO_OP_WRITE => "write".to_owned(),
            sys::UBLK_IO_OP_FLUSH => "flush".to_owned(),
            sys::UBLK_IO_OP_DISCARD => "discard".to_owned(),
            sys::UBLK_IO_OP_WRITE_ZEROES => "zero".to_owned(),
            other => format!("op {other}"),
        };
        let flags = match sys::flags(described.op_flags) {
            0 => String::new(),
            flags => format!(" flags={flags:#x}"),
        };
        let start = match described.start_sector {
            u64::MAX => "end".to_owned(),
            sector => sector.to_string(),
        };
        let address = self.address(described.addr);
        format!(" {op} {start}+{}{flags} {address}", described.nr_sectors)
    }

    /// An address as a script names it.
    fn address(&self, address: u64) -> String {
        for (number, bytes) in &self.buffers {
            let offset = address.wrapping_sub(bytes.address());
            if offset < bytes.len() as u64 {
                return if offset == 0 {
                    format!("b{number}")
                } else {
                    format!("b{number}+{offset}")
                };
            }
        }
        if address < 1 << 20 { format!("@{address:#x}") } else { "@elsewhere".into() }
    }

    /// What a control command wrote.
    fn payload_text(&self, op: u32, payload: &Payload, memory: Bytes) -> String {
        let skip = match payload {
            Payload::Path(_, rest) => memory.len() - rest.len(),
            _ => 0,
        };
        let bytes = memory.read(memory.len()).split_off(skip);
        match op {
            0x01 => format!(" {}", hex(&bytes)),
            0x02 | 0x04 | 0x12 => from_bytes(&bytes).map_or_else(String::new, |i| self.info(&i)),
            0x09 => from_bytes(&bytes).map_or_else(String::new, |params| shown(&bytes, &params)),
            0x13 => format!(" {:#x}", from_bytes_u64(&bytes)),
            _ => String::new(),
        }
    }

    fn info(&self, info: &ublksrv_ctrl_dev_info) -> String {
        let pid = match u32::try_from(info.ublksrv_pid) {
            Err(_) => format!("{}", info.ublksrv_pid),
            Ok(pid) if Some(pid) == self.pid => "server".into(),
            Ok(pid) => pid.to_string(),
        };
        let id = match self.devices.iter().find(|(_, id)| **id == info.dev_id) {
            Some((device, _)) => format!("d{device}"),
            None => "new".into(),
        };
        let mut text = format!(
            " {id} {}x{} {} flags={:#x} state={} pid={pid}",
            info.nr_hw_queues, info.queue_depth, info.max_io_buf_bytes, info.flags, info.state
        );
        for (name, value) in [
            ("io_desc_size", u64::from(info.io_desc_size)),
            ("ublksrv_flags", info.ublksrv_flags),
            ("uid", info.owner_uid.into()),
            ("gid", info.owner_gid.into()),
            ("pad1", info.pad1.into()),
            ("reserved1", info.reserved1),
            ("reserved2", info.reserved2),
        ] {
            if value != 0 {
                text += &format!(" {name}={value:#x}");
            }
        }
        text
    }
}

/// Whether a step waits for it: an unanswered control command, unless a script says otherwise.
fn is_awaited(sent: &Sent) -> bool {
    matches!(sent.sqe.tail, Tail::Control { .. }) && !sent.answered && !sent.given_up
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_bytes_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word))
}

/// Parameters: what is not zero, word by word. Device numbers are only told to be there.
fn shown(bytes: &[u8], params: &ublk_params) -> String {
    let devt = 60..76;
    let mut text = String::new();
    for (at, word) in bytes.chunks_exact(4).enumerate().map(|(index, word)| (index * 4, word)) {
        if word != [0; 4] && !devt.contains(&at) {
            text += &format!(" {at}:{}", hex(word));
        }
    }
    if params.devt.char_major != 0 {
        text += " char";
    }
    if params.devt.disk_major != 0 {
        text += " disk";
    }
    text
}
