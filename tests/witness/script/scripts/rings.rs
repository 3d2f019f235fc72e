//! io_uring (protocol 7): what the driver's rings rest on.

use super::super::build::{Plan, read, script};
use super::super::sqe::{self, Fd, NO_FD, Word, nop};
use super::super::{ADMIN, Enter, PRIVILEGED, Register, Script, Step, Target};
use ublkit::sys::io_uring as uring;

pub fn all() -> Vec<Script> {
    vec![
        flag_by_flag(),
        sizes(),
        deferred(),
        single_issuer(),
        disabled(),
        not_a_ring(),
        refused(),
        submit_all(),
        waits(),
        files(),
        ring_index(),
        overflow(),
        full(),
        deferred_server(),
        two_rings(),
        names(),
        workers(),
        personalities(),
    ]
}

/// Makes ring 1 of task 1, and closes it.
fn try_ring(s: &mut Script, entries: u32, flags: u32, cq_entries: u32) {
    s.step(Step::Ring { task: 1, ring: 1, entries, flags, cq_entries });
    s.step(Step::CloseRing(1));
}

fn flag_by_flag() -> Script {
    script("ring: setup flags", |s| {
        // Left out: NO_MMAP and REGISTERED_FD_ONLY, which the seam refuses; SQPOLL and ATTACH_WQ.
        let left_out = [1, 2, 5, 14, 15];
        for bit in (0..32).filter(|bit| !left_out.contains(bit)) {
            try_ring(s, 4, 1 << bit, 0);
        }
        let single = uring::IORING_SETUP_SINGLE_ISSUER;
        let defer = uring::IORING_SETUP_DEFER_TASKRUN;
        let coop = uring::IORING_SETUP_COOP_TASKRUN;
        let flag = uring::IORING_SETUP_TASKRUN_FLAG;
        let mixed = uring::IORING_SETUP_SQE_MIXED;
        for flags in [
            single | defer,
            single | flag,
            coop | flag,
            single | defer | flag,
            single | defer | coop,
            single | defer | coop | flag,
            single | uring::IORING_SETUP_R_DISABLED,
            mixed | uring::IORING_SETUP_SQE128,
            uring::IORING_SETUP_CQE_MIXED | uring::IORING_SETUP_CQE32,
            uring::IORING_SETUP_SQE128 | uring::IORING_SETUP_CQE32,
            uring::IORING_SETUP_SQ_REWIND | uring::IORING_SETUP_NO_SQARRAY,
            uring::IORING_SETUP_IOPOLL | uring::IORING_SETUP_HYBRID_IOPOLL,
        ] {
            try_ring(s, 4, flags, 0);
        }
    })
}

fn sizes() -> Script {
    script("ring: sizes", |s| {
        for entries in [0, 1, 2, 3, 5, 4096, 32768, 32769, u32::MAX] {
            try_ring(s, entries, 0, 0);
            try_ring(s, entries, uring::IORING_SETUP_CLAMP, 0);
        }
        for (entries, cqes) in
            [(4, 1), (4, 3), (4, 4), (4, 5), (4, 9), (3, 4), (3, 3), (4, 65536), (4, 65537)]
        {
            try_ring(s, entries, 0, cqes);
            try_ring(s, entries, uring::IORING_SETUP_CLAMP, cqes);
        }
        s.step(Step::Ring {
            task: 1,
            ring: 1,
            entries: 4,
            flags: uring::IORING_SETUP_CQSIZE,
            cq_entries: 0,
        });
    })
}

fn call(submit: u32, want: u32, flags: u32, timeout_ms: Option<u64>) -> Enter {
    Enter { submit, want, flags, timeout_ms }
}

const GETEVENTS: u32 = uring::IORING_ENTER_GETEVENTS;

fn deferred() -> Script {
    script("ring: deferred task work", |s| {
        let flags = uring::IORING_SETUP_SINGLE_ISSUER | uring::IORING_SETUP_DEFER_TASKRUN;
        s.ring(1, 1, 4, flags);
        s.send(1, [nop()]);
        s.enter(1, 1, call(0, 1, GETEVENTS, Some(20)));
        s.enter(1, 1, call(0, 1, 0, None));
        s.enter(1, 1, call(0, 0, GETEVENTS, Some(20)));
        s.enter(2, 1, call(0, 0, 0, None));
        s.enter(2, 1, call(0, 0, GETEVENTS, None));
        s.enter(2, 1, call(1, 0, 0, None));
    })
}

fn single_issuer() -> Script {
    script("ring: one issuer", |s| {
        s.ring(1, 1, 4, uring::IORING_SETUP_SINGLE_ISSUER);
        s.send_by(2, 1, [nop()]);
        s.enter(2, 1, call(0, 0, 0, None));
        s.enter(2, 1, call(0, 0, GETEVENTS, None));
        s.register(2, 1, Register::Files(vec![]));
        s.register(2, 1, Register::Workers(2));
        s.register(2, 1, Register::RingFd);
        s.enter(1, 1, call(1, 0, 0, None));
    })
}

