//! Who owns what when.

use super::operations::{Allowed, Operations};
use super::{Action, Ended, Operation, Transfer};
use super::{DataPath, Errno, Share, Slots, Where};
use crate::memory::mapped_bytes;
use crate::region::Region;
use crate::request::{Operation as Asked, Request};
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
    slots.at(tag).begin(operation, sqe)
}

#[test]
fn a_slot_goes_round() {
    let mut slots = slots(DataPath::Copy, 2);
    assert_eq!(slots.live(), 0);
    let first = slots.at(0).lend(0);
    assert_eq!(slots.at(1).lend(1).get() - first.get(), 4096);
    assert_eq!(slots.live(), 2);
    assert_eq!(slots.at(1).came(1), None, "the kernel does not have this command yet");
    assert_eq!(slots.at(1).came(2), Some(None));
    assert_eq!(slots.at(1).came(2), None, "a second completion of one command cannot be");
    slots.at(1).set_request(read(512), Where::Buffer);
    slots.at(1).park(3);
    assert!(!slots[1].is_done(), "it waits");
    slots.at(1).unpark();
    assert!(slots[1].is_done());
    assert_eq!(slots[1].asked(), (Asked::Read, 512));
    assert_eq!(slots.at(1).data(), [0; 512]);
    slots.at(1).data().fill(7);
    slots.at(1).lend(2);
    assert!(!slots.at(1).gone(2));
    assert!(slots.at(0).gone(3) && slots.at(1).gone(3));
    assert!(!slots.at(0).gone(3));
    assert_eq!(slots.live(), 0);
}

#[test]
fn an_answer_waits_for_operations() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    let delay = Operation::new(Action::Delay(Duration::ZERO), 7);
    assert_eq!(begin(&mut slots, 0, delay, 1), Ok(0));
    assert_eq!(begin(&mut slots, 0, delay, 2), Err(Errno::EBUSY));
    slots.at(0).settle(Err(Errno::EIO));
    slots.at(0).settle(Ok(()));
    assert_eq!((slots[0].is_waiting(), slots[0].answer()), (true, Some(Err(Errno::EIO))));
    assert!(slots.at(0).ended(0, 1, 0).is_none(), "the kernel does not have it yet");
    assert!(slots.at(0).ended(1, 2, 0).is_none(), "there is no other");
    assert!(slots.at(0).ended(0, 2, 0).is_some());
    assert!(slots.at(0).ended(0, 2, 0).is_none());
    assert!(!slots[0].is_waiting());
    slots.at(0).lend(2);
    assert!(slots.at(0).take(3));
    assert_eq!(slots[0].answer(), None, "the next request has its own");
    slots.at(0).lend(3);
    assert!(slots.at(0).gone(4));
}

#[test]
#[should_panic(expected = "an operation is using the request's data")]
fn data_in_use_is_not_seen() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(write(512), Where::Buffer);
    let transfer = Transfer { file: 0, offset: 0, start: 0, len_bytes: 512 };
    slots.at(0).begin(Operation::new(Action::Read(transfer), 0), 1).unwrap();
    slots.at(0).data();
}

#[test]
fn data_is_seen_while_time_passes() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(write(512), Where::Buffer);
    slots.at(0).begin(Operation::new(Action::Delay(Duration::ZERO), 0), 1).unwrap();
    assert_eq!(slots.at(0).data().len(), 512, "a delay moves nothing");
}

/// Which part of which buffer an operation is given.
#[test]
fn parts_lie_in_their_own_buffer() {
    let mut slots = slots(DataPath::Copy, 2);
    let buffers = [slots.at(0).lend(0), slots.at(1).lend(1)].map(|address| address.get());
    for (tag, buffer) in (0..).zip(buffers) {
        assert!(slots.at(tag).take(2));
        slots.at(tag).set_request(read(4096), Where::Buffer);
        for start in [0, 1536] {
            let transfer = Transfer { file: 0, offset: 0, start, len_bytes: 2560 };
            slots.at(tag).begin(Operation::new(Action::Read(transfer), 0), 2).unwrap();
            assert_eq!(slots.at(tag).part(0, transfer).get(), buffer + u64::from(start));
            assert!(slots.at(tag).ended(0, 3, 0).is_some());
        }
    }
}

