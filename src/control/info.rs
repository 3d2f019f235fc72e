//! [`DeviceInfo`]: what a device is, in words of this crate.

use crate::features::Features;
use core::fmt;
use ublkit_sys::ublk::{
    UBLK_MAX_NR_QUEUES, UBLK_MAX_QUEUE_DEPTH, UBLK_S_DEV_DEAD, UBLK_S_DEV_FAIL_IO, UBLK_S_DEV_LIVE,
    UBLK_S_DEV_QUIESCED, ublksrv_ctrl_dev_info, ublksrv_io_desc,
};

/// What a device is: asked for with ADD_DEV, granted by its answer, and told by GET_DEV_INFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// The number N in `/dev/ublkbN` and `/dev/ublkcN`; `None` asks the kernel to choose.
    pub id: Option<u32>,
    /// Queues; the kernel lowers it to the number of CPUs.
    pub queues: u16,
    /// Slots of each queue.
    pub depth: u16,
    /// The largest read or write in bytes; the kernel rounds it down to whole pages.
    pub max_io_bytes: u32,
    /// What it can do.
    pub features: Features,
    /// What it does; the kernel's word.
    pub state: DeviceState,
    /// The server's process, as this process would name it, or `None` when there is none.
    pub server_pid: Option<u32>,
    /// Who made it (in the first user namespace); the kernel's word.
    pub owner_uid: u32,
    /// The maker's group; the kernel's word.
    pub owner_gid: u32,
    /// A word that belongs to the server; the kernel keeps it (`ublksrv_flags`).
    pub server_word: u64,
    /// Bytes from one I/O descriptor to the next.
    pub descriptor_bytes: u16,
}

/// `UBLK_S_DEV_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceState {
    /// No disk is attached.
    Dead,
    /// A disk is attached and served.
    Live,
    /// The server is gone; I/O waits for the next.
    Quiesced,
    /// The server is gone; I/O fails until the next comes.
    FailIo,
    /// A state that this version does not know.
    Unknown(u16),
}

impl fmt::Display for DeviceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead => f.write_str("dead"),
            Self::Live => f.write_str("live"),
            Self::Quiesced => f.write_str("quiesced"),
            Self::FailIo => f.write_str("fail-io"),
            Self::Unknown(number) => write!(f, "state {number}"),
        }
    }
}

/// The size of a descriptor where the kernel does not say another.
#[expect(clippy::cast_possible_truncation, reason = "24 bytes")]
const DESCRIPTOR_BYTES: u16 = size_of::<ublksrv_io_desc>() as u16;

impl DeviceInfo {
    /// A wish for a device; all that is the kernel's word is left open.
    pub const fn wish(queues: u16, depth: u16, max_io_bytes: u32) -> Self {
        Self {
            id: None,
            queues,
            depth,
            max_io_bytes,
            features: Features::empty(),
            state: DeviceState::Dead,
            server_pid: None,
            owner_uid: 0,
            owner_gid: 0,
            server_word: 0,
            descriptor_bytes: DESCRIPTOR_BYTES,
        }
    }

    /// Whether after `QUIESCE_DEV` new requests wait for the next server, so that no client sees
    /// an error when it takes over; with [`Recovery::Fail`](crate::Recovery::Fail) they fail, and
    /// only those under way can be answered first. In batches they do not wait, the driver fails
    /// them.
    pub fn waits_when_quiesced(&self) -> bool {
        self.features.contains(Features::QUIESCE) && !self.features.contains(Features::BATCH_IO)
    }

    /// Whether the driver can have granted this for `wish`: its word is checked here, once, and
    /// relied upon from then on.
    pub(crate) fn is_grant_of(&self, wish: &Self) -> bool {
        self.is_sound()
            && self.queues <= wish.queues
            && self.depth == wish.depth
            && self.max_io_bytes <= wish.max_io_bytes
            && self.id.is_some_and(|id| wish.id.is_none_or(|wished| wished == id))
    }

    /// Whether there can be such a device, whoever wished for it.
    pub(crate) fn is_sound(&self) -> bool {
        (1..=UBLK_MAX_NR_QUEUES).contains(&self.queues)
            && (1..=UBLK_MAX_QUEUE_DEPTH).contains(&self.depth)
            && self.max_io_bytes > 0
            && self.id.is_some()
            && (DESCRIPTOR_BYTES..=256).contains(&self.descriptor_bytes)
            && self.descriptor_bytes.is_multiple_of(8)
    }

    pub(crate) fn to_sys(self) -> ublksrv_ctrl_dev_info {
        let sized = self.features.contains(Features::IO_DESC_SIZE);
        ublksrv_ctrl_dev_info {
            nr_hw_queues: self.queues,
            queue_depth: self.depth,
            io_desc_size: if sized { self.descriptor_bytes } else { 0 },
            max_io_buf_bytes: self.max_io_bytes,
            dev_id: self.id.unwrap_or(u32::MAX),
            ublksrv_pid: -1,
            flags: self.features.bits(),
            ublksrv_flags: self.server_word,
            ..ublksrv_ctrl_dev_info::default()
        }
    }

