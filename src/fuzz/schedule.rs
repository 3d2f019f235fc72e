//! `schedule`: a device's whole life in the simulator; the bytes choose all that happens.

use super::input::Input;
use crate::backend::{Backend, Blocking, Memory, Target};
use crate::control::Control;
use crate::data_path::DataPath;
use crate::device::{Builder, Server};
use crate::errno::Errno;
use crate::error::Error;
use crate::features::Features;
use crate::geometry::{Durability, Geometry};
use crate::handler::{Completion, Handler, Io, Step};
use crate::needs::{Needs, QueueInfo};
use crate::recovery::Recovery;
use crate::sim::{Choices, Faults, Load, Profile, Sim, Task};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

/// Whatever happens, clients are answered with what can be, the driver is told nothing that it
/// refuses, nobody waits for ever, and nothing is left behind.
pub fn schedule(bytes: &[u8]) {
    run(bytes);
}

/// How the device's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Stopped when all is answered.
    Answered,
    /// Stopped while clients ask.
    Stopped,
    /// The same without patience.
    StoppedNow,
    /// Another process stops it, or deletes it.
    StoppedByAnother,
    DeletedByAnother,
    /// The server is killed; another one takes over if the device can be recovered.
    Killed,
}

const ENDINGS: [Ending; 6] = [
    Ending::Answered,
    Ending::Stopped,
    Ending::StoppedNow,
    Ending::StoppedByAnother,
    Ending::DeletedByAnother,
    Ending::Killed,
];

/// How the device is served, where the kernel has that.
#[derive(Clone, Copy, Debug)]
struct Manner {
    queues: u16,
    depth: u16,
    path: DataPath,
    batches: bool,
    threads: u16,
    recovery: Recovery,
    spin: Duration,
}

impl Manner {
    fn chosen(profile: Profile, input: &mut Input) -> Self {
        let has = |features: Features| features.bits() & !profile.features() == 0;
        let (queues, word, more) = (1 + input.byte() % 3, input.byte(), input.byte());
        let depth = 1 + word % 4;
        // Paths that the backend below, which wants slices, is served by.
        let paths = [DataPath::Copy, DataPath::GetData, DataPath::UserCopy];
        let path = paths[usize::from(more % 4) % paths.len()];
        let path = if has(path.features()) { path } else { DataPath::Copy };
        let wants_batches = word >= 128 && depth > 1 && path != DataPath::GetData;
        let batches = wants_batches && has(Features::BATCH_IO);
        let shares = more & 4 != 0 && depth > 1 && !batches && has(Features::PER_IO_DAEMON);
        let recovery = Recovery::ALL[usize::from(more >> 3) % Recovery::ALL.len()];
        Self {
            queues: queues.into(),
            depth: depth.into(),
            path,
            batches,
            threads: if shares { 2 } else { 1 },
            recovery: if has(recovery.features()) { recovery } else { Recovery::None },
            spin: Duration::from_micros(if more & 0x20 != 0 { 20 } else { 0 }),
        }
    }

    /// What whoever serves the device says, the first and the next.
    fn builder(self) -> Builder {
        // The oldest kernel may notice only after half a minute that a server is gone.
        let patient = Builder::new().timeout(Duration::from_secs(90));
        patient.threads_per_queue(self.threads).spin(self.spin)
    }

    fn serve(self, task: Task, target: Delaying) -> Result<Server<Task>, Error> {
        let Self { queues, depth, path, batches, recovery, .. } = self;
        self.builder()
            .queues(queues)
            .depth(depth)
            .data_path(path)
            .batches(batches)
            .recovery(recovery)
            .max_io_bytes(16 << 10)
            .serve_on(task, target)
    }
}

