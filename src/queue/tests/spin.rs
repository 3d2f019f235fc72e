//! Queues that look for what comes before they sleep.

use super::*;

/// A queue that looks for so long, and what its requests wait for.
fn looking(batches: bool, spin: Duration) -> House {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let needs = Needs { operations: 1, wakers: true, ..Needs::default() };
    made_on(sim, Wish { path: DataPath::Copy, batches, depth: 2, needs, spin }).live()
}

impl House {
    /// Turns until the request that was asked is answered; how long that took once it had begun,
    /// with how many calls, and how often the queue has looked in vain.
    fn serve_one(&mut self, asked: u64, begun: impl FnOnce(&Self)) -> (Duration, u64, u32) {
        while self.queue.handler.started == 0 {
            assert_eq!(self.queue.turn(), Ok(Turn::Live));
        }
        begun(self);
        let (since, calls) = (self.now(), self.sim.calls());
        while self.queue.handler.resumed == 0 {
            assert_eq!(self.queue.turn(), Ok(Turn::Live));
        }
        let (waited, calls) = (self.now() - since, self.sim.calls() - calls);
        let in_vain = self.queue.spin.as_ref().expect("it looks").in_vain;
        self.queue.send_batch().unwrap();
        self.queue.ring.submit().unwrap();
        assert_eq!(self.answered(asked), Some(0));
        (waited, calls, in_vain)
    }
}

/// It finds what comes while it looks, and nothing is late; what comes later it does not wait for.
#[test]
fn what_comes_soon_is_found() {
    let spin = 3 * MS;
    for batches in [false, true] {
        for (time, expected) in [(MS, (2, 0)), (100 * MS, (2, 1))] {
            let mut house = looking(batches, spin);
            let asked = house.ask(read(at::PARK));
            let (waited, calls, in_vain) = house.serve_one(asked, |house| {
                let wakers = house.wakers.clone();
                let wake = move |kernel: Task| {
                    kernel.sleep(time);
                    (0..2).for_each(|tag| wakers.wake(tag));
                };
                house.sim.task().spawn("worker".into(), wake).unwrap();
            });
            assert!((time..time + 10 * spin).contains(&waited), "{waited:?} for {time:?}");
            assert_eq!((calls, in_vain), expected, "batches: {batches}, {time:?}");
        }
    }
}

/// It sleeps while an operation is under way, however soon that ends.
#[test]
fn operations_are_not_looked_for() {
    for batches in [false, true] {
        for (place, time) in [(at::SOON, MS), (at::DELAY, 100 * MS)] {
            let mut house = looking(batches, 3 * MS);
            let asked = house.ask(read(place));
            let looked = house.serve_one(asked, |_| ());
            assert_eq!(looked, (time, 1, 0), "batches: {batches}");
        }
    }
}
