//! Servers in the background, and what they do for whoever looks after them.

use super::Context;
use crate::tools::{self, Serving, UBLKIT, eventually, mount_point, run};
use crate::{Depth, disk};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);

/// How long a killed server may take to go.
const LINGER: Duration = Duration::from_secs(15);

/// The process that serves a device.
fn server(path: &str) -> u32 {
    let shown: Value = serde_json::from_str(&run(UBLKIT, &["show", path, "--json"])).unwrap();
    u32::try_from(shown["server_pid"].as_u64().expect("it is served")).unwrap()
}

/// The states of a process's threads: any may be the last, not only the one with its number.
fn states(pid: u32) -> Vec<char> {
    let state = |task: &String| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{task}/stat"));
        stat.ok()?.rsplit(") ").next()?.chars().next()
    };
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let names = tasks.map(|task| task.file_name().to_string_lossy().into_owned());
    names.filter_map(|name| state(&name)).collect()
}

/// Whether a process is more than an exit code: nobody may ask for that of an orphan.
fn is_alive(pid: u32) -> bool {
    states(pid).iter().any(|state| *state != 'Z')
}

/// A server in the background is live when its caller goes on, and has nothing of his any more.
pub fn background(_: Context) {
    // That this ends says that nobody holds the pipes.
    let lock = "/tmp/ublkit-callers.lock";
    let start = "exec 9>$0; exec $1 serve memory --size 64M --background";
    let path = run("sh", &["-c", start, lock, UBLKIT]);
    let path = path.trim_end();
    let pid = server(path);
    disk::read(&disk::open(path, 0), 0, 4096).unwrap();
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    for name in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(link(name), Path::new("/dev/null"), "{name}");
    }
    assert_eq!(link("cwd"), Path::new("/"));
    let files = tools::names(&format!("/proc/{pid}/fd"));
    assert!(
        files.iter().all(|file| link(&format!("fd/{file}")) != Path::new(lock)),
        "its caller's"
    );
    std::fs::remove_file(lock).unwrap();
    let stat = tools::read(&format!("/proc/{pid}/stat"));
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap();
    assert_eq!(session, pid.to_string(), "it has a session of its own");
    let signal = |signal| kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server(path), pid, "a SIGHUP does nothing");
    run(UBLKIT, &["stop", path]);
    eventually("the server ends", SOON, || !is_alive(pid));
    assert_eq!(tools::devices(), Vec::<String>::new());

    let path = run(UBLKIT, &["serve", "null", "--size", "1G", "--background"]);
    let pid = server(path.trim_end());
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::TERM).unwrap();
    eventually("a SIGTERM stops it", SOON, || !is_alive(pid) && tools::devices().is_empty());
}

/// What keeps a server from serving is told in the same words and by the same code as in the
/// foreground, and nothing is left.
pub fn background_fails(_: Context) {
    let serving = Serving::start(&["null", "--size", "1G", "--id", "41"]);
    let image = "/tmp/ublkit-never.img";
    let calls: [&[&str]; 6] = [
        &["serve", "null", "--size", "1G", "--id", "41"],
        &["serve", "file", image, "--size", "1M", "--id", "41"],
        &["serve", "null", "--size", "1000"],
        &["serve", "null", "--size", "1G", "--depth", "5000"],
        &["serve", "file", "/nowhere/disk.img"],
        &["serve", "memory", "--size", "8191P"],
    ];
    let running = || tools::names("/proc").iter().filter(|name| is_ublkit(name)).count();
    let before = running();
    for words in calls {
        let foreground = tools::output(UBLKIT, words);
        let background = tools::output(UBLKIT, &[words, &["--background"]].concat());
        assert_ne!(foreground.status.code(), Some(0));
        assert_eq!(background, foreground, "{words:?}");
        assert!(!Path::new(image).exists(), "{words:?}");
    }
    let mixed = ["serve", "null", "--size", "1G", "--background", "--trace"];
    assert_eq!(tools::output(UBLKIT, &mixed).status.code(), Some(2));
    eventually("no server is left", SOON, || running() == before);
    assert_eq!(tools::devices(), ["ublkc41"]);
    serving.stop();
}

fn is_ublkit(pid: &str) -> bool {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    comm.is_ok_and(|name| name.trim() == "ublkit") && pid.parse().is_ok_and(is_alive)
}