/// How many askings succeeded, and how many failed.
fn run(bytes: &[u8]) -> (u64, u64) {
    let mut input = Input::new(bytes);
    let profile = input.one_of(Profile::ALL);
    let manner = Manner::chosen(profile, &mut input);
    let faults = faults(&mut input);
    let ending = input.one_of(&ENDINGS);
    let patience = input.byte();
    let load = Load {
        at_once: 1 + input.below(16),
        max_len_bytes: 512 << (input.byte() % 7),
        span_bytes: 4096 << (input.byte() % 5),
        others: input.byte(),
        writes: input.byte(),
        ..Load::new(1 + u64::from(input.byte() % 48))
    };
    let geometry = Geometry {
        durability: input.one_of(&[
            Durability::WriteThrough,
            Durability::Flush,
            Durability::FlushAndFua,
        ]),
        ..Geometry::new(1 << 18)
    };
    let plays = usize::from(input.byte());
    let backend = Arc::new(Erring {
        memory: Memory::new(geometry).expect("256 KiB"),
        plays: Mutex::new(Input::new(&input.take(plays))),
    });
    let sim = Sim::new(profile, Choices::bytes(input.rest()), faults);
    let (task, next) = (sim.process(true), sim.process(true));
    let tally = match manner.serve(task.clone(), Delaying(Arc::clone(&backend))) {
        Ok(server) => {
            let (id, load) = (server.id(), sim.load(server.id(), load));
            if ending == Ending::Answered {
                wait(&sim, manner, faults);
            } else {
                (0..patience).for_each(|_| sim.give_way());
            }
            end(&sim, server, &task, ending);
            if manner.recovery != Recovery::None {
                if ending == Ending::Killed {
                    let builder = manner.builder();
                    let taken = builder.recover_on(next.clone(), id, Delaying(backend));
                    let taken = taken.and_then(|server| {
                        wait(&sim, manner, faults);
                        server.stop().map(drop)
                    });
                    let taken = taken.inspect_err(check);
                    assert!(taken.is_ok() || faults != Faults::default(), "{manner:?}: {taken:?}");
                }
                // Clients may wait for a server that nobody could start.
                clean_up(&sim, &[&task, &next]);
            }
            sim.until_answered();
            sim.tally(load)
        }
        Err(error) => {
            check(&error);
            Default::default()
        }
    };
    clean_up(&sim, &[&task, &next]);
    assert_eq!(sim.verdict(), Ok(()), "{profile}, {manner:?}, {ending:?}, {faults:?}");
    (tally.succeeded, tally.failed.values().sum())
}

fn faults(input: &mut Input) -> Faults {
    match input.byte() % 4 {
        0 => Faults::default(),
        1 => Faults::bearable(),
        2 => Faults::fatal(),
        _ => Faults {
            short_submit: input.byte() / 2,
            interrupt: input.byte() / 2,
            no_memory: input.byte() / 8,
            wake_early: input.byte() / 2,
            refuse: input.byte() / 8,
            refuse_registration: input.byte(),
            unknown_setup_flags: input.u32(),
            fewer_queues: input.byte(),
            fewer_features: input.byte(),
            junk_padding: input.byte() % 2 == 1,
            late_node: input.byte() / 8,
            scribble: input.byte() % 2 == 1,
            indices_before_wrap: input.byte().into(),
            preempt: input.byte() / 4,
            ..Faults::default()
        },
    }
}

fn end(sim: &Sim, server: Server<Task>, task: &Task, ending: Ending) {
    let id = server.id();
    let ended = match ending {
        Ending::Answered | Ending::Stopped => server.stop(),
        Ending::StoppedNow => server.stop_now(),
        Ending::StoppedByAnother | Ending::DeletedByAnother => {
            let deletes = ending == Ending::DeletedByAnother;
            let others = Control::open(sim.process(true)).and_then(|mut control| {
                let device = control.device(id);
                // DEL_DEV would wait for the server, which is told nothing by it but aborts.
                if deletes { device.delete_async() } else { device.stop() }
            });
            if let Err(error) = &others {
                check(error);
            }
            server.stop()
        }
        Ending::Killed => {
            sim.kill(task);
            drop(server);
            return;
        }
    };
    if let Err(error) = &ended {
        check(error);
    }
}

/// Waits for the answers of all that clients ask; but not where a server that nobody replaces may
/// have to give up, and they would wait for another one.
fn wait(sim: &Sim, manner: Manner, faults: Faults) {
    if manner.recovery == Recovery::None || faults == Faults::default() {
        sim.until_answered();
    } else {
        (0..1000).for_each(|_| sim.give_way());
    }
}

