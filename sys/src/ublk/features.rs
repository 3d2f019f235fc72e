//! What a device may be asked to do.
use crate::constants;

constants! {
    /// [`ublksrv_ctrl_dev_info::flags`](super::ublksrv_ctrl_dev_info::flags), and what
    /// [`UBLK_U_CMD_GET_FEATURES`](super::UBLK_U_CMD_GET_FEATURES) returns. Wanted bits that the
    /// driver does not know vanish silently: look at what came back.
    pub FEATURES {
        /// Requests' pages can be put into a ring's buffer table. Works since 6.15.
        pub UBLK_F_SUPPORT_ZERO_COPY: u64 = 1 << 0;
        /// Commands complete in the server's task; always set. Since 6.0.
        pub UBLK_F_URING_CMD_COMP_IN_TASK: u64 = 1 << 1;
        /// A write asks for its buffer before its data is copied. Since 6.0.
        pub UBLK_F_NEED_GET_DATA: u64 = 1 << 2;
        /// The device survives its server; I/O in flight fails, new I/O waits. Since 6.1.
        pub UBLK_F_USER_RECOVERY: u64 = 1 << 3;
        /// With the above: I/O in flight is sent again. Since 6.1.
        pub UBLK_F_USER_RECOVERY_REISSUE: u64 = 1 << 4;
        /// Created and served without privileges. Since 6.3.
        pub UBLK_F_UNPRIVILEGED_DEV: u64 = 1 << 5;
        /// Opcodes may be encoded as ioctl numbers; always set. Since 6.4.
        pub UBLK_F_CMD_IOCTL_ENCODE: u64 = 1 << 6;
        /// The server moves data with `pread` and `pwrite` on the char device. Since 6.5.
        pub UBLK_F_USER_COPY: u64 = 1 << 7;
        /// A zoned disk. Since 6.6.
        pub UBLK_F_ZONED: u64 = 1 << 8;
        /// With [`UBLK_F_USER_RECOVERY`]: new I/O fails while there is no server. Since 6.13.
        pub UBLK_F_USER_RECOVERY_FAIL_IO: u64 = 1 << 9;
        /// The disk can be resized. Since 6.16.
        pub UBLK_F_UPDATE_SIZE: u64 = 1 << 10;
        /// The kernel registers and unregisters requests' pages itself. Since 6.16.
        pub UBLK_F_AUTO_BUF_REG: u64 = 1 << 11;
        /// The server can be replaced in an orderly way. Since 6.16.
        pub UBLK_F_QUIESCE: u64 = 1 << 12;
        /// Slots of one queue may belong to different tasks. Since 6.16.
        pub UBLK_F_PER_IO_DAEMON: u64 = 1 << 13;
        /// Any task may register and unregister a request's pages. Since 6.17.
        pub UBLK_F_BUF_REG_OFF_DAEMON: u64 = 1 << 14;
        /// Commands for many slots at once, instead of those for one. Since 7.0.
        pub UBLK_F_BATCH_IO: u64 = 1 << 15;
        /// Requests may carry integrity data; needs [`UBLK_F_USER_COPY`]. Since 7.0.
        pub UBLK_F_INTEGRITY: u64 = 1 << 16;
        /// There is [`UBLK_U_CMD_TRY_STOP_DEV`](super::UBLK_U_CMD_TRY_STOP_DEV). Since 7.0.
        pub UBLK_F_SAFE_STOP_DEV: u64 = 1 << 17;
        /// Starting the device does not look for partitions. Since 7.0.
        pub UBLK_F_NO_AUTO_PART_SCAN: u64 = 1 << 18;
        /// Requests from registered shared memory are not copied. Since 7.1.
        pub UBLK_F_SHMEM_ZC: u64 = 1 << 19;
        /// Descriptors stand
        /// [`io_desc_size`](super::ublksrv_ctrl_dev_info::io_desc_size) bytes apart. Since 7.3.
        pub UBLK_F_IO_DESC_SIZE: u64 = 1 << 20;
    }
}
