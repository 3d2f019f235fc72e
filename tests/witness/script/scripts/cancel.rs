//! ASYNC_CANCEL, as far as a server that gives operations up sends it.

use super::super::build::{Plan, read, script};
use super::super::sqe::{self, Sqe, Word, cancel, nop, poll};
use super::super::{Enter, Script, Step};
use ublkit::sys::io_uring::{
    IORING_ENTER_GETEVENTS, IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_SINGLE_ISSUER,
};

/// The user data of no command.
const NOBODYS: u64 = 99;
/// The file of the event.
const EVENT: usize = 7;

pub fn all() -> Vec<Script> {
    vec![refused(), polls(0), polls(DEFERRED), slots(), done()]
}

const DEFERRED: u32 = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

/// A ring with an event, and nothing else.
fn alone(s: &mut Script, flags: u32) {
    s.ring(1, 1, 8, flags);
    s.step(Step::Event { task: 1, file: EVENT });
}

fn refused() -> Script {
    script("cancel: what is refused", |s| {
        alone(s, 0);
        let other = |sqe: Sqe, high: u32| Sqe { high, ..sqe };
        for sqe in [
            cancel(NOBODYS),
            cancel(NOBODYS).group(1),
            other(cancel(NOBODYS), 1),
            cancel(NOBODYS).addr(Word::Number(0)),
        ] {
            s.send(1, [sqe]);
        }
    })
}

fn polls(flags: u32) -> Script {
    script(format!("cancel: a poll, ring flags {flags:#x}"), |s| {
        alone(s, flags);
        s.send(1, [poll(EVENT)]);
        s.send(1, [cancel(1)]);
        s.send(1, [cancel(1)]);
        // Several of one name: which is cancelled is not said, so there is but one of each.
        s.send(1, [poll(EVENT), poll(EVENT)]);
        s.send(1, [cancel(5), cancel(4)]);
        s.send(1, [poll(EVENT), cancel(8)]);
    })
}

fn slots() -> Script {
    script("cancel: commands of slots", |s| {
        let plan = Plan { depth: 2, ..Plan::default() };
        s.opened(&plan);
        let before = 2;
        s.send(1, [plan.fetch(0, 0)]);
        s.send(1, [cancel(before + 1)]);
        s.send(1, [plan.fetch(0, 1)]);
        s.control(sqe::start(0, Word::PidOf(1)));
        s.send(1, [cancel(before + 1), cancel(before + 3)]);
        s.client(0, read(0, 8));
        s.send(1, [plan.commit(0, 0, 4096)]);
    })
}

fn done() -> Script {
    script("cancel: what is over", |s| {
        alone(s, 0);
        s.send(1, [nop()]);
        s.send(1, [cancel(1)]);
        s.send(1, [nop(), cancel(3)]);
        s.send(1, [cancel(4)]);
        s.enter(1, 1, Enter { flags: IORING_ENTER_GETEVENTS, ..Enter::default() });
    })
}
