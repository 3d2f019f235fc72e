//! A contender at work: its disk, and its server's process.

use crate::contenders::{Contender, Kind, MIB, Start};
use crate::guest::{Outcome, root};
use crate::tools;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use ublkit::{Control, DeviceState, Linux};

const SOON: Duration = Duration::from_secs(30);

/// A contender's disk, while it is there.
#[derive(Debug)]
pub struct Disk {
    pub name: String,
    pub path: String,
    /// The file below it, or nothing.
    file: String,
    /// The server, where it is a process.
    pub pid: Option<u32>,
    end: End,
}

/// How it is ended.
#[derive(Debug)]
enum End {
    /// A ublk device, and the process that was started, unless it has gone to the background.
    Ublk(u32, Child),
    /// A kernel module.
    Module(&'static str),
    Loop(String),
    /// It stays.
    Nothing,
}

impl Disk {
    /// Starts a contender with so many queues.
    pub fn start(contender: &Contender, queues: u16) -> Outcome<Self> {
        if queues > contender.queues {
            return Err(format!("it has {} queue at most", contender.queues));
        }
        let named = |folder: &str| format!("{folder}/{}", contender.name.replace(' ', "-"));
        let file = match (contender.kind, &contender.start) {
            (Kind::File, _) => named(files()?),
            (Kind::Memory, Start::Loop { .. }) => named(tmpfs()?),
            (Kind::Null | Kind::Memory, _) => String::new(),
        };
        let (name, below) = (contender.name.clone(), file.clone());
        let named = |path: String, end| Self { name, path, file: below, pid: None, end };
        let disk = match &contender.start {
            Start::Server(command) => server(contender, command, &file, queues)?,
            Start::NullBlk => {
                let queues = format!("submit_queues={queues}");
                let words = ["null_blk", "nr_devices=1", "gb=1", "bs=512", "irqmode=0", &queues];
                modprobe(&[&words[..], &["hw_queue_depth=128"]].concat())?;
                named("/dev/nullb0".into(), End::Module("null_blk"))
            }
            Start::Brd => {
                ram_disks()?;
                named("/dev/ram0".into(), End::Nothing)
            }
            Start::Loop { direct } => {
                modprobe(&["loop"])?;
                fill(&file);
                let direct = format!("--direct-io={}", if *direct { "on" } else { "off" });
                let path = tools::run("losetup", &["--find", "--show", &direct, &file]);
                let path = path.trim().to_string();
                named(path.clone(), End::Loop(path))
            }
        };
        if contender.kind == Kind::Memory {
            fill(&disk.path); // holes are read without being looked at
        }
        Ok(disk)
    }

    /// Ends it, whatever it takes.
    pub fn stop(self) {
        match self.end {
            End::Ublk(id, mut child) => {
                let id = id.to_string();
                tools::output(tools::UBLKIT, &["stop", &id, "--timeout", "10"]);
                tools::output(tools::UBLKIT, &["delete", &id, "--force", "--timeout", "10"]);
                if tools::ends(&mut child, Duration::from_secs(5)).is_none() {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            End::Module(name) => drop(tools::run("modprobe", &["-r", name])),
            End::Loop(path) => drop(tools::run("losetup", &["--detach", &path])),
            End::Nothing => {}
        }
        let _ = std::fs::remove_file(self.file);
    }
}

/// The kernel's RAM disks: one to compete, and one for files. Refused where there are any before.
fn ram_disks() -> Outcome<()> {
    static MADE: OnceLock<Outcome<()>> = OnceLock::new();
    let make = || match Path::new("/dev/ram0").exists() {
        true => Err("this machine has RAM disks: brd is in use".into()),
        false => modprobe(&["brd", "rd_nr=2", &format!("rd_size={}", (20 * MIB) << 10)]),
    };
    MADE.get_or_init(make).clone()
}

/// Where files are: an ext4 on a RAM disk, which reads and writes without waiting, as a good disk's
/// does. (What is on a tmpfs a ring reads by worker threads alone.)
const FILES: &str = "/tmp/ublkit-bench-files";

fn files() -> Outcome<&'static str> {
    static MADE: OnceLock<Outcome<()>> = OnceLock::new();
    let make = || {
        ram_disks()?;
        // All is done now that may be done later: nothing runs beside the contenders.
        let eager = "lazy_itable_init=0,lazy_journal_init=0";
        tools::run("mkfs.ext4", &["-q", "-E", eager, "/dev/ram1"]);
        std::fs::create_dir_all(FILES).map_err(|error| format!("{FILES}: {error}"))?;
        tools::run("mount", &["-o", "noatime", "/dev/ram1", FILES]);
        Ok(())
    };
    MADE.get_or_init(make).clone().map(|()| FILES)
}

/// Where a file in memory is.
const TMPFS: &str = "/tmp/ublkit-bench-tmpfs";

fn tmpfs() -> Outcome<&'static str> {
    static MADE: OnceLock<Outcome<()>> = OnceLock::new();
    let make = || {
        std::fs::create_dir_all(TMPFS).map_err(|error| format!("{TMPFS}: {error}"))?;
        tools::run("mount", &["-t", "tmpfs", "tmpfs", TMPFS]);
        Ok(())
    };
    MADE.get_or_init(make).clone().map(|()| TMPFS)
}

/// Puts away what all contenders shared.
pub fn clean_up() {
    tools::output("umount", &[TMPFS]);
    tools::output("umount", &[FILES]);
    tools::output("modprobe", &["-r", "brd"]);
}

fn modprobe(words: &[&str]) -> Outcome<()> {
    let output = tools::output("modprobe", words);
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(said()) }
}

