//! Small worlds, and every schedule of each that can be afforded: two queues of two slots, a
//! handful of requests, and a stop, an abort, an error or a panic among them.
//!
//! A schedule is a choice at every point where the kernel, a client or a thread may go on. The
//! start and the end of a device are played in one order; what lies between is explored. Of the
//! schedules that have come to the same state, one goes on.

use crate::house::{House, Whim};
use crate::judge::{self, Outcome, SECTOR};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use ublkit::kernel::Kernel;
use ublkit::sim::{Answer, Ask, Choices, Profile, Schedules, Task, every_schedule, every_state};
use ublkit::{DataPath, Errno};

/// Which schedules of a world are tried. `UBLKIT_SIM_DEVIATIONS` asks for more: for so many
/// deviations, or, if it is `all`, for whatever is left out here (`tests/sim/every-schedule`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// All.
    All,
    /// All, but which of the threads that can go on does is no choice: it is the one that has
    /// waited longest.
    InTurn,
    /// Where the device ends meanwhile, those with so many deviations at the most: so many things
    /// happen out of the order in which they became possible, or later than at once.
    Few(u32),
}

impl Which {
    fn or_more(self, event: Event) -> Self {
        let asked = std::env::var("UBLKIT_SIM_DEVIATIONS");
        match (self, asked.as_deref()) {
            (Self::Few(_), _) if event == Event::Quiet => Self::All,
            (Self::Few(_), Ok("all")) => Self::InTurn,
            (Self::InTurn, Ok("all")) => Self::All,
            (Self::Few(few), Ok(number)) => {
                let number = number.parse().expect("UBLKIT_SIM_DEVIATIONS: a number, or all");
                Self::Few(few.max(number))
            }
            _ => self,
        }
    }

    fn deviations(self) -> u32 {
        match self {
            Self::Few(few) => few,
            Self::All | Self::InTurn => u32::MAX,
        }
    }
}

