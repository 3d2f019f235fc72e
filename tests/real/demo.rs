//! The demo: a memory disk, made, formatted, mounted, loaded, checked and stopped, step by step.

use crate::tools::{self, Serving, UBLKIT, run};
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// Runs it, on a kernel with ublk, as root.
pub fn inside() -> ExitCode {
    let result = catch_unwind(AssertUnwindSafe(steps));
    tools::clean();
    if result.is_ok() {
        println!("\nIt works: a block device whose contents are memory of the process 'ublkit'.");
        return ExitCode::SUCCESS;
    }
    println!("\nFAILED: see above");
    ExitCode::FAILURE
}

/// Prints what is done, does it, and prints what came of it.
fn step<T>(what: &str, work: impl FnOnce() -> (T, String)) -> T {
    print!("{what:<58}");
    let _ = std::io::Write::flush(&mut std::io::stdout());
    let begun = Instant::now();
    let (value, result) = work();
    println!("{result} ({:.1} s)", begun.elapsed().as_secs_f64());
    value
}

fn steps() {
    let ok = String::from("ok");
    println!("kernel {}", tools::read("/proc/sys/kernel/osrelease").trim());
    let point = tools::mount_point("demo");
    let serving = step("$ ublkit serve memory --size 512M --queues 4", || {
        let serving = Serving::start(&["memory", "--size", "512M", "--queues", "4"]);
        let path = serving.path.clone();
        (serving, path)
    });
    let path = serving.path.clone();
    step("$ ublkit list", || ((), "ok".into()));
    print!("{}", run(UBLKIT, &["list"]));
    step(&format!("$ mkfs.ext4 {path}"), || (run("mkfs.ext4", &["-q", &path]), ok.clone()));
    step(&format!("$ mount {path} {point}"), || (run("mount", &[&path, &point]), ok.clone()));
    let sums = step("write 64 files of up to 1 MiB", || {
        let sums: Vec<u64> = (0..64).map(|index| write_file(&point, index)).collect();
        (sums, ok.clone())
    });
    step("$ sync; echo 3 >/proc/sys/vm/drop_caches", || {
        run("sync", &[]);
        fs::write("/proc/sys/vm/drop_caches", "3").expect("root may");
        ((), ok.clone())
    });
    step("read them back and compare checksums", || {
        for (index, sum) in sums.iter().enumerate() {
            let contents = fs::read(file_path(&point, index)).expect("the file is there");
            assert_eq!(checksum(&contents), *sum, "file {index} is not what was written");
        }
        ((), format!("{} equal", sums.len()))
    });
    step(&format!("$ umount {point}; fsck.ext4 -f -n {path}"), || {
        run("umount", &[&point]);
        run("fsck.ext4", &["-f", "-n", &path]);
        ((), "clean".into())
    });
    step(&format!("$ fio --verify=crc32c --numjobs=4 --filename={path}"), || {
        fio_verify(&path);
        ((), "all blocks verified".into())
    });
    step("stop it, as Ctrl-C does", || (serving.stop(), "exit code 0".into()));
    step("$ ublkit list", || {
        let left = tools::leftovers();
        assert!(left.is_empty(), "left behind: {left:?}");
        ((), "no device, nothing left behind".into())
    });
}

/// Writes over all queues: a job on each of the four CPUs, each verifying its own stretch.
fn fio_verify(path: &str) {
    let filename = format!("--filename={path}");
    let words = "--name=verify --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite --bs=4k \
                 --numjobs=4 --size=2M --offset_increment=2M --cpus_allowed=0-3 \
                 --cpus_allowed_policy=split --verify=crc32c --do_verify=1 --verify_fatal=1 \
                 --thread=1 --output-format=terse";
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let words: Vec<&str> = words
        .split_whitespace()
        .filter(|word| cpus >= 4 || !word.starts_with("--cpus"))
        .chain([filename.as_str()])
        .collect();
    run("fio", &words);
}

fn file_path(point: &str, index: usize) -> String {
    format!("{point}/file-{index}")
}

/// Writes a file of a size and contents of its own; returns its checksum.
fn write_file(point: &str, index: usize) -> u64 {
    let words = (index * 2039 % 131_072) as u64;
    let contents: Vec<u8> =
        (0..words).flat_map(|i| (i * 0x9e37_79b9 + index as u64).to_le_bytes()).collect();
    fs::write(file_path(point, index), &contents).expect("the file system takes it");
    checksum(&contents)
}

fn checksum(contents: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(contents);
    hasher.finish()
}
