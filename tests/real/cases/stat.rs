//! `ublkit stat`: what it says of devices that are used, and where it gets it from.

use super::Context;
use crate::tools::{self, Serving, UBLKIT, eventually, run};
use crate::{disk, load};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use ublkit::{Blocking, Builder, Geometry, Memory};

const SOON: Duration = Duration::from_secs(30);
const PAGE: usize = 4096;

/// What `ublkit stat ID --json` says.
fn stat(id: &str) -> Value {
    serde_json::from_str(&run(UBLKIT, &["stat", id, "--json"])).expect("JSON")
}

fn total(said: &Value, name: &str) -> u64 {
    said["all"]["totals"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {said:#}"))
}

/// Each request is counted once, by the queue that it went to, as the kernel counts it, too.
pub fn counts(context: Context) {
    let serving = Serving::start(&["memory", "--size", "64M", "--queues", "4"]);
    let id = serving.id().to_string();
    let file = disk::open(&serving.path, 0);
    let before = stat(&id);
    let count = context.pick(50, 1000);
    for index in 0..count {
        disk::write(&file, index * PAGE as u64, &disk::stamp(index, 1, PAGE)).unwrap();
        disk::write(&file, index * PAGE as u64, &disk::stamp(index, 2, PAGE)).unwrap();
        disk::read(&file, index * PAGE as u64, PAGE).unwrap();
    }
    let after = stat(&id);
    let grown = |name| total(&after, name) - total(&before, name);
    assert_eq!((grown("reads"), grown("writes")), (count, 2 * count), "{after:#}");
    assert_eq!(grown("read_bytes"), count * PAGE as u64);
    assert_eq!(grown("written_bytes"), 2 * count * PAGE as u64);
    assert_eq!((grown("errors"), grown("panics")), (0, 0));
    assert_eq!(after["counted_by"], "queues");
    assert_eq!(after["server_pid"], serving.child.id());
    let queues = after["queues"].as_array().expect("a list");
    assert_eq!(queues.len(), 4);
    let sum: u64 = queues.iter().map(|queue| queue["totals"]["reads"].as_u64().unwrap()).sum();
    assert_eq!(sum, total(&after, "reads"));
    let kernels = tools::read(&format!("/sys/block/ublkb{id}/stat"));
    let of_kernel = |at| kernels.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
    assert_eq!((total(&after, "reads"), total(&after, "writes")), (of_kernel(0), of_kernel(4)));
    drop(file);
    serving.stop();
    assert_eq!(sockets(), Vec::<String>::new(), "left behind");
}

/// Sockets in the state directory.
fn sockets() -> Vec<String> {
    let names = tools::names("/run/ublkit").into_iter();
    names.filter(|name| name.ends_with(".sock")).collect()
}

/// Rates and latencies of a disk that is busy.
pub fn busy(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M", "--queues", "2"]);
    let id = serving.id().to_string();
    let mut fio = load::mixed(&serving.path);
    load::busy(&serving.path);
    let said = stat(&id);
    let all = &said["all"];
    let rate = |name: &str| all[name].as_f64().unwrap();
    assert!(rate("reads_per_s") > 10.0 && rate("writes_per_s") > 10.0, "{said:#}");
    // Whole blocks, but for how numbers with fractions are rounded.
    assert!(rate("read_bytes_per_s") > rate("reads_per_s") * 4095.9, "{said:#}");
    let latency =
        |name: &str| all["latency_ns"][name].as_u64().unwrap_or_else(|| panic!("{said:#}"));
    assert!(latency("sampled") > 10, "{said:#}");
    let order = ["p50", "p90", "p99", "p99.9", "most"].map(latency);
    assert!(order.is_sorted() && order[0] > 100, "{said:#}");
    let [p50, p90, p99, ..] = order.map(|nanoseconds| nanoseconds / 1000);
    println!("  measured: p50 {p50} us, p90 {p90} us, p99 {p99} us in the server");
    let text = run(UBLKIT, &["stat", "--prometheus"]);
    let line = format!("ublkit_requests_total{{device=\"{id}\",queue=\"1\",operation=\"read\"}} ");
    assert!(text.contains(&line), "{text}");
    let _ = fio.kill();
    let _ = fio.wait();
    serving.stop();
    assert_eq!(run(UBLKIT, &["stat", "--prometheus"]).matches("device=").count(), 0);
}

/// Lines where nobody looks, a view on a terminal; both end with the device.
pub fn watched(_: Context) {
    let serving = Serving::start(&["null", "--size", "1G"]);
    let id = serving.id().to_string();
    let mut lines = Command::new(UBLKIT)
        .args(["stat", &id, "--watch"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut read = BufReader::new(lines.stdout.take().unwrap()).lines().map_while(Result::ok);
    let head = read.next().expect("a head");
    assert!(head.contains("SECONDS QUEUE READ/s"), "{head}");
    let line = read.find(|line| line.contains(" all ")).expect("a line");
    assert!(line.trim_start().starts_with("1."), "{line}");
    assert!(!line.contains('\x1b'), "{line}");

    let seen = "/tmp/ublkit-stat-seen";
    let call = format!("{UBLKIT} stat {id} --watch");
    let mut terminal = Command::new("script")
        .args(["--quiet", "--flush", "--command", &call, seen])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let frames = || std::fs::read_to_string(seen).unwrap_or_default().matches("\x1b[J").count();
    eventually("three views are drawn", SOON, || frames() >= 3);
    serving.stop();
    assert!(tools::wait(&mut lines, SOON).success());
    assert!(tools::wait(&mut terminal, SOON).success());
    let view = std::fs::read_to_string(seen).unwrap();
    assert!(view.contains("latency   p50") && view.contains("F\x1b[1m/dev/ublkb"), "{view}");
}

/// Of devices that others serve, or nobody, it says what it can.
pub fn of_others(_: Context) {
    let memory = Memory::new(Geometry::new(64 << 20)).unwrap();
    let server = Builder::new().serve(Blocking::new(memory)).unwrap(); // without a meter
    let id = server.id().to_string();
    let file = disk::open(&server.block_path(), 0);
    let before = total(&stat(&id), "reads");
    disk::read(&file, 0, 4 * PAGE).unwrap();
    let said = stat(&id);
    assert_eq!((&said["counted_by"], &said["queues"]), (&"kernel".into(), &Value::Null));
    assert_eq!(total(&said, "reads"), before + 4);
    let text = run(UBLKIT, &["stat", &id]);
    assert!(text.starts_with(&format!("# process {} serves it", std::process::id())), "{text}");
    drop(file);
    server.stop().unwrap();

    let serving = Serving::start(&["null", "--size", "1G", "--no-meter"]);
    assert_eq!(stat(&serving.id().to_string())["counted_by"], "kernel");
    serving.stop();

    let serving = Serving::start(&["null", "--size", "1G"]);
    let id = serving.id().to_string();
    assert_eq!(sockets().len(), 1);
    serving.signal(Signal::KILL);
    serving.end(SOON);
    eventually("the driver notices", SOON, || run(UBLKIT, &["show", &id]).contains("dead"));
    let output = tools::output(UBLKIT, &["stat", &id]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("is dead, so it does nothing that could be counted"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    run(UBLKIT, &["delete", &id]);
    assert_eq!(sockets(), Vec::<String>::new(), "left behind");
    let output = tools::output(UBLKIT, &["stat", &id]);
    assert_eq!(output.status.code(), Some(5));
    assert!(!Path::new(&format!("/dev/ublkb{id}")).exists());
}
