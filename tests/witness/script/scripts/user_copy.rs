//! Reading and writing a request's data by the char device (protocol 3.5).

use super::super::build::{Plan, flush, read, script, write};
use super::super::sqe::{self, Fd, Word, put_pages, take_pages, transfer, transfer_pages};
use super::super::{Register, Script, Step};
use super::optional::LACKS_PAGES;
use ublkit::sys::ublk as sys;

pub fn all() -> Vec<Script> {
    vec![
        whose(),
        positions(),
        before_and_after(),
        not_live(),
        without_the_flag(),
        queues(),
        no_data(),
        sizes(),
        deep(),
        by_ring(),
        by_pages().not_on("6.12", LACKS_PAGES),
    ]
}

/// The position of a byte of a request's data, added up and not checked.
const fn position(queue: u64, tag: u64, offset: u64) -> u64 {
    0x8000_0000 + (queue << 41) + (tag << 25) + offset
}

fn get(s: &mut Script, task: usize, position: u64, len: usize) {
    s.step(Step::Copy { task, file: 0, write: None, position, len });
}

fn put(s: &mut Script, task: usize, position: u64, len: usize) {
    s.step(Step::Copy { task, file: 0, write: Some(0xc3), position, len });
}

const PLAN: Plan = Plan {
    queues: 1,
    depth: 1,
    flags: sys::UBLK_F_USER_COPY,
    attrs: 0,
    ring_flags: 0,
    task_per_queue: false,
    discards: false,
};

fn whose() -> Script {
    script("user copy: the data of a write and of a read", |s| {
        s.live(&PLAN);
        s.client(0, write(0, 8));
        get(s, 1, position(0, 0, 0), 4096);
        get(s, 2, position(0, 0, 0), 4096);
        get(s, 0, position(0, 0, 0), 512);
        put(s, 1, position(0, 0, 0), 4096);
        s.send(1, [PLAN.commit(0, 0, 4096)]);
        s.client(1, read(0, 8));
        put(s, 1, position(0, 0, 0), 1024);
        put(s, 2, position(0, 0, 2048), 512);
        get(s, 1, position(0, 0, 0), 512);
        s.send(1, [PLAN.commit(0, 0, 4096)]);
    })
}

fn positions() -> Script {
    script("user copy: positions", |s| {
        s.live(&PLAN);
        s.client(0, write(0, 8));
        for offset in [0, 1, 511, 4000, 4095, 4096, 4097, 8192, (1 << 25) - 1] {
            get(s, 1, position(0, 0, offset), 512);
        }
        get(s, 1, position(0, 0, 0), 0);
        get(s, 1, position(0, 0, 0), 16384);
        for (queue, tag) in [(0, 1), (1, 0), (0, 65535), (4095, 0), (4096, 0)] {
            get(s, 1, position(queue, tag, 0), 512);
        }
        for other in [0, 4096, 0x7fff_ffff, 1 << 62, position(0, 0, 0) | 1 << 62, (1 << 63) - 1] {
            get(s, 1, other, 512);
            put(s, 1, other, 512);
        }
        s.send(1, [PLAN.commit(0, 0, 4096)]);
    })
}

fn before_and_after() -> Script {
    script("user copy: of a slot that is not owned", |s| {
        s.opened(&PLAN);
        get(s, 1, position(0, 0, 0), 512);
        put(s, 1, position(0, 0, 0), 512);
        s.send(1, [PLAN.fetch(0, 0)]);
        get(s, 1, position(0, 0, 0), 512);
        s.control(sqe::start(0, Word::PidOf(1)));
        get(s, 1, position(0, 0, 0), 512);
        get(s, 1, position(0, 1, 0), 512);
        s.client(0, read(0, 8));
        s.send(1, [PLAN.commit(0, 0, 4096)]);
        get(s, 1, position(0, 0, 0), 512);
        put(s, 1, position(0, 0, 0), 512);
        s.control(sqe::stop(0));
        get(s, 1, position(0, 0, 0), 512);
        put(s, 1, position(0, 0, 0), 512);
    })
}

fn not_live() -> Script {
    script("user copy: of a device that was never live", |s| {
        s.added(&PLAN);
        s.open(1, 0, 0);
        get(s, 1, position(0, 0, 0), 512);
        get(s, 1, position(9, 0, 0), 512);
        get(s, 1, 0, 512);
        get(s, 1, 1 << 62, 512);
    })
}

