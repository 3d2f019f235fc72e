//! What a result means (protocol 3.6), and what the client learns.

use super::super::build::{Plan, discard, flush, punch, read, script, write, zero};
use super::super::sqe;
use super::super::{Script, Wish};
use ublkit::sys::ublk as sys;

pub fn all() -> Vec<Script> {
    let mut all = Vec::new();
    all.extend(errors());
    all.extend(short_reads());
    all.extend(short_writes());
    all.extend(others());
    all.extend(kinds());
    all
}

const COMMON: &[i32] = &[
    libc::EPERM,
    libc::ENOENT,
    libc::EINTR,
    libc::EIO,
    libc::ENXIO,
    libc::E2BIG,
    libc::EBADF,
    libc::EAGAIN,
    libc::ENOMEM,
    libc::EACCES,
    libc::EFAULT,
    libc::EBUSY,
    libc::EEXIST,
    libc::ENODEV,
    libc::EINVAL,
    libc::ENOSPC,
    libc::EROFS,
    libc::ERANGE,
    libc::ENOSYS,
    libc::ENODATA,
    libc::ETIME,
    libc::ENOLINK,
    libc::EBADE,
    libc::EOVERFLOW,
    libc::EILSEQ,
    libc::EOPNOTSUPP,
    libc::ECANCELED,
    libc::ETIMEDOUT,
    libc::EREMOTEIO,
    libc::ETOOMANYREFS,
];

/// Every errno that a backend could think of, and numbers that are none.
fn errors() -> Vec<Script> {
    let strange: [i32; 6] = [133, 512, 515, 4095, 4096, i32::MAX];
    let numbers: Vec<i32> = COMMON.iter().chain(&strange).copied().collect();
    let of = |name: &str, wish: Wish| {
        script(format!("result: errors of a {name}"), |s| {
            let plan =
                Plan { discards: true, attrs: sys::UBLK_ATTR_VOLATILE_CACHE, ..Plan::default() };
            s.live(&plan);
            for (client, number) in numbers.iter().enumerate() {
                s.client(client, wish);
                s.send(1, [plan.commit(0, 0, -number)]);
            }
        })
    };
    vec![of("read", read(0, 8)), of("write", write(0, 8)), of("flush", flush())]
}

/// A read of eight sectors that is answered with less, and then in full.
fn short_reads() -> Vec<Script> {
    let of = |mode: &str, flags: u64, first: i32| {
        script(format!("result: {first} of a read, {mode}"), |s| {
            let plan = Plan::with(flags);
            s.live(&plan);
            s.client(0, read(8, 8));
            s.fill(0, 1);
            s.send(1, [plan.commit(0, 0, first)]);
            s.fill(0, 2);
            s.send(1, [plan.commit(0, 0, 4096 - first.max(0))]);
            s.control(sqe::info(0));
        })
    };
    let mut all: Vec<Script> = [0, 512, 2048, 3584].map(|first| of("copying", 0, first)).into();
    all.extend([512, 3584].map(|first| of("user copy", sys::UBLK_F_USER_COPY, first)));
    all.push(of("get-data", sys::UBLK_F_NEED_GET_DATA, 1024));
    all
}

fn short_writes() -> Vec<Script> {
    let of = |mode: &str, flags: u64, first: i32| {
        script(format!("result: {first} of a write, {mode}"), |s| {
            let plan = Plan::with(flags);
            s.live(&plan);
            s.client(0, write(8, 8));
            s.send(1, [plan.commit(0, 0, first)]);
            s.fill(0, 2);
            s.send(1, [plan.commit(0, 0, 4096 - first)]);
            s.send(1, [plan.commit(0, 0, 4096)]);
            s.control(sqe::info(0));
        })
    };
    [0, 512, 2048]
        .map(|first| of("copying", 0, first))
        .into_iter()
        .chain([of("user copy", sys::UBLK_F_USER_COPY, 512)])
        .collect()
}

/// What is answered for requests without data.
fn others() -> Vec<Script> {
    let of = |name: &str, wish: Wish| {
        script(format!("result: of a {name}"), |s| {
            let plan =
                Plan { discards: true, attrs: sys::UBLK_ATTR_VOLATILE_CACHE, ..Plan::default() };
            s.live(&plan);
            for (client, result) in
                [0, 1, 512, 4096, i32::MAX, -libc::EIO, -libc::EOPNOTSUPP].into_iter().enumerate()
            {
                s.client(client, wish);
                s.send(1, [plan.commit(0, 0, result)]);
                s.send(1, [plan.commit(0, 0, 0)]);
            }
        })
    };
    vec![of("flush", flush()), of("discard", discard(8, 8)), of("zeroing", zero(8, 8))]
}

/// What each operation looks like when it arrives.
fn kinds() -> Vec<Script> {
    let cache = sys::UBLK_ATTR_VOLATILE_CACHE;
    let of = |name: &str, attrs: u32, discards: bool| {
        script(format!("descriptor: {name}"), |s| {
            let plan = Plan { attrs, discards, ..Plan::default() };
            s.live(&plan);
            let wishes = [
                read(0, 1),
                read(2040, 8),
                read(0, 32),
                write(3, 5),
                flush(),
                discard(8, 16),
                discard(0, 2048),
                zero(8, 16),
                punch(8, 16),
            ];
            for (client, wish) in wishes.into_iter().enumerate() {
                s.client(client, wish);
                let len = i32::try_from(wish.sectors * 512).expect("short");
                s.send(1, [plan.commit(0, 0, len)]);
                s.send(1, [plan.commit(0, 0, len)]);
            }
        })
    };
    vec![
        of("of a plain disk", 0, false),
        of("of a disk that discards", 0, true),
        of("of a disk with a cache", cache, true),
        of("of a disk with a cache and FUA", cache | sys::UBLK_ATTR_FUA, true),
        of("of a read-only disk", sys::UBLK_ATTR_READ_ONLY, true),
    ]
}
