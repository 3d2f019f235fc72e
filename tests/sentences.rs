//! Each sentence that the program or the library can say stands in a golden file, so that somebody
//! has read it as a person would: who adds one has to have it said there.
//!
//! A sentence is a text of three words or more in the source, but in no test and no assertion. What
//! its places hold is not looked at.

use std::fs;
use std::path::{Path, PathBuf};

/// Sources whose words are for developers: a simulation, and what tests alone compile.
const OF_DEVELOPERS: &[&str] =
    &["src/sim/", "src/fuzz/", "src/cli/fuzz/", "src/cli/doctor/made.rs", "src/cli/pages.rs"];

/// Whose text says what cannot be, or why a lint does not hold.
const SILENT: &[&str] = &[
    "allow",
    "assert!",
    "assert_eq!",
    "assert_ne!",
    "debug_assert!",
    "expect",
    "expect_err",
    "panic!",
    "unreachable!",
];

/// Texts that no person reads as a sentence, or that no test can have said; and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("Max open files", "a line of /proc/self/limits"),
    ("Max locked memory", "the same"),
    ("the client waits for the answer", "of a lint"),
    ("the file is removed when this is dropped", "of a lint"),
    ("(unknown to ublkit)", "a newer kernel's feature, in a table"),
    ("{} finds no slot", "a defect of the simulation"),
    ("an error that has no name here", "its number is said in its place"),
    ("not a struct of the header", "why 'abi --check' leaves something out"),
    ("the kernel's own code does not use it", "the same"),
    ("features:  {there} there, {lacking} lacking", "of a running kernel; no error"),
    ("nothing is there", "a finding of 'abi --check', which tests/abi looks at"),
    ("ours has {size} bytes, the kernel's {}", "the same"),
];

/// A text of the source.
struct Text {
    line: usize,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The texts of a source that are in no comment and no silent call.
fn texts(code: &str) -> Vec<Text> {
    let mut found = Vec::new();
    // Whether each bracket that is open is in a silent call; and the last name before it.
    let (mut silent, mut name) = (Vec::new(), String::new());
    let (mut rest, mut line) = (code, 1);
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => {
                let len = end_of_text(rest);
                if !silent.last().is_some_and(|silent| *silent) {
                    found.push(Text { line, text: unescaped(&rest[1..len - 1]) });
                }
                len
            }
            'r' if name.is_empty() && rest[1..].trim_start_matches('#').starts_with('"') => {
                let fence = rest[1..].find('"').expect("it is there");
                let end = format!("\"{}", "#".repeat(fence));
                fence + 2 + rest[fence + 2..].find(&end).expect("it ends") + end.len()
            }
            // A character, but no lifetime.
            '\'' if rest[1..].starts_with('\\') => 4 + rest[3..].find('\'').expect("it ends"),
            '\'' if rest.chars().nth(2) == Some('\'') => {
                rest.char_indices().nth(3).map_or(rest.len(), |(at, _)| at)
            }
            _ => first.len_utf8(),
        };
        match first {
            '(' | '[' | '{' => {
                let is_silent = silent.last().is_some_and(|silent| *silent);
                silent.push(is_silent || SILENT.contains(&name.as_str()));
                name.clear();
            }
            ')' | ']' | '}' => {
                silent.pop();
                name.clear();
            }
            _ if first.is_alphanumeric() || first == '_' || first == '!' => name.push(first),
            _ => name.clear(),
        }
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    found
}

/// Where a text ends that begins here.
fn end_of_text(rest: &str) -> usize {
    let mut is_escaped = false;
    let ends = |(_, letter): &(usize, char)| {
        let ends = *letter == '"' && !is_escaped;
        is_escaped = *letter == '\\' && !is_escaped;
        ends
    };
    let end = rest.char_indices().skip(1).find(ends);
    end.expect("it ends").0 + 1
}

/// A text as it is said. What is left out is of no sentence: codes of letters and of terminals.
fn unescaped(text: &str) -> String {
    let mut said = String::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('\\', Some('\n')) => while letters.next_if(|next| next.is_whitespace()).is_some() {},
            ('\\', Some(_)) => match letters.next() {
                Some('n') => said.push('\n'),
                Some(other) => said.push(other),
                None => {}
            },
            _ => said.push(letter),
        }
    }
    said
}

