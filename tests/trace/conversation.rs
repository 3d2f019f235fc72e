//! What conversations look like, and that nothing of them is missed.

use super::{busy, json, memory, serve, short_life, write};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use ublkit::sim::{Choices, Faults, Load, Profile, Sim};
use ublkit::sys::io_uring::{IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_NO_SQARRAY};
use ublkit::trace::{Detail, Log, Traced};
use ublkit::{
    Access, Backend, Blocking, Builder, DataPath, Errno, FileIndex, Geometry, Memory, Needs,
    Operation, Recovery, Request, Target, Task, Tasks,
};

pub(super) fn compare(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UBLKIT_BLESS").is_some() {
        return std::fs::write(path, found).expect("the repository can be written");
    }
    let golden = std::fs::read_to_string(path).expect("the file is committed");
    for (number, (golden, found)) in golden.lines().zip(found.lines()).enumerate() {
        assert_eq!(found, golden, "{name}, line {}", number + 1);
    }
    assert_eq!(found.lines().count(), golden.lines().count(), "{name}:\n{found}");
}

#[test]
fn a_short_life_as_text() {
    compare("conversation.txt", &short_life().to_string());
}

#[test]
fn a_short_life_as_json() {
    let found = json(&short_life());
    for line in found.lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert!(parsed["at_ns"].is_u64() && parsed["what"].is_string(), "{line}");
    }
    compare("conversation.jsonl", &found);
}

#[test]
fn nothing_that_is_said_is_missed() {
    for profile in Profile::ALL {
        // Rings with an index array, whose completions may come at any time.
        let mut old = Faults::bearable();
        old.unknown_setup_flags = IORING_SETUP_NO_SQARRAY | IORING_SETUP_DEFER_TASKRUN;
        for (seed, faults) in [(1, Faults::default()), (2, Faults::bearable()), (3, old)] {
            let (text, delivered) = busy(seed, faults, *profile);
            let count = |what: &str| {
                let what = format!("\"what\":\"{what}\"");
                text.lines().filter(|line| line.contains(&what)).count() as u64
            };
            let told = (count("request"), count("operation"), count("commit"));
            assert_eq!(told, (delivered, delivered, delivered), "{profile}, seed {seed}");
            assert_eq!(count("missed"), 0);
            let unexpected = "\"what\":\"done\",\"user_data\"";
            assert!(!text.contains(unexpected), "{profile}, seed {seed}");
        }
    }
}

/// The same where a command brings a write's data, and where one offers and answers many slots.
#[test]
fn nothing_is_missed_on_other_paths() {
    let (get_data, user_copy) = (DataPath::GetData, DataPath::UserCopy);
    let ways = [(get_data, false), (user_copy, false), (DataPath::Copy, true), (user_copy, true)];
    for (path, batches) in ways {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(5), Faults::default());
        let builder = Builder::new().queues(2).depth(8).data_path(path).batches(batches);
        let (server, log) = serve(&sim, &builder, memory(1 << 20));
        sim.load(server.id(), Load::new(300));
        sim.until_answered();
        server.stop().unwrap();
        sim.assert_clean();
        let text = json(&log);
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        let committed = usize::try_from(sim.audit().committed).unwrap();
        assert_eq!(count("\"what\":\"fetch\""), 16, "{path}, {batches}");
        let told =
            ["request", "operation", "commit"].map(|it| count(&format!("\"what\":\"{it}\"")));
        assert_eq!(told, [committed; 3], "{path}, {batches}");
        assert_eq!(count("\"what\":\"refusal\""), 0);
        let asked = ["needs_data", "get_data"].map(|it| count(&format!("\"what\":\"{it}\"")));
        let writes = count("\"what\":\"request\",\"op\":\"WRITE\"");
        assert_eq!(asked, [if path == get_data { writes } else { 0 }; 2]);
        // What a replay needs: the data of both ways, where it lies in memory.
        if path == DataPath::Copy {
            assert!(count("\"sums\"") > 200);
        }
    }
}

