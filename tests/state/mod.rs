//! What is said where records of devices, names and files are not as they should be. None of these
//! calls reaches the kernel's driver, and none leaves anything behind.

use crate::{block, compare};
use rustix::fs::FlockOperation;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `nobody` of every Linux.
const NOBODY: u32 = 65534;

/// A folder of the test's own, which goes with it.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let name = format!("ublkit-cli-{name}-{}", std::process::id());
        let home = Self(std::env::temp_dir().join(name));
        let _ = fs::remove_dir_all(&home.0);
        fs::create_dir(&home.0).expect("a folder");
        home
    }

    /// A folder in it with that mode.
    fn folder(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).expect("a folder");
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
        path
    }

    /// Runs `ublkit WORDS` there, with a state directory; a block of the golden file.
    fn call(&self, place: &str, words: &[&str]) -> String {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        self.block(place, &words, &self.run(place, &words))
    }

    fn run(&self, place: &str, words: &[OsString]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ublkit"));
        command.args(words).current_dir(&self.0).env("UBLKIT_STATE_DIR", self.0.join(place));
        command.stdin(Stdio::null()).output().expect("it runs")
    }

    fn block(&self, place: &str, words: &[OsString], output: &Output) -> String {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        let words: Vec<&str> = words.iter().map(|word| word.as_ref()).collect();
        assert_eq!(output.stdout, b"", "{words:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text.lines().count(), 1, "{words:?}: {text}");
        let text = text.replace(&self.0.display().to_string(), "HOME");
        let block = block(&words, output, text.as_bytes());
        if place.is_empty() { block } else { format!("# in '{place}'\n{block}") }
    }

    /// All that is there.
    fn names(&self) -> Vec<PathBuf> {
        let mut names = Vec::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("it can be read").flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                folders.extend(is_folder.then(|| entry.path()));
                names.push(entry.path());
            }
        }
        names.sort();
        names
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The record of a device whose server lives: this process.
fn write_record(place: &Path, tag: u64, name: &str, granted: &str) {
    let stat = fs::read_to_string("/proc/self/stat").expect("it is there");
    let fields = stat.rsplit_once(')').expect("a name").1.split_whitespace();
    let (pid, began) = (std::process::id(), fields.clone().nth(19).expect("a beginning"));
    let text = format!(
        "{{\"version\":1,\"tag\":\"{tag:016x}\",\"name\":\"{name}\",\"server\":{{\"pid\":{pid},\
         \"began\":{began}}},\"arguments\":[],\"folder\":\"/\",\"file\":null,\
         \"granted\":{granted}}}"
    );
    let path = place.join(format!("{tag:016x}.json"));
    fs::write(&path, text).expect("a record");
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("it is ours");
}

/// Records are for their user alone, and a name is one device's.
#[test]
fn records_and_names_are_guarded() {
    let home = Home::new("records");
    home.folder("open", 0o777);
    let good = home.folder("good", 0o700);
    symlink(&good, home.0.join("link")).expect("a link");
    fs::write(home.0.join("file"), "").expect("a file");
    let granted = "{\"id\":7,\"queues\":1,\"depth\":1,\"max_io_bytes\":4096,\"features\":0}";
    write_record(&good, 7, "taken", granted);
    write_record(&good, 8, "soon", "null");
    let before = home.names();
    let serve = |name| ["serve", "null", "--size", "1G", "--name", name];
    let file = ["serve", "file", "never.img", "--size", "1M", "--name", "taken"];
    let resume = ["serve", "null", "--size", "1G", "--name", "x", "--recover", "wait", "--resume"];
    let found = [
        home.call("open", &["show", "scratch"]),
        home.call("open", &serve("scratch")),
        home.call("open", &resume),
        home.call("link", &["stop", "scratch"]),
        home.call("file", &["delete", "scratch"]),
        home.call("nowhere/state", &serve("scratch")),
        home.call("nowhere/state", &["stat", "scratch"]),
        home.call("good", &["resize", "scratch", "1G"]),
        home.call("good", &["recover", "/dev/null"]),
        home.call("good", &serve("taken")),
        home.call("good", &serve("soon")),
        home.call("good", &file),
    ];
    assert_eq!(home.names(), before, "nothing is left behind, and nothing lost");
    compare("records.txt", &found.concat());
}

/// Files that are no BTF of this machine's kind.
const ODD_BTF: [(&str, &[u8]); 4] = [
    ("none.btf", b"\x7fELF"),
    ("big-endian.btf", &[0xeb, 0x9f, 1, 0]),
    ("newer.btf", &[0x9f, 0xeb, 9, 0]),
    ("cut.btf", &[0x9f, 0xeb, 1, 0]),
];

/// Files that cannot be disks, and words that cannot be kept.
#[test]
fn files_are_refused_in_words() {
    let home = Home::new("files");
    home.folder("state", 0o700);
    home.folder("folder", 0o755);
    let disk = fs::File::create(home.0.join("disk.img")).expect("a file");
    disk.set_len(1 << 20).expect("it is sparse");
    let before = home.names();
    let file = |more: &[&str]| home.call("", &[&["serve", "file"], more].concat());
    let mut found = vec![
        file(&["folder"]),
        file(&["folder/none/disk.img", "--size", "1M"]),
        file(&["new/", "--size", "1M"]),
        file(&["disk.img", "--size", "2M"]),
        file(&["disk.img", "--block-size", "256"]),
        file(&["disk.img", "--block-size", "8192"]),
        file(&["disk.img", "--block-size", "8G"]),
        home.call("", &["serve", "null", "--size", "8192P"]),
        home.call("", &["serve", "memory", "--size", "1G", "--max-io", "8G"]),
    ];
    for (name, bytes) in ODD_BTF {
        fs::write(home.0.join(name), bytes).expect("a file");
        found.push(home.call("", &["abi", "--check", "--btf", name]));
        fs::remove_file(home.0.join(name)).expect("it is ours");
    }
    found.push(home.call("", &["abi", "--check", "--btf", "folder"]));
    found.push(home.call("", &["replay", "folder", "null"]));
    rustix::fs::flock(&disk, FlockOperation::NonBlockingLockExclusive).expect("nobody has it");
    found.push(file(&["disk.img"]));
    let odd = OsString::from_vec(b"\xff.img".into());
    let words = ["serve", "file", "", "--size", "1M", "--name", "odd"];
    let words: Vec<OsString> =
        words.iter().map(|word| if word.is_empty() { odd.clone() } else { word.into() }).collect();
    found.push(home.block("state", &words, &home.run("state", &words)));
    assert_eq!(home.names(), before, "nothing is left behind");
    compare("files.txt", &found.concat());
}

/// Somebody who is not root and has no session has no place for records.
#[test]
fn there_may_be_no_place() {
    let home = Home::new("nobody");
    fs::set_permissions(&home.0, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let copy = home.0.join("ublkit");
    // By another process: while this one writes a program, a fork of another test's keeps it open.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_ublkit")).arg(&copy).status();
    assert!(copied.expect("it is there").success());
    let words = ["show", "scratch"];
    let mut command = Command::new(copy);
    command.args(words).env_remove("UBLKIT_STATE_DIR").env_remove("XDG_RUNTIME_DIR");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let words = words.map(OsStr::new).map(OsStr::to_owned);
    compare("nobody.txt", &home.block("", &words, &output));
}
