//! A slot's life: every state (protocol 3.3) and every command in it, in the order of the driver's
//! checks. What is refused changes nothing, so one device serves many refusals.

use super::super::build::{DISK_SECTORS, Plan, read, script, write};
use super::super::sqe::{self, Fd, NOWHERE, Sqe, Word, commit, fetch, get_data};
use super::super::{ADMIN, Script};
use ublkit::sys::ublk as sys;

/// The task that does not own the slots, and its ring.
const OTHER: usize = 2;

pub fn all() -> Vec<Script> {
    let mut all = vec![served(), redispatched_at_once(), new(), idle()];
    all.extend([owned("read", read(0, 8)), owned("write", write(0, 8))]);
    all.extend([fetching(), get_data_rows(), get_data_nowhere(), null_get_data(), flags_of_sqes()]);
    all.extend([two_queues(), two_tasks(), last_fetcher(), buffer_of_commit(), unmapped_buffer()]);
    all.extend([legacy(), fixed_files(), depth_two(), after_live(), queue_by_queue()]);
    all.extend(buffer_rules());
    all.extend([skipped(), in_a_worker(), short_of_two()]);
    all
}

/// All commands for a slot that some driver might know, with and without a buffer.
fn commands(queue: u16, tag: u16) -> Vec<Sqe> {
    let unknown = |op: u32| fetch(queue, tag).op(op);
    vec![
        commit(queue, tag, 512).buf(0),
        commit(queue, tag, 512),
        get_data(queue, tag).buf(0),
        unknown(0xc010_757f),
        unknown(sys::UBLK_U_IO_REGISTER_IO_BUF),
        unknown(sys::UBLK_U_IO_UNREGISTER_IO_BUF),
        unknown(sys::UBLK_U_IO_PREP_IO_CMDS),
        unknown(0x7f20),
        unknown(0x0022),
        unknown(0xc010_6121),
    ]
}

fn served() -> Script {
    script("slot: a read and a write", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.client(0, read(8, 8));
        s.fill(0, 0xa5);
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.client(1, write(16, 1));
        s.look(0, 1024);
        s.send(1, [plan.commit(0, 0, 512)]);
        s.control(sqe::info(0));
        s.control(sqe::stop(0));
        s.control(sqe::info(0));
    })
}

fn redispatched_at_once() -> Script {
    script("slot: the next request comes with the commit", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.client(0, read(0, 8));
        s.client(1, read(8, 8));
        s.client(2, read(DISK_SECTORS - 8, 8));
        for byte in [1, 2, 3] {
            s.fill(0, byte);
            s.send(1, [plan.commit(0, 0, 4096)]);
        }
    })
}

