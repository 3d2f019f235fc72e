//! Disks that grow and shrink while they are used.

use super::Context;
use crate::tools::{self, Serving, UBLKIT, eventually, run};
use crate::{disk, load};
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;
use ublkit::Features;

const SOON: Duration = Duration::from_secs(60);

/// A file grows under load, is served to its new end, and is as large for the next server.
pub fn file(context: Context) {
    let image = "/tmp/ublkit-resize.img";
    let _ = std::fs::remove_file(image);
    let words = ["file", image, "--size", "8M", "--recover", "reissue"];
    let serving = Serving::start(&words);
    let (id, path) = (serving.id().to_string(), serving.path.clone());
    let resize = |size: &str| tools::output(UBLKIT, &["resize", &id, size]);
    let code = |size: &str| resize(size).status.code().unwrap();
    if !context.features.contains(Features::UPDATE_SIZE) {
        assert_eq!(code("16M"), 4);
        serving.stop();
        return std::fs::remove_file(image).unwrap();
    }
    let end = 16 << 20;
    let client = disk::open(&path, 0);
    assert!(disk::read(&client, end - 4096, 4096).is_err(), "beyond the end");
    let mut fio = load::mixed(&path);
    load::busy(&path);
    let resized = resize("16M");
    assert!(resized.status.success(), "{resized:?}");
    let size = || run("blockdev", &["--getsize64", &path]).trim().parse::<u64>().unwrap();
    assert_eq!(size(), end);
    let stamp = disk::stamp(7, 7, 4096);
    disk::write(&client, end - 4096, &stamp).unwrap();
    assert!(fio.try_wait().unwrap().is_none(), "a client saw an error");
    fio.kill().unwrap();
    fio.wait().unwrap();
    assert_eq!((code("16M"), code("8M"), code("16777217")), (0, 2, 2));
    assert_eq!(size(), end);
    drop(client);

    let recovered = |serving: Serving| {
        serving.signal(Signal::KILL);
        assert_eq!(serving.end(SOON).0, -9);
        Serving::started(Command::new(UBLKIT).args(["recover", &id]))
    };
    let serving = recovered(serving);
    assert_eq!(disk::read(&disk::open(&path, 0), end - 4096, 4096).unwrap(), stamp);

    // Smaller under load that stays before the new end, for the next server too, and larger again.
    let mut fio = load::mixed_below(&path, 8 << 20);
    load::busy(&path);
    // What is in the page cache alone is written before the disk ends in front of it.
    let (kept, late) = (File::options().write(true).open(&path).unwrap(), vec![0x77; 4096]);
    kept.write_all_at(&late, end - 8192).unwrap();
    let shrunk = |size: &str| tools::output(UBLKIT, &["resize", &id, size, "--shrink"]).status;
    assert_eq!((shrunk("0").code(), shrunk("8M").code()), (Some(2), Some(0)));
    assert_eq!(size(), 8 << 20);
    assert!(disk::read(&disk::open(&path, 0), end - 4096, 4096).is_err(), "beyond the end");
    assert!(fio.try_wait().unwrap().is_none(), "a client saw an error");
    fio.kill().unwrap();
    fio.wait().unwrap();
    drop(kept);
    let serving = recovered(serving);
    assert_eq!((size(), std::fs::metadata(image).unwrap().len()), (8 << 20, end));
    assert_eq!((code("16M"), size()), (0, end));
    assert_eq!(disk::read(&disk::open(&path, 0), end - 4096, 4096).unwrap(), stamp);
    assert_eq!(disk::read(&disk::open(&path, 0), end - 8192, 4096).unwrap(), late);
    serving.stop();
    assert_eq!(std::fs::metadata(image).unwrap().len(), end);
    std::fs::remove_file(image).unwrap();
}

/// A disk in memory grows as far as it was given room, and the null disk as far as anybody wants.
pub fn memory(_: Context) {
    let serving = Serving::start(&["memory", "--size", "64M", "--room", "128M"]);
    let resize = |path: &str, size: &str| tools::output(UBLKIT, &["resize", path, size]);
    let path = &serving.path;
    let size = |path: &str| run("blockdev", &["--getsize64", path]).trim().parse::<u64>().unwrap();
    let first = disk::stamp(1, 1, 4096);
    disk::write(&disk::open(path, 0), (64 << 20) - 4096, &first).unwrap();
    assert_eq!(resize(path, "128M").status.code(), Some(0));
    assert_eq!(size(path), 128 << 20);
    let (client, last) = (disk::open(path, 0), disk::stamp(2, 2, 4096));
    assert_eq!(disk::read(&client, 64 << 20, 4096).unwrap(), vec![0; 4096]);
    disk::write(&client, (128 << 20) - 4096, &last).unwrap();
    assert_eq!(disk::read(&client, (128 << 20) - 4096, 4096).unwrap(), last);
    assert_eq!(disk::read(&client, (64 << 20) - 4096, 4096).unwrap(), first);
    let output = resize(path, "129M");
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && why.contains("no room"), "{why}");
    assert_eq!(size(path), 128 << 20);
    drop(client);
    serving.stop();

    // The next server has them as large as they are by then.
    for (words, more) in [
        (&["null"][..], &[][..]),
        (&["memory", "--room", "1T"], &["--data-lost"]), // of zeros
    ] {
        let recovered = ["--size", "64M", "--recover", "reissue"];
        let serving = Serving::start(&[words, &recovered].concat());
        let (path, id) = (serving.path.clone(), serving.id().to_string());
        assert_eq!(resize(&path, "1T").status.code(), Some(0));
        assert_eq!(size(&path), 1 << 40);
        serving.signal(Signal::KILL);
        assert_eq!(serving.end(SOON).0, -9);
        let again = [&["recover", &id], more].concat();
        let serving = Serving::started(Command::new(UBLKIT).args(&again));
        assert_eq!(size(&path), 1 << 40);
        disk::read(&disk::open(&path, 0), (1 << 40) - 4096, 4096).unwrap();

        // A next server of a smaller one has the room that the first one was given.
        run(UBLKIT, &["resize", &path, "8M", "--shrink"]);
        serving.signal(Signal::KILL);
        assert_eq!(serving.end(SOON).0, -9);
        let serving = Serving::started(Command::new(UBLKIT).args(&again));
        assert_eq!(size(&path), 8 << 20);
        assert_eq!(resize(&path, "64M").status.code(), Some(0));
        disk::write(&disk::open(&path, 0), (64 << 20) - 4096, &last).unwrap();
        serving.stop();
    }
    eventually("they are gone", SOON, || tools::devices().is_empty());
}
