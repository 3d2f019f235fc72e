//! Who runs: one thread of the program at a time, by choice, and the kernel in between.
//!
//! A thread runs until it asks the kernel for something that it must wait for. Then whatever can
//! happen is listed: things that the kernel does by itself, clients that act, threads that can go
//! on. One is chosen, until a thread is. When nothing can happen, time passes; when no time that
//! anybody waits for is left, somebody waits for ever, and that is a failure which names who.

use super::merge::{Digest, and_then};
use super::world::{Chore, FileId, Kind, World};
use core::hash::Hash;
use core::time::Duration;
use std::sync::{Arc, Condvar};

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// So many completions in a ring, or work for its task.
    Completions(FileId, u32),
    /// A readable event.
    Event(FileId),
    /// Another thread's end.
    End(usize),
    /// Time alone.
    Time,
    /// Its turn.
    Turn,
    /// Something that another thread, the kernel, a client or time does.
    Other,
    /// The answers of all that clients have asked.
    Answers,
    /// That nothing happens any more unless time passes.
    Quiet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    Waits(Wait, Option<Duration>),
    Ended,
}

#[derive(Debug)]
struct Thread {
    name: String,
    process: usize,
    state: State,
    /// When it began to wait, counted in waits.
    since: u64,
    wake: Arc<Condvar>,
    /// What it has seen.
    past: u64,
    /// Whether its calls are those of a queue that serves, but for few.
    serves: bool,
    /// Whether its step may have used memory that it shares.
    shares: bool,
}

/// The threads of all simulated processes.
#[derive(Debug, Default)]
pub(super) struct Threads {
    all: Vec<Thread>,
    /// The one that runs.
    running: usize,
    waits: u64,
    /// Whether something has happened since a thread began to wait for that.
    pub(super) others: bool,
    /// Of the threads that can go on, the one that waits longest does; which one is no choice.
    pub(super) take_turns: bool,
}

impl Threads {
    /// Makes a thread that will run when it is chosen, or runs already.
    pub(super) fn add(&mut self, process: usize, name: String) -> usize {
        let first = self.all.is_empty();
        let state = if first { State::Runs } else { State::Waits(Wait::Turn, None) };
        self.all.push(Thread {
            name,
            process,
            state,
            since: self.waits,
            wake: Arc::default(),
            past: 0,
            serves: false,
            shares: false,
        });
        self.all.len() - 1
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn wake(&self, thread: usize) -> Arc<Condvar> {
        Arc::clone(&self.all[thread].wake)
    }

    pub(super) fn set_waiting(&mut self, thread: usize, wait: Wait, deadline: Option<Duration>) {
        self.waits += 1;
        self.others &= wait != Wait::Other;
        self.all[thread].state = State::Waits(wait, deadline);
        self.all[thread].since = self.waits;
    }

    /// The running thread has seen something.
    pub(super) fn learns(&mut self, what: impl Hash) {
        let thread = &mut self.all[self.running];
        thread.past = and_then(thread.past, what);
    }

    /// The running thread serves a queue.
    pub(super) fn serves(&mut self) {
        self.all[self.running].serves = true;
    }

    /// The running thread's step may use memory that it shares.
    pub(super) fn shares(&mut self) {
        self.all[self.running].shares = true;
    }

    /// The past of the running thread, if its step may have used memory that it shares.
    pub(super) fn shared(&mut self) -> Option<u64> {
        let thread = &mut self.all[self.running];
        let shared = std::mem::take(&mut thread.shares) || !thread.serves;
        shared.then_some(thread.past)
    }

    /// Takes in all of them; in which order they wait, too, where the first choice counts.
    pub(super) fn digest(&self, digest: &mut Digest, first_counts: bool) {
        for thread in &self.all {
            digest.add(&(thread.process, thread.state, thread.past, thread.serves));
        }
        digest.add(&self.others);
        if self.take_turns || first_counts {
            let mut order: Vec<usize> = (0..self.all.len()).collect();
            order.sort_by_key(|thread| self.all[*thread].since);
            digest.add(&order);
        }
    }

    pub(super) fn set_ended(&mut self, thread: usize) {
        self.all[thread].state = State::Ended;
    }

    pub(super) fn has_ended(&self, thread: usize) -> bool {
        self.all[thread].state == State::Ended
    }

    pub(super) fn run(&mut self, thread: usize) {
        self.running = thread;
        self.all[thread].state = State::Runs;
        self.all[thread].wake.notify_all();
    }

    pub(super) fn leftovers(&self) -> impl Iterator<Item = String> {
        let others = self.all.iter().skip(1).filter(|thread| thread.state != State::Ended);
        others.map(|thread| format!("thread {} has not ended", thread.name))
    }
}

/// More than happens between two answers: a request that is delivered for ever, say.
const TOO_MUCH: u32 = 100_000;

/// Something that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The kernel does one of its chores.
    Chore(usize),
    /// A control command goes on.
    Control(usize),
    /// A client's next step: it asks something, or the block layer hands a request on.
    Client(super::block::Step),
    /// A thread goes on.
    Thread(usize),
}

