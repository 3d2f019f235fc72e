//! The running kernel as a world for scripts: a thread for each task and for each client.

#![expect(unsafe_code, reason = "an ioctl that takes an address, a system call of no wrapper")]

use super::script::world::{Answer, World};
use super::script::{What, Wish, is_admin};
use crate::disk;
use rustix::fs::FallocateFlags;
use rustix::thread::{CapabilitySet, CpuSet};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ublkit::Errno;
use ublkit::kernel::{Kernel, Linux};
use ublkit::sys::io_uring::IORING_REGISTER_PERSONALITY;
use ublkit::sys::ublk::SECTOR_BYTES;

/// How long a call may take that does not wait for anything.
const LIMIT: Duration = Duration::from_secs(10);

/// The calls in which a client waits for the disk.
const WAITS: [libc::c_long; 7] = [
    libc::SYS_openat,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_fsync,
    libc::SYS_fallocate,
    libc::SYS_ioctl,
    libc::SYS_close,
];

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does what it is sent.
struct Task {
    work: Sender<Work>,
    thread: JoinHandle<()>,
}

/// Threads and clients of one script.
pub struct Threads {
    tasks: BTreeMap<usize, Task>,
    ended: Vec<usize>,
    begun: Instant,
    answer: Sender<(usize, Answer)>,
    answers: Receiver<(usize, Answer)>,
    /// Disks that clients keep open.
    held: Vec<Sender<()>>,
    /// Where the system tells what a client does, until it is answered.
    clients: BTreeMap<usize, Arc<Mutex<Option<String>>>>,
}

impl Threads {
    pub fn new() -> Self {
        let (answer, answers) = channel();
        Self {
            tasks: BTreeMap::new(),
            ended: Vec::new(),
            begun: Instant::now(),
            answer,
            answers,
            held: Vec::new(),
            clients: BTreeMap::new(),
        }
    }

    fn task(&mut self, number: usize) -> &Task {
        self.tasks.entry(number).or_insert_with(|| {
            let (work, todo) = channel::<Work>();
            let life = move || {
                if !is_admin(number) {
                    drop_admin();
                }
                for work in todo {
                    work();
                }
            };
            let name = format!("task {number}");
            let thread = std::thread::Builder::new().name(name).spawn(life).unwrap();
            Task { work, thread }
        })
    }
}

/// Takes CAP_SYS_ADMIN from the calling thread.
fn drop_admin() {
    let mut sets = rustix::thread::capabilities(None).unwrap();
    sets.effective.remove(CapabilitySet::SYS_ADMIN);
    rustix::thread::set_capabilities(None, sets).unwrap();
}

impl World for Threads {
    type K = Linux;

    fn run<R, F>(&mut self, task: usize, work: F) -> Option<R>
    where
        R: Send + 'static,
        F: FnOnce(&Linux) -> R + Send + 'static,
    {
        let (answer, answered) = channel();
        let work = Box::new(move || drop(answer.send(work(&Linux))));
        self.task(task).work.send(work).ok()?;
        answered.recv_timeout(LIMIT).ok()
    }

    fn personality(&mut self, task: usize, ring: i32) -> Option<Result<u32, Errno>> {
        self.run(task, move |_| register_personality(ring))
    }

