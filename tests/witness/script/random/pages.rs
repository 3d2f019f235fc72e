//! What scripts from a seed do with requests' own pages, in the table of a ring.

use super::super::build::MAX_IO_BYTES;
use super::super::sqe::{Fd, Part, Sqe, Word, put_pages, take_pages, transfer, transfer_pages};
use super::super::{Register, Script, What, Wish};
use super::draft::{Draft, OTHER};
use ublkit::sys::ublk as sys;

/// Places in a ring's table. Each queue has one where pages come by themselves; the others are for
/// pages that are put there by hand.
const PLACES: u32 = 4;
/// No place of it.
const BEYOND: u64 = 9;

impl Draft {
    fn is_automatic(&self) -> bool {
        self.plan.flags & sys::UBLK_F_AUTO_BUF_REG != 0
    }

    /// Whether requests' pages come into tables at all.
    pub fn has_pages(&self) -> bool {
        self.is_automatic() || self.plan.flags & sys::UBLK_F_SUPPORT_ZERO_COPY != 0
    }

    /// Gives a ring its table.
    pub fn table(&self, s: &mut Script, ring: usize) {
        if self.has_pages() {
            s.register(ring, ring, Register::Buffers(PLACES));
        }
    }

    /// What READs are answered with.
    pub fn file(&self, s: &mut Script) {
        if self.has_pages() {
            let buffer = usize::from(self.plan.queues);
            s.fill(buffer, 0x33);
            s.send(1, [transfer(true, Fd::Memory(0), 0, buffer, MAX_IO_BYTES)]);
        }
    }

    /// A FETCH or a COMMIT, with the place of its next request's pages where one is told.
    pub fn placed(&mut self, sqe: Sqe, queue: u16) -> Sqe {
        if !self.is_automatic() {
            return sqe;
        }
        let place = if self.numbers.chance(15) { BEYOND } else { queue.into() };
        let falls_back = u64::from(self.numbers.chance(60));
        let unknown = u64::from(self.numbers.chance(4)) << 17;
        sqe.addr(Word::Number(place | falls_back << 16 | unknown))
    }

    /// A request's data is moved, from its pages to a file or back, and then it is answered.
    pub fn answer_pages(&mut self, s: &mut Script, queue: u16, wish: Option<Wish>, answer: Sqe) {
        let by_hand = u64::from(2 + queue);
        let place =
            if self.is_automatic() && self.numbers.chance(60) { queue.into() } else { by_hand };
        if place == by_hand {
            s.send(1, [put_pages(queue, place)]);
        }
        let is_write = wish.is_some_and(|wish| wish.what == What::Write);
        let len = wish.map_or(512, |wish| wish.sectors * 512);
        s.send(1, [self.moved(is_write, place, len)]);
        // The request does not end before they are taken out.
        let is_late = self.numbers.chance(20);
        let take = (place == by_hand).then(|| take_pages(queue, place));
        let steps = if is_late { [Some(answer), take] } else { [take, Some(answer)] };
        steps.into_iter().flatten().for_each(|sqe| s.send(1, [sqe]));
    }

    /// A transfer that is right for the most part.
    fn moved(&mut self, is_write: bool, place: u64, len: u32) -> Sqe {
        let place = u16::try_from(place).expect("few");
        let part: Part = match self.numbers.below(8) {
            0 => (place, 512, len),
            1 => (place, len.into(), 512),
            2 => (place, 0, len / 2),
            3 => (self.numbers.pick(&[0, 1, 2, 3, 4]), 0, 512),
            _ => (place, 0, len),
        };
        let is_write = is_write ^ self.numbers.chance(10);
        transfer_pages(is_write, Fd::Memory(0), 0, part)
    }

    /// What no server should do with pages.
    pub fn mistake_pages(&mut self, s: &mut Script, queue: u16) {
        let place = self.numbers.pick(&[0, 1, 2, 3, BEYOND]);
        let ring = if self.numbers.chance(30) { OTHER } else { 1 };
        match self.numbers.below(4) {
            0 => {
                // A request whose pages stay there has its tag: it is chance who comes next.
                s.send(ring, [put_pages(queue, place)]);
                s.send(ring, [take_pages(queue, place)]);
            }
            1 => s.send(ring, [take_pages(queue, place)]),
            2 => s.send(ring, [self.moved(true, place, 512)]),
            _ => s.send(ring, [self.moved(false, place, 512)]),
        }
    }
}
