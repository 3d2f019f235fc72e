//! Compares with rustix's own `io_uring` types, whose headers somebody else read.
use std::mem::{offset_of, size_of};

use rustix::io_uring as theirs;
use ublkit_sys::io_uring as ours;

/// Our constant of this name.
fn constant(name: &str) -> u64 {
    let mut all = ours::CONSTANTS.iter().copied().flatten();
    all.find(|constant| constant.name == name).unwrap_or_else(|| panic!("no {name}")).value
}

/// Every named flag of a bitflags type of rustix is a constant of ours, with the prefix.
macro_rules! flags {
    ($($ty:ident $prefix:literal),+ $(,)?) => { $({
        let mut count = 0;
        for (name, flag) in theirs::$ty::all().iter_names() {
            let name = format!("{}{name}", $prefix).replace("TIMEOUT_LINK_T", "LINK_T");
            assert_eq!(constant(&name), u64::from(flag.bits()), "{name}");
            count += 1;
        }
        assert!(count > 0, "{} has no flags", stringify!($ty));
    })+ };
}

#[test]
fn flags_are_the_same() {
    flags!(
        IoringEnterFlags "IORING_ENTER_",
        IoringRegisterFlags "IORING_REGISTER_",
        IoringSetupFlags "IORING_SETUP_",
        IoringSqeFlags "IOSQE_",
        IoringCqeFlags "IORING_CQE_F_",
        IoringFsyncFlags "IORING_FSYNC_",
        IoringTimeoutFlags "IORING_TIMEOUT_",
        SpliceFlags "SPLICE_F_",
        IoringMsgringFlags "IORING_MSG_RING_",
        IoringUringCmdFlags "IORING_URING_CMD_",
        IoringAsyncCancelFlags "IORING_ASYNC_CANCEL_",
        IoringFeatureFlags "IORING_FEAT_",
        IoringOpFlags "IO_URING_OP_",
        IoringRsrcFlags "IORING_RSRC_",
        IoringSqFlags "IORING_SQ_",
        IoringCqFlags "IORING_CQ_",
        IoringPollFlags "IORING_POLL_",
    );
}

/// `FooBar` as `FOO_BAR`.
fn screaming(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_uppercase());
    }
    out
}

macro_rules! variants {
    ($ty:ident $prefix:literal: $($name:ident)+) => { $(
        let name = format!("{}{}", $prefix, screaming(stringify!($name)));
        assert_eq!(constant(&name), theirs::$ty::$name as u64, "{name}");
    )+ };
}

#[test]
fn opcodes_are_the_same() {
    variants!(IoringOp "IORING_OP_":
        Nop Accept AsyncCancel Close Connect EpollCtl Fadvise Fallocate FilesUpdate Fsync Linkat
        LinkTimeout Madvise Mkdirat Openat Openat2 PollAdd PollRemove ProvideBuffers Read Readv
        ReadFixed Recv Recvmsg RemoveBuffers Renameat Send Sendmsg Shutdown Splice Statx Symlinkat
        SyncFileRange Tee Timeout TimeoutRemove Unlinkat Write Writev WriteFixed MsgRing Fsetxattr
        Setxattr Fgetxattr Getxattr Socket UringCmd SendZc SendmsgZc ReadMultishot Waitid FutexWait
        FutexWake FutexWaitv FixedFdInstall Ftruncate Bind Listen);
    variants!(IoringRegisterOp "IORING_":
        RegisterBuffers UnregisterBuffers RegisterFiles UnregisterFiles RegisterEventfd
        UnregisterEventfd RegisterFilesUpdate RegisterEventfdAsync RegisterProbe
        RegisterPersonality UnregisterPersonality RegisterRestrictions RegisterEnableRings
        RegisterBuffers2 RegisterBuffersUpdate RegisterFiles2 RegisterFilesUpdate2 RegisterIowqAff
        UnregisterIowqAff RegisterIowqMaxWorkers RegisterRingFds UnregisterRingFds RegisterPbufRing
        UnregisterPbufRing RegisterSyncCancel RegisterFileAllocRange RegisterPbufStatus
        RegisterNapi UnregisterNapi RegisterClock RegisterCloneBuffers RegisterSendMsgRing
        RegisterResizeRings);
    variants!(IoringRestrictionOp "IORING_RESTRICTION_":
        RegisterOp SqeOp SqeFlagsAllowed SqeFlagsRequired);
    variants!(IoringMsgringCmds "IORING_MSG_": Data SendFd);
}

