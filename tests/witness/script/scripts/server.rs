//! Opening and mapping the char device (protocol 3.1), and what becomes of requests when a server
//! goes (3.8, 4).

use super::super::build::{MAX_IO_BYTES, PAGE_BYTES, Plan, STRIDE_BYTES, read, script, write};
use super::super::sqe::{self, Word, commit};
use super::super::{Place, Script, Step};
use ublkit::kernel::Access;
use ublkit::sys::ublk as sys;

pub fn all() -> Vec<Script> {
    let mut all = vec![opening(), mapping(), mapping_descriptors(), mapping_after()];
    all.extend([task_ends(), task_ends_before_start(), ring_closed_before_start()]);
    all.extend([ring_closed_with_a_second(), reopened_before_start(), restart_half_fetched()]);
    all.extend(stopping());
    all.extend(going());
    all
}

/// The ways in which a device outlives its server.
const MODES: [(&str, u64); 4] = [
    ("no recovery", 0),
    ("recovery", sys::UBLK_F_USER_RECOVERY),
    ("reissue", sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE),
    ("failing", sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_FAIL_IO),
];

fn opening() -> Script {
    script("server: opening", |s| {
        s.added(&Plan::default());
        s.open(1, 0, 0);
        s.open(1, 1, 0);
        s.open(2, 1, 0);
        s.open(1, 1, 7);
        s.step(Step::Close(0));
        s.pause(50);
        s.open(2, 0, 0);
        s.control(sqe::info(0));
    })
}

/// Maps a part of file 0 as mapping 9, and unmaps it.
fn try_map(s: &mut Script, offset: u64, len: usize, access: Access) {
    let place = Place { file: 0, queue: None, offset, len, access };
    s.step(Step::Map { task: 1, map: 9, place });
    s.step(Step::Unmap(9));
}

fn mapping() -> Script {
    script("server: mapping", |s| {
        // 171 descriptors of 24 bytes are more than a page.
        let plan = Plan { queues: 2, depth: 171, ..Plan::default() };
        s.added(&plan);
        s.open(1, 0, 0);
        let whole = 2 * PAGE_BYTES;
        let page = PAGE_BYTES as u64;
        for len in [whole, PAGE_BYTES, whole - 1, whole + 1, 3 * PAGE_BYTES, 1] {
            try_map(s, 0, len, Access::Read);
        }
        try_map(s, 0, whole, Access::ReadWrite);
        for offset in [
            page,
            STRIDE_BYTES - page,
            STRIDE_BYTES,
            STRIDE_BYTES + page,
            2 * STRIDE_BYTES,
            4 * STRIDE_BYTES,
            4096 * STRIDE_BYTES,
            0x8000_0000,
            0x8000_0000 + STRIDE_BYTES,
            1 << 40,
        ] {
            try_map(s, offset, whole, Access::Read);
        }
        try_map(s, 12, whole, Access::Read);
    })
}

fn mapping_descriptors() -> Script {
    script("server: mapping longer descriptors", |s| {
        let plan = Plan { queues: 2, depth: 64, ..Plan::default() };
        s.control_ring();
        let mut wish = plan.info();
        wish.flags = sys::UBLK_F_IO_DESC_SIZE;
        wish.io_desc_size = 64;
        s.control(sqe::add(0, wish));
        s.open(1, 0, 0);
        for len in [PAGE_BYTES, 2 * PAGE_BYTES] {
            try_map(s, 0, len, Access::Read);
            try_map(s, STRIDE_BYTES, len, Access::Read);
            try_map(s, 4096 * 64, len, Access::Read);
            try_map(s, 2 * 4096 * 64, len, Access::Read);
        }
    })
}

fn mapping_after() -> Script {
    script("server: mapping when live and when stopped", |s| {
        let plan = Plan::default();
        s.live(&plan);
        try_map(s, 0, PAGE_BYTES, Access::Read);
        s.control(sqe::stop(0));
        try_map(s, 0, PAGE_BYTES, Access::Read);
    })
}

