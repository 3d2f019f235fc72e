//! Small worlds, and many schedules of each, or all: two queues of two slots, a handful of
//! requests, and a stop, an abort, an error or a panic among them.
//!
//! A schedule is a choice at every point where the kernel or a client may act. The start and the
//! end of a device are played in one order; what lies between is explored: every way in which so
//! many things happen out of the order in which they became possible, or every way that there is.
//! Of the threads that can go on, the one that has waited longest does, which is no choice.

use crate::house::{House, Whim};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use ublkit::Errno;
use ublkit::kernel::Kernel;
use ublkit::sim::{Answer, Ask, Choices, Profile, Schedules, Task, every_schedule};

/// As many deviations as there can be.
const ALL: u32 = u32::MAX;

/// Schedules of one world at the most, so that a change that makes it larger is seen.
const LIMIT: u64 = 20_000;

fn write(sector: u64, stamp: u8) -> Ask {
    Ask::Write { offset: sector * 512, data: vec![stamp; 512], fua: false }
}

fn read(sector: u64) -> Ask {
    Ask::Read { offset: sector * 512, len_bytes: 512 }
}

/// What happens beside the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Nothing.
    Quiet,
    /// The server stops its device.
    Stop,
    /// The server gives up at once.
    StopNow,
    /// The server is killed.
    Kill,
}

/// One schedule of a small world: asks, lets things happen, and hands the answers back.
fn schedule(house: &House, choices: Choices, asks: &[(u16, Ask)], event: Event) -> Played {
    let sim = house.sim(choices);
    sim.hold_choices(true);
    sim.take_turns();
    let process = sim.process(true);
    let (said, live) = channel();
    let go = Arc::new(sim.task().event().unwrap());
    let (told, own) = (Arc::clone(&go), *house);
    let serve = move |kernel: Task| {
        let waits = kernel.clone();
        let server = own.serve(kernel).unwrap();
        said.send(server.id()).unwrap();
        waits.wait(&told, None);
        drop(told);
        let _ = if event == Event::StopNow { server.stop_now() } else { server.stop() };
    };
    let mut thread = process.spawn("server".into(), serve).unwrap();
    sim.until_quiet();
    let id = live.try_recv().expect("it is live");
    let ask = |(queue, ask): &(u16, Ask)| sim.ask(id, *queue, ask.clone()).expect("it is live");
    let numbers: Vec<u64> = asks.iter().map(ask).collect();
    sim.hold_choices(false);
    match event {
        Event::Quiet => {}
        Event::Stop | Event::StopNow => sim.task().signal(&go),
        Event::Kill => {
            sim.give_way();
            sim.kill(&process);
        }
    }
    sim.until_answered();
    sim.hold_choices(true);
    sim.task().signal(&go);
    assert!(process.join(&mut thread, Duration::from_secs(600)), "{:?}", sim.failure());
    drop((process, go));
    let answer = |number| sim.answer(number).expect("P17: every request is answered");
    let answers = numbers.into_iter().map(answer).collect();
    if event == Event::Kill {
        assert_eq!(sim.failure(), None);
        assert_eq!(sim.mistakes(), Vec::<String>::new());
    } else {
        sim.assert_clean();
    }
    Played { answers, choices: sim.into_choices() }
}

/// What came of a schedule.
struct Played {
    answers: Vec<Answer>,
    choices: Choices,
}

/// Runs every schedule, but with so many deviations at the most where the device ends meanwhile, or
/// more if `UBLKIT_SIM_DEVIATIONS` says so; tells how many there were, and answers how many
/// different outcomes.
fn every(what: &str, house: &House, asks: &[(u16, Ask)], event: Event, deviations: u32) -> usize {
    let begun = Instant::now();
    let asked = std::env::var("UBLKIT_SIM_DEVIATIONS").ok();
    let asked = asked.map(|count| count.parse::<u32>().expect("UBLKIT_SIM_DEVIATIONS: a number"));
    let most = deviations.max(asked.unwrap_or(0));
    let deviations = if event == Event::Quiet { ALL } else { most };
    let limit = if asked.is_some() { u64::MAX } else { LIMIT };
    let mut outcomes = BTreeSet::new();
    let schedules = every_schedule(deviations, limit, |choices| {
        let Played { answers, choices } = schedule(house, choices, asks, event);
        outcomes.insert(answers.iter().map(said).collect::<Vec<_>>());
        choices
    });
    let seconds = begun.elapsed().as_secs_f64();
    let Schedules { count, complete, .. } = schedules;
    let which =
        if deviations == ALL { "all".into() } else { format!("up to {deviations} deviations") };
    let differ = outcomes.len();
    println!("{what}, {event:?}: {which}, {count} schedules, {differ} outcomes, {seconds:.1} s");
    assert!(complete, "{what}, {event:?}: more than {limit} schedules");
    assert!(outcomes.iter().flatten().all(|said| said != "torn"), "{outcomes:?}");
    outcomes.len()
}