/// Writes all of a disk or of a file once.
fn fill(path: &str) {
    let (of, count) = (format!("of={path}"), format!("count={MIB}"));
    tools::run("dd", &["if=/dev/zero", &of, "bs=1M", &count, "conv=notrunc", "status=none"]);
    tools::run("sync", &[]);
}

/// Starts a ublk server and waits for its disk.
fn server(contender: &Contender, command: &str, file: &str, queues: u16) -> Outcome<Disk> {
    let rivals = root().join("target/bench/rivals").display().to_string();
    let bench = std::env::current_exe().map_err(|error| error.to_string())?;
    let command = command
        .replace("{rivals}", &rivals)
        .replace("{bench}", &bench.display().to_string())
        .replace("{queues}", &queues.to_string())
        .replace("{mib}", &MIB.to_string())
        .replace("{file}", file);
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    if program.contains('/') && !Path::new(program).exists() {
        return Err("it was not built: see tests/bench/rivals.sh".into());
    }
    if !file.is_empty() && command.contains(file) {
        fill(file);
    }
    let before: BTreeSet<String> = tools::devices().into_iter().collect();
    let log = format!("/tmp/{}.log", contender.name.replace(' ', "-"));
    let said = || std::fs::File::create(&log).map_err(|error| format!("{log}: {error}"));
    let mut child = Command::new(program)
        .args(words)
        .current_dir("/tmp")
        .stdin(Stdio::null())
        .stdout(said()?)
        .stderr(said()?)
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let begun = Instant::now();
    loop {
        if let Some(id) = tools::devices().into_iter().find(|name| !before.contains(name))
            && let Some(id) = id.trim_start_matches("ublkc").parse::<u32>().ok()
            && let Some(pid) = live(id, queues)?
        {
            let (name, file) = (contender.name.clone(), file.to_owned());
            let (path, pid, end) = (format!("/dev/ublkb{id}"), Some(pid), End::Ublk(id, child));
            return Ok(Disk { name, path, file, pid, end });
        }
        let failed = child.try_wait().is_ok_and(|end| end.is_some_and(|end| !end.success()));
        if failed || begun.elapsed() > SOON {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let said = said.lines().next_back().unwrap_or("it said nothing").to_owned();
            return Err(format!("it brought no disk to life: {said}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The server of a device, once that is live with the queues that were asked for.
fn live(id: u32, queues: u16) -> Outcome<Option<u32>> {
    let mut control = Control::open(Linux).map_err(|error| error.to_string())?;
    let Ok(info) = control.device(id).info() else { return Ok(None) };
    if info.state != DeviceState::Live || !Path::new(&format!("/dev/ublkb{id}")).exists() {
        return Ok(None);
    }
    if info.queues != queues {
        return Err(format!("{queues} queues were asked for, and {} granted", info.queues));
    }
    Ok(info.server_pid)
}
