//! [`Recording`]: what a replay needs of a trace, read from its lines.

use super::lines::Line;
use super::races::find_races;
use crate::geometry::{Durability, Geometry};
use crate::trace::Sums;
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use std::collections::BTreeMap;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::SECTOR_BYTES;

/// Queues that a replay can have: each is a thread.
const MOST_QUEUES: u16 = 128;

/// The largest request that a device can be made with.
const MOST_IO_BYTES: u32 = 32 << 20;

/// What a replay needs of a trace.
#[derive(Clone, Debug)]
pub struct Recording {
    pub(super) geometry: Geometry,
    pub(super) device: Device,
    pub(super) requests: Vec<Recorded>,
}

/// What the driver granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device {
    id: u32,
    pub(super) queues: u16,
    pub(super) depth: u16,
    pub(super) max_io_bytes: u32,
}

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub(super) struct Recorded {
    /// Where it was delivered.
    pub(super) line: usize,
    at: Duration,
    pub(super) queue: u16,
    pub(super) tag: u16,
    pub(super) op_flags: u32,
    pub(super) start_sector: u64,
    pub(super) nr_sectors: u32,
    /// What a write brought, where that could be read.
    pub(super) sums: Option<Sums>,
    /// When the backend began with it.
    begun: Option<Duration>,
    /// When the backend did it, from and to.
    operation: Option<(Duration, Duration)>,
    /// The line that said so.
    pub(super) operation_line: Option<usize>,
    pub(super) answer: Option<Answered>,
    /// What a read brings cannot be told from the recording.
    pub(super) is_open: bool,
}

/// How a request was answered.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub(super) line: usize,
    at: Duration,
    pub(super) result: i32,
    /// What a read brought.
    pub(super) sums: Option<Sums>,
}

impl Recorded {
    pub(super) fn op(&self) -> u8 {
        sys::op(self.op_flags)
    }

    pub(super) fn data_bytes(&self) -> u64 {
        match self.op() {
            sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_WRITE => {
                u64::from(self.nr_sectors) * SECTOR_BYTES
            }
            _ => 0,
        }
    }

    /// The sectors that it is about.
    pub(super) fn sectors(&self) -> Range<u64> {
        let end = self.start_sector.saturating_add(self.nr_sectors.into());
        if self.op() == sys::UBLK_IO_OP_FLUSH { 0..0 } else { self.start_sector..end }
    }

    /// When the backend worked on it.
    pub(super) fn window(&self) -> (Duration, Duration) {
        let answered = self.answer.as_ref().map_or(Duration::MAX, |answer| answer.at);
        let (from, to) = self.operation.unwrap_or((self.at, answered));
        (from.max(self.at), to.max(self.at))
    }

    /// The line by which the backend had done it.
    pub(super) fn done_line(&self) -> usize {
        let answered = self.answer.as_ref().map_or(usize::MAX, |answer| answer.line);
        self.operation_line.unwrap_or(answered)
    }
}

/// Why a file is no recording.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Malformed {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Malformed {}

impl Recording {
    /// Reads a recording: a trace in JSON, of one device. A last line without an end is left out:
    /// its writer was killed.
    ///
    /// # Errors
    ///
    /// Names the first line that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::default();
        let mut number = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            number += 1;
            let Some(line) = line.strip_suffix(b"\n") else { break };
            if !line.trim_ascii().is_empty() {
                let read = Line::parse(line).and_then(|line| reader.line(number, &line));
                read.map_err(|why| Malformed { line: number, why })?;
            }
        }
        reader.finish().map_err(|why| Malformed { line: number.max(1), why })
    }

    /// The disk that was recorded.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// How many queues it had.
    pub fn queues(&self) -> u16 {
        self.device.queues
    }

    /// How many slots each queue had.
    pub fn depth(&self) -> u16 {
        self.device.depth
    }

    /// Its largest request.
    pub fn max_io_bytes(&self) -> u32 {
        self.device.max_io_bytes
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    device: Option<Device>,
    geometry: Option<Geometry>,
    requests: Vec<Recorded>,
    /// The requests under way, by queue and tag.
    under_way: BTreeMap<(u16, u16), usize>,
}

