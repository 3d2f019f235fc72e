//! Commands for many slots, as a fuzzer's bytes say.

use super::{Machine, Part};
use crate::fuzz::slots::elements_bytes;
use crate::sim::user;
use ublkit_sys::io_uring::*;

impl<P: Part> Machine<P> {
    /// Whether this command is under way, and for many slots.
    pub(super) fn is(&self, index: usize, op: u32) -> bool {
        let head = &self.under_way[index].head;
        self.batches && head.opcode == IORING_OP_URING_CMD && head.off == u64::from(op)
    }

    /// A command brings tags in the next buffer, and perhaps says something else.
    pub(super) fn bring(&mut self, index: usize, lies: bool) {
        let bid = self.filled & self.buffers.wrapping_sub(1);
        let at = usize::from(bid) * size_of::<io_uring_buf>();
        let Some(pages) = self.provided.as_ref().filter(|pages| at + 16 <= pages.len_bytes())
        else {
            return;
        };
        let buffer: io_uring_buf = pages.load(at);
        if !self.has_room() {
            return;
        }
        let count = 1 + self.script.below(4);
        let tags = (0..count).flat_map(|_| self.part.brings(&mut self.script).to_ne_bytes());
        let tags: Vec<u8> = tags.collect();
        let _ = user::write(buffer.addr, &tags); // where the buffers' ring says
        self.filled = self.filled.wrapping_add(1);
        let mut result = i32::try_from(tags.len()).expect("a few");
        let names = u32::from(bid) << IORING_CQE_BUFFER_SHIFT;
        let mut flags = IORING_CQE_F_MORE | IORING_CQE_F_BUFFER | names;
        if lies {
            (result, flags) = (self.script.i32(), self.script.u32());
        }
        let user_data = self.under_way[index].head.user_data;
        if flags & IORING_CQE_F_MORE == 0 {
            self.under_way.remove(index);
        }
        self.post(user_data, result, flags);
    }

    /// Elements were taken, all or the first of them.
    pub(super) fn take_elements(&mut self, index: usize, is_short: bool) {
        let bytes = elements_bytes(&self.under_way[index]);
        let left = if is_short { i32::from(self.script.byte()) * 8 } else { 0 };
        self.complete(index, (bytes - left).max(0));
    }
}
