//! What is said to `/dev/ublk-control`.
use crate::abi::{ior, iowr};
use crate::{constants, layout};

constants! {
    /// Plain command numbers, the only ones that Linux 6.0 to 6.3 know. A newer kernel can be built
    /// without them. Each is the low byte of its `UBLK_U_CMD_*`.
    pub LEGACY_CONTROL_OPCODES {
        /// Plain number of [`UBLK_U_CMD_GET_QUEUE_AFFINITY`].
        pub UBLK_CMD_GET_QUEUE_AFFINITY: u8 = 0x01;
        /// Plain number of [`UBLK_U_CMD_GET_DEV_INFO`].
        pub UBLK_CMD_GET_DEV_INFO: u8 = 0x02;
        /// Plain number of [`UBLK_U_CMD_ADD_DEV`].
        pub UBLK_CMD_ADD_DEV: u8 = 0x04;
        /// Plain number of [`UBLK_U_CMD_DEL_DEV`].
        pub UBLK_CMD_DEL_DEV: u8 = 0x05;
        /// Plain number of [`UBLK_U_CMD_START_DEV`].
        pub UBLK_CMD_START_DEV: u8 = 0x06;
        /// Plain number of [`UBLK_U_CMD_STOP_DEV`].
        pub UBLK_CMD_STOP_DEV: u8 = 0x07;
        /// Plain number of [`UBLK_U_CMD_SET_PARAMS`].
        pub UBLK_CMD_SET_PARAMS: u8 = 0x08;
        /// Plain number of [`UBLK_U_CMD_GET_PARAMS`].
        pub UBLK_CMD_GET_PARAMS: u8 = 0x09;
        /// Plain number of [`UBLK_U_CMD_START_USER_RECOVERY`].
        pub UBLK_CMD_START_USER_RECOVERY: u8 = 0x10;
        /// Plain number of [`UBLK_U_CMD_END_USER_RECOVERY`].
        pub UBLK_CMD_END_USER_RECOVERY: u8 = 0x11;
        /// Plain number of [`UBLK_U_CMD_GET_DEV_INFO2`].
        pub UBLK_CMD_GET_DEV_INFO2: u8 = 0x12;
    }
}

constants! {
    /// Control commands: `cmd_op` of a 128-byte SQE that carries a [`ublksrv_ctrl_cmd`]. The
    /// encoding as ioctl numbers is understood since Linux 6.4.
    pub CONTROL_OPCODES {
        /// Which CPUs a queue belongs to: `data[0]` is the queue, `addr`/`len` the CPU mask that
        /// the kernel writes. Since 6.0.
        pub UBLK_U_CMD_GET_QUEUE_AFFINITY: u32 =
            ior::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_GET_QUEUE_AFFINITY);
        /// Reads a [`ublksrv_ctrl_dev_info`] into `addr`/`len`. Since 6.0.
        pub UBLK_U_CMD_GET_DEV_INFO: u32 =
            ior::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_GET_DEV_INFO);
        /// Creates a device from the [`ublksrv_ctrl_dev_info`] at `addr`/`len`, which the kernel
        /// overwrites with what it granted. Since 6.0.
        pub UBLK_U_CMD_ADD_DEV: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_ADD_DEV);
        /// Deletes a device and waits until its number is free. Since 6.0.
        pub UBLK_U_CMD_DEL_DEV: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_DEL_DEV);
        /// Attaches the disk once every slot was fetched; `data[0]` is the server's process id.
        /// Since 6.0.
        pub UBLK_U_CMD_START_DEV: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_START_DEV);
        /// Detaches the disk; the server has to keep serving meanwhile. Since 6.0.
        pub UBLK_U_CMD_STOP_DEV: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_STOP_DEV);
        /// Stores the [`ublk_params`](super::ublk_params) at `addr`/`len`. Since 6.0.
        pub UBLK_U_CMD_SET_PARAMS: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_SET_PARAMS);
        /// Reads [`ublk_params`](super::ublk_params), whose `len` the caller has filled in. Since
        /// 6.0.
        pub UBLK_U_CMD_GET_PARAMS: u32 = ior::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_GET_PARAMS);
        /// Asks whether a new server may take over. Since 6.1.
        pub UBLK_U_CMD_START_USER_RECOVERY: u32 =
            iowr::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_START_USER_RECOVERY);
        /// Completes the takeover; `data[0]` is the new server's process id. Since 6.1.
        pub UBLK_U_CMD_END_USER_RECOVERY: u32 =
            iowr::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_END_USER_RECOVERY);
        /// As [`UBLK_U_CMD_GET_DEV_INFO`], with the device's path before the buffer. Since 6.3.
        pub UBLK_U_CMD_GET_DEV_INFO2: u32 =
            ior::<ublksrv_ctrl_cmd>(b'u', UBLK_CMD_GET_DEV_INFO2);
        /// Reads the driver's `UBLK_F_*` as one u64; needs no device. Since 6.5.
        pub UBLK_U_CMD_GET_FEATURES: u32 = ior::<ublksrv_ctrl_cmd>(b'u', 0x13);
        /// As [`UBLK_U_CMD_DEL_DEV`], without waiting. Since 6.9.
        pub UBLK_U_CMD_DEL_DEV_ASYNC: u32 = ior::<ublksrv_ctrl_cmd>(b'u', 0x14);
        /// Resizes the disk to `data[0]` sectors of 512 bytes. Since 6.16.
        pub UBLK_U_CMD_UPDATE_SIZE: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', 0x15);
        /// Takes the idle commands from the server, to replace it; `data[0]` is a timeout in
        /// milliseconds. Since 6.16.
        pub UBLK_U_CMD_QUIESCE_DEV: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', 0x16);
        /// As [`UBLK_U_CMD_STOP_DEV`], unless somebody has the disk open. Since 7.0.
        pub UBLK_U_CMD_TRY_STOP_DEV: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', 0x17);
        /// Registers the memory that the [`ublk_shmem_buf_reg`] at `addr`/`len` names; the result
        /// is its index, not 0. Since 7.1.
        pub UBLK_U_CMD_REG_BUF: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', 0x18);
        /// Forgets the registered memory with index `data[0]`. Since 7.1.
        pub UBLK_U_CMD_UNREG_BUF: u32 = iowr::<ublksrv_ctrl_cmd>(b'u', 0x19);
    }
}