/// A service manager hears when the disk is live, and when the server stops.
pub fn readiness(_: Context) {
    let path = "/tmp/ublkit-notify";
    let _ = std::fs::remove_file(path);
    let abstract_name = SocketAddr::from_abstract_name("ublkit-notify").unwrap();
    let managers = [
        (UnixDatagram::bind(path).unwrap(), path),
        (UnixDatagram::bind_addr(&abstract_name).unwrap(), "@ublkit-notify"),
    ];
    for (manager, name) in managers {
        let mut command = Command::new(UBLKIT);
        command.args(["serve", "null", "--size", "1G"]).env("NOTIFY_SOCKET", name);
        let serving = Serving::started(&mut command);
        let hear = || {
            let mut text = [0; 200];
            let len = manager.recv(&mut text).expect("a datagram");
            String::from_utf8_lossy(&text[..len]).into_owned()
        };
        manager.set_read_timeout(Some(SOON)).unwrap();
        let disk = serving.path.clone();
        assert_eq!(hear(), format!("READY=1\nSTATUS=serving {disk}\n"));
        serving.stop();
        assert_eq!(hear(), format!("STOPPING=1\nSTATUS=stopping {disk}\n"));
        manager.set_nonblocking(true).unwrap();
        assert!(manager.recv(&mut [0]).is_err(), "no more was said");
    }
    let _ = std::fs::remove_file(path);
}

/// Memory is locked and the OOM score set, if it is wanted; and what cannot be is said.
pub fn settings(_: Context) {
    let words = ["memory", "--size", "32M", "--queues", "2", "--depth", "16"];
    let wishes = ["--lock-memory", "--oom-score", "-500"];
    let serving = Serving::start(&[&words[..], &wishes].concat());
    let pid = serving.child.id();
    let status = tools::read(&format!("/proc/{pid}/status"));
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("its line");
        line.trim_end_matches(" kB").trim().parse().expect("a number")
    };
    assert!(kib("VmLck:") > 48 << 10, "the disk and 32 buffers are locked: {status}");
    assert!(kib("VmRSS:") > 48 << 10, "and there: {status}");
    assert_eq!(tools::read(&format!("/proc/{pid}/oom_score_adj")).trim(), "-500");
    assert_eq!(io_flushers(pid), (2, 2), "queue threads must not wait for the disk they serve");
    // What is discarded reads as zeros, although its memory is kept.
    let file = disk::open(&serving.path, 0);
    disk::write(&file, 1 << 20, &disk::stamp(1, 1, 4096)).unwrap();
    drop(file);
    run("blkdiscard", &[&serving.path]);
    let file = disk::open(&serving.path, 0);
    assert_eq!(disk::read(&file, 1 << 20, 4096).unwrap(), vec![0; 4096]);
    drop(file);
    serving.stop();

    let poor = |words: &[&str]| {
        let limits = ["--memlock=65536", "setpriv", "--bounding-set=-ipc_lock,-sys_resource"];
        let call = [&limits[..], &[UBLKIT, "serve", "null", "--size", "1G"], words].concat();
        let output = tools::output("prlimit", &call);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = poor(&["--lock-memory"]);
    assert!(said.contains("cannot lock the server's memory"), "{code:?} {said}");
    let (code, said) = poor(&["--oom-score", "-500"]);
    assert!(said.contains("needs CAP_SYS_RESOURCE") && code == Some(3), "{code:?} {said}");
}

/// How many queue threads of a process are IO_FLUSHERs, and how many there are: PF_MEMALLOC_NOIO
/// and PF_LOCAL_THROTTLE of `linux/sched.h`, in the ninth word of a thread's `stat`.
fn io_flushers(pid: u32) -> (usize, usize) {
    const FLAGS: u32 = 0x0008_0000 | 0x0010_0000;
    let tasks = format!("/proc/{pid}/task");
    let mut of_queues = Vec::new();
    for task in tools::names(&tasks) {
        let stat = tools::read(&format!("{tasks}/{task}/stat"));
        let (name, words) = stat.rsplit_once(") ").expect("a name in brackets");
        if name.contains("(ublk") && name.contains("-q") {
            let flags = words.split(' ').nth(6).and_then(|word| word.parse::<u32>().ok());
            of_queues.push(flags.expect("flags") & FLAGS == FLAGS);
        }
    }
    (of_queues.iter().filter(|is_one| **is_one).count(), of_queues.len())
}

/// In a mount namespace of its own: a server, and a file system on its disk with dirty pages. Says
/// the server's process, and waits.
const NAMESPACE: &str = r#"
set -e
point=$1 line=$2; shift 2
"$@" >"$line" &
server=$!
while ! grep -q / "$line"; do sleep 0.1; done
mkfs.ext4 -q "$(cat "$line")"
mount "$(cat "$line")" "$point"
dd if=/dev/zero of="$point/file" bs=1M count=4 2>/dev/null
sleep 1000 &
echo $server # from here on all are there that are to be killed
wait $!
"#;

/// A namespace in which a server was the last process, and was killed.
struct Left {
    server: u32,
    path: String,
}

