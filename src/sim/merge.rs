//! When two schedules have come to the same: what a state is.
//!
//! A state is what the kernel and the clients have, and what each thread has seen. A thread is
//! deterministic: what it has in its memory follows from what its calls answered, and from what it
//! found in memory that it shares with the kernel or with other threads. So its past is a digest of
//! that, in order: of the moment, of what came to its rings, and of what entering them, reading and
//! writing answered. Addresses are left out: they follow from pasts, and differ from run to run.
//!
//! Left out is, too, what a control command wrote into the program's memory, what a ring's flags
//! said without a call, and what somebody reads at a time when it may not: what depends on that is
//! found only where it acts in the same step. So is the data of requests, which their numbers stand
//! for while nothing but one order decides what is asked.
//!
//! Memory that threads share is not seen here. A step is taken for one that used it if it made any
//! call but those of a queue that serves, or [said so](super::Task::shares); from then on all
//! threads' pasts depend on it.

use super::world::{FileId, Kind, World};
use crate::errno::Errno;
use core::fmt::{self, Debug, Write};
use core::hash::{Hash, Hasher};
use std::hash::DefaultHasher;

/// A digest of things in order.
#[derive(Default)]
pub(super) struct Digest(DefaultHasher);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl Digest {
    /// Takes in what a thing looks like.
    pub(super) fn add(&mut self, thing: &impl Debug) {
        write!(self, "{thing:?};").expect("a digest takes everything");
    }

    pub(super) fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// A past, and what came after it.
pub(super) fn and_then(past: u64, next: impl Hash) -> u64 {
    let mut digest = DefaultHasher::new();
    (past, next).hash(&mut digest);
    digest.finish()
}

impl World {
    /// The state: equal for two schedules from which the same can follow.
    pub(super) fn state(&self) -> u64 {
        let mut digest = Digest::default();
        digest.add(&(self.now, &self.processes, &self.tasks, &self.ring_names, &self.chores));
        digest.add(&(&self.files, &self.clients, &self.page_uses, self.common));
        self.threads.digest(&mut digest, self.choices.counts_deviations());
        self.devices.digest(&mut digest);
        digest.finish()
    }

    /// The running thread sees the time, what has come to its rings, and what other threads left in
    /// memory.
    pub(super) fn looks_around(&mut self) {
        let me = self.threads.running();
        let seen = self.files.values().filter_map(|file| match &file.kind {
            Kind::Ring(ring) if self.tasks[ring.owner].thread == me => Some(ring.brought),
            _ => None,
        });
        let seen = seen.fold(and_then(self.common, self.now), and_then);
        self.threads.learns(seen);
    }

    /// The running thread's call has answered.
    pub(super) fn hears(&mut self, answer: Result<u64, Errno>) {
        self.threads.learns(answer);
        self.looks_around();
    }

    /// The running thread's step ends.
    pub(super) fn ends_step(&mut self) {
        if let Some(past) = self.threads.shared() {
            self.common = and_then(self.common, past);
        }
    }

    /// The descriptor of a slot's request, or its data, is there for the program, told by a ring.
    pub(super) fn brings(&mut self, ring: FileId, tag: u16, request: u64) {
        let content = self.clients.requests.get(&request).cloned();
        if let Some(ring) = self.ring(ring) {
            ring.brought = and_then(ring.brought, (tag, request, content));
        }
    }
}
