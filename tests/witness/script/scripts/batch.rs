//! Many slots with one command (protocol 6.5): its head, its elements, and the tags that it brings.

use super::super::batch::{Element, commit_all, element, fetch_tags, prepare};
use super::super::build::{Plan, SERVER, read, script, write};
use super::super::sqe::{self, NOWHERE, Sqe, Word, commit, fetch, get_data};
use super::super::{Register, Script, Step};
use ublkit::sys::ublk as sys;

/// Of slots, in a queue: a device with one is refused.
const NR: u16 = 2;

pub fn all() -> Vec<Script> {
    let of_batches = vec![
        heads("prepare", prepare),
        heads("commit", commit_all),
        fetches_refused(),
        prepared(),
        rolled_back(),
        answered(),
        answered_wrongly(),
        some_of_them(),
        no_buffers(),
        bad_buffers(),
        two_fetches(),
        stopped(),
        ended(),
        user_copy(),
        pages(),
        no_place_for_pages(),
        other_tasks(),
        recovered(),
        never_fetched("recovery", 0),
        never_fetched("reissue", sys::UBLK_F_USER_RECOVERY_REISSUE),
        never_fetched("failing", sys::UBLK_F_USER_RECOVERY_FAIL_IO),
        quiesced("recovery", 0),
        quiesced("reissue", sys::UBLK_F_USER_RECOVERY_REISSUE),
        ring_gone(),
    ];
    let of_batches = of_batches.into_iter().map(|script| script.not_on("6.12", "has no batches"));
    [of_the_other_kind()].into_iter().chain(of_batches).collect()
}

fn plan() -> Plan {
    plan_with(0)
}

/// With more features.
fn plan_with(flags: u64) -> Plan {
    Plan { depth: NR, ..Plan::with(sys::UBLK_F_BATCH_IO | flags) }
}

/// All slots, with a buffer each.
fn slots() -> Vec<Element> {
    elements(NR)
}

fn elements(count: u16) -> Vec<Element> {
    (0..count).map(|tag| element(tag, 0, 0)).collect()
}

impl Script {
    /// The server of such a device, with provided buffers.
    fn batch_server(&mut self, plan: &Plan) {
        self.opened(plan);
        self.tag_buffers(SERVER, 4);
    }

    /// A live one: its slots are offered, and their tags are asked for.
    fn batch_live(&mut self, plan: &Plan, offer: Sqe) {
        self.batch_server(plan);
        self.send(SERVER, [offer]);
        self.send(SERVER, [fetch_tags(0)]);
        self.control(sqe::start(0, Word::PidOf(SERVER)));
    }
}

fn of_the_other_kind() -> Script {
    script("batch: commands of the other kind", |s| {
        s.opened(&plan());
        for sqe in [
            fetch(0, 0).buf(0),
            commit(0, 0, 0).buf(0),
            get_data(0, 0).buf(0),
            fetch(0, 0).op(sys::UBLK_U_IO_PREP_IO_CMDS),
            fetch(0, 0).op(sys::UBLK_U_IO_COMMIT_IO_CMDS),
            fetch(0, 0).op(sys::UBLK_U_IO_FETCH_IO_CMDS),
            fetch(9, 0).op(sys::UBLK_U_IO_PREP_IO_CMDS),
        ] {
            s.send(1, [sqe]);
        }
        s.pause(10);
    })
}

/// What is wrong with a head, in the order in which the driver looks.
fn heads(name: &str, make: fn(u16, &[Element]) -> Sqe) -> Script {
    script(format!("batch: heads of {name}"), |s| {
        s.batch_server(&plan());
        let right = || make(0, &slots());
        let zone = sys::UBLK_BATCH_F_HAS_ZONE_LBA;
        let fallback = sys::UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK;
        for sqe in [
            make(9, &slots()),
            make(9, &elements(3)),
            make(0, &elements(3)),
            right().head("zones", |head| head.flags |= zone),
            right().head("zones, long", |head| {
                head.flags |= zone;
                head.elem_bytes = 24;
            }),
            right().head("fallback", |head| head.flags |= fallback),
            right().bare().head("fallback", |head| head.flags |= fallback),
            right().head("unknown flag", |head| head.flags |= 8),
            right().head("short", |head| head.elem_bytes = 8),
            right().head("long", |head| head.elem_bytes = 24),
            right().head("nothing each", |head| head.elem_bytes = 0),
            right().head("reserved", |head| head.reserved = 1),
            right().addr(NOWHERE),
            right().bare(),
            make(0, &[]),
        ] {
            s.send(1, [sqe]);
        }
    })
}

