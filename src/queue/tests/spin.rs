//! Queues that look for what comes before they sleep.

use super::*;

/// It finds what comes while it looks, and nothing is late; what comes later it does not wait for.
#[test]
fn what_comes_soon_is_found() {
    for batches in [false, true] {
        for (place, time, in_vain) in [(at::SOON, MS, 0), (at::DELAY, 100 * MS, 1)] {
            let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
            let needs = Needs { operations: 1, wakers: true, ..Needs::default() };
            let (path, depth, spin) = (DataPath::Copy, 2, 3 * MS);
            let mut house = made_on(sim, Wish { path, batches, depth, needs, spin }).live();
            let asked = house.ask(read(place));
            while house.queue.handler.started == 0 {
                assert_eq!(house.queue.turn(), Ok(Turn::Live));
            }
            let begun = house.now();
            while house.queue.handler.resumed == 0 {
                assert_eq!(house.queue.turn(), Ok(Turn::Live));
            }
            let waited = house.now() - begun;
            assert!((time..time + 10 * spin).contains(&waited), "{waited:?} for {time:?}");
            let spin = house.queue.spin.as_ref().expect("it looks");
            assert_eq!(spin.in_vain, in_vain, "batches: {batches}, {time:?}");
            house.queue.send_batch().unwrap();
            house.queue.ring.submit().unwrap();
            assert_eq!(house.answered(asked), Some(0));
        }
    }
}
