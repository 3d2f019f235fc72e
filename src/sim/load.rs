//! [`Load`]: clients that ask at random, and know what they may be answered.

use super::block::{Answer, Ask};
use super::durable::Durable;
use super::oracle::{Oracle, SECTOR, fill};
use super::world::World;
use std::collections::BTreeMap;

/// What clients ask of a disk, at random.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many things they ask in all.
    pub requests: u64,
    /// How many at one time, at the most.
    pub at_once: usize,
    /// The longest read or write, in bytes; longer than the device's largest request is split.
    pub max_len_bytes: u32,
    /// The part of the disk that they use, from its start, in bytes: in a small one they overlap.
    pub span_bytes: u64,
    /// Whether what they read is compared with what they wrote. Not for disks that keep nothing.
    pub verifies: bool,
    /// Out of 256: flushes, discards and zeroings, of which the disk takes what it can.
    pub others: u8,
    /// Out of 256: writes among reads and writes.
    pub writes: u8,
}

impl Load {
    /// `requests` of all kinds, up to 16 at one time, of up to 16 KiB, in the first 256 KiB.
    pub const fn new(requests: u64) -> Self {
        Self {
            requests,
            at_once: 16,
            max_len_bytes: 16 << 10,
            span_bytes: 256 << 10,
            verifies: true,
            others: 40,
            writes: 128,
        }
    }
}

/// What came of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Askings that succeeded.
    pub succeeded: u64,
    /// Askings that failed, by errno.
    pub failed: BTreeMap<i32, u64>,
    /// What clients read that cannot be.
    pub wrong: Vec<String>,
}

#[derive(Debug)]
struct Client {
    device: usize,
    load: Load,
    asked: u64,
    under_way: usize,
    next_stamp: u64,
    oracle: Oracle,
    durable: Durable,
    tally: Tally,
    /// The disk is gone, so nothing more is asked.
    ended: bool,
}

/// All loads.
#[derive(Debug, Default)]
pub(super) struct Loads {
    all: Vec<Client>,
}

impl Loads {
    pub(super) fn add(&mut self, device: usize, load: Load) -> usize {
        self.all.push(Client {
            device,
            load,
            asked: 0,
            under_way: 0,
            next_stamp: 0,
            oracle: Oracle::default(),
            durable: Durable::default(),
            tally: Tally::default(),
            ended: false,
        });
        self.all.len() - 1
    }

    pub(super) fn are_done(&self) -> bool {
        self.all.iter().all(|client| client.asked == client.load.requests || client.ended)
    }

    pub(super) fn list_ready(&self, list: &mut dyn FnMut(usize)) {
        for (index, client) in self.all.iter().enumerate() {
            let Client { load, asked, under_way, ended, .. } = client;
            if !ended && *asked < load.requests && *under_way < load.at_once {
                list(index);
            }
        }
    }

    pub(super) fn tally(&self, load: usize) -> Tally {
        self.all[load].tally.clone()
    }

    /// What clients read that cannot be.
    pub(super) fn wrong(&self) -> Vec<String> {
        self.all.iter().flat_map(|client| client.tally.wrong.iter().cloned()).collect()
    }

    /// What must be durable of what a load wrote.
    pub(super) fn durable(&self, load: usize) -> &Durable {
        &self.all[load].durable
    }

    /// Another phase of the same clients, who remember what they wrote.
    pub(super) fn go_on(&mut self, load: usize, requests: u64) {
        self.all[load].load.requests = self.all[load].asked + requests;
        self.all[load].ended = false;
    }

    pub(super) fn end(&mut self, device: usize) {
        for client in self.all.iter_mut().filter(|client| client.device == device) {
            client.ended = true;
        }
    }
}

impl World {
    /// A load asks the next thing.
    pub(super) fn load_asks(&mut self, index: usize) {
        let device = self.clients.loads.all[index].device;
        let Some(limits) = self.devices.limits(device) else {
            self.clients.loads.all[index].ended = true;
            return;
        };
        let block = u64::from(limits.block_bytes());
        let Load { max_len_bytes, span_bytes, others, writes, .. } =
            self.clients.loads.all[index].load;
        let blocks = limits.capacity_bytes().min(span_bytes) / block;
        if blocks == 0 {
            self.clients.loads.all[index].ended = true; // the disk has become too small
            return;
        }
        let choices = &mut self.choices;
        let most = (u64::from(max_len_bytes) / block).clamp(1, blocks);
        let count = 1 + choices.below(usize::try_from(most).unwrap_or(1)) as u64;
        let first = choices.below(usize::try_from(blocks - count + 1).unwrap_or(1)) as u64;
        let other = choices.chance(others.into(), 256).then(|| choices.below(4));
        let write = choices.chance(writes.into(), 256);
        let queue = u16::try_from(choices.below(4)).unwrap_or(0);
        let (offset, len_bytes) = (first * block, count * block);
        let client = &mut self.clients.loads.all[index];
        client.asked += 1;
        client.under_way += 1;
        client.next_stamp += 1;
        let stamp = client.next_stamp;
        let len = u32::try_from(len_bytes).unwrap_or(u32::MAX);
        let ask = match other {
            Some(0) => Ask::Flush,
            Some(1) => Ask::Discard { offset, len_bytes },
            Some(2) => Ask::WriteZeroes { offset, len_bytes, no_unmap: write },
            _ if write => {
                let mut data = vec![0; len as usize];
                let first = offset / SECTOR as u64;
                for (sector, chunk) in (first..).zip(data.chunks_exact_mut(SECTOR)) {
                    fill(stamp, sector, chunk);
                }
                Ask::Write { offset, data, fua: other.is_some() }
            }
            _ => Ask::Read { offset, len_bytes: len },
        };
        // The asking's number is known only now, and its answer may come at once.
        let id = self.next_asking();
        let (first, count) = (offset / SECTOR as u64, len_bytes / SECTOR as u64);
        let oracle = &mut self.clients.loads.all[index].oracle;
        match &ask {
            Ask::Read { .. } => oracle.asks_read(id, first, count),
            Ask::Write { .. } => oracle.asks_change(id, first, count, stamp, true),
            Ask::Discard { .. } => oracle.asks_change(id, first, count, 0, false),
            Ask::WriteZeroes { .. } => oracle.asks_change(id, first, count, 0, true),
            Ask::Flush => oracle.asks_flush(id),
        }
        let durable = &mut self.clients.loads.all[index].durable;
        let is_kept = !limits.volatile_cache;
        match &ask {
            Ask::Read { .. } => {}
            Ask::Write { fua, .. } => durable.asks_change(id, first, count, stamp, is_kept || *fua),
            // What a discard leaves is nobody's promise.
            Ask::Discard { .. } => durable.asks_discard(id, first, count),
            Ask::WriteZeroes { .. } => durable.asks_change(id, first, count, 0, is_kept),
            Ask::Flush => durable.asks_flush(id),
        }
        self.ask(device, queue, ask, Some(index));
    }

    /// What a load asked is answered.
    pub(super) fn load_answered(&mut self, index: usize, id: u64, answer: Answer) {
        let client = &mut self.clients.loads.all[index];
        client.under_way -= 1;
        let (success, data) = match answer {
            Ok(data) => {
                client.tally.succeeded += 1;
                (true, data)
            }
            Err(errno) => {
                *client.tally.failed.entry(errno.number()).or_default() += 1;
                (false, Vec::new())
            }
        };
        client.durable.answered(id, success);
        if let Err(wrong) = client.oracle.answered(id, success, &data)
            && client.load.verifies
        {
            client.tally.wrong.push(wrong);
        }
    }
}
