//! Conversations over the simulated kernel: what they look like, and that they can be held again.
//!
//! `UBLKIT_BLESS=1 cargo test --test trace` writes the golden files anew; then read what changed.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use ublkit::replay::{Recording, Report, replay};
use ublkit::sim::{Ask, Choices, Faults, Load, Profile, Sim};
use ublkit::trace::{Detail, Event, Log, Traced, What};
use ublkit::{
    Backend, Blocking, Builder, Completion, Durability, Errno, Geometry, Handler, Io, Memory, Null,
    Operation, Server, Step, Target,
};

const PAGE: usize = 4096;

fn memory(size_bytes: u64) -> Blocking<Memory> {
    Blocking::new(Memory::new(Geometry::new(size_bytes)).unwrap())
}

/// Serves `target` on `sim`, and listens.
fn serve<T: Target>(
    sim: &Sim,
    builder: &Builder,
    target: T,
) -> (Server<Traced<ublkit::sim::Task>>, Log) {
    let log = Log::of_last(usize::MAX);
    let kernel = Traced::new(sim.task(), Detail::REPEATABLE, log.clone());
    let target = kernel.watch(target);
    (builder.serve_on(kernel, target).unwrap(), log)
}

fn json(log: &Log) -> String {
    log.events().iter().map(|event| format!("{}\n", event.json())).collect()
}

fn write(offset: u64, fill: u8) -> Ask {
    Ask::Write { offset, data: vec![fill; PAGE], fua: false }
}

fn read(offset: u64) -> Ask {
    Ask::Read { offset, len_bytes: 4096 }
}

/// A disk with a cache, and a place that cannot be read.
struct Disk(Memory);

impl Disk {
    fn new() -> Blocking<Self> {
        Blocking::new(Self(Memory::new(Geometry::new(1 << 20)).unwrap()))
    }
}

impl Backend for Disk {
    fn geometry(&self) -> Geometry {
        let mut geometry = self.0.geometry();
        geometry.durability = Durability::FlushAndFua;
        geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if offset == 8192 { Err(Errno::ENODATA) } else { self.0.read(offset, data) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.0.write(offset, data)
    }

    fn write_zeroes(&self, offset: u64, len: u64, may_unmap: bool) -> Result<(), Errno> {
        self.0.write_zeroes(offset, len, may_unmap)
    }
}

/// Its flushes take their time.
struct Slow<T>(T);

impl<T: Target> Target for Slow<T> {
    type Handler = Slow<T::Handler>;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn handler(&self, queue: u16) -> Result<Slow<T::Handler>, Errno> {
        self.0.handler(queue).map(Slow)
    }
}

impl<H: Handler> Handler for Slow<H> {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        if io.request().operation != Operation::Flush {
            return self.0.start(io);
        }
        io.delay(Duration::from_micros(1500), 0).unwrap();
        Step::Pending
    }

    fn resume(&mut self, io: &mut Io<'_>, _done: Completion) -> Step {
        self.0.start(io)
    }
}

/// A short life with fixed choices.
fn short_life() -> Log {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let (server, log) = serve(&sim, &Builder::new().depth(2), Slow(Disk::new()));
    let fua = Ask::Write { offset: 512, data: vec![7; 512], fua: true };
    let zeroes = Ask::WriteZeroes { offset: 0, len_bytes: 8192, no_unmap: true };
    for asks in [vec![write(0, 1), read(8192)], vec![fua, read(0)], vec![Ask::Flush, zeroes]] {
        for ask in asks {
            sim.ask(server.id(), 0, ask).unwrap();
        }
        sim.until_answered();
    }
    server.stop().unwrap();
    sim.assert_clean();
    log
}

fn compare(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return std::fs::write(path, found).expect("the repository can be written");
    }
    let golden = std::fs::read_to_string(path).expect("the file is committed");
    for (number, (golden, found)) in golden.lines().zip(found.lines()).enumerate() {
        assert_eq!(found, golden, "{name}, line {}", number + 1);
    }
    assert_eq!(found.lines().count(), golden.lines().count(), "{name}:\n{found}");
}

