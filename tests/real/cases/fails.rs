//! Servers that end while clients use the disk: a queue of theirs fails, or they are asked to.
//! The library's has a seam of which a call fails; the program's call is failed by strace.

use super::Context;
use super::recovery::Image;
use crate::disk;
use crate::oracle::{Oracle, Writers};
use crate::spy::Spy;
use crate::tools::{self, Serving, UBLKIT, eventually, run};
use rustix::process::Signal;
use std::fs::File;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use ublkit::{Builder, Errno, Error, ErrorKind, FileOptions, QueueError, Recovery, RingError};

const SOON: Duration = Duration::from_secs(60);
/// How long a client may wait for an error.
const BOUND: Duration = Duration::from_secs(10);

const BLOCKS: usize = 1024;
const WRITERS: usize = 8;
const DISK_BYTES: u64 = 4 << 20;

/// The call that fails: long after the disk is live, when only queues call the kernel.
const FAILS_AT: u64 = 2000;
/// Writes that were acknowledged by then, at the least.
const WRITES: u64 = 100;

/// What such a server ends with, as `ublkit serve` does where the kind of an error is no other.
const FAILED: u8 = 1;

/// A server with clients.
struct Served {
    serving: Serving,
    oracle: Arc<Oracle>,
    writers: Writers,
}

impl Served {
    fn by(command: &mut Command) -> Self {
        let serving = Serving::started(command);
        let oracle = Arc::new(Oracle::new(BLOCKS));
        let writers = Writers::start(&oracle, &serving.path, WRITERS);
        Self { serving, oracle, writers }
    }

    /// By the program.
    fn well(image: &Image, words: &[&str]) -> Self {
        let file = ["serve", "file", image.path(), "--size", "4M", "--queues", "2"];
        let served = Self::by(Command::new(UBLKIT).args(file).args(words));
        eventually("writers write", SOON, || served.oracle.counts().0 > WRITES);
        served
    }

    /// By one that will fail.
    fn badly(image: &Image, recovery: Recovery) -> Self {
        let program = std::env::current_exe().expect("a program");
        Self::by(Command::new(program).args(["fails", image.path(), recovery.name()]))
    }
}

/// The process ends, and says which queue failed and why.
fn ends_in_an_error(serving: Serving) {
    let (code, said) = serving.end(SOON);
    assert_eq!(code, i32::from(FAILED), "{said}");
    assert!(said.contains("failed with EIO"), "{said}");
}

/// Without recovery clients get errors at once, and the device goes with its server.
pub fn goes_down(_: Context) {
    let image = Image::new("fails");
    goes_with_its_server(Served::badly(&image, Recovery::None), &image);
    // The program, whose disk another process stops.
    let image = Image::new("fails-from-without");
    let served = Served::well(&image, &[]);
    interrupted(&served);
    let strace = Injector::begin(&served.serving, "EIO");
    goes_with_its_server(served, &image);
    assert!(strace.has_injected());
}

fn goes_with_its_server(served: Served, image: &Image) {
    let Served { serving, oracle, writers } = served;
    eventually("a write fails", SOON, || oracle.counts().1 > 0);
    let begun = Instant::now();
    writers.finish();
    let took = begun.elapsed();
    println!("  measured: {} ms until all were answered", took.as_millis());
    assert!(took < BOUND, "{took:?}");
    ends_in_an_error(serving);
    assert_eq!(tools::devices(), Vec::<String>::new());
    let (sure, _) = oracle.counts();
    assert!(sure > WRITES, "it failed after {sure} writes");
    oracle.verify(&File::open(image.path()).unwrap()).unwrap();
}

/// The control: a call that was only interrupted is made again, and clients do not notice.
fn interrupted(served: &Served) {
    let strace = Injector::begin(&served.serving, "EINTR");
    eventually("a call is interrupted", SOON, || strace.has_injected());
    let before = served.oracle.counts().0;
    eventually("writers write", SOON, || served.oracle.counts().0 > before + WRITES);
    assert_eq!(served.oracle.counts().1, 0, "a write failed");
}

/// strace, which has one of the calls fail in which a server's first queue waits, once: the kernel
/// does not see it.
struct Injector {
    strace: Child,
    log: &'static str,
}