/// What is left to do about a request's data, on each path and wherever that is.
#[test]
fn data_is_fetched_and_given_where_it_must_be() {
    for path in DataPath::ALL {
        let mut slots = slots(*path, 1);
        slots.at(0).lend(0);
        assert!(slots.at(0).take(1));
        for (request, is_read) in [(read(512), true), (write(512), false)] {
            for place in [Where::Buffer, Where::Copy, Where::Kernel, Where::Given, Where::Table] {
                slots.at(0).set_request(request, place);
                let (with_kernel, is_copy) = (place == Where::Kernel, place == Where::Copy);
                let waits = *path == DataPath::GetData && with_kernel && !is_read;
                assert_eq!(slots.at(0).is_unfetched(), waits, "{path} {request:?} {place:?}");
                assert_eq!(slots[0].has_copy_to_give(), is_copy && is_read, "{place:?}");
                let shows = is_read && matches!(place, Where::Kernel | Where::Table);
                assert_eq!(slots[0].is_unfilled(), shows, "{request:?} {place:?}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "with the kernel")]
fn data_of_the_kernels_is_not_seen() {
    let mut slots = slots(DataPath::ZeroCopy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(read(512), Where::Table);
    slots.at(0).data();
}

/// Which memory a command names, if any.
#[test]
fn commands_name_what_the_path_lets_them() {
    for path in DataPath::ALL {
        let mut slots = slots(*path, 1);
        let names = path.names_memory();
        assert_eq!(slots.at(0).lend(0).get() != 0, names, "{path}");
        assert!(slots.at(0).take(1));
        slots.at(0).set_request(read(512), Where::Buffer);
        assert_eq!(slots.at(0).lend(1).get() != 0, names, "{path}");
        assert!(slots.at(0).gone(2));
    }
}

#[test]
fn data_goes_straight_to_and_from_a_region() {
    let mut slots = slots(DataPath::GetData, 1);
    let buffer = slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(write(512), Where::Kernel);
    assert_eq!(slots.at(0).range(0, 4096), Ok(4096..4608));
    assert_eq!(slots.at(0).range(0, 8192 - 512), Ok(7680..8192), "to its end");
    assert_eq!(slots.at(0).range(0, 8192 - 511), Err(Errno::EINVAL), "it ends before");
    assert_eq!(slots.at(0).range(0, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(slots.at(0).range(1, 0), Err(Errno::EINVAL), "there is no other");
    let base = slots.at(0).region(0).at(0, 0).as_ptr().expose_provenance() as u64;
    assert_eq!(slots.at(0).fetch_data(Some((0, 4096)), 5, 1).get(), base + 4096);
    assert!(slots[0].is_waiting() && slots[0].is_fetching() && !slots[0].is_servers());
    assert_eq!((slots[0].is_done(), slots.at(0).came(1)), (false, None), "its data is to come");
    assert_eq!(slots.at(0).came(2), Some(Some(5)));
    assert!(!slots[0].is_waiting() && !slots[0].is_fetching());
    slots.at(0).lend(2);
    assert!(slots.at(0).take(3));
    slots.at(0).set_request(read(512), Where::Kernel);
    assert!(slots[0].is_unfilled() && !slots[0].is_done(), "nobody has said from where");
    slots.at(0).set_place(Where::Region(0, 512));
    assert!(!slots[0].is_unfilled());
    assert_eq!(slots.at(0).lend(3).get(), base + 512);
    assert!(slots.at(0).take(4));
    slots.at(0).set_request(read(512), Where::Buffer);
    assert_eq!(slots.at(0).lend(4), buffer, "and the next one from the buffer again");
    assert!(slots.at(0).gone(5));
}

#[test]
fn data_is_copied_to_and_from_a_region() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(write(512), Where::Buffer);
    slots.at(0).data().fill(7);
    slots.at(0).store(0, 1024);
    slots.at(0).set_request(read(1024), Where::Buffer);
    slots.at(0).load(0, 768);
    let mut expected = [0; 1024];
    expected[256..768].fill(7);
    assert_eq!(slots.at(0).data(), expected);
}

#[test]
fn a_request_that_cannot_be_has_no_data() {
    let mut slots = slots(DataPath::GetData, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(read(512), Where::Buffer);
    slots.at(0).set_nonsense(Where::Kernel);
    assert_eq!((slots[0].request().data_bytes(), slots[0].place()), (0, Where::Kernel));
    assert!(slots.at(0).is_unfetched(), "it may be a write");
}

#[test]
fn pages_of_the_kernels_are_filled_before_a_success() {
    let mut slots = slots(DataPath::ZeroCopy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(read(4096), Where::Table);
    slots.at(0).filled(4095);
    assert!(slots[0].is_unfilled());
    slots.at(0).filled(1);
    assert!(!slots[0].is_unfilled());
    slots.at(0).set_request(write(4096), Where::Table);
    assert!(!slots[0].is_unfilled(), "a write shows nothing");
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
        slots.at(tag).lend(0);
        assert!(slots.at(tag).take(1));
        let index = begin(&mut slots, tag, delay, 1).unwrap();
        *place = slots.at(tag).delay(index, Duration::from_millis(3)).get();
    }
    assert_eq!([places[1] - places[0], places[2] - places[1]], [16, 16]);
    slots.check();
    // One that could not be queued never was.
    slots.at(1).forget_operation(0);
    assert_eq!((slots[1].is_waiting(), slots[2].is_waiting()), (false, true));
    slots.check();
    slots.at(1).begin(delay, 1).unwrap();
    // What an abandoned one names is the kernel's for ever.
    slots.at(1).abandon_operations();
    assert_eq!((slots[1].is_waiting(), slots.shared.operations.lent), (false, 3));
}

#[test]
fn a_request_is_parked_until_it_is_woken() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    assert_eq!(slots.at(0).unpark(), None, "it does not wait");
    for cookie in [3, 7] {
        slots.at(0).park(cookie); // the second time in place of the first
        assert!(slots[0].is_waiting());
    }
    slots.at(0).begin(Operation::new(Action::Delay(Duration::ZERO), 0), 1).unwrap();
    slots.check();
    assert_eq!(slots.at(0).unpark(), Some(7));
    assert!(slots[0].is_waiting(), "for the operation");
    slots.check();
    assert!(slots.at(0).ended(0, 2, 0).is_some());
    assert!(!slots[0].is_waiting());
}

/// What a batch's command did not take is told by the next one.
#[test]
fn a_slot_is_told_of_again_by_whom_it_was_told_of() {
    let mut slots = slots(DataPath::Copy, 1);
    assert!(!slots.at(0).lend_again(0, 1), "it is new");
    slots.at(0).lend(4);
    assert!(!slots.at(0).lend_again(3, 5), "by another command");
    assert!(slots.at(0).take(5), "and so it stays with its own");
    assert!(!slots.at(0).lend_again(4, 5), "it is the server's");
    slots.at(0).lend(5);
    assert!(slots.at(0).lend_again(5, 7));
    assert!(!slots.at(0).take(7), "the kernel does not have this command yet");
    assert!(slots.at(0).take(8));
}

#[test]
fn what_the_kernel_has_is_gone_at_once() {
    let mut slots = slots(DataPath::Copy, 4);
    for tag in 0..3 {
        slots.at(tag).lend(0);
    }
    assert!(slots.at(1).take(1));
    assert_eq!(slots.live(), 3);
    slots.all_gone();
    assert_eq!(slots.live(), 1, "the server's is left");
    assert!(slots[1].is_servers() && !slots.at(0).take(1) && !slots.at(2).gone(1));
    slots.check();
    slots.all_gone();
    assert_eq!(slots.live(), 1);
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_slot_is_not_lent_twice() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.at(0).lend(0);
    slots.at(0).lend(1);
}

#[test]
#[should_panic(expected = "assertion failed")]
fn a_slot_is_not_lent_while_it_waits() {
    let mut slots = slots(DataPath::Copy, 1);
    slots.at(0).lend(0);
    assert!(slots.at(0).take(1));
    slots.at(0).park(0);
    slots.at(0).lend(1);
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
        let mut places: Vec<u64> = share.tags(5).map(|tag| slots.at(tag).lend(0).get()).collect();
        assert_eq!(places.len(), count);
        let step = u64::from(bytes);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] == step), "{places:?}");
        let first = places.remove(0);
        let all = step * count as u64;
        assert!(mapped_bytes(first, all) == all);
        let foreign = std::panic::AssertUnwindSafe(|| slots.at(1 - thread).lend(0));
        assert!(std::panic::catch_unwind(foreign).is_err(), "another thread has that");
    }
}

#[test]
fn lent_buffers_are_leaked() {
    let mut slots = large();
    let address = slots.at(0).lend(0).get();
    drop(slots);
    assert_eq!(mapped_bytes(address, LARGE), LARGE);
}

#[test]
fn other_buffers_are_given_back() {
    let mut slots = large();
    let address = slots.at(0).lend(0).get();
    assert!(slots.at(0).gone(1));
    assert_eq!(mapped_bytes(address, LARGE), LARGE);
    drop(slots);
    assert!(mapped_bytes(address, LARGE) < LARGE / 2);
}

#[test]
fn buffers_of_operations_are_leaked() {
    let mut slots = Slots::new(DataPath::Copy, 1, Share::ALL, 1 << 30, ONE, Vec::new()).unwrap();
    let address = slots.at(0).lend(0).get();
    assert!(slots.at(0).take(1));
    slots.at(0).begin(Operation::new(Action::Delay(Duration::ZERO), 0), 1).unwrap();
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
        assert!(!ends || operations.completed(0, index, 1, 0).is_some());
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
    let old = slots.at(0).lend(0).get();
    assert!(slots.at(0).take(1));
    slots.at(0).set_request(read(4096), Where::Buffer);
    let transfer = Transfer { file: 0, offset: 0, start: 0, len_bytes: 512 };
    for sqe in 1..3 {
        slots.at(0).begin(Operation::new(Action::Read(transfer), 0), sqe).unwrap();
    }
    assert_eq!(slots.under_way(0).collect::<Vec<_>>(), [0, 1]);
    slots.at(0).leave_behind().unwrap();
    assert_eq!((slots[0].is_waiting(), slots.shared.spare.len()), (false, 0));
    assert_eq!(slots.at(0).data().len(), 4096, "nobody else uses it");
    let fresh = slots.at(0).lend(3).get();
    assert!(slots.at(0).take(4));
    assert!(fresh.abs_diff(old) >= 4096);
    assert_eq!(slots.at(0).begin(Operation::new(Action::Read(transfer), 0), 4), Ok(2));
    assert_eq!(slots.at(0).part(2, transfer).get(), fresh);
    assert!(matches!(slots.at(0).ended(2, 9, 0), Some(Ended::Request { .. })));
    for (index, spare) in [(0, 0), (1, 1)] {
        slots.check();
        assert_eq!(slots.under_way(0).count(), 0, "not the request's");
        assert!(matches!(slots.at(0).ended(index, 9, 0), Some(Ended::LeftBehind(_))), "{index}");
        assert_eq!(slots.shared.spare.len(), spare, "its last user has ended");
    }
    slots.at(1).lend(4);
    assert!(slots.at(1).take(5));
    slots.at(1).leave_behind().unwrap();
    assert_eq!(slots.at(1).lend(5).get(), old, "it is spare again");
    slots.check();
}
