//! Optional ways of a request's data (protocol 6), as far as a server may get them wrong.

use super::super::build::{Plan, discard, flush, read, script, write, zero};
use super::super::sqe::{
    self, Fd, Part, Sqe, Word, commit, fetch, put_pages, take_pages, transfer_pages,
};
use super::super::{Register, Script, Step};
use ublkit::sys::ublk as sys;

/// Why the newer scripts are not run there: the recorded ones show all that there is.
pub const LACKS_PAGES: &str = "it lacks SUPPORT_ZERO_COPY and AUTO_BUF_REG";

/// Why they spare 6.18: a COMMIT is refused for that, and is completed once more after all.
pub const FREES_TWICE: &str = "it crashes at a COMMIT with an unknown flag for automatic buffers";

pub fn all() -> Vec<Script> {
    let automatic = automatic().not_on("6.18", FREES_TWICE);
    let mut all = vec![register(), register_early(), automatic, automatic_taken()];
    let by_hand = by_hand().not_on("6.18", FREES_TWICE);
    let newer = [write_pages(), read_pages(), by_hand, by_user_copy(), by_nobody()].into_iter();
    let newer = newer.chain([other_ring(), other_ring_closes(), other_slot(), emptied()]);
    let newer = newer.chain([no_data(), automatic_no_data(), by_others()]);
    all.extend(newer.map(|script| script.not_on("6.12", LACKS_PAGES)));
    all.extend(super::shared::all());
    all
}

fn register() -> Script {
    script("zero copy: a request's pages in a ring's table", |s| {
        let plan = Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY);
        let (put, take) = (|place| put_pages(0, place), |place| take_pages(0, place));
        s.live(&plan);
        s.client(0, write(0, 8));
        s.send(1, [put(0)]);
        s.register(1, 1, Register::Buffers(4));
        for command in [put(4), take(0), take(4), put(0), put(0), put(1), take(0)] {
            s.send(1, [command]);
        }
        s.send(1, [commit(0, 0, 4096)]);
        s.send(1, [take(1)]);
        s.send(1, [put(1)]);
    })
}

