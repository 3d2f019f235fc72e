//! What fuzzing found, each as a test of its own.

use super::{completions, control};
use crate::sim::{Choices, Faults, Profile, Sim};
use crate::{Blocking, Builder, Geometry, Null};
use core::time::Duration;

/// ADD_DEV was given up at once, and the device that it made stayed for ever.
#[test]
fn a_device_is_not_left_behind_for_lack_of_time() {
    let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
    let disk = Blocking::new(Null::new(Geometry::new(1 << 20)));
    let server = Builder::new().depth(2).timeout(Duration::ZERO).serve_on(sim.task(), disk);
    drop(server); // late or not
    sim.assert_clean();
}

/// A queue of three slots over a kernel that is honest until `script` begins: all slots are
/// offered.
fn three_slots(plays: [u8; 3], script: &[&[u8]]) {
    let head: [&[u8]; 4] = [&[2, 0, 0, 3], &plays, &[0; 5], &[1, 1, 6, 0]];
    completions(&[head.concat(), script.concat()].concat());
}

/// The kernel completes the command of the first slot with a request for a flush.
const FLUSH: [u8; 5] = [0, 1, 2, 0, 0];
/// It wakes the queue.
const WAKE: [u8; 2] = [0, 0];

/// Three delays that were not submitted yet left too little room in the ring for three answers.
#[test]
fn a_queue_that_leaves_has_room_for_its_answers() {
    let delays = [0; 3];
    three_slots(delays, &[&[6, 4], &FLUSH, &FLUSH, &FLUSH, &WAKE]);
}

/// A command that completed twice at one time was taken for two, since the answer to the first was
/// queued already: the request was served and answered again.
#[test]
fn a_command_that_the_kernel_never_took_does_not_complete() {
    let (answers, again) = ([0xff; 3], [6, 0, 1, 0, 0, 0]);
    three_slots(answers, &[&[6, 2], &FLUSH, &again]);
}

/// A command that was refused, or had a result that means nothing, could complete once more while
/// the queue was given up, and its slot was answered for although the driver had it.
#[test]
fn a_refused_command_is_over() {
    let again = [6, 0, 1, 0, 0, 0];
    for result in [-22_i32, 1] {
        let over = [&[5, 1][..], &result.to_le_bytes()[..]].concat();
        three_slots([0xff; 3], &[&[6, 2], &over, &again]);
        three_slots([0xff; 3], &[&[6, 2], &WAKE, &over]); // and so for a queue that leaves
    }
}

/// A kernel that made shorter queues than it was asked for was believed, until one was full.
#[test]
fn a_ring_is_as_long_as_it_was_asked_for() {
    let (lies, short) = ([252, 2, 0, 0, 0], [0, 1]);
    for queue in short {
        let head: [&[u8]; 4] = [&[2, 0, 0, 0], &lies, &[queue], &[0; 4]];
        completions(&head.concat());
    }
}

/// A kernel that took nothing and said each time that the timer had run out was asked for ever,
/// whatever the deadline.
#[test]
fn a_deadline_passes_though_the_kernel_takes_nothing() {
    control(&[
        0x82, 2, 0, 5, 4, 0, 0xfb, 0xff, 4, 0, 0, 0, 0xfc, 0x24, 0, 0x46, 5, 0, 0xfb, 0xff, 0xff,
        0xff, 1, 0x24, 0, 0x46, 0, 0, 0, 0, 2, 0, 0, 0,
    ]);
}

/// A command for which no time was left, while the ring took nothing, stayed queued and was sent
/// with the next one.
#[test]
fn a_command_that_was_given_up_is_not_sent_late() {
    control(&[
        194, 0, 255, 0, 1, 0, 0, 1, 0, 0, 2, 64, 0, 0, 1, 1, 1, 1, 1, 1, 1, 81, 81, 81, 81, 81, 81,
        81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81,
        81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 81, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1,
        0, 2, 64, 216, 0, 0, 1, 1, 1, 1, 1, 1, 1, 5, 0, 0, 253, 255, 255, 1, 253, 0, 37, 65, 0, 5,
    ]);
}

/// The end of a cancellation that nobody had asked for was believed.
#[test]
fn what_was_not_cancelled_does_not_end() {
    let found = [
        1, 1, 6, 0, 217, 255, 6, 0, 0, 0, 0, 6, 1, 254, 7, 8, 0, 0, 0, 254, 255, 255, 255, 1, 1, 6,
        0, 0, 0, 0, 6, 1, 254, 7, 8, 0, 0, 0, 1,
    ];
    completions(&found);
}

/// In batches the end of a slot's own command, which there is none of, was believed.
#[test]
fn no_slot_has_two_elements() {
    let found = [
        17, 0, 1, 4, 255, 255, 255, 255, 0, 254, 255, 255, 255, 1, 1, 1, 6, 0, 6, 2, 0, 1, 0, 2, 1,
        0, 1, 7, 8, 1, 0, 255, 6, 36, 5, 98, 6, 1, 0, 1, 1, 7, 1, 0, 7, 1, 7, 8, 1,
    ];
    completions(&found);
}

/// What a file has in place of an operation's name was said as it was, line feeds and all.
#[cfg(feature = "replay")]
#[test]
fn what_a_recording_says_is_said_in_one_line() {
    let line = |what: &str| format!("{{\"at_ns\":0,\"task\":\"q\",{what}}}\n");
    let add = r#""command":"ADD_DEV","queues":1,"depth":1,"max_io_bytes":4096,"features":0"#;
    let command = line(&format!(r#""what":"command","device":null,{add}"#));
    let answer = line(&format!(r#""what":"answer","device":0,"result":0,"latency_ns":0,{add}"#));
    let request = line(r#""what":"request","op":"WR\nITE","device":0,"queue":0,"tag":0"#);
    let bytes = [command, answer, request].concat().into_bytes();
    let malformed = crate::replay::Recording::parse(&bytes).unwrap_err();
    assert_eq!(malformed.why, "'op' is 'WR\\nITE', which nobody knows");
    super::recording(&bytes);
}
