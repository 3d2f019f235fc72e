//! Cases on real kernels.
//!
//! One program with two roles. On the host it fetches kernels, boots each once in a virtual machine
//! and reads the verdicts; where the machine itself has ublk and root, it uses that. Inside, it
//! runs the cases, in a process of their own.
//!
//! `cargo test --test works -- [--full] [--kernel KERNEL]… [--seed N]… [CASE…]`, where KERNEL is a
//! release such as `6.12` or `6.18.5`, or `newest`, `every` or `native`

#![allow(unreachable_pub, reason = "a program: nobody else sees it")]
#![allow(clippy::cast_possible_truncation, reason = "64-bit machines only, and a wrong cast fails")]

mod alloc;
mod cases;
mod demo;
mod dice;
mod disk;
#[path = "../vm/document.rs"]
mod document;
#[path = "../vm/guest.rs"]
mod guest;
mod host;
mod inside;
mod kernels;
mod load;
mod oracle;
mod spy;
mod support;
mod tools;

use std::process::ExitCode;

/// How long the cases may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// A slice of everything, for every change.
    Slice,
    /// All there is.
    Full,
}

/// What the command line asks for.
#[derive(Debug)]
struct Wanted {
    depth: Depth,
    kernels: Vec<String>,
    /// Of random scripts: the seeds.
    seeds: Vec<u64>,
    /// Only cases whose name contains one of these.
    names: Vec<String>,
    /// Inside: whether nobody needs the kernel afterwards.
    expendable: bool,
}

impl Wanted {
    /// Whether all kernels are wanted that can be had.
    fn every(&self) -> bool {
        self.kernels == ["every"]
    }
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let roles =
        ["inside", "cases", "demo", "stops-itself", "lies-once", "hog", "sticks", "dies", "fails"];
    let role = words.next_if(|word| roles.contains(&word.as_str()));
    let mut wanted = Wanted {
        depth: Depth::Slice,
        kernels: vec![],
        seeds: vec![],
        names: vec![],
        expendable: false,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--full" => wanted.depth = Depth::Full,
            "--seed" => wanted.seeds.extend(words.next().and_then(|word| word.parse::<u64>().ok())),
            "--expendable" => wanted.expendable = true,
            "--kernel" => wanted.kernels.extend(words.next()),
            "inside" => return demo::inside(), // as in: demo inside
            flag if flag.starts_with('-') => {} // the usual harness's, such as --nocapture
            _ => wanted.names.push(word),
        }
    }
    match role.as_deref() {
        Some("inside") => inside::run(),
        Some("cases") => inside::cases(&wanted),
        Some("hog") => cases::supervise::hog(),
        Some("dies") => cases::kill::recover_and_die(&wanted.names),
        Some("fails") => cases::fails::serve_and_fail(&wanted.names),
        Some("sticks") => cases::deadlines::serve_and_stick(),
        Some("lies-once") => cases::recovery::serve_and_lie(),
        Some("stops-itself") => cases::kill::serve_and_stop_itself(),
        Some(_) => host::demo(&wanted),
        None => host::run(&wanted),
    }
}
