//! Devices that another program than `ublkit` serves: here this one, by the library, which leaves
//! no record.

use super::Context;
use crate::tools::{self, UBLKIT, devices, run};
use crate::{disk, load};
use ublkit::{Blocking, Builder, Features, Geometry, Memory, Recovery};

pub(super) const SIZE: u64 = 64 << 20;

/// What a command ends with, and says of it.
pub(super) fn said(words: &[&str]) -> (i32, String) {
    let output = tools::output(UBLKIT, words);
    let text = String::from_utf8(output.stderr).expect("words");
    (output.status.code().expect("no signal"), text)
}

/// What commands do for another's device that outlives its server, under load: what the kernel
/// lets them, or they say what they cannot do. None of them does harm. Answers the device's size,
/// which may be another in the end.
pub(super) fn while_served(context: Context, id: u32, pid: u32) -> u64 {
    let (id, path) = (id.to_string(), format!("/dev/ublkb{id}"));
    let mut fio = load::mixed(&path);
    load::busy(&path);
    assert!(run(UBLKIT, &["list"]).contains(&format!("{pid}")));
    assert!(run(UBLKIT, &["show", &id]).contains("live"));
    assert!(run(UBLKIT, &["stat", &id]).contains(&format!("process {pid} serves it")));
    run(UBLKIT, &["wait", &id, "--live"]);

    let (code, text) = said(&["wait", &id, "--gone", "--timeout", "1"]);
    assert!(code == 7 && text.contains("was not gone within 1 s"), "{code}: {text}");
    let (code, text) = said(&["recover", &id]);
    assert!(code == 6 && text.contains(&format!("process {pid} serves")), "{code}: {text}");
    let (code, text) = said(&["upgrade", &id]);
    assert!(code == 6 && text.contains("use its own means"), "{code}: {text}");
    let (code, text) = said(&["delete", &id]);
    assert!(code == 6 && text.contains(&format!("process {pid} ")), "{code}: {text}");
    let (code, text) = said(&["stop", &id, "--if-unused"]);
    assert!(matches!(code, 4 | 6), "{code}: {text}");
    let resizes = context.features.contains(Features::UPDATE_SIZE);
    // Only its server knows whether there is more to serve than it said.
    let (code, text) = said(&["resize", &id, "128M"]);
    let words = if resizes { "use its own means" } else { "cannot resize" };
    assert!(code == if resizes { 6 } else { 4 } && text.contains(words), "{code}: {text}");
    assert!(fio.try_wait().unwrap().is_none(), "a client saw an error");
    fio.kill().unwrap();
    fio.wait().unwrap();
    if resizes {
        run(UBLKIT, &["resize", &id, "32M", "--shrink"]);
    }
    let size = run("blockdev", &["--getsize64", &path]).trim().parse().unwrap();
    assert_eq!(size, if resizes { SIZE / 2 } else { SIZE });
    size
}

/// Nobody here can serve what has no record.
pub(super) fn cannot_be_recovered(id: u32) {
    for command in ["recover", "upgrade"] {
        let (code, text) = said(&[command, &id.to_string()]);
        assert!(code == 1 && text.contains("there is no record"), "{command}: {code}: {text}");
    }
}

/// Every command about devices, of one that this program serves.
pub fn every_command(context: Context) {
    let memory = Memory::new(Geometry::new(SIZE)).unwrap();
    let builder = Builder::new().recovery(Recovery::Wait);
    let mut server = builder.serve(Blocking::new(memory)).unwrap();
    let id = server.id().to_string();
    let path = server.block_path();
    let size = while_served(context, server.id(), std::process::id());

    // Left by its server, it is waited for, and nobody here can serve it.
    server.hand_over().unwrap();
    drop(server);
    assert!(run(UBLKIT, &["show", &id]).contains("quiesced"));
    cannot_be_recovered(id.parse().unwrap());
    let memory = Memory::new(Geometry::new(size)).unwrap();
    let server = Builder::new().recover(id.parse().unwrap(), Blocking::new(memory)).unwrap();
    disk::read(&disk::open(&path, 0), 0, 4096).unwrap();

    // Stopped by another, its server sees the end of it.
    run(UBLKIT, &["stop", &id]);
    server.wait();
    server.stop().unwrap();
    run(UBLKIT, &["wait", &id, "--gone", "--timeout", "1"]);

    let memory = Memory::new(Geometry::new(SIZE)).unwrap();
    let mut server = Builder::new().recovery(Recovery::Wait).serve(Blocking::new(memory)).unwrap();
    server.hand_over().unwrap();
    run(UBLKIT, &["delete", &server.id().to_string()]);
    assert_eq!(devices(), Vec::<String>::new());
    let (code, text) = said(&["resize", &id, "32M", "--shrink", "--timeout", "1"]);
    assert_eq!(code, 5, "{text}");
}
