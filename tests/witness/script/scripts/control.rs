//! Control commands: what is common to all (protocol 1.1) and each of them (1.2), check by check.

use super::super::build::{Plan, script};
use super::super::sqe::{self, Dev, Fd, NOWHERE, Payload, Sqe, Word};
use super::super::{Register, Script, Step};
use ublkit::sys::io_uring::IORING_SETUP_SQE128;
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::ublksrv_ctrl_dev_info;

pub fn all() -> Vec<Script> {
    vec![
        fields(),
        opcodes(),
        order(),
        rights(),
        by_path(),
        unprivileged(),
        quota(),
        features(),
        affinity(),
        info(),
        add_checks(),
        add_numbers(),
        add_numbered(),
        add_granted(),
        lattice(),
        descriptors(),
    ]
}

fn fields() -> Script {
    script("control: fields of the SQE", |s| {
        s.added(&Plan::default());
        s.ring(0, 1, 8, 0);
        s.send(1, [sqe::info(0)]);
        s.send(1, [sqe::features()]);
        s.send(1, [sqe::info(0).op(0x1234)]);
        s.control(sqe::info(0).high(1));
        s.control(sqe::info(0).ioprio(1));
        s.control(sqe::info(0).op_flags(4));
        s.control(sqe::info(0).op_flags(1 << 31));
        s.control(sqe::info(0).addr(Word::Number(5)).len(7));
        s.control(sqe::info(0).flags(0x80));
        s.control(sqe::info(0).fd(Fd::Number(-1)));
        s.control(sqe::info(0).queue(0));
        s.control(sqe::info(0).queue(77));
        s.register(0, 0, Register::Files(vec![Fd::Control]));
        s.control(sqe::info(0).fixed(0));
        s.control(sqe::info(0).fixed(1));
        s.control(sqe::info(0).flags(0x10));
    })
}

fn opcodes() -> Script {
    script("control: opcodes", |s| {
        s.added(&Plan::default());
        for op in [
            0x02,
            0x7502,
            0x0000_7502,
            0xffff_7502,
            0x8020_7402,
            0x8020_6202,
            0,
            0x7500,
            0x03,
            0x0f,
            0x7521,
            0x8020_751f,
            0xc020_75ff,
            0x13,
            0x7513,
            0x8020_7413,
        ] {
            s.control(sqe::info(0).op(op));
        }
        s.control(sqe::features().op(0x13));
        s.control(sqe::features().op(0x7513));
        s.control(sqe::features().op(0xc020_7513));
        s.control(sqe::stop(0).op(0x07));
        s.control(sqe::get_params(0).op(0x09));
    })
}

fn order() -> Script {
    script("control: which refusal comes first", |s| {
        s.control_ring();
        for number in [999, 0x7fff_ffff, u32::MAX, u32::MAX - 1] {
            s.control(sqe::info(0).dev(Dev::Number(number)));
            s.control(sqe::stop(0).dev(Dev::Number(number)).op(0x8020_75ff));
            s.control(sqe::stop(0).dev(Dev::Number(number)).op(0x8020_1207));
        }
        s.control(sqe::features().dev(Dev::Number(999)));
        s.control(sqe::features().dev(Dev::Number(u32::MAX)));
    })
}

fn rights() -> Script {
    script("control: without CAP_SYS_ADMIN", |s| {
        s.added(&Plan::default());
        s.ring(1, 1, 8, IORING_SETUP_SQE128);
        s.send(1, [sqe::features()]);
        s.send(1, [sqe::features().size(4)]);
        let wish = Plan::default().info();
        s.send(1, [sqe::add(1, wish)]);
        s.send(1, [sqe::add(1, ublksrv_ctrl_dev_info { queue_depth: 0, ..wish })]);
        s.send(1, [sqe::add(1, wish).dev(Dev::Of(0))]);
        let recovers = Plan::with(sys::UBLK_F_USER_RECOVERY_REISSUE).info();
        s.send(1, [sqe::add(1, recovers)]);
        for command in all_commands() {
            s.send(1, [command]);
        }
        s.send(1, [sqe::info(0).op(0x8020_75ff)]);
        s.send(1, [sqe::info(0).dev(Dev::Number(999))]);
    })
}

