//! Requests that wait for what does not come, and a backend that does not return.

use super::Context;
use super::errors::Restore;
use crate::disk;
use crate::tools::{self, Serving, UBLKIT, eventually, mount_point, names, run};
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ublkit::{Backend, Blocking, Builder, Errno, Geometry, Recovery, Watchdog};

const SOON: Duration = Duration::from_secs(60);

/// What a server that gives up ends with.
const GIVEN_UP: u8 = 7;

/// A file on a file system that is frozen: writes to it hang in the kernel, where nothing can
/// cancel them. Their clients are answered in time; `show` tells before; and once the file system
/// is thawed, everything goes on.
pub fn frozen(_: Context) {
    let below = Serving::start(&["memory", "--size", "256M"]);
    run("mkfs.ext4", &["-q", &below.path]);
    let point = mount_point("frozen");
    run("mount", &[&below.path, &point]);
    let image = format!("{point}/image");
    let words = ["file", &image, "--size", "64M", "--data", "copy", "--request-timeout", "8"];
    let serving = Serving::start(&words);
    let id = serving.id().to_string();
    let client = disk::open(&serving.path, 0);
    disk::write(&client, 0, &[1; 4096]).expect("it is served");
    run("fsfreeze", &["--freeze", &point]);
    let path = serving.path.clone();
    let begun = Instant::now();
    let writer = std::thread::spawn(move || {
        let client = disk::open(&path, 0);
        disk::write(&client, 4096, &[2; 4096]).map_err(|error| error.raw_os_error())
    });
    let stuck = || run(UBLKIT, &["show", &id]).contains("a request has waited for ");
    eventually("it is told of before it is answered", Duration::from_secs(8), stuck);
    let answer = writer.join().unwrap();
    let took = begun.elapsed();
    let frozen_reads = disk::read(&client, 0, 4096);
    run("fsfreeze", &["--unfreeze", &point]);
    println!("  measured: {} ms until a write that hangs was answered", took.as_millis());
    assert_eq!(answer, Err(Some(Errno::ETIMEDOUT.number())), "after {took:?}");
    assert!((Duration::from_secs(8)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert_eq!(frozen_reads.expect("reads go on"), [1; 4096]);
    disk::write(&client, 8192, &[3; 4096]).expect("writes go on");
    assert_eq!(disk::read(&client, 8192, 4096).unwrap(), [3; 4096]);
    let said = run(UBLKIT, &["stat", &id, "--json"]);
    assert!(said.contains("\"timeouts\": 1,"), "{said}");
    let shown = run(UBLKIT, &["show", &id]);
    let stuck = shown.lines().find_map(|line| line.strip_prefix("stuck:"));
    assert_eq!(stuck.map(str::trim), Some("none"), "{shown}");
    drop(client);
    serving.signal(Signal::INT);
    let (code, said) = serving.end(SOON);
    assert!(code == 0 && said.contains("a request has waited for "), "{said}");
    run("umount", &[&point]);
    below.stop();
}

/// A backend that does not return: a watchdog sees it, the process ends by itself, and the next
/// server answers what was asked.
pub fn gives_up(context: Context) {
    a_program_gives_up();
    if context.expendable {
        the_command_gives_up();
    }
}

/// The group of a server, and that of its queue's thread.
const GROUP: &str = "/sys/fs/cgroup/ublkit-stuck";
const FROZEN: &str = "/sys/fs/cgroup/ublkit-stuck/queue";

/// `ublkit serve`: none of its backends blocks, so its thread is stopped from outside, while it
/// makes zeros. Between two requests that is no matter to a watchdog, which only sees whether a
/// backend has returned; hence several tries.
fn the_command_gives_up() {
    let words = ["memory", "--size", "256M", "--lock-memory", "--queues", "1"];
    let lasting = ["--recover", "reissue", "--request-timeout", "1"];
    let serving = Serving::start(&[&words[..], &lasting].concat());
    let (id, path, pid) = (serving.id().to_string(), serving.path.clone(), serving.child.id());
    let comm = |tid: &str| tools::read(&format!("/proc/{pid}/task/{tid}/comm"));
    let threads = names(&format!("/proc/{pid}/task"));
    let queue = threads.iter().find(|tid| comm(tid).trim() == format!("ublk{id}-q0"));
    fs::create_dir(GROUP).unwrap();
    fs::write(format!("{GROUP}/cgroup.procs"), pid.to_string()).unwrap();
    fs::create_dir(FROZEN).unwrap();
    fs::write(format!("{FROZEN}/cgroup.type"), "threaded").unwrap();
    fs::write(format!("{FROZEN}/cgroup.threads"), queue.expect("its name tells")).unwrap();
    let freeze = |whether| fs::write(format!("{FROZEN}/cgroup.freeze"), whether);
    let is_done = Arc::new(AtomicBool::new(false));
    let _groups = Restore(|| {
        is_done.store(true, Ordering::Relaxed);
        let _ = freeze("0");
        let _ = fs::write(format!("{GROUP}/cgroup.kill"), "1"); // of a server that is still there
        for _ in 0..100 {
            if fs::remove_dir(FROZEN).is_ok() && fs::remove_dir(GROUP).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });

    let clients = [(); 2].map(|()| {
        let (path, is_done) = (path.clone(), Arc::clone(&is_done));
        std::thread::spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                run("blkdiscard", &["--force", &path]); // asked again, whoever serves
            }
        })
    });
    let mut child = serving.child;
    let mut tries = 0;
    let status = loop {
        tries += 1;
        freeze("1").unwrap();
        if let Some(status) = tools::ends(&mut child, Duration::from_secs(3)) {
            break status;
        }
        assert!(tries < 20, "it was never stopped in its backend");
        freeze("0").unwrap();
        std::thread::sleep(Duration::from_millis(50));
    };
    println!("  measured: tries until it was stopped in its backend: {tries}");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(GIVEN_UP.into()), "{said}");
    assert!(said.contains("does not return: this server gives up"), "{said}");
    let recover = ["recover", &id, "--data-lost"];
    let serving = Serving::started(Command::new(UBLKIT).args(recover));
    is_done.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    serving.stop();
}

