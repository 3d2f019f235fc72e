//! Man pages and completions for shells, made from the definition of the command line. They are
//! committed (`docs/man`, `docs/completions`); this sees that they are today's.

use super::Cli;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::path::{Path, PathBuf};

/// A file and what belongs into it.
type Page = (PathBuf, Vec<u8>);

/// Commands that know nothing of devices.
const WITHOUT_DEVICES: [&str; 3] = ["ublkit-abi", "ublkit-features", "ublkit-replay"];

/// What the definition of the command line does not say: the surroundings of a command.
const SURROUNDINGS: &str = r"
.SH ENVIRONMENT
.TP
\fBUBLKIT_STATE_DIR\fR
The state directory, in place of the usual one (see FILES). It must be the user's own, with mode
0700, and no symbolic link; it is made where its parent is there. All commands about a device have
to be told of the same one.
.TP
\fBXDG_RUNTIME_DIR\fR
Where the state directory of users other than root is.
.SH FILES
.TP
\fI/run/ublkit\fR, \fI$XDG_RUNTIME_DIR/ublkit\fR
The state directory, of root and of others.
.TP
\fITAG.json\fR
There: the record of a device, for \fBublkit recover\fR and \fBublkit upgrade\fR. TAG is the word by
which the kernel knows the device.
.TP
\fITAG.sock\fR
There: where the device's server tells \fBublkit stat\fR and \fBublkit show\fR what it does.
.TP
\fIby\-name/NAME\fR
There: a link to the disk of the device with that name (\fBublkit serve \-\-name\fR).
.TP
\fI/dev/ublkbN\fR, \fI/dev/ublkcN\fR, \fI/dev/ublk\-control\fR
The disk, the node by which its server serves it, and the driver's own.
";

/// Commands that serve, and the whole,
const SERVERS: [&str; 4] = ["ublkit", "ublkit-serve", "ublkit-recover", "ublkit-upgrade"];

/// and what stands before their files.
const NOTIFY: &str = r"
.TP
\fBNOTIFY_SOCKET\fR
Whom a server tells that its disk is live, and that it stops: a service manager, which sets it.";

/// The surroundings of the command with this page.
fn surroundings(name: &str) -> String {
    let files = "\n.SH FILES";
    let notify = if SERVERS.contains(&name) { NOTIFY } else { "" };
    SURROUNDINGS.trim_start().replace(files, &[notify, files].concat())
}

/// The same command without what is hidden, which completions would offer.
fn visible(command: &clap::Command) -> clap::Command {
    let lasting = |text: &str| -> &'static str { Box::leak(text.into()) };
    let mut shown = clap::Command::new(lasting(command.get_name()))
        .args(command.get_arguments().filter(|arg| !arg.is_hide_set()))
        .subcommands(command.get_subcommands().filter(|it| !it.is_hide_set()).map(visible));
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        shown = shown.long_about(about.clone());
    }
    match command.get_version() {
        Some(version) => shown.version(lasting(version)),
        None => shown,
    }
}

/// All pages, by their places in `docs`.
fn pages() -> Vec<Page> {
    let mut command = Cli::command();
    command.build(); // so that a subcommand knows whose it is
    let mut pages = Vec::new();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set());
    let named = commands.map(|command| (format!("ublkit-{}", command.get_name()), command.clone()));
    let whole = [("ublkit".to_string(), command.clone())];
    for (name, command) in whole.into_iter().chain(named) {
        if name == "ublkit-help" {
            continue; // it says what these pages say
        }
        let mut page = Vec::new();
        let man =
            Man::new(command).date("").source(format!("ublkit {}", env!("CARGO_PKG_VERSION")));
        man.render(&mut page).expect("memory can be written");
        if !WITHOUT_DEVICES.contains(&name.as_str()) {
            page.extend_from_slice(surroundings(&name).as_bytes());
        }
        pages.push((format!("man/{name}.1").into(), page));
    }
    for (shell, file) in
        [(Shell::Bash, "ublkit.bash"), (Shell::Zsh, "_ublkit"), (Shell::Fish, "ublkit.fish")]
    {
        let mut page = Vec::new();
        clap_complete::generate(shell, &mut visible(&Cli::command()), "ublkit", &mut page);
        pages.push((Path::new("completions").join(file), page));
    }
    pages
}

/// `UBLKIT_BLESS=1 cargo test --bin ublkit pages` writes them anew.
#[test]
fn pages_are_as_committed() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let pages = pages();
    for folder in ["man", "completions"] {
        let known = |name: &Path| pages.iter().any(|(page, _)| docs.join(page) == name);
        for file in fs::read_dir(docs.join(folder)).into_iter().flatten().flatten() {
            assert!(known(&file.path()), "{} is of no command", file.path().display());
        }
    }
    for (name, page) in &pages {
        let path = docs.join(name);
        if std::env::var_os("UBLKIT_BLESS").is_some() {
            fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            fs::write(path, page).expect("the repository can be written");
            continue;
        }
        let committed = fs::read(&path).unwrap_or_default();
        assert!(committed == *page, "{} is not what the command line says now", path.display());
    }
}

/// Flags by which ublkit speaks with itself are nobody's to find.
#[test]
fn what_is_hidden_is_offered_nowhere() {
    let mut hidden = Vec::new();
    for command in Cli::command().get_subcommands() {
        let flags = command.get_arguments().filter(|arg| arg.is_hide_set());
        hidden.extend(flags.map(|arg| arg.get_long().expect("a flag").to_owned()));
    }
    assert!(hidden.iter().any(|flag| flag == "apart"), "{hidden:?}");
    assert!(hidden.iter().any(|flag| flag == "in-background"), "{hidden:?}");
    for (name, page) in pages() {
        let page = String::from_utf8_lossy(&page).replace('\\', "");
        for flag in &hidden {
            // As a shell, a page and fish's words name it.
            for form in [format!("--{flag}"), format!("-l {flag}")] {
                assert!(!page.contains(&form), "{} offers {form}", name.display());
            }
        }
    }
}

/// What a man page must have, whoever makes it.
#[test]
fn pages_say_all() {
    let pages = pages();
    let page = |name: &str| {
        let (_, page) = pages.iter().find(|(page, _)| page.ends_with(name)).expect("it is there");
        String::from_utf8_lossy(page).replace('\\', "")
    };
    let serve = page("ublkit-serve.1");
    for part in ["SYNOPSIS", "ublkit-serve", "--background", "memory", "Examples:"] {
        assert!(serve.contains(part), "{part} in {serve}");
    }
    assert!(page("ublkit.1").contains("Exit codes:"));
    for part in ["UBLKIT_STATE_DIR", "NOTIFY_SOCKET", "FILES", "/run/ublkit"] {
        assert!(serve.contains(part) && page("ublkit.1").contains(part), "{part}");
        assert!(!page("ublkit-abi.1").contains(part), "{part}");
    }
    assert!(!page("ublkit-stop.1").contains("NOTIFY_SOCKET"));
    assert!(!serve.contains("in-background"), "what is hidden is hidden");
    assert!(page("ublkit.bash").contains("--shared-mounts"));
    assert_eq!(pages.len(), 3 + 1 + Cli::command().get_subcommands().count());
}