const FEW: Which = Which::Few(3);

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
fn schedule(
    house: &House,
    asks: &[(u16, Ask)],
    event: Event,
    in_turn: bool,
    choices: Choices,
) -> Played {
    let sim = house.sim(choices);
    sim.hold_choices(true);
    if in_turn {
        sim.take_turns();
    }
    let process = sim.process(true);
    let (told_live, live) = channel();
    let go = Arc::new(sim.task().event().unwrap());
    let (store, told, own) = (house.store(), Arc::clone(&go), *house);
    let served = store.clone();
    let serve = move |kernel: Task| {
        let waits = kernel.clone();
        let server = own.serve_store(kernel, &served).unwrap();
        told_live.send(server.id()).unwrap();
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
    // The moment of it.
    let may_wait = || event != Event::Quiet && !sim.all_answered();
    while may_wait() && sim.choose(2) == 1 && sim.until_other() {}
    match event {
        Event::Quiet => {}
        Event::Stop | Event::StopNow => sim.task().signal(&go),
        Event::Kill => {
            sim.give_way();
            sim.kill(&process);
        }
    }
    sim.until_answered();
    let state = sim.fingerprint();
    sim.hold_choices(true);
    sim.task().signal(&go);
    assert!(process.join(&mut thread, Duration::from_secs(600)), "{:?}", sim.failure());
    drop((process, go));
    let answer = |number| sim.answer(number).expect("P17: every request is answered");
    let answers: Vec<Answer> = numbers.into_iter().map(answer).collect();
    let mut disk = [[0; SECTOR]; 8];
    store.read(0, disk.as_flattened_mut());
    let ended = event != Event::Quiet;
    let judged = Outcome { house, asks, answers: &answers, ended, disk: &disk }.judge();
    if event == Event::Kill {
        assert_eq!(sim.failure(), None);
        assert_eq!(sim.mistakes(), Vec::<String>::new());
    } else {
        sim.assert_clean();
    }
    let outcome = answers.iter().map(said).collect();
    Played { outcome, judged, state, choices: sim.into_choices() }
}

/// What came of a schedule.
struct Played {
    outcome: Vec<String>,
    /// What is wrong with it.
    judged: Result<(), String>,
    /// When all was answered.
    state: u64,
    choices: Choices,
}

/// Tries schedules of a world; tells how many there were, and answers how many outcomes.
fn every(what: &str, house: &House, asks: &[(u16, Ask)], event: Event, which: Which) -> usize {
    let begun = Instant::now();
    let which = which.or_more(event);
    let mut outcomes = BTreeSet::new();
    let schedules = every_state(which.deviations(), u64::MAX, |choices| {
        let played = schedule(house, asks, event, which == Which::InTurn, choices);
        assert_eq!(played.judged, Ok(()), "{what}, {event:?}");
        outcomes.insert(played.outcome);
        played.choices
    });
    let seconds = begun.elapsed().as_secs_f64();
    let Schedules { count, states, .. } = schedules;
    let tried = match which {
        Which::All => "all".into(),
        Which::InTurn => "all in turn".into(),
        Which::Few(few) => format!("up to {few} deviations"),
    };
    let (what, differ) = (format!("{what}, {event:?}"), outcomes.len());
    println!(
        "{what}: {tried}: {count} schedules, {states} states, {differ} outcomes, {seconds:.1} s"
    );
    outcomes.len()
}

/// An answer in a word: whose data a read found, or an errno.
fn said(answer: &Answer) -> String {
    match answer {
        Ok(data) if data.is_empty() => "done".into(),
        Ok(data) => format!("found {:?}", judge::stamp(data)),
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
    let outcomes = EVENTS.map(|event| every("a race", &small(&[Whim::Serve]), &race(), event, FEW));
    // The reads find zeros, the one write or the other; stops and kills let some of it fail.
    assert!(outcomes[0] >= 3 && outcomes[3] > outcomes[0], "{outcomes:?}");
}

/// The same in batches.
#[test]
fn a_race_in_batches() {
    let house = House { batches: true, ..small(&[Whim::Serve]) };
    let outcomes = EVENTS.map(|event| every("a race in batches", &house, &race(), event, FEW));
    assert!(outcomes[0] >= 3 && outcomes[3] > outcomes[0], "{outcomes:?}");
    for whims in [&[Whim::Panic, Whim::Delay(1)][..], &[Whim::Fail(Errno::ENOSPC), Whim::Serve]] {
        for event in EVENTS {
            every(&format!("{whims:?} in batches"), &House { whims, ..house }, &race(), event, FEW);
        }
    }
}

/// The same on one queue that two threads share.
#[test]
fn a_race_in_a_shared_queue() {
    let house = House { queues: 1, threads: 2, ..small(&[Whim::Serve]) };
    let asks: Vec<(u16, Ask)> = race().into_iter().map(|(_, ask)| (0, ask)).collect();
    let outcomes = EVENTS.map(|event| every("a shared race", &house, &asks, event, FEW));
    assert!(outcomes[0] >= 3 && outcomes[3] > outcomes[0], "{outcomes:?}");
    for whims in [&[Whim::Panic, Whim::Delay(1)][..], &[Whim::Fail(Errno::ENOSPC), Whim::Serve]] {
        for event in EVENTS {
            every(&format!("{whims:?}, shared"), &House { whims, ..house }, &asks, event, FEW);
        }
    }
}

/// An error or a panic, for the first or the second request of each queue.
#[test]
fn a_failure_at_every_point() {
    const WHIMS: [&[Whim]; 4] = [
        &[Whim::Serve, Whim::Fail(Errno::ENOSPC)],
        &[Whim::Fail(Errno::ENOSPC), Whim::Serve],
        &[Whim::Serve, Whim::Panic],
        &[Whim::Panic, Whim::Serve],
    ];
    for whims in WHIMS {
        for event in EVENTS {
            every(&format!("{whims:?}"), &small(whims), &race(), event, FEW);
        }
    }
}

/// A delay, a failure during one, or a wait for nothing.
#[test]
fn a_wait_at_every_point() {
    const WHIMS: [&[Whim]; 2] =
        [&[Whim::Delay(1), Whim::FailUnderWay], &[Whim::WaitForNothing, Whim::Delay(2)]];
    for whims in WHIMS {
        for event in EVENTS {
            every(&format!("{whims:?}"), &small(whims), &race(), event, FEW);
        }
    }
}

/// More requests than tags, on kernels old and new.
#[test]
fn more_requests_than_tags() {
    let asks = [(0, write(1, 1)), (0, write(2, 3)), (0, write(1, 2)), (0, read(1)), (0, read(2))];
    for profile in [Profile::OLDEST, Profile::NEWEST] {
        for event in EVENTS {
            let house = House { profile, ..small(&[Whim::Serve]) };
            every(&format!("five requests on {profile}"), &house, &asks, event, FEW);
        }
    }
}

/// What one request may become.
const FATES: [&[Whim]; 4] =
    [&[Whim::Serve], &[Whim::Fail(Errno::ENOSPC)], &[Whim::Panic], &[Whim::Delay(1)]];

/// The same of all but the first.
const LATER_FATES: [&[Whim]; 4] = [
    &[Whim::Serve],
    &[Whim::Fail(Errno::ENOSPC), Whim::Serve],
    &[Whim::Panic, Whim::Serve],
    &[Whim::Delay(1), Whim::Serve],
];

fn one_request() -> Vec<(u16, Ask)> {
    vec![(0, write(1, 1))]
}

/// Whatever becomes of one request, and however its device ends.
#[test]
fn one_request_in_every_way() {
    for whims in FATES {
        for event in EVENTS {
            let house = House { queues: 1, ..small(whims) };
            let what = format!("one request, {whims:?}");
            every(&what, &house, &one_request(), event, Which::InTurn);
        }
    }
}

/// The same on the other data paths, and on the oldest kernel, where a disk is live only when it
/// was read once: that is served.
#[test]
fn one_request_on_other_paths() {
    const PLACES: [(Profile, DataPath); 3] = [
        (Profile::NEWEST, DataPath::GetData),
        (Profile::NEWEST, DataPath::UserCopy),
        (Profile::OLDEST, DataPath::Copy),
    ];
    for (profile, path) in PLACES {
        for whims in LATER_FATES {
            for event in EVENTS {
                let house = House { profile, path, queues: 1, ..small(whims) };
                let what = format!("one request, {path} on {profile}, {whims:?}");
                every(&what, &house, &one_request(), event, Which::InTurn);
            }
        }
    }
}

/// Of two requests for one sector.
#[test]
fn two_requests_in_every_way() {
    let house = House { queues: 1, ..small(&[Whim::Serve]) };
    let asks = [(0, write(1, 1)), (0, read(1))];
    for event in EVENTS {
        every("two requests", &house, &asks, event, Which::InTurn);
    }
}

/// A write that was answered with success and is not there is noticed, whatever else happens.
#[test]
fn a_forgotten_write_is_noticed() {
    let house = House { queues: 1, ..small(&[Whim::Forget]) };
    for event in EVENTS {
        let mut noticed = 0;
        every_state(u32::MAX, u64::MAX, |choices| {
            let played = schedule(&house, &one_request(), event, true, choices);
            let succeeded = played.outcome == ["done"];
            assert_eq!(played.judged.is_err(), succeeded, "{event:?}: {:?}", played.judged);
            noticed += u32::from(succeeded);
            played.choices
        });
        assert!(noticed > 0, "{event:?}");
    }
}

/// And whichever thread goes on, where a server is killed.
#[test]
fn any_thread_goes_on() {
    let house = House { queues: 1, ..small(&[Whim::Serve]) };
    for event in [Event::Quiet, Event::Kill] {
        every("one request", &house, &one_request(), event, Which::All);
    }
}

/// What a world ends in by every schedule, which is what it ends in where of those that have come
/// to the same state only one goes on.
fn ends(what: &str, house: &House, asks: &[(u16, Ask)], event: Event, in_turn: bool) {
    ends_within(u32::MAX, what, house, asks, (event, in_turn));
}

/// The same by schedules with so many deviations at the most.
fn ends_within(
    deviations: u32,
    what: &str,
    house: &House,
    asks: &[(u16, Ask)],
    (event, in_turn): (Event, bool),
) {
    let ends = |once: bool| {
        let mut ends = BTreeSet::new();
        let run = |choices| {
            let played = schedule(house, asks, event, in_turn, choices);
            ends.insert((played.outcome, played.state));
            played.choices
        };
        let schedules = match once {
            true => every_state(deviations, u64::MAX, run),
            false => every_schedule(deviations, u64::MAX, run),
        };
        (ends, schedules.count)
    };
    let ((all, many), (once, few)) = (ends(false), ends(true));
    println!("{what}, {event:?}: {} ends by {many} schedules and by {few}", all.len());
    assert_eq!(all, once, "{what}, {event:?}");
    assert!(few <= many && (event == Event::Quiet || deviations < u32::MAX || 2 * few < many));
}

/// What is left out by going on from each state once only comes to nothing new.
#[test]
fn nothing_is_lost_by_going_on_once() {
    for whims in FATES {
        for event in EVENTS {
            let house = House { queues: 1, ..small(whims) };
            ends(&format!("one request, {whims:?}"), &house, &one_request(), event, true);
        }
    }
    let (one, house) = (one_request(), small(&[Whim::Serve]));
    let in_batches = House { batches: true, queues: 1, ..house };
    for event in EVENTS {
        ends("one request in batches", &in_batches, &one, event, true);
    }
    ends("a race", &house, &race(), Event::Quiet, false);
    ends("a race in batches", &House { batches: true, ..house }, &race(), Event::Quiet, false);
}

/// Nor where deviations are bounded, which makes the order count in which threads wait (though
/// these worlds lose nothing without that either).
#[test]
fn nothing_is_lost_within_few_deviations() {
    let house = House { queues: 1, ..small(&[Whim::Serve]) };
    for event in EVENTS {
        for deviations in 0..3 {
            ends_within(deviations, "one request", &house, &one_request(), (event, false));
            let what = format!("a race, {deviations}");
            ends_within(deviations, &what, &small(&[Whim::Serve]), &race(), (event, false));
        }
    }
}

/// The order in which handlers use the memory that they share is part of the state, if they tell.
#[test]
fn what_handlers_share_counts_if_they_tell() {
    let states = |whims| {
        let run = |choices| schedule(&small(whims), &race(), Event::Quiet, false, choices).choices;
        every_state(u32::MAX, u64::MAX, run).states
    };
    let (told, untold) = (states(&[Whim::Serve]), states(&[Whim::ServeUntold]));
    println!("{told} states, and {untold} where handlers do not tell");
    assert!(untold < told);
}
