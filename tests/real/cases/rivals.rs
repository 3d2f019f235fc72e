//! Devices that other projects' servers serve: the kernel's own kublk, and rublk. Only at full
//! length, and where `tests/bench/rivals.sh` has built them.

use super::Context;
use super::errors::Restore;
use super::others::{SIZE, cannot_be_recovered, said, while_served};
use crate::Depth;
use crate::tools::{self, UBLKIT, devices, eventually, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const IMAGE: &str = "/tmp/ublkit-rival.img";

/// A server's program, and how it is to serve a file: for itself, and so that the device outlives
/// it.
const RIVALS: [(&str, &[&str], &[&str]); 2] = [
    ("kublk", &["add", "--foreground", "-t", "loop", IMAGE], &["-r", "1"]),
    ("rublk", &["add", "loop", "--foreground", "-f", IMAGE], &["-r"]),
];

/// A device of another's.
struct Served {
    child: Child,
    id: u32,
    /// Who serves it: perhaps a child of that child.
    pid: u32,
}

impl Served {
    fn start(program: &Path, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.current_dir("/tmp").spawn().unwrap();
        eventually("a device", SOON, || !devices().is_empty());
        let id = devices()[0]["ublkc".len()..].parse::<u32>().unwrap();
        run(UBLKIT, &["wait", &id.to_string(), "--live"]);
        let shown: Value =
            serde_json::from_str(&run(UBLKIT, &["show", &id.to_string(), "--json"])).unwrap();
        let pid = u32::try_from(shown["server_pid"].as_u64().expect("it is served")).unwrap();
        Self { child, id, pid }
    }

    fn kill(&mut self) {
        kill_process(Pid::from_raw(self.pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        tools::wait(&mut self.child, SOON);
    }
}

/// Every command about devices, of those.
pub fn every_command(context: Context) {
    if context.depth != Depth::Full {
        println!("measured: nothing: only at full length");
        return;
    }
    let _image = Restore(|| drop(std::fs::remove_file(IMAGE)));
    for (name, words, lasting) in RIVALS {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/rivals/bin");
        let program = program.join(name);
        if !program.exists() {
            println!("measured: nothing of {name}: tests/bench/rivals.sh builds it");
            continue;
        }
        File::create(IMAGE).unwrap().set_len(SIZE).unwrap();
        alone(&program, words);
        outlived(context, &program, &[words, lasting].concat());
        println!("  {name} was served as it is");
    }
}

/// One that ends with its server.
fn alone(program: &Path, words: &[&str]) {
    let mut served = Served::start(program, words);
    let id = served.id.to_string();
    let (code, text) = said(&["upgrade", &id]);
    assert!(code == 2 && text.contains("made without recovery"), "{code}: {text}");
    run(UBLKIT, &["stop", &id]);
    tools::wait(&mut served.child, SOON);
    eventually("it is gone", SOON, || {
        let _ = tools::output(UBLKIT, &["delete", &id]); // if its server did not
        devices().is_empty()
    });

    let mut served = Served::start(program, words);
    run(UBLKIT, &["delete", &served.id.to_string(), "--force"]);
    tools::wait(&mut served.child, SOON);
    assert_eq!(devices(), Vec::<String>::new());
}

/// One that outlives its server.
fn outlived(context: Context, program: &Path, words: &[&str]) {
    let mut served = Served::start(program, words);
    while_served(context, served.id, served.pid);
    served.kill();
    let id = served.id.to_string();
    eventually("it waits", SOON, || run(UBLKIT, &["show", &id]).contains("quiesced"));
    cannot_be_recovered(served.id);
    run(UBLKIT, &["delete", &id]);
    assert_eq!(devices(), Vec::<String>::new());
}
