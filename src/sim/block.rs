//! The block layer above the driver: what clients ask, split into requests, handed to queues.

use super::load::Loads;
use super::world::World;
use crate::errno::Errno;
use std::collections::BTreeMap;
use ublkit_sys::ublk as sys;

/// What a client asks of a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read so many bytes.
    Read {
        /// Where, in bytes.
        offset: u64,
        /// How many.
        len_bytes: u32,
    },
    /// Write.
    Write {
        /// Where, in bytes.
        offset: u64,
        /// What: whole blocks.
        data: Vec<u8>,
        /// It is to be durable when it is answered.
        fua: bool,
    },
    /// Make durable what was answered.
    Flush,
    /// Forget a range.
    Discard {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        len_bytes: u64,
    },
    /// Zero a range.
    WriteZeroes {
        /// Where, in bytes.
        offset: u64,
        /// How many bytes.
        len_bytes: u64,
        /// Its space must stay.
        no_unmap: bool,
    },
}

/// What a client is answered: the data of a read, or nothing.
pub type Answer = Result<Vec<u8>, Errno>;

/// What a client's step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A load asks the next thing.
    Ask(usize),
    /// The first request that waits for this queue of this device is given a tag.
    Dispatch(usize, u16),
}

/// Bytes of a sector, as the block layer counts.
const SECTOR: u64 = 512;

/// One asking of a client, under way.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) data: Vec<u8>,
    pub(super) is_read: bool,
    /// Requests that are not answered yet.
    parts: usize,
    failed: Option<Errno>,
    /// A FLUSH that follows, because the disk has no FUA: of which device and queue.
    then_flush: Option<(usize, u16)>,
    /// The load that asked, or nobody in particular.
    load: Option<usize>,
}

/// One request of the block layer: what gets a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) asking: u64,
    pub(super) op: u8,
    pub(super) flags: u32,
    pub(super) sector: u64,
    pub(super) sectors: u32,
    /// Where its data begins in the asking's.
    pub(super) data_at: usize,
}

impl Request {
    pub(super) fn data_bytes(&self) -> usize {
        match self.op {
            sys::UBLK_IO_OP_READ | sys::UBLK_IO_OP_WRITE => self.sectors as usize * 512,
            _ => 0,
        }
    }
}

/// All clients of all disks.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) askings: BTreeMap<u64, Asking>,
    pub(super) requests: BTreeMap<u64, Request>,
    pub(super) answers: BTreeMap<u64, Answer>,
    pub(super) loads: Loads,
    next: u64,
}

impl Clients {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// An asking that is one request; answers its number.
    pub(super) fn begin(&mut self, data: Vec<u8>, is_read: bool) -> u64 {
        let id = self.number();
        let asking = Asking { data, is_read, parts: 1, failed: None, then_flush: None, load: None };
        self.askings.insert(id, asking);
        id
    }

    pub(super) fn all_answered(&self) -> bool {
        self.askings.is_empty() && self.loads.are_done()
    }

    /// Who waits for what, in words.
    pub(super) fn waiting(&self) -> impl Iterator<Item = String> {
        self.requests.iter().map(|(id, request)| {
            let Request { op, sector, sectors, .. } = request;
            format!("request {id} (operation {op}, sector {sector}, {sectors} sectors) waits")
        })
    }
}