type Read<T = ()> = Result<T, String>;

const MISSED: &str = "completions were missed when this was recorded, so it cannot be replayed: \
                      record it anew";
const SECOND: &str =
    "a second device is made: a recording is of one; leave out what comes from here on";

impl Reader {
    fn line(&mut self, number: usize, line: &Line) -> Read {
        match line.word("what")? {
            "command" => self.command(line),
            "answer" => self.answer(line),
            "request" => self.request(number, line),
            "operation" => self.operation(number, line),
            "commit" => self.commit(number, line),
            "missed" => Err(MISSED.into()),
            "end" => match line.number::<u64>("lost")? {
                0 => Ok(()),
                lost => Err(format!(
                    "{lost} events were lost when this was recorded, so it cannot be replayed: \
                     record fewer requests at a time, or to a faster place"
                )),
            },
            _ => Ok(()), // rings, fetches, timeouts, whatever comes later
        }
    }

    fn finish(mut self) -> Read<Recording> {
        let device = self.device.ok_or("no ADD_DEV is answered: is this a trace in JSON?")?;
        let geometry = self.geometry.ok_or("there is no SET_PARAMS")?;
        find_races(&mut self.requests);
        Ok(Recording { geometry, device, requests: self.requests })
    }

    fn opcode(line: &Line) -> Read<u64> {
        line.named("command", sys::CONTROL_OPCODES, "UBLK_U_CMD_")
    }

    fn command(&mut self, line: &Line) -> Read {
        // A trace that begins late, or a payload that could not be read, has no size.
        if Self::opcode(line)? != u64::from(sys::UBLK_U_CMD_SET_PARAMS) {
            return Ok(());
        }
        let power = |name| -> Read<u32> { line.number(name) };
        let attrs: u32 = line.number("attrs")?;
        let has = |attr| attrs & attr != 0;
        let durability = match (has(sys::UBLK_ATTR_VOLATILE_CACHE), has(sys::UBLK_ATTR_FUA)) {
            (false, _) => Durability::WriteThrough,
            (true, false) => Durability::Flush,
            (true, true) => Durability::FlushAndFua,
        };
        let discards = line.number_or_0::<u64>("max_discard_bytes")? != 0;
        self.geometry = Some(Geometry {
            logical_block_bytes: power("logical_block_bytes")?,
            physical_block_bytes: power("physical_block_bytes")?,
            durability,
            read_only: has(sys::UBLK_ATTR_READ_ONLY),
            discard_bytes: if discards { power("discard_unit_bytes")? } else { 0 },
            write_zeroes: line.number_or_0::<u64>("max_write_zeroes_bytes")? != 0,
            ..Geometry::new(line.number("size_bytes")?)
        });
        Ok(())
    }

    fn answer(&mut self, line: &Line) -> Read {
        if Self::opcode(line)? != u64::from(sys::UBLK_U_CMD_ADD_DEV) || line.result()? < 0 {
            return Ok(());
        }
        if !self.requests.is_empty() {
            return Err(SECOND.into());
        }
        let within = |name: &str, most: u32| -> Read<u32> {
            let number = line.number(name)?;
            if (1..=most).contains(&number) {
                return Ok(number);
            }
            Err(format!("'{name}' is {number}, where 1 to {most} can be replayed"))
        };
        let short = |number: u32| u16::try_from(number).unwrap_or(u16::MAX); // less than that
        self.device = Some(Device {
            id: line.number("device")?,
            queues: short(within("queues", MOST_QUEUES.into())?),
            depth: short(within("depth", sys::UBLK_MAX_QUEUE_DEPTH.into())?),
            max_io_bytes: within("max_io_bytes", MOST_IO_BYTES)?,
        });
        Ok(())
    }