    fn end_task(&mut self, task: usize) -> bool {
        let Some(Task { work, thread }) = self.tasks.remove(&task) else { return true };
        self.ended.push(task);
        drop(work);
        let deadline = Instant::now() + LIMIT;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_micros(200));
        }
        thread.is_finished() && thread.join().is_ok()
    }

    fn is_alive(&self, task: usize) -> bool {
        self.tasks.contains_key(&task)
    }

    fn sleep(&mut self, time: Duration) {
        Linux.sleep(time);
    }

    fn now(&mut self) -> Duration {
        self.begun.elapsed()
    }

    fn client(&mut self, client: usize, device: u32, wish: Wish) {
        let answer = self.answer.clone();
        let (held, release) = channel();
        self.held.push(held);
        let seen = Arc::new(Mutex::new(None));
        self.clients.insert(client, Arc::clone(&seen));
        let life = move || {
            let task = rustix::thread::gettid().as_raw_nonzero();
            *seen.lock().unwrap() = Some(format!("/proc/self/task/{task}/syscall"));
            let done = ask(device, wish);
            let (text, disk) = match done {
                Ok((answer, disk)) => (answer, Some(disk)),
                Err(answer) => (answer, None),
            };
            if wish.what != What::Hold {
                drop(disk);
                let _ = answer.send((client, text));
                return;
            }
            let _ = answer.send((client, text));
            let _ = release.recv(); // until nobody can send any more
            drop(disk);
        };
        std::thread::Builder::new().name(format!("client {client}")).spawn(life).unwrap();
    }

    fn clients_wait(&mut self) -> bool {
        let waits = |seen: &Arc<Mutex<Option<String>>>| {
            let Some(path) = seen.lock().unwrap().clone() else { return false };
            let call = std::fs::read_to_string(path).unwrap_or_default();
            // The call's number comes first; a thread that runs has none.
            let number = call.split(' ').next().and_then(|word| word.trim().parse().ok());
            number.is_some_and(|number| WAITS.contains(&number))
        };
        self.clients.values().all(waits)
    }

    fn let_go(&mut self) {
        self.held.clear();
    }

    fn answers(&mut self) -> Vec<(usize, Answer)> {
        let answers: Vec<_> = self.answers.try_iter().collect();
        answers.iter().for_each(|(client, _)| drop(self.clients.remove(client)));
        answers
    }
}

/// Asks the disk, on the CPU of the wished queue. The disk comes back with the answer.
fn ask(device: u32, wish: Wish) -> Result<(Answer, File), Answer> {
    let cpus =
        std::fs::read_to_string(format!("/sys/block/ublkb{device}/mq/{}/cpu_list", wish.queue));
    if let Some(cpu) = cpus.ok().and_then(|list| list.split(',').next()?.trim().parse().ok()) {
        let mut set = CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set).unwrap();
    }
    let path = format!("/dev/ublkb{device}");
    let disk = disk::try_open(&path, 0).map_err(|_| Answer::NoDisk)?;
    let offset = wish.sector * SECTOR_BYTES;
    let bytes = u64::from(wish.sectors) * SECTOR_BYTES;
    let zeroed = |flags| {
        rustix::fs::fallocate(disk.as_fd(), flags | FallocateFlags::KEEP_SIZE, offset, bytes)
            .map(|()| Vec::new())
            .map_err(std::io::Error::from)
    };
    let done = match wish.what {
        What::Read => disk::read_once(&disk, offset, bytes as usize),
        What::Write => {
            let data = vec![wish.byte; bytes as usize];
            disk::write_once(&disk, offset, &data).map(|_| Vec::new())
        }
        What::Flush => disk.sync_all().map(|()| Vec::new()),
        What::Zero => zeroed(FallocateFlags::ZERO_RANGE),
        What::PunchHole => zeroed(FallocateFlags::PUNCH_HOLE),
        What::Hold => Ok(Vec::new()),
        What::Discard => discard(&disk, offset, bytes).map(|()| Vec::new()),
    };
    let answer = match done {
        Ok(data) => Answer::Done(data),
        Err(error) => Answer::Failed(error.into()),
    };
    Ok((answer, disk))
}

fn register_personality(ring: i32) -> Result<u32, Errno> {
    let (op, nothing) = (IORING_REGISTER_PERSONALITY, std::ptr::null::<u8>());
    // SAFETY: the call reads no memory of ours.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_register, ring, op, nothing, 0) };
    u32::try_from(answer).map_err(|_| std::io::Error::last_os_error().into())
}

/// `BLKDISCARD`, of `linux/fs.h`.
const BLKDISCARD: libc::c_ulong = 0x1277;

fn discard(disk: &File, offset: u64, bytes: u64) -> std::io::Result<()> {
    let range = [offset, bytes];
    // SAFETY: the call reads both words of `range`, which outlives it, and nothing else.
    match unsafe { libc::ioctl(disk.as_raw_fd(), BLKDISCARD, range.as_ptr()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