fn without_the_flag() -> Script {
    script("user copy: of a device without it", |s| {
        let plan = Plan::default();
        s.live(&plan);
        s.client(0, read(0, 8));
        get(s, 1, position(0, 0, 0), 512);
        put(s, 1, position(0, 0, 0), 512);
        put(s, 1, position(1, 0, 0), 512);
        put(s, 1, position(0, 1, 0), 512);
        put(s, 1, 0, 512);
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
}

fn queues() -> Script {
    script("user copy: of the second queue", |s| {
        let plan = Plan { queues: 2, ..PLAN };
        s.live(&plan);
        s.client(0, write(0, 8).on(1));
        get(s, 1, position(0, 0, 0), 512);
        get(s, 1, position(1, 0, 0), 512);
        s.send(1, [plan.commit(1, 0, 4096)]);
        get(s, 1, position(1, 0, 0), 512);
    })
}

fn no_data() -> Script {
    script("user copy: of a request without data", |s| {
        let plan = Plan { attrs: sys::UBLK_ATTR_VOLATILE_CACHE, ..PLAN };
        s.live(&plan);
        s.client(0, flush());
        get(s, 1, position(0, 0, 0), 512);
        put(s, 1, position(0, 0, 0), 512);
        s.send(1, [plan.commit(0, 0, 0)]);
    })
}

fn sizes() -> Script {
    script("user copy: piece by piece", |s| {
        s.live(&PLAN);
        s.client(0, read(0, 32));
        for (offset, len) in [(0, 1), (1, 510), (511, 4096), (8192, 8192), (16384, 1)] {
            put(s, 1, position(0, 0, offset), len);
        }
        s.send(1, [PLAN.commit(0, 0, 16384)]);
    })
}

fn deep() -> Script {
    script("user copy: tag 64 and bit 31", |s| {
        let plan = Plan { depth: 65, ..PLAN };
        s.live(&plan);
        get(s, 1, position(0, 64, 0), 512);
        get(s, 1, sys::UBLKSRV_IO_BUF_OFFSET | 64 << 25, 512);
        get(s, 1, position(0, 65, 0), 512);
    })
}

/// Rings read and write the char device as `pread` and `pwrite` do.
fn by_ring() -> Script {
    script("user copy: READ and WRITE of a ring", |s| {
        let get = |position, len| transfer(false, Fd::Char(0), position, 7, len);
        let put = |position, len| transfer(true, Fd::Char(0), position, 7, len);
        s.live(&PLAN);
        s.client(0, write(0, 8));
        for (position, len) in [
            (position(0, 0, 0), 4096),
            (position(0, 0, 4000), 512),
            (position(0, 0, 4096), 512),
            (position(0, 0, 4097), 512),
            (position(0, 1, 0), 512),
            (position(1, 0, 0), 512),
            (0, 512),
        ] {
            s.send(1, [get(position, len)]);
        }
        s.send(1, [put(position(0, 0, 0), 512)]);
        s.look(7, 4608);
        s.send(1, [PLAN.commit(0, 0, 4096)]);
        s.client(1, read(0, 8));
        s.fill(7, 0xc3);
        s.send(1, [put(position(0, 0, 0), 1024)]);
        s.send(1, [put(position(0, 0, 2048), 512)]);
        s.send(1, [get(position(0, 0, 0), 512)]);
        s.send(1, [PLAN.commit(0, 0, 4096)]);
        s.send(1, [put(position(0, 0, 0), 512)]);
    })
}

/// The first check: data goes between a request and a program's memory, not another request's
/// pages. It comes before all that else is wrong with the position, but after io_uring's own.
fn by_pages() -> Script {
    script("user copy: from and to a request's pages", |s| {
        let plan = Plan::with(sys::UBLK_F_USER_COPY | sys::UBLK_F_SUPPORT_ZERO_COPY);
        s.live(&plan);
        s.register(1, 1, Register::Buffers(4));
        let positions = [position(0, 0, 0), position(9, 0, 0), position(0, 9, 0), 1 << 62, 0];
        for (client, (wish, is_write)) in
            [(write(0, 8), true), (read(0, 8), false)].iter().enumerate()
        {
            s.client(client, *wish);
            s.send(1, [put_pages(0, 2)]);
            for position in positions {
                s.send(1, [transfer_pages(*is_write, Fd::Char(0), position, (2, 0, 512))]);
            }
            for part in [(2, 4096, 512), (3, 0, 512)] {
                s.send(1, [transfer_pages(*is_write, Fd::Char(0), position(9, 0, 0), part)]);
            }
            s.send(1, [transfer_pages(!is_write, Fd::Char(0), position(9, 0, 0), (2, 0, 512))]);
            s.send(1, [take_pages(0, 2)]);
            s.send(1, [plan.commit(0, 0, 4096)]);
        }
    })
}