/// Errors are told; but none of those that only a defect, or a kernel that lies, can cause.
fn check(error: &Error) {
    let words = format!("{error:?}");
    for defect in ["Panicked", "Unexpected", "Full", "Overrun", "Impossible", "tag"] {
        assert!(!words.contains(defect), "{words}");
    }
}

/// A device that its server could not delete, because calls failed for good, another process does,
/// whose calls do not.
fn clean_up(sim: &Sim, servers: &[&Task]) {
    servers.iter().for_each(|server| sim.kill(server));
    sim.set_faults(Faults::default());
    // The oldest kernel may notice only after half a minute that a server is gone.
    for _ in 0..10 {
        if sim.state(0).is_none() {
            return;
        }
        let _ = Control::open(sim.process(true)).and_then(|mut c| c.device(0).delete());
    }
}

/// A disk in memory that fails as its bytes say, before or after it has done what was asked.
#[derive(Debug)]
struct Erring {
    memory: Memory,
    plays: Mutex<Input>,
}

impl Erring {
    fn play(&self) -> u8 {
        self.plays.lock().unwrap_or_else(PoisonError::into_inner).byte()
    }

    fn perhaps(&self, work: impl FnOnce(&Memory) -> Result<(), Errno>) -> Result<(), Errno> {
        let errno = [Errno::EIO, Errno::ENOSPC, Errno::ETIMEDOUT, Errno::EOPNOTSUPP];
        match self.play() % 16 {
            before @ 1..5 => Err(errno[usize::from(before - 1)]),
            after @ 5..9 => work(&self.memory).and(Err(errno[usize::from(after - 5)])),
            _ => work(&self.memory),
        }
    }
}

impl Backend for Erring {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.perhaps(|memory| memory.read(offset, data))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.perhaps(|memory| memory.write(offset, data))
    }

    fn flush(&self) -> Result<(), Errno> {
        self.perhaps(Memory::flush)
    }

    fn discard(&self, offset: u64, len_bytes: u64) -> Result<(), Errno> {
        self.perhaps(|memory| memory.discard(offset, len_bytes))
    }

    fn write_zeroes(&self, offset: u64, len_bytes: u64, may_unmap: bool) -> Result<(), Errno> {
        self.perhaps(|memory| memory.write_zeroes(offset, len_bytes, may_unmap))
    }
}

/// Serves it, some requests after a delay, or answered while a delay is under way.
#[derive(Debug)]
struct Delaying(Arc<Erring>);

impl Delaying {
    fn serve(&self, io: &mut Io<'_>) -> Step {
        Blocking::<Erring>::new(Arc::clone(&self.0)).start(io)
    }
}

impl Target for Delaying {
    type Handler = Self;

    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn needs(&self) -> Needs {
        Needs { operations: 1, ..Needs::default() }
    }

    fn handler(&self, _: &QueueInfo) -> Result<Self, Errno> {
        Ok(Self(Arc::clone(&self.0)))
    }
}

