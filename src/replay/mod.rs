//! Recordings: a conversation that was [traced](crate::trace) as lines of JSON, held again with a
//! backend, without kernel or root.
//!
//! [`Recording::parse`] reads one, [`replay`] gives its requests to a target through the
//! unchanged queue over the [simulated kernel](crate::sim), word for word, with the same tags of
//! the same queues. Order and concurrency are the recorded ones: the simulation's clock is virtual,
//! each line of the recording is a moment of it, and what was done between two others then is done
//! between the same two now. Answers are compared, and so is what reads bring.
//!
//! A recording holds sums of data, not data ([`Sums`](crate::trace::Sums)): what is written is made
//! up from them, so that sectors that were equal are equal again. What a read must bring is known
//! where the recording itself says it: not where requests raced, was discarded, or failed half-way.

mod lines;
mod pace;
mod races;
mod recording;
mod run;

pub use recording::{Malformed, Recording};
pub use run::{replay, replay_traced};

use core::fmt;

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Requests that were replayed.
    pub requests: u64,
    /// Answers that were compared with recorded ones.
    pub answers: u64,
    /// Reads whose data was compared, too.
    pub reads: u64,
    /// What was otherwise; the first hundred.
    pub differences: Vec<Difference>,
    /// How many there were in all.
    pub different: u64,
}

/// Something that was not as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The recording's line, counted from 1.
    pub line: usize,
    /// What.
    pub what: String,
}

/// As many differences as help somebody.
const KEPT: usize = 100;

impl Report {
    fn differs(&mut self, line: usize, what: String) {
        self.different += 1;
        if self.differences.len() < KEPT {
            self.differences.push(Difference { line, what });
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Why nothing could be replayed to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be made or stopped: what the driver says of it.
    Device(crate::Error),
    /// Nobody could go on, for the reason that the simulation gives.
    Stuck(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => write!(f, "{error}"),
            Self::Stuck(why) => write!(f, "the replay came to a halt: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::Device(error)
    }
}