/// What [`UBLK_U_CMD_REG_BUF`] registers. Written by the server; since Linux 7.1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublk_shmem_buf_reg {
    /// Where the memory is mapped in the caller, page aligned.
    pub addr: u64,
    /// Its length in bytes, page aligned, at most 4 GiB.
    pub len: u64,
    /// [`UBLK_SHMEM_BUF_READ_ONLY`] or 0.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}
layout!(ublk_shmem_buf_reg: 24 { 0 addr: u64, 8 len: u64, 16 flags: u32, 20 reserved: u32 });

constants! {
    /// [`ublk_shmem_buf_reg::flags`].
    pub SHMEM_BUF_FLAGS {
        /// The kernel only reads this memory: it serves writes, and may be write-sealed.
        pub UBLK_SHMEM_BUF_READ_ONLY: u32 = 1 << 0;
    }
}

constants! {
    /// Sizes that control commands ask for.
    pub CONTROL_LIMITS {
        /// Bytes that [`UBLK_U_CMD_GET_FEATURES`] writes; its `len` must be exactly this.
        pub UBLK_FEATURES_LEN: u16 = 8;
    }
}

constants! {
    /// [`ublksrv_ctrl_dev_info::state`].
    pub DEVICE_STATES {
        /// No disk is attached. Since 6.0.
        pub UBLK_S_DEV_DEAD: u16 = 0;
        /// A disk is attached and served. Since 6.0.
        pub UBLK_S_DEV_LIVE: u16 = 1;
        /// The server is gone, and I/O waits for the next one. Since 6.1.
        pub UBLK_S_DEV_QUIESCED: u16 = 2;
        /// The server is gone, and I/O fails until the next one comes. Since 6.13.
        pub UBLK_S_DEV_FAIL_IO: u16 = 3;
    }
}

/// The payload of a control command: 32 bytes at byte 48 of a 128-byte SQE. Written by the server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublksrv_ctrl_cmd {
    /// The device's number; with [`UBLK_U_CMD_ADD_DEV`], `u32::MAX` asks the kernel to choose.
    pub dev_id: u32,
    /// `u16::MAX`. ([`UBLK_U_CMD_GET_QUEUE_AFFINITY`] names its queue in `data`.)
    pub queue_id: u16,
    /// Bytes at `addr`, the path included.
    pub len: u16,
    /// The command's buffer: path first if there is one, payload after it.
    pub addr: u64,
    /// The command's own number: a process id, queue, size, timeout or index.
    pub data: [u64; 1],
    /// Bytes of the device's path with its final NUL, or 0 for none.
    pub dev_path_len: u16,
    /// Zero.
    pub pad: u16,
    /// Zero.
    pub reserved: u32,
}
layout!(ublksrv_ctrl_cmd: 32 {
    0 dev_id: u32, 4 queue_id: u16, 6 len: u16, 8 addr: u64, 16 data: [u64; 1],
    24 dev_path_len: u16, 26 pad: u16, 28 reserved: u32,
});

/// What a device is. Written by the server for [`UBLK_U_CMD_ADD_DEV`], by the kernel ever after.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ublksrv_ctrl_dev_info {
    /// Queues; the kernel lowers it to the number of CPUs.
    pub nr_hw_queues: u16,
    /// Slots of every queue.
    pub queue_depth: u16,
    /// One of [`DEVICE_STATES`]; written by the kernel.
    pub state: u16,
    /// Bytes from one [`ublksrv_io_desc`](super::ublksrv_io_desc) to the next, with
    /// [`UBLK_F_IO_DESC_SIZE`](super::UBLK_F_IO_DESC_SIZE); 0 otherwise. Since 7.3, padding before:
    /// an older kernel returns whatever was asked.
    pub io_desc_size: u16,
    /// The largest request, in bytes; the kernel rounds it down to a whole page.
    pub max_io_buf_bytes: u32,
    /// The device's number, or `u32::MAX` to let the kernel choose.
    pub dev_id: u32,
    /// Process id of the server, -1 when there is none; written by the kernel.
    pub ublksrv_pid: i32,
    /// Zero.
    pub pad1: u32,
    /// `UBLK_F_*`: wanted in, granted out. Unknown bits vanish silently.
    pub flags: u64,
    /// Belongs to the server; the driver keeps it and does not look.
    pub ublksrv_flags: u64,
    /// Who created the device; written by the kernel. Since 6.3.
    pub owner_uid: u32,
    /// The creator's group; written by the kernel. Since 6.3.
    pub owner_gid: u32,
    /// Zero.
    pub reserved1: u64,
    /// Zero.
    pub reserved2: u64,
}
layout!(ublksrv_ctrl_dev_info: 64 {
    0 nr_hw_queues: u16, 2 queue_depth: u16, 4 state: u16, 6 io_desc_size: u16,
    8 max_io_buf_bytes: u32, 12 dev_id: u32, 16 ublksrv_pid: i32, 20 pad1: u32, 24 flags: u64,
    32 ublksrv_flags: u64, 40 owner_uid: u32, 44 owner_gid: u32, 48 reserved1: u64,
    56 reserved2: u64,
});