impl Handler for Delaying {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        let time = Duration::from_millis(u64::from(self.0.play()) % 8);
        match self.0.play() % 16 {
            delayed @ 1..4 => {
                io.delay(time, delayed).expect("none is under way");
                if delayed == 1 { self.serve(io) } else { Step::Pending }
            }
            _ => self.serve(io),
        }
    }

    fn resume(&mut self, io: &mut Io<'_>, _: Completion) -> Step {
        self.serve(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::corpus;

    /// A kernel, how it is served (a path, 4 for two threads, recovery in eights, 32 to spin),
    /// faults (0 none, 1 bearable, 2 fatal), an ending, its backend's plays and choices.
    fn seed(
        (kernel, manner): (u8, u8),
        faults: u8,
        ending: Ending,
        plays: &[u8],
        choices: &[u8],
    ) -> Vec<u8> {
        let ending = ENDINGS.iter().position(|other| *other == ending).expect("one of them");
        let ending = u8::try_from(ending).expect("few");
        let len = u8::try_from(plays.len()).expect("few");
        let (queues, depth, patience) = (1, 2, 9);
        let load = [3, 4, 2, 40, 128, 20, 2];
        let head = [kernel, queues, depth, manner, faults, ending, patience];
        [&head[..], &load, &[len], plays, choices].concat()
    }

    #[test]
    fn corpus_of_schedule() {
        let choices: Vec<u8> = (0..250_u8).map(|index| index.wrapping_mul(67)).collect();
        let plays = [0, 1, 0, 9, 2, 0, 0, 0, 3, 0, 0, 0, 0, 5, 4, 2, 1];
        let mut batches = seed((5, 16), 1, Ending::Killed, &plays, &choices);
        batches[2] += 128;
        let seeds = [
            ("plain-6.12", seed((0, 0), 0, Ending::Answered, &[], &[])),
            ("plain-7.3", seed((5, 0), 0, Ending::Answered, &[], &[])),
            ("chosen", seed((5, 0), 0, Ending::Answered, &[], &choices)),
            ("faults", seed((2, 0), 1, Ending::Answered, &[], &choices)),
            ("fatal", seed((3, 0), 2, Ending::Answered, &[], &choices)),
            ("errors", seed((5, 0), 0, Ending::Answered, &plays, &choices)),
            ("stopped", seed((5, 0), 1, Ending::Stopped, &plays, &choices)),
            ("stopped-6.12", seed((0, 0), 1, Ending::Stopped, &plays, &choices)),
            ("stopped-now", seed((5, 0), 0, Ending::StoppedNow, &plays, &choices)),
            ("stopped-by-another", seed((5, 0), 0, Ending::StoppedByAnother, &plays, &choices)),
            ("deleted-by-another", seed((5, 0), 0, Ending::DeletedByAnother, &plays, &choices)),
            ("killed", seed((5, 0), 0, Ending::Killed, &plays, &choices)),
            ("killed-6.12", seed((0, 0), 0, Ending::Killed, &plays, &choices)),
            ("get-data", seed((5, 1), 1, Ending::Stopped, &plays, &choices)),
            ("user-copy-shared", seed((5, 2 | 4), 1, Ending::Answered, &plays, &choices)),
            ("batches", batches),
            ("spinning", seed((5, 0x20), 0, Ending::Answered, &plays, &choices)),
            ("waited-for-6.12", seed((0, 8), 0, Ending::Killed, &[], &choices)),
            ("reissued", seed((5, 16 | 4), 0, Ending::Killed, &[], &choices)),
            ("failed-meanwhile", seed((5, 24 | 2), 0, Ending::Killed, &plays, &choices)),
            ("recovery-fails", seed((5, 16 | 1), 2, Ending::Killed, &plays, &choices)),
        ];
        let manner = |wanted: &str| {
            let (_, bytes) = seeds.iter().find(|(name, _)| *name == wanted).expect("one of them");
            let mut input = Input::new(bytes);
            Manner::chosen(input.one_of(Profile::ALL), &mut input)
        };
        assert_eq!(manner("get-data").path, DataPath::GetData);
        let shared = manner("user-copy-shared");
        assert_eq!((shared.path, shared.threads), (DataPath::UserCopy, 2));
        assert!(!manner("spinning").spin.is_zero() && manner("batches").batches);
        for (name, recovery) in [
            ("waited-for-6.12", Recovery::Wait),
            ("reissued", Recovery::Reissue),
            ("failed-meanwhile", Recovery::Fail),
            ("recovery-fails", Recovery::Reissue),
        ] {
            assert_eq!(manner(name).recovery, recovery, "{name}");
        }
        for (name, bytes) in &seeds[..4] {
            assert_eq!(run(bytes), (21, 0), "{name}");
        }
        assert!(run(&seeds[5].1).1 > 0, "the backend failed nothing");
        let reissued = seeds.iter().find(|(name, _)| *name == "reissued").expect("one of them");
        assert_eq!(run(&reissued.1), (21, 0), "a recovered device's clients see no error");
        corpus::check("schedule", schedule, &seeds);
    }
}
