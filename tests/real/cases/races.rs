//! Two commands at one time about one device: one that is live, or whose server is dead.

use super::Context;
use super::recovery::{Image, kill, records};
use crate::dice::Dice;
use crate::disk;
use crate::tools::{self, Serving, UBLKIT, devices};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(60);

/// What both are told to wait for at the most, in seconds,
const PATIENCE: &str = "5";
/// and when a pair has come to its end, at the latest.
const BOUND: Duration = Duration::from_secs(30);

/// What became of a command.
#[derive(Debug)]
enum Outcome {
    /// It serves the disk, or did.
    Serves(Serving),
    /// It has ended with that code, and said that.
    Ended(i32, String),
}

/// Runs a command until it ends, or serves.
fn outcome(words: &str, id: &str) -> Outcome {
    let mut command = Command::new(UBLKIT);
    command.args(words.split(' ')).args([id, "--timeout", PATIENCE]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut line = String::new();
    let out = child.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let command = Serving { child, path: line.trim_end().to_string() };
    if command.path.starts_with("/dev/ublkb") {
        return Outcome::Serves(command);
    }
    let (code, said) = command.end(SOON);
    Outcome::Ended(code, said)
}

/// Runs two commands, the second that long after the first.
fn both(words: [&str; 2], id: &str, later: Duration) -> [Outcome; 2] {
    let begun = Instant::now();
    let outcomes = thread::scope(|scope| {
        let first = scope.spawn(|| outcome(words[0], id));
        thread::sleep(later);
        let second = outcome(words[1], id);
        [first.join().expect("no panic"), second]
    });
    println!("  {words:?}: {outcomes:?}");
    assert!(begun.elapsed() < BOUND, "{words:?}: {:?}", begun.elapsed());
    outcomes
}

/// One has deleted the device, or one serves it, and is stopped then; the other says why it cannot.
fn judge(words: [&str; 2], outcomes: [Outcome; 2]) {
    let is_deleted = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Ended(0, _)));
    let mut servers = 0;
    for (word, outcome) in words.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Ended(code, said) => {
                let codes = if word == "delete" { &[0, 5, 6][..] } else { &[1, 2, 5, 6] };
                assert!(codes.contains(&code), "{words:?}: {word}: {code}, {said}");
                let lines = said.lines().count();
                assert_eq!(lines, usize::from(code != 0), "{words:?}: {word}: {code}, {said}");
            }
            // It was live for a moment, between two looks of the other.
            Outcome::Serves(serving) if is_deleted => {
                let (code, said) = serving.end(SOON);
                println!("  served, and deleted: {code}, {said}");
                assert_eq!(code, 0, "{words:?}: {said}");
            }
            Outcome::Serves(serving) => {
                servers += 1;
                // What the other forgot would be missed by the next one.
                let known = tools::names("/run/ublkit").into_iter();
                assert_eq!(known.filter(|name| name.ends_with(".json")).count(), 1, "{words:?}");
                disk::read(&disk::open(&serving.path, 0), 0, 4096).expect("it is served");
                serving.stop();
            }
        }
    }
    assert_eq!(servers, u32::from(!is_deleted), "{words:?}: who has it?");
}

/// The pairs, in any order and at any distance. Each ends, no more than one of a pair has the
/// device, and nothing is left.
pub fn pairs(context: Context) {
    let mut dice = Dice::new("two commands");
    for _ in 0..context.pick(1, 30) {
        for words in [["delete"; 2], ["delete", "recover"], ["recover", "delete"], ["recover"; 2]] {
            // Another server that writes is kept out by a file's lock, or else by the driver.
            let image = Image::new("races");
            let serving = match dice.below(2) {
                0 => image.serve("4M", &["--recover", "reissue"]),
                _ => Serving::start(&["null", "--size", "4M", "--recover", "reissue"]),
            };
            let id = kill(serving);
            // A server takes its time until it is live.
            let most = if words == ["recover", "delete"] { 600 } else { 60 };
            let later = Duration::from_millis(dice.below(most) as u64);
            let outcomes = both(words, &id, later);
            judge(words, outcomes);
            assert_eq!(devices(), Vec::<String>::new(), "{words:?}");
        }
    }
    assert_eq!(records(), Vec::<String>::new(), "of devices that are gone");
}

/// Of a live disk that two processes take away each is told that it is gone, and so is its server;
/// and a third one, who is late for sure.
pub fn of_a_live_one(context: Context) {
    let mut dice = Dice::new("two commands about a live disk");
    let commands = ["stop", "delete --force"];
    for _ in 0..context.pick(1, 20) {
        for words in commands.iter().flat_map(|first| commands.map(|second| [*first, second])) {
            let recovery = [&[][..], &["--recover", "reissue"]][dice.below(2)];
            let serving = Serving::start(&[&["memory", "--size", "16M"], recovery].concat());
            disk::write(&disk::open(&serving.path, 0), 0, &[7; 4096]).expect("it is served");
            let later = Duration::from_millis(dice.below(40) as u64);
            for outcome in both(words, &serving.id().to_string(), later) {
                let Outcome::Ended(code, said) = outcome else { panic!("nobody serves it anew") };
                assert!([0, 5].contains(&code), "{words:?}: {code}, {said}");
            }
            let id = serving.id().to_string();
            let (code, said) = serving.end(SOON);
            assert_eq!(code, 0, "{words:?}: {said}");
            assert_eq!(devices(), Vec::<String>::new(), "{words:?}");
            assert!(matches!(outcome(words[1], &id), Outcome::Ended(5, _)), "{words:?}");
        }
    }
    assert_eq!(records(), Vec::<String>::new(), "of devices that are gone");
}