/// An answer in a word: whose data a read found, or an errno.
fn said(answer: &Answer) -> String {
    match answer {
        Ok(data) if data.is_empty() => "done".into(),
        Ok(data) if data.iter().all(|byte| *byte == data[0]) => format!("found {}", data[0]),
        Ok(_) => "torn".into(),
        Err(errno) => errno.to_string(),
    }
}

const EVENTS: [Event; 4] = [Event::Quiet, Event::Stop, Event::StopNow, Event::Kill];

fn small(whims: &'static [Whim]) -> House {
    House { queues: 2, depth: 2, max_io_bytes: 4096, whims, ..House::new() }
}

/// Two writes and two reads of one sector, over both queues.
fn race() -> Vec<(u16, Ask)> {
    vec![(0, write(1, 1)), (1, write(1, 2)), (0, read(1)), (1, read(1))]
}

#[test]
fn a_race_for_one_sector() {
    let outcomes = EVENTS.map(|event| every("a race", &small(&[Whim::Serve]), &race(), event, 4));
    // The reads find zeros, the one write or the other; stops and kills let some of it fail.
    assert!(outcomes[0] >= 3 && outcomes[3] > outcomes[0], "{outcomes:?}");
}

/// The same in batches.
#[test]
fn a_race_in_batches() {
    let house = House { batches: true, ..small(&[Whim::Serve]) };
    let outcomes = EVENTS.map(|event| every("a race in batches", &house, &race(), event, 4));
    assert!(outcomes[0] >= 3 && outcomes[3] > outcomes[0], "{outcomes:?}");
    for whims in [&[Whim::Panic, Whim::Delay(1)][..], &[Whim::Fail(Errno::ENOSPC), Whim::Serve]] {
        for event in EVENTS {
            every(&format!("{whims:?} in batches"), &House { whims, ..house }, &race(), event, 3);
        }
    }
}

/// The same on one queue that two threads share.
#[test]
fn a_race_in_a_shared_queue() {
    let house = House { queues: 1, threads: 2, ..small(&[Whim::Serve]) };
    let asks: Vec<(u16, Ask)> = race().into_iter().map(|(_, ask)| (0, ask)).collect();
    let outcomes = EVENTS.map(|event| every("a shared race", &house, &asks, event, 4));
    assert!(outcomes[0] >= 3 && outcomes[3] > outcomes[0], "{outcomes:?}");
    for whims in [&[Whim::Panic, Whim::Delay(1)][..], &[Whim::Fail(Errno::ENOSPC), Whim::Serve]] {
        for event in EVENTS {
            every(&format!("{whims:?}, shared"), &House { whims, ..house }, &asks, event, 3);
        }
    }
}

/// An error, a panic, a delay or a wait for nothing, for the first or the second request of each
/// queue.
#[test]
fn a_whim_at_every_point() {
    const WHIMS: [&[Whim]; 6] = [
        &[Whim::Serve, Whim::Fail(Errno::ENOSPC)],
        &[Whim::Fail(Errno::ENOSPC), Whim::Serve],
        &[Whim::Serve, Whim::Panic],
        &[Whim::Panic, Whim::Serve],
        &[Whim::Delay(1), Whim::FailUnderWay],
        &[Whim::WaitForNothing, Whim::Delay(2)],
    ];
    for whims in WHIMS {
        for event in EVENTS {
            every(&format!("{whims:?}"), &small(whims), &race(), event, 3);
        }
    }
}

/// More requests than tags, on kernels old and new.
#[test]
fn more_requests_than_tags() {
    let asks = [(0, write(1, 1)), (0, write(2, 1)), (0, write(1, 2)), (0, read(1)), (0, read(2))];
    for profile in [Profile::OLDEST, Profile::NEWEST] {
        for event in EVENTS {
            let house = House { profile, ..small(&[Whim::Serve]) };
            every(&format!("five requests on {profile}"), &house, &asks, event, 3);
        }
    }
}

/// Whatever becomes of one request, and however its device ends: all that can be.
#[test]
fn one_request_in_every_way() {
    const WHIMS: [&[Whim]; 4] =
        [&[Whim::Serve], &[Whim::Fail(Errno::ENOSPC)], &[Whim::Panic], &[Whim::Delay(1)]];
    for whims in WHIMS {
        for event in EVENTS {
            let house = House { queues: 1, ..small(whims) };
            every(&format!("one request, {whims:?}"), &house, &[(0, write(1, 1))], event, ALL);
        }
    }
}

/// The same of two requests for one sector.
#[test]
fn two_requests_in_every_way() {
    let house = House { queues: 1, ..small(&[Whim::Serve]) };
    let asks = [(0, write(1, 1)), (0, read(1))];
    for event in EVENTS {
        every("two requests", &house, &asks, event, ALL);
    }
}
