//! Writes whose data finds no memory where it is to go: the driver takes the request back, lets it
//! wait, and sends it again.

use super::*;
use crate::region::Region;

/// A device of so many slots, whose driver never has room.
fn narrow_for(depth: u16, needs: Needs) -> House {
    let faults = Faults { no_room: 255, ..Faults::default() };
    let sim = Sim::new(Profile::NEWEST, Choices::seed(1), faults);
    let (path, batches, spin) = (DataPath::GetData, false, Duration::ZERO);
    made_on(sim, Wish { path, batches, depth, needs, spin }).live()
}

fn narrow(depth: u16) -> House {
    narrow_for(depth, Needs { wakers: true, ..Needs::default() })
}

/// The same for a handler that says where in its region data goes.
fn narrow_region() -> House {
    let regions = vec![Arc::new(Region::new(4096).unwrap())];
    let access = Access::Regions;
    narrow_for(1, Needs { operations: 1, wakers: true, access, regions, ..Needs::default() })
}

impl House {
    /// Turns, and lets the time pass that the driver waits.
    fn try_again(&mut self) {
        self.turn();
        self.queue.ring.kernel().sleep(3 * MS);
    }

    /// Whether a write was given up, and its data goes where nobody looks.
    fn gives_up(&self) -> bool {
        let slots = &self.queue.slots;
        (0..slots.depth()).any(|tag| slots[tag].place() == Where::Waste)
    }

    /// Turns until some slot's data is being fetched.
    fn until_fetching_any(&mut self) {
        while !(0..self.queue.slots.depth()).any(|tag| self.queue.slots[tag].is_fetching()) {
            assert_eq!(self.queue.turn(), Ok(Turn::Live));
        }
    }

    fn has_room(&self) {
        self.sim.set_faults(Faults::default());
    }
}

/// Each is tried for half a second.
#[test]
fn data_for_which_there_is_no_room_costs_an_error() {
    for depth in [1, 4] {
        let mut house = narrow(depth);
        let asked: Vec<u64> = (8..12).map(|block| house.ask(write(block * 4096))).collect();
        let begun = house.now();
        // The waste has room.
        while !house.gives_up() {
            house.try_again();
            assert!(house.now() - begun < SECOND, "it is tried for ever");
        }
        assert!(house.now() - begun >= 500 * MS, "it is hardly tried");
        house.has_room();
        let mut answers = Vec::new();
        while answers.len() < asked.len() {
            house.turn();
            answers.extend(asked.iter().filter_map(|asked| house.answered(*asked)));
        }
        let failed = answers.iter().filter(|errno| **errno == libc::EIO).count();
        assert!(failed > 0 && failed + house.queue.handler.started as usize == 4, "{answers:?}");
        house.queue.ring.kernel().sleep(SECOND);
        let asked = house.ask(write(at::DONE));
        assert_eq!(house.until_answered(asked), 0);
        assert!(!house.queue.room.is_short(), "what is past costs nothing more");
        assert_eq!(house.sim.mistakes(), Vec::<String>::new());
    }
}

/// A write that fails is given up though its slots have reads to serve meanwhile.
#[test]
fn a_write_without_room_ends_among_reads() {
    let mut house = narrow(4);
    let asked = house.ask(write(at::DONE));
    house.until_fetching_any();
    let begun = house.now();
    while !house.gives_up() {
        (0..3).for_each(|_| _ = house.ask(read(at::DONE)));
        house.try_again();
        assert!(house.now() - begun < SECOND, "it is tried for ever");
    }
    house.has_room();
    assert_eq!(house.until_answered(asked), libc::EIO);
}

/// A write that comes while another one fails has not failed itself.
#[test]
fn each_write_fails_for_itself() {
    let mut house = narrow(2);
    house.ask(write(at::DONE));
    house.until_fetching_any();
    house.try_again();
    house.until_fetching_any();
    assert!(house.queue.room.is_short());
    let place = 8 * 4096;
    house.ask(write(place));
    let other =
        |slots: &Slots, tag| slots[tag].is_fetching() && slots[tag].request().offset == place;
    let tag = loop {
        assert_eq!(house.queue.turn(), Ok(Turn::Live));
        let slots = &house.queue.slots;
        if let Some(tag) = (0..2).find(|tag| other(slots, *tag)) {
            break tag;
        }
        house.queue.ring.kernel().sleep(3 * MS);
    };
    assert!(house.queue.slots[1 - tag].is_fetching(), "the first one's is under way, too");
    let (request, later) = (house.queue.slots[tag].request(), house.now() + SECOND);
    assert!(!house.queue.room.gives_up(&request, later));
    let first = house.queue.slots[1 - tag].request();
    assert!(house.queue.room.gives_up(&first, later), "the control");
}