#[test]
fn numbers_are_the_same() {
    assert_eq!(ours::IORING_CQE_BUFFER_SHIFT, theirs::IORING_CQE_BUFFER_SHIFT);
    assert_eq!(ours::IORING_FILE_INDEX_ALLOC.cast_signed(), theirs::IORING_FILE_INDEX_ALLOC);
    assert_eq!(ours::IORING_OFF_SQ_RING, theirs::IORING_OFF_SQ_RING);
    assert_eq!(ours::IORING_OFF_CQ_RING, theirs::IORING_OFF_CQ_RING);
    assert_eq!(ours::IORING_OFF_SQES, theirs::IORING_OFF_SQES);
}

/// Size of the struct (the flexible array at its end counts nothing), and each offset, by our
/// name or by `our name = their name`.
macro_rules! layout {
    ($ty:ident { $($field:ident $(= $other:ident)?),+ $(,)? }) => {
        assert_eq!(size_of::<ours::$ty>(), size_of::<theirs::$ty>(), stringify!($ty));
        $(assert_eq!(
            offset_of!(ours::$ty, $field),
            layout!(@ $ty $field $($other)?),
            concat!(stringify!($ty), ".", stringify!($field)),
        );)+
    };
    (@ $ty:ident $field:ident) => { offset_of!(theirs::$ty, $field) };
    (@ $ty:ident $field:ident $other:ident) => { offset_of!(theirs::$ty, $other) };
}

#[test]
fn layouts_are_the_same() {
    layout!(io_uring_sqe {
        opcode, flags, ioprio, fd, off = off_or_addr2, addr = addr_or_splice_off_in, len, op_flags,
        user_data, buf_index = buf, personality,
        splice_fd_in = splice_fd_in_or_file_index_or_addr_len, cmd = addr3_or_cmd,
    });
    layout!(io_uring_cqe { user_data, res, flags });
    layout!(io_uring_params {
        sq_entries,
        cq_entries,
        flags,
        sq_thread_cpu,
        sq_thread_idle,
        features,
        wq_fd,
        resv,
        sq_off,
        cq_off,
    });
    layout!(io_sqring_offsets {
        head,
        tail,
        ring_mask,
        ring_entries,
        flags,
        dropped,
        array,
        resv1,
        user_addr,
    });
    layout!(io_cqring_offsets {
        head,
        tail,
        ring_mask,
        ring_entries,
        overflow,
        cqes,
        flags,
        resv1,
        user_addr,
    });
    layout!(io_uring_getevents_arg { sigmask, sigmask_sz, min_wait_usec, ts });
    layout!(io_uring_sync_cancel_reg { addr, fd, flags, timeout, opcode, pad, pad2 });
    layout!(io_uring_files_update { offset, resv, fds });
    layout!(io_uring_rsrc_register { nr, flags, resv2, data, tags });
    layout!(io_uring_rsrc_update { offset, resv, data });
    layout!(io_uring_rsrc_update2 { offset, resv, data, tags, nr, resv2 });
    layout!(io_uring_probe { last_op, ops_len, resv, resv2 });
    layout!(io_uring_probe_op { op, resv, flags, resv2 });
    layout!(io_uring_restriction {
        opcode, register_op = register_or_sqe_op_or_sqe_flags, resv, resv2,
    });
    layout!(io_uring_buf { addr, len, bid, resv });
    // rustix's headers are older: min_left was the beginning of what is reserved.
    layout!(io_uring_buf_reg { ring_addr, ring_entries, bgid, flags, min_left = resv });
    assert_eq!(size_of::<ours::__kernel_timespec>(), size_of::<theirs::Timespec>());
    assert_eq!(
        offset_of!(ours::io_uring_buf_ring, tail),
        offset_of!(theirs::buf_ring_tail_struct, tail)
    );
}
