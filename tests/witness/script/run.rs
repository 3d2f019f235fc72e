//! The interpreter: executes a script in a world, and notes what is observed.

use super::batch::Groups;
use super::bytes::{Bytes, runs};
use super::queues::Queues;
use super::record::{BETWEEN, Hint, Observation};
use super::sqe::{Fd, Sqe, Tail, delete};
use super::world::World;
use super::{Place, Script, Step, Target, show};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use ublkit::Errno;
use ublkit::kernel::{Kernel, RingName};
use ublkit::sys::ublk::UBLK_U_IO_COMMIT_AND_FETCH_REQ;

/// The user data of what is not shown.
pub(super) const SILENT: u64 = u64::MAX;

pub(super) type File<W> = Arc<<<W as World>::K as Kernel>::File>;
pub(super) type Mapping<W> = Arc<<<W as World>::K as Kernel>::Mapping>;

/// A script under way.
pub(super) struct Run<'w, W: World> {
    pub(super) world: &'w mut W,
    pub(super) control: Option<File<W>>,
    pub(super) rings: BTreeMap<usize, Ring<W>>,
    pub(super) files: BTreeMap<usize, File<W>>,
    /// Files in memory, which no kernel plays: both worlds have the same.
    pub(super) memories: BTreeMap<usize, OwnedFd>,
    pub(super) maps: BTreeMap<usize, (Place, Mapping<W>)>,
    pub(super) groups: Groups<W>,
    pub(super) devices: BTreeMap<usize, u32>,
    pub(super) buffers: BTreeMap<usize, Bytes>,
    pub(super) sent: Vec<Sent>,
    pub(super) clients: BTreeMap<usize, Client>,
    pub(super) pid: Option<u32>,
    /// The tags of each queue whose requests the server has, in the order in which they came: which
    /// tag a request gets is chance, so a script's tag 0 is that of the oldest.
    pub(super) tags: BTreeMap<u16, Vec<u16>>,
    /// The largest depth of a queue.
    pub(super) depth: u16,
    /// Which slots ever had a request, and by which ring they are answered.
    pub(super) had: BTreeSet<(usize, Fd, u16, u16)>,
    /// Which rings brought tags of a queue.
    pub(super) had_batches: BTreeSet<(usize, Fd, u16)>,
    /// A task does not come back.
    pub(super) stuck: bool,
    /// How long it must be quiet before a step is taken to be over.
    pub(super) quiet: Duration,
}

/// A ring, and who made it.
pub(super) struct Ring<W: World> {
    pub(super) task: usize,
    pub(super) flags: u32,
    pub(super) file: File<W>,
    pub(super) queues: Queues<<W::K as Kernel>::Mapping>,
}

/// An SQE that was queued.
pub(super) struct Sent {
    pub(super) sqe: Sqe,
    pub(super) ring: usize,
    /// The slot that it is for, as the driver numbers it.
    pub(super) slot: Option<(u16, u16)>,
    pub(super) memory: Option<Bytes>,
    pub(super) answered: bool,
    /// Where its tag was among those with a request, which it is no more if this COMMIT is taken.
    pub(super) committed: Option<usize>,
    /// Its answer is not waited for any longer.
    pub(super) given_up: bool,
}

/// A client's request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Waits,
    Answered,
}

/// Runs a script in a world of its own. `expected` is what was observed elsewhere: it is only used
/// to know how long to wait.
pub fn run<W: World>(
    world: &mut W,
    script: &Script,
    expected: Option<&Observation>,
    quiet: Duration,
) -> Observation {
    let mut run = Run {
        world,
        control: None,
        rings: BTreeMap::new(),
        files: BTreeMap::new(),
        memories: BTreeMap::new(),
        maps: BTreeMap::new(),
        groups: BTreeMap::new(),
        devices: BTreeMap::new(),
        buffers: BTreeMap::new(),
        sent: Vec::new(),
        clients: BTreeMap::new(),
        pid: None,
        tags: BTreeMap::new(),
        depth: 0,
        had: BTreeSet::new(),
        had_batches: BTreeSet::new(),
        stuck: false,
        quiet,
    };
    let mut lines = Vec::new();
    let hint = |at: usize| {
        let line = expected.and_then(|seen| seen.lines.get(at));
        line.map_or(Hint::default(), |line| Hint::of(line))
    };
    for step in &script.steps {
        if run.stuck {
            break;
        }
        let seen = run.step(step, hint(lines.len()));
        lines.push(format!("{step} => {seen}"));
    }
    lines.push(run.end());
    Observation { name: script.name.clone(), lines }
}

