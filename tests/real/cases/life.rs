//! How devices come and go.

use super::Context;
use crate::dice::Dice;
use crate::spy::Spy;
use crate::tools::{self, Serving, UBLKIT, devices, eventually, run};
use crate::{disk, load};
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use ublkit::{Backend, Blocking, Builder, Errno, Features, Geometry, Linux, Null};

const SOON: Duration = Duration::from_secs(30);

fn null() -> Blocking<Null> {
    Blocking::new(Null::new(Geometry::new(1 << 30)))
}

pub fn signals(_: Context) {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let serving = Serving::start(&["memory", "--size", "64M"]);
        serving.signal(signal);
        assert_eq!(serving.end(SOON), (0, String::new()), "{signal:?}");
        assert_eq!(devices(), Vec::<String>::new());
    }
}

/// Started by nohup, a server does not end with its terminal.
pub fn nohup(_: Context) {
    let mut command = Command::new("nohup");
    let serving = Serving::started(command.args([UBLKIT, "serve", "null", "--size", "64M"]));
    serving.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    run(UBLKIT, &["show", &serving.path]);
    serving.signal(Signal::INT);
    let (code, said) = serving.end(SOON);
    assert_eq!(code, 0, "{said}");
}

/// A second signal does not wait: here for somebody who has the disk open.
pub fn second_signal(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M"]);
    let id = serving.id().to_string();
    let client = disk::open(&serving.path, 0);
    serving.signal(Signal::INT);
    eventually("the disk goes", SOON, || disk::read(&client, 0, 4096).is_err());
    serving.signal(Signal::TERM);
    assert_eq!(serving.end(SOON), (128 + 15, String::new()));
    drop(client);
    // It may have come before the device was deleted, or after.
    let delete = tools::output(UBLKIT, &["delete", &id]);
    assert!([Some(0), Some(5)].contains(&delete.status.code()), "{delete:?}");
    assert_eq!(devices(), Vec::<String>::new());

    // A terminal that goes says so twice, which is no second wish.
    let serving = Serving::start(&["memory", "--size", "64M"]);
    let client = disk::open(&serving.path, 0);
    serving.signal(Signal::HUP);
    eventually("the disk goes", SOON, || disk::read(&client, 0, 4096).is_err());
    serving.signal(Signal::HUP);
    drop(client);
    assert_eq!(serving.end(SOON), (0, String::new()));
    assert_eq!(devices(), Vec::<String>::new());
}

/// A server that is out of sight, in another PID namespace, is not taken for one that is gone.
pub fn out_of_sight(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M"]);
    let id = serving.id().to_string();
    let elsewhere = |words: &[&str]| {
        let words = [&["--pid", "--fork", "--mount-proc", UBLKIT][..], words].concat();
        tools::output("unshare", &words)
    };
    for words in [&["delete", &id][..], &["delete", "--all"]] {
        let delete = elsewhere(words);
        let said = String::from_utf8_lossy(&delete.stderr).into_owned();
        assert!(said.contains("is live, though its server is gone or out of sight"), "{said}");
    }
    assert!(disk::read(&disk::open(&serving.path, 0), 0, 4096).is_ok(), "it is there");
    let delete = elsewhere(&["delete", "--force", &id]);
    assert!(delete.status.success(), "{delete:?}");
    assert_eq!(serving.end(SOON).0, 0);
}

/// A client that keeps the disk open does not keep the server for ever.
pub fn held_open(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M"]);
    let client = disk::open(&serving.path, 0);
    serving.signal(Signal::INT);
    let (code, said) = serving.end(SOON);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("something still holds the device"), "{said}");
    drop(client);
    eventually("the device goes with its last client", SOON, || devices().is_empty());
}

pub fn stopped_by_another(_: Context) {
    for stop in [&["stop"][..], &["delete", "--force"], &["delete", "--force", "--no-wait"]] {
        let serving = Serving::start(&["memory", "--size", "64M"]);
        let (id, path) = (serving.id().to_string(), serving.path.clone());
        let words: Vec<&str> = stop[..1].iter().copied().chain([id.as_str()]).collect();
        run(UBLKIT, &[&words[..], &stop[1..]].concat());
        assert_eq!(serving.end(SOON), (0, format!("ublkit: somebody stopped {path}\n")));
        assert_eq!(devices(), Vec::<String>::new());
    }
}

