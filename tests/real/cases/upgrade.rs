//! `ublkit upgrade`: under load; and of a server that does not let go: it is stopped, and hears no
//! signal but KILL.

use super::Context;
use super::errors::Restore;
use super::recovery::{Image, recover, verify};
use crate::oracle::{Oracle, Writers};
use crate::tools::{self, Serving, UBLKIT, eventually, run};
use crate::{disk, load};
use rustix::process::Signal;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ublkit::Features;

const SOON: Duration = Duration::from_secs(60);

const BLOCKS: usize = 1024;
const WRITERS: usize = 8;

/// Clients of a disk, who remember what they were told.
struct Clients {
    oracle: Arc<Oracle>,
    writers: Writers,
}

impl Clients {
    fn write(&self) {
        let before = self.oracle.counts().0;
        eventually("writers write", SOON, || self.oracle.counts().0 > before + 100);
    }

    /// Has them go on with the next server, and stops that; how many writes failed, and what it
    /// said.
    fn go_on(self, next: Serving) -> (u64, String) {
        self.write();
        let Self { oracle, writers } = self;
        writers.finish();
        oracle.verify(&disk::open(&next.path, 0)).unwrap();
        next.signal(Signal::INT);
        let (code, said) = next.end(SOON);
        assert_eq!(code, 0, "{said}");
        (oracle.counts().1, said)
    }
}

/// A server that is stopped while clients write.
fn stopped(image: &Image, mode: &str) -> (Serving, Clients) {
    let serving = image.serve("4M", &["--recover", mode]);
    let oracle = Arc::new(Oracle::new(BLOCKS));
    let writers = Writers::start(&oracle, &serving.path, WRITERS);
    let clients = Clients { oracle, writers };
    clients.write();
    serving.signal(Signal::STOP);
    (serving, clients)
}

/// A queue's depth. With fewer slots than there are clients none is ever idle. Where a server is
/// killed for the next one there are enough: old drivers notice that half a minute later otherwise.
fn depth(mode: &str) -> &'static str {
    if mode == "wait" { "2" } else { "32" }
}

/// Servers replaced one after the other under fio's verify and the writers: nobody sees an error.
/// Where the kernel can quiesce that is so in mode 'wait', elsewhere in mode 'reissue'.
pub fn under_load(context: Context) {
    let quiesces = context.features.contains(Features::QUIESCE);
    let newer = "/tmp/ublkit-newer".to_string(); // another program, as far as files go
    std::fs::copy(UBLKIT, &newer).unwrap();
    let _newer = Restore(|| drop(std::fs::remove_file(&newer)));
    let modes = if quiesces { &["wait", "reissue"][..] } else { &["reissue"] };
    for mode in modes {
        let image = Image::new("upgrade");
        let mut serving = image.serve_with(depth(mode), "64M", &["--recover", mode]);
        let (id, path) = (serving.id().to_string(), serving.path.clone());
        let oracle = Arc::new(Oracle::new(BLOCKS));
        let writers = Writers::start(&oracle, &path, WRITERS);
        let (mut fio, mut verified) = (verify(&path, 8 << 20), 0);
        load::busy(&path);
        for turn in 0..context.pick(3, 20) {
            if let Some(status) = fio.try_wait().unwrap() {
                assert!(status.success(), "fio found something wrong: {status}");
                (fio, verified) = (verify(&path, 8 << 20), verified + 1);
            }
            let begun = Instant::now();
            // Listened to, it goes on with the path that the device has.
            let listens = (turn % 2 == 1).then_some("--trace=/dev/shm/upgrade.trace");
            let words = ["upgrade", &id].into_iter().chain(listens);
            let program = [UBLKIT, &newer][usize::from(turn % 2 == 0)];
            let next = Serving::started(Command::new(program).args(words));
            println!("  measured: {} ms to upgrade", begun.elapsed().as_millis());
            let served_by = std::fs::read_link(format!("/proc/{}/exe", next.child.id())).unwrap();
            assert_eq!(served_by, std::fs::canonicalize(program).unwrap());
            let (code, said) = serving.end(SOON);
            if quiesces {
                assert_eq!((code, said), (0, format!("ublkit: {path} was handed over\n")));
            } else {
                assert_eq!(code, -9, "{said}");
            }
            serving = next;
            let before = oracle.counts().0;
            eventually("writers write", SOON, || oracle.counts().0 > before + 100);
        }
        assert!(tools::read("/dev/shm/upgrade.trace").contains(" FETCH "));
        writers.finish();
        assert!(tools::wait(&mut fio, SOON * 3).success(), "fio found something wrong");
        let (sure, failed) = oracle.counts();
        println!("  {mode}: {sure} writes acknowledged, {failed} failed, {verified} more of fio");
        assert_eq!(failed, 0, "a client saw an error");
        oracle.verify(&disk::open(&path, 0)).unwrap();
        serving.stop();
    }
    if !quiesces {
        let image = Image::new("upgrade");
        let serving = image.serve("4M", &["--recover", "wait"]);
        let refused = tools::output(UBLKIT, &["upgrade", &serving.path]);
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        serving.stop();
    }
}

