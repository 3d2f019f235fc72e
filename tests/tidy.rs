//! The tree obeys its own rules.

use std::fs;
use std::path::{Path, PathBuf};

const MAX_COLUMNS: usize = 100;
const MAX_LINES: usize = 450;

/// What must not wait for anybody: the way of a request.
const IO_PATH: &[&str] =
    &["src/ring", "src/queue", "src/slots", "src/request.rs", "src/handler.rs", "src/backend"];

/// What waits, or may.
const LOCKS: &[&str] = &["Mutex", "RwLock", "Condvar", "OnceLock", "LazyLock", "mpsc", "Barrier"];

struct Source {
    name: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut paths);
    }
    assert!(paths.len() > 10, "where are the sources?");
    let source = |path: &PathBuf| Source {
        name: path.strip_prefix(root()).expect("below the root").display().to_string(),
        text: fs::read_to_string(path).expect("text"),
    };
    paths.iter().map(source).collect()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The part of a source before its unit tests, unless those are a file.
fn code(source: &Source) -> &str {
    source.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

#[track_caller]
fn none(what: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn lines_and_files_are_short() {
    let mut long = Vec::new();
    for Source { name, text } in sources(&["src", "sys", "tests", "docs"]) {
        if text.lines().count() > MAX_LINES {
            long.push(format!("{name} has {} lines", text.lines().count()));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > MAX_COLUMNS {
                long.push(format!("{name}:{}", number + 1));
            }
        }
    }
    none("too long", &long);
}

#[test]
fn unsafe_lives_on_its_islands() {
    let islands = read("docs/safety.md");
    let lifts = ["#![expect(unsafe_code", "#[expect(unsafe_code", "allow(unsafe_code"];
    let mut unnamed = Vec::new();
    let mut stale = Vec::new();
    for source in sources(&["src", "sys/src", "tests"]) {
        let named = islands.contains(&format!("`{}`", source.name));
        let lifted = lifts.iter().any(|lift| source.text.contains(lift));
        // tests/tidy.rs speaks of it; layouts are implemented by the macro of abi.rs.
        if lifted && !named && source.name != "tests/tidy.rs" {
            unnamed.push(source.name);
        } else if named && !lifted && source.name != "tests/tidy.rs" {
            stale.push(source.name);
        }
    }
    none("islands that docs/safety.md does not name", &unnamed);
    none("docs/safety.md names islands that are none", &stale);
}

#[test]
fn the_io_path_has_no_locks() {
    let mut locked = Vec::new();
    for source in sources(&["src"]) {
        // A folder of tests is none of it, as little as what stands behind `#[cfg(test)]`.
        let is_tests = source.name.contains("/tests/");
        if is_tests || !IO_PATH.iter().any(|path| source.name.starts_with(path)) {
            continue;
        }
        for lock in LOCKS {
            // What comes back from other threads does so through a channel that nobody waits at.
            let is_channel = source.name == "src/backend/offload.rs" && *lock == "mpsc";
            if code(&source).contains(lock) && !is_channel {
                locked.push(format!("{}: {lock}", source.name));
            }
        }
    }
    none("locks on the I/O path", &locked);
}

#[test]
fn every_module_is_on_the_map() {
    let map = read("docs/architecture.md");
    let missing: Vec<String> = sources(&["src"])
        .into_iter()
        .map(|source| source.name)
        .filter(|name| name != "src/lib.rs" && !map.contains(&format!("../{name}")))
        .collect();
    none("not in docs/architecture.md", &missing);
}

/// cargo runs tests in the order of their names, up to the first that fails.
#[test]
fn what_needs_a_kernel_is_tested_last() {
    let needs_a_kernel = "name = \"works\"\npath = \"tests/real/main.rs\"";
    assert!(read("Cargo.toml").contains(needs_a_kernel), "it has another name");
    let tests = fs::read_dir(root().join("tests")).expect("a folder").flatten();
    let tests = tests.map(|entry| entry.path());
    let programs = tests.filter(|path| path.is_file() || path.join("main.rs").exists());
    let names = programs.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let later: Vec<String> = names.filter(|name| name.as_str() >= "works").collect();
    none("not run where no kernel is", &later);
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let documents = [
        "README.md",
        "docs/architecture.md",
        "docs/safety.md",
        "docs/testing.md",
        "docs/performance.md",
    ];
    for document in documents {
        let folder = Path::new(document).parent().expect("a folder");
        for link in read(document).split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let web = target.contains("://") || target.is_empty();
            if !web && !root().join(folder).join(target).exists() {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    none("links that lead nowhere", &broken);
}
