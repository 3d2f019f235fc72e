//! Devices by their names, and next servers in the background.

use super::Context;
use crate::tools::{self, UBLKIT, eventually, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const NAME: &str = "scratch";
const LINK: &str = "/run/ublkit/by-name/scratch";
const IMAGE: &str = "/tmp/ublkit-named.img";

fn shown(device: &str) -> Value {
    serde_json::from_str(&run(UBLKIT, &["show", device, "--json"])).unwrap()
}

fn pid(shown: &Value) -> Pid {
    let pid = shown["server_pid"].as_i64().expect("it is served");
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn code(words: &[&str]) -> Option<i32> {
    tools::output(UBLKIT, words).status.code()
}

/// A device has one name for all its life, whatever its number, and whoever serves it.
pub fn whole_life(_: Context) {
    assert_eq!(code(&["show", NAME]), Some(5));
    assert_eq!(code(&["wait", NAME, "--gone"]), Some(0));
    assert_eq!(code(&["wait", NAME, "--live", "--timeout", "0"]), Some(7));
    let words = ["--size", "16M", "--id", "17", "--name", NAME, "--recover", "reissue"];
    let serve = [&["serve", "file", IMAGE, "--background"][..], &words].concat();
    assert_eq!(run(UBLKIT, &serve), "/dev/ublkb17\n");
    run(UBLKIT, &["wait", NAME, "--live"]);
    let first = shown(NAME);
    assert_eq!(first, shown("17"));
    assert_eq!(first["name"], NAME);
    assert_eq!(shown(LINK), first);
    run(UBLKIT, &["stat", NAME]);

    // Its server dies, and the next one is called by the name.
    kill_process(pid(&first), Signal::KILL).unwrap();
    let recover = ["recover", NAME, "--background"];
    assert_eq!(run(UBLKIT, &recover), "/dev/ublkb17\n");
    let second = shown(NAME);
    assert_ne!(pid(&second), pid(&first));
    // What keeps one from serving is told as in the foreground.
    let told = tools::output(UBLKIT, &recover);
    assert_eq!(told, tools::output(UBLKIT, &recover[..2]));
    assert_eq!(told.status.code(), Some(6), "{told:?}");

    assert_eq!(run(UBLKIT, &["upgrade", NAME, "--background"]), "/dev/ublkb17\n");
    let third = shown(NAME);
    assert_ne!(pid(&third), pid(&second));
    run(UBLKIT, &["stop", NAME]);
    run(UBLKIT, &["wait", NAME, "--gone"]);
    assert_eq!(code(&["show", NAME]), Some(5));
    assert_eq!(code(&["show", LINK]), Some(5));
    eventually("nothing is left", SOON, || tools::devices().is_empty());

    // What is left of one that was stopped after its server's death keeps nobody.
    let serve = [&serve[..], &["--resume"]].concat();
    run(UBLKIT, &serve);
    kill_process(pid(&shown(NAME)), Signal::KILL).unwrap();
    eventually("its server is gone", SOON, || shown(NAME)["server_pid"].is_null());
    run(UBLKIT, &["stop", NAME]);
    assert_eq!(shown(NAME)["state"], "dead");
    assert_eq!(run(UBLKIT, &serve), "/dev/ublkb17\n");
    assert_eq!(shown(NAME)["state"], "live");
    run(UBLKIT, &["stop", NAME]);
    eventually("nothing is left", SOON, || tools::devices().is_empty());
    std::fs::remove_file(IMAGE).unwrap();
}
