//! Who owns what when.

use super::operations::{Action, Allowed, Ended, Operation, Operations, Transfer};
use super::{DataPath, Errno, Request, Share, Slots, Where};
use crate::memory::mapped_bytes;
use crate::region::Region;
use crate::request::Operation as Asked;
use core::time::Duration;
use std::sync::Arc;

const ONE: Allowed = Allowed { each: 1, places: 1 };

fn slots(path: DataPath, depth: u16) -> Slots {
    Slots::new(path, depth, Share::ALL, 4096, ONE, vec![Arc::new(Region::new(8192).unwrap())])
        .unwrap()
}

fn read(len_bytes: u64) -> Request {
    Request { operation: Asked::Read, offset: 0, len_bytes }
}

fn write(len_bytes: u64) -> Request {
    Request { operation: Asked::Write { fua: false }, offset: 0, len_bytes }
}

fn begin(slots: &mut Slots, tag: u16, operation: Operation, sqe: u64) -> Result<u8, Errno> {
    slots.begin(tag, operation, sqe).map(|begun| begun.index)
}

#[test]
fn a_slot_goes_round() {
    let mut slots = slots(DataPath::Copy, 2);
    assert_eq!(slots.live(), 0);
    let first = slots.lend(0, 0);
    assert_eq!(slots.lend(1, 1).get() - first.get(), 4096);
    assert_eq!(slots.live(), 2);
    assert_eq!(slots.came(1, 1), None, "the kernel does not have this command yet");
    assert_eq!(slots.came(1, 2), Some(None));
    assert_eq!(slots.came(1, 2), None, "a second completion of one command cannot be");
    slots.set_request(1, read(512), Where::Buffer);
    slots.park(1, 3);
    assert_eq!(slots.done(1), None, "it waits");
    slots.unpark(1);
    assert_eq!(slots.done(1), Some((Asked::Read, 512)));
    assert_eq!(slots.data(1), [0; 512]);
    slots.data(1).fill(7);
    slots.lend(1, 2);
    assert!(!slots.gone(1, 2));
    assert!(slots.gone(0, 3) && slots.gone(1, 3));
    assert!(!slots.gone(0, 3));
    assert_eq!(slots.live(), 0);
}

#[test]
fn an_answer_waits_for_operations() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    let delay = Operation::new(Action::Delay(Duration::ZERO), 7);
    assert_eq!(begin(&mut slots, 0, delay, 1), Ok(0));
    assert_eq!(begin(&mut slots, 0, delay, 2), Err(Errno::EBUSY));
    slots.settle(0, Err(Errno::EIO));
    slots.settle(0, Ok(()));
    assert_eq!((slots.is_waiting(0), slots.answer(0)), (true, Some(Err(Errno::EIO))));
    assert!(slots.end_operation(0, 0, 1).is_none(), "the kernel does not have it yet");
    assert!(slots.end_operation(0, 1, 2).is_none(), "there is no other");
    assert!(slots.end_operation(0, 0, 2).is_some());
    assert!(slots.end_operation(0, 0, 2).is_none());
    assert!(!slots.is_waiting(0));
    slots.lend(0, 2);
    assert!(slots.take(0, 3));
    assert_eq!(slots.answer(0), None, "the next request has its own");
    slots.lend(0, 3);
    assert!(slots.gone(0, 4));
}

#[test]
#[should_panic(expected = "an operation is using the request's data")]
fn data_in_use_is_not_seen() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.set_request(0, write(512), Where::Buffer);
    let transfer = Transfer { file: 0, offset: 0, start: 0, len_bytes: 512 };
    slots.begin(0, Operation::new(Action::Read(transfer), 0), 1).unwrap();
    slots.data(0);
}

#[test]
fn data_is_seen_while_time_passes() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.set_request(0, write(512), Where::Buffer);
    slots.begin(0, Operation::new(Action::Delay(Duration::ZERO), 0), 1).unwrap();
    assert_eq!(slots.data(0).len(), 512, "a delay moves nothing");
}

/// Which part of which buffer an operation is given.
#[test]
fn parts_lie_in_their_own_buffer() {
    let mut slots = slots(DataPath::Copy, 2);
    let buffers = [slots.lend(0, 0), slots.lend(1, 1)].map(|address| address.get());
    for (tag, buffer) in (0..).zip(buffers) {
        assert!(slots.take(tag, 2));
        slots.set_request(tag, read(4096), Where::Buffer);
        for start in [0, 1536] {
            let transfer = Transfer { file: 0, offset: 0, start, len_bytes: 2560 };
            let begun = slots.begin(tag, Operation::new(Action::Read(transfer), 0), 2).unwrap();
            assert_eq!(begun.part.get(), buffer + u64::from(start));
            assert!(slots.end_operation(tag, 0, 3).is_some());
        }
    }
}

