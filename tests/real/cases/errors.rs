//! What the program says when something cannot be: one sentence, the documented code, nothing left.
//!
//! The sentences are in `tests/golden/errors.txt`. Where they differ, the case prints the block to
//! put there, for the repository cannot be written in here.

use super::Context;
use crate::tools::{self, Serving, UBLKIT};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use ublkit::Features;

const GOLDEN: &str = include_str!("../../golden/errors.txt");

/// `nobody` of every Linux.
const NOBODY_UID: u32 = 65534;

/// A number that the cases ask for, so that the sentences are the same each time.
const ID: &str = "41";

/// Calls of the program, compared with the golden file.
#[derive(Default)]
struct Trials {
    /// Blocks of the golden file that would be right.
    differing: Vec<String>,
}

impl Trials {
    /// Runs `ublkit WORDS` as it is.
    fn call(&mut self, words: &[&str]) {
        self.run("", Command::new(UBLKIT).args(words).stdout(Stdio::piped()));
    }

    /// Runs a command, whose words with `note` are the block's heading.
    fn run(&mut self, note: &str, command: &mut Command) {
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        let heading = format!("$ ublkit {}{note}", words.join(" "));
        let devices = tools::devices();
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let status = tools::wait(&mut child, Duration::from_secs(60));
        let mut said = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut said).unwrap();
            assert_eq!(said, "", "{heading}: an error belongs on standard error");
        }
        child.stderr.take().expect("piped").read_to_string(&mut said).unwrap();
        assert_eq!(tools::devices(), devices, "{heading}: left behind");
        let code = status.code().expect("no signal ended it");
        self.compare(&heading, &format!("exit code {code}\n{}\n", said.trim_end()), code);
    }

    /// Runs `ublkit WORDS` while somebody serves, whose number is of no matter.
    fn about(&mut self, serving: &Serving, note: &str, words: &[&str]) {
        let output = tools::output(UBLKIT, words);
        let pid = serving.child.id().to_string();
        let said = String::from_utf8(output.stderr).unwrap().replace(&pid, "PID");
        let code = output.status.code().unwrap();
        let heading = format!("$ ublkit {}   ({note})", words.join(" "));
        self.compare(&heading, &format!("exit code {code}\n{said}"), code);
    }

    fn compare(&mut self, heading: &str, found: &str, code: i32) {
        if code != 0 && found.contains("\nublkit: ") {
            assert_eq!(found.lines().count(), 2, "{heading}: more than one sentence: {found}");
        }
        if golden(heading).map(str::trim_end) != Some(found.trim_end()) {
            self.differing.push(format!("{heading}\n{found}\n"));
        }
    }

    /// Panics if a call said something else.
    fn judge(self) {
        let blocks = self.differing.concat();
        assert!(self.differing.is_empty(), "tests/golden/errors.txt should say:\n{blocks}");
    }
}

/// Sets the system right again, also after a panic.
pub(super) struct Restore<F: Fn()>(pub(super) F);

impl<F: Fn()> Drop for Restore<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What the golden file says below a heading, up to the next.
fn golden(heading: &str) -> Option<&'static str> {
    let start = GOLDEN.find(&format!("{heading}\n"))? + heading.len() + 1;
    let rest = &GOLDEN[start..];
    Some(rest.split("\n$ ").next().unwrap_or(rest))
}

pub fn bad_numbers(_: Context) {
    let mut trials = Trials::default();
    for (option, values) in [
        ("--depth", &["0", "5000"][..]),
        ("--queues", &["0", "5000"]),
        ("--block-size", &["0", "100", "3000", "8192"]),
        ("--max-io", &["0", "1000", "64M", "8G"]),
        ("--id", &["1048576"]),
    ] {
        for value in values {
            trials.call(&["serve", "memory", "--size", "64M", option, value]);
        }
    }
    for size in ["0", "1", "1000", "much", "8191P", "8192P", "16383P"] {
        trials.call(&["serve", "memory", "--size", size]);
    }
    trials.call(&["serve", "tape", "--size", "1G"]);
    trials.judge();
}

pub fn taken(_: Context) {
    let mut trials = Trials::default();
    let serving = Serving::start(&["null", "--size", "1G", "--id", ID]);
    trials.call(&["serve", "null", "--size", "1G", "--id", ID]);
    live(&mut trials, &serving);
    serving.stop();
    for command in ["show", "stop", "delete"] {
        trials.call(&[command, ID]);
    }
    trials.judge();
}

/// A live device is not deleted by mistake.
fn live(trials: &mut Trials, serving: &Serving) {
    for words in [&["delete", ID][..], &["delete", "--all"]] {
        trials.about(serving, "while it is served", words);
    }
    assert_eq!(tools::devices(), [format!("ublkc{ID}")]);
}