/// The parts of a sentence between its places: `{{` is none.
fn parts(sentence: &str) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    let mut letters = sentence.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if depth == 0 && letters.next_if_eq(&letter).is_some() => {
                parts.last_mut().expect("one").push(letter);
            }
            '{' => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                parts.push(String::new());
            }
            _ if depth == 0 => parts.last_mut().expect("one").push(letter),
            _ => {}
        }
    }
    parts
}

/// Whether it has three words or more.
fn is_sentence(parts: &[String]) -> bool {
    let is_word = |word: &&str| word.bytes().filter(u8::is_ascii_alphabetic).count() > 1;
    parts.iter().flat_map(|part| part.split_whitespace()).filter(is_word).count() >= 3
}

/// Whether a line has these parts, one after the other.
fn says(line: &str, parts: &[String]) -> bool {
    let mut rest = line;
    parts.iter().all(|part| match rest.find(part.as_str()) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// Sentences of the source, with their places.
fn sentences() -> Vec<(String, Text)> {
    let mut sources = Vec::new();
    files(&root().join("src"), &mut sources);
    let mut found = Vec::new();
    for path in sources {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/");
        let is_example = name.ends_with("sentences.rs");
        if is_test || is_example || OF_DEVELOPERS.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        let source = fs::read_to_string(&path).expect("text");
        let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for Text { line, text } in texts(code) {
            for text in text.lines().filter(|text| is_sentence(&parts(text))) {
                found.push((name.clone(), Text { line, text: text.trim().to_owned() }));
            }
        }
    }
    found
}

#[test]
fn each_sentence_is_in_a_golden_file() {
    let mut goldens = Vec::new();
    files(&root().join("tests/golden"), &mut goldens);
    goldens.retain(|path| path.extension().is_some_and(|end| end == "txt" || end == "json"));
    let goldens: Vec<String> =
        goldens.iter().map(|path| fs::read_to_string(path).expect("text")).collect();
    let is_said = |text: &str| {
        let parts = parts(text);
        goldens.iter().flat_map(|golden| golden.lines()).any(|line| says(line, &parts))
    };
    let all = sentences();
    assert!(all.len() > 300, "where are the sentences? {}", all.len());
    let unsaid: Vec<&(String, Text)> = all.iter().filter(|(_, it)| !is_said(&it.text)).collect();
    let is_left_out = |text: &str| LEFT_OUT.iter().any(|(left_out, _)| *left_out == text);
    let missing: Vec<String> = unsaid
        .iter()
        .filter(|(_, it)| !is_left_out(&it.text))
        .map(|(name, Text { line, text })| format!("{name}:{line}: {text}"))
        .collect();
    assert!(missing.is_empty(), "in no golden file:\n  {}", missing.join("\n  "));
    let is_needed = |text: &str| unsaid.iter().any(|(_, it)| it.text == text);
    let stale: Vec<&str> =
        LEFT_OUT.iter().map(|(text, _)| *text).filter(|text| !is_needed(text)).collect();
    assert!(stale.is_empty(), "left out, and said or gone:\n  {}", stale.join("\n  "));
}

#[test]
fn sentences_are_found_in_a_source() {
    let code = r#"
// "no sentence of a comment"
fn a<'a>(b: &'a str) {
    assert!(b == "", "it cannot be so");
    let c = ['"', '\'', '\n'];
    say(&format!("{b} is in {{braces}}, {c:?} and \
                  goes on"));
    x.expect(&("never said aloud here"));
    two("two words", "first line here\nthe second line here");
}
"#;
    let found: Vec<(usize, String)> =
        texts(code).into_iter().map(|text| (text.line, text.text)).collect();
    let said = [
        (6, "{b} is in {{braces}}, {c:?} and goes on"),
        (9, "two words"),
        (9, "first line here\nthe second line here"),
    ];
    assert_eq!(found, said.map(|(line, text)| (line, text.to_owned())));
    let whole = parts(&found[0].1);
    assert_eq!(whole, ["", " is in {braces}, ", " and goes on"]);
    assert!(says("ublkit: x is in {braces}, y and goes on.", &whole));
    assert!(!says("x and goes on, y is in {braces}, ", &whole));
    assert!(is_sentence(&whole) && !is_sentence(&parts("two words {of three}")));
}