fn disabled() -> Script {
    script("ring: disabled", |s| {
        s.ring(1, 1, 4, uring::IORING_SETUP_R_DISABLED);
        s.step(Step::Put { ring: 1, sqe: nop() });
        s.enter(1, 1, call(1, 0, 0, None));
        s.enter(1, 1, call(0, 0, 0, None));
        s.enter(1, 1, call(0, 0, GETEVENTS, Some(10)));
        s.register(1, 1, Register::Buffers(4));
    })
}

fn not_a_ring() -> Script {
    script("ring: none", |s| {
        s.added(&Plan::default());
        s.open(1, 0, 0);
        for target in [Target::File(0), Target::Registered(0), Target::Registered(99)] {
            s.step(Step::Enter { task: 1, ring: target, call: call(0, 0, 0, None) });
        }
        s.ring(1, 1, 4, 0);
        for flags in [1 << 8, 1 << 31, 2, 4, 1 << 7] {
            s.enter(1, 1, call(0, 0, flags, None));
        }
    })
}

fn refused() -> Script {
    script("ring: SQEs that are refused", |s| {
        s.ring(1, 1, 8, 0);
        s.send(1, [nop().opcode(255)]);
        s.send(1, [nop().opcode(65)]);
        s.send(1, [nop().flags(0x80)]);
        s.send(1, [nop().flags(0x20)]);
        s.send(1, [nop().ioprio(1)]);
        s.send(1, [nop().op_flags(1 << 31)]);
        s.send(1, [nop().fd(Fd::Number(NO_FD))]);
        s.send(1, [nop().flags(1)]);
        s.send(1, [nop().flags(0x40)]);
        s.send(1, [nop().flags(0x10)]);
        s.send(1, [nop().flags(0x02)]);
        s.send(1, [nop().flags(0x04), nop()]);
        s.send(1, [nop().flags(0x04)]);
    })
}

fn submit_all() -> Script {
    script("ring: a bad SQE among others", |s| {
        s.ring(1, 1, 8, 0);
        s.ring(1, 2, 8, uring::IORING_SETUP_SUBMIT_ALL);
        for ring in [1, 2] {
            s.send(ring, [nop(), nop().opcode(255), nop()]);
            s.enter(1, ring, call(8, 0, 0, None));
            s.enter(1, ring, call(1, 1, GETEVENTS, None));
        }
    })
}

fn waits() -> Script {
    script("ring: waiting", |s| {
        s.ring(1, 1, 4, 0);
        s.enter(1, 1, call(0, 1, GETEVENTS, Some(0)));
        s.enter(1, 1, call(0, 1, GETEVENTS, Some(10)));
        s.enter(1, 1, call(0, 0, GETEVENTS, Some(10)));
        s.enter(1, 1, call(3, 1, GETEVENTS, Some(10)));
        s.step(Step::Put { ring: 1, sqe: nop() });
        s.enter(1, 1, call(1, 2, GETEVENTS, Some(10)));
        s.step(Step::Put { ring: 1, sqe: nop() });
        s.enter(1, 1, call(1, 1, GETEVENTS, Some(1000)));
        s.step(Step::Put { ring: 1, sqe: nop() });
        s.enter(1, 1, call(5, 1, GETEVENTS, Some(10)));
        s.enter(1, 1, call(0, 1, 0, Some(10)));
    })
}

fn files() -> Script {
    script("ring: fixed files", |s| {
        s.added(&Plan::default());
        s.open(1, 0, 0);
        s.ring(1, 1, 4, 0);
        s.register(1, 1, Register::Files(vec![]));
        s.register(1, 1, Register::Files(vec![Fd::Number(NO_FD)]));
        s.register(1, 1, Register::Files(vec![Fd::Char(0), Fd::Number(NO_FD)]));
        s.register(1, 1, Register::Files(vec![Fd::Number(-1), Fd::Char(0)]));
        s.register(1, 1, Register::Files(vec![Fd::Char(0)]));
        s.ring(1, 2, 4, 0);
        s.register(1, 2, Register::Files(vec![Fd::Number(-2)]));
        s.register(1, 2, Register::Buffers(0));
        s.register(1, 2, Register::Buffers(16384));
        s.register(1, 2, Register::Buffers(4));
        s.ring(1, 3, 4, 0);
        s.register(1, 3, Register::Buffers(16385));
    })
}

fn ring_index() -> Script {
    script("ring: registered", |s| {
        s.ring(1, 1, 4, 0);
        s.register(1, 1, Register::RingFd);
        s.step(Step::Put { ring: 1, sqe: nop() });
        let by_index = |s: &mut Script, task| {
            let call = call(1, 0, 0, None);
            s.step(Step::Enter { task, ring: Target::Registered(0), call });
        };
        by_index(s, 2);
        by_index(s, 1);
        s.register(1, 1, Register::RingFd);
        s.register(1, 1, Register::UnregisterRingFd(0));
        by_index(s, 1);
        s.register(1, 1, Register::UnregisterRingFd(0));
        s.register(1, 1, Register::UnregisterRingFd(16));
        s.register(1, 1, Register::UnregisterRingFd(u32::MAX));
        s.register(2, 1, Register::RingFd);
        s.register(2, 1, Register::UnregisterRingFd(0));
    })
}

