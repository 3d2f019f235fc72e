//! Tags that are brought, of a queue that is served in batches.

use super::*;
use ublkit_sys::io_uring::IORING_CQE_F_MORE;

#[test]
fn tags_come_only_from_a_command_that_is_under_way() {
    let mut house = made(DataPath::Copy, true, 2);
    let queue = &mut house.queue;
    let device_ends = cqe(Id::Tags, -libc::ENODEV, 0);
    assert_eq!(queue.tags_came(device_ends, false), Ok(false), "not begun");
    queue.desk(0).offer(None).unwrap();
    queue.send_batch().unwrap();
    assert_eq!(queue.tags_came(device_ends, false), Ok(false), "not submitted");
    queue.ring.submit().unwrap();
    assert_eq!(queue.tags_came(device_ends, false), Ok(true));
    assert_eq!(queue.tags_came(device_ends, false), Ok(false), "it is over");
}

/// The next completion that brings tags.
fn next_tags(house: &mut House) -> Cqe {
    let mut tags = None;
    while tags.is_none() {
        house.queue.ring.wait(None).unwrap();
        while let Some(cqe) = house.queue.ring.pop().unwrap() {
            match cqe.flags & IORING_CQE_F_MORE != 0 {
                true => tags = Some(cqe),
                false => assert_eq!(house.queue.elements_ended(cqe.result), Ok(true)),
            }
        }
    }
    tags.unwrap()
}

/// A tag that cannot be keeps no other one: whoever leaves takes what comes after it.
#[test]
fn tags_come_after_one_that_cannot_be() {
    let mut house = live(DataPath::Copy, true, 2);
    house.ask(read(at::DONE));
    let first = next_tags(&mut house);
    assert!(house.queue.slots.at(0).take(u64::MAX), "so that its tag cannot come");
    assert_eq!(house.queue.tags_came(first, false), Ok(false));
    house.ask(read(at::DONE));
    let second = next_tags(&mut house);
    assert_eq!(house.queue.tags_came(second, true), Ok(true));
    assert!(house.queue.slots[1].is_servers());
}

/// Whether it was told to leave before the tags came, or leaves already.
#[test]
fn who_leaves_takes_requests_and_starts_none() {
    for (told, leaves, starts) in [(false, false, 1), (true, false, 0), (false, true, 0)] {
        let mut house = live(DataPath::Copy, true, 2);
        house.ask(read(at::DONE));
        house.queue.plan.leave.store(told, Ordering::Relaxed);
        let cqe = next_tags(&mut house);
        assert_eq!(house.queue.tags_came(cqe, leaves), Ok(true));
        assert_eq!(house.queue.handler.started, starts);
        assert_eq!(house.queue.slots[0].is_servers(), starts == 0, "it is taken");
    }
}