    /// The device's slot that a line is about.
    fn slot(&self, line: &Line) -> Read<(u16, u16)> {
        let device = self.device.ok_or("no ADD_DEV was answered before")?;
        let (queue, tag): (u16, u16) = (line.number("queue")?, line.number("tag")?);
        if queue >= device.queues || tag >= device.depth {
            return Err(format!("the device has no tag {tag} of queue {queue}"));
        }
        Ok((queue, tag))
    }

    fn slot_of_device(&self, line: &Line) -> Read<(u16, u16)> {
        let slot = self.slot(line)?;
        let id = line.number::<u32>("device")?;
        if self.device.is_some_and(|device| device.id != id) {
            return Err(format!("it is about device {id}: a recording is of one device"));
        }
        Ok(slot)
    }

    fn sums(line: &Line) -> Read<Option<Sums>> {
        let Some(text) = line.word_if_any("sums")? else { return Ok(None) };
        Sums::parse(text).map(Some).ok_or_else(|| "'sums' are no sums of sectors".into())
    }

    fn request(&mut self, number: usize, line: &Line) -> Read {
        let (queue, tag) = self.slot_of_device(line)?;
        let op = line.named("op", sys::IO_OPS, "UBLK_IO_OP_")?;
        let op = u8::try_from(op).unwrap_or(u8::MAX); // all that have names are less
        let flags: u32 = line.number_or_0("flags")?;
        let (start_sector, nr_sectors) = if op == sys::UBLK_IO_OP_FLUSH {
            (u64::MAX, 0) // what drivers send: neither means anything
        } else {
            let (offset, len): (u64, u64) = (line.number("offset")?, line.number("len_bytes")?);
            if (offset | len) % SECTOR_BYTES != 0 {
                return Err("its range is no whole sectors".into());
            }
            let sectors = u32::try_from(len / SECTOR_BYTES).map_err(|_| "it is too long")?;
            (offset / SECTOR_BYTES, sectors)
        };
        let request = Recorded {
            line: number,
            at: Duration::from_nanos(line.number("at_ns")?),
            queue,
            tag,
            op_flags: u32::from(op) | sys::flags(flags),
            start_sector,
            nr_sectors,
            sums: Self::sums(line)?,
            begun: None,
            operation: None,
            operation_line: None,
            answer: None,
            is_open: false,
        };
        let most = self.device.map_or(0, |device| device.max_io_bytes);
        if request.data_bytes() > most.into() {
            return Err(format!("it is longer than the {most} bytes that the device takes"));
        }
        let told = request.sums.as_ref().map(Sums::sectors);
        if told.is_some_and(|told| told != u64::from(request.nr_sectors)) {
            return Err("its 'sums' are not one for each sector".into());
        }
        if let Some(before) = self.under_way.insert((queue, tag), self.requests.len()) {
            let line = self.requests[before].line;
            return Err(format!("tag {tag} of queue {queue} has the request of line {line} still"));
        }
        self.requests.push(request);
        Ok(())
    }

    fn operation(&mut self, number: usize, line: &Line) -> Read {
        let slot = self.slot(line)?;
        let is_over = line.word("result")? != "pending";
        let to = Duration::from_nanos(line.number("at_ns")?);
        let took = Duration::from_nanos(line.number("took_ns")?);
        if let Some(request) = self.under_way.get(&slot) {
            let request = &mut self.requests[*request];
            let from = *request.begun.get_or_insert(to.saturating_sub(took));
            if is_over {
                request.operation = Some((from, to));
                request.operation_line = Some(number);
            }
        }
        Ok(())
    }

    fn commit(&mut self, number: usize, line: &Line) -> Read {
        let slot = self.slot_of_device(line)?;
        let at = Duration::from_nanos(line.number("at_ns")?);
        let answer = Answered { line: number, at, result: line.result()?, sums: Self::sums(line)? };
        let (queue, tag) = slot;
        let request = self.under_way.remove(&slot);
        let request =
            request.ok_or_else(|| format!("tag {tag} of queue {queue} has no request"))?;
        self.requests[request].answer = Some(answer);
        Ok(())
    }
}
