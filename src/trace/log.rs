//! [`Log`]: the latest events, kept in memory.

use super::event::Event;
use super::voice::Sink;
use core::fmt;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The latest events, in memory: for tests, which show them when something fails. A clone is the
/// same log.
#[derive(Clone, Debug)]
pub struct Log {
    most: usize,
    events: Arc<Mutex<VecDeque<Event>>>,
}

impl Log {
    /// Keeps the last `most` events.
    pub fn of_last(most: usize) -> Self {
        Self { most, events: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was kept, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.lock().iter().cloned().collect()
    }
}

impl Sink for Log {
    fn take(&self, event: Event) {
        let mut events = self.lock();
        if events.len() == self.most {
            events.pop_front();
        }
        if self.most > 0 {
            events.push_back(event);
        }
    }
}

impl fmt::Display for Log {
    /// A line of text for each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}
