//! Recordings, held again; and files that are none.

use super::{Disk, Slow, busy, conversation, json, memory, serve, short_life};
use std::process::Command;
use ublkit::replay::{Recording, Report, replay, replay_traced};
use ublkit::sim::{Choices, Faults, Load, Profile, Sim};
use ublkit::trace::{Event, Log, What};
use ublkit::{Blocking, Builder, Geometry, Null, Target};

fn replayed(recording: &str, target: impl Target) -> Report {
    let recording = Recording::parse(recording.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
    replay(&recording, target).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_recording_is_held_again() {
    for (seed, faults) in [(5, Faults::default()), (6, Faults::bearable()), (7, Faults::bearable())]
    {
        let (recording, delivered) = busy(seed, faults, Profile::NEWEST);
        let report = replayed(&recording, memory(1 << 20));
        assert_eq!(report.differences, [], "seed {seed}");
        assert_eq!((report.requests, report.answers), (delivered, delivered));
        assert!(report.reads > 100, "{report:?}");
        // A disk that keeps nothing is not that disk.
        let null = Blocking::new(Null::new(Geometry::new(1 << 20)));
        assert!(replayed(&recording, null).different > 10);
    }
}

#[test]
fn the_command_replays_a_recording() {
    let path = std::env::temp_dir().join(format!("ublkit-{}.jsonl", std::process::id()));
    let (recording, delivered) = busy(8, Faults::bearable(), Profile::NEWEST);
    std::fs::write(&path, recording).unwrap();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ublkit"));
        let output = command.arg("replay").arg(&path).args(words).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run(&["memory"]);
    assert!(said.starts_with(&format!("{delivered} requests replayed, ")), "{said}");
    assert_eq!(code, Some(0), "{said}");
    // A smaller disk cannot do what this one did.
    let (code, said) = run(&["memory", "--size", "64K"]);
    assert!(said.contains("is answered with EINVAL, not "), "{said}");
    assert_eq!(code, Some(1), "{said}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_replay_is_the_same_conversation() {
    // The requests, by the order in which they come and are answered.
    let order = |events: &[Event]| {
        let of_request = |event: &Event| match &event.what {
            What::Request { slot, descriptor, .. } => {
                let addressless = ublkit::sys::ublk::ublksrv_io_desc { addr: 0, ..*descriptor };
                Some((slot.queue, slot.tag, format!("{addressless:?}")))
            }
            What::Commit { slot, result, .. } => Some((slot.queue, slot.tag, result.to_string())),
            _ => None,
        };
        events.iter().filter_map(of_request).collect::<Vec<_>>()
    };
    let sim = Sim::new(Profile::NEWEST, Choices::seed(9), Faults::bearable());
    let (server, log) = serve(&sim, &Builder::new().queues(4).depth(8), memory(1 << 20));
    sim.load(server.id(), Load::new(300));
    sim.until_answered();
    server.stop().unwrap();
    let recording = Recording::parse(json(&log).as_bytes()).unwrap();
    // Recorded anew while it is replayed.
    let again = Log::of_last(usize::MAX);
    let report = replay_traced(&recording, memory(1 << 20), again.clone()).unwrap();
    assert_eq!(report.differences, []);
    assert_eq!(order(&again.events()), order(&log.events()));
}

/// The line of a recording that holds all of `parts`.
fn line_with(recording: &str, parts: &[&str]) -> usize {
    let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
    recording.lines().position(has_all).unwrap_or_else(|| panic!("{parts:?}"))
}

#[test]
fn a_changed_answer_or_sum_is_reported() {
    let good = json(&short_life());
    // However long the backend takes this time.
    assert_eq!(replayed(&good, Disk::new()).differences, []);
    assert_eq!(replayed(&good, Slow(Disk::new())).differences, []);

    let changed = |line: usize, from: &str, to: &str| {
        let lines = good.lines().enumerate().map(|(index, text)| {
            let text = if index == line { text.replacen(from, to, 1) } else { text.to_string() };
            text + "\n"
        });
        let text: String = lines.collect();
        assert_ne!(text, good, "{from}");
        let report = replayed(&text, Disk::new());
        assert_eq!((report.different, report.differences.len()), (1, 1), "{report:?}");
        assert_eq!(report.differences[0].line, line + 1);
        report.differences[0].what.clone()
    };
    let line = line_with(&good, &["\"commit\"", "\"result\":4096", "\"sums\":\"e"]);
    assert_eq!(
        changed(line, "\"result\":4096", "\"result\":-5"),
        "READ of 4096 bytes at 0 (queue 0, tag 1) is answered with 4096, not EIO"
    );
    let line = line_with(&good, &["\"commit\"", "\"result\":-61"]);
    assert_eq!(
        changed(line, "\"result\":-61", "\"result\":0"),
        "READ of 4096 bytes at 8192 (queue 0, tag 1) is answered with ENODATA, not 0"
    );
    let line = line_with(&good, &["\"commit\"", "\"result\":4096", "\"sums\":\"e"]);
    let sums = good.lines().nth(line).unwrap().split("\"sums\":\"").nth(1).unwrap();
    assert_eq!(
        changed(line, sums, &format!("1{}", &sums[1..])),
        "READ of 4096 bytes at 0 (queue 0, tag 1) brings other data, from byte 0 on"
    );
}

#[test]
fn what_is_no_recording_is_refused_by_its_line() {
    let good = json(&short_life());
    let error = |text: &str| Recording::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error(""), "line 1: no ADD_DEV is answered: is this a trace in JSON?");
    assert_eq!(error("what\n"), "line 1: it is no JSON object: expected value at line 1 column 1");
    assert_eq!(error("{}\n[]\n"), "line 1: 'what' is missing or no text");
    let text = short_life().to_string();
    assert!(error(&text).starts_with("line 1: it is no JSON object"), "{}", error(&text));

    let edited = |parts: &[&str], from: &str, to: &str| {
        let line = line_with(&good, parts);
        let text: Vec<String> = good
            .lines()
            .enumerate()
            .map(|(index, text)| if index == line { text.replace(from, to) } else { text.into() })
            .collect();
        let said = error(&(text.join("\n") + "\n"));
        let expected = format!("line {}: ", line + 1);
        said.strip_prefix(&expected).unwrap_or_else(|| panic!("{said} ({expected})")).to_string()
    };
    let lost = "{\"at_ns\":0,\"task\":\"trace\",\"what\":\"end\",\"lost\":3}\n";
    let request = ["\"request\"", "\"WRITE\""];
    assert_eq!(edited(&request, "\"tag\":0", "\"tag\":2"), "the device has no tag 2 of queue 0");
    assert_eq!(edited(&request, "\"WRITE\"", "\"WRIET\""), "'op' is 'WRIET', which nobody knows");
    assert_eq!(
        edited(&request, "\"device\":0", "\"device\":3"),
        "it is about device 3: a recording is of one device"
    );
    assert_eq!(edited(&request, "\"offset\":0", "\"offset\":7"), "its range is no whole sectors");
    assert_eq!(edited(&request, "*8\"", "*7\""), "its 'sums' are not one for each sector");
    assert_eq!(
        edited(&request, "\"len_bytes\":4096", "\"len_bytes\":1048576"),
        "it is longer than the 524288 bytes that the device takes"
    );
    assert_eq!(
        edited(&["\"answer\"", "\"ADD_DEV\""], "\"depth\":2", "\"depth\":20000"),
        "'depth' is 20000, where 1 to 4096 can be replayed"
    );
    assert_eq!(
        edited(&["\"commit\""], "\"result\":", "\"tluser\":"),
        "'result' is missing or no number that a kernel sends"
    );
    let again = line_with(&good, &["\"answer\"", "\"ADD_DEV\""]);
    let kept = [
        edited(&request, "\"queue\":0", "\"queue\":7"),
        edited(&request, "\"device\":0", "\"device\":3"),
        edited(&request, "\"WRITE\"", "\"WRIET\""),
        edited(&request, "\"offset\":0", "\"offset\":7"),
        edited(&request, "*8\"", "*7\""),
        edited(&request, "\"len_bytes\":4096", "\"len_bytes\":1048576"),
        edited(&["\"commit\""], "\"result\":", "\"tluser\":"),
        edited(&["\"commit\""], "\"tag\":0", "\"tag\":1"),
        edited(&["\"READ\"", "\"tag\":1", "8192"], "\"tag\":1", "\"tag\":0"),
        edited(&request, "\"tag\":0", "\"tag\":-1"),
        edited(&request, "*8\"", "*soon\""),
        edited(&request, "\"len_bytes\":4096", "\"len_bytes\":4398046511104"),
        edited(&["\"answer\"", "\"ADD_DEV\""], "\"queues\":1", "\"queues\":0"),
        error("what\n"),
        error("{}\n[]\n"),
        error(""),
        error(&good.replace("\"SET_PARAMS\"", "\"GET_PARAMS\"")),
        error(&good.replace("\"answer\"", "\"anwser\"")),
        error(&(good.clone() + lost)),
        edited(&["\"commit\""], "\"commit\"", "\"missed\""),
        error(&(good.clone() + good.lines().nth(again).expect("a line") + "\n")),
        ublkit::replay::Error::Stuck("nothing is left to be done".into()).to_string(),
    ];
    conversation::compare("recordings.txt", &(kept.join("\n") + "\n"));
    // Not all memory can be read on all machines: what a write brings may be unknown.
    let unknown = good.replace("\"sums\"", "\"data\"");
    assert!(replayed(&unknown, Disk::new()).differences.is_empty());
    assert!(error(&(good.clone() + lost)).contains("3 events were lost"));
    // The last line of a server that was killed is cut.
    let cut = &good[..good.len() - 20];
    assert!(Recording::parse(cut.as_bytes()).is_ok());
}

/// Whatever stands in a file: it is read and replayed, or refused.
#[test]
fn no_file_makes_it_panic() {
    let good = json(&short_life()).into_bytes();
    let mut choices = Choices::seed(13);
    let odd = b"0123456789-*,:{}[]\"ex\n\\\xff";
    let (mut replays, mut refusals) = (0, 0);
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=choices.below(3) {
            let at = choices.below(bytes.len());
            match choices.below(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, odd[choices.below(odd.len())]),
                2 => bytes.truncate(at.max(1)),
                _ => bytes[at] = odd[choices.below(odd.len())],
            }
        }
        match Recording::parse(&bytes) {
            Err(_) => refusals += 1,
            // A handful, for time's sake; and no more threads or memory than a test needs.
            Ok(recording) if replays < 300 && recording.queues() < 5 && recording.depth() < 64 => {
                replays += 1;
                if let Err(error) = replay(&recording, Disk::new()) {
                    // A disk that cannot be, perhaps; but nothing that is our own fault.
                    let said = error.to_string();
                    let fault = ["panicked", "halt", "defect"].iter().any(|it| said.contains(it));
                    assert!(!fault, "{said}:\n{}", String::from_utf8_lossy(&bytes));
                }
            }
            Ok(_) => {}
        }
    }
    assert!(replays == 300 && refusals > 500, "{replays} replayed, {refusals} refused");
}
