//! What people and programs are shown of two moments, in `tests/golden/stat.txt`.

use super::prometheus;
use super::rates::Rates;
use super::snapshot::{self, Snapshot, Who};
use super::view::{Lines, Live, bytes, count, table, time};
use super::{NO_DISK, socket};
use core::time::Duration;
use std::fs;
use std::path::Path;
use ublkit::{DeviceInfo, DeviceState, Latencies, QueueStats, Reading, Stuck};

const MS: Duration = Duration::from_millis(1);

fn latencies(times: &[(Duration, u64)]) -> Latencies {
    let mut latencies = Latencies::default();
    for (time, requests) in times {
        latencies.add(*time, *requests);
    }
    latencies
}

/// A moment of a device with two queues, so many seconds after it began.
fn moment(seconds: u64) -> Snapshot {
    let busy = QueueStats {
        reads: 120_000 * seconds,
        writes: 3400 * seconds,
        others: 2 * seconds,
        read_bytes: 120_000 * 4096 * seconds,
        written_bytes: 3400 * 16384 * seconds,
        errors: seconds / 2,
        panics: 0,
        timeouts: 0,
    };
    let idle =
        QueueStats { reads: 5 * seconds, read_bytes: 5 * 512 * seconds, ..Default::default() };
    let took = [(MS / 80, 9000 * seconds), (MS / 20, 900 * seconds), (3 * MS, 9 * seconds)];
    Snapshot {
        device: 7,
        server: Some(4321),
        time: Duration::from_secs(1000 + seconds),
        who: Who::Queues,
        queues: vec![
            Reading { stats: busy, in_flight: 31, latencies: latencies(&took) },
            Reading { stats: idle, in_flight: 0, latencies: Latencies::default() },
        ],
        stuck: None,
    }
}

/// The same disk, as the kernel counts it.
fn disk(seconds: u64) -> Snapshot {
    let line = format!(
        "{} 0 {} 9 {} 0 {} 3 2 0 0 4 0 0 0 6 0",
        10 * seconds,
        80 * seconds,
        seconds,
        8 * seconds
    );
    let queues = vec![snapshot::disk(&line).expect("a line")];
    Snapshot { who: Who::Disk, queues, ..moment(seconds) }
}

fn readable(text: &str) -> String {
    text.replace('\x1b', "\\e")
}

#[test]
fn what_is_shown() {
    let rates = Rates::between(&moment(10), &moment(12));
    let foreign = Rates::between(&disk(10), &disk(11));
    let mut lines = Lines::default();
    let mut live = Live::new(false);
    let mut colours = Live::new(true);
    let after = Duration::from_secs;
    let mut found = String::new();
    let mut block = |name: &str, text: &str| found += &format!("# {name}\n{}\n", readable(text));
    block("once", &table(&rates));
    block("once, of another's server", &table(&foreign));
    block("lines", &(lines.next(&rates, after(2)) + &lines.next(&rates, after(4))));
    block("live", &live.frame(&rates, after(2)));
    block("live, drawn anew", &live.frame(&Rates::between(&moment(12), &moment(13)), after(3661)));
    block("live, in colours", &colours.frame(&rates, after(2)));
    let many = |seconds| Snapshot { queues: vec![Reading::default(); 14], ..moment(seconds) };
    let rates_of_many = Rates::between(&many(1), &many(2));
    block("live, of many queues", &Live::new(false).frame(&rates_of_many, after(1)));
    block("json", &format!("{:#}", rates.json()));
    block("json, of another's server", &format!("{:#}", foreign.json()));
    block("prometheus", &prometheus::text(&[moment(2), disk(3)]));
    compare("stat.txt", &found);
}

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return fs::write(path, found).expect("the repository can be written");
    }
    let golden = fs::read_to_string(path).expect("the file is committed");
    assert!(golden == found, "tests/golden/{name} differs; it should say:\n{found}");
}

#[test]
fn a_live_view_of_many_queues_fits_a_terminal() {
    let many = |seconds| {
        let mut snapshot = moment(seconds);
        snapshot.queues = vec![snapshot.queues[0].clone(); 500];
        snapshot
    };
    let frame = Live::new(false).frame(&Rates::between(&many(1), &many(2)), MS);
    assert!(frame.lines().count() < 24, "{frame}");
    assert!(frame.contains("and 488 queues more"), "{frame}");
    let plain = ["\x1b[K", "\x1b[J", "\x1b[?7l", "\x1b[?7h"]
        .iter()
        .fold(frame.clone(), |text, code| text.replace(code, ""));
    let widest = plain.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(79), "{widest:?}: {frame}");
    assert_eq!(table(&Rates::between(&many(1), &many(2))).lines().count(), 502);
}