impl World {
    /// A client asks something of the disk of a device; answers the asking's number.
    pub(super) fn ask(&mut self, device: usize, queue: u16, ask: Ask, load: Option<usize>) -> u64 {
        let id = self.clients.number();
        let asking = |data, is_read| Asking {
            data,
            is_read,
            parts: 0,
            failed: None,
            then_flush: None,
            load,
        };
        let Some(limits) = self.devices.limits(device) else {
            self.clients.askings.insert(id, asking(Vec::new(), false));
            self.end_asking(id, Err(Errno::EIO));
            return id;
        };
        let queue = queue % self.devices.queues(device);
        let mut then_flush = None;
        let (op, flags, offset, len_bytes, data) = match ask {
            Ask::Read { offset, len_bytes } => {
                let data = vec![0xa5; len_bytes as usize];
                (sys::UBLK_IO_OP_READ, 0, offset, u64::from(len_bytes), data)
            }
            Ask::Write { offset, data, fua } => {
                // A disk with a cache and without FUA gets a FLUSH behind the write.
                then_flush =
                    (fua && limits.volatile_cache && !limits.fua).then_some((device, queue));
                let fua = if fua && limits.fua { sys::UBLK_IO_F_FUA } else { 0 };
                (sys::UBLK_IO_OP_WRITE, fua, offset, data.len() as u64, data)
            }
            Ask::Flush => (sys::UBLK_IO_OP_FLUSH, 0, 0, 0, Vec::new()),
            Ask::Discard { offset, len_bytes } => {
                (sys::UBLK_IO_OP_DISCARD, 0, offset, len_bytes, Vec::new())
            }
            Ask::WriteZeroes { offset, len_bytes, no_unmap } => {
                let flags = if no_unmap { sys::UBLK_IO_F_NOUNMAP } else { 0 };
                (sys::UBLK_IO_OP_WRITE_ZEROES, flags, offset, len_bytes, Vec::new())
            }
        };
        let asking = Asking { then_flush, ..asking(data, op == sys::UBLK_IO_OP_READ) };
        self.clients.askings.insert(id, asking);
        let refused = if op == sys::UBLK_IO_OP_FLUSH && !limits.volatile_cache {
            Some(Ok(())) // nothing to flush: the driver is not asked
        } else {
            limits.refuses(op, offset, len_bytes).map(Err)
        };
        if let Some(answer) = refused {
            self.end_asking(id, answer);
            return id;
        }
        let most = limits.most_sectors(op);
        let (mut sector, end) = (offset / SECTOR, (offset + len_bytes) / SECTOR);
        loop {
            // A chunk's border is not crossed.
            let chunk = limits.chunk_border();
            let border = sector.checked_div(chunk).map_or(u64::MAX, |index| (index + 1) * chunk);
            let until = end.min(border).min(sector.saturating_add(most));
            let sectors = u32::try_from(until - sector).expect("a request is short");
            let data_at = usize::try_from(sector * SECTOR - offset).expect("in the data");
            let whole = op == sys::UBLK_IO_OP_FLUSH;
            let sector_field = if whole { u64::MAX } else { sector };
            let request = Request { asking: id, op, flags, sector: sector_field, sectors, data_at };
            let number = self.add_request(request);
            self.devices.enter(device, queue, number);
            sector = until;
            if sector >= end {
                break;
            }
        }
        id
    }

    /// The number that the next asking will have.
    pub(super) fn next_asking(&self) -> u64 {
        self.clients.next + 1
    }

    fn add_request(&mut self, request: Request) -> u64 {
        let id = self.clients.number();
        if let Some(asking) = self.clients.askings.get_mut(&request.asking) {
            asking.parts += 1;
        }
        self.clients.requests.insert(id, request);
        id
    }

    /// A request is answered.
    pub(super) fn end_request(&mut self, id: u64, answer: Result<(), Errno>) {
        let Some(request) = self.clients.requests.remove(&id) else { return };
        let Some(asking) = self.clients.askings.get_mut(&request.asking) else { return };
        asking.parts -= 1;
        if let Err(errno) = answer {
            asking.failed.get_or_insert(errno);
        }
        if asking.parts == 0 {
            let answer = asking.failed.map_or(Ok(()), Err);
            if answer.is_ok()
                && let Some((device, queue)) = asking.then_flush.take()
            {
                let flush = Request {
                    asking: request.asking,
                    op: sys::UBLK_IO_OP_FLUSH,
                    flags: 0,
                    sector: u64::MAX,
                    sectors: 0,
                    data_at: 0,
                };
                // A disk that is frozen waits for it as for the write.
                let number = self.add_request(flush);
                self.devices.wait_for_tag(device, queue, number);
                return;
            }
            self.end_asking(request.asking, answer);
        }
    }

    fn end_asking(&mut self, id: u64, answer: Result<(), Errno>) {
        self.happened = 0;
        let Some(asking) = self.clients.askings.remove(&id) else { return };
        let Asking { data, is_read, load, .. } = asking;
        match load {
            Some(load) => self.load_answered(load, id, answer.map(|()| data)),
            None => {
                let answer = answer.map(|()| if is_read { data } else { Vec::new() });
                self.clients.answers.insert(id, answer);
            }
        }
    }

    pub(super) fn list_client_steps(&self, list: &mut dyn FnMut(Step)) {
        self.devices.list_dispatches(&mut |device, queue| list(Step::Dispatch(device, queue)));
        self.clients.loads.list_ready(&mut |load| list(Step::Ask(load)));
    }

    pub(super) fn client_step(&mut self, step: Step) {
        match step {
            Step::Ask(load) => self.load_asks(load),
            Step::Dispatch(device, queue) => self.dispatch(device, queue),
        }
    }
}
