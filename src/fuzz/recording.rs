//! `recording`: a file for `ublkit replay`, of any bytes.

use crate::backend::{Blocking, Memory};
use crate::replay::{Error, Recording, replay};

/// What is tried: larger recordings are only read.
const MOST_REQUESTS: usize = 200;
const MOST_SLOTS: u32 = 16;
const MOST_IO_BYTES: u32 = 1 << 18;
const MOST_DISK_BYTES: u64 = 1 << 24;

/// A file is refused with a sentence about one of its lines, or a recording, and then can be held
/// again: all requests are asked and answered, whatever else was recorded.
pub fn recording(bytes: &[u8]) {
    let recording = match Recording::parse(bytes) {
        Ok(recording) => recording,
        Err(malformed) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&malformed.line), "{malformed}");
            assert!(malformed.why.len() > 5 && !malformed.why.contains('\n'), "{malformed}");
            return;
        }
    };
    let slots = u32::from(recording.queues()) * u32::from(recording.depth());
    let geometry = recording.geometry();
    if recording.len() > MOST_REQUESTS
        || slots > MOST_SLOTS
        || recording.max_io_bytes() > MOST_IO_BYTES
        || geometry.size_bytes > MOST_DISK_BYTES
    {
        return;
    }
    let disk = Memory::new(geometry).expect("a small disk");
    match replay(&recording, Blocking::new(disk)) {
        Ok(report) => {
            assert_eq!(report.requests, recording.len() as u64, "{report:?}");
            assert!(report.answers <= report.requests && report.reads <= report.answers);
            assert!(report.different >= report.differences.len() as u64);
        }
        Err(Error::Device(error)) => assert!(!error.to_string().is_empty()),
        Err(other) => panic!("{other}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::fuzz::corpus;
    use crate::sim::{Choices, Faults, Load, Profile, Sim};
    use crate::trace::{Detail, Log, Traced};
    use crate::{Blocking, Builder, Geometry, Memory};

    /// A short conversation, recorded.
    fn recorded(seed: u64, queues: u16, requests: u64) -> Vec<u8> {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(seed), Faults::default());
        let log = Log::of_last(usize::MAX);
        let kernel = Traced::new(sim.task(), Detail::REPEATABLE, log.clone());
        let disk = Memory::new(Geometry::new(1 << 16)).unwrap();
        let target = kernel.watch(Blocking::new(disk));
        let builder = Builder::new().queues(queues).depth(2).max_io_bytes(4096);
        let server = builder.serve_on(kernel, target).unwrap();
        let load = Load { max_len_bytes: 1024, others: 80, ..Load::new(requests) };
        sim.load(server.id(), load);
        sim.until_answered();
        server.stop().unwrap();
        log.events().iter().flat_map(|event| format!("{}\n", event.json()).into_bytes()).collect()
    }

    #[test]
    fn corpus_of_recording() {
        let (short, long) = (recorded(1, 1, 3), recorded(2, 2, 12));
        let other = String::from_utf8(long.clone()).unwrap();
        let without = |word| {
            let lines = other.lines().filter(|line| !line.contains(word));
            lines.flat_map(|line| format!("{line}\n").into_bytes()).collect::<Vec<u8>>()
        };
        let seeds = [
            ("short", short.clone()),
            ("cut", short[..short.len() - 9].to_vec()),
            ("no-commits", without("\"commit\"")),
            ("no-device", without("ADD_DEV")),
            ("no-operations", without("\"operation\"")),
            ("other-result", other.replace("\"result\":1024", "\"result\":-5").into_bytes()),
            ("no-json", b"ADD_DEV\n".to_vec()),
            ("long", long),
        ];
        corpus::check("recording", super::recording, &seeds);
    }
}
