//! A server stops its own disk: another process sends the command, for whoever waits for it may be
//! kept by the kernel.

use super::exit::{self, Failure};
use super::supervise;
use core::time::Duration;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;
use ublkit::{ErrorKind, Kernel, Server};

/// Why a disk did not stop: the kind of failure, a half of its sentence, and what can be done.
type Unstopped = (ErrorKind, &'static str, &'static str);

pub(super) const LATE: Unstopped =
    (ErrorKind::Timeout, "did not stop in time", "'--timeout' gives it longer");
pub(super) const NOT_DONE: Unstopped =
    (ErrorKind::Failed, "could not be stopped", "what was said before tells why");

/// What is told of a disk that did not stop as it should.
pub(super) fn requests_failed(path: &str, (kind, why, remedy): Unstopped) -> Failure {
    let sentence = format!("{path} {why}, so its clients' requests were failed: {remedy}");
    Failure::Said(kind, sentence)
}

/// Stops a device that has a disk and deletes it. The disk may be in use, and a queue may have
/// ended, whose requests nobody answers: in each case it is another process that waits for that.
/// What this one sends then is about a disk that is gone, and is answered at once; where the other
/// was late, only once its own queues fail whatever they have.
pub(super) fn stop<K: Kernel>(mut server: Server<K>, timeout: Duration) -> Result<(), Failure> {
    let (id, path) = (server.id(), server.block_path());
    if let Err(why) = stop_from_outside(id, timeout, || server.close_ended()) {
        server.stop_now()?;
        return Err(requests_failed(&path, why));
    }
    server.stop()?;
    Ok(())
}

/// Has a process of its own stop the device, and waits for it; or what became of that.
///
/// STOP_DEV waits for the disk's dirty pages, and a killed process for its control commands. One
/// that does both waits for itself when it is killed in between: its requests are failed only after
/// it is gone (seen on 7.3; docs/protocol.md). A command of another process keeps nobody.
fn stop_from_outside(
    id: u32,
    timeout: Duration,
    mut meanwhile: impl FnMut(),
) -> Result<(), Unstopped> {
    let timeout_s = timeout.as_secs().to_string();
    let stopper = Command::new("/proc/self/exe")
        .args(["stop", &id.to_string(), "--timeout", &timeout_s])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .env_remove(supervise::NOTIFY_VARIABLE)
        .process_group(0) // a second Ctrl-C is for us alone
        .spawn();
    let Ok(mut stopper) = stopper else { return Ok(()) }; // then from inside, all the same
    let begun = Instant::now();
    // It has that deadline itself; but a process can be late, too.
    while begun.elapsed() < timeout + Duration::from_secs(1) {
        match stopper.try_wait() {
            // Somebody may have stopped and deleted it just before.
            Ok(Some(status)) => {
                return match status.code() {
                    Some(0 | exit::NOT_FOUND) => Ok(()),
                    Some(exit::LATE) => Err(LATE),
                    _ => Err(NOT_DONE), // it said why
                };
            }
            Ok(None) => meanwhile(),
            Err(_) => return Err(NOT_DONE),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(LATE)
}