#[test]
fn the_same_seed_is_the_same_conversation() {
    let run = |seed| busy(seed, Faults::bearable(), Profile::NEWEST);
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn listening_changes_nothing() {
    let run = |traced: bool| {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(11), Faults::bearable());
        let builder = Builder::new().queues(2).depth(4);
        let (id, stop): (_, Box<dyn FnOnce()>) = if traced {
            let (server, _) = serve(&sim, &builder, memory(1 << 20));
            (server.id(), Box::new(|| drop(server.stop().unwrap())))
        } else {
            let server = builder.serve_on(sim.task(), memory(1 << 20)).unwrap();
            (server.id(), Box::new(|| drop(server.stop().unwrap())))
        };
        sim.load(id, Load::new(300));
        sim.until_answered();
        stop();
        sim.assert_clean();
        sim.audit()
    };
    assert_eq!(run(true), run(false));
}

/// A simulation that failed, run again with its seed, says what was said.
#[test]
fn a_failed_simulation_prints_as_a_conversation() {
    /// Forgets one write.
    struct Forgetful(Memory, AtomicU32);
    impl Backend for Forgetful {
        fn geometry(&self) -> Geometry {
            self.0.geometry()
        }
        fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
            self.0.read(offset, data)
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
            let is_forgotten = self.1.fetch_add(1, Ordering::Relaxed) == 20;
            if is_forgotten { Ok(()) } else { self.0.write(offset, data) }
        }
    }
    let disk = || {
        let memory = Memory::new(Geometry::new(1 << 20)).unwrap();
        Blocking::new(Forgetful(memory, AtomicU32::new(0)))
    };
    let sim = || Sim::new(Profile::NEWEST, Choices::seed(21), Faults::bearable());
    let verdict = |sim: &Sim, id, stop: &mut dyn FnMut()| {
        let mut load = Load::new(500);
        load.others = 0;
        sim.load(id, load);
        sim.until_answered();
        stop();
        sim.verdict().unwrap_err()
    };
    let first = sim();
    let mut server = Some(Builder::new().serve_on(first.task(), disk()).unwrap());
    let id = server.as_ref().unwrap().id();
    let failed = verdict(&first, id, &mut || drop(server.take()));

    let again = sim();
    let (server, log) = serve(&again, &Builder::new(), disk());
    let (id, mut server) = (server.id(), Some(server));
    assert_eq!(verdict(&again, id, &mut || drop(server.take())), failed);
    let (text, commits) = (log.to_string(), again.audit().committed);
    assert_eq!(text.matches("-> COMMIT_AND_FETCH").count() as u64, commits);
    assert_eq!(text.matches("-- WRITE").count(), text.matches("<- WRITE").count());
}

/// A disk in a file, reached through operations alone.
fn file() -> impl Target {
    let file = memfd_create("listened", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 1 << 20).unwrap();
    let (access, files) = (Access::Operations, vec![Arc::new(file)]);
    let needs = Needs { access, operations: 1, files, ..Needs::default() };
    Tasks::new(Geometry::new(1 << 20), needs, async |task: Task| -> Result<(), Errno> {
        let (Request { operation, offset, .. }, all) =
            (task.request(), 0..task.request().data_bytes());
        match operation {
            Operation::Read => task.read(FileIndex(0), offset, all).await.map(drop),
            Operation::Write { .. } => task.write(FileIndex(0), offset, all, false).await.map(drop),
            _ => Ok(()),
        }
    })
}

/// The value behind a word of a line of text.
fn value<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    line.split(' ').find_map(|field| field.strip_prefix(word)?.strip_prefix('='))
}