fn task_ends() -> Script {
    script("server: the task of one queue ends", |s| {
        let plan = Plan { queues: 2, task_per_queue: true, ..Plan::default() };
        s.live(&plan);
        s.client(0, read(0, 8).on(0));
        s.step(Step::EndTask(2));
        s.pause(100);
        s.control(sqe::info(0));
        s.client(1, read(0, 8).on(1));
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.client(2, read(0, 8).on(0));
        s.control(sqe::stop(0).patient());
        s.pause(100);
    })
    .not_on("6.12", UNNOTICED)
}

fn task_ends_before_start() -> Script {
    script("server: its task ends before START_DEV", |s| {
        let plan = Plan { queues: 2, task_per_queue: true, ..Plan::default() };
        s.opened(&plan);
        s.send(1, [plan.fetch(0, 0)]);
        s.send(2, [plan.fetch(1, 0)]);
        s.step(Step::EndTask(2));
        s.pause(100);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(100);
        s.ring(3, 3, 8, 0);
        s.send(3, [plan.fetch(1, 0)]);
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn ring_closed_before_start() -> Script {
    script("server: its ring is closed before START_DEV", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.send(1, [plan.fetch(0, 0)]);
        s.step(Step::CloseRing(1));
        s.pause(100);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(100);
        s.ring(1, 1, 8, 0);
        s.send(1, [plan.fetch(0, 0)]);
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn ring_closed_with_a_second() -> Script {
    script("server: one of two rings is closed", |s| {
        let plan = Plan { queues: 2, task_per_queue: true, ..Plan::default() };
        s.live(&plan);
        s.client(0, read(0, 8).on(1));
        s.step(Step::CloseRing(2));
        s.pause(100);
        s.control(sqe::info(0));
        s.client(1, read(0, 8).on(0));
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
    .not_on("6.12", UNNOTICED)
}

fn reopened_before_start() -> Script {
    script("server: opened anew before START_DEV", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.send(1, [plan.fetch(0, 0)]);
        s.server_gone(&plan);
        s.control(sqe::info(0));
        s.server(&plan);
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(100);
        s.control(sqe::info(0));
        s.client(0, read(0, 8));
    })
    .not_on("6.12", "a request takes a command that was freed")
}

fn restart_half_fetched() -> Script {
    script("server: opened anew, half of the slots fetched before", |s| {
        let plan = Plan { queues: 2, ..Plan::default() };
        s.opened(&plan);
        s.send(1, [plan.fetch(0, 0)]);
        s.server_gone(&plan);
        s.server(&plan);
        s.send(1, [plan.fetch(0, 0)]);
        s.send(1, [plan.fetch(1, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(100);
        s.control(sqe::info(0));
    })
}

/// STOP_DEV while requests are owned and others wait.
fn stopping() -> Vec<Script> {
    MODES
        .map(|(name, flags)| {
            script(format!("stop: with requests, {name}"), |s| {
                let plan = Plan::with(flags);
                s.live(&plan);
                s.client(0, read(0, 8));
                s.client(1, write(8, 8));
                s.control(sqe::stop(0).patient());
                s.pause(100);
                s.control(sqe::features());
                s.send(1, [plan.commit(0, 0, 4096)]);
                s.pause(50);
                s.send(1, [plan.commit(0, 0, 4096)]);
                s.pause(100);
                s.control(sqe::info(0));
            })
        })
        .into()
}

/// What becomes of requests, and of the device, when the server goes, and how a new one takes over.
fn going() -> Vec<Script> {
    let mut all = Vec::new();
    for (name, flags) in MODES {
        let reissues = flags & sys::UBLK_F_USER_RECOVERY_REISSUE != 0;
        let fails = flags & sys::UBLK_F_USER_RECOVERY_FAIL_IO != 0;
        all.push(taking_over(flags, format!("recovery: {name}, nothing under way"), |s| {
            let plan = Plan::with(flags);
            s.live(&plan);
            s.control(sqe::start_recovery(0));
            s.control(sqe::end_recovery(0, Word::PidOf(1)));
            s.server_gone(&plan);
            s.control(sqe::info(0));
            taken_over(s, &plan);
        }));
        all.push(taking_over(flags, format!("recovery: {name}, a request under way"), |s| {
            let plan = Plan { depth: 2, ..Plan::with(flags) };
            s.live(&plan);
            s.client(0, write(0, 8));
            s.server_gone(&plan);
            s.control(sqe::info(0));
            // Where the first is sent again, it is chance which of both comes first.
            if !reissues {
                s.client(2, read(16, 8));
            }
            taken_over(s, &plan);
        }));
        let full = script(format!("recovery: {name}, no slot idle"), |s| {
            let plan = Plan::with(flags);
            s.live(&plan);
            s.client(0, write(0, 8));
            // Where that one is sent again, it is chance whether others are before it; where
            // all come to fail with another errno, whether one that waits sees that before.
            if !reissues && !fails {
                s.client(1, write(8, 8));
            }
            s.server_gone(&plan);
            s.control(sqe::info(0));
            if !reissues {
                s.client(2, read(16, 8));
            }
            taken_over(s, &plan);
        });
        all.push(full.not_on("6.12", UNNOTICED));
        all.push(script(format!("recovery: {name}, its task ended"), |s| {
            let plan = Plan { depth: 2, ..Plan::with(flags) };
            s.live(&plan);
            s.client(0, read(0, 8));
            s.step(Step::EndTask(1));
            s.pause(100);
            s.control(sqe::info(0));
            s.control(sqe::start_recovery(0));
            s.step(Step::CloseRing(1));
            s.step(Step::Unmap(0));
            s.step(Step::Close(0));
            s.pause(100);
            s.control(sqe::info(0));
            s.control(sqe::start_recovery(0));
        }));
        all.push(script(format!("server: a request for a task that ended, {name}"), |s| {
            let plan = Plan { queues: 2, task_per_queue: true, ..Plan::with(flags) };
            s.live(&plan);
            s.step(Step::EndTask(2));
            s.client(0, read(0, 8).on(1));
            s.client(1, read(0, 8).on(0));
            s.send(1, [plan.commit(0, 0, 4096)]);
            s.control(sqe::info(0));
            s.server_gone(&plan);
            s.control(sqe::info(0));
        }));
        all.push(script(format!("recovery: {name}, stopped meanwhile"), |s| {
            let plan = Plan::with(flags);
            s.live(&plan);
            s.server_gone(&plan);
            s.client(0, read(16, 8));
            s.control(sqe::stop(0));
            s.control(sqe::info(0));
            s.control(sqe::start_recovery(0));
            s.control(sqe::end_recovery(0, Word::PidOf(1)).patient());
            s.pause(50);
        }));
        let quiesced = script(format!("quiesce: {name}"), |s| {
            let plan = Plan::with(flags | sys::UBLK_F_QUIESCE);
            let plan = if flags == 0 { Plan::default() } else { plan };
            quiesced(s, &plan);
        });
        all.push(if flags == 0 { quiesced } else { quiesced.warns_on("6.12", ALIVE) });
    }
    all.extend([quiesce_owned(), quiesce_waiting(), quiesce_of_the_next()]);
    all
}

/// Why old kernels are spared.
const UNNOTICED: &str = "it does not notice the end of a server without idle slots";

const STALE: &str = "it is started anew with the slots of before, and completes what was freed";
const ALIVE: &str = "START_USER_RECOVERY while the task of the last server lives";

/// A script in which a server goes and a new one comes.
fn taking_over(flags: u64, name: String, write: impl FnOnce(&mut Script)) -> Script {
    let made = script(name, write);
    if flags == 0 { made.not_on("6.12", STALE) } else { made.warns_on("6.12", ALIVE) }
}

/// START_USER_RECOVERY, a new server, END_USER_RECOVERY.
fn taken_over(s: &mut Script, plan: &Plan) {
    s.open(2, 1, 0);
    s.step(Step::Close(1));
    s.pause(100);
    s.control(sqe::start_recovery(0));
    s.control(sqe::set_params(0, &plan.params(), "sound"));
    s.server(plan);
    s.control(sqe::end_recovery(0, Word::Number(0)).patient());
    s.fetched(plan);
    s.control(sqe::start(0, Word::PidOf(1)).patient());
    s.pause(100);
    s.control(sqe::end_recovery(0, Word::PidOf(1)).patient());
    s.pause(100);
    s.control(sqe::info(0));
    for _ in 0..2 {
        (0..plan.depth).for_each(|tag| s.send(1, [plan.commit(0, tag, 4096)]));
    }
    s.client(9, read(24, 8));
    s.send(1, [plan.commit(0, 0, 4096)]);
    s.control(sqe::stop(0).patient());
}

fn quiesced(s: &mut Script, plan: &Plan) {
    s.opened(plan);
    s.control(sqe::quiesce(0, 100));
    s.fetched(plan);
    s.control(sqe::start(0, Word::PidOf(1)));
    s.control(sqe::quiesce(0, 100));
    s.control(sqe::info(0));
    s.client(0, read(0, 8));
    s.send(1, [plan.fetch(0, 0)]);
    s.send(1, [plan.commit(0, 0, 4096)]);
    s.control(sqe::quiesce(0, 100));
    s.server_gone(plan);
    s.control(sqe::info(0));
    s.control(sqe::quiesce(0, 100));
    s.control(sqe::start_recovery(0));
    s.server(plan);
    s.send(1, [plan.fetch(0, 0)]);
    s.control(sqe::end_recovery(0, Word::PidOf(1)).patient());
    s.pause(100);
    s.control(sqe::info(0));
    s.send(1, [plan.commit(0, 0, 4096)]);
}

/// With longer than a step's time to wait, and with none.
fn quiesce_waiting() -> Script {
    script("quiesce: for how long it waits", |s| {
        let flags = sys::UBLK_F_QUIESCE | sys::UBLK_F_USER_RECOVERY;
        let plan = Plan { queues: 2, ..Plan::with(flags) };
        s.live(&plan);
        s.client(0, read(0, 8));
        s.control(sqe::quiesce(0, 3000).patient());
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.control(sqe::quiesce(0, 0).patient());
        s.control(sqe::info(0));
    })
}

fn quiesce_owned() -> Script {
    script("quiesce: no slot is idle", |s| {
        let plan = Plan::with(sys::UBLK_F_QUIESCE | sys::UBLK_F_USER_RECOVERY);
        s.live(&plan);
        s.client(0, read(0, MAX_IO_BYTES / 512));
        s.control(sqe::quiesce(0, 50));
        s.control(sqe::info(0));
        s.client(1, read(64, 8));
        s.send(1, [commit(0, 0, 16384).buf(0)]);
        s.control(sqe::quiesce(0, 50));
        s.control(sqe::info(0));
    })
}

/// While a new server has fetched, and the device is not live yet.
fn quiesce_of_the_next() -> Script {
    script("quiesce: the next server's commands", |s| {
        let plan = Plan::with(sys::UBLK_F_QUIESCE | sys::UBLK_F_USER_RECOVERY);
        s.live(&plan);
        s.server_gone(&plan);
        s.control(sqe::start_recovery(0));
        s.server(&plan);
        s.fetched(&plan);
        s.control(sqe::quiesce(0, 100));
        s.control(sqe::info(0));
    })
    .warns_on("6.12", ALIVE)
}