impl Injector {
    fn begin(serving: &Serving, errno: &str) -> Self {
        let tasks = format!("/proc/{}/task", serving.child.id());
        let name = format!("ublk{}-q0", serving.id());
        // Workers of the kernel's come and go there.
        let comm = |task: &str| std::fs::read_to_string(format!("{tasks}/{task}/comm"));
        let is_it = |task: &&String| comm(task).unwrap_or_default().trim() == name;
        let threads = tools::names(&tasks);
        let queue = threads.iter().find(is_it).expect("a thread of the queue's");
        let log = "/tmp/ublkit-injected";
        std::fs::write(log, "").unwrap();
        let inject = format!("inject=io_uring_enter:error={errno}:when=50");
        let strace = Command::new("strace")
            .args(["-qq", "-o", log, "-e", "trace=io_uring_enter", "-e", &inject, "-p", queue])
            .stdin(Stdio::null())
            .spawn()
            .expect("strace runs");
        Self { strace, log }
    }

    fn has_injected(&self) -> bool {
        tools::read(self.log).contains("(INJECTED)")
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        let _ = self.strace.kill(); // or its thread is gone, and so is it
        let _ = self.strace.wait();
        let _ = std::fs::remove_file(self.log);
    }
}

/// With recovery the device waits, and the next server goes on: nothing is lost, and with 'reissue'
/// nobody sees an error. Each of them thrice: before 6.15 a ring that closes too early is harmful
/// one time in three.
pub fn waits(_: Context) {
    for recovery in [Recovery::Wait, Recovery::Reissue].repeat(3) {
        let image = Image::new("fails");
        goes_on(Served::badly(&image, recovery), &image, recovery, ends_in_an_error);
    }
}

/// The same where nothing is wrong, and the server is asked to leave its disk to another.
pub fn leaves(_: Context) {
    for recovery in [Recovery::Wait, Recovery::Reissue].repeat(3) {
        let image = Image::new("leaves");
        let served = Served::well(&image, &["--recover", recovery.name()]);
        goes_on(served, &image, recovery, |serving| {
            serving.signal(Signal::USR1);
            let (code, said) = serving.end(SOON);
            assert_eq!(code, 0, "{said}");
        });
    }
}

/// The server ends like that under load, and another takes its place.
fn goes_on(served: Served, image: &Image, recovery: Recovery, ends: fn(Serving)) {
    let Served { serving, oracle, writers } = served;
    let id = serving.id();
    ends(serving);
    let quiesced = || run(UBLKIT, &["show", &id.to_string()]).contains("quiesced");
    eventually("the driver has noticed", SOON, quiesced);
    let before = oracle.counts().0;
    assert!(before > WRITES, "{recovery}: it ended after {before} writes");
    let file = FileOptions::new(image.path()).patience(SOON).open().expect("the same file");
    let next = Builder::new().timeout(SOON).recover(id, file).expect("a next server");
    eventually("writers write", SOON, || oracle.counts().0 > before + WRITES);
    writers.finish();
    let (sure, failed) = oracle.counts();
    println!("  {recovery}: {sure} writes acknowledged, {failed} failed");
    let most = if recovery == Recovery::Reissue { 0 } else { WRITERS as u64 };
    assert!(failed <= most, "{recovery}: {failed} writes failed");
    oracle.verify(&disk::open(&next.block_path(), 0)).unwrap();
    next.stop().unwrap();
}

/// The role: serves a file, as `ublkit serve` does, and one call of a queue fails.
pub fn serve_and_fail(words: &[String]) -> ExitCode {
    let [path, recovery] = words else { panic!("a file and a recovery, not {words:?}") };
    let recovery: Recovery = recovery.parse().expect("a recovery");
    let spy = Spy { fails_at: Some(FAILS_AT), ..Spy::default() };
    let file = FileOptions::new(path).size_bytes(DISK_BYTES).open().expect("a file");
    let builder = Builder::new().queues(2).depth(32).recovery(recovery);
    let mut server = builder.serve_on(spy, file).expect("a device");
    println!("{}", server.block_path());
    server.wait();
    let end = match recovery {
        Recovery::None => server.stop(),
        _ => server.hand_over(),
    };
    let error = end.expect_err("a queue has failed");
    let why = RingError::Enter(Errno::EIO);
    let is_it = matches!(error, Error::Queue { error: QueueError::Ring(ring), .. } if ring == why);
    assert!(is_it && error.kind() == ErrorKind::Failed, "{error:?}");
    eprintln!("{error}");
    ExitCode::from(FAILED)
}
