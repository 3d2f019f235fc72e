//! Memory orderings: loom runs the two sides of a queue through every execution that the memory
//! model allows.
//!
//! Our side is the [`Producer`] or [`Consumer`] that ships, over loom's atomics and cells. The
//! kernel is modelled here and shares no code with it. Each side is also run with one mistake in
//! it, which must be found: the mistakes live in this file's memory and in this file's kernel.
#![expect(unsafe_code, reason = "plays the shared memory; docs/safety.md, in tests")]

use crate::ring::spsc::{Consumer, Index, Producer, Slots};
use core::sync::atomic::Ordering;
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const LEN: u32 = 2;
/// One entry before the indices wrap.
const START: u32 = u32::MAX;

/// How much is explored.
#[derive(Clone, Copy, Debug)]
struct World {
    /// So many entries pass through the queue, and so often does each side look at what the other
    /// did while both run. What is left over is done after that.
    entries: u64,
    /// So often may a side be interrupted in an execution; unbounded, these are all there are.
    preemptions: Option<usize>,
}

/// Each slot is used twice. For every `cargo test`: a second.
const BOUNDED: World = World { entries: 4, preemptions: Some(2) };
/// One slot is used twice.
const EXHAUSTIVE: World = World { entries: 3, preemptions: None };

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Ours,
    Kernel,
}

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// This side loads or stores the head without any ordering.
    RelaxedHead(Side),
    /// This side loads or stores the tail without any ordering.
    RelaxedTail(Side),
    /// This side stores its index before it is done with the slot.
    Early(Side),
}

const FAULTS: [Fault; 6] = [
    Fault::RelaxedHead(Side::Ours),
    Fault::RelaxedHead(Side::Kernel),
    Fault::RelaxedTail(Side::Ours),
    Fault::RelaxedTail(Side::Kernel),
    Fault::Early(Side::Ours),
    Fault::Early(Side::Kernel),
];

/// An index, as one side sees it. (Loom's threads take turns on one, so an `Rc` will do.)
#[derive(Clone)]
struct Word {
    shared: Rc<AtomicU32>,
    relaxed: bool,
}

impl Word {
    fn order(&self, asked: Ordering) -> Ordering {
        if self.relaxed { Ordering::Relaxed } else { asked }
    }
}

impl Index for Word {
    fn load(&self, ordering: Ordering) -> u32 {
        self.shared.load(self.order(ordering))
    }

    fn store(&self, index: u32, ordering: Ordering) {
        self.shared.store(index, self.order(ordering));
    }
}

/// The slots, as one side sees them. Loom fails an execution in which the sides meet in one.
struct Cells {
    shared: Rc<[UnsafeCell<u64>; LEN as usize]>,
    /// The side's own index, where that moves too early.
    early: Option<Word>,
}

impl Cells {
    fn move_early(&self) {
        if let Some(index) = &self.early {
            let next = index.load(Ordering::Relaxed).wrapping_add(1);
            index.store(next, Ordering::Release);
        }
    }
}

// SAFETY: the length is a constant power of two.
unsafe impl Slots for Cells {
    type Value = u64;

    fn len(&self) -> u32 {
        LEN
    }

    unsafe fn read(&self, slot: u32) -> u64 {
        self.move_early();
        // SAFETY: loom panics before the access when somebody may be writing.
        self.shared[slot as usize].with(|value| unsafe { *value })
    }

    unsafe fn write(&self, slot: u32, value: u64) {
        self.move_early();
        // SAFETY: loom panics before the access when somebody may be reading or writing.
        self.shared[slot as usize].with_mut(|place| unsafe { *place = value });
    }
}

/// A queue, as one side sees it.
struct View {
    head: Word,
    tail: Word,
    cells: Cells,
}

/// Both views of a new queue, ours first; `own` picks the index that a side stores.
fn views(fault: Fault, own: [fn(&View) -> &Word; 2]) -> [View; 2] {
    let head = Rc::new(AtomicU32::new(START));
    let tail = Rc::new(AtomicU32::new(START));
    let cells = Rc::new([UnsafeCell::new(u64::MAX), UnsafeCell::new(u64::MAX)]);
    [Side::Ours, Side::Kernel].map(|side| {
        let relaxed = fault == Fault::RelaxedHead(side);
        let head = Word { shared: Rc::clone(&head), relaxed };
        let relaxed = fault == Fault::RelaxedTail(side);
        let tail = Word { shared: Rc::clone(&tail), relaxed };
        let cells = Cells { shared: Rc::clone(&cells), early: None };
        let mut view = View { head, tail, cells };
        if fault == Fault::Early(side) {
            view.cells.early = Some(own[side as usize](&view).clone());
        }
        view
    })
}

/// The kernel. Its values are 0, 1, 2, …; its slots are found by counting.
struct Kernel {
    view: View,
    entries: u64,
    done: u64,
}

impl Kernel {
    fn index(&self) -> u32 {
        START.wrapping_add(u32::try_from(self.done).unwrap())
    }

    fn slot(&self) -> u32 {
        self.index() % LEN
    }

    /// Takes the SQEs that were published.
    fn consume(&mut self) {
        let tail = self.view.tail.load(Ordering::Acquire);
        assert!(tail.wrapping_sub(self.index()) <= LEN, "a slot was used before it was free");
        while self.index() != tail {
            // SAFETY: the tail covers the slot.
            let value = unsafe { self.view.cells.read(self.slot()) };
            assert_eq!(value, self.done, "the SQEs come once and in order");
            self.done += 1;
        }
        self.view.head.store(self.index(), Ordering::Release);
    }

