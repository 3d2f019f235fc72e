//! What the program says about itself and to whoever calls it wrongly: compared with golden files.
//!
//! `UBLKIT_BLESS=1 cargo test --test cli` writes the files anew; then read what changed.

mod abi;
mod state;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// The help pages: each exits with 0 and writes to standard output only.
const HELP: &[&[&str]] = &[
    &["--help"],
    &["--version"],
    &["serve", "--help"],
    &["list", "--help"],
    &["show", "--help"],
    &["stop", "--help"],
    &["delete", "--help"],
    &["resize", "--help"],
    &["wait", "--help"],
    &["recover", "--help"],
    &["upgrade", "--help"],
    &["replay", "--help"],
    &["stat", "--help"],
    &["owner", "--help"],
    &["doctor", "--help"],
    &["features", "--help"],
    &["abi", "--help"],
];

/// Wrong calls: each exits with 2 and writes to standard error only. None reaches the kernel.
const WRONG: &[&[&str]] = &[
    &[],
    &["sevre"],
    &["--frobnicate"],
    &["serve"],
    &["serve", "memory"],
    &["serve", "memroy", "--size", "1G"],
    &["serve", "memory", "--size"],
    &["serve", "memory", "--size", ""],
    &["serve", "memory", "--size", "big"],
    &["serve", "memory", "--size", "1GB"],
    &["serve", "memory", "--size", "1.5G"],
    &["serve", "memory", "--size=-1"],
    &["serve", "memory", "--size", "16384P"],
    &["serve", "memory", "--size", "99999999999999999999"],
    &["serve", "memory", "--size", "1G", "--depth", "65536"],
    &["serve", "memory", "--size", "1G", "--queues", "many"],
    &["serve", "memory", "--size", "1G", "--id=-1"],
    &["serve", "memory", "--size", "1G", "--max_io", "4K"],
    &["serve", "memory", "--size", "1G", "--data", "teleport"],
    &["serve", "memory", "disk.img", "--size", "1G"],
    &["serve", "memory", "--size", "1G", "--oom-score", "-1001"],
    &["serve", "memory", "--size", "1G", "--background", "--in-background"],
    &["serve", "memory", "--size", "1G", "--background", "--trace"],
    &["serve", "memory", "--size", "1G", "--recover", "soon"],
    &["serve", "null", "--size", "1G", "--batches", "perhaps"],
    &["serve", "null", "--size", "1G", "--no-partition-scan", "yes"],
    &["serve", "null", "--size", "1G", "--no-partition-scan=yes"],
    &["serve", "null", "--size", "1G", "--spin-us", "65536"],
    &["serve", "null", "--size", "1G", "--request-timeout", "0"],
    &["serve", "null", "--size", "1G", "--room", "2G"],
    &["serve", "memory", "--size", "2G", "--room", "1G"],
    &["serve", "memory", "--size", "1G", "--resume"],
    &["serve", "memory", "--size", "1G", "--name", "7"],
    &["serve", "memory", "--size", "1G", "--name", "../etc"],
    &["serve", "memory", "--size", "1G", "--name", LONG],
    &["resize", "0"],
    &["resize", "0", "huge"],
    &["wait", "0"],
    &["wait", "0", "--live", "--gone"],
    &["recover"],
    &["recover", "my disk"],
    &["upgrade"],
    &["serve", "file"],
    &["serve", "file", "/nowhere/disk.img"],
    &["serve", "file", "/dev/null"],
    &["serve", "memory", "--size", "1G", "--trace-format", "json"],
    &["serve", "memory", "--size", "1G", "--trace", "--trace-format", "xml"],
    &["replay"],
    &["replay", "talk.jsonl"],
    &["replay", "talk.jsonl", "disk"],
    &["replay", "tests/golden/conversation.txt", "memory"],
    &["replay", "tests/golden/conversation.jsonl", "memory", "--size", "1000"],
    &["show"],
    &["show", "my disk"],
    &["show", "0", "1"],
    &["stop"],
    &["stop", "0", "--timeout", "soon"],
    &["delete"],
    &["delete", "--no-wait"],
    &["delete", "0", "--no-wait=yes"],
    &["delete", "0", "--no-wait", "yes"],
    &["delete", "0", "--all"],
    &["delete", "0", "--all", "--no-wait"],
    &["delete", "disk 1"],
    &["list", "0"],
    &["stat"],
    &["stat", "0", "--interval", "0"],
    &["stat", "0", "--prometheus", "--watch"],
    &["doctor", "0"],
    &["abi", "ublk", "--check"],
    &["abi", "--btf", "vmlinux"],
    &["abi", "--check", "--btf-module", "ublk_drv"],
];

/// A name of 65 letters.
const LONG: &str = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklm";

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ublkit"))
        .args(words)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .expect("the program was built")
}

/// One block of a golden file: the call, its exit code, and what it wrote.
fn block(words: &[&str], output: &Output, text: &[u8]) -> String {
    let words: Vec<&str> =
        words.iter().map(|word| if word.is_empty() { "''" } else { word }).collect();
    let call = ["$ ublkit", &words.join(" ")].join(" ");
    let code = output.status.code().expect("it exits");
    let text = String::from_utf8_lossy(text).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    format!("{}\nexit code {code}\n{}\n\n", call.trim_end(), text.trim_end())
}

