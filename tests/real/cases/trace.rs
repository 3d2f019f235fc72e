//! What `--trace` hears of a server on a real kernel.

use super::Context;
use crate::disk;
use crate::tools::{self, Serving, UBLKIT, output};
use rustix::process::Signal;
use rustix::thread::CpuSet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const PAGE: usize = 4096;
const DEPTH: usize = 8;

/// A place that no scan for partitions looks at.
const QUIET: u64 = 4 << 20;

/// Where a client on a CPU does its `turn`: two pages apart, so that no two requests are joined.
fn place(cpu: u16, turn: u64) -> u64 {
    QUIET + (u64::from(cpu) << 22) + turn * 2 * PAGE as u64
}

/// Writes and reads pages from one CPU, so that they go to that CPU's queue.
fn client(cpu: u16, path: &str, turns: u64) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu.into());
    rustix::thread::sched_setaffinity(None, &cpus).expect("the CPU exists");
    let file = disk::open(path, 0);
    for turn in 0..turns {
        let stamp = disk::stamp(turn, cpu.into(), PAGE);
        disk::write(&file, place(cpu, turn), &stamp).unwrap();
        assert!(disk::read(&file, place(cpu, turn), PAGE).unwrap() == stamp);
    }
}

fn word<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

fn number(line: &Value, name: &str) -> u64 {
    line[name].as_u64().unwrap_or_else(|| panic!("no {name}: {line}"))
}

/// A recording, line by line.
fn lines(path: &str) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    tools::read(path).lines().map(parse).collect()
}

/// Requests of clients, by operation and place: what they brought, and how they were answered.
fn conversations(lines: &[Value]) -> BTreeMap<(String, u64), (Value, Value)> {
    let mut under_way: BTreeMap<(u64, u64), (Value, bool)> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in lines {
        let what = word(line, "what");
        if !["request", "operation", "commit"].contains(&what) {
            continue;
        }
        let slot = (number(line, "queue"), number(line, "tag"));
        match what {
            "request" => {
                let before = under_way.insert(slot, (line.clone(), false));
                assert!(before.is_none(), "{line}");
            }
            "operation" => {
                let (request, is_done) = under_way.get_mut(&slot).expect("a request");
                assert_eq!((&request["op"], word(line, "result")), (&line["op"], "ok"), "{line}");
                *is_done = true;
            }
            _ => {
                let (request, is_done) = under_way.remove(&slot).expect("a request");
                assert!(is_done, "answered, but not by the backend: {line}");
                let latency = number(line, "latency_ns");
                let since = number(line, "at_ns") - number(&request, "at_ns");
                assert!(latency > 0 && latency == since, "{request} {line}");
                let offset = request["offset"].as_u64().unwrap_or(0);
                found.insert((word(&request, "op").to_string(), offset), (request, line.clone()));
            }
        }
    }
    assert!(under_way.is_empty(), "{under_way:?}");
    found
}