#[test]
fn what_a_server_tells_is_understood() {
    let moment = moment(3);
    let stuck = [(None, 40), (Some(7), 31)].map(|(tag, seconds)| Stuck {
        queue: 1,
        tag,
        time: Duration::from_secs(seconds),
    });
    let text = snapshot::text(&moment.queues, &stuck);
    let mut told = Snapshot::parse(7, &text).expect("it is its own");
    assert_eq!(told.stuck.take().unwrap(), stuck);
    assert_eq!(told.server, Some(std::process::id()));
    (told.server, told.time) = (moment.server, moment.time);
    assert_eq!(told, moment);
    for wrong in ["", "{}", "[]", r#"{"version":1,"pid":1,"time_ns":1,"queues":[],"stuck":[]}"#] {
        assert!(Snapshot::parse(7, wrong).is_err(), "{wrong}");
    }
    let newer = Snapshot::parse(7, r#"{"version":3}"#).unwrap_err();
    assert!(newer.contains("another version"), "{newer}");
    let odd =
        snapshot::text(&moment.queues, &[]).replace("latencies_ns\":[[", "latencies_ns\":[[\"x\",");
    assert!(Snapshot::parse(7, &odd).unwrap_err().contains("latencies"));
}

#[test]
fn the_kernels_line() {
    let old = "1 0 8 0 2 0 16 0 3 0 0";
    let reading = snapshot::disk(old).expect("without discards and flushes");
    assert_eq!((reading.stats.reads, reading.stats.read_bytes), (1, 4096));
    assert_eq!((reading.stats.writes, reading.stats.written_bytes), (2, 8192));
    assert_eq!((reading.stats.others, reading.in_flight), (0, 3));
    let new = snapshot::disk("1 0 8 0 2 0 16 0 3 0 0 4 0 0 0 5 0").expect("with them");
    assert_eq!(new.stats.others, 9);
    assert!(snapshot::disk("").is_none() && snapshot::disk("no numbers").is_none());
}

#[test]
fn numbers_of_people() {
    for (value, said) in [
        (0.0, "0"),
        (12.4, "12"),
        (999.4, "999"),
        (999.6, "1.0k"),
        (123_456.0, "123k"),
        (1.5e7, "15.0M"),
    ] {
        assert_eq!(count(value), said);
    }
    for (value, said) in
        [(0.0, "0 B"), (1023.0, "1023 B"), (1023.7, "1.0 KiB"), (3.5 * 1024.0, "3.5 KiB")]
    {
        assert_eq!(bytes(value), said);
    }
    let times = [(7, "7ns"), (1499, "1.5us"), (999_600, "1.0ms"), (2_000_000_000, "2.0s")];
    for (nanoseconds, said) in times {
        assert_eq!(time(Some(Duration::from_nanos(nanoseconds))), said);
    }
    assert_eq!(time(None), "-");
}

/// What is said of servers that tell nothing, or nonsense, in `tests/golden/stat-errors.txt`.
#[test]
fn what_is_not_told_is_explained() {
    let good = snapshot::text(&moment(1).queues, &[]);
    assert!(Snapshot::parse(7, &good).is_ok());
    let half = |text: &str| Snapshot::parse(7, text).expect_err("it is no snapshot");
    let without = |name: &str| half(&good.replace(&format!("\"{name}\""), "\"it\""));
    let newer = good.replace("\"version\":", "\"version\":9");
    let odd = good.replace("\"latencies_ns\":[[", "\"latencies_ns\":[[\"soon\",1],[");
    assert!(newer != good && odd != good, "{good}");
    let mut halves = vec![half(""), half("{}"), half(&newer), half(&odd)];
    halves.extend(["reads", "in_flight", "stuck", "queues", "pid", "time_ns"].map(without));
    let gone = std::io::Error::from_raw_os_error(111);
    halves.extend([NO_DISK.into(), socket::UNREACHED.into(), socket::silent(&gone)]);
    let mut info = DeviceInfo::wish(1, 1, 4096);
    let mut said: Vec<String> =
        halves.iter().map(|why| super::no_more(7, why).sentence()).collect();
    for state in [DeviceState::Dead, DeviceState::Quiesced, DeviceState::FailIo] {
        info.state = state;
        said.push(super::no_numbers(&info, 7, "no server of ublkit's runs here").sentence());
    }
    compare("stat-errors.txt", &(said.join("\n") + "\n"));
}

/// Whoever looks for the names of numbers finds them in the help and in the man page.
#[test]
fn the_help_names_all_numbers() {
    let text = prometheus::text(&[moment(1)]);
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let missing: Vec<&str> =
        names.filter(|name| !crate::cli::examples::STAT_EXAMPLES.contains(name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn a_device_that_began_anew_is_no_flood() {
    let rates = Rates::between(&moment(12), &moment(1));
    assert!(rates.all.requests() == 0.0 && rates.all.latencies.count() == 0);
}