/// Each command for device 0, as it would be refused in the end.
fn all_commands() -> Vec<Sqe> {
    vec![
        sqe::info(0).size(1),
        sqe::info(0).op(sys::UBLK_U_CMD_GET_DEV_INFO2),
        sqe::get_params(0).size(1),
        sqe::set_params(0, &super::super::build::sound(), "").size(1),
        sqe::affinity(0, 0, 7),
        sqe::start(0, Word::Number(0)),
        sqe::stop(0),
        sqe::try_stop(0),
        sqe::start_recovery(0),
        sqe::end_recovery(0, Word::Number(0)),
        sqe::update_size(0, 8),
        sqe::quiesce(0, 1),
        sqe::start(0, Word::Number(0)).op(sys::UBLK_U_CMD_REG_BUF),
        sqe::start(0, Word::Number(0)).op(sys::UBLK_U_CMD_UNREG_BUF),
    ]
}

/// The length of the path of a device below ten.
const PATH_BYTES: u16 = 11;

/// A command with the path of its device before its payload.
fn with_path(sqe: Sqe, rest: Vec<u8>) -> Sqe {
    let size = u16::try_from(rest.len()).expect("short");
    sqe.payload(Payload::Path(0, rest), "by path").size(size + PATH_BYTES)
}

fn by_path() -> Script {
    script("control: by path", |s| {
        s.added(&Plan::default());
        let two = || sqe::info(0).op(sys::UBLK_U_CMD_GET_DEV_INFO2);
        s.control(two());
        s.control(with_path(two(), vec![0xee; 64]));
        s.control(with_path(two(), vec![0xee; 64]).path_len(0));
        s.control(with_path(two(), vec![0xee; 64]).path_len(4097));
        s.control(with_path(two(), vec![0xee; 64]).path_len(10));
        s.control(with_path(two(), vec![0xee; 64]).size(10));
        s.control(with_path(two(), vec![0xee; 64]).size(11));
        s.control(with_path(two(), vec![0xee; 64]).size(74));
        s.control(two().payload(Payload::At(NOWHERE), "nowhere").size(75).path_len(11));
        let named = |path: &str| {
            let bytes = [path.as_bytes(), &[0; 64]].concat();
            let len = u16::try_from(path.len()).expect("short");
            two().payload(Payload::Bytes(bytes), path).size(64 + len).path_len(len)
        };
        s.control(named("/dev/null"));
        s.control(named("/dev/nothing"));
        s.control(named("/dev"));
        s.control(named("/dev/ublk-control"));
        s.control(sqe::stop(0).path_len(5));
    })
}

fn unprivileged() -> Script {
    script("control: an unprivileged device", |s| {
        s.control_ring();
        s.ring(1, 1, 8, IORING_SETUP_SQE128);
        let wish = |flags: u64| Plan::with(sys::UBLK_F_UNPRIVILEGED_DEV | flags).info();
        for flags in [
            sys::UBLK_F_USER_COPY,
            sys::UBLK_F_SUPPORT_ZERO_COPY,
            sys::UBLK_F_AUTO_BUF_REG,
            sys::UBLK_F_ZONED,
            sys::UBLK_F_USER_RECOVERY_REISSUE,
            sys::UBLK_F_QUIESCE,
        ] {
            s.send(1, [sqe::add(1, wish(flags))]);
        }
        s.send(1, [sqe::add(0, wish(sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_NEED_GET_DATA))]);
        for command in all_commands() {
            s.control(command);
        }
        s.control(sqe::info(0).op(0x8020_75ff));
        s.control(sqe::delete_async(0));
        s.control(with_path(sqe::delete_async(0), vec![]));
        s.control(with_path(sqe::info(0), vec![0xee; 64]));
        s.send(1, [with_path(sqe::info(0), vec![0xee; 64])]);
        s.send(1, [with_path(sqe::stop(0), vec![])]);
        s.send(1, [with_path(sqe::info(0).op(0x8020_75ff), vec![0xee; 64])]);
        s.send(1, [with_path(sqe::delete(0), vec![])]);
        s.send(1, [with_path(sqe::delete(0), vec![])]);
    })
}

