//! Writes whose data the kernel is told where to put.

use super::slot::State;
use super::{At, Where};
use crate::ring::Address;

impl At<'_> {
    /// Gives the slot to the kernel, to have a write's data put where it is to be: into the buffer,
    /// or into a region from `place` on; or, with the request's answer settled, where nobody looks.
    /// `cookie` is the handler's who waits for that.
    pub(crate) fn fetch_data(
        &mut self,
        place: Option<(u16, usize)>,
        cookie: u8,
        command: u64,
    ) -> Address {
        let Self { slot, shared, .. } = self;
        assert!(slot.data == Where::Kernel, "the data is to be asked for");
        slot.data = match place {
            _ if slot.answer.is_some() => Where::Waste,
            Some((region, offset)) => Where::Region(region, offset),
            None => Where::Buffer,
        };
        slot.cookie = cookie;
        let is_first = slot.hand_over(command, State::Fetching);
        debug_assert!(!is_first, "it has a request");
        if slot.data == Where::Waste { shared.waste() } else { slot.address(&shared.regions) }
    }

    /// Whether the slot's command was to bring a write's data; ends that, and answers the number of
    /// the handler who waits.
    #[inline]
    pub(crate) fn end_fetching(&mut self) -> Option<u8> {
        let was = self.is_fetching();
        self.slot.state = if was { State::Kernel } else { self.state };
        was.then_some(self.cookie)
    }
}