pub fn of_a_stopped_server(context: Context) {
    let quiesces = context.features.contains(Features::QUIESCE);
    if quiesces {
        for signal in [Signal::CONT, Signal::KILL] {
            is_late(signal);
        }
    }
    asks_again(quiesces);
}

/// With 'wait' the upgrade gives up in time, and the server is as it was: it lets go once it goes
/// on, or is killed, as the sentence says.
fn is_late(signal: Signal) {
    let image = Image::new("stopped");
    let (serving, clients) = stopped(&image, "wait");
    let (id, path) = (serving.id().to_string(), serving.path.clone());
    let begun = Instant::now();
    let late = tools::output(UBLKIT, &["upgrade", &id, "--timeout", "1"]);
    let took = begun.elapsed();
    println!("  measured: {} ms until the upgrade gave up", took.as_millis());
    let sentence = format!(
        "ublkit: the server of ublk device {id} did not end within 1 s; clients wait, for it or \
         for the next: kill it, so that the requests that it has fail, and 'ublkit recover {id}'\n"
    );
    assert_eq!(String::from_utf8_lossy(&late.stderr), sentence);
    assert_eq!((late.status.code(), late.stdout.len()), (Some(7), 0));
    assert!((Duration::from_secs(1)..Duration::from_secs(10)).contains(&took), "{took:?}");
    let shown = run(UBLKIT, &["show", &id]);
    assert!(shown.contains("live"), "{shown}");
    let before = clients.oracle.counts();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(clients.oracle.counts(), before, "clients wait");

    serving.signal(signal);
    let end = serving.end(SOON);
    if signal == Signal::CONT {
        assert_eq!(end, (0, format!("ublkit: {path} was handed over\n")));
    } else {
        assert_eq!(end.0, -9, "{}", end.1);
    }
    let (failed, said) = clients.go_on(recover(&id));
    println!("  {signal:?}: {failed} writes failed");
    let most = if signal == Signal::CONT { 0 } else { WRITERS as u64 };
    assert!(failed <= most, "{signal:?}: {failed} writes failed");
    assert_eq!(said, "");
}

/// With 'reissue' the server is killed, and no client sees an error.
fn asks_again(quiesces: bool) {
    let image = Image::new("stopped");
    let (serving, clients) = stopped(&image, "reissue");
    let (id, path) = (serving.id().to_string(), serving.path.clone());
    let mut command = Command::new(UBLKIT);
    let next = Serving::started(command.args(["upgrade", &id, "--timeout", "2"]));
    assert_eq!(next.path, path);
    assert_eq!(serving.end(SOON), (-9, String::new()));
    let (failed, said) = clients.go_on(next);
    assert_eq!(failed, 0, "a client saw an error");
    let sentence = "ublkit: the old server does not end, so it is killed; what it was asked is \
                    asked again\n";
    assert_eq!(said, if quiesces { sentence } else { "" });
}