/// Makes such a namespace, and kills all in it, the server last.
fn kill_the_last(words: &[&str]) -> Left {
    let (point, line) = (mount_point("namespace"), "/tmp/ublkit-namespace-path");
    std::fs::write(line, "").unwrap();
    let mut shell = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", NAMESPACE, "sh", &point, line])
        .args([UBLKIT, "serve", "memory", "--size", "64M"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let server: u32 = said.trim().parse().unwrap_or_else(|_| panic!("a process, not {said:?}"));
    let path = tools::read(line).trim().to_string();
    // One after the other: whoever is the last has to unmount.
    let children = tools::read(&format!("/proc/{0}/task/{0}/children", shell.id()));
    let children = children.split_whitespace().map(|child| child.parse::<u32>().unwrap());
    for child in children.filter(|child| *child != server) {
        kill(child);
        eventually("a process ends", SOON, || !is_alive(child));
    }
    kill(shell.id());
    tools::wait(&mut shell, SOON);
    if !words.contains(&"--shared-mounts") {
        // Nobody is left in the namespace; new kernels unmount a little later than it ends.
        let mounted = format!("/proc/fs/ext4/{}", &path["/dev/".len()..]);
        eventually("the disk is unmounted", SOON, || !Path::new(&mounted).exists());
    }
    kill(server);
    Left { server, path }
}

fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
}

/// Lines of the kernel's log that say that a disk could not be written.
fn lost(path: &str) -> Vec<String> {
    let disk = &path["/dev/".len()..];
    let log = run("dmesg", &[]);
    let of_disk = log.lines().filter(|line| line.contains(disk) && line.contains("error"));
    of_disk.map(str::to_owned).collect()
}

/// A server that is the last of its caller's mount namespace is not: it has its own. So it serves
/// whoever has to write what is mounted there.
pub fn own_mounts(context: Context) {
    for _ in 0..context.pick(2, 10) {
        run("dmesg", &["--clear"]);
        let left = kill_the_last(&[]);
        eventually("the server ends", LINGER, || !is_alive(left.server));
        assert_eq!(lost(&left.path), Vec::<String>::new());
        run(UBLKIT, &["delete", &left.path]);
    }
}

/// Its control: one that stays in the namespace has to write itself, as it ends, and waits for its
/// own answers, for ever. A kernel that failed the writes would lose what was dirty. Nothing can
/// remove the first, so this is one of the last things that a guest does.
pub fn shares_its_mounts(_: Context) {
    run("dmesg", &["--clear"]);
    let left = kill_the_last(&["--shared-mounts"]);
    let begun = Instant::now();
    while is_alive(left.server) && begun.elapsed() < LINGER {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (stays, lost) = (states(left.server).contains(&'D'), lost(&left.path));
    println!("  measured: it stays: {stays}; writes that failed: {}", lost.len());
    assert!(stays || !lost.is_empty(), "nothing happened, so the case beside it proves nothing");
}

/// Where a page says which it is: at its ends and in its middle. The guest is slow.
const STAMPS: [usize; 3] = [0, 2048, 4088];

/// `hog MIB`: takes so much memory, writes to all of it, and sees that it stays as it was written.
pub fn hog() -> ExitCode {
    let mib: usize = std::env::args().nth(2).and_then(|word| word.parse().ok()).expect("a number");
    let mut memory = vec![0_u8; mib << 20];
    for (index, page) in memory.chunks_exact_mut(4096).enumerate() {
        for at in STAMPS {
            page[at..at + 8].copy_from_slice(&(index ^ at).to_ne_bytes());
        }
    }
    for (index, page) in memory.chunks_exact(4096).enumerate() {
        for at in STAMPS {
            assert!(page[at..at + 8] == (index ^ at).to_ne_bytes(), "page {index} is another");
        }
    }
    ExitCode::SUCCESS
}

/// Pages that were written to swap since the boot.
fn swapped_out() -> u64 {
    let stat = tools::read("/proc/vmstat");
    let line = stat.lines().find_map(|line| line.strip_prefix("pswpout ")).expect("its line");
    line.parse().expect("a number")
}

fn available_mib() -> u64 {
    let info = tools::read("/proc/meminfo");
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("its line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

/// Takes more memory than there is, and sees that what was swapped comes back as it was.
fn memory_is_short() {
    let before = swapped_out();
    let program = std::env::current_exe().unwrap();
    let size = (available_mib() + 150).to_string();
    let mut hog: Child = Command::new(program).args(["hog", &size]).spawn().unwrap();
    let status = tools::wait(&mut hog, Duration::from_secs(600));
    assert!(status.success(), "what was swapped is not what was written: {status}");
    let pages = swapped_out() - before;
    println!("  measured: {} MiB were swapped out", pages >> 8);
    assert!(pages > 1000, "only {pages} pages were swapped out");
}

/// A disk in memory that all of the machine swaps to; at full length, while memory is short.
pub fn swap(context: Context) {
    let words = ["memory", "--size", "512M", "--queues", "2", "--depth", "32", "--lock-memory"];
    let wishes = ["--oom-score", "-1000", "--timeout", "100"];
    let serving = Serving::start(&[&words[..], &wishes].concat());
    run("mkswap", &[&serving.path]);
    run("swapon", &[&serving.path]);
    // The guest is slow at taking so much memory: only at full length.
    if context.depth == Depth::Full {
        memory_is_short();
    }
    run("swapoff", &[&serving.path]);
    serving.signal(Signal::INT);
    let (code, said) = serving.end(Duration::from_secs(100));
    assert_eq!((code, said.as_str()), (0, ""));
}
