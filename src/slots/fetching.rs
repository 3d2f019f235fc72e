//! Writes whose data the kernel is told where to put.

use super::{Slots, Where};
use crate::ring::Address;

impl Slots {
    /// Gives the slot to the kernel, to have a write's data put where it is to be: into the buffer,
    /// or into a region from `place` on; or, with the request's answer settled, where nobody looks.
    /// `cookie` is the handler's who waits for that.
    pub(crate) fn fetch_data(
        &mut self,
        tag: u16,
        place: Option<(u16, usize)>,
        cookie: u8,
        command: u64,
    ) -> Address {
        let waste = self.waste();
        let Self { slots, regions, .. } = self;
        let slot = &mut slots[usize::from(tag)];
        assert!(slot.data == Where::Kernel, "the data is to be asked for");
        slot.data = match place {
            _ if slot.answer.is_some() => Where::Waste,
            Some((region, offset)) => Where::Region(region, offset),
            None => Where::Buffer,
        };
        slot.fetching = Some(cookie);
        let is_first = slot.hand_over(command);
        debug_assert!(!is_first, "it has a request");
        if slot.data == Where::Waste { waste } else { slot.address(regions) }
    }

    /// Whether the slot's command is to bring a write's data.
    #[inline]
    pub(crate) fn is_fetching(&self, tag: u16) -> bool {
        self.get(tag).fetching.is_some()
    }

    /// Whether the slot's command was to bring a write's data; ends that, and answers the number of
    /// the handler who waits.
    #[inline]
    pub(crate) fn end_fetching(&mut self, tag: u16) -> Option<u8> {
        self.slot(tag).fetching.take()
    }

    /// The slot has another request than the one that this was the answer to.
    pub(crate) fn forget_answer(&mut self, tag: u16) {
        self.slot(tag).answer = None;
    }
}