fn fetches_refused() -> Script {
    script("batch: FETCH that is refused", |s| {
        s.batch_server(&plan());
        for sqe in [
            fetch_tags(9),
            fetch_tags(0).op_flags(0),
            fetch_tags(0).flags(0),
            fetch_tags(0).head("4 each", |head| head.elem_bytes = 4),
            fetch_tags(0).head("flags", |head| head.flags = 1),
            fetch_tags(0).head("many", |head| head.nr_elem = 7),
        ] {
            s.send(1, [sqe]);
        }
    })
}

fn prepared() -> Script {
    script("batch: PREP, slot by slot", |s| {
        s.batch_server(&plan());
        let mut nowhere = element(0, 0, 0);
        nowhere.addr = Word::Number(0);
        s.send(1, [prepare(0, &[nowhere])]);
        s.send(1, [prepare(0, &[element(7, 0, 0)])]);
        s.send(1, [prepare(0, &[element(0, 5, 0)])]);
        s.send(1, [prepare(0, &[element(0, 0, 0)])]);
        s.control(sqe::start(0, Word::PidOf(1)).patient());
        s.send(1, [prepare(0, &[element(1, 0, 0)])]);
        s.send(1, [prepare(0, &[element(1, 0, 0)])]);
        s.send(1, [fetch_tags(0)]);
    })
}

fn rolled_back() -> Script {
    script("batch: a PREP that fails offers nothing", |s| {
        s.batch_server(&plan());
        s.send(1, [prepare(0, &[element(0, 0, 0), element(0, 0, 0)])]);
        s.send(1, [prepare(0, &[element(0, 0, 0), element(7, 0, 0)])]);
        s.send(1, [prepare(0, &slots())]);
        s.send(1, [prepare(0, &slots())]);
    })
}

fn answered() -> Script {
    script("batch: requests from end to end", |s| {
        s.batch_live(&plan(), prepare(0, &slots()));
        s.client(0, write(0, 8));
        s.look(0, 4096);
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.fill(0, 0xa5);
        s.client(1, read(0, 8));
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.client(2, read(8, 8));
        s.client(3, read(8, 8));
        s.send(1, [commit_all(0, &[element(0, 4096, 0), element(1, -libc::EIO, 0)])]);
    })
}