fn register_early() -> Script {
    script("zero copy: of a slot that is not owned", |s| {
        let plan = Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY);
        let commands = [put_pages(0, 0), take_pages(0, 0)];
        s.opened(&plan);
        s.register(1, 1, Register::Buffers(4));
        for command in &commands {
            s.send(1, [command.clone()]);
        }
        s.send(1, [plan.fetch(0, 0)]);
        s.ring(2, 2, 8, 0);
        for command in commands {
            s.send(1, [command.clone()]);
            s.send(2, [command]);
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

/// Transfers of a file in memory, from its beginning.
fn to_file(part: Part) -> Sqe {
    transfer_pages(true, Fd::Memory(0), 0, part)
}

fn from_file(part: Part) -> Sqe {
    transfer_pages(false, Fd::Memory(0), 0, part)
}

/// All that can be wrong with a part of a request's pages of 4096 bytes in place 0, of a table of
/// four; and what is odd, and right.
const PARTS: [Part; 12] = [
    (0, 0, 4096),
    (0, 1, 510),
    (0, 4095, 1),
    (0, 4096, 0),
    (0, 4097, 0),
    (0, 4096, 1),
    (0, 1, 4096),
    (0, u64::MAX, 1),
    (0, 0, u32::MAX),
    (1, 0, 512),
    (4, 0, 512),
    (u16::MAX, 0, 512),
];

fn write_pages() -> Script {
    script("zero copy: transfers of the pages of a write", |s| {
        let plan = Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY);
        s.live(&plan);
        s.ring(1, 3, 8, 0);
        s.ring(1, 4, 8, 0);
        s.client(0, write(0, 8));
        s.send(1, [to_file((0, 0, 512))]);
        s.register(1, 1, Register::Buffers(4));
        s.register(1, 3, Register::Buffers(4));
        s.send(1, [to_file((0, 0, 512))]);
        s.send(1, [put_pages(0, 0)]);
        for part in PARTS {
            s.send(1, [to_file(part)]);
        }
        // The other direction, other rings' tables, and a file that is none.
        s.send(1, [from_file((0, 0, 512))]);
        s.send(3, [to_file((0, 0, 512))]);
        s.send(4, [to_file((0, 0, 512))]);
        s.send(1, [transfer_pages(true, Fd::Number(-1), 0, (1, 0, 512))]);
        // As long as a place holds them, pages outlive their COMMIT.
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.send(1, [to_file((0, 0, 512))]);
        s.send(1, [take_pages(0, 0)]);
        s.send(1, [to_file((0, 0, 512))]);
    })
}

fn read_pages() -> Script {
    script("zero copy: transfers of the pages of a read", |s| {
        let plan = Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY);
        s.live(&plan);
        s.register(1, 1, Register::Buffers(4));
        s.fill(7, 0xc3);
        s.send(1, [sqe::transfer(true, Fd::Memory(0), 0, 7, 8192)]);
        s.client(0, read(0, 8));
        s.send(1, [put_pages(0, 0)]);
        for part in PARTS.into_iter().skip(1) {
            s.send(1, [from_file(part)]);
        }
        s.send(1, [to_file((0, 0, 512))]);
        s.send(1, [from_file((0, 512, 1024))]);
        s.send(1, [take_pages(0, 0)]);
        s.send(1, [from_file((0, 2048, 512))]);
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
}

/// A place of a table, for pages that come there by themselves, and what is asked for beside it.
fn at_place(sqe: Sqe, place: u16, flags: u8) -> Sqe {
    sqe.addr(Word::Number(u64::from(place) | u64::from(flags) << 16))
}

const FALLBACK: u8 = sys::UBLK_AUTO_BUF_REG_FALLBACK;

/// A live device with a table of four, whose first request finds no place there, and is to come
/// all the same.
fn falls_back(s: &mut Script, flags: u64) {
    s.opened(&Plan::with(sys::UBLK_F_AUTO_BUF_REG | flags));
    s.register(1, 1, Register::Buffers(4));
    s.send(1, [at_place(fetch(0, 0), 9, FALLBACK)]);
    s.control(sqe::start(0, Word::PidOf(1)));
}

fn by_hand() -> Script {
    script("automatic buffers: a fallback, registered by hand", |s| {
        falls_back(s, sys::UBLK_F_SUPPORT_ZERO_COPY);
        s.client(0, write(0, 8));
        s.send(1, [to_file((0, 0, 4096))]);
        s.send(1, [put_pages(0, 9)]);
        s.send(1, [put_pages(0, 0)]);
        s.send(1, [to_file((0, 0, 4096))]);
        s.send(1, [take_pages(0, 0)]);
        s.send(1, [at_place(commit(0, 0, 4096), u16::MAX, FALLBACK)]);
        s.client(1, read(0, 8));
        s.send(1, [put_pages(0, 0)]);
        s.send(1, [from_file((0, 0, 2048))]);
        // Nothing takes them out of the table but who put them there.
        s.send(1, [at_place(commit(0, 0, 4096), 0, FALLBACK)]);
        s.send(1, [take_pages(0, 0)]);
        // With a place it is none.
        s.client(2, read(0, 8));
        s.send(1, [from_file((0, 512, 1024))]);
        s.send(1, [at_place(commit(0, 0, 4096), 0, 2)]);
        s.send(1, [at_place(commit(0, 0, 4096), 0, FALLBACK)]);
    })
}

fn by_user_copy() -> Script {
    script("automatic buffers: a fallback, by user copy", |s| {
        falls_back(s, sys::UBLK_F_USER_COPY);
        let position = sys::UBLKSRV_IO_BUF_OFFSET;
        let copy = |write| Step::Copy { task: 1, file: 0, write, position, len: 4096 };
        s.client(0, write(0, 8));
        s.send(1, [put_pages(0, 0)]);
        s.step(copy(None));
        s.send(1, [at_place(commit(0, 0, 4096), 9, FALLBACK)]);
        s.client(1, read(0, 8));
        s.step(copy(Some(0xc3)));
        s.send(1, [at_place(commit(0, 0, 4096), 9, FALLBACK)]);
    })
}

fn by_nobody() -> Script {
    script("automatic buffers: a fallback, with no other way", |s| {
        falls_back(s, 0);
        s.client(0, write(0, 8));
        s.send(1, [put_pages(0, 0)]);
        s.send(1, [take_pages(0, 0)]);
        s.send(1, [at_place(commit(0, 0, -libc::EIO), 9, 0)]);
        s.client(1, write(0, 8));
        s.control(sqe::info(0));
    })
}

/// What the ring of the FETCH got is not taken out by a COMMIT through another one.
fn other_ring() -> Script {
    script("automatic buffers: answered through another ring", |s| {
        s.opened(&Plan::with(sys::UBLK_F_AUTO_BUF_REG | sys::UBLK_F_SUPPORT_ZERO_COPY));
        s.ring(1, 3, 8, 0);
        s.register(1, 1, Register::Buffers(4));
        s.register(1, 3, Register::Buffers(4));
        s.send(1, [at_place(fetch(0, 0), 0, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.send(3, [to_file((0, 0, 512))]);
        s.send(1, [to_file((0, 0, 512))]);
        s.send(3, [at_place(commit(0, 0, 4096), 1, 0)]);
        s.send(3, [take_pages(0, 0)]);
        s.send(1, [take_pages(0, 0)]);
        // The next one's pages are in the table of the ring that brings it.
        s.client(1, read(0, 8));
        s.send(1, [from_file((1, 0, 512))]);
        s.send(3, [from_file((1, 0, 512))]);
        s.send(3, [at_place(commit(0, 0, 4096), 1, 0)]);
    })
}

fn other_ring_closes() -> Script {
    script("automatic buffers: answered through another ring, the first one closes", |s| {
        s.opened(&Plan::with(sys::UBLK_F_AUTO_BUF_REG));
        s.ring(1, 3, 8, 0);
        s.register(1, 1, Register::Buffers(4));
        s.send(1, [at_place(fetch(0, 0), 0, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.send(3, [at_place(commit(0, 0, 4096), 0, FALLBACK)]);
        s.send(1, [take_pages(0, 0)]);
        s.step(Step::CloseRing(1));
        s.pause(100);
        s.client(1, write(0, 8));
        s.send(3, [at_place(commit(0, 0, 4096), 0, FALLBACK)]);
    })
}

fn other_slot() -> Script {
    script("automatic buffers: the place of another slot", |s| {
        let plan = Plan { queues: 3, ..Plan::with(sys::UBLK_F_AUTO_BUF_REG) };
        s.opened(&plan);
        s.register(1, 1, Register::Buffers(4));
        for (queue, flags) in [(0, 0), (1, 0), (2, FALLBACK)] {
            s.send(1, [at_place(fetch(queue, 0), 2, flags)]);
        }
        s.control(sqe::start(0, Word::PidOf(1)));
        (0..3).for_each(|queue| s.client(queue.into(), write(8 * u64::from(queue), 8).on(queue)));
        s.send(1, [to_file((2, 0, 4096))]);
        s.send(1, [at_place(commit(2, 0, 4096), 2, 0)]);
        s.send(1, [to_file((2, 0, 512))]);
        s.send(1, [at_place(commit(0, 0, 4096), 2, 0)]);
        s.client(3, write(0, 8).on(1));
        s.send(1, [at_place(commit(1, 0, 4096), 2, 0)]);
    })
}

/// By hand, what a COMMIT would have done.
fn emptied() -> Script {
    script("automatic buffers: taken out by hand", |s| {
        s.opened(&Plan::with(sys::UBLK_F_AUTO_BUF_REG | sys::UBLK_F_SUPPORT_ZERO_COPY));
        s.register(1, 1, Register::Buffers(4));
        s.send(1, [at_place(fetch(0, 0), 0, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.send(1, [take_pages(0, 0)]);
        s.send(1, [to_file((0, 0, 512))]);
        s.send(1, [at_place(commit(0, 0, 4096), 0, 0)]);
        // By hand into the same place, and a second one.
        s.client(1, write(0, 8));
        s.send(1, [take_pages(0, 0)]);
        s.send(1, [put_pages(0, 0)]);
        s.send(1, [put_pages(0, 1)]);
        s.send(1, [at_place(commit(0, 0, 4096), 2, 0)]);
        s.send(1, [to_file((0, 0, 512))]);
        s.send(1, [take_pages(0, 1)]);
    })
}

fn no_data() -> Script {
    script("zero copy: of requests without data", |s| {
        let attrs = sys::UBLK_ATTR_VOLATILE_CACHE;
        let plan = Plan { attrs, discards: true, ..Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY) };
        s.live(&plan);
        s.register(1, 1, Register::Buffers(4));
        for (client, wish) in [flush(), discard(8, 8), zero(8, 8)].into_iter().enumerate() {
            s.client(client, wish);
            s.send(1, [put_pages(0, 0)]);
            s.send(1, [plan.commit(0, 0, 0)]);
        }
    })
}

/// There is no such place, which nobody learns before there is data.
fn automatic_no_data() -> Script {
    script("automatic buffers: of a request without data", |s| {
        let attrs = sys::UBLK_ATTR_VOLATILE_CACHE;
        s.opened(&Plan { attrs, ..Plan::with(sys::UBLK_F_AUTO_BUF_REG) });
        s.register(1, 1, Register::Buffers(4));
        s.send(1, [at_place(fetch(0, 0), 9, 0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, flush());
        s.send(1, [at_place(commit(0, 0, 0), 9, 0)]);
        s.client(1, write(0, 8));
    })
}

/// Whose the slot is does not count; for taking out, nor does which one.
fn by_others() -> Script {
    script("zero copy: by other tasks, and of no slot", |s| {
        let plan = Plan::with(sys::UBLK_F_SUPPORT_ZERO_COPY);
        let take_nobodys =
            |place| fetch(9, 9).op(sys::UBLK_U_IO_UNREGISTER_IO_BUF).at(Word::Number(place));
        s.live(&plan);
        s.ring(2, 2, 8, 0);
        s.register(1, 1, Register::Buffers(4));
        s.register(2, 2, Register::Buffers(4));
        s.client(0, write(0, 8));
        s.send(2, [put_pages(0, 0)]);
        s.send(2, [to_file((0, 0, 512))]);
        s.send(1, [to_file((0, 0, 512))]);
        s.send(1, [take_pages(0, 0)]);
        s.send(2, [take_nobodys(0)]);
        s.send(1, [put_pages(0, 1)]);
        s.send(2, [take_pages(0, 1)]);
        s.send(1, [take_nobodys(1)]);
        s.send(2, [put_pages(0, 2)]);
        s.send(1, [plan.commit(0, 0, 4096)]);
        // Only now does the request end.
        s.send(2, [take_nobodys(2)]);
    })
}