/// Where data is to be is told as what it is: a buffer, which is the tag's own, or the place of the
/// ring's table that the driver puts a request's pages into, or that the server has it put them
/// into.
#[test]
fn where_data_is_to_be() {
    for (path, batches, offered) in [
        (DataPath::Copy, false, "buffer"),
        (DataPath::Copy, true, "buffer"),
        (DataPath::GetData, false, "buffer"),
        (DataPath::UserCopy, false, ""),
        (DataPath::ZeroCopy, false, "table_index"),
        (DataPath::ZeroCopy, true, "table_index"),
        (DataPath::ZeroCopyByHand, false, ""),
    ] {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(4), Faults::default());
        let log = Log::of_last(usize::MAX);
        let kernel = Traced::new(sim.task(), Detail::default(), log.clone());
        let target = kernel.watch(file());
        let builder = Builder::new().queues(1).depth(4).data_path(path).batches(batches);
        let server = builder.serve_on(kernel, target).unwrap();
        let asked = (0..8).map(|block| (block * 4096, 9)).map(|(place, stamp)| write(place, stamp));
        asked.for_each(|ask| _ = sim.ask(server.id(), 0, ask).unwrap());
        sim.until_answered();
        server.stop().unwrap();
        sim.assert_clean();
        let served = usize::try_from(sim.audit().committed).unwrap();
        let text = log.to_string();
        let what = format!("{path}, {batches}: {text}");
        let of = |word: &str| text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>();
        let slots = [of(" FETCH "), of(" COMMIT_AND_FETCH ")].concat();
        assert_eq!(slots.len(), 4 + served, "{what}");
        let mut buffers = BTreeSet::new();
        for line in slots.iter().chain(&of(" GET_DATA ")) {
            let [tag, buffer, index] =
                ["tag", "buffer", "table_index"].map(|word| value(line, word));
            assert_eq!(buffer.is_some(), offered == "buffer", "{line} of {what}");
            assert_eq!(index, tag.filter(|_| offered == "table_index"), "{line} of {what}");
            buffers.extend(buffer.map(|buffer| (tag, buffer)));
        }
        let addresses: BTreeSet<_> = buffers.iter().map(|(_, buffer)| buffer).collect();
        let each = if offered == "buffer" { 4 } else { 0 };
        assert_eq!((buffers.len(), addresses.len()), (each, each), "{what}");
        let fetched = if path == DataPath::GetData { 8 } else { 0 };
        assert_eq!(of(" GET_DATA ").len(), fetched, "{what}");
        let by_hand = if path == DataPath::ZeroCopyByHand { served } else { 0 };
        for word in [" REGISTER_IO_BUF ", " UNREGISTER_IO_BUF "] {
            let told = of(word);
            assert_eq!(told.len(), by_hand, "{what}");
            assert!(told.iter().all(|line| value(line, "table_index") == value(line, "tag")));
        }
    }
}

/// Without a wish data is where it can be seen; but whatever the path, who is listened to serves as
/// before, and so does who takes over a device of that path.
#[test]
fn every_path_can_be_listened_to() {
    let paths = DataPath::ALL.iter().copied().map(Some);
    for path in paths.chain([None]) {
        let sim = Sim::new(Profile::NEWEST, Choices::seed(3), Faults::default());
        let builder = Builder::new().queues(1).depth(2).recovery(Recovery::Wait);
        let wished = path.map_or(builder.clone(), |path| builder.clone().data_path(path));
        let (mut server, log) = serve(&sim, &wished, file());
        let id = server.id();
        assert_eq!(server.data_path(), path.unwrap_or(DataPath::Copy));
        sim.ask(id, 0, write(4096, 9)).unwrap();
        sim.until_answered();
        server.hand_over().unwrap();
        drop(server);
        let kernel = Traced::new(sim.task(), Detail::REPEATABLE, log.clone());
        let target = kernel.watch(file());
        let server = builder.recover_on(kernel, id, target).unwrap();
        let number = sim.ask(id, 0, write(0, 5)).unwrap();
        sim.until_answered();
        assert_eq!(sim.answer(number), Some(Ok(vec![])), "{path:?}");
        server.stop().unwrap();
        sim.assert_clean();
        // Each begins, and goes on.
        assert_eq!(log.to_string().matches("-- WRITE").count(), 4, "{path:?}: {log}");
    }
}
