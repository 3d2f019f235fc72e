//! Servers that are killed with `kill -9`.

use super::Context;
use crate::load;
use crate::spy::Spy;
use crate::tools::{self, Serving, UBLKIT, eventually, run};
use rustix::process::Signal;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;
use ublkit::{Blocking, Builder, Features, Geometry, Memory, Null};

const SOON: Duration = Duration::from_secs(30);

/// How long a killed server may take to go. Those that go take less than a second.
const LINGER: Duration = Duration::from_secs(15);

/// The disk: its first part has dirty pages, the rest is written directly.
const DISK_MIB: u64 = 256;
const DIRTY_MIB: u64 = 100;

/// How many servers the control may need, for it is a matter of chance.
const CONTROLS: u32 = 8;

pub fn serving(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M", "--id", "3"]);
    let mut fio = load::mixed(&serving.path);
    load::busy(&serving.path);
    serving.signal(Signal::KILL);
    assert_eq!(serving.end(SOON).0, -9);
    let status = tools::wait(&mut fio, SOON);
    assert!(!status.success(), "fio's requests were answered with errors");
    // What is left of the device can be deleted, and the number is free again.
    run(UBLKIT, &["delete", "3"]);
    let again = Serving::start(&["memory", "--size", "64M", "--id", "3"]);
    assert_eq!(again.path, "/dev/ublkb3");
    again.stop();
}

/// Killed while it stops, with dirty pages to write and requests under way: a server that sent its
/// own STOP_DEV would never end (`stops_itself` shows it).
pub fn stopping(context: Context) {
    for round in 0..context.pick(3, 30) {
        let size = format!("{DISK_MIB}M");
        let serving = Serving::start(&["memory", "--size", &size, "--queues", "4"]);
        let id = serving.id().to_string();
        let killed = kill_in_the_middle(serving, Duration::from_millis(round % 3 * 40));
        let Killed { mut server, mut fio } = killed;
        assert!(
            tools::ends(&mut server, LINGER).is_some(),
            "round {round}: a server that was killed while it stopped is still there after {} s: \
             it waits for its own STOP_DEV, and that for its requests",
            LINGER.as_secs()
        );
        tools::wait(&mut fio, SOON);
        delete(&id);
    }
}

/// Deletes what is left of a device, if anything is.
fn delete(id: &str) {
    let delete = tools::output(UBLKIT, &["delete", id]);
    assert!([Some(0), Some(5)].contains(&delete.status.code()), "{delete:?}");
}

/// The control of `stopping`: the same is done to servers that send STOP_DEV themselves, until one
/// is seen to stay. Nothing can remove it, so this is the last thing that a guest does.
pub fn stops_itself(_: Context) {
    let program = std::env::current_exe().expect("a program");
    for _ in 0..CONTROLS {
        let serving = Serving::started(Command::new(&program).arg("stops-itself"));
        let id = serving.id().to_string();
        let Killed { mut server, mut fio } = kill_in_the_middle(serving, Duration::ZERO);
        if tools::ends(&mut server, LINGER).is_none() {
            let state = tools::read(&format!("/proc/{}/stat", server.id()));
            assert!(state.contains(") D "), "it does not wait in the kernel: {state}");
            return;
        }
        tools::wait(&mut fio, SOON);
        delete(&id);
    }
    panic!("all {CONTROLS} ended, so the case beside it proves nothing");
}

/// That server: serves a memory disk, and stops it itself upon a signal.
pub fn serve_and_stop_itself() -> ExitCode {
    let (mut noted, note) = UnixStream::pair().expect("a pair of sockets");
    signal_hook::low_level::pipe::register(Signal::INT.as_raw(), note).expect("a signal");
    let memory = Memory::new(Geometry::new(DISK_MIB << 20)).expect("memory");
    let server = Builder::new().queues(4).serve(Blocking::new(memory)).expect("a device");
    println!("{}", server.block_path());
    noted.read_exact(&mut [0]).expect("a note");
    server.stop().expect("a stop");
    ExitCode::SUCCESS
}

/// A server that was killed, and the load on its disk.
struct Killed {
    server: Child,
    fio: Child,
}

/// Loads a server's disk, has it stop, and kills it that long after the stop has begun.
fn kill_in_the_middle(serving: Serving, later: Duration) -> Killed {
    let fio = load::writes_from(&serving.path, DIRTY_MIB << 20);
    load::busy(&serving.path);
    load::dirty(&serving.path, DIRTY_MIB);
    let dirty_kib = load::dirty_kib();
    serving.signal(Signal::INT);
    // Nobody else writes these pages so soon.
    let begun = || load::dirty_kib() + (4 << 10) < dirty_kib;
    eventually("STOP_DEV writes the dirty pages", SOON, begun);
    std::thread::sleep(later);
    serving.signal(Signal::KILL);
    Killed { server: serving.child, fio }
}

/// Whoever recovers a device is killed before each of his calls in turn. The next one recovers it;
/// but for a moment on drivers that let only one process map a queue's descriptors, which is told.
pub fn recovering(context: Context) {
    let is_old = !context.features.contains(Features::UPDATE_SIZE); // before 6.15
    let id = 5;
    let (mut recovered, mut lost) = (0, 0);
    for call in 0.. {
        let words = ["null", "--size", "1M", "--queues", "1", "--recover", "reissue", "--id", "5"];
        let serving = Serving::start(&words);
        serving.signal(Signal::KILL);
        assert_eq!(serving.end(SOON).0, -9);
        let own = std::env::current_exe().expect("this program");
        let mut victim = Command::new(own);
        let mut victim = victim.args(["dies", &call.to_string()]).spawn().expect("it runs");
        let status = tools::wait(&mut victim, SOON);
        match Builder::new().timeout(SOON).recover(id, null()) {
            Ok(server) => {
                server.stop().expect("it stops");
                recovered += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("can only be deleted"), "call {call}: {error}");
                run(UBLKIT, &["delete", "5"]);
                lost += 1;
            }
        }
        assert_eq!(tools::devices(), Vec::<String>::new(), "call {call}");
        if status.success() {
            println!("  measured: {recovered} devices recovered, {lost} lost, in {call} calls");
            // Old drivers lose some, if the moment is met.
            assert!(recovered > 10 && (is_old || lost == 0));
            return; // there was no such call
        }
    }
}

fn null() -> Blocking<Null> {
    Blocking::new(Null::new(Geometry::new(1 << 20)))
}

/// The role: recovers device 5, and is killed before the call of this number, or else just goes.
pub fn recover_and_die(words: &[String]) -> ExitCode {
    let dies_at = words.first().and_then(|word| word.parse().ok());
    let spy = Spy { dies_at, ..Spy::default() };
    let server = Builder::new().timeout(SOON).recover_on(spy, 5, null());
    std::mem::forget(server.expect("nobody else has it"));
    std::process::exit(0)
}