fn compare(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return std::fs::write(path, found).expect("the repository can be written");
    }
    let golden = std::fs::read_to_string(path).expect("the file is committed");
    let differing = golden.lines().zip(found.lines()).position(|(golden, found)| golden != found);
    let line = differing.unwrap_or_else(|| golden.lines().count().min(found.lines().count())) + 1;
    assert!(golden == found, "{name} differs from line {line} on; the program says:\n{found}");
}

#[test]
fn help_is_as_committed() {
    let mut found = String::new();
    for words in HELP {
        let output = run(words);
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        found += &block(words, &output, &output.stdout);
    }
    compare("help.txt", &found);
}

#[test]
fn wrong_calls_are_explained() {
    let mut found = String::new();
    for words in WRONG {
        let output = run(words);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {text}");
        assert_eq!(output.stdout, b"", "{words:?}");
        found += &block(words, &output, &output.stderr);
    }
    compare("usage.txt", &found);
}

/// The recorded disk cannot be read in one place, where these can; and one of these keeps nothing.
const FAILING: &[&[&str]] = &[
    &["replay", "tests/golden/conversation.jsonl", "memory"],
    &["replay", "tests/golden/conversation.jsonl", "null"],
    &["replay", "nowhere.jsonl", "null"],
    &["serve", "memory", "--size", "1G", "--trace=nowhere/talk.txt"],
    &["serve", "file", NEVER, "--size", "1M", "--trace=nowhere/talk.txt"],
];

/// A file that would have to be made.
const NEVER: &str = "tests/never.img";

#[test]
fn failures_are_reported() {
    let mut found = String::new();
    for words in FAILING {
        let output = run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        found += &block(words, &output, &[&output.stdout[..], &output.stderr].concat());
    }
    compare("replay.txt", &found);
    let never = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(NEVER);
    assert!(!never.exists(), "what was made for a disk that did not come is gone");
}

/// The highest number, which no device has.
const NO_DEVICE: &str = "1048575";

/// A process that does another's work ends without a word, and does nothing, when that one is gone:
/// then somebody else is its parent.
#[test]
fn work_that_nobody_wants_is_not_done() {
    for words in [&["stop", NO_DEVICE][..], &["delete", NO_DEVICE], &["resize", NO_DEVICE, "1G"]] {
        // The number of no process.
        let output = run(&[words, &["--apart=4294967295"]].concat());
        assert_eq!(output.status.code(), Some(143), "{words:?}: {output:?}");
        assert_eq!(output.stdout, b"143\n", "{words:?}: it tells whoever might hear it");
        assert_eq!(output.stderr, b"", "{words:?}");
        let own = std::process::id();
        let output = run(&[words, &[&format!("--apart={own}")[..]]].concat());
        assert_ne!(output.status.code(), Some(143), "{words:?}: its parent is there");
        assert!(!output.stderr.is_empty(), "{words:?}: {output:?}");
    }
}

/// What is installed is what the script says, where it is told to; and all of it goes again.
#[test]
fn the_script_installs_and_removes() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    // A tree of its own, with the program that was built for this test.
    let tree = std::env::temp_dir().join(format!("ublkit-install-{}", std::process::id()));
    let (source, to) = (tree.join("source"), tree.join("to"));
    std::fs::create_dir_all(source.join("target/release")).expect("a folder");
    let linked = std::os::unix::fs::symlink(root.join("docs"), source.join("docs"));
    linked.expect("a link");
    std::fs::copy(env!("CARGO_BIN_EXE_ublkit"), source.join("target/release/ublkit")).expect("it");
    let script = |more: &[&str]| {
        let mut command = Command::new(source.join("docs/install"));
        let output = command.arg("--destdir").arg(&to).args(["--prefix", "/opt/x"]).args(more);
        let output = output.current_dir(&tree).output().expect("bash is there");
        assert!(output.status.success(), "{output:?}");
    };
    script(&[]);
    let has = |name: &str| to.join("opt/x").join(name).exists();
    let all = [
        "bin/ublkit",
        "share/man/man1/ublkit.1",
        "share/man/man1/ublkit-serve.1",
        "share/bash-completion/completions/ublkit",
        "share/zsh/site-functions/_ublkit",
        "share/fish/vendor_completions.d/ublkit.fish",
        "lib/systemd/system/ublkit@.service",
        "lib/udev/rules.d/60-ublkit.rules",
    ];
    for name in all {
        assert!(has(name), "{name}");
    }
    let unit = std::fs::read_to_string(to.join("opt/x/lib/systemd/system/ublkit@.service"));
    assert!(unit.expect("text").contains("ExecStart=/opt/x/bin/ublkit serve"));
    let version = Command::new(to.join("opt/x/bin/ublkit")).arg("--version").output();
    assert!(version.expect("it runs").status.success());
    script(&["--uninstall"]);
    assert!(!all.into_iter().any(has));
    std::fs::remove_dir_all(tree).expect("ours");
}
