//! [`Id`]: what a CQE is about, as the `user_data` that its SQE carried.

/// What a CQE is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// The command that a slot has with the driver: a fetch, or a commit and fetch.
    Command {
        /// The slot.
        tag: u16,
    },
    /// An operation that a handler asked for.
    Operation {
        /// The request's slot.
        tag: u16,
        /// Which of the request's operations.
        index: u8,
    },
    /// The queue's wake-up event.
    Wake,
    /// The command that brings tags, of a queue that is served in batches.
    Tags,
    /// The command with elements of such a queue.
    Elements,
    /// The event by which wakers call.
    Call,
    /// The timer that ends a wait for what does not come.
    Timer,
    /// The cancellation of an operation.
    Cancel,
    /// The command that takes a request's pages out of the ring's table.
    Emptied,
}

const COMMAND: u8 = 1;
const OPERATION: u8 = 2;
const WAKE: u8 = 3;
const TAGS: u8 = 4;
const ELEMENTS: u8 = 5;
const TIMER: u8 = 6;
const CALL: u8 = 7;
const CANCEL: u8 = 8;
const EMPTIED: u8 = 9;

/// Those bytes are the same of all operations.
const ALL_BUT_TAG_AND_INDEX: u64 = !0xff00_ffff;

impl Id {
    /// Bytes from the lowest: tag (two), kind, index, zeros (four).
    #[inline(always)]
    pub(crate) const fn encode(self) -> u64 {
        let (kind, index, tag) = match self {
            Self::Command { tag } => (COMMAND, 0, tag),
            Self::Operation { tag, index } => (OPERATION, index, tag),
            Self::Wake => (WAKE, 0, 0),
            Self::Tags => (TAGS, 0, 0),
            Self::Elements => (ELEMENTS, 0, 0),
            Self::Timer => (TIMER, 0, 0),
            Self::Call => (CALL, 0, 0),
            Self::Cancel => (CANCEL, 0, 0),
            Self::Emptied => (EMPTIED, 0, 0),
        };
        let [low, high] = tag.to_le_bytes();
        u64::from_le_bytes([low, high, kind, index, 0, 0, 0, 0])
    }

    /// `None` for what [`encode`](Self::encode) never made.
    #[inline(always)]
    pub(crate) const fn decode(user_data: u64) -> Option<Self> {
        let [low, high, ..] = user_data.to_le_bytes();
        let tag = u16::from_le_bytes([low, high]);
        if user_data >> 16 == COMMAND as u64 {
            return Some(Self::Command { tag }); // most are that
        }
        let [_, _, kind, index, rest @ ..] = user_data.to_le_bytes();
        if user_data & ALL_BUT_TAG_AND_INDEX == (OPERATION as u64) << 16 {
            return Some(Self::Operation { tag, index }); // and most of the others that
        }
        if u32::from_le_bytes(rest) != 0 {
            return None;
        }
        match (kind, index, tag) {
            (WAKE, 0, 0) => Some(Self::Wake),
            (TAGS, 0, 0) => Some(Self::Tags),
            (ELEMENTS, 0, 0) => Some(Self::Elements),
            (TIMER, 0, 0) => Some(Self::Timer),
            (CALL, 0, 0) => Some(Self::Call),
            (CANCEL, 0, 0) => Some(Self::Cancel),
            (EMPTIED, 0, 0) => Some(Self::Emptied),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Id;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_decodes_encodes_to_itself(user_data: u64) {
            if let Some(id) = Id::decode(user_data) {
                prop_assert_eq!(id.encode(), user_data);
            }
        }

        #[test]
        fn ids_survive(tag: u16, index: u8) {
            let ids = [
                Id::Command { tag },
                Id::Operation { tag, index },
                Id::Wake,
                Id::Tags,
                Id::Elements,
                Id::Timer,
                Id::Call,
                Id::Cancel,
                Id::Emptied,
            ];
            for id in ids {
                prop_assert_eq!(Id::decode(id.encode()), Some(id));
            }
        }
    }

    #[test]
    fn nonsense_is_no_id() {
        for user_data in [
            0,
            10 << 16,
            0x0109_0000,
            0x0108_0000,
            0x0107_0000,
            0x0106_0000,
            0x0105_0000,
            0x0104_0000,
            0x0100_0000,
            1 << 32 | 1 << 16,
            1 << 32 | 3 << 16,
            1 << 63 | 2 << 16,
            u64::MAX,
            0x0101_0000,
            0x0003_0001,
        ] {
            assert_eq!(Id::decode(user_data), None, "{user_data:#x}");
        }
    }
}