/// Each thing that clients do is told, with its times, and can be done again without a kernel.
pub fn recorded(context: Context) {
    let turns = context.pick(20, 500);
    let talk = "/tmp/talk.jsonl";
    let trace = format!("--trace={talk}");
    let words = ["memory", "--size", "64M", "--queues", "4", "--depth", &DEPTH.to_string()];
    let serving = Serving::start(&[&words[..], &[&trace, "--trace-format", "json"]].concat());
    std::thread::scope(|scope| {
        for cpu in 0..4 {
            let path = &serving.path;
            scope.spawn(move || client(cpu, path, turns));
        }
    });
    let large = disk::stamp(1, 2, 1 << 20);
    let file = disk::open(&serving.path, 0);
    disk::write_large(&file, 32 << 20, &large).unwrap();
    assert!(disk::read_large(&file, 32 << 20, large.len()).unwrap() == large);
    drop(file);
    let place_of_hole = (40 << 20).to_string();
    let hole = ["--force", "--offset", &place_of_hole, "--length", "65536", &serving.path];
    tools::run("blkdiscard", &hole);
    serving.stop();

    let lines = lines(talk);
    let of = |what: &str| lines.iter().filter(|line| word(line, "what") == what).count();
    let queues = of("ring") - 1; // one is the owner's
    assert_eq!((of("fetch"), of("abort")), (queues * DEPTH, queues * DEPTH));
    assert_eq!((of("failed"), of("missed"), of("refusal")), (0, 0, 0));
    let last = lines.last().expect("lines");
    assert_eq!((word(last, "what"), number(last, "lost")), ("end", 0));
    let times: Vec<u64> = lines.iter().map(|line| number(line, "at_ns")).collect();
    assert!(times.is_sorted(), "events are in the order of their times");
    for command in ["ADD_DEV", "SET_PARAMS", "START_DEV", "DEL_DEV"] {
        let is_it =
            |line: &&Value| word(line, "what") == "answer" && word(line, "command") == command;
        let answer = lines.iter().find(is_it).unwrap_or_else(|| panic!("{command}"));
        assert_eq!(answer["result"].as_i64(), Some(0), "{answer}");
        assert!(number(answer, "latency_ns") > 0, "{answer}");
    }

    let talks = conversations(&lines);
    let asked = |op: &str, offset: u64, len_bytes: u64| {
        let told = talks.get(&(op.to_string(), offset));
        let (request, commit) = told.unwrap_or_else(|| panic!("no {op} at {offset}"));
        assert_eq!(number(request, "len_bytes"), len_bytes, "{request}");
        (request, commit)
    };
    for (cpu, turn) in (0..4).flat_map(|cpu| (0..turns).map(move |turn| (cpu, turn))) {
        let (write, commit) = asked("WRITE", place(cpu, turn), PAGE as u64);
        assert_eq!(number(commit, "result"), PAGE as u64);
        let (_, read) = asked("READ", place(cpu, turn), PAGE as u64);
        assert_eq!(write["sums"], read["sums"], "{write} {read}");
        assert!(!word(write, "sums").is_empty(), "{write}");
    }
    let half = 512 << 10;
    asked("WRITE", 32 << 20, half);
    asked("READ", (32 << 20) + half, half);
    asked("DISCARD", 40 << 20, 65536);

    let replay = |backend: &str| {
        let output = output(UBLKIT, &["replay", talk, backend]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, said) = replay("memory");
    let last = said.lines().last().unwrap_or_default();
    println!("measured: {last}");
    let least = format!("{} requests replayed", of("request"));
    assert!(code == Some(0) && said.starts_with(&least), "{code:?} {said}");
    // A disk that keeps nothing must be found out.
    let (code, said) = replay("null");
    assert!(code == Some(1) && said.contains("brings other data"), "{code:?} {said}");
    std::fs::remove_file(talk).expect("it was written");
}

/// A trace whose reader has gone, or does not read, costs the server nothing but the trace.
pub fn unread(_: Context) {
    let start = || Serving::start(&["memory", "--size", "64M", "--queues", "1", "--trace"]);

    let serving = start();
    client(0, &serving.path, 5);
    serving.signal(Signal::INT);
    let (code, said) = serving.end(SOON);
    assert_eq!(code, 0, "{said}");
    for part in ["-> ADD_DEV", "<- START_DEV", "-> FETCH", "<- WRITE", "-- READ", "latency="] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let end = said.lines().last().unwrap_or_default();
    assert!(end.ends_with(" trace     -- END lost=0"), "{end}");

    let mut gone = start();
    drop(gone.child.stderr.take());
    client(0, &gone.path, 50);
    gone.signal(Signal::INT);
    assert_eq!(tools::wait(&mut gone.child, SOON).code(), Some(0));

    let mut idle = start();
    client(0, &idle.path, 500); // a pipe holds a few hundred lines
    idle.signal(Signal::INT);
    assert_eq!(tools::wait(&mut idle.child, SOON).code(), Some(0));

    // A disk that is full.
    let mut command = Command::new(UBLKIT);
    command.args(["serve", "null", "--size", "64M", "--trace=/dev/full"]).stderr(Stdio::piped());
    let full = Serving::started(&mut command);
    client_of_null(&full.path);
    full.signal(Signal::INT);
    let (code, said) = full.end(SOON);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the trace is not whole") && said.contains("No space left"), "{said}");
}

fn client_of_null(path: &str) {
    let file = disk::open(path, 0);
    disk::write(&file, QUIET, &[1; PAGE]).unwrap();
}

/// A server whose disk's path nobody hears of has another process stop its device: of its own
/// STOP_DEV, by which it could be kept, nothing is left to be done.
pub fn unheard(_: Context) {
    let talk = "/tmp/unheard.jsonl";
    let trace = format!("--trace={talk}");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let words = ["serve", "null", "--size", "64M", &trace, "--trace-format", "json"];
    let output = Command::new(UBLKIT).args(words).stdout(full).output().unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(why.contains("cannot write to standard output"), "{why}");
    assert_eq!(output.status.code(), Some(1), "{why}");
    let lines = lines(talk);
    let is = |line: &Value, what, command| {
        (word(line, "what"), word(line, "command")) == (what, command)
    };
    let own = lines.iter().position(|line| is(line, "command", "STOP_DEV")).expect("it stops it");
    let looked = lines[..own].iter().rfind(|line| is(line, "answer", "GET_DEV_INFO"));
    assert_eq!(looked.map(|line| word(line, "state")), Some("DEAD"), "{looked:?}");
    assert_eq!(tools::devices(), Vec::<String>::new());
}
