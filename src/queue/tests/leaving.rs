//! Queues that leave, or whose device is quiesced.

use super::*;
use crate::slots::{Action, Operation as Asked, Transfer};

/// A queue whose device is quiesced leaves as soon as it was silent for a while with nothing to do,
/// and not before.
#[test]
fn draining_waits_for_requests_and_for_silence() {
    for batches in [false, true] {
        let mut house = live(DataPath::Copy, batches, 2);
        let asked = house.ask(read(at::DELAY));
        house.until_started(1);
        house.control.device(house.id).quiesce(Duration::ZERO).unwrap();
        let begun = house.now();
        // The slot that has a request is never taken away.
        assert_eq!(house.queue.drain(), Ok(Turn::Stopped));
        assert_eq!(house.answered(asked), Some(0), "batches: {batches}");
        let time = house.now() - begun;
        assert!((100 * MS..150 * MS).contains(&time), "batches: {batches}: {time:?}");
    }
}

#[test]
fn draining_waits_for_data_that_is_fetched() {
    let mut house = live(DataPath::GetData, false, 1);
    let asked = house.ask(write(at::DONE));
    house.until_fetching();
    house.control.device(house.id).quiesce(Duration::ZERO).unwrap();
    assert_eq!(house.queue.drain(), Ok(Turn::Stopped));
    assert_eq!(house.answered(asked), Some(0));
}

/// A queue that leaves answers what it has and what still comes; and goes at once when nothing can
/// come any more.
#[test]
fn whoever_leaves_answers_all() {
    for batches in [false, true] {
        let mut house = live(DataPath::Copy, batches, 2);
        let first = house.ask(read(at::PARK));
        house.until_started(1);
        let second = house.ask(read(at::DONE));
        house.queue.ring.wait(Some(house.now() + MS)).unwrap(); // it has come, and is not taken
        house.queue.fail_all(false);
        let answers = [first, second].map(|asked| house.answered(asked));
        assert_eq!(answers, [Some(libc::EIO); 2], "batches: {batches}");
        assert_eq!(house.queue.stats.errors, 2, "batches: {batches}");
        assert_eq!(house.queue.handler.started, 1, "batches: {batches}");
        // What comes later, too, for whoever stays.
        let third = house.ask(read(at::DONE));
        let begun = house.now();
        house.queue.fail_all(true);
        assert_eq!(house.answered(third), Some(libc::EIO), "batches: {batches}");
        assert_eq!(house.queue.stats.errors, 3, "batches: {batches}");
        assert_eq!(house.now() - begun, 2 * SECOND, "nobody stops the device");
    }
}

/// An answer that waits for time to pass is told at once.
#[test]
fn whoever_leaves_waits_for_no_time() {
    let mut house = live(DataPath::Copy, false, 1);
    let asked = house.ask(read(at::DONE_MEANWHILE));
    assert_eq!(house.until_answered(asked), 0, "after its operation");
    let (asked, begun) = (house.ask(read(at::DONE_MEANWHILE)), house.now());
    house.until_started(2);
    house.queue.fail_all(false);
    assert_eq!((house.answered(asked), house.now()), (Some(0), begun));
}

/// Whoever leaves resumes nobody more of those that were woken.
#[test]
fn who_was_woken_is_not_resumed_once_the_queue_leaves() {
    let mut house = live(DataPath::Copy, false, 2);
    let asked = [house.ask(read(at::PARK)), house.ask(read(at::PARK))];
    house.until_started(2);
    house.queue.handler.leaves = Some(Arc::clone(&house.queue.plan.leave));
    (0..2).for_each(|tag| house.wakers.wake(tag));
    assert_eq!(house.queue.turn(), Ok(Turn::Woken));
    assert_eq!(house.queue.handler.resumed, 1);
    house.queue.fail_all(false);
    let mut answers = asked.map(|asked| house.answered(asked));
    answers.sort_unstable();
    assert_eq!(answers, [Some(0), Some(libc::EIO)]);
}

/// A panic does not have a queue finish its batch of requests before it leaves.
#[test]
fn who_leaves_in_a_panic_starts_nobody_more() {
    for (leaves, started) in [(true, 1), (false, 2)] {
        let mut house = live(DataPath::Copy, false, 2);
        let asked = [house.ask(read(at::PANIC)), house.ask(read(at::PANIC))];
        house.queue.ring.wait(Some(house.now() + MS)).unwrap(); // both have come, and are not taken
        house.queue.handler.leaves = leaves.then(|| Arc::clone(&house.queue.plan.leave));
        let turn = if leaves { Turn::Woken } else { Turn::Live };
        assert_eq!(house.queue.turn(), Ok(turn));
        assert_eq!(house.queue.handler.started, started);
        house.queue.fail_all(false);
        assert_eq!(asked.map(|asked| house.answered(asked)), [Some(libc::EIO); 2]);
    }
}

