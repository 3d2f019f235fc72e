//! Commands about many slots, told as a line for each.

use super::event::{Place, Slot, What};
use super::kernel::Traced;
use super::listen::{carried, opcode};
use super::ring::{Asked, Heard};
use super::view::at_address;
use super::voice::CharDevice;
use crate::kernel::Kernel;
use std::sync::Arc;
use ublkit_sys::abi::from_bytes;
use ublkit_sys::io_uring::{
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_MORE, IORING_OP_URING_CMD, io_uring_cqe, io_uring_sqe128,
};
use ublkit_sys::ublk::{
    UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK, UBLK_BATCH_F_HAS_BUF_ADDR, UBLK_U_IO_COMMIT_IO_CMDS,
    ublk_batch_io, ublk_elem_header,
};

impl<K: Kernel> Traced<K> {
    /// Tells of the slots that a command offers, or answers and offers.
    pub(super) fn tell_elements(
        &self,
        heard: &mut Heard<K::Mapping>,
        device: &CharDevice<K::Mapping>,
        sqe: &io_uring_sqe128,
    ) -> Option<()> {
        let ublk_batch_io { q_id: queue, flags, nr_elem, elem_bytes, .. } = carried(sqe)?;
        let elements = at_address(sqe.head.addr, u64::from(nr_elem) * u64::from(elem_bytes))?;
        for element in elements.chunks(usize::from(elem_bytes).max(1)) {
            let ublk_elem_header { tag, buf_index, result } = from_bytes(element)?;
            let has = |flag| flags & flag != 0;
            let address = element.get(8..16).filter(|_| has(UBLK_BATCH_F_HAS_BUF_ADDR));
            // With automatic zero copy ublkit always asks to be told of what does not fit there.
            let place = match address.and_then(|bytes| bytes.try_into().ok()) {
                Some(bytes) => Place::of(u64::from_ne_bytes(bytes)),
                None if has(UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK) => Place::Table(buf_index),
                None => Place::Nowhere,
            };
            let result = (opcode(sqe) == UBLK_U_IO_COMMIT_IO_CMDS).then_some(result);
            self.tell_offer(heard, Slot { device: device.id, queue, tag }, result, place);
        }
        heard.begin(sqe.head.user_data, Asked::Other { opcode: sqe.head.opcode });
        Some(())
    }

    /// Tells of the requests whose tags a completion brings.
    pub(super) fn tell_tags(
        &self,
        heard: &mut Heard<K::Mapping>,
        queue: u16,
        device: Arc<CharDevice<K::Mapping>>,
        cqe: io_uring_cqe,
        is_late: bool,
    ) {
        let io_uring_cqe { user_data, res: result, flags } = cqe;
        let buffer = u16::try_from(flags >> IORING_CQE_BUFFER_SHIFT).unwrap_or_default();
        let goes_on = flags & IORING_CQE_F_MORE != 0;
        // What is told late may have been given back, and filled anew.
        let place = heard.provided(buffer).filter(|_| goes_on && !is_late);
        let tags = place.zip(u64::try_from(result).ok());
        match tags.and_then(|(place, len_bytes)| at_address(place, len_bytes)) {
            Some(tags) => {
                for tag in tags.chunks_exact(2).map(|tag| u16::from_ne_bytes([tag[0], tag[1]])) {
                    let slot = Slot { device: device.id, queue, tag };
                    if let Some(descriptor) = self.descriptor(&device, slot) {
                        self.tell_request(heard, slot, descriptor, is_late);
                    }
                }
            }
            None => {
                let opcode = Some(IORING_OP_URING_CMD);
                self.voice.say(|_| What::Done { opcode, user_data, result });
            }
        }
        if goes_on {
            heard.begin(user_data, Asked::Tags(queue, device));
        }
    }
}