    /// Posts a CQE, if there is room; answers whether there was.
    fn produce(&mut self) -> bool {
        let head = self.view.head.load(Ordering::Acquire);
        assert!(self.index().wrapping_sub(head) <= LEN, "more was taken than posted");
        if self.done == self.entries || self.index().wrapping_sub(head) == LEN {
            return false;
        }
        // SAFETY: the head has passed the slot's last entry.
        unsafe { self.view.cells.write(self.slot(), self.done) };
        self.done += 1;
        self.view.tail.store(self.index(), Ordering::Release);
        true
    }
}

/// One execution: pushes and publishes, while the kernel consumes. Answers whether a slot was used
/// again while both ran.
fn submissions(entries: u64, fault: Fault) -> bool {
    let [ours, kernel] = views(fault, [|view| &view.tail, |view| &view.head]);
    let View { head, tail, cells } = ours;
    let mut queue = Producer::over(tail, cells);
    let mut kernel = Kernel { view: kernel, entries, done: 0 };
    let running = loom::thread::spawn(move || {
        (0..entries).for_each(|_| kernel.consume());
        kernel
    });
    let (mut pushed, mut freed) = (0, START);
    let mut turn = |queue: &mut Producer<Word, Cells>| {
        if pushed < entries && queue.queued() < LEN {
            queue.push(pushed).unwrap();
            pushed += 1;
        }
        queue.publish();
        // What `io_uring_enter` returns: how much was consumed.
        let now = head.load(Ordering::Acquire);
        queue.consumed(now.wrapping_sub(freed)).unwrap();
        freed = now;
        pushed
    };
    let reused = (0..entries).map(|_| turn(&mut queue)).last() > Some(u64::from(LEN));
    let mut kernel = running.join().unwrap();
    while kernel.done < entries {
        turn(&mut queue);
        kernel.consume();
    }
    turn(&mut queue);
    assert_eq!(queue.queued(), 0);
    reused
}

/// One execution: the kernel posts, while we take. Answers as [`submissions`] does.
fn completions(entries: u64, fault: Fault) -> bool {
    let [ours, kernel] = views(fault, [|view| &view.head, |view| &view.tail]);
    let View { head, tail, cells } = ours;
    let mut queue = Consumer::over(head, tail, cells);
    let mut kernel = Kernel { view: kernel, entries, done: 0 };
    let running = loom::thread::spawn(move || {
        (0..entries).for_each(|_| _ = kernel.produce());
        kernel
    });
    let mut taken = 0;
    let mut turn = || {
        let promised = taken == 1 && queue.has_some();
        let popped = queue.pop().unwrap();
        assert!(popped.is_some() || !promised, "what waits can be taken");
        if let Some(value) = popped {
            assert_eq!(value, taken, "the CQEs come once and in order");
            taken += 1;
        }
        taken
    };
    (0..entries).for_each(|_| _ = turn());
    let mut kernel = running.join().unwrap();
    let reused = kernel.done > u64::from(LEN);
    while turn() < entries {
        kernel.produce();
    }
    reused
}

/// One execution of a queue that so many entries pass through.
type Run = fn(u64, Fault) -> bool;

/// Explores a world; answers how many executions there were, or how one failed.
fn explore(world: World, name: &str, fault: Fault, run: Run) -> Result<u64, String> {
    let counts = Arc::new([const { AtomicU64::new(0) }; 2]);
    let [all, reusing] = &*counts;
    let counting = Arc::clone(&counts);
    let explored = catch_unwind(AssertUnwindSafe(|| {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = world.preemptions;
        model.check(move || {
            counting[0].fetch_add(1, Ordering::Relaxed);
            counting[1].fetch_add(run(world.entries, fault).into(), Ordering::Relaxed);
        });
    }));
    let (all, reusing) = (all.load(Ordering::Relaxed), reusing.load(Ordering::Relaxed));
    match explored {
        Ok(()) => {
            println!("measured: {name}: {all} executions; in {reusing} a slot was used again");
            assert!(reusing > 0, "no execution has the sides contend for a slot");
            Ok(all)
        }
        Err(panic) => {
            println!("{name}, {fault:?}: found in execution {all}");
            Err(match panic.downcast::<String>() {
                Ok(message) => *message,
                Err(other) => (*other.downcast::<&str>().unwrap()).to_owned(),
            })
        }
    }
}

/// Every fault must show itself as two sides that meet in a slot.
fn all_faults_are_found(name: &str, run: Run) {
    for fault in FAULTS {
        let found = explore(BOUNDED, name, fault, run);
        assert!(
            matches!(&found, Err(message) if message.contains("Causality violation")),
            "{name}, {fault:?}: {found:?}"
        );
    }
}

#[test]
fn submissions_hold() {
    assert!(explore(BOUNDED, "submissions", Fault::None, submissions).is_ok());
}

#[test]
fn completions_hold() {
    assert!(explore(BOUNDED, "completions", Fault::None, completions).is_ok());
}

#[test]
#[ignore = "takes long: `cargo loom`"]
fn submissions_hold_in_every_execution() {
    assert!(explore(EXHAUSTIVE, "submissions", Fault::None, submissions).is_ok());
}

#[test]
#[ignore = "takes long: `cargo loom`"]
fn completions_hold_in_every_execution() {
    assert!(explore(EXHAUSTIVE, "completions", Fault::None, completions).is_ok());
}

#[test]
fn each_weakened_ordering_of_submissions_is_found() {
    all_faults_are_found("submissions", submissions);
}

#[test]
fn each_weakened_ordering_of_completions_is_found() {
    all_faults_are_found("completions", completions);
}