/// Whoever has a server stopped that answers nothing is told in time, though the kernel keeps the
/// command: it waits for the disk's dirty pages.
pub fn stopped_in_time(context: Context) {
    let serving = Serving::start(&["memory", "--size", "64M"]);
    let id = serving.id().to_string();
    let client = disk::open(&serving.path, 0); // whoever closes a disk as the last writes its pages
    load::dirty(&serving.path, 4);
    serving.signal(Signal::STOP);
    // The kernel writes dirty pages for each of them.
    let resizes = context.features.contains(Features::UPDATE_SIZE);
    let resize = ["resize", &id, "32M", "--shrink"];
    let ends = [&["stop", &id][..], &["delete", "--force", &id]];
    for words in resizes.then_some(&resize[..]).into_iter().chain(ends) {
        let words = [words, &["--timeout", "2"]].concat();
        let output = tools::output_within(Duration::from_secs(8), UBLKIT, &words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(7), "{words:?}: {said}");
    }
    serving.signal(Signal::CONT);
    drop(client);
    assert_eq!(serving.end(SOON).0, 0);
    assert_eq!(devices(), Vec::<String>::new());
}

/// A disk is stopped if nobody uses it: not while it is mounted or open. What was written last is
/// there.
pub fn stopped_if_unused(context: Context) {
    let can = context.features.contains(Features::SAFE_STOP_DEV);
    let image = "/tmp/ublkit-unused.img";
    for words in [&[][..], &["--recover", "reissue"]] {
        let serving = Serving::start(&[&["file", image, "--size", "64M"], words].concat());
        let (id, path) = (serving.id().to_string(), serving.path.clone());
        let stop = || {
            let output = tools::output(UBLKIT, &["stop", &id, "--if-unused"]);
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let why = if can {
            format!("{path} is in use, so it is not stopped: 'fuser' and 'mount' tell by whom")
        } else {
            format!(
                "this kernel cannot stop a disk only if nobody uses it (7.0 can): make sure, and \
                 'ublkit stop {id}'"
            )
        };
        let refused = (Some(if can { 6 } else { 4 }), format!("ublkit: {why}\n"));
        run("mkfs.ext4", &["-q", &path]);
        let point = tools::mount_point("unused");
        run("mount", &[&path, &point]);
        assert_eq!(stop(), refused, "mounted");
        std::fs::write(format!("{point}/file"), [1; 4096]).unwrap();
        run("umount", &[&point]);
        let client = File::options().write(true).open(&path).unwrap();
        assert_eq!(stop(), refused, "open");
        let last = disk::stamp(3, 3, 4096);
        client.write_all_at(&last, 32 << 20).unwrap(); // and nobody syncs it
        drop(client);
        if can {
            // udev, where there is one, may look at a disk that was closed.
            let busy = || {
                let said = stop();
                assert!(said == refused || said == (Some(0), String::new()), "{said:?}");
                said == refused
            };
            eventually("it is stopped", SOON, || !busy());
            assert_eq!(serving.end(SOON), (0, format!("ublkit: somebody stopped {path}\n")));
            assert_eq!(stop().0, Some(5), "it is gone");
        } else {
            assert_eq!(stop(), refused, "unused");
            serving.stop();
        }
        assert_eq!(devices(), Vec::<String>::new());
        let mut found = [0; 4096];
        File::open(image).unwrap().read_exact_at(&mut found, 32 << 20).unwrap();
        assert!(found[..] == last, "{words:?}: what was written last is lost");
        std::fs::remove_file(image).unwrap();
    }
}

/// A disk's partitions are looked for when it becomes live, unless nobody wishes that; then whoever
/// wants them has them looked for.
pub fn partitions(context: Context) {
    let can = context.features.contains(Features::NO_AUTO_PART_SCAN);
    let image = "/tmp/ublkit-partitions.img";
    let mut table = [0; 512];
    // One of 1 MiB at 1 MiB, of Linux's kind.
    table[446..462].copy_from_slice(&[0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    table[510..].copy_from_slice(&[0x55, 0xaa]);
    for word in [None, Some("--no-partition-scan")] {
        let file = File::create(image).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&table, 0).unwrap();
        let words: Vec<&str> = ["file", image].into_iter().chain(word).collect();
        if word.is_some() && !can {
            let refused = tools::output(UBLKIT, &[&["serve"], &words[..]].concat());
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(4), "{said}");
            assert!(said.contains("this kernel always looks for partitions"), "{said}");
            continue;
        }
        let serving = Serving::start(&words);
        let partition = format!("/sys/class/block/{}p1", &serving.path["/dev/".len()..]);
        let is_there = || std::path::Path::new(&partition).exists();
        if word.is_some() {
            std::thread::sleep(Duration::from_millis(500)); // it takes a few ms where it is done
            assert!(!is_there(), "nobody wished that");
            run("blockdev", &["--rereadpt", &serving.path]);
        }
        eventually("the partition is there", SOON, is_there);
        serving.stop();
    }
    std::fs::remove_file(image).unwrap();
}

/// Two processes stop a device whose disk each has synced before. Whichever comes late finds no
/// disk to sync, and both have what they wanted.
pub fn two_stops(context: Context) {
    let mut dice = Dice::new("two stops");
    for round in 0..context.pick(12, 100) {
        let serving = Serving::start(&["memory", "--size", "64M", "--recover", "reissue"]);
        let id = serving.id().to_string();
        let mut stop = Command::new(UBLKIT);
        let stop = stop.args(["stop", &id]).stderr(Stdio::piped()).spawn().expect("ublkit runs");
        std::thread::sleep(Duration::from_millis(dice.below(60) as u64));
        serving.signal(Signal::INT);
        let stop = stop.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&stop.stderr);
        assert!(matches!(stop.status.code(), Some(0 | 5)), "round {round}: {stop:?}, {said}");
        let (code, said) = serving.end(SOON);
        assert_eq!(code, 0, "round {round}: {said}");
        assert_eq!(devices(), Vec::<String>::new(), "round {round}");
    }
}

