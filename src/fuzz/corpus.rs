//! The corpus of a fuzz target: seeds that tests write, and what fuzzing added; all of it is run by
//! `cargo test`.
//!
//! `UBLKIT_BLESS=1 cargo test corpus` writes the seeds anew. This file is part of the library's and
//! of the command's tests.

use std::fs;
use std::path::Path;

/// Has `run` look at all of `fuzz/corpus/<target>`, in which `seeds` are.
pub(crate) fn check(target: &str, run: fn(&[u8]), seeds: &[(&str, Vec<u8>)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        fs::create_dir_all(&folder).expect("the repository can be written");
    }
    for (name, bytes) in seeds {
        let path = folder.join(name);
        if std::env::var_os("UBLKIT_BLESS").is_some() {
            fs::write(&path, bytes).expect("the repository can be written");
        }
        let found = fs::read(&path).unwrap_or_default();
        assert!(found == *bytes, "{} is not what its test makes it", path.display());
    }
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .expect("the corpus is committed")
        .map(|entry| entry.expect("a folder").path())
        .collect();
    inputs.sort();
    assert!(inputs.len() >= seeds.len() && !seeds.is_empty(), "{target} has no corpus");
    for path in &inputs {
        println!("{}", path.display()); // shown when it fails
        run(&fs::read(path).expect("a file"));
    }
}
