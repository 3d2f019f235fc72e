//! Optional ways of a request's data (protocol 6), as far as a server may get them wrong.

use super::super::build::{Plan, read, script, write};
use super::super::sqe::{self, NOWHERE, Payload, Sqe, Word, commit, fetch};
use super::super::{Register, Script};
use ublkit::sys::ublk as sys;

pub fn all() -> Vec<Script> {
    vec![register(), register_early(), automatic(), automatic_taken(), shared()]
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

fn shared() -> Script {
    let put = |device: usize, words: [u64; 3], text: &str| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let command = sqe::info(device).op(sys::UBLK_U_CMD_REG_BUF);
        command.payload(Payload::Bytes(bytes), text).size(24)
    };
    script("shared memory: REG_BUF and UNREG_BUF", |s| {
        s.added(&Plan::default());
        s.control(put(0, [4096, 4096, 0], "of a device without it"));
        s.control(sqe::add(1, Plan::with(sys::UBLK_F_SHMEM_ZC).info()));
        s.control(put(1, [4096, 4096, 0], "unmapped"));
        s.control(put(1, [4097, 4096, 0], "a crooked address"));
        s.control(put(1, [4096, 4095, 0], "a crooked length"));
        s.control(put(1, [4096, 0, 0], "no length"));
        s.control(put(1, [4096, 1 << 33, 0], "too long"));
        s.control(put(1, [4096, 4096, 2], "an unknown flag"));
        s.control(put(1, [4096, 4096, 1 << 32], "a reserved word"));
        let nowhere = sqe::info(1).op(sys::UBLK_U_CMD_REG_BUF);
        s.control(nowhere.payload(Payload::At(NOWHERE), "nowhere"));
        for place in [0, 65535, 65536] {
            s.control(sqe::start(1, Word::Number(place)).op(sys::UBLK_U_CMD_UNREG_BUF));
        }
    })
}
