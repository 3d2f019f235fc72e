//! The simulated kernel as a world for scripts: its tasks are called in turn.

use super::script::world::{Answer, World};
use super::script::{What, Wish, is_admin};
use std::collections::BTreeMap;
use std::time::Duration;
use ublkit::Errno;
use ublkit::kernel::Kernel;
use ublkit::sim::{Ask, Choices, Faults, OpenDisk, Profile, Sim, Task};

/// A client that waits.
struct Asked {
    client: usize,
    device: u32,
    wish: Wish,
    disk: OpenDisk,
}

/// A simulated machine and its tasks.
pub struct Simulated {
    sim: Sim,
    tasks: BTreeMap<usize, Task>,
    /// Clients that wait, by the number of their asking: who, and for what of which device.
    asked: BTreeMap<u64, Asked>,
    /// Disks that clients keep open.
    held: Vec<OpenDisk>,
    answers: Vec<(usize, Answer)>,
}

fn seen(answer: Result<Vec<u8>, Errno>) -> Answer {
    answer.map_or_else(Answer::Failed, Answer::Done)
}

impl Simulated {
    pub fn new(profile: Profile) -> Self {
        let sim = Sim::new(profile, Choices::first(), Faults::default());
        Self {
            sim,
            tasks: BTreeMap::new(),
            asked: BTreeMap::new(),
            held: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn task(&mut self, number: usize) -> &Task {
        self.tasks.entry(number).or_insert_with(|| {
            let task = self.sim.task().task();
            if !is_admin(number) {
                self.sim.drop_admin(&task);
            }
            task
        })
    }
}

impl World for Simulated {
    type K = Task;

    fn run<R, F>(&mut self, task: usize, work: F) -> Option<R>
    where
        R: Send + 'static,
        F: FnOnce(&Task) -> R + Send + 'static,
    {
        Some(work(self.task(task)))
    }

    fn personality(&mut self, task: usize, ring: i32) -> Option<Result<u32, Errno>> {
        let task = self.task(task).clone();
        Some(self.sim.register_personality(&task, ring))
    }

    fn end_task(&mut self, task: usize) -> bool {
        if let Some(task) = self.tasks.remove(&task) {
            self.sim.end_task(&task);
        }
        true
    }

    fn is_alive(&self, task: usize) -> bool {
        self.tasks.contains_key(&task)
    }

    fn sleep(&mut self, time: Duration) {
        self.sim.task().sleep(time);
    }

    fn now(&mut self) -> Duration {
        self.sim.task().now()
    }

    fn client(&mut self, client: usize, device: u32, wish: Wish) {
        let Some(disk) = self.sim.open_disk(device) else {
            self.answers.push((client, Answer::NoDisk));
            return;
        };
        let offset = wish.sector * 512;
        let len_bytes = wish.sectors * 512;
        let ask = match wish.what {
            What::Read => Ask::Read { offset, len_bytes },
            What::Write => {
                Ask::Write { offset, data: vec![wish.byte; len_bytes as usize], fua: false }
            }
            What::Flush => Ask::Flush,
            What::Discard => Ask::Discard { offset, len_bytes: len_bytes.into() },
            What::Zero => Ask::WriteZeroes { offset, len_bytes: len_bytes.into(), no_unmap: true },
            What::PunchHole => {
                Ask::WriteZeroes { offset, len_bytes: len_bytes.into(), no_unmap: false }
            }
            What::Hold => {
                self.held.push(disk);
                self.answers.push((client, Answer::Done(Vec::new())));
                return;
            }
        };
        let Some(asking) = self.sim.ask(device, wish.queue, ask) else {
            self.answers.push((client, Answer::NoDisk));
            return;
        };
        // Refused at once, and not by the server: the client hears of it, whatever it is.
        match self.sim.answer(asking) {
            Some(Err(Errno::EOPNOTSUPP)) if wish.what == What::Zero => {
                self.client(client, device, Wish { what: What::Write, byte: 0, ..wish });
            }
            Some(answer) => self.answers.push((client, seen(answer))),
            None => drop(self.asked.insert(asking, Asked { client, device, wish, disk })),
        }
    }

    fn clients_wait(&mut self) -> bool {
        true
    }

    fn let_go(&mut self) {
        self.held.clear();
    }

    fn answers(&mut self) -> Vec<(usize, Answer)> {
        let mut answers = std::mem::take(&mut self.answers);
        for (asking, asked) in std::mem::take(&mut self.asked) {
            let Asked { client, device, wish, disk } = asked;
            let refused = Errno::EOPNOTSUPP;
            match self.sim.answer(asking) {
                None => drop(self.asked.insert(asking, Asked { client, device, wish, disk })),
                // What fsync, BLKDISCARD and fallocate make of the driver's refusal.
                Some(Err(errno))
                    if errno == refused && matches!(wish.what, What::Flush | What::Discard) =>
                {
                    answers.push((client, Answer::Done(Vec::new())));
                }
                Some(Err(errno)) if errno == refused && wish.what == What::Zero => {
                    self.client(client, device, Wish { what: What::Write, byte: 0, ..wish });
                }
                Some(answer) => answers.push((client, seen(answer))),
            }
        }
        answers
    }
}