fn answered_wrongly() -> Script {
    script("batch: COMMIT, slot by slot", |s| {
        s.batch_server(&plan());
        let one = |result: i32| commit_all(0, &[element(0, result, 0)]);
        s.send(1, [one(0)]);
        s.send(1, [prepare(0, &slots())]);
        s.send(1, [fetch_tags(0)]);
        s.send(1, [one(0)]);
        s.send(1, [commit_all(0, &[element(7, 0, 0)])]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.send(1, [one(0)]);
        let mut nowhere = element(0, 4096, 0);
        nowhere.addr = Word::Number(0);
        for (client, result) in [512, 0, -libc::ENOSPC, 1 << 20].into_iter().enumerate() {
            s.client(client, read(0, 8));
            s.send(1, [commit_all(0, &[nowhere])]);
            s.send(1, [one(result)]);
        }
        s.send(1, [one(0)]);
    })
}

fn some_of_them() -> Script {
    script("batch: COMMIT as far as it can", |s| {
        s.batch_live(&plan(), prepare(0, &slots()));
        s.client(0, read(0, 8));
        s.send(1, [commit_all(0, &[element(0, 4096, 0), element(7, 0, 0)])]);
        s.client(1, read(0, 8));
        s.send(1, [commit_all(0, &[element(7, 0, 0), element(0, 4096, 0)])]);
        s.send(1, [commit_all(0, &[element(0, 4096, 0), element(0, 4096, 0)])]);
    })
}

fn no_buffers() -> Script {
    script("batch: tags without a buffer", |s| {
        s.opened(&plan());
        s.register(1, 1, Register::Group(2));
        s.send(1, [prepare(0, &slots())]);
        s.send(1, [fetch_tags(0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.send(1, [fetch_tags(0)]);
        s.step(Step::Provide { ring: 1, count: 1, len: 2 });
        s.send(1, [fetch_tags(0)]);
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.client(1, read(0, 8));
        s.send(1, [fetch_tags(0).group(5)]);
    })
}

fn bad_buffers() -> Script {
    script("batch: a buffer without room", |s| {
        s.opened(&plan());
        s.register(1, 1, Register::Group(2));
        s.send(1, [prepare(0, &slots())]);
        s.step(Step::Provide { ring: 1, count: 1, len: 1 });
        s.send(1, [fetch_tags(0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.step(Step::Provide { ring: 1, count: 1, len: 2 });
        s.send(1, [fetch_tags(0)]);
    })
}

fn two_fetches() -> Script {
    script("batch: two that bring tags", |s| {
        s.batch_live(&plan(), prepare(0, &slots()));
        s.send(1, [fetch_tags(0)]);
        for client in 0..2 {
            s.client(client, read(0, 8));
            s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        }
        s.control(sqe::stop(0));
    })
}

fn stopped() -> Script {
    script("batch: stopped with a request", |s| {
        s.batch_live(&plan(), prepare(0, &slots()));
        s.client(0, read(0, 8));
        s.control(sqe::stop(0).patient());
        s.send(1, [fetch_tags(0)]);
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.send(1, [prepare(0, &slots())]);
        s.control(sqe::info(0));
    })
}

fn ended() -> Script {
    script("batch: a server that goes with a request", |s| {
        s.batch_live(&plan(), prepare(0, &slots()));
        s.client(0, read(0, 8));
        s.server_gone(&plan());
        s.control(sqe::info(0));
    })
}

fn user_copy() -> Script {
    script("batch: user copy", |s| {
        let plan = plan_with(sys::UBLK_F_USER_COPY);
        s.batch_server(&plan);
        let position = 0x8000_0000;
        s.send(1, [prepare(0, &slots())]);
        s.send(1, [prepare(0, &slots()).bare()]);
        s.send(1, [fetch_tags(0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.step(Step::Copy { task: 1, file: 0, write: None, position, len: 4096 });
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.send(1, [commit_all(0, &[element(0, 4096, 0)]).bare()]);
        s.client(1, read(0, 8));
        s.step(Step::Copy { task: 1, file: 0, write: Some(0x77), position, len: 4096 });
        s.send(1, [commit_all(0, &[element(0, 4096, 0)]).bare()]);
    })
}

/// With pages registered by the driver, at a place of the table.
fn at(tag: u16, place: u16, result: i32) -> Element {
    Element { tag, place, result, addr: Word::Number(0) }
}

fn pages() -> Script {
    script("batch: automatic buffers", |s| {
        let plan = plan_with(sys::UBLK_F_AUTO_BUF_REG);
        s.batch_server(&plan);
        s.register(1, 1, Register::Buffers(4));
        s.send(1, [prepare(0, &slots())]);
        s.send(1, [prepare(0, &[at(0, 3, 0), at(1, 3, 0)]).bare()]);
        s.send(1, [fetch_tags(0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.send(1, [commit_all(0, &[at(0, 3, 4096)]).bare()]);
        s.client(1, read(0, 8));
        s.send(1, [commit_all(0, &[at(0, 3, 4096)]).bare()]);
    })
}

fn no_place_for_pages() -> Script {
    script("batch: automatic buffers without room", |s| {
        let plan = plan_with(sys::UBLK_F_AUTO_BUF_REG);
        s.batch_server(&plan);
        s.register(1, 1, Register::Buffers(4));
        let falls_back = |sqe: Sqe| {
            let flag = sys::UBLK_BATCH_F_AUTO_BUF_REG_FALLBACK;
            sqe.bare().head("fallback", |head| head.flags = flag)
        };
        s.send(1, [falls_back(prepare(0, &[at(0, 9, 0), at(1, 9, 0)]))]);
        s.send(1, [fetch_tags(0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, write(0, 8));
        s.send(1, [falls_back(commit_all(0, &[at(0, 9, 4096)]))]);
        s.client(1, read(0, 8));
        s.control(sqe::info(0));
    })
}

fn other_tasks() -> Script {
    script("batch: by other tasks and rings", |s| {
        s.batch_server(&plan());
        s.ring(2, 2, 8, 0);
        s.register(2, 2, Register::Group(8));
        s.step(Step::Provide { ring: 2, count: 4, len: 64 });
        s.send(2, [prepare(0, &[element(0, 0, 0)])]);
        s.send(1, [prepare(0, &[element(1, 0, 0)])]);
        s.send(2, [fetch_tags(0)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.client(0, read(0, 8));
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.client(1, write(0, 8));
        s.send(2, [commit_all(0, &[element(0, 4096, 0)])]);
        s.step(Step::CloseRing(2));
        s.pause(100);
        s.client(2, read(0, 8));
        s.send(1, [fetch_tags(0)]);
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
    })
}

fn recovered() -> Script {
    script("batch: recovery", |s| {
        let plan = plan_with(sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE);
        s.batch_live(&plan, prepare(0, &slots()));
        s.client(0, read(0, 8));
        s.server_gone(&plan);
        s.control(sqe::start_recovery(0));
        s.together("its next server", |s| {
            s.server(&plan);
            s.register(SERVER, SERVER, Register::Group(8));
            s.step(Step::Provide { ring: SERVER, count: 4, len: 64 });
        });
        s.send(1, [prepare(0, &slots())]);
        s.send(1, [fetch_tags(0)]);
        s.control(sqe::end_recovery(0, Word::PidOf(1)));
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
    })
}

/// A server that goes has the requests whose tags it did not fetch, too.
fn never_fetched(name: &str, flags: u64) -> Script {
    script(format!("batch: a tag that is not fetched, {name}"), |s| {
        let plan = plan_with(sys::UBLK_F_USER_RECOVERY | flags);
        s.batch_server(&plan);
        s.send(1, [prepare(0, &slots())]);
        s.control(sqe::start(0, Word::PidOf(SERVER)));
        s.client(0, read(0, 8));
        s.server_gone(&plan);
        s.control(sqe::info(0));
    })
}

/// Requests that come after a QUIESCE_DEV do not wait for the next server.
fn quiesced(name: &str, flags: u64) -> Script {
    script(format!("batch: quiesced, {name}"), |s| {
        let plan = plan_with(sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_QUIESCE | flags);
        s.batch_live(&plan, prepare(0, &slots()));
        s.client(0, read(0, 8));
        s.control(sqe::quiesce(0, 30).patient());
        s.client(1, read(0, 8));
        s.send(1, [commit_all(0, &[element(0, 4096, 0)])]);
        s.client(2, read(0, 8));
        s.server_gone(&plan);
        s.client(3, read(0, 8));
        s.control(sqe::info(0));
    })
}

/// They do where only the ring of a FETCH is closed.
fn ring_gone() -> Script {
    script("batch: a ring that closes, recovery", |s| {
        let plan = plan_with(sys::UBLK_F_USER_RECOVERY);
        s.batch_live(&plan, prepare(0, &slots()));
        s.client(0, read(0, 8));
        s.step(Step::CloseRing(SERVER));
        s.pause(100);
        s.client(1, read(0, 8));
        s.control(sqe::info(0));
    })
}
