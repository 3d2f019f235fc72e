//! Two threads over real memory: the queues that ship, and a thread that plays the kernel.
//!
//! Every byte of every entry is checked, and the order. The kernel's thread shares no code with the
//! queues.
#![expect(unsafe_code, reason = "plays the kernel; docs/safety.md, in tests")]

use super::{CQ_HEAD, CQ_TAIL, CQES, Fake, SQ_HEAD, SQ_TAIL, fake, indices, params, word};
use crate::kernel::Memory;
use crate::ring::queues::{CompletionQueue, Entry, SubmissionQueue};
use core::fmt::Debug;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use ublkit_sys::io_uring::io_uring_cqe;

const LEN: u32 = 64;
const COUNT: u64 = 4_000_000;
/// The indices wrap when half of it is done.
const START: u32 = 0_u32.wrapping_sub(2_000_000);
/// The entry at which the kernel of the controls goes wrong, some time after the wrap.
const WRONG: u64 = 2_100_000;
/// Far longer than it takes: nothing here may hang.
const LIMIT: Duration = Duration::from_secs(60);

/// An SQE that is all stamp.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
struct Stamp([u64; 8]);

// SAFETY: 64 bytes, as those of an SQE; no kernel ever sees it.
unsafe impl Entry for Stamp {
    const SETUP_FLAGS: u32 = 0;
}

impl Stamp {
    fn new(number: u64) -> Self {
        Self(core::array::from_fn(|part| mix(number * 8 + part as u64)))
    }
}

fn completion(number: u64) -> io_uring_cqe {
    let parts = mix(number).to_le_bytes();
    let half = |at| [parts[at], parts[at + 1], parts[at + 2], parts[at + 3]];
    let (res, flags) = (i32::from_le_bytes(half(0)), u32::from_le_bytes(half(4)));
    io_uring_cqe { user_data: mix(!number), res, flags }
}

/// Numbers that have nothing in common with their neighbours'.
fn mix(number: u64) -> u64 {
    let spread = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    spread ^ (spread >> 29)
}

fn index(number: u64) -> u32 {
    START.wrapping_add(u32::try_from(number).unwrap())
}

/// What one side thinks of an entry.
fn same<T: PartialEq + Debug>(number: u64, got: T, meant: T) -> Result<(), String> {
    if got == meant { Ok(()) } else { Err(format!("entry {number} is {got:x?}, not {meant:x?}")) }
}

/// What both threads look at while they wait for each other.
struct Run {
    over: AtomicBool,
    began: Instant,
}

impl Run {
    fn new() -> Self {
        Self { over: AtomicBool::new(false), began: Instant::now() }
    }

    /// Waits until `done`, which may be never once the other side has given up.
    fn wait(&self, mut done: impl FnMut() -> bool) {
        for tries in 1_u32.. {
            if done() || self.over.load(Ordering::Acquire) {
                return;
            }
            if tries.is_multiple_of(64) {
                assert!(self.began.elapsed() < LIMIT, "the other side does not answer");
                thread::yield_now();
            } else {
                core::hint::spin_loop();
            }
        }
    }

    /// Ends the run, and says what it was.
    fn end(&self, what: &str, outcome: Result<(), String>) -> Result<(), String> {
        self.over.store(true, Ordering::Release);
        let took = self.began.elapsed();
        match &outcome {
            Ok(()) => println!("measured: {COUNT} {what} between two threads in {took:.2?}"),
            Err(error) => println!("{what}: {error}"),
        }
        outcome
    }
}

/// The kernel takes SQEs. Where it goes wrong, it gives a slot back before it has copied the SQE.
fn consume(
    run: &Run,
    head: &AtomicU32,
    tail: &AtomicU32,
    sqes: &Fake,
    wrong: Option<u64>,
) -> Result<(), String> {
    let sqes = sqes.place::<Stamp>(0, LEN as usize).unwrap();
    let mut seen = START;
    for number in 0..COUNT {
        let at = index(number);
        if seen == at {
            head.store(at, Ordering::Release);
            run.wait(|| {
                seen = tail.load(Ordering::Acquire);
                seen != at
            });
        }
        if wrong == Some(number) {
            head.store(at.wrapping_add(1), Ordering::Release);
            run.wait(|| tail.load(Ordering::Acquire) == at.wrapping_add(LEN + 1));
        }
        // SAFETY: inside the array; the acquired tail covers it.
        let got = unsafe { sqes.as_ptr().wrapping_add((at % LEN) as usize).read() };
        same(number, got, Stamp::new(number))?;
    }
    head.store(index(COUNT), Ordering::Release);
    Ok(())
}