#[test]
fn a_short_life_as_text() {
    compare("conversation.txt", &short_life().to_string());
}

#[test]
fn a_short_life_as_json() {
    let found = json(&short_life());
    for line in found.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(parsed["at_ns"].is_u64() && parsed["what"].is_string(), "{line}");
    }
    compare("conversation.jsonl", &found);
}

/// Many clients, queues and faults; answers the recording and how often something was delivered.
fn busy(seed: u64, faults: Faults, profile: Profile) -> (String, u64) {
    let sim = Sim::new(profile, Choices::seed(seed), faults);
    let (server, log) = serve(&sim, &Builder::new().queues(4).depth(8), memory(1 << 20));
    let load = sim.load(server.id(), Load::new(400));
    sim.until_answered();
    server.stop().unwrap();
    sim.assert_clean();
    assert_eq!(sim.tally(load).succeeded, 400);
    (json(&log), sim.audit().delivered)
}

#[test]
fn nothing_that_is_said_is_missed() {
    for profile in Profile::ALL {
        for (seed, faults) in [(1, Faults::default()), (2, Faults::bearable())] {
            let (text, delivered) = busy(seed, faults, *profile);
            let count = |what: &str| {
                let what = format!("\"what\":\"{what}\"");
                text.lines().filter(|line| line.contains(&what)).count() as u64
            };
            let told = (count("request"), count("operation"), count("commit"));
            assert_eq!(told, (delivered, delivered, delivered), "{profile}, seed {seed}");
            assert_eq!(count("missed"), 0);
            let unexpected = "\"what\":\"done\",\"user_data\"";
            assert!(!text.contains(unexpected), "{profile}, seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_conversation() {
    let run = |seed| busy(seed, Faults::bearable(), Profile::NEWEST);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn listening_changes_nothing() {
    let run = |traced: bool| {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(11), Faults::bearable());
        let builder = Builder::new().queues(2).depth(4);
        let (id, stop): (_, Box<dyn FnOnce()>) = if traced {
            let (server, _) = serve(&sim, &builder, memory(1 << 20));
            (server.id(), Box::new(|| drop(server.stop().unwrap())))
        } else {
            let server = builder.serve_on(sim.task(), memory(1 << 20)).unwrap();
            (server.id(), Box::new(|| drop(server.stop().unwrap())))
        };
        sim.load(id, Load::new(300));
        sim.until_answered();
        stop();
        sim.assert_clean();
        sim.audit()
    };
    assert_eq!(run(true), run(false));
}

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
    let report = ublkit::replay::replay_traced(&recording, memory(1 << 20), again.clone()).unwrap();
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
        "READ of 4096 bytes at 8192 (queue 0, tag 0) is answered with ENODATA, not 0"
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
    let request = ["\"request\"", "\"WRITE\""];
    assert_eq!(edited(&request, "\"tag\":1", "\"tag\":2"), "the device has no tag 2 of queue 0");
    assert_eq!(edited(&request, "\"WRITE\"", "\"WRIET\""), "'op' is 'WRIET', which nobody knows");
    assert_eq!(
        edited(&request, "\"device\":0", "\"device\":3"),
        "it is about device 3: a recording is of one device"
    );
    assert_eq!(edited(&request, "\"offset\":0", "\"offset\":7"), "its range is no whole sectors");
    assert_eq!(
        edited(&request, "\"sums\"", "\"data\""),
        "it is a write without a sum for each of its sectors"
    );
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
    let lost = "{\"at_ns\":0,\"task\":\"trace\",\"what\":\"end\",\"lost\":3}\n";
    assert!(error(&(good.clone() + lost)).contains("3 events were lost"));
    // The last line of a server that was killed is cut.
    let cut = &good[..good.len() - 20];
    assert!(Recording::parse(cut.as_bytes()).is_ok());
}