/// Whoever writes the same block again and again fails only if one of the writes does.
#[test]
fn writes_that_succeed_late_are_no_failures() {
    let mut house = narrow(1);
    for _ in 0..100 {
        house.sim.set_faults(Faults { no_room: 255, ..Faults::default() });
        let asked = house.ask(write(at::DONE));
        house.until_fetching();
        house.try_again();
        house.try_again();
        house.has_room();
        let answer = loop {
            if let Some(answer) = house.answered(asked) {
                break answer;
            }
            house.try_again();
        };
        assert_eq!(answer, 0, "after {:?}", house.now());
    }
}

/// Room is found after a while.
#[test]
fn a_moment_without_room_costs_nothing() {
    let mut house = narrow(1);
    let asked = house.ask(write(at::DONE));
    house.until_fetching();
    (0..50).for_each(|_| house.try_again());
    house.has_room();
    assert_eq!((house.until_answered(asked), house.queue.handler.started), (0, 1));
}

/// Meanwhile the slot gets another request.
#[test]
fn a_slot_has_another_request() {
    for other in [read(at::DONE), write(at::PARKED_AND_DONE)] {
        let mut house = narrow(1);
        let first = house.ask(write(at::DONE));
        house.until_fetching();
        let second = house.ask(other);
        house.turn();
        house.turn();
        house.has_room();
        let answers = [second, first].map(|asked| house.until_answered(asked));
        assert_eq!((answers, house.queue.handler.started), ([0; 2], 2));
        assert_eq!(house.sim.mistakes(), Vec::<String>::new());
    }
}

/// What a slot has instead has all its time, though the handler took some for what was before.
#[test]
fn who_comes_anew_has_all_its_time() {
    let mut house = narrow_region();
    house.ask(write(at::STORE));
    house.until_fetching();
    let other = house.ask(read(at::PARK));
    house.until_started(2);
    assert_eq!(house.queue.handler.resumed, 2, "it was told, and waited");
    let begun = house.now();
    assert_eq!(house.until_answered(other), libc::ETIMEDOUT);
    assert_eq!(house.now() - begun, TIMEOUT);
}

/// A handler that waits for the data is told, and the request begins when it has come to its end,
/// as if there had been no other.
#[test]
fn a_handler_is_told_and_starts_anew() {
    let mut house = narrow_region();
    let asked = house.ask(write(at::STORE));
    house.until_fetching();
    house.turn();
    while house.queue.handler.resumed == 0 {
        house.turn();
    }
    house.has_room();
    assert_eq!(house.queue.handler.started, 1);
    assert_eq!(house.until_answered(asked), 0);
    let handler = &house.queue.handler;
    assert_eq!((handler.started, house.queue.stats.timeouts), (2, 0));
    assert_eq!((house.queue.stats.writes, house.queue.stats.errors), (1, 0));
}

/// Whoever leaves enters the handler no more, and nobody is told what another was to be told.
#[test]
fn whoever_leaves_answers_what_came_anew() {
    let mut house = narrow_region();
    let asked = house.ask(write(at::STORE));
    house.until_fetching();
    while house.queue.handler.resumed == 0 {
        house.turn();
    }
    house.has_room();
    house.queue.fail_all(false);
    assert_eq!((house.answered(asked), house.queue.handler.started), (Some(libc::EIO), 1));

    let mut house = narrow(1);
    let first = house.ask(write(at::DONE));
    house.until_fetching();
    house.queue.slots.at(0).settle(Ok(()));
    let second = house.ask(read(at::DONE));
    house.queue.ring.wait(Some(house.now() + MS)).unwrap(); // it has come, and is not taken
    house.has_room();
    house.queue.fail_all(true);
    assert_eq!(house.answered(second), Some(libc::EIO));
    assert_eq!(house.answered(first), Some(libc::EIO));
    assert_eq!((house.queue.stats.errors, house.queue.stats.writes), (2, 0));
}

/// Its slot is taken away while the write waits for room: nobody waits for that.
#[test]
fn a_quiesced_device_does_not_wait_for_room() {
    let mut house = narrow(1);
    house.ask(write(at::DONE));
    house.until_fetching();
    house.queue.ring.submit().unwrap();
    house.control.device(house.id).quiesce(Duration::ZERO).unwrap();
    let begun = house.now();
    house.has_room();
    assert_eq!(house.queue.drain(), Ok(Turn::Stopped));
    assert!(house.now() - begun < 100 * MS);

    // Nor is the queue told where its slot's command came later.
    let mut house = narrow(1);
    house.ask(write(at::DONE));
    house.until_fetching();
    house.control.device(house.id).quiesce(Duration::ZERO).unwrap();
    let begun = house.now();
    assert_eq!(house.queue.drain(), Ok(Turn::Stopped));
    assert!(house.now() - begun < 100 * MS);
}
