//! A device's life by control commands, without requests (protocol 1.2): started, stopped, deleted.

use super::super::build::{MAX_IO_BYTES, Plan, hold, read, script};
use super::super::sqe::{self, Dev, Word};
use super::super::{PRIVILEGED, Script, Step};
use super::control::numbered;
use ublkit::sys::ublk as sys;

/// Life cycles of a device without requests.
pub fn all() -> Vec<Script> {
    let mut all = vec![
        start_checks(),
        start_waits(),
        start_stopped(),
        start_wrong_pid(),
        start_twice(),
        stops(),
        stop_before(),
        restart(),
        try_stops(),
        try_stop_held(),
        delete_live(),
        delete_open(),
        delete_mapped(),
        delete_fixed(),
        delete_async(),
        sizes(),
        max_io(),
    ];
    all.extend([partitions(), no_partitions()]);
    all.extend(restarts_opened_anew());
    all
}

fn start_checks() -> Script {
    script("control: START_DEV, its pid", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        for pid in [0, 0xffff_ffff, 0x8000_0000, 1 << 32, u64::MAX] {
            s.control(sqe::start(0, Word::Number(pid)));
        }
        s.control_ring();
        s.control(sqe::add(1, plan.info()));
        s.control(sqe::start(1, Word::Number(0)));
        s.control(sqe::start(1, Word::Number(1)));
    })
}

fn start_waits() -> Script {
    script("control: START_DEV without a server", |s| {
        let plan = Plan::default();
        s.added(&plan);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.control(sqe::info(0));
        s.step(Step::CloseRing(0));
        s.pause(50);
        s.control_ring();
        s.control(sqe::info(0));
    })
}

fn start_stopped() -> Script {
    script("control: START_DEV that waits, and STOP_DEV", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.control(sqe::stop(0));
        s.pause(50);
        s.send(1, [plan.fetch(0, 0)]);
        s.pause(50);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(50);
        s.control(sqe::info(0));
    })
}

fn start_wrong_pid() -> Script {
    script("control: START_DEV with another pid", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.send(1, [plan.fetch(0, 0)]);
        for pid in [4_000_000, 1, 2] {
            s.control(sqe::start(0, Word::Number(pid)));
            s.control(sqe::info(0));
        }
        s.control(sqe::start(0, Word::PidOf(1)));
        s.control(sqe::info(0));
    })
}

/// What is asked of a disk that nobody uses yet, when its server may be trusted.
fn partitions() -> Script {
    script("control: START_DEV looks for partitions", |s| {
        let plan = Plan::default();
        s.added(&plan);
        s.open(PRIVILEGED, 0, 0);
        s.map(PRIVILEGED, &plan, 0);
        s.ring(PRIVILEGED, 1, 8, 0);
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::start(0, Word::PidOf(PRIVILEGED)).patient());
        s.control(sqe::info(0));
        for _ in 0..6 {
            s.send(1, [plan.commit(0, 0, 4096)]);
        }
        s.pause(50);
    })
}

fn no_partitions() -> Script {
    script("control: START_DEV with NO_AUTO_PART_SCAN", |s| {
        let plan = Plan::with(sys::UBLK_F_NO_AUTO_PART_SCAN);
        s.added(&plan);
        s.open(PRIVILEGED, 0, 0);
        s.map(PRIVILEGED, &plan, 0);
        s.ring(PRIVILEGED, 1, 8, 0);
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::start(0, Word::PidOf(PRIVILEGED)).patient());
        s.control(sqe::info(0));
    })
    .not_on("6.12", "it looks for partitions")
}

fn start_twice() -> Script {
    script("control: START_DEV of a live device", |s| {
        s.live(&Plan::default());
        s.control(sqe::start(0, Word::PidOf(1)));
        s.control(sqe::start(0, Word::Number(0)));
        s.control(sqe::start(0, Word::Number(1)));
        s.control(sqe::set_params(0, &super::super::build::sound(), "sound"));
        s.control(sqe::get_params(0));
        s.control(sqe::info(0));
    })
}

fn stops() -> Script {
    script("control: STOP_DEV, again and again", |s| {
        let plan = Plan { queues: 2, depth: 2, ..Plan::default() };
        s.live(&plan);
        s.control(sqe::stop(0));
        s.control(sqe::stop(0));
        s.control(sqe::info(0));
        s.control(sqe::get_params(0));
        s.client(0, read(0, 8));
        s.send(1, [plan.fetch(0, 0)]);
        s.send(1, [plan.commit(0, 1, 0)]);
    })
}