/// There are 64 unprivileged devices at the most, unless the module was told otherwise: that is
/// looked at after the wish, and before the number is taken.
fn quota() -> Script {
    script("control: ADD_DEV, more unprivileged ones than may be", |s| {
        let plan = Plan::with(sys::UBLK_F_UNPRIVILEGED_DEV);
        let one_more = |number: Dev| numbered_wish(64, number, number, plan.info());
        s.control_ring();
        s.ring(1, 1, 8, IORING_SETUP_SQE128);
        s.together("64 devices", |s| {
            (0..64).for_each(|device| s.send(1, [sqe::add(device, plan.info())]));
        });
        s.send(1, [one_more(Dev::Any)]);
        s.send(1, [one_more(Dev::Of(0))]);
        s.send(1, [one_more(Dev::Number(1 << 20))]);
        s.send(1, [one_more(Dev::Any).queue(0)]);
        s.control(sqe::add(65, plan.info()));
        s.send(1, [with_path(sqe::delete(0), vec![])]);
        s.send(1, [one_more(Dev::Of(1))]);
        s.send(1, [one_more(Dev::Any)]);
        s.send(1, [sqe::add(66, plan.info())]);
    })
}

fn features() -> Script {
    script("control: GET_FEATURES", |s| {
        s.control_ring();
        s.control(sqe::features());
        for size in [0, 4, 7, 9, 16] {
            s.control(sqe::features().size(size));
        }
        s.control(sqe::features().payload(Payload::Nothing, "to null"));
        s.control(sqe::features().payload(Payload::At(NOWHERE), "nowhere"));
        s.control(sqe::features().queue(3));
    })
}

fn affinity() -> Script {
    script("control: GET_QUEUE_AFFINITY", |s| {
        s.added(&Plan { queues: 2, ..Plan::default() });
        for (queue, bytes) in
            [(0, 8), (1, 8), (2, 8), (1 << 32, 8), (u64::MAX, 8), (0, 16), (0, 0), (0, 4), (0, 9)]
        {
            s.control(sqe::affinity(0, queue, bytes));
        }
        s.control(sqe::affinity(0, 0, 8).payload(Payload::Nothing, "to null"));
        s.control(sqe::affinity(0, 0, 8).payload(Payload::At(NOWHERE), "nowhere"));
        s.control(sqe::affinity(0, 0, 8).queue(1));
    })
}

fn info() -> Script {
    script("control: GET_DEV_INFO", |s| {
        s.added(&Plan::default());
        s.control(sqe::info(0));
        for size in [0, 63, 65, 128] {
            s.control(sqe::info(0).size(size));
        }
        s.control(sqe::info(0).payload(Payload::Nothing, "to null"));
        s.control(sqe::info(0).payload(Payload::At(NOWHERE), "nowhere"));
    })
}

pub fn wish() -> ublksrv_ctrl_dev_info {
    Plan::default().info()
}

fn add_checks() -> Script {
    script("control: ADD_DEV, its arguments", |s| {
        s.control_ring();
        for size in [0, 32, 63] {
            s.control(sqe::add(1, wish()).size(size));
        }
        s.control(sqe::add(1, wish()).payload(Payload::Nothing, "to null"));
        s.control(sqe::add(1, wish()).payload(Payload::At(NOWHERE), "nowhere"));
        s.control(sqe::add(1, wish()).queue(0));
        s.control(sqe::add(0, wish()).size(65));
        s.control(sqe::add(1, wish()).dev(Dev::Number(5)));
        s.control(sqe::add(1, wish()).dev(Dev::Of(0)));
    })
}

fn add_numbers() -> Script {
    script("control: ADD_DEV, its numbers", |s| {
        s.control_ring();
        for (queues, depth) in [(0, 1), (1, 0), (4097, 1), (1, 4097), (0, 0), (u16::MAX, 1)] {
            let wish = ublksrv_ctrl_dev_info { nr_hw_queues: queues, queue_depth: depth, ..wish() };
            s.step(Step::Try(sqe::add(0, wish)));
        }
        for (queues, depth) in [(4, 1), (5, 1), (4096, 1), (1, 4096), (2, 3)] {
            let wish = ublksrv_ctrl_dev_info { nr_hw_queues: queues, queue_depth: depth, ..wish() };
            s.step(Step::Try(sqe::add(0, wish)));
        }
        for depth in [1, 2, 3] {
            let mut wish = Plan::with(sys::UBLK_F_BATCH_IO).info();
            wish.queue_depth = depth;
            s.step(Step::Try(sqe::add(0, wish)));
        }
        for bytes in [0, 1, 4095, 4096, 5000, 1 << 25, 1 << 30, u32::MAX] {
            let wish = ublksrv_ctrl_dev_info { max_io_buf_bytes: bytes, ..wish() };
            s.step(Step::Try(sqe::add(0, wish)));
        }
        let filled = ublksrv_ctrl_dev_info {
            state: 2,
            io_desc_size: 77,
            ublksrv_pid: 5,
            pad1: 6,
            ublksrv_flags: 0x1234_5678_9abc_def0,
            owner_uid: 7,
            owner_gid: 8,
            reserved1: 9,
            reserved2: 10,
            ..wish()
        };
        s.step(Step::Try(sqe::add(0, filled)));
    })
}