fn new() -> Script {
    script("slot: never fetched", |s| {
        let plan = Plan { queues: 2, ..Plan::default() };
        s.opened(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        for command in commands(0, 0) {
            s.send(1, [command]);
        }
        for (queue, tag) in [(2, 0), (0, 1), (u16::MAX, u16::MAX)] {
            s.send(1, [fetch(queue, tag).buf(0)]);
            s.send(1, [commit(queue, tag, 0).buf(0)]);
        }
        s.send(OTHER, [commit(0, 0, 0).buf(0)]);
        s.send(1, [fetch(0, 0)]);
        s.send(1, [fetch(0, 0).at(NOWHERE)]);
        s.send(1, [fetch(1, 0).at(Word::Number(u64::MAX))]);
    })
}

fn idle() -> Script {
    script("slot: idle", |s| {
        let plan = Plan { queues: 2, ..Plan::default() };
        s.opened(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        s.send(1, [plan.fetch(0, 0)]);
        s.send(1, [fetch(0, 0).buf(0)]);
        s.send(OTHER, [fetch(0, 0).buf(0)]);
        s.send(OTHER, [commit(0, 0, 0).buf(0)]);
        for command in commands(0, 0) {
            s.send(1, [command]);
        }
        s.send(1, [plan.fetch(1, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        for command in commands(0, 0) {
            s.send(1, [command]);
        }
        s.send(OTHER, [commit(0, 0, 0).buf(0)]);
    })
}

fn owned(what: &str, wish: super::super::Wish) -> Script {
    script(format!("slot: owned, a {what}"), |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        s.client(0, wish);
        s.send(1, [fetch(0, 0).buf(0)]);
        s.send(OTHER, [fetch(0, 0).buf(0)]);
        s.send(OTHER, [commit(0, 0, 4096).buf(0)]);
        s.send(OTHER, [get_data(0, 0).buf(0)]);
        s.send_by(OTHER, 1, [commit(0, 0, 4096).buf(0)]);
        for command in commands(0, 0) {
            let is_good = command.text == commit(0, 0, 512).buf(0).text;
            if !is_good && command.op & 0xff != 0x21 {
                s.send(1, [command]);
            }
        }
        s.send(1, [commit(0, 0, 4096)]);
        s.send(1, [commit(0, 1, 4096).buf(0)]);
        s.send(1, [commit(1, 0, 4096).buf(0)]);
        s.send(1, [commit(0, 0, 4096).buf(0).op(0xc010_6121)]);
        s.send(1, [commit(0, 0, 4096).buf(1)]);
        s.send(1, [commit(0, 0, 4096).buf(1)]);
    })
}

fn fetching() -> Script {
    script("slot: FETCH when its queue or the device is ready", |s| {
        let plan = Plan { queues: 2, depth: 2, ..Plan::default() };
        s.opened(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        s.send(1, [plan.fetch(0, 0), plan.fetch(0, 1)]);
        s.send(1, [fetch(0, 0).buf(0)]);
        s.send(OTHER, [fetch(0, 1).buf(0)]);
        s.send(1, [plan.fetch(1, 1)]);
        s.send(1, [plan.fetch(1, 1)]);
        s.send(1, [plan.fetch(1, 0)]);
        s.send(1, [fetch(1, 0).buf(0)]);
        s.send(1, [fetch(1, 0)]);
        s.send(1, [fetch(1, 2).buf(0)]);
        s.send(OTHER, [fetch(0, 1).buf(0)]);
    })
}

fn get_data_rows() -> Script {
    script("slot: owned, its data still to be got", |s| {
        let plan = Plan::with(sys::UBLK_F_NEED_GET_DATA);
        s.live(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        s.client(0, write(8, 8));
        s.look(0, 512);
        s.send(1, [commit(0, 0, 4096).buf(0)]);
        s.send(1, [commit(0, 0, 4096)]);
        s.send(1, [fetch(0, 0).buf(0)]);
        s.send(1, [fetch(0, 0).op(0xc010_757f)]);
        s.send(OTHER, [get_data(0, 0).buf(1)]);
        s.send(1, [get_data(0, 1).buf(1)]);
        s.send(1, [get_data(0, 0).buf(1)]);
        s.look(1, 8192);
        s.send(1, [get_data(0, 0).buf(1)]);
        s.send(1, [commit(0, 0, 4096)]);
        s.send(1, [get_data(0, 0).buf(1)]);
        s.client(1, read(8, 8));
        s.send(1, [get_data(0, 0).buf(1)]);
        s.send(1, [commit(0, 0, 4096)]);
        s.fill(2, 7);
        s.send(1, [commit(0, 0, 4096).buf(2)]);
    })
}

fn get_data_nowhere() -> Script {
    script("slot: data got to a bad address comes again", |s| {
        let plan = Plan::with(sys::UBLK_F_NEED_GET_DATA);
        s.live(&plan);
        s.client(0, write(0, 8));
        s.send(1, [get_data(0, 0).at(Word::Number(1 << 63)).patient()]);
        s.pause(20);
        s.send(1, [get_data(0, 0).buf(1)]);
        s.look(1, 4096);
        s.send(1, [commit(0, 0, 4096)]);
    })
}

fn null_get_data() -> Script {
    script("slot: NEED_GET_DATA for a device without it", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.client(0, write(0, 8));
        s.send(1, [get_data(0, 0).buf(0)]);
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
}

fn flags_of_sqes() -> Script {
    script("slot: fields of the SQE that are not the driver's", |s| {
        let plan = Plan { queues: 2, ..Plan::default() };
        s.opened(&plan);
        s.send(1, [fetch(0, 0).buf(0).high(1)]);
        s.send(1, [fetch(0, 0).buf(0).ioprio(1)]);
        s.send(1, [fetch(0, 0).buf(0).op_flags(1 << 31)]);
        s.send(1, [fetch(0, 0).buf(0).op_flags(4)]);
        s.send(1, [fetch(0, 0).buf(0).fd(Fd::Number(-1))]);
        s.send(1, [fetch(0, 0).buf(0).fd(Fd::Control)]);
        s.send(1, [fetch(0, 0).buf(0).fixed(0)]);
        s.send(1, [fetch(0, 0).buf(0).opcode(200)]);
        s.send(1, [fetch(0, 0).buf(0).flags(0x80)]);
        s.send(1, [fetch(0, 0).buf(0).addr(Word::Number(77)).len(9)]);
        s.send(1, [fetch(0, 0).buf(0)]);
    })
}

fn two_queues() -> Script {
    script("slot: a request comes to its client's queue", |s| {
        let plan = Plan { queues: 2, ..Plan::default() };
        s.live(&plan);
        s.client(0, read(0, 8).on(1));
        s.client(1, read(8, 8).on(0));
        s.fill(0, 0x10);
        s.fill(1, 0x11);
        s.send(1, [plan.commit(1, 0, 4096)]);
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
}

fn two_tasks() -> Script {
    script("slot: a task for each queue", |s| {
        let plan = Plan { queues: 2, task_per_queue: true, ..Plan::default() };
        s.live(&plan);
        s.client(0, read(0, 8).on(1));
        s.client(1, read(8, 8).on(0));
        s.send(1, [plan.commit(1, 0, 4096)]);
        s.send(2, [plan.commit(0, 0, 4096)]);
        s.send(2, [plan.commit(1, 0, 4096)]);
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
}

/// Slots of one queue, fetched by two tasks: who may commit differs by version.
fn last_fetcher() -> Script {
    script("slot: one queue fetched by two tasks", |s| {
        let plan = Plan { depth: 2, ..Plan::default() };
        s.opened(&plan);
        s.ring(OTHER, OTHER, 8, 0);
        s.send(1, [plan.fetch(0, 0)]);
        s.send(OTHER, [plan.fetch(0, 1)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.control(sqe::info(0));
        s.send(1, [plan.commit(0, 0, 0)]);
        s.send(1, [plan.commit(0, 1, 0)]);
        s.send(OTHER, [plan.commit(0, 0, 0)]);
        s.send(OTHER, [plan.commit(0, 1, 0)]);
    })
}

fn buffer_of_commit() -> Script {
    script("slot: the buffer of the COMMIT counts", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.client(0, read(0, 8));
        s.fill(0, 0x10);
        s.fill(1, 0x11);
        s.send(1, [commit(0, 0, 4096).buf(1)]);
        s.client(1, write(0, 8));
        s.look(0, 512);
        s.look(1, 512);
        s.send(1, [commit(0, 0, 4096).buf(0)]);
    })
}

fn unmapped_buffer() -> Script {
    script("slot: a buffer that is none", |s| {
        let bad = Word::Number(1 << 63);
        s.opened(&Plan::default());
        s.send(1, [fetch(0, 0).at(bad)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.send(1, [commit(0, 0, 4096).at(bad)]);
        s.client(1, read(0, 8));
        s.send(1, [commit(0, 0, 4096).buf(0)]);
        s.client(2, read(0, 8));
        s.send(1, [commit(0, 0, 4096).buf(0)]);
    })
}

fn legacy() -> Script {
    script("slot: opcodes without the encoding", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.send(1, [plan.fetch(0, 0).op(0x20)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096).op(0x21)]);
        s.client(1, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096).op(0x7521)]);
    })
}

fn fixed_files() -> Script {
    script("slot: by a fixed file", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.fixed_file(1, 1);
        s.send(1, [plan.fetch(0, 0).fixed(1)]);
        s.send(1, [plan.fetch(0, 0).fixed(0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.client(1, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096).fixed(0)]);
        s.control(sqe::stop(0));
    })
}

fn skipped() -> Script {
    script("slot: FETCH without a CQE for success", |s| {
        s.opened(&Plan::default());
        s.send(1, [fetch(0, 0).buf(0).flags(0x40)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.send(1, [commit(0, 0, 4096).buf(0)]);
        s.control(sqe::stop(0));
    })
}

fn in_a_worker() -> Script {
    script("slot: FETCH and COMMIT with IOSQE_ASYNC", |s| {
        s.opened(&Plan::default());
        s.send(1, [fetch(0, 0).buf(0).flags(0x10)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.send(1, [commit(0, 0, 4096).buf(0).flags(0x10)]);
        s.client(1, read(0, 8));
        s.send(1, [commit(0, 0, 4096).buf(0)]);
    })
}

/// The rest of a request that was answered in part, where another tag is free.
fn short_of_two() -> Script {
    script("slot: a short read, another slot idle", |s| {
        let plan = Plan { depth: 2, ..Plan::default() };
        s.live(&plan);
        s.client(0, read(0, 8));
        s.send(1, [plan.commit(0, 0, 512)]);
        s.send(1, [plan.commit(0, 0, 3584)]);
    })
}

fn depth_two() -> Script {
    script("slot: two of one queue at a time", |s| {
        let plan = Plan { depth: 2, ..Plan::default() };
        s.live(&plan);
        s.fill(0, 9);
        s.fill(1, 9);
        s.client(0, read(0, 8));
        s.pause(10);
        s.client(1, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096), plan.commit(0, 1, 4096)]);
        s.control(sqe::stop(0));
    })
}

fn after_live() -> Script {
    script("slot: the admin's own task may serve", |s| {
        let plan = Plan::default();
        s.added(&plan);
        s.open(ADMIN, 0, 0);
        s.map(ADMIN, &plan, 0);
        s.ring(1, 1, 8, 0);
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::start(0, Word::PidOf(ADMIN)));
        s.client(0, read(0, 8));
        s.send_by(ADMIN, 1, [plan.commit(0, 0, 4096)]);
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
}

fn queue_by_queue() -> Script {
    script("slot: START_DEV waits for the last FETCH", |s| {
        let plan = Plan { queues: 2, ..Plan::default() };
        s.opened(&plan);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::info(0));
        s.send(1, [plan.fetch(1, 0)]);
        s.pause(200);
        s.control(sqe::info(0));
    })
}

/// Which commands must name a buffer, by the device's way of moving data.
fn buffer_rules() -> Vec<Script> {
    [
        ("copying", 0),
        ("get-data", sys::UBLK_F_NEED_GET_DATA),
        ("user copy", sys::UBLK_F_USER_COPY),
        ("get-data and user copy", sys::UBLK_F_NEED_GET_DATA | sys::UBLK_F_USER_COPY),
        ("zero copy", sys::UBLK_F_SUPPORT_ZERO_COPY),
        ("automatic buffers", sys::UBLK_F_AUTO_BUF_REG),
    ]
    .map(|(name, flags)| {
        script(format!("buffer rule: {name}"), |s| {
            let plan = Plan::with(flags);
            s.opened(&plan);
            if flags == sys::UBLK_F_AUTO_BUF_REG {
                s.register(1, 1, super::super::Register::Buffers(4));
                for word in [1 << 16, 1 << 17, 1 << 24, 1 << 63] {
                    s.send(1, [fetch(0, 0).addr(Word::Number(word))]);
                }
            }
            // A kernel that does not know the flag copies: it takes the first of them.
            s.send(1, [fetch(0, 0).buf(0)]);
            s.send(1, [fetch(0, 0)]);
            s.control(sqe::start(0, Word::PidOf(1)));
            for (client, wish) in [read(0, 8), write(0, 8)].into_iter().enumerate() {
                s.client(client, wish);
                s.send(1, [get_data(0, 0).buf(1)]);
                s.send(1, [commit(0, 0, 4096).buf(1)]);
                s.send(1, [commit(0, 0, 4096)]);
            }
        })
    })
    .into()
}