impl World {
    /// Lets things happen until a thread can go on; answers which, or `None` when there is none.
    pub(super) fn pick(&mut self) -> Option<usize> {
        loop {
            let mut events = Vec::new();
            self.list_events(&mut events);
            self.list_threads(&mut events, false);
            if events.is_empty() {
                self.list_threads(&mut events, true);
            }
            if events.is_empty() {
                if self.let_time_pass() {
                    continue;
                }
                if self.threads.all.iter().all(|thread| thread.state == State::Ended) {
                    return None;
                }
                let waits = State::Waits(Wait::Other, None);
                if let Some(thread) = self.threads.all.iter().position(|one| one.state == waits) {
                    return Some(thread); // nothing ever will
                }
                self.fail(self.nobody_can_go_on());
                continue;
            }
            self.something_happens();
            if events.len() > 1 && self.choices.asks_for_states() {
                let state = self.state();
                self.choices.comes_to(state);
            }
            let chosen = self.choices.below(events.len());
            self.threads.others = true;
            match events[chosen] {
                Event::Chore(index) => {
                    let chore = self.chores.remove(index).expect("just listed");
                    self.do_chore(chore);
                }
                Event::Control(command) => self.go_on_with_control(command),
                Event::Client(step) => self.client_step(step),
                Event::Thread(thread) => return Some(thread),
            }
        }
    }

    /// Counts what happens between two answers.
    pub(super) fn something_happens(&mut self) {
        self.happened += 1;
        if self.happened == TOO_MUCH {
            self.fail(format!("{TOO_MUCH} things happened, and nobody was answered"));
        }
    }

    fn list_events(&mut self, events: &mut Vec<Event>) {
        if self.broken.is_some() {
            return;
        }
        let chores = self.chores.iter().enumerate().filter(|(_, chore)| self.can_do(**chore));
        events.extend(chores.map(|(index, _)| Event::Chore(index)));
        for command in 0..self.devices.controls() {
            if self.control_can_go_on(command) {
                events.push(Event::Control(command));
            }
        }
        self.list_client_steps(&mut |step| events.push(Event::Client(step)));
    }

    /// Lists the threads that can go on: first the one that waits longest.
    fn list_threads(&self, events: &mut Vec<Event>, nothing_else: bool) {
        let others = events.len();
        for (index, thread) in self.threads.all.iter().enumerate() {
            let State::Waits(wait, deadline) = thread.state else { continue };
            let dead = self.broken.is_some() || self.processes[thread.process].dead;
            let late = deadline.is_some_and(|deadline| self.now >= deadline);
            let ready = match wait {
                Wait::Completions(ring, want) => self.has_completions(ring, want),
                Wait::Event(event) => match self.files.get(&event).map(|file| &file.kind) {
                    Some(Kind::Event(readable)) => *readable,
                    _ => true,
                },
                Wait::End(thread) => self.threads.has_ended(thread),
                Wait::Time => false,
                Wait::Turn => true,
                Wait::Other => self.threads.others,
                Wait::Answers => self.clients.all_answered(),
                Wait::Quiet => nothing_else,
            };
            if dead || late || ready {
                events.push(Event::Thread(index));
            }
        }
        events[others..].sort_by_key(|event| match event {
            Event::Thread(thread) => self.threads.all[*thread].since,
            _ => 0,
        });
        if self.threads.take_turns {
            events.truncate(others + 1);
        }
    }

    /// Moves the clock to the next moment that somebody waits for; whether there is one.
    fn let_time_pass(&mut self) -> bool {
        let deadlines = self.threads.all.iter().filter_map(|thread| match thread.state {
            State::Waits(_, deadline) => deadline,
            _ => None,
        });
        let next = deadlines.chain(self.timers()).chain(self.control_deadlines()).min();
        let Some(next) = next else { return false };
        self.now = self.now.max(next);
        self.threads.others = true;
        self.fire_timers();
        true
    }

    fn nobody_can_go_on(&self) -> String {
        let mut why = String::from("nobody can go on, and time does not help:");
        for thread in &self.threads.all {
            if let State::Waits(wait, _) = thread.state {
                why += &format!(" thread {} waits for {wait:?};", thread.name);
            }
        }
        for waiting in self.devices.waiting_controls().chain(self.clients.waiting()) {
            why += &format!(" {waiting};");
        }
        why
    }

    fn do_chore(&mut self, chore: Chore) {
        match chore {
            Chore::TearDown(ring) => self.tear_down(ring),
            Chore::Release(device) => self.release_char_device(device),
            Chore::Interrupt(ring) => self.interrupt(ring),
            Chore::Exit(process) => self.exit(process),
            Chore::Operate(ring, operation) => self.operate(ring, operation),
        }
    }
}