impl<W: World> Run<'_, W> {
    /// Has a task do something. `None` when it does not come back: then the script is over.
    pub(super) fn on<R, F>(&mut self, task: usize, work: F) -> Option<R>
    where
        R: Send + 'static,
        F: FnOnce(&W::K) -> R + Send + 'static,
    {
        let answer = self.world.run(task, work);
        self.stuck |= answer.is_none();
        answer
    }

    fn step(&mut self, step: &Step, expected: Hint) -> String {
        let answer = match step {
            Step::Together(_, steps) => return self.together(steps),
            Step::Try(sqe) => return self.tried(sqe),
            Step::Ring { task, ring, entries, flags, cq_entries } => {
                return self.ring(*task, *ring, *entries, *flags, *cq_entries);
            }
            Step::Open { task, file, device } => return self.open(*task, *file, *device),
            Step::Map { task, map, place } => return self.map(*task, *map, *place),
            Step::Register { task, ring, what } => return self.register(*task, *ring, what),
            Step::Copy { task, file, write, position, len } => {
                return self.copy(*task, *file, *write, *position, *len);
            }
            Step::Provide { ring, count, len } => self.provide(*ring, *count, *len),
            Step::Event { task, file } => return self.event(*task, *file),
            Step::Fill { buffer, byte } => {
                self.buffer(*buffer).fill(*byte);
                return "ok".into();
            }
            Step::Look { buffer, len } => return runs(&self.buffer(*buffer).read(*len)),
            Step::Put { ring, sqe } => return self.put(*ring, sqe),
            Step::Blind { ring, submit } => {
                let task = self.rings.get(ring).map_or(super::ADMIN, |ring| ring.task);
                return self.enter(task, Target::Ring(*ring), *submit, 0, 0, None);
            }
            Step::Unmap(map) => {
                self.maps.remove(map);
                return "ok".into();
            }
            Step::CloseRing(ring) => {
                self.rings.remove(ring);
                self.groups.remove(ring);
                "ok".into()
            }
            Step::Close(file) => {
                self.files.remove(file);
                "ok".into()
            }
            Step::Send { task, ring, sqes } => self.send(*task, *ring, sqes),
            Step::Enter { task, ring, call } => {
                let (submit, want, flags) = (call.submit, call.want, call.flags);
                let timeout = call.timeout_ms.map(Duration::from_millis);
                self.enter(*task, *ring, submit, want, flags, timeout)
            }
            Step::Client { client, device, wish } => {
                self.clients.insert(*client, Client::Waits);
                let id = self.devices.get(device).copied().unwrap_or(u32::MAX);
                self.world.client(*client, id, *wish);
                "ok".into()
            }
            Step::EndTask(task) => {
                if self.world.end_task(*task) {
                    "ok".into()
                } else {
                    "waits".into()
                }
            }
            Step::Pause(ms) => {
                self.world.sleep(Duration::from_millis(*ms));
                "ok".into()
            }
        };
        let events = self.settle(expected);
        [answer].into_iter().chain(events).collect::<Vec<_>>().join(BETWEEN)
    }

    /// Steps that are expected to go well; only those that do not are shown.
    fn together(&mut self, steps: &[Step]) -> String {
        let mut shown = Vec::new();
        for step in steps {
            let first = self.sent.len();
            let seen = self.step(step, Hint::default());
            let mut parts = seen.split(BETWEEN);
            let result = parts.next().unwrap_or_default();
            let least = u32::from(!matches!(step, Step::Register { .. }));
            let fine = result == "ok" || result.parse::<u32>().is_ok_and(|count| count >= least);
            // A control command is answered with 0, a FETCH not at all.
            let answers = (first + 1..=self.sent.len()).map(|number| format!("#{number}=0"));
            let fine =
                fine && parts.all(|part| answers.clone().any(|fine| part.starts_with(&fine)));
            if !fine {
                shown.push(format!("{step}: {seen}"));
            }
        }
        if shown.is_empty() { "ok".into() } else { format!("[{}]", shown.join("] [")) }
    }

    /// A control command of which only the answer counts.
    fn tried(&mut self, sqe: &Sqe) -> String {
        let before = self.devices.len();
        let sent = self.send(None, super::CONTROL_RING, std::slice::from_ref(sqe));
        let mut seen = vec![sent];
        seen.extend(self.settle(Hint::default()));
        if self.devices.len() > before {
            self.send(None, super::CONTROL_RING, &[delete(0)]);
            seen.extend(
                self.settle(Hint::default()).into_iter().filter(|text| !text.ends_with("=0")),
            );
            self.devices.remove(&0);
        }
        seen.join(BETWEEN)
    }

    fn copy(
        &mut self,
        task: usize,
        file: usize,
        write: Option<u8>,
        position: u64,
        len: usize,
    ) -> String {
        let Some(file) = self.files.get(&file).cloned() else { return "no file".into() };
        let position = self.real_position(position);
        let answer = self.on(task, move |kernel| match write {
            Some(byte) => {
                let count = kernel.write_at(&file, vec![byte; len].as_slice().into(), position)?;
                Ok::<_, Errno>((count, None))
            }
            None => {
                let mut data = vec![0xee; len];
                let count = kernel.read_at(&file, data.as_mut_slice().into(), position)?;
                Ok((count, Some(data)))
            }
        });
        match answer {
            None => "hangs".into(),
            Some(Err(error)) => show::errno(error),
            Some(Ok((count, None))) => count.to_string(),
            Some(Ok((count, Some(data)))) => {
                format!("{count}: {}", runs(&data[..count.min(len)]))
            }
        }
    }

    pub(super) fn send(&mut self, task: Option<usize>, ring: usize, sqes: &[Sqe]) -> String {
        for sqe in sqes {
            let put = self.put(ring, sqe);
            if put != "ok" {
                return put;
            }
        }
        let task = task.unwrap_or(self.rings[&ring].task);
        let count = u32::try_from(sqes.len()).expect("few");
        self.enter(task, Target::Ring(ring), count, 0, 0, None)
    }

    pub(super) fn enter(
        &mut self,
        task: usize,
        target: Target,
        submit: u32,
        want: u32,
        flags: u32,
        timeout: Option<Duration>,
    ) -> String {
        let file = match target {
            Target::Ring(ring) => self.rings.get(&ring).map(|ring| Arc::clone(&ring.file)),
            Target::File(file) => self.files.get(&file).cloned(),
            Target::Registered(_) => None,
        };
        let answer = self.on(task, move |kernel| {
            let name = match (target, &file) {
                (Target::Registered(index), _) => RingName::Registered(index),
                (_, Some(file)) => RingName::File(&**file),
                (_, None) => return Err(Errno::EBADF),
            };
            kernel.ring_enter(name, submit, want, flags, timeout)
        });
        Self::counted(answer)
    }

    pub(super) fn counted(answer: Option<Result<u32, Errno>>) -> String {
        match answer {
            None => "hangs".into(),
            Some(Ok(count)) => count.to_string(),
            Some(Err(error)) => show::errno(error),
        }
    }

    /// Queues an SQE, with its place in the script as its user data.
    pub(super) fn put(&mut self, ring: usize, sqe: &Sqe) -> String {
        let number = self.sent.len() as u64 + 1;
        let (raw, memory) = self.raw(sqe, number);
        let slot = match sqe.tail {
            Tail::Io { queue, tag, .. } => Some((queue, self.real_tag(queue, tag))),
            _ => None,
        };
        let Some(place) = self.rings.get(&ring) else { return "no ring".into() };
        if !place.queues.put(&raw) {
            return "full".into();
        }
        let sqe = sqe.clone();
        let given_up = sqe.patient;
        let mut committed = None;
        if let Some((queue, tag)) = slot
            && sqe.op & 0xff == UBLK_U_IO_COMMIT_AND_FETCH_REQ & 0xff
            && let Some(tags) = self.tags.get_mut(&queue)
        {
            committed = tags.iter().position(|known| *known == tag);
            tags.retain(|known| *known != tag);
        }
        self.sent.push(Sent { sqe, ring, slot, memory, answered: false, committed, given_up });
        "ok".into()
    }
}
