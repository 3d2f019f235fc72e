//! Devices that outlive their servers: killed, recovered, upgraded.

use super::Context;
use crate::dice::Dice;
use crate::oracle::{Oracle, Writers};
use crate::tools::{self, Serving, UBLKIT, devices, eventually, run};
use crate::{disk, load};
use rustix::process::Signal;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use ublkit::{Backend, Blocking, Builder, Errno, Geometry, Memory, Recovery};

/// A driver before 6.15 may notice only after half a minute that a server is gone.
const SOON: Duration = Duration::from_secs(60);

/// More than the writers and fio ask at one time: before 6.15 the driver sees only after half a
/// minute that a server is gone whose queue was full.
const DEPTH: &str = "32";

const BLOCKS: usize = 1024;
const WRITERS: usize = 8;

/// A file for a disk, removed in the end.
pub(super) struct Image(PathBuf);

impl Image {
    pub(super) fn new(name: &str) -> Self {
        let path = PathBuf::from(format!("/tmp/ublkit-{name}.img"));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    pub(super) fn serve(&self, size: &str, words: &[&str]) -> Serving {
        self.serve_with(DEPTH, size, words)
    }

    /// The same by queues of that depth.
    pub(super) fn serve_with(&self, depth: &str, size: &str, words: &[&str]) -> Serving {
        let file = ["file", self.path(), "--size", size, "--queues", "2", "--depth", depth];
        Serving::start(&[&file[..], words].concat())
    }

    pub(super) fn path(&self) -> &str {
        self.0.to_str().expect("as we named it")
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Kills a server, and waits until it is gone.
pub(super) fn kill(serving: Serving) -> String {
    let id = serving.id().to_string();
    serving.signal(Signal::KILL);
    assert_eq!(serving.end(SOON).0, -9);
    id
}

pub(super) fn recover(id: &str) -> Serving {
    Serving::started(Command::new(UBLKIT).args(["recover", id]))
}

/// In each mode: writers write while the server is killed and replaced; what was acknowledged is
/// there, and the others see what they were told they would.
pub fn each_mode(context: Context) {
    for mode in ["wait", "reissue", "fail"] {
        let recovery: Recovery = mode.parse().unwrap();
        let lacking = recovery.features() - context.features;
        if !lacking.is_empty() {
            let serve = ["serve", "null", "--size", "1G", "--recover", mode];
            let refused = tools::output(UBLKIT, &serve);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{said}");
            assert!(said.contains("USER_RECOVERY_FAIL_IO"), "{said}");
            continue;
        }
        let image = Image::new(mode);
        let mut serving = image.serve("4M", &["--recover", mode]);
        let path = serving.path.clone();
        let oracle = Arc::new(Oracle::new(BLOCKS));
        let writers = Writers::start(&oracle, &path, WRITERS);
        for round in 0..context.pick(1, 10) {
            let before = oracle.counts().0;
            eventually("writers write", SOON, || oracle.counts().0 > before + 100);
            let id = kill(serving);
            let (sure, failed) = oracle.counts();
            std::thread::sleep(Duration::from_millis(50));
            let now = oracle.counts();
            if recovery == Recovery::Fail {
                eventually("requests fail", SOON, || oracle.counts().1 > failed);
            } else {
                assert!(now.0 - sure <= WRITERS as u64, "they wait");
                assert!(now.1 - failed <= WRITERS as u64, "they wait");
            }
            let begun = Instant::now();
            serving = recover(&id);
            println!("  measured: {} ms to recover", begun.elapsed().as_millis());
            assert_eq!(serving.path, path, "round {round}");
        }
        writers.finish();
        let (sure, failed) = oracle.counts();
        println!("  {mode}: {sure} writes acknowledged, {failed} failed");
        assert!(recovery != Recovery::Reissue || failed == 0, "a client saw an error");
        oracle.verify(&disk::open(&path, 0)).unwrap();
        serving.stop();
        oracle.verify(&File::open(image.path()).unwrap()).unwrap();
        assert_eq!(devices(), Vec::<String>::new());
    }
}

/// Servers killed at random moments under fio's verify and the writers: no client sees an error,
/// nothing that was acknowledged is lost.
pub fn crash_loop(context: Context) {
    let image = Image::new("crash");
    let mut dice = Dice::new("moments of death");
    let mut serving = image.serve("64M", &["--recover", "reissue"]);
    let path = serving.path.clone();
    // The writers have the first part of the disk, fio the rest.
    let oracle = Arc::new(Oracle::new(BLOCKS));
    let writers = Writers::start(&oracle, &path, WRITERS);
    let mut fio = verify(&path, 8 << 20);
    load::busy(&path);
    let (mut verified, begun) = (0, Instant::now());
    let crashes = context.pick(5, 100);
    for _ in 0..crashes {
        std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
        if let Some(status) = fio.try_wait().unwrap() {
            assert!(status.success(), "fio found something wrong: {status}");
            verified += 1;
            fio = verify(&path, 8 << 20);
        }
        let id = kill(serving);
        serving = recover(&id);
    }
    println!("  measured: {} s for {crashes} crashes", begun.elapsed().as_secs());
    writers.finish();
    let status = tools::ends(&mut fio, Duration::from_secs(300)).expect("fio ends");
    assert!(status.success(), "fio found something wrong: {status}");
    let (sure, failed) = oracle.counts();
    println!("  {sure} writes acknowledged, {} runs of fio verified", verified + 1);
    assert_eq!(failed, 0, "a client saw an error");
    oracle.verify(&disk::open(&path, 0)).unwrap();
    serving.stop();
}

/// fio writes the disk from an offset on, and reads all of it back.
pub(super) fn verify(path: &str, offset_bytes: u64) -> Child {
    Command::new("fio")
        .args(["--name=verify", "--direct=1", "--ioengine=libaio", "--iodepth=16", "--bs=4k"])
        .args(["--rw=randwrite", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1"])
        .args(["--size=16m", "--loops=2", "--thread=1"])
        .arg(format!("--offset={offset_bytes}"))
        .arg(format!("--filename={path}"))
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("fio runs")
}

/// The control of the oracle: a server that forgets one acknowledged write, once.
pub fn lying(_: Context) {
    let program = std::env::current_exe().expect("a program");
    let serving = Serving::started(Command::new(program).arg("lies-once"));
    let oracle = Arc::new(Oracle::new(BLOCKS));
    let writers = Writers::start(&oracle, &serving.path, WRITERS);
    // Each block once, and no more: a forgotten write must not be covered by another.
    eventually("writers write", SOON, || oracle.counts().0 > LIE_AT + 50);
    writers.finish();
    let why = oracle.verify(&disk::open(&serving.path, 0)).expect_err("a lie was not noticed");
    println!("  noticed: {why}");
    serving.signal(Signal::INT);
    assert_eq!(serving.end(SOON).0, 0);
}

/// The write that is forgotten: early, so that it is among the first round of the writers.
const LIE_AT: u64 = 100;

/// A memory disk that acknowledges one write, and does not write it.
struct Liar {
    memory: Memory,
    lied: AtomicBool,
    writes: AtomicU64,
}

impl Backend for Liar {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let nth = self.writes.fetch_add(1, Ordering::Relaxed);
        if nth >= LIE_AT && !self.lied.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        self.memory.write(offset, data)
    }
}

/// That server.
pub fn serve_and_lie() -> ExitCode {
    let memory = Memory::new(Geometry::new(4 << 20)).expect("memory");
    let (lied, writes) = (AtomicBool::new(false), 0.into());
    let liar = Liar { memory, lied, writes };
    let (mut noted, note) = UnixStream::pair().expect("a pair of sockets");
    signal_hook::low_level::pipe::register(Signal::INT.as_raw(), note).expect("a signal");
    let server = Builder::new().serve(Blocking::new(liar)).expect("a device");
    println!("{}", server.block_path());
    noted.read_exact(&mut [0]).expect("a note");
    server.stop().expect("a stop");
    ExitCode::SUCCESS
}

/// Killed at random moments of its start, of its stop, and of a recovery: what is left can be
/// recovered, or else deleted.
pub fn any_step(context: Context) {
    let mut dice = Dice::new("moments of death");
    let mut recovered = 0;
    for round in 0..context.pick(9, 150) {
        let image = Image::new("step");
        let (id, size) = ("5", "16M");
        let file = ["serve", "file", image.path(), "--size", size, "--recover", "reissue"];
        let serve = [&file[..], &["--id", id]].concat();
        let later =
            |dice: &mut Dice| std::thread::sleep(Duration::from_millis(dice.below(250) as u64));
        match round % 3 {
            0 => {
                let server = started(&serve);
                later(&mut dice);
                end(server);
            }
            1 => {
                let serving = Serving::start(&serve[1..]);
                serving.signal(Signal::INT);
                later(&mut dice);
                end(serving.child);
            }
            _ => {
                kill(Serving::start(&serve[1..]));
                let server = started(&["recover", id]);
                later(&mut dice);
                end(server);
            }
        }
        // It may have been killed before there was a device, or a disk, or after they were gone.
        let next = started_speaking(&["recover", id]);
        if next.0.starts_with("/dev/ublkb") {
            recovered += 1;
            let serving = Serving { child: next.1, path: next.0 };
            let client = disk::try_open(&serving.path, 0);
            let read = client.and_then(|client| disk::read(&client, 0, 4096));
            if round % 3 == 1 {
                // The process that was to stop the device for the dead server may still do so.
                if read.is_ok() {
                    serving.signal(Signal::INT);
                }
                let (code, said) = serving.end(SOON);
                assert_eq!(code, 0, "round {round}: {read:?}, {said}");
            } else {
                assert!(read.is_ok(), "round {round}: it is served: {read:?}");
                serving.stop();
            }
        } else {
            end(next.1);
        }
        let delete = tools::output(UBLKIT, &["delete", id]);
        assert!([Some(0), Some(5)].contains(&delete.status.code()), "round {round}: {delete:?}");
        assert_eq!(devices(), Vec::<String>::new(), "round {round}");
    }
    println!("  {recovered} devices were recovered");
    assert!(recovered > 0);
    assert_eq!(records(), Vec::<String>::new(), "of devices that are gone");
}

/// Records that are left, but for those of servers that died before they had a device.
pub(super) fn records() -> Vec<String> {
    let serving = Serving::start(&["null", "--size", "1M"]); // forgets what is gone
    serving.stop();
    tools::names("/run/ublkit").into_iter().filter(|name| name.ends_with(".json")).collect()
}

fn started(words: &[&str]) -> Child {
    let quiet = || Stdio::null();
    let mut command = Command::new(UBLKIT);
    command.args(words).stdin(quiet()).stdout(quiet()).stderr(quiet());
    command.spawn().expect("ublkit runs")
}

/// Starts a command, and waits for its first line, or its end.
fn started_speaking(words: &[&str]) -> (String, Child) {
    let mut command = Command::new(UBLKIT);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ublkit runs");
    let mut line = String::new();
    let out = child.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    (line.trim_end().to_string(), child)
}

/// Kills a process, whatever it does, and waits for it.
fn end(mut child: Child) {
    let _ = child.kill();
    tools::wait(&mut child, SOON);
}

/// What cannot be recovered or upgraded is refused, and stays as it was.
pub fn refused(_: Context) {
    let why = |words: &[&str], code: i32| {
        let output = tools::output(UBLKIT, words);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        said
    };
    assert!(why(&["recover", "9"], 5).contains("no such device"));
    let serving = Serving::start(&["null", "--size", "1G"]);
    let id = serving.id().to_string();
    assert!(why(&["recover", &id], 6).contains("serves ublk device"));
    assert!(why(&["upgrade", &id], 2).contains("made without recovery"));
    kill(serving);
    assert!(why(&["recover", &id], 2).contains("made without recovery"));
    run(UBLKIT, &["delete", &id]);

    let serving = Serving::start(&["memory", "--size", "64M", "--recover", "wait"]);
    let id = serving.id().to_string();
    assert!(why(&["upgrade", &id], 2).contains("is in its server's memory"));
    kill(serving);
    assert!(why(&["recover", &id], 2).contains("--data-lost"));
    let words = ["recover", &id, "--data-lost"];
    let serving = Serving::started(Command::new(UBLKIT).args(words));
    assert_eq!(serving.id().to_string(), id);
    serving.stop();

    // Another file by the same name is not that disk.
    let image = Image::new("other");
    let serving = image.serve("4M", &["--recover", "wait", "--name", "precious"]);
    let link = std::fs::read_link("/run/ublkit/by-name/precious").unwrap();
    assert_eq!(link, PathBuf::from(&serving.path));
    let taken = ["serve", "null", "--size", "1M", "--name", "precious"];
    assert!(why(&taken, 6).contains("the name 'precious' is taken by ublk device"));
    assert_eq!(std::fs::read_link("/run/ublkit/by-name/precious").unwrap(), link, "as it was");
    // What a next server could not do is seen before the old one ends.
    let (id, kept) = (serving.id().to_string(), format!("{}.kept", image.path()));
    assert!(why(&["upgrade", &id, "--trace=/nowhere/talk"], 1).contains("cannot write the trace"));
    std::fs::rename(image.path(), &kept).unwrap();
    assert!(why(&["upgrade", &id], 1).contains("another than the one that was served"));
    std::fs::rename(&kept, image.path()).unwrap();
    assert!(run(UBLKIT, &["show", &id]).contains("live"));
    let id = kill(serving);
    eventually("the server is gone", SOON, || {
        let show = tools::output(UBLKIT, &["show", &id]);
        String::from_utf8_lossy(&show.stdout).contains("quiesced")
    });
    run(UBLKIT, &["delete", "--all"]); // leaves alone what waits for a server
    std::fs::rename(image.path(), &kept).unwrap();
    assert!(why(&["recover", &id], 2).contains("ENOENT"));
    File::create(image.path()).unwrap().set_len(4 << 20).unwrap();
    assert!(why(&["recover", &id], 1).contains("another than the one that was served"));
    std::fs::rename(&kept, image.path()).unwrap();
    let serving = recover(&id);
    serving.stop();
    assert!(!std::fs::exists("/run/ublkit/by-name/precious").unwrap());
}

/// Dirty pages of a device that outlives its server are written by a stop, which the kernel itself
/// does not do.
pub fn dirty_pages(_: Context) {
    let image = Image::new("dirty");
    let serving = image.serve("16M", &["--recover", "reissue"]);
    // While somebody has the disk open, its pages stay in the cache.
    let mut client = File::options().read(true).write(true).open(&serving.path).unwrap();
    client.write_all(&[0x5a; 4 << 20]).unwrap();
    assert!(load::dirty_kib() > 2 << 10);
    serving.signal(Signal::INT);
    let gone = disk::open(&serving.path, 0);
    eventually("the disk goes", SOON, || disk::read(&gone, 0, 4096).is_err());
    drop((client, gone));
    assert_eq!(serving.end(SOON).0, 0);
    let kept = std::fs::read(image.path()).unwrap();
    assert!(kept[..4 << 20].iter().all(|byte| *byte == 0x5a), "dirty pages were lost");
}