fn submit(wrong: Option<u64>) -> Result<(), String> {
    let (memory, sqes) = (indices(START), fake(4096));
    let mut queue = SubmissionQueue::<Stamp>::new(&memory, &sqes, &params(LEN)).unwrap();
    let (head, tail) = (word(&memory, SQ_HEAD), word(&memory, SQ_TAIL));
    let run = Run::new();
    thread::scope(|scope| {
        let kernel = scope.spawn(|| {
            let outcome = consume(&run, head, tail, &sqes, wrong);
            run.end("SQEs", outcome)
        });
        let (mut pushed, mut freed) = (0, START);
        while pushed < COUNT && !run.over.load(Ordering::Acquire) {
            while pushed < COUNT && queue.queued() < LEN {
                queue.push(Stamp::new(pushed)).unwrap();
                pushed += 1;
            }
            queue.publish();
            // What `io_uring_enter` returns: how much was consumed.
            let mut now = freed;
            run.wait(|| {
                now = head.load(Ordering::Acquire);
                now != freed
            });
            queue.consumed(now.wrapping_sub(freed)).unwrap();
            freed = now;
        }
        kernel.join().unwrap()
    })
}

/// The kernel posts CQEs. Where it goes wrong, it moves the tail before it has written the CQE.
fn produce(run: &Run, memory: &Fake, wrong: Option<u64>) {
    let (head, tail) = (word(memory, CQ_HEAD), word(memory, CQ_TAIL));
    let cqes = memory.place::<io_uring_cqe>(CQES as usize, LEN as usize).unwrap();
    for number in 0..COUNT {
        let at = index(number);
        run.wait(|| at.wrapping_sub(head.load(Ordering::Acquire)) < LEN);
        if wrong == Some(number) {
            tail.store(at.wrapping_add(1), Ordering::Release);
            run.wait(|| head.load(Ordering::Acquire) == at.wrapping_add(1));
        }
        if run.over.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: inside the array; the acquired head has passed the slot's last entry.
        unsafe { cqes.as_ptr().wrapping_add((at % LEN) as usize).write(completion(number)) };
        tail.store(at.wrapping_add(1), Ordering::Release);
    }
}

fn complete(wrong: Option<u64>) -> Result<(), String> {
    let memory = indices(START);
    let mut queue = CompletionQueue::new(&memory, &params(LEN)).unwrap();
    let run = Run::new();
    thread::scope(|scope| {
        scope.spawn(|| produce(&run, &memory, wrong));
        let mut take = || {
            for number in 0..COUNT {
                let mut popped = None;
                run.wait(|| {
                    popped = queue.pop().unwrap();
                    popped.is_some()
                });
                same(number, popped, Some(completion(number)))?;
            }
            same(COUNT, queue.pop().unwrap(), None)
        };
        let outcome = take();
        run.end("CQEs", outcome)
    })
}

#[test]
fn submissions_between_two_threads() {
    assert_eq!(submit(None), Ok(()));
}

#[test]
fn completions_between_two_threads() {
    assert_eq!(complete(None), Ok(()));
}

#[test]
fn a_slot_that_is_given_back_too_early_is_noticed() {
    let noticed = submit(Some(WRONG)).unwrap_err();
    assert!(noticed.starts_with(&format!("entry {WRONG} is")), "{noticed}");
}

#[test]
fn a_completion_that_is_not_written_yet_is_noticed() {
    let noticed = complete(Some(WRONG)).unwrap_err();
    assert!(noticed.starts_with(&format!("entry {WRONG} is")), "{noticed}");
}