fn overflow() -> Script {
    script("ring: more completions than room", |s| {
        s.step(Step::Ring { task: 1, ring: 1, entries: 2, flags: 0, cq_entries: 2 });
        s.together("eight of them", |s| {
            for _ in 0..4 {
                s.step(Step::Put { ring: 1, sqe: nop() });
                s.step(Step::Put { ring: 1, sqe: nop() });
                s.step(Step::Blind { ring: 1, submit: 2 });
            }
        });
        s.enter(1, 1, call(0, 0, GETEVENTS, None));
        s.send(1, [nop()]);
    })
}

fn full() -> Script {
    script("ring: more submissions than room", |s| {
        s.ring(1, 1, 2, 0);
        for _ in 0..3 {
            s.step(Step::Put { ring: 1, sqe: nop() });
        }
        s.enter(1, 1, call(1, 0, 0, None));
        s.step(Step::Put { ring: 1, sqe: nop() });
        s.enter(1, 1, call(2, 0, 0, None));
    })
}

fn deferred_server() -> Script {
    let flags = uring::IORING_SETUP_SINGLE_ISSUER
        | uring::IORING_SETUP_DEFER_TASKRUN
        | uring::IORING_SETUP_COOP_TASKRUN
        | uring::IORING_SETUP_SUBMIT_ALL
        | uring::IORING_SETUP_NO_SQARRAY;
    script("ring: a server with deferred task work", |s| {
        let plan = Plan { ring_flags: flags, ..Plan::default() };
        s.live(&plan);
        s.fixed_file(1, 1);
        s.client(0, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096).fixed(0)]);
        s.client(1, read(0, 8));
        s.send_by(2, 1, [plan.commit(0, 0, 4096)]);
        s.enter(1, 1, call(1, 1, GETEVENTS, Some(10)));
        s.enter(1, 1, call(0, 1, GETEVENTS, Some(10)));
        s.server_gone(&plan);
    })
}

fn two_rings() -> Script {
    script("ring: a slot's commands on two rings of its task", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.ring(1, 2, 8, 0);
        s.client(0, read(0, 8));
        s.send(2, [plan.commit(0, 0, 4096)]);
        s.step(Step::CloseRing(1));
        s.pause(100);
        s.client(1, read(0, 8));
        s.send(2, [plan.commit(0, 0, 4096)]);
        s.step(Step::CloseRing(2));
        s.pause(100);
        s.client(2, read(0, 8));
    })
}

fn names() -> Script {
    script("ring: files by bad numbers", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        for number in [-1, -2, NO_FD, i32::MAX, i32::MIN] {
            s.send(1, [plan.fetch(0, 0).fd(Fd::Number(number))]);
            s.send(1, [plan.fetch(0, 0).fixed(number)]);
        }
    })
}

fn workers() -> Script {
    script("ring: workers", |s| {
        s.ring(1, 1, 4, 0);
        for count in [4, 2, 0, 1] {
            s.register(1, 1, Register::Workers(count));
        }
    })
}

/// A personality lends a command the rights of another task, but not its slots.
fn personalities() -> Script {
    script("ring: personalities", |s| {
        let plan = Plan::default();
        s.added(&plan);
        s.open(PRIVILEGED, 0, 0);
        s.map(PRIVILEGED, &plan, 0);
        s.ring(PRIVILEGED, 1, 8, uring::IORING_SETUP_SQE128);
        s.send(1, [nop().personality(1)]);
        s.send(1, [plan.fetch(0, 0).personality(1)]);
        for task in [ADMIN, 2] {
            s.register(task, 1, Register::Personality);
        }
        for personality in 0..4 {
            s.send_by(2, 1, [sqe::info(0).personality(personality)]);
            s.send_by(ADMIN, 1, [sqe::info(0).personality(personality)]);
        }
        s.send_by(2, 1, [sqe::add(1, plan.info()).personality(1)]);
        // Who may not look for partitions: the rights count. Whose slot it is: the task.
        s.send(1, [plan.fetch(0, 0).personality(2)]);
        s.control(sqe::start(0, Word::PidOf(PRIVILEGED)).patient());
        s.client(0, read(0, 8));
        s.send_by(2, 1, [plan.commit(0, 0, 4096).personality(1)]);
        s.send_by(ADMIN, 1, [plan.commit(0, 0, 4096)]);
        s.send(1, [plan.commit(0, 0, 4096).personality(3)]);
        s.send(1, [plan.commit(0, 0, 4096).personality(2)]);
        s.step(Step::CloseRing(1));
        s.ring(2, 1, 8, uring::IORING_SETUP_SINGLE_ISSUER);
        s.register(ADMIN, 1, Register::Personality);
        s.register(2, 1, Register::Personality);
    })
}
