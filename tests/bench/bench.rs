//! What serving costs, measured.
//!
//! One program with two roles. On the host it boots one kernel in a virtual machine (or takes this
//! machine's, with `--kernel native`) and makes tables; inside, as root, it serves disks and uses
//! them.
//!
//! * `cargo bench-compare [--full] [--modes] [--kernel KERNEL] [--rounds N] [--milliseconds N]
//!   [--server KIND:NAME=COMMAND]… [--only NAME]… [--bless | --bless-means]`: ublkit beside the
//!   kernel's own disks and other servers.
//! * `cargo bench-count [--modes] [--kernel KERNEL] [--only NAME]… [--check [--slice] | --bless]`:
//!   instructions, user and kernel, of a request.
//! * `cargo bench-instructions [--check] [--bless] [--self-test] [--lines]`: user instructions and
//!   system calls of a request, without a kernel.

#![allow(unreachable_pub, reason = "a program: nobody else sees it")]
#![allow(clippy::cast_precision_loss, reason = "figures for people: none is that large")]

mod cells;
mod contenders;
mod disk;
#[path = "../vm/document.rs"]
#[allow(dead_code, reason = "shared with tests/real")]
mod document;
mod fio;
#[path = "../vm/guest.rs"]
#[allow(dead_code, reason = "shared with tests/real")]
mod guest;
mod host;
mod inside;
mod means;
mod null;
mod plot;
mod report;
mod sample;
#[path = "../real/tools.rs"]
#[allow(dead_code, reason = "shared with tests/real")]
mod tools;
mod totals;
mod user;

use guest::Outcome;
use std::process::ExitCode;

fn run(words: &[String]) -> Outcome<()> {
    let (role, rest) = words.split_first().ok_or("say what is to be done")?;
    match role.as_str() {
        "inside" => {
            let (what, rest) = rest.split_first().ok_or("say what is to be measured")?;
            inside::run(&host::Options::parse(rest)?.wanted(what == "count"));
            Ok(())
        }
        "null" => null::serve(rest),
        "served" => {
            user::served(rest);
            Ok(())
        }
        "compare" => host::compare(&host::Options::parse(rest)?),
        "count" => host::count(&host::Options::parse(rest)?),
        "instructions" => user::run(user::Wanted::parse(rest)),
        _ => Err("choose one of cargo bench-compare, bench-count, bench-instructions".into()),
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("bench: {sentence}");
            ExitCode::FAILURE
        }
    }
}