fn a_program_gives_up() {
    let program = std::env::current_exe().expect("a program");
    let serving = Serving::started(Command::new(&program).arg("sticks"));
    let (id, path) = (serving.id(), serving.path.clone());
    let reader = std::thread::spawn(move || {
        let client = disk::open(&path, 0);
        disk::read(&client, 1 << 20, 4096).map(|data| data[0])
    });
    let (code, said) = serving.end(SOON);
    assert_eq!(code, i32::from(GIVEN_UP), "{said}");
    assert!(said.contains("queue 0 has not returned for "), "{said}");
    let server = Builder::new().timeout(SOON).recover(id, Blocking::new(Stuck { sticks: false }));
    let server = server.unwrap();
    assert_eq!(reader.join().unwrap().expect("it is asked again"), 7);
    server.stop().unwrap();
}

/// A disk that never answers a read from its second MiB on.
struct Stuck {
    sticks: bool,
}

impl Backend for Stuck {
    fn geometry(&self) -> Geometry {
        Geometry::new(4 << 20)
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if self.sticks && offset == 1 << 20 {
            std::thread::sleep(Duration::from_secs(1 << 20));
        }
        data.fill(7);
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Result<(), Errno> {
        Err(Errno::EIO)
    }
}

/// The server that sticks, and gives up.
pub fn serve_and_stick() -> ExitCode {
    let builder = Builder::new().recovery(Recovery::Reissue).metered(true);
    let server = builder.serve(Blocking::new(Stuck { sticks: true })).expect("a device");
    println!("{}", server.block_path());
    let mut watchdog = Watchdog::new(server.meters());
    let begun = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let stuck = watchdog.look(begun.elapsed(), Duration::from_secs(2));
        if let Some(stuck) = stuck.iter().find(|stuck| stuck.tag.is_none()) {
            eprintln!("queue {} has not returned for {:?}", stuck.queue, stuck.time);
            std::process::exit(GIVEN_UP.into()); // without a word to the thread that sticks
        }
    }
}