/// Devices made, served and deleted many times leave no file, thread or memory behind.
pub fn cycles(context: Context) {
    let cycle = || {
        let server = Builder::new().queues(2).serve(null()).unwrap();
        server.stop().unwrap();
    };
    (0..5).for_each(|_| cycle()); // what the allocator and the C library keep for ever
    let before = footprint();
    let begun = Instant::now();
    let count = context.pick(100, 1000);
    (0..count).for_each(|_| cycle());
    let ms = begun.elapsed().as_millis() / count;
    assert_eq!(before.files, footprint().files);
    // The kernel's own workers come and go; and a thread that was joined is gone a little later.
    eventually("the threads go", SOON, || footprint().threads <= before.threads);
    let after = footprint();
    let grown = after.anon_kib.saturating_sub(before.anon_kib);
    println!("  measured: {ms} ms a device from its making to its end; {grown} KiB more memory");
    assert!(grown < 512, "{grown} KiB more memory after {count} devices");
}

/// What this process holds.
struct Footprint {
    files: usize,
    threads: usize,
    anon_kib: u64,
}

fn footprint() -> Footprint {
    Footprint {
        files: tools::names("/proc/self/fd").len(),
        threads: tools::names("/proc/self/task").len(),
        anon_kib: tools::status_kib("RssAnon"),
    }
}