/// A queue that drains, and is told to leave, finishes no batch of requests first.
#[test]
fn draining_ends_when_it_shall() {
    let mut house = live(DataPath::Copy, false, 2);
    let asked = [house.ask(read(at::DONE)), house.ask(read(at::DONE))];
    house.queue.ring.wait(Some(house.now() + MS)).unwrap(); // both have come, and are not taken
    house.queue.plan.leave.store(true, Ordering::Relaxed);
    assert_eq!(house.queue.drain(), Ok(Turn::Woken));
    assert_eq!(house.queue.handler.started, 0);
    house.queue.fail_all(false);
    assert_eq!(asked.map(|asked| house.answered(asked)), [Some(libc::EIO); 2]);
}

/// An answer that was not sent yet goes first, and the others wait for the end of its command.
#[test]
fn whoever_leaves_sends_one_command_after_the_other() {
    let mut house = live(DataPath::Copy, true, 2);
    let parked = house.ask(read(at::PARK));
    house.until_started(1);
    let done = house.ask(read(at::DONE));
    while house.queue.handler.started < 2 {
        assert_eq!(house.queue.turn(), Ok(Turn::Live));
    }
    house.queue.fail_all(false);
    assert_eq!([done, parked].map(|asked| house.answered(asked)), [Some(0), Some(libc::EIO)]);
}

#[test]
fn whoever_leaves_a_stopped_device_does_not_wait() {
    for batches in [false, true] {
        let mut house = live(DataPath::Copy, batches, 2);
        house.control.device(house.id).stop().unwrap();
        let begun = house.now();
        house.queue.fail_all(true);
        assert_eq!(house.now(), begun, "batches: {batches}");
    }
}

/// Data that is being fetched is waited for, then its write is answered.
#[test]
fn whoever_leaves_answers_what_is_fetched() {
    let mut house = live(DataPath::GetData, false, 1);
    let asked = house.ask(write(at::DONE));
    house.until_fetching();
    house.queue.fail_all(false);
    assert_eq!((house.answered(asked), house.queue.stats.errors), (Some(libc::EIO), 1));
}

/// Pages that are being registered are unregistered before their request is answered: without that
/// the driver would answer nobody until the ring is closed.
#[test]
fn whoever_leaves_unregisters_pages() {
    for is_sent in [false, true] {
        let mut house = live(DataPath::ZeroCopyByHand, false, 1);
        let asked = house.ask(write(at::DONE));
        house.until_registering();
        if is_sent {
            house.queue.ring.submit().unwrap();
        }
        house.queue.fail_all(false);
        assert_eq!(house.answered(asked), Some(libc::EIO), "sent: {is_sent}");
    }
}

/// A completion for a slot that is not there is borne by a queue that leaves.
#[test]
fn whoever_leaves_bears_nonsense() {
    for nobodys in [Id::Command { tag: 99 }, Id::Operation { tag: 99, index: 0 }] {
        let mut house = live(DataPath::Copy, false, 2);
        house.queue.ring.submissions().push(Sqe::cancel(0x77, nobodys.encode())).unwrap();
        house.queue.ring.submit().unwrap();
        assert!(house.queue.ring.ready() > 0);
        house.queue.fail_all(false);
        assert_eq!(house.queue.ring.ready(), 0, "it was taken");
    }
}

/// Success that was settled is told nobody when what it says was not done, as far as is known.
#[test]
fn what_ends_with_nonsense_is_no_success() {
    let mut house = live(DataPath::Copy, false, 1);
    let asked = house.ask(write(at::DONE_MEANWHILE));
    house.until_started(1);
    let mut slot = house.queue.slots.at(0);
    assert_eq!(slot.answer(), Some(Ok(())));
    // Another operation in the place of the one that it has.
    slot.forget_operation(0);
    let transfer = Transfer { file: 0, offset: 0, start: 0, len_bytes: 512 };
    let action = Action::Write { transfer, durable: false };
    assert_eq!(slot.begin(Asked::new(action, 0), 0), Ok(0));
    let ended = house.queue.complete(cqe(Id::Operation { tag: 0, index: 0 }, 513, 0));
    assert!(matches!(ended, Err(QueueError::Unexpected { .. })));
    house.queue.fail_all(false);
    assert_eq!(house.answered(asked), Some(libc::EIO));
}