/// What cannot be recovered, upgraded or waited for.
pub fn recovery(context: Context) {
    let mut trials = Trials::default();
    for words in [&["recover", ID][..], &["upgrade", ID], &["wait", ID, "--live", "--timeout=1"]] {
        trials.call(words);
    }
    let serving = Serving::start(&["null", "--size", "1G", "--id", ID]);
    for words in [&["recover", ID][..], &["upgrade", ID], &["wait", ID, "--gone", "--timeout=1"]] {
        trials.about(&serving, "while it is served", words);
    }
    let client = File::open(&serving.path).unwrap();
    let can = context.features.contains(Features::SAFE_STOP_DEV);
    let note = if can { "while it is open" } else { "where the kernel cannot" };
    trials.about(&serving, note, &["stop", ID, "--if-unused"]);
    let can = context.features.contains(Features::UPDATE_SIZE);
    let note = if can { "of 1 GiB" } else { "where the kernel cannot" };
    for size in ["0", "1M", "1000"] {
        trials.about(&serving, note, &["resize", ID, size]);
    }
    drop(client);
    killed(serving);
    trials.run("   (killed, without recovery)", Command::new(UBLKIT).args(["recover", ID]));
    let note = if can { "   (nobody serves it)" } else { "   (where the kernel cannot)" };
    trials.run(note, Command::new(UBLKIT).args(["resize", ID, "2G"]));
    tools::run(UBLKIT, &["delete", ID]);

    let recoverable = ["memory", "--size", "64M", "--id", ID, "--recover", "wait"];
    let serving = Serving::start(&recoverable);
    trials.about(&serving, "of memory", &["upgrade", ID]);
    killed(serving);
    trials.run("   (killed, of memory)", Command::new(UBLKIT).args(["recover", ID]));
    tools::run(UBLKIT, &["stop", ID]);
    trials.run("   (stopped)", Command::new(UBLKIT).args(["recover", ID]));
    tools::run(UBLKIT, &["delete", ID]);

    if context.features.contains(Features::BATCH_IO) {
        let batches = ["null", "--size", "1G", "--id", ID, "--recover", "wait", "--batches", "yes"];
        let serving = Serving::start(&batches);
        trials.about(&serving, "served in batches", &["upgrade", ID]);
        serving.stop();
    }

    killed(Serving::start(&recoverable));
    for record in tools::names("/run/ublkit").iter().filter(|name| name.ends_with(".json")) {
        std::fs::remove_file(format!("/run/ublkit/{record}")).unwrap();
    }
    trials.run("   (without its record)", Command::new(UBLKIT).args(["recover", ID]));
    tools::run(UBLKIT, &["delete", ID]);
    trials.judge();
}

fn killed(serving: Serving) {
    serving.signal(rustix::process::Signal::KILL);
    assert_eq!(serving.end(Duration::from_secs(60)).0, -9);
}

/// The program where everybody can run it, as somebody who may not do much.
pub(super) fn as_nobody(words: &[&str]) -> Command {
    let copy = "/tmp/ublkit-of-nobody";
    if !Path::new(copy).exists() {
        std::fs::copy(UBLKIT, copy).unwrap();
        std::fs::set_permissions(copy, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(copy);
    command.args(words).uid(NOBODY_UID).gid(NOBODY_UID).stdout(Stdio::piped());
    command
}

/// First nobody may not open the control device; then nobody may, but not make a device.
pub fn not_root(_: Context) {
    let node = "/dev/ublk-control";
    let mode = |mode| std::fs::set_permissions(node, PermissionsExt::from_mode(mode)).unwrap();
    let mut trials = Trials::default();
    let calls =
        [&["serve", "memory", "--size", "64M"][..], &["list"], &["show", ID], &["stop", ID]];
    mode(0o600);
    for words in calls {
        trials.run("   (as nobody)", &mut as_nobody(words));
    }
    let _closed = Restore(|| mode(0o600));
    mode(0o666);
    let serving = Serving::start(&["null", "--size", "1G", "--id", ID]);
    for words in [calls[0], calls[2], calls[3], &["delete", "--force", ID]] {
        trials.run("   (as nobody who may open the control device)", &mut as_nobody(words));
    }
    serving.stop();
    trials.judge();
}

/// That the driver can be unloaded also shows that nothing holds it.
pub fn no_driver(_: Context) {
    let mut trials = Trials::default();
    let _loaded = Restore(|| drop(tools::run("modprobe", &["ublk_drv"])));
    tools::run("modprobe", &["-r", "ublk_drv"]);
    for words in
        [&["serve", "memory", "--size", "64M"][..], &["list"], &["features"], &["stop", ID]]
    {
        trials.run("   (without the driver)", Command::new(UBLKIT).args(words));
    }
    trials.judge();
}

pub fn no_io_uring(_: Context) {
    let switch = "/proc/sys/kernel/io_uring_disabled";
    let before = tools::read(switch);
    let _allowed = Restore(|| std::fs::write(switch, before.trim()).unwrap());
    let mut trials = Trials::default();
    std::fs::write(switch, "2").unwrap();
    for words in [&["serve", "memory", "--size", "64M"][..], &["list"]] {
        trials.run("   (without io_uring)", Command::new(UBLKIT).args(words));
    }
    trials.judge();
}

/// Somewhere that cannot be written.
fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe that nobody reads any more.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

pub fn unwritable(_: Context) {
    let mut trials = Trials::default();
    for words in [&["list"][..], &["features", "--json"], &["serve", "null", "--size", "1G"]] {
        trials.run(" > /dev/full", Command::new(UBLKIT).args(words).stdout(full()));
        trials.run(" | false", Command::new(UBLKIT).args(words).stdout(unread()));
    }
    trials.judge();
}
