//! What serving costs, measured.
//!
//! One program with several roles. `cargo bench-instructions [--check] [--bless] [--self-test]
//! [--lines]` counts the user instructions and calls of a request.

#![allow(unreachable_pub, reason = "a program: nobody else sees it")]
#![allow(clippy::cast_precision_loss, reason = "figures for people: none is that large")]

mod cells;
#[path = "../vm/document.rs"]
#[allow(dead_code, reason = "shared with tests/real")]
mod document;
mod host;
mod user;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let outcome = match words.first().map(String::as_str) {
        Some("served") => {
            user::served(&words[1..]);
            Ok(())
        }
        Some("instructions") => user::run(user::Wanted {
            check: has("--check"),
            bless: has("--bless"),
            self_test: has("--self-test"),
            lines: has("--lines"),
        }),
        _ => Err("say 'cargo bench-instructions'".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("bench: {sentence}");
            ExitCode::FAILURE
        }
    }
}