fn stop_before() -> Script {
    script("control: STOP_DEV before anything", |s| {
        let plan = Plan::default();
        s.control_ring();
        s.control(sqe::add(0, plan.info()));
        s.control(sqe::stop(0));
        s.control(sqe::set_params(0, &plan.params(), "sound"));
        s.server(&plan);
        s.control(sqe::stop(0));
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn restart() -> Script {
    script("control: START_DEV again, the file still open", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.control(sqe::stop(0));
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::set_params(0, &plan.params(), "sound"));
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn restarts_opened_anew() -> [Script; 2] {
    // Old drivers have kept the commands of before, whose memory is not theirs any more.
    let plan = Plan::default();
    let anew = |s: &mut Script| {
        s.live(&plan);
        s.control(sqe::stop(0));
        s.server_gone(&plan);
        s.control(sqe::info(0));
        s.open(1, 0, 0);
        s.map(1, &plan, 0);
        s.ring(1, 1, 8, 0);
        s.send(1, [plan.fetch(0, 0)]);
    };
    let fetched = script("control: the file opened anew after STOP_DEV", anew);
    let started = script("control: START_DEV again, the file opened anew", |s| {
        anew(s);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.pause(100);
        s.control(sqe::info(0));
        s.client(0, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096)]);
    });
    [fetched, started.not_on("6.12", "it completes commands that were freed")]
}

fn try_stops() -> Script {
    script("control: TRY_STOP_DEV", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.control(sqe::try_stop(0));
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::try_stop(0));
        s.control(sqe::start(0, Word::PidOf(1)));
        s.control(sqe::try_stop(0));
        s.control(sqe::info(0));
        s.control(sqe::try_stop(0));
    })
}

fn try_stop_held() -> Script {
    script("control: TRY_STOP_DEV of a disk that is held open", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.client(0, hold());
        s.control(sqe::try_stop(0));
        s.control(sqe::info(0));
        s.client(1, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.control(sqe::stop(0));
        s.client(2, read(0, 8));
    })
}

fn delete_live() -> Script {
    script("control: DEL_DEV of a live device", |s| {
        s.live(&Plan::default());
        s.control(sqe::delete(0).patient());
        s.pause(50);
        s.control(sqe::info(0));
        s.control(sqe::stop(0));
        s.open(1, 1, 0);
        s.step(Step::CloseRing(1));
        s.step(Step::Unmap(0));
        s.step(Step::Close(0));
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn delete_open() -> Script {
    script("control: DEL_DEV, the file open", |s| {
        s.added(&Plan::default());
        s.open(1, 0, 0);
        s.control(sqe::delete(0).patient());
        s.pause(50);
        s.control(sqe::info(0));
        s.control(sqe::delete(0).patient());
        s.control(numbered(1, Dev::Of(0), Dev::Of(0)));
        s.step(Step::Close(0));
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn delete_mapped() -> Script {
    script("control: DEL_DEV, descriptors mapped", |s| {
        let plan = Plan::default();
        s.added(&plan);
        s.open(1, 0, 0);
        s.map(1, &plan, 0);
        s.step(Step::Close(0));
        s.control(sqe::delete(0).patient());
        s.pause(50);
        s.step(Step::Unmap(0));
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn delete_fixed() -> Script {
    script("control: DEL_DEV, a fixed file", |s| {
        s.added(&Plan::default());
        s.open(1, 0, 0);
        s.ring(1, 1, 8, 0);
        s.fixed_file(1, 1);
        s.step(Step::Close(0));
        s.control(sqe::delete(0).patient());
        s.pause(50);
        s.step(Step::CloseRing(1));
        s.pause(100);
        s.control(sqe::info(0));
    })
}

fn delete_async() -> Script {
    script("control: DEL_DEV_ASYNC", |s| {
        s.added(&Plan::default());
        s.open(1, 0, 0);
        s.control(sqe::delete_async(0));
        s.control(sqe::delete_async(0));
        s.control(sqe::info(0));
        s.control(numbered(1, Dev::Of(0), Dev::Of(0)));
        s.step(Step::Close(0));
        s.pause(100);
        s.control(numbered(0, Dev::Of(0), Dev::Of(0)));
    })
}

fn sizes() -> Script {
    script("control: UPDATE_SIZE", |s| {
        let plan = Plan::default();
        s.opened(&plan);
        s.control(sqe::update_size(0, 4096));
        s.send(1, [plan.fetch(0, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.control(sqe::update_size(0, 4096));
        s.client(0, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.control(sqe::get_params(0));
        s.control(sqe::update_size(0, 8));
        s.client(1, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.control(sqe::update_size(0, 0));
        s.control(sqe::stop(0));
        s.control(sqe::update_size(0, 8));
    })
}

fn max_io() -> Script {
    script("control: a request longer than the largest", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.client(0, read(0, 2 * MAX_IO_BYTES / 512));
        s.send(1, [plan.commit(0, 0, 16384)]);
        s.send(1, [plan.commit(0, 0, 16384)]);
    })
}
