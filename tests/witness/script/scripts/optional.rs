//! Optional ways of a request's data (protocol 6), as far as a server may get them wrong.

use super::super::build::{Plan, read, script, write};
use super::super::sqe::{self, Sqe, Word, commit, fetch};
use super::super::{Register, Script};
use ublkit::sys::ublk as sys;

pub fn all() -> Vec<Script> {
    let mut all = vec![register(), register_early(), automatic(), automatic_taken()];
    all.extend(super::shared::all());
    all
}

/// A command about a request's pages, with a place in the ring's table.
fn pages(op: u32, place: u64) -> Sqe {
    fetch(0, 0).op(op).at(Word::Number(place))
}

fn register() -> Script {
    script("zero copy: a request's pages in a ring's table", |s| {
        let plan = Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY);
        let (put, take) = (sys::UBLK_U_IO_REGISTER_IO_BUF, sys::UBLK_U_IO_UNREGISTER_IO_BUF);
        s.live(&plan);
        s.client(0, write(0, 8));
        s.send(1, [pages(put, 0)]);
        s.register(1, 1, Register::Buffers(4));
        for (op, place) in [(put, 4), (take, 0), (take, 4), (put, 0), (put, 0), (put, 1), (take, 0)]
        {
            s.send(1, [pages(op, place)]);
        }
        s.send(1, [commit(0, 0, 4096)]);
        s.send(1, [pages(take, 1)]);
        s.send(1, [pages(put, 1)]);
    })
}

fn register_early() -> Script {
    script("zero copy: of a slot that is not owned", |s| {
        let plan = Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY);
        let (put, take) = (sys::UBLK_U_IO_REGISTER_IO_BUF, sys::UBLK_U_IO_UNREGISTER_IO_BUF);
        s.opened(&plan);
        s.register(1, 1, Register::Buffers(4));
        for op in [put, take] {
            s.send(1, [pages(op, 0)]);
        }
        s.send(1, [plan.fetch(0, 0)]);
        s.ring(2, 2, 8, 0);
        for op in [put, take] {
            s.send(1, [pages(op, 0)]);
            s.send(2, [pages(op, 0)]);
        }
    })
}

fn automatic() -> Script {
    script("automatic buffers: their place in the table", |s| {
        let plan = Plan::with(sys::UBLK_F_AUTO_BUF_REG);
        s.opened(&plan);
        s.register(1, 1, Register::Buffers(4));
        s.send(1, [fetch(0, 0).addr(Word::Number(3))]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.send(1, [commit(0, 0, 4096).addr(Word::Number(1))]);
        s.client(1, read(0, 8));
        s.send(1, [commit(0, 0, 4096).addr(Word::Number(1 << 24))]);
        s.send(1, [commit(0, 0, 4096).addr(Word::Number(2))]);
    })
}

fn automatic_taken() -> Script {
    script("automatic buffers: no room in the table", |s| {
        let plan = Plan::with(sys::UBLK_F_AUTO_BUF_REG);
        s.opened(&plan);
        s.register(1, 1, Register::Buffers(4));
        s.send(1, [fetch(0, 0).addr(Word::Number(9))]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.control(sqe::info(0));
    })
}