/// What is left to do about a request's data, on each path and wherever that is.
#[test]
fn data_is_fetched_and_given_where_it_must_be() {
    for path in DataPath::ALL {
        let mut slots = slots(*path, 1);
        slots.lend(0, 0);
        assert!(slots.take(0, 1));
        for (request, is_read) in [(read(512), true), (write(512), false)] {
            for place in [Where::Buffer, Where::Copy, Where::Kernel, Where::Given, Where::Table] {
                slots.set_request(0, request, place);
                let (with_kernel, is_copy) = (place == Where::Kernel, place == Where::Copy);
                let waits = *path == DataPath::GetData && with_kernel && !is_read;
                assert_eq!(slots.is_unfetched(0), waits, "{path} {request:?} {place:?}");
                assert_eq!(slots.has_copy_to_give(0), is_copy && is_read, "{place:?}");
                let shows = is_read && matches!(place, Where::Kernel | Where::Table);
                assert_eq!(slots.is_unfilled(0), shows, "{request:?} {place:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "with the kernel")]
fn data_of_the_kernels_is_not_seen() {
    let mut slots = slots(DataPath::ZeroCopy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.set_request(0, read(512), Where::Table);
    slots.data(0);
}

/// Which memory a command names, if any.
#[test]
fn commands_name_what_the_path_lets_them() {
    for path in DataPath::ALL {
        let mut slots = slots(*path, 1);
        let names = path.names_memory();
        assert_eq!(slots.lend(0, 0).get() != 0, names, "{path}");
        assert!(slots.take(0, 1));
        slots.set_request(0, read(512), Where::Buffer);
        assert_eq!(slots.lend(0, 1).get() != 0, names, "{path}");
        assert!(slots.gone(0, 2));
    }
}

#[test]
fn data_goes_straight_to_and_from_a_region() {
    let mut slots = slots(DataPath::GetData, 1);
    let buffer = slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.set_request(0, write(512), Where::Kernel);
    assert_eq!(slots.range(0, 0, 4096), Ok(4096..4608));
    assert_eq!(slots.range(0, 0, 8192 - 512), Ok(7680..8192), "to its end");
    assert_eq!(slots.range(0, 0, 8192 - 511), Err(Errno::EINVAL), "it ends before");
    assert_eq!(slots.range(0, 0, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(slots.range(0, 1, 0), Err(Errno::EINVAL), "there is no other");
    let base = slots.region(0).at(0, 0).as_ptr().expose_provenance() as u64;
    assert_eq!(slots.fetch_data(0, Some((0, 4096)), 5, 1).get(), base + 4096);
    assert!(slots.is_waiting(0) && slots.is_fetching(0) && !slots.is_servers(0));
    assert_eq!((slots.done(0), slots.came(0, 1)), (None, None), "its data is to come");
    assert_eq!(slots.came(0, 2), Some(Some(5)));
    assert!(!slots.is_waiting(0) && !slots.is_fetching(0));
    slots.lend(0, 2);
    assert!(slots.take(0, 3));
    slots.set_request(0, read(512), Where::Kernel);
    assert!(slots.is_unfilled(0) && slots.done(0).is_none(), "nobody has said from where");
    slots.set_place(0, Where::Region(0, 512));
    assert!(!slots.is_unfilled(0));
    assert_eq!(slots.lend(0, 3).get(), base + 512);
    assert!(slots.take(0, 4));
    slots.set_request(0, read(512), Where::Buffer);
    assert_eq!(slots.lend(0, 4), buffer, "and the next one from the buffer again");
    assert!(slots.gone(0, 5));
}

#[test]
fn data_is_copied_to_and_from_a_region() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.set_request(0, write(512), Where::Buffer);
    slots.data(0).fill(7);
    slots.store(0, 0, 1024);
    slots.set_request(0, read(1024), Where::Buffer);
    slots.load(0, 0, 768);
    let mut expected = [0; 1024];
    expected[256..768].fill(7);
    assert_eq!(slots.data(0), expected);
}

#[test]
fn a_request_that_cannot_be_has_no_data() {
    let mut slots = slots(DataPath::GetData, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.set_request(0, read(512), Where::Buffer);
    slots.set_nonsense(0, Where::Kernel);
    assert_eq!((slots.request(0).data_bytes(), slots.place(0)), (0, Where::Kernel));
    assert!(slots.is_unfetched(0), "it may be a write");
}

#[test]
fn pages_of_the_kernels_are_filled_before_a_success() {
    let mut slots = slots(DataPath::ZeroCopy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.set_request(0, read(4096), Where::Table);
    slots.filled(0, 4095);
    assert!(slots.is_unfilled(0));
    slots.filled(0, 1);
    assert!(!slots.is_unfilled(0));
    slots.set_request(0, write(4096), Where::Table);
    assert!(!slots.is_unfilled(0), "a write shows nothing");
}

#[test]
fn tags_below_the_depth_exist() {
    let slots = slots(DataPath::Copy, 2);
    assert_eq!([0, 1, 2, u16::MAX].map(|tag| slots.exists(tag)), [true, true, false, false]);
}

#[test]
fn each_delay_has_a_time_of_its_own() {
    let mut slots = slots(DataPath::Copy, 3);
    let delay = Operation::new(Action::Delay(Duration::ZERO), 0);
    let mut places = [0; 3];
    for (tag, place) in (0..).zip(&mut places) {
        slots.lend(tag, 0);
        assert!(slots.take(tag, 1));
        let index = begin(&mut slots, tag, delay, 1).unwrap();
        *place = slots.delay(tag, index, Duration::from_millis(3)).get();
    }
    assert_eq!([places[1] - places[0], places[2] - places[1]], [16, 16]);
    slots.check();
    // One that could not be queued never was.
    slots.drop_unqueued(1, 0);
    assert_eq!((slots.is_waiting(1), slots.is_waiting(2)), (false, true));
    slots.drop_unqueued(1, 0);
    slots.check();
    slots.begin(1, delay, 1).unwrap();
    // What an abandoned one names is the kernel's for ever.
    slots.abandon_operations(1);
    assert_eq!((slots.is_waiting(1), slots.operations.lent), (false, 3));
}

#[test]
fn a_request_is_parked_until_it_is_woken() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    assert_eq!(slots.unpark(0), None, "it does not wait");
    for cookie in [3, 7] {
        slots.park(0, cookie); // the second time in place of the first
        assert!(slots.is_waiting(0));
    }
    slots.begin(0, Operation::new(Action::Delay(Duration::ZERO), 0), 1).unwrap();
    slots.check();
    assert_eq!(slots.unpark(0), Some(7));
    assert!(slots.is_waiting(0), "for the operation");
    slots.check();
    assert!(slots.end_operation(0, 0, 2).is_some());
    assert!(!slots.is_waiting(0));
}

/// What a batch's command did not take is told by the next one.
#[test]
fn a_slot_is_told_of_again_by_whom_it_was_told_of() {
    let mut slots = slots(DataPath::Copy, 1);
    assert!(!slots.lend_again(0, 0, 1), "it is new");
    slots.lend(0, 4);
    assert!(!slots.lend_again(0, 3, 5), "by another command");
    assert!(slots.take(0, 5), "and so it stays with its own");
    assert!(!slots.lend_again(0, 4, 5), "it is the server's");
    slots.lend(0, 5);
    assert!(slots.lend_again(0, 5, 7));
    assert!(!slots.take(0, 7), "the kernel does not have this command yet");
    assert!(slots.take(0, 8));
}

#[test]
fn what_the_kernel_has_is_gone_at_once() {
    let mut slots = slots(DataPath::Copy, 4);
    for tag in 0..3 {
        slots.lend(tag, 0);
    }
    assert!(slots.take(1, 1));
    assert_eq!(slots.live(), 3);
    slots.all_gone();
    assert_eq!(slots.live(), 1, "the server's is left");
    assert!(slots.is_servers(1) && !slots.take(0, 1) && !slots.gone(2, 1));
    slots.check();
    slots.all_gone();
    assert_eq!(slots.live(), 1);
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_slot_is_not_lent_twice() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.lend(0, 0);
    slots.lend(0, 1);
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_slot_is_not_lent_while_it_waits() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.lend(0, 0);
    assert!(slots.take(0, 1));
    slots.park(0, 0);
    slots.lend(0, 1);
}

/// So large that what other threads map meanwhile does not fill its place.
const LARGE: u64 = 1 << 30;

fn large() -> Slots {
    Slots::new(DataPath::Copy, 1, Share::ALL, 1 << 30, Allowed { each: 0, places: 0 }, Vec::new())
        .unwrap()
}

/// A thread has buffers for its own slots alone, one for each, and cannot have another's.
#[test]
fn each_of_a_share_has_a_buffer() {
    for (thread, count) in [(0, 3), (1, 2)] {
        let share = Share { thread, threads: 2 };
        let none = Allowed { each: 0, places: 0 };
        let bytes = 1 << 20;
        let mut slots = Slots::new(DataPath::Copy, 5, share, bytes, none, Vec::new()).unwrap();
        let mut places: Vec<u64> = share.tags(5).map(|tag| slots.lend(tag, 0).get()).collect();
        assert_eq!(places.len(), count);
        let step = u64::from(bytes);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] == step), "{places:?}");
        let first = places.remove(0);
        let all = step * count as u64;
        assert!(mapped_bytes(first, all) == all);
        let foreign = std::panic::AssertUnwindSafe(|| slots.lend(1 - thread, 0));
        assert!(std::panic::catch_unwind(foreign).is_err(), "another thread has that");
    }
}

#[test]
fn lent_buffers_are_leaked() {
    let mut slots = large();
    let address = slots.lend(0, 0).get();
    drop(slots);
    assert_eq!(mapped_bytes(address, LARGE), LARGE);
}

#[test]
fn other_buffers_are_given_back() {
    let mut slots = large();
    let address = slots.lend(0, 0).get();
    assert!(slots.gone(0, 1));
    assert_eq!(mapped_bytes(address, LARGE), LARGE);
    drop(slots);
    assert!(mapped_bytes(address, LARGE) < LARGE / 2);
}

#[test]
fn buffers_of_operations_are_leaked() {
    let mut slots = Slots::new(DataPath::Copy, 1, Share::ALL, 1 << 30, ONE, Vec::new()).unwrap();
    let address = slots.lend(0, 0).get();
    assert!(slots.take(0, 1));
    slots.begin(0, Operation::new(Action::Delay(Duration::ZERO), 0), 1).unwrap();
    drop(slots);
    assert_eq!(mapped_bytes(address, LARGE), LARGE);
}

/// The memory of an operation's time stays while it is under way, and no longer.
#[test]
fn times_are_given_back_when_nothing_is_under_way() {
    let len_bytes = 65535 * 16 * 16;
    for ends in [true, false] {
        let mut operations = Operations::new(u16::MAX, Allowed { each: 16, places: 16 }).unwrap();
        let delay = Operation::new(Action::Delay(Duration::ZERO), 0);
        let index = operations.begin(0, delay, 0, 0).unwrap();
        let address = operations.time(0, index, Duration::ZERO).get();
        assert_eq!(mapped_bytes(address, len_bytes), len_bytes);
        assert!(!ends || operations.end(0, index, 1, |it| *it).is_some());
        drop(operations);
        let left_bytes = mapped_bytes(address, len_bytes);
        assert!(if ends { left_bytes < len_bytes / 2 } else { left_bytes == len_bytes });
    }
}

/// A request that goes on without its operations has other memory, and the old is used again once
/// they have ended, not before.
#[test]
fn what_is_left_behind_keeps_its_memory() {
    let allowed = Allowed { each: 2, places: 4 };
    let mut slots = Slots::new(DataPath::Copy, 2, Share::ALL, 4096, allowed, Vec::new()).unwrap();
    let old = slots.lend(0, 0).get();
    assert!(slots.take(0, 1));
    slots.set_request(0, read(4096), Where::Buffer);
    let transfer = Transfer { file: 0, offset: 0, start: 0, len_bytes: 512 };
    for sqe in 1..3 {
        slots.begin(0, Operation::new(Action::Read(transfer), 0), sqe).unwrap();
    }
    assert_eq!(slots.under_way(0).collect::<Vec<_>>(), [0, 1]);
    slots.leave_behind(0).unwrap();
    assert_eq!((slots.is_waiting(0), slots.spare.len()), (false, 0));
    assert_eq!(slots.data(0).len(), 4096, "nobody else uses it");
    let fresh = slots.lend(0, 3).get();
    assert!(slots.take(0, 4));
    assert!(fresh.abs_diff(old) >= 4096);
    let begun = slots.begin(0, Operation::new(Action::Read(transfer), 0), 4).unwrap();
    assert_eq!((begun.index, begun.part.get()), (2, fresh));
    assert!(matches!(slots.end_operation(0, 2, 9), Some(Ended::Request(_))));
    for (index, spare) in [(0, 0), (1, 1)] {
        slots.check();
        assert_eq!(slots.under_way(0).count(), 0, "not the request's");
        assert!(matches!(slots.end_operation(0, index, 9), Some(Ended::LeftBehind)), "{index}");
        assert_eq!(slots.spare.len(), spare, "its last user has ended");
    }
    slots.lend(1, 4);
    assert!(slots.take(1, 5));
    slots.leave_behind(1).unwrap();
    assert_eq!(slots.lend(1, 5).get(), old, "it is spare again");
    slots.check();
}
