//! Buffers that a server shares with clients: REG_BUF and UNREG_BUF.

use super::super::Script;
use super::super::build::{MAX_IO_BYTES, PAGE_BYTES, Plan, read, script};
use super::super::sqe::{self, ALIGNED, NOWHERE, Payload, Sqe, Word};
use ublkit::sys::ublk as sys;

/// Why the newer scripts are not run there: the recorded one shows all that there is.
const LACKS: &str = "it lacks SHMEM_ZC";

const READ_ONLY: u64 = sys::UBLK_SHMEM_BUF_READ_ONLY as u64;
const PAGE: u64 = PAGE_BYTES as u64;

pub fn all() -> Vec<Script> {
    let mut all = vec![wrong()];
    let newer = [indices(), sizes(), live()].into_iter();
    let newer = newer.chain([0, sys::UBLK_F_USER_RECOVERY].map(server_goes));
    all.extend(newer.map(|script| script.not_on("6.12", LACKS)));
    all
}

/// Registers so much of a memory: from where on, how long, with which flags.
fn put(device: usize, memory: usize, [at, len, flags]: [u64; 3]) -> Sqe {
    let text = format!("of memory {memory}: {len} bytes at {at}, flags {flags:#x}");
    let payload = Payload::Share(ALIGNED + memory, [at, len, flags]);
    sqe::info(device).op(sys::UBLK_U_CMD_REG_BUF).payload(payload, &text).size(24)
}

fn take(device: usize, index: u64) -> Sqe {
    sqe::start(device, Word::Number(index)).op(sys::UBLK_U_CMD_UNREG_BUF)
}

fn wrong() -> Script {
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

fn indices() -> Script {
    script("shared memory: indices and pages", |s| {
        s.added(&Plan::with(sys::UBLK_F_SHMEM_ZC));
        s.control(put(0, 0, [0, PAGE, 0]));
        s.control(put(0, 1, [0, 2 * PAGE, READ_ONLY]));
        for (memory, part) in [
            (0, [0, PAGE, 0]),
            (0, [0, PAGE, READ_ONLY]),
            (1, [PAGE, PAGE, 0]),
            (0, [0, 2 * PAGE, 0]),
            (0, [PAGE, PAGE, 0]),
        ] {
            s.control(put(0, memory, part));
        }
        for index in [0, 0, 1 << 32, u64::MAX] {
            s.control(take(0, index));
        }
        // Which one the two large numbers were taken for, if for any.
        s.control(put(0, 2, [0, PAGE, 0]));
        s.control(take(0, 1 << 32));
        s.control(put(0, 3, [0, PAGE, 0]));
        s.control(sqe::add(1, Plan::with(sys::UBLK_F_SHMEM_ZC).info()));
        s.control(put(1, 2, [0, PAGE, 0]));
    })
}

fn sizes() -> Script {
    script("shared memory: the struct's size, and a buffer's", |s| {
        s.added(&Plan::with(sys::UBLK_F_SHMEM_ZC));
        for size in [0, 8, 15] {
            s.control(put(0, 0, [0, PAGE, 2]).size(size));
        }
        s.control(put(0, 0, [0, PAGE, 2]).size(16));
        s.control(put(0, 1, [0, PAGE, 0]).size(200));
        let null = sqe::info(0).op(sys::UBLK_U_CMD_REG_BUF).payload(Payload::Nothing, "null");
        s.control(null);
        let whole = |words: [u64; 3], text: &str| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let command = sqe::info(0).op(sys::UBLK_U_CMD_REG_BUF);
            command.payload(Payload::Bytes(bytes), text).size(24)
        };
        s.control(whole([PAGE, 4 << 30, 0], "the longest, unmapped"));
        s.control(whole([PAGE, (4 << 30) + PAGE, 0], "a page longer"));
        s.control(whole([0u64.wrapping_sub(PAGE), PAGE, 0], "the last page"));
        s.control(whole([0u64.wrapping_sub(PAGE), 2 * PAGE, 0], "beyond the last page"));
    })
}

/// Both commands wait for requests in flight, and others for them.
fn live() -> Script {
    script("shared memory: of a live disk", |s| {
        let plan = Plan { depth: 2, ..Plan::with(sys::UBLK_F_SHMEM_ZC) };
        s.live(&plan);
        s.control(put(0, 0, [0, PAGE, 0]));
        s.client(0, read(0, 8));
        s.control(put(0, 1, [0, PAGE, 0]).patient());
        s.client(1, read(8, 8));
        s.control(sqe::get_params(0).patient());
        s.control(sqe::info(0));
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.control(take(0, 0).patient());
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.client(2, read(16, 8));
        s.control(take(0, 7).patient());
        s.control(take(0, 65_536));
        s.control(put(0, 1, [0, PAGE + 1, 0]));
        s.send(1, [plan.commit(0, 0, 4096)]);
        s.control(take(0, 1));
    })
}

/// While a buffer waits for the request that it has.
fn server_goes(flags: u64) -> Script {
    let next = if flags == 0 { "none follows" } else { "another one follows" };
    script(format!("shared memory: a server goes, {next}"), |s| {
        let plan = Plan::with(sys::UBLK_F_SHMEM_ZC | flags);
        s.live(&plan);
        s.control(put(0, 0, [0, PAGE, 0]));
        s.client(0, read(0, MAX_IO_BYTES / 512));
        s.control(put(0, 1, [0, PAGE, 0]).patient());
        s.server_gone(&plan);
        s.control(sqe::info(0));
        s.control(put(0, 1, [0, PAGE, 0]));
        s.control(take(0, 0));
        if flags != 0 {
            s.control(sqe::start_recovery(0));
            s.server(&plan);
            s.fetched(&plan);
            s.control(sqe::end_recovery(0, Word::PidOf(1)));
            s.control(put(0, 2, [0, PAGE, 0]));
            s.control(take(0, 1));
        }
    })
}
