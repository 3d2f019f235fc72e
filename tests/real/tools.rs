//! What cases need of the system: programs, processes, what is left behind.

use std::any::Any;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub const UBLKIT: &str = env!("CARGO_BIN_EXE_ublkit");

/// Reads a small file.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A line of this process's status that is an amount of memory, such as `RssAnon`, in KiB.
pub fn status_kib(name: &str) -> u64 {
    let status = read("/proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let amount = line.and_then(|line| line.split_whitespace().next());
    amount.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_string()
}

/// Runs a program to its end and returns what it said, whatever its exit code.
pub fn output(program: &str, words: &[&str]) -> Output {
    Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// The same of one that may not end: it must within `limit`. Only what it said of its failure is
/// read.
pub fn output_within(limit: Duration, program: &str, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    if ends(&mut child, limit).is_none() {
        let _ = child.kill();
        panic!("{program} {}: not within {} s", words.join(" "), limit.as_secs());
    }
    child.wait_with_output().expect("it has ended")
}

/// Runs a program that must succeed; returns its standard output.
pub fn run(program: &str, words: &[&str]) -> String {
    let output = output(program, words);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {}: {}\n{}{}",
        words.join(" "),
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A running `ublkit serve`.
#[derive(Debug)]
pub struct Serving {
    pub child: Child,
    pub path: String,
}

impl Serving {
    /// Starts `ublkit serve` and waits for its line.
    pub fn start(words: &[&str]) -> Self {
        Self::started(Command::new(UBLKIT).arg("serve").args(words))
    }

    /// The same, by a command that becomes `ublkit serve`.
    pub fn started(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ublkit runs");
        let mut line = String::new();
        let mut reader = BufReader::new(child.stdout.take().expect("piped"));
        reader.read_line(&mut line).expect("a line");
        let path = line.trim_end().to_string();
        if !path.starts_with("/dev/ublkb") {
            let mut said = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut said);
            panic!("serve printed {line:?} and said {said:?}");
        }
        Self { child, path }
    }

    /// The device's number.
    pub fn id(&self) -> u32 {
        self.path["/dev/ublkb".len()..].parse().expect("a number")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the server runs");
    }

    /// Waits for the server's end: its exit code (negative for a signal) and what it said.
    pub fn end(mut self, limit: Duration) -> (i32, String) {
        let status = wait(&mut self.child, limit);
        let mut said = String::new();
        let _ = self.child.stderr.take().expect("piped").read_to_string(&mut said);
        (status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)), said)
    }

    /// Stops the server as Ctrl-C does, and checks that it ended well.
    pub fn stop(self) {
        self.signal(rustix::process::Signal::INT);
        assert_eq!(self.end(Duration::from_secs(30)), (0, String::new()));
    }
}

/// Waits for a child, but not for ever.
pub fn wait(child: &mut Child, limit: Duration) -> ExitStatus {
    ends(child, limit).unwrap_or_else(|| {
        let _ = child.kill();
        panic!("a process did not end within {} s", limit.as_secs())
    })
}

/// How a child ended, or `None` when it did not within `limit`.
pub fn ends(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status);
        }
        if begun.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so.
pub fn eventually(what: &str, limit: Duration, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The names in a folder, sorted; none when there is no such folder.
pub fn names(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The ublk devices that there are.
pub fn devices() -> Vec<String> {
    names("/sys/class/ublk-char")
}

/// What a case left behind: devices, mounts, files and threads of ours.
pub fn leftovers() -> Vec<String> {
    let mut left: Vec<String> = devices();
    let mounts = read("/proc/self/mounts");
    left.extend(mounts.lines().filter(|line| line.starts_with("/dev/ublkb")).map(str::to_owned));
    for fd in names("/proc/self/fd") {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}"));
        let target = target.map(|path| path.display().to_string()).unwrap_or_default();
        if target.contains("ublk") || target.contains("io_uring") || target.contains("eventfd") {
            left.push(format!("fd {fd}: {target}"));
        }
    }
    for thread in names("/proc/self/task") {
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
        let name = name.unwrap_or_default();
        if name.starts_with("ublk") {
            left.push(format!("thread {}", name.trim()));
        }
    }
    left
}

/// Removes what a failed case left, so that the next one starts clean. False when that cannot be
/// done: then somebody waits in the kernel for ever.
pub fn clean() -> bool {
    for mount in read("/proc/self/mounts").lines().filter(|line| line.starts_with("/dev/ublkb")) {
        if let Some(point) = mount.split(' ').nth(1) {
            let _ = bounded("umount", &["-l", point]);
        }
    }
    devices().is_empty() || bounded(UBLKIT, &["delete", "--all", "--force", "--timeout", "5"])
}

/// Runs a program that may hang; whether it ended.
fn bounded(program: &str, words: &[&str]) -> bool {
    let quiet = || Stdio::null();
    let child =
        Command::new(program).args(words).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    ends(&mut child.expect("it runs"), Duration::from_secs(20)).is_some()
}

/// Prints where every thread of this process and of its servers waits.
pub fn show_stacks() {
    for pid in names("/proc").iter().filter(|name| name.parse::<u32>().is_ok()) {
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if !["ublkit", "fio", "works", "mount", "umount", "mkfs"]
            .iter()
            .any(|n| command.contains(n))
        {
            continue;
        }
        for task in names(&format!("/proc/{pid}/task")) {
            let of = |file: &str| {
                std::fs::read_to_string(format!("/proc/{pid}/task/{task}/{file}"))
                    .unwrap_or_default()
            };
            println!("-- {} {pid}/{task}\n{}", of("comm").trim(), of("stack"));
        }
    }
    if let Ok(mut kmsg) = File::options().write(true).open("/proc/sysrq-trigger") {
        let _ = std::io::Write::write_all(&mut kmsg, b"w");
    }
}

/// A folder to mount on.
pub fn mount_point(name: &str) -> String {
    let point = format!("/tmp/ublkit-{name}");
    std::fs::create_dir_all(&point).expect("/tmp is writable");
    point
}

/// The memory that a process (`self` or a number) really has, in bytes.
pub fn rss_bytes(pid: &str) -> u64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
