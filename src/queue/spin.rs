//! [`Spin`]: a busy wait before a queue's thread sleeps, for as long as that pays.

use super::{Queue, QueueError};
use crate::handler::Handler;
use crate::kernel::Kernel;
use core::time::Duration;

/// After so many looks in vain in a row, the sleeps between two of them are not doubled again.
const DOUBLINGS: u32 = 10;

/// Whether it is worth it to look for requests before sleeping.
#[derive(Debug)]
pub(super) struct Spin {
    /// How long at the most.
    most: Duration,
    /// How often it looked in vain, in a row.
    pub(super) in_vain: u32,
    /// How often it sleeps before it looks again.
    sleeps: u32,
}

impl Spin {
    /// None, where it shall not look at all.
    pub(super) fn new(most: Duration) -> Option<Self> {
        (most > Duration::ZERO).then_some(Self { most, in_vain: 0, sleeps: 0 })
    }

    /// Whether to look before the wait that begins.
    fn is_due(&mut self) -> bool {
        let due = self.sleeps == 0;
        self.sleeps = self.sleeps.saturating_sub(1);
        due
    }

    /// What came of a look.
    fn note(&mut self, found: bool) {
        self.in_vain = if found { 0 } else { (self.in_vain + 1).min(DOUBLINGS) };
        self.sleeps = (1 << self.in_vain) - 1;
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Submits what was answered, and waits for so many completions or until `deadline`.
    #[inline]
    pub(super) fn wait(
        &mut self,
        completions: u32,
        deadline: Option<Duration>,
    ) -> Result<(), QueueError> {
        if self.spin.is_none() || !self.come_soon(completions, deadline)? {
            self.ring.wait_for(completions, deadline)?;
        }
        Ok(())
    }

    /// The same without sleeping, if that is due; whether they came. While operations are under way
    /// it is not: who works at them may want the CPU.
    #[inline(never)]
    fn come_soon(
        &mut self,
        completions: u32,
        deadline: Option<Duration>,
    ) -> Result<bool, QueueError> {
        let Some(spin) = &mut self.spin else { return Ok(false) };
        if self.slots.have_operations() || !spin.is_due() {
            return Ok(false);
        }
        self.ring.look()?;
        if self.ring.ready() >= completions {
            return Ok(true);
        }
        let until = self.ring.kernel().now().saturating_add(spin.most);
        let until = deadline.map_or(until, |deadline| until.min(deadline));
        while !self.ring.has_news(completions) {
            if self.ring.kernel().now() >= until {
                spin.note(false);
                return Ok(false);
            }
            self.ring.kernel().give_way();
        }
        spin.note(true);
        self.ring.look()?;
        Ok(self.ring.ready() >= completions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many sleeps after each look.
    fn sleeps(spin: &mut Spin, found: bool) -> u32 {
        spin.note(found);
        (0..).take_while(|_| !spin.is_due()).count().try_into().unwrap()
    }

    #[test]
    fn what_is_in_vain_is_done_half_as_often() {
        let mut spin = Spin::new(Duration::from_micros(50)).unwrap();
        assert!(spin.is_due() && spin.is_due(), "until it is in vain");
        let vain: Vec<u32> = (0..12).map(|_| sleeps(&mut spin, false)).collect();
        assert_eq!(vain, [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023]);
        assert_eq!(sleeps(&mut spin, true), 0);
        assert_eq!(sleeps(&mut spin, false), 1);
        assert!(Spin::new(Duration::ZERO).is_none());
    }
}