/// ADD_DEV of a number, in the command and in the info.
pub fn numbered(device: usize, command: Dev, info: Dev) -> Sqe {
    numbered_wish(device, command, info, wish())
}

fn numbered_wish(device: usize, command: Dev, info: Dev, wish: ublksrv_ctrl_dev_info) -> Sqe {
    let payload = Payload::Info(Box::new(wish), info);
    sqe::add(device, wish).dev(command).payload(payload, &format!("info of {info:?}"))
}

fn add_numbered() -> Script {
    script("control: ADD_DEV of a number", |s| {
        s.control_ring();
        s.control(sqe::add(0, wish()));
        s.control(numbered(1, Dev::Of(0), Dev::Of(0)));
        s.control(numbered(1, Dev::Any, Dev::Of(0)));
        s.control(numbered(1, Dev::Of(0), Dev::Any));
        for number in [1 << 20, (1 << 20) + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1] {
            s.control(numbered(1, Dev::Number(number), Dev::Number(number)));
        }
        s.control(numbered(1, Dev::Number((1 << 20) - 1), Dev::Number((1 << 20) - 1)));
        s.control(sqe::delete(0));
        s.control(numbered(0, Dev::Of(0), Dev::Of(0)));
    })
}

fn add_granted() -> Script {
    script("control: ADD_DEV, flags one by one", |s| {
        s.control_ring();
        for bit in 0..64 {
            let alone = Plan::with(1 << bit).info();
            s.step(Step::Try(sqe::add(0, alone)));
        }
        for bit in 0..22 {
            let and_copy = Plan::with(1 << bit | sys::UBLK_F_USER_COPY).info();
            s.step(Step::Try(sqe::add(0, and_copy)));
        }
        for bit in 0..22 {
            let and_recovery = Plan::with(1 << bit | sys::UBLK_F_USER_RECOVERY).info();
            s.step(Step::Try(sqe::add(0, and_recovery)));
        }
    })
}

/// All combinations of the flags that have something to do with one another.
fn lattice() -> Script {
    script("control: ADD_DEV, the lattice of flags", |s| {
        const FLAGS: [u64; 8] = [
            sys::UBLK_F_SUPPORT_ZERO_COPY,
            sys::UBLK_F_NEED_GET_DATA,
            sys::UBLK_F_USER_RECOVERY,
            sys::UBLK_F_USER_RECOVERY_REISSUE,
            sys::UBLK_F_USER_COPY,
            sys::UBLK_F_ZONED,
            sys::UBLK_F_USER_RECOVERY_FAIL_IO,
            sys::UBLK_F_QUIESCE,
        ];
        s.control_ring();
        for set in 0..1_u32 << FLAGS.len() {
            let chosen = FLAGS.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            let flags = chosen.fold(0, |flags, (_, flag)| flags | flag);
            s.step(Step::Try(sqe::add(0, Plan::with(flags).info())));
        }
        for set in 0..16_u64 {
            let flags = [
                sys::UBLK_F_AUTO_BUF_REG,
                sys::UBLK_F_BATCH_IO,
                sys::UBLK_F_INTEGRITY | sys::UBLK_F_USER_COPY,
                sys::UBLK_F_SHMEM_ZC | sys::UBLK_F_NEED_GET_DATA,
            ];
            let chosen = flags.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
            let flags = chosen.fold(0, |flags, (_, flag)| flags | flag);
            s.step(Step::Try(sqe::add(0, Plan::with(flags).info())));
        }
    })
}

fn descriptors() -> Script {
    script("control: ADD_DEV, the size of descriptors", |s| {
        s.control_ring();
        for size in [0, 8, 16, 23, 24, 25, 32, 36, 248, 256, 264, u16::MAX] {
            let mut wish = Plan::with(sys::UBLK_F_IO_DESC_SIZE).info();
            wish.io_desc_size = size;
            s.step(Step::Try(sqe::add(0, wish)));
        }
    })
}
