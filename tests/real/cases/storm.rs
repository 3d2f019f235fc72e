//! Servers that get many signals at once, from two sides.

use super::Context;
use crate::dice::Dice;
use crate::load;
use crate::tools::{self, Serving, UBLKIT, devices, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// How many signals each side sends.
const SIGNALS: usize = 200;
/// Its number, known before it is there.
const ID: &str = "7";

/// Signals of which no number ends a server at once: a terminal that goes, an upgrade, a resize.
const MILD: &[Signal] = &[Signal::HUP, Signal::USR1, Signal::USR2];
/// All that it heeds: of these the second that is INT or TERM does.
const ALL: &[Signal] = &[Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1, Signal::USR2];

/// When they come.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Starting,
    /// It heeds signals, and makes its device.
    Making,
    Serving,
    Stopping,
}

pub fn signals(context: Context) {
    let mut dice = Dice::new("a storm of signals");
    for when in [When::Starting, When::Making, When::Serving, When::Stopping] {
        for signals in [MILD, ALL] {
            for _ in 0..context.pick(1, 10) {
                one(when, signals, &mut dice);
            }
        }
    }
}

/// Without recovery there is no next server: the signal that asks to let go of the device stops it.
/// The one that asks to grow does nothing where nobody left word of a size.
pub fn hand_over(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M"]);
    serving.signal(Signal::USR2);
    thread::sleep(Duration::from_millis(300));
    let shown = tools::run(UBLKIT, &["show", &serving.path]);
    assert!(shown.contains("live"), "{shown}");
    serving.signal(Signal::USR1);
    assert_eq!(serving.end(SOON), (0, String::new()));
    assert_eq!(devices(), Vec::<String>::new());
}

/// A server with load, and a storm: it ends once, as documented, and nothing is left that cannot be
/// deleted.
fn one(when: When, signals: &[Signal], dice: &mut Dice) {
    let words = ["memory", "--size", "64M", "--queues", "2", "--id", ID];
    let (serving, fio) = match when {
        When::Starting | When::Making => (starting(&words), None),
        _ => {
            let serving = Serving::start(&words);
            let fio = load::mixed(&serving.path);
            load::busy(&serving.path);
            (serving, Some(fio))
        }
    };
    match when {
        When::Making => eventually("it heeds signals", SOON, || heeds_signals(&serving)),
        When::Stopping => serving.signal(Signal::HUP),
        _ => {}
    }
    thread::sleep(Duration::from_millis(dice.below(60) as u64));
    // It is not waited for yet, so that its number stays its own.
    let sides = [(); 2].map(|()| side(&serving, signals, dice));
    for side in sides {
        side.join().expect("no panic");
    }
    let (code, said) = serving.end(SOON);
    if let Some(mut fio) = fio {
        assert!(!tools::wait(&mut fio, SOON).success(), "fio's requests were answered with errors");
    }
    let is_mild = signals == MILD;
    println!("  {when:?}, mild: {is_mild}: {code}");
    let what = format!("{when:?}, mild: {is_mild}: {code}, {said}");
    let expected: &[i32] = match (when, is_mild) {
        (When::Starting, true) => &[0, -1, -10, -12], // before it heeds signals
        (When::Starting, false) => &[0, 130, 143, -1, -2, -10, -12, -15],
        (_, true) => &[0],
        (_, false) => &[0, 130, 143],
    };
    assert!(expected.contains(&code) && said.is_empty(), "{what}");
    // One that was ended at once may have left its device.
    if [130, 143].contains(&code) {
        let delete = tools::output(UBLKIT, &["delete", ID]);
        assert!([Some(0), Some(5)].contains(&delete.status.code()), "{what}: {delete:?}");
    }
    assert_eq!(devices(), Vec::<String>::new(), "{what}");
}

/// A server that has just been started.
fn starting(words: &[&str]) -> Serving {
    let mut command = Command::new(UBLKIT);
    command.arg("serve").args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Serving { child: command.spawn().expect("ublkit runs"), path: String::new() }
}

/// Whether a server catches the last of its signals.
fn heeds_signals(serving: &Serving) -> bool {
    let status = tools::read(&format!("/proc/{}/status", serving.child.id()));
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("its line");
    let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
    caught >> (Signal::USR2.as_raw() - 1) & 1 == 1
}

/// One side sends its signals, as fast as it can or with pauses.
fn side(serving: &Serving, signals: &[Signal], dice: &mut Dice) -> JoinHandle<()> {
    let pid = Pid::from_child(&serving.child);
    let pause = Duration::from_micros(dice.one_of(&[0, 100, 1000]));
    let storm: Vec<Signal> = (0..SIGNALS).map(|_| dice.one_of(signals)).collect();
    thread::spawn(move || {
        for signal in storm {
            kill_process(pid, signal).expect("nobody has waited for it");
            thread::sleep(pause);
        }
    })
}
