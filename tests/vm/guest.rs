//! Kernels to run a program on: this machine's own, or ones that are booted.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub type Outcome<T> = Result<T, String>;

/// A kernel to run on.
#[derive(Debug)]
pub enum Kernel {
    /// The machine's own.
    Native,
    /// One to boot: its release and its image.
    Vm(String, PathBuf),
}

/// What the virtual machine shall be, where one is needed.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// What runs, for people, and for the folder of what it leaves.
    pub what: &'a str,
    pub cpus: u32,
    /// Its clocks count instructions.
    pub counts: bool,
    /// How long the program may take.
    pub seconds: u32,
}

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn script(name: &str) -> Command {
    let mut command = Command::new(root().join("tests/vm").join(name));
    command.stdin(Stdio::null());
    command
}

/// What a script prints.
fn said(name: &str, words: &[String]) -> Outcome<String> {
    let output = script(name).args(words).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{name}: {error}"))?;
    if !output.status.success() {
        return Err("the kernels could not be had; see the line above".into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this machine can serve ublk devices itself.
pub fn is_native() -> bool {
    let root = rustix::process::geteuid().is_root();
    let node = Path::new("/dev/ublk-control");
    let quiet = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    root && (node.exists() || (quiet(Command::new("modprobe").arg("ublk_drv")) && node.exists()))
}

/// The kernels of these names, fetched where need be; `every` stands for all that there are.
pub fn kernels(names: &[String]) -> Outcome<Vec<Kernel>> {
    let prepared = script("prepare.sh").status().map_err(|error| format!("prepare.sh: {error}"))?;
    if !prepared.success() {
        return Err("this machine cannot boot kernels; see the line above".into());
    }
    let names: Vec<String> = if names == ["every"] {
        said("kernels.sh", &["--list".into()])?.lines().map(str::to_owned).collect()
    } else {
        names.to_vec()
    };
    let text = said("kernels.sh", &names)?;
    let kernel = |line: &str| {
        let (release, image) = line.split_once(' ').ok_or("kernels.sh: what is this?")?;
        Ok(Kernel::Vm(release.into(), image.into()))
    };
    text.lines().map(kernel).collect()
}

impl Guest<'_> {
    /// Where a guest leaves what it writes.
    pub fn out(&self, kernel: &Kernel) -> Option<PathBuf> {
        match kernel {
            Kernel::Native => None,
            Kernel::Vm(release, _) => {
                Some(root().join(format!("target/vm/out/{}-{release}", self.what)))
            }
        }
    }

    /// Runs this program with other words on a kernel. Prints and returns its lines.
    pub fn run(&self, kernel: &Kernel, words: &[String]) -> Outcome<Vec<String>> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let out = self.out(kernel);
        let (mut command, release) = match kernel {
            Kernel::Native => {
                let mut command = Command::new(program);
                command.args(words);
                (command, "this machine's kernel".to_string())
            }
            Kernel::Vm(release, image) => {
                let out = out.as_ref().expect("a guest leaves things");
                let mut command = script("boot.sh");
                command.args(["--cpus", &self.cpus.to_string(), "--memory", "2G", "--timeout"]);
                command.arg(self.seconds.to_string()).arg("--out").arg(out);
                if self.counts {
                    command.arg("--icount");
                    if std::env::var_os("UBLKIT_VM_BOOT_SECONDS").is_none() {
                        command.env("UBLKIT_VM_BOOT_SECONDS", "300"); // it goes slowly
                    }
                }
                command.arg(image).arg("--");
                command.env("UBLKIT_OUT", out); // writable inside, unlike the rest
                command.arg(program).args(words).arg("--expendable");
                (command, release.clone())
            }
        };
        let what = self.what;
        println!("\n== {what} on {release}");
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run on {release}: {error}"))?;
        let mut lines = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let line = line.map_err(|error| error.to_string())?;
            println!("{line}");
            let _ = std::io::stdout().flush();
            lines.push(line);
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        if let Some(out) = out {
            let log = script("kernel-log.sh").arg(out.join("dmesg")).status();
            if !log.is_ok_and(|status| status.success()) {
                return Err(format!("the log of kernel {release} reports trouble; see above"));
            }
        }
        if status.success() {
            return Ok(lines);
        }
        let which = lines.iter().rev().find(|line| line.contains(" failed: "));
        let why = which.map_or_else(|| status.to_string(), Clone::clone);
        Err(format!("{what} failed on {release}: {why}"))
    }
}