/// How long it takes to get a device, and that a deeper queue costs no call and touches no buffer.
pub fn creation(context: Context) {
    let rounds = context.pick(3, 11);
    let mut calls = Vec::new();
    for (queues, depth) in [(1, 1), (1, 128), (1, 4096), (4, 128)] {
        let mut times = Vec::new();
        let mut last = 0;
        for _ in 0..rounds {
            let spy = Spy::default();
            let seen = spy.calls.clone();
            let anon_before = tools::status_kib("RssAnon");
            let begun = Instant::now();
            let builder = Builder::new().queues(queues).depth(depth);
            let server = builder.serve_on(spy, null()).unwrap();
            times.push(begun.elapsed());
            last = server.info().depth.into();
            calls.push((queues, seen.load(Ordering::Relaxed)));
            let grown = tools::status_kib("RssAnon").saturating_sub(anon_before);
            assert!(grown < 2048, "{grown} KiB touched for {queues} queues of {depth}");
            server.stop().unwrap();
        }
        times.sort();
        let median = times[times.len() / 2].as_micros();
        println!("  measured: {median} us to a live device with {queues} queues of {last}");
    }
    // The scan for partitions costs the server a few turns, more or less: not one call a tag.
    let of = |queues| calls.iter().filter(move |(q, _)| *q == queues).map(|(_, calls)| *calls);
    let (least, most) = (of(1).min().unwrap(), of(1).max().unwrap());
    assert!(
        most - least < 64,
        "between {least} and {most} calls for one queue, whatever its depth"
    );
}

/// Each call to the kernel fails once, from the first open to the last wait: an error or a device,
/// and in the end nothing is left.
pub fn every_call_fails(context: Context) {
    let mut failed = 0;
    for number in 0.. {
        let spy = Spy { fails_at: Some(number), ..Spy::default() };
        let seen = spy.calls.clone();
        let builder = Builder::new().queues(context.pick(1, 4)).depth(8);
        let outcome = builder.timeout(Duration::from_secs(1)).serve_on(spy, null());
        let outcome = outcome.and_then(|server| server.stop().map(drop));
        failed += u32::from(outcome.is_err());
        let left = tools::leftovers();
        assert!(left.is_empty(), "call {number} failed: {outcome:?}; left behind: {left:?}");
        if seen.load(Ordering::Relaxed) <= number {
            println!("  measured: {number} calls to the kernel, {failed} of them vital");
            assert!(failed > 10 && outcome.is_ok());
            return;
        }
    }
}

pub fn stop_under_load(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M"]);
    let mut fio = load::mixed(&serving.path);
    load::busy(&serving.path);
    let begun = Instant::now();
    run(UBLKIT, &["stop", &serving.id().to_string()]);
    println!("  measured: {} ms to stop under load", begun.elapsed().as_millis());
    let status = tools::wait(&mut fio, SOON);
    assert!(!status.success(), "fio's requests were answered with errors");
    let (code, said) = serving.end(SOON);
    assert_eq!(code, 0, "{said}");
}

/// A disk whose writes take their time.
struct Slow;

impl Backend for Slow {
    fn geometry(&self) -> Geometry {
        Geometry::new(1 << 30)
    }

    fn read(&self, _offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.fill(0);
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Result<(), Errno> {
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    }
}

/// A stop whose patience ends: clients get errors, the device goes all the same, and the error says
/// what was late.
pub fn late_stop(_: Context) {
    let builder = Builder::new().timeout(Duration::from_millis(500));
    let server = builder.serve(Blocking::new(Slow)).unwrap();
    let mut fio = load::mixed(&server.block_path());
    let stat = format!("/sys/block/ublkb{}/inflight", server.id());
    let writes = || tools::read(&stat).split_whitespace().nth(1).unwrap().parse::<u32>().unwrap();
    eventually("writes queue up", SOON, || writes() > 20);
    let begun = Instant::now();
    let error = server.stop().unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let said = error.to_string();
    assert!(said.contains("was not answered") || said.contains("did not answer"), "{said}");
    assert!(!tools::wait(&mut fio, SOON).success());
    eventually("the device goes", SOON, || tools::leftovers().is_empty());
}

/// A queue that dies in the middle takes the device down; nobody waits for ever.
pub fn dropped(_: Context) {
    let server = Builder::new().serve_on(Linux, null()).unwrap();
    let path = server.block_path();
    let client = disk::open(&path, 0);
    let holder = std::thread::spawn(move || {
        eventually("the disk goes", SOON, || disk::read(&client, 0, 4096).is_err());
    });
    drop(server); // stops and deletes as well
    holder.join().unwrap();
    assert_eq!(devices(), Vec::<String>::new());
}