    pub(crate) fn from_sys(info: &ublksrv_ctrl_dev_info) -> Self {
        let features = Features::from_bits_retain(info.flags);
        // Only the returned flag makes the field mean something: it was padding before 7.3.
        let sized = features.contains(Features::IO_DESC_SIZE);
        Self {
            id: Some(info.dev_id),
            queues: info.nr_hw_queues,
            depth: info.queue_depth,
            max_io_bytes: info.max_io_buf_bytes,
            features,
            state: match info.state {
                UBLK_S_DEV_DEAD => DeviceState::Dead,
                UBLK_S_DEV_LIVE => DeviceState::Live,
                UBLK_S_DEV_QUIESCED => DeviceState::Quiesced,
                UBLK_S_DEV_FAIL_IO => DeviceState::FailIo,
                other => DeviceState::Unknown(other),
            },
            server_pid: u32::try_from(info.ublksrv_pid).ok().filter(|pid| *pid != 0),
            owner_uid: info.owner_uid,
            owner_gid: info.owner_gid,
            server_word: info.ublksrv_flags,
            descriptor_bytes: if sized { info.io_desc_size } else { DESCRIPTOR_BYTES },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn junk_in_old_padding_is_not_a_descriptor_size() {
        let mut raw = ublksrv_ctrl_dev_info { io_desc_size: 200, ..Default::default() };
        assert_eq!(DeviceInfo::from_sys(&raw).descriptor_bytes, 24);
        raw.flags = Features::IO_DESC_SIZE.bits();
        assert_eq!(DeviceInfo::from_sys(&raw).descriptor_bytes, 200);
    }

    #[test]
    fn a_grant_is_no_more_than_the_wish() {
        let wish = DeviceInfo::wish(4, 128, 1 << 19);
        let good = DeviceInfo { id: Some(0), queues: 2, ..wish };
        assert!(good.is_grant_of(&wish));
        let bad = [
            DeviceInfo { id: None, ..good },
            DeviceInfo { queues: 0, ..good },
            DeviceInfo { queues: 5, ..good },
            DeviceInfo { depth: 129, ..good },
            DeviceInfo { max_io_bytes: 1 << 20, ..good },
            DeviceInfo { max_io_bytes: 0, ..good },
            DeviceInfo { descriptor_bytes: 16, ..good },
            DeviceInfo { descriptor_bytes: 25, ..good },
        ];
        for granted in bad {
            assert!(!granted.is_grant_of(&wish), "{granted:?}");
        }
        assert!(!good.is_grant_of(&DeviceInfo { id: Some(7), ..wish }));
    }

    #[test]
    fn what_cannot_be_is_no_device() {
        let most = DeviceInfo {
            id: Some(0),
            descriptor_bytes: 256,
            ..DeviceInfo::wish(UBLK_MAX_NR_QUEUES, UBLK_MAX_QUEUE_DEPTH, u32::MAX)
        };
        assert!(most.is_sound());
        let bad = [
            DeviceInfo { id: None, ..most },
            DeviceInfo { queues: 0, ..most },
            DeviceInfo { queues: UBLK_MAX_NR_QUEUES + 1, ..most },
            DeviceInfo { depth: 0, ..most },
            DeviceInfo { depth: UBLK_MAX_QUEUE_DEPTH + 1, ..most },
            DeviceInfo { max_io_bytes: 0, ..most },
            DeviceInfo { descriptor_bytes: 16, ..most },
            DeviceInfo { descriptor_bytes: 100, ..most },
            DeviceInfo { descriptor_bytes: 264, ..most },
        ];
        for info in bad {
            assert!(!info.is_sound(), "{info:?}");
        }
    }

    #[test]
    fn a_wish_is_told_word_for_word() {
        let features = Features::IO_DESC_SIZE | Features::UPDATE_SIZE;
        let wish = DeviceInfo {
            id: Some(7),
            features,
            server_word: 0xfeed,
            descriptor_bytes: 32,
            ..DeviceInfo::wish(4, 128, 1 << 19)
        };
        let raw = wish.to_sys();
        assert_eq!((raw.dev_id, raw.ublksrv_pid), (7, -1));
        assert_eq!((raw.nr_hw_queues, raw.queue_depth, raw.max_io_buf_bytes), (4, 128, 1 << 19));
        assert_eq!((raw.flags, raw.ublksrv_flags), (features.bits(), 0xfeed));
        assert_eq!(raw.io_desc_size, 32);
        assert_eq!(DeviceInfo::from_sys(&raw), wish);
        let plain = DeviceInfo { id: None, features: Features::empty(), ..wish }.to_sys();
        assert_eq!((plain.dev_id, plain.io_desc_size), (u32::MAX, 0), "what was not asked for");
    }

    #[test]
    fn requests_wait_but_in_batches() {
        let waits =
            |features| DeviceInfo { features, ..DeviceInfo::wish(1, 1, 1) }.waits_when_quiesced();
        let (quiesce, batches) = (Features::QUIESCE, Features::BATCH_IO);
        let found = [Features::empty(), quiesce, batches, quiesce | batches].map(waits);
        assert_eq!(found, [false, true, false, false]);
    }

    #[test]
    fn states_have_names() {
        let named = [
            (UBLK_S_DEV_DEAD, "dead"),
            (UBLK_S_DEV_LIVE, "live"),
            (UBLK_S_DEV_QUIESCED, "quiesced"),
            (UBLK_S_DEV_FAIL_IO, "fail-io"),
            (9, "state 9"),
        ];
        for (state, name) in named {
            let info = ublksrv_ctrl_dev_info { state, ..Default::default() };
            assert_eq!(DeviceInfo::from_sys(&info).state.to_string(), name);
        }
    }

    #[test]
    fn a_pid_that_is_none() {
        for (raw, pid) in [(-1, None), (0, None), (7, Some(7))] {
            let info = ublksrv_ctrl_dev_info { ublksrv_pid: raw, ..Default::default() };
            assert_eq!(DeviceInfo::from_sys(&info).server_pid, pid);
        }
    }
}
