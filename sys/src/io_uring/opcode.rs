//! Operations.
use crate::constants;

constants! {
    /// [`io_uring_sqe::opcode`](super::io_uring_sqe::opcode).
    pub OPCODES {
        /// Does nothing.
        pub IORING_OP_NOP: u8 = 0;
        /// As `preadv2(2)`.
        pub IORING_OP_READV: u8 = 1;
        /// As `pwritev2(2)`.
        pub IORING_OP_WRITEV: u8 = 2;
        /// As `fsync(2)`.
        pub IORING_OP_FSYNC: u8 = 3;
        /// As `pread(2)`, into a registered buffer.
        pub IORING_OP_READ_FIXED: u8 = 4;
        /// As `pwrite(2)`, from a registered buffer.
        pub IORING_OP_WRITE_FIXED: u8 = 5;
        /// Waits for a file's events.
        pub IORING_OP_POLL_ADD: u8 = 6;
        /// Ends or changes such waiting.
        pub IORING_OP_POLL_REMOVE: u8 = 7;
        /// As `sync_file_range(2)`.
        pub IORING_OP_SYNC_FILE_RANGE: u8 = 8;
        /// As `sendmsg(2)`.
        pub IORING_OP_SENDMSG: u8 = 9;
        /// As `recvmsg(2)`.
        pub IORING_OP_RECVMSG: u8 = 10;
        /// Completes after a time, or a number of completions.
        pub IORING_OP_TIMEOUT: u8 = 11;
        /// Ends or changes a timeout.
        pub IORING_OP_TIMEOUT_REMOVE: u8 = 12;
        /// As `accept4(2)`.
        pub IORING_OP_ACCEPT: u8 = 13;
        /// Cancels other requests; ublk commands are beyond its reach.
        pub IORING_OP_ASYNC_CANCEL: u8 = 14;
        /// Limits the time of the request it is linked to.
        pub IORING_OP_LINK_TIMEOUT: u8 = 15;
        /// As `connect(2)`.
        pub IORING_OP_CONNECT: u8 = 16;
        /// As `fallocate(2)`.
        pub IORING_OP_FALLOCATE: u8 = 17;
        /// As `openat(2)`.
        pub IORING_OP_OPENAT: u8 = 18;
        /// As `close(2)`.
        pub IORING_OP_CLOSE: u8 = 19;
        /// Changes the ring's file table.
        pub IORING_OP_FILES_UPDATE: u8 = 20;
        /// As `statx(2)`.
        pub IORING_OP_STATX: u8 = 21;
        /// As `pread(2)`.
        pub IORING_OP_READ: u8 = 22;
        /// As `pwrite(2)`.
        pub IORING_OP_WRITE: u8 = 23;
        /// As `posix_fadvise(2)`.
        pub IORING_OP_FADVISE: u8 = 24;
        /// As `madvise(2)`.
        pub IORING_OP_MADVISE: u8 = 25;
        /// As `send(2)`.
        pub IORING_OP_SEND: u8 = 26;
        /// As `recv(2)`.
        pub IORING_OP_RECV: u8 = 27;
        /// As `openat2(2)`.
        pub IORING_OP_OPENAT2: u8 = 28;
        /// As `epoll_ctl(2)`.
        pub IORING_OP_EPOLL_CTL: u8 = 29;
        /// As `splice(2)`.
        pub IORING_OP_SPLICE: u8 = 30;
        /// Gives buffers to a group, the old way.
        pub IORING_OP_PROVIDE_BUFFERS: u8 = 31;
        /// Takes them back.
        pub IORING_OP_REMOVE_BUFFERS: u8 = 32;
        /// As `tee(2)`.
        pub IORING_OP_TEE: u8 = 33;
        /// As `shutdown(2)`.
        pub IORING_OP_SHUTDOWN: u8 = 34;
        /// As `renameat2(2)`.
        pub IORING_OP_RENAMEAT: u8 = 35;
        /// As `unlinkat(2)`.
        pub IORING_OP_UNLINKAT: u8 = 36;
        /// As `mkdirat(2)`.
        pub IORING_OP_MKDIRAT: u8 = 37;
        /// As `symlinkat(2)`.
        pub IORING_OP_SYMLINKAT: u8 = 38;
        /// As `linkat(2)`.
        pub IORING_OP_LINKAT: u8 = 39;
        /// Completes something on another ring.
        pub IORING_OP_MSG_RING: u8 = 40;
        /// As `fsetxattr(2)`.
        pub IORING_OP_FSETXATTR: u8 = 41;
        /// As `setxattr(2)`.
        pub IORING_OP_SETXATTR: u8 = 42;
        /// As `fgetxattr(2)`.
        pub IORING_OP_FGETXATTR: u8 = 43;
        /// As `getxattr(2)`.
        pub IORING_OP_GETXATTR: u8 = 44;
        /// As `socket(2)`.
        pub IORING_OP_SOCKET: u8 = 45;
        /// Gives a command to the file's driver: how a ublk server says everything. Since 5.19.
        pub IORING_OP_URING_CMD: u8 = 46;
        /// Sends without copying.
        pub IORING_OP_SEND_ZC: u8 = 47;
        /// As `sendmsg(2)`, without copying.
        pub IORING_OP_SENDMSG_ZC: u8 = 48;
        /// Reads many times, into provided buffers.
        pub IORING_OP_READ_MULTISHOT: u8 = 49;
        /// As `waitid(2)`.
        pub IORING_OP_WAITID: u8 = 50;
        /// Waits on a futex.
        pub IORING_OP_FUTEX_WAIT: u8 = 51;
        /// Wakes a futex.
        pub IORING_OP_FUTEX_WAKE: u8 = 52;
        /// Waits on several futexes.
        pub IORING_OP_FUTEX_WAITV: u8 = 53;
        /// Makes a descriptor of an entry of the file table.
        pub IORING_OP_FIXED_FD_INSTALL: u8 = 54;
        /// As `ftruncate(2)`.
        pub IORING_OP_FTRUNCATE: u8 = 55;
        /// As `bind(2)`.
        pub IORING_OP_BIND: u8 = 56;
        /// As `listen(2)`.
        pub IORING_OP_LISTEN: u8 = 57;
        /// Receives without copying.
        pub IORING_OP_RECV_ZC: u8 = 58;
        /// As `epoll_wait(2)`.
        pub IORING_OP_EPOLL_WAIT: u8 = 59;
        /// As `preadv2(2)`, into a registered buffer.
        pub IORING_OP_READV_FIXED: u8 = 60;
        /// As `pwritev2(2)`, from a registered buffer.
        pub IORING_OP_WRITEV_FIXED: u8 = 61;
        /// As `pipe2(2)`.
        pub IORING_OP_PIPE: u8 = 62;
        /// Does nothing, with 128 bytes. Since 6.19.
        pub IORING_OP_NOP128: u8 = 63;
        /// As [`IORING_OP_URING_CMD`], with 128 bytes in a ring of both sizes. Since 6.19.
        pub IORING_OP_URING_CMD128: u8 = 64;
    }
}
