//! [`Offload`]: requests that are served on other threads.

use super::Target;
use crate::errno::Errno;
use crate::geometry::Geometry;
use crate::handler::{Completion, Handler, Io, Step};
use crate::needs::{Needs, QueueInfo};
use crate::request::{Operation, Request};
use crate::wake::Wakers;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Hands each request to the program, as a [`Job`] that any thread or runtime may answer later. The
/// queue's thread waits for nobody.
///
/// A job has its data with it: that of a write was copied for it, that of a read is copied from it.
/// Jobs' memory is used again, so that serving does not allocate once every slot has had one of the
/// largest.
///
/// ```
/// use std::sync::mpsc::channel;
/// use ublkit::sim::{Ask, Choices, Faults, Profile, Sim};
/// use ublkit::{Builder, Geometry, Job, Offload, Operation};
///
/// let (hand, jobs) = channel::<Job>();
/// let disk = Offload::new(Geometry::new(1 << 20), move |job| _ = hand.send(job));
///
/// // On a real kernel `serve(disk)`, and a thread that does the jobs.
/// let sim = Sim::new(Profile::NEWEST, Choices::first(), Faults::default());
/// let do_one = |byte: u8| {
///     let mut job = jobs.recv().unwrap();
///     assert_eq!(job.request().operation, Operation::Read);
///     job.data().fill(byte);
///     job.answer(Ok(()));
/// };
/// let server = Builder::new().features(ublkit::Features::NO_AUTO_PART_SCAN)
///     .serve_on(sim.task(), disk)?;
/// let asked = [1, 2].map(|sector| {
///     sim.ask(server.id(), 0, Ask::Read { offset: sector * 512, len_bytes: 512 }).unwrap()
/// });
/// sim.until_quiet(); // both are handed out
/// do_one(7);
/// do_one(8);
/// sim.until_answered();
/// let answers = asked.map(|number| sim.answer(number).unwrap().unwrap()[0]);
/// assert_eq!(answers, [7, 8]);
/// server.stop()?;
/// # Ok::<(), ublkit::Error>(())
/// ```
#[derive(Debug)]
pub struct Offload<D> {
    geometry: Geometry,
    hand_out: Arc<D>,
}

impl<D: Fn(Job) + Send + Sync + 'static> Offload<D> {
    /// A disk that looks like `geometry` and whose jobs go to `hand_out`, which is called on the
    /// queues' threads and must not block.
    pub fn new(geometry: Geometry, hand_out: D) -> Self {
        Self { geometry, hand_out: Arc::new(hand_out) }
    }
}

/// A request on its way through the program. Dropped without an answer it fails with `EIO`.
#[derive(Debug)]
pub struct Job {
    request: Request,
    data: Vec<u8>,
    /// What of `data` is the request's.
    len: usize,
    tag: u16,
    generation: u64,
    /// Whom to answer; none once it was.
    reply: Option<Reply>,
}

#[derive(Clone, Debug)]
struct Reply {
    done: SyncSender<Done>,
    wakers: Wakers,
    /// How many jobs each slot has had: the last of them is the one that it waits for.
    generations: Arc<[AtomicU64]>,
}

/// A job that comes back.
#[derive(Debug)]
struct Done {
    tag: u16,
    generation: u64,
    data: Vec<u8>,
    answer: Result<(), Errno>,
}

impl Job {
    /// What the client asks.
    pub fn request(&self) -> Request {
        self.request
    }

    /// The request's data: what a write brings, or what a read is to fill, which holds anything
    /// before. Empty for other operations.
    pub fn data(&mut self) -> &mut [u8] {
        &mut self.data[..self.len]
    }

    /// Answers the request.
    pub fn answer(mut self, answer: Result<(), Errno>) {
        self.reply_with(answer);
    }

    fn reply_with(&mut self, answer: Result<(), Errno>) {
        let Some(Reply { done, wakers, generations }) = self.reply.take() else { return };
        let (tag, generation) = (self.tag, self.generation);
        if generations[usize::from(tag)].load(Ordering::Relaxed) != generation {
            return; // too late: its request was answered, and its slot has another
        }
        let back = Done { tag, generation, data: std::mem::take(&mut self.data), answer };
        // There is room for one of each slot, and for as many that became too late just now.
        // Whoever listens no more has answered it himself.
        if done.try_send(back).is_ok() {
            wakers.wake(tag);
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.reply_with(Err(Errno::EIO));
    }
}

impl<D: Fn(Job) + Send + Sync + 'static> Target for Offload<D> {
    type Handler = OffloadQueue<D>;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn needs(&self) -> Needs {
        Needs { wakers: true, ..Needs::default() }
    }

    fn handler(&self, queue: &QueueInfo) -> Result<OffloadQueue<D>, Errno> {
        let (done, back) = sync_channel(2 * usize::from(queue.depth));
        let generations = (0..queue.depth).map(|_| AtomicU64::new(0)).collect();
        Ok(OffloadQueue {
            hand_out: Arc::clone(&self.hand_out),
            slots: (0..queue.depth)
                .map(|_| Slot::new(queue.max_io_bytes))
                .collect::<Result<_, _>>()?,
            reply: Reply { done, wakers: queue.wakers.clone(), generations },
            back,
        })
    }
}

/// Hands out the requests of one queue.
#[derive(Debug)]
pub struct OffloadQueue<D> {
    hand_out: Arc<D>,
    slots: Box<[Slot]>,
    reply: Reply,
    back: Receiver<Done>,
}

#[derive(Debug)]
struct Slot {
    /// The memory of its last job. Where that came too late, the next one has it made anew.
    data: Vec<u8>,
    answer: Option<Result<(), Errno>>,
}

impl Slot {
    /// With memory for any request, of which only what is touched is resident.
    fn new(max_io_bytes: u32) -> Result<Self, Errno> {
        let mut data = Vec::new();
        data.try_reserve_exact(max_io_bytes as usize).map_err(|_| Errno::ENOMEM)?;
        Ok(Self { data, answer: None })
    }
}

impl<D> OffloadQueue<D> {
    /// Takes the jobs that have come back.
    fn take_back(&mut self) {
        while let Ok(Done { tag, generation, data, answer }) = self.back.try_recv() {
            if self.reply.generations[usize::from(tag)].load(Ordering::Relaxed) == generation {
                let slot = &mut self.slots[usize::from(tag)];
                (slot.data, slot.answer) = (data, Some(answer));
            }
        }
    }
}

impl<D: Fn(Job) + Send + Sync + 'static> Handler for OffloadQueue<D> {
    fn start(&mut self, io: &mut Io<'_>) -> Step {
        self.take_back(); // so that there is room for this one
        let (tag, request) = (io.tag(), io.request());
        let slot = &mut self.slots[usize::from(tag)];
        slot.answer = None;
        let generations = &self.reply.generations;
        let generation = generations[usize::from(tag)].fetch_add(1, Ordering::Relaxed) + 1;
        let mut data = std::mem::take(&mut slot.data);
        let from = io.data();
        let len = from.len();
        if data.len() < len {
            data.resize(len, 0);
        }
        if let Operation::Write { .. } = request.operation {
            data[..len].copy_from_slice(from);
        }
        let reply = Some(self.reply.clone());
        (self.hand_out)(Job { request, data, len, tag, generation, reply });
        io.park(0);
        Step::Pending
    }

    fn resume(&mut self, io: &mut Io<'_>, _: Completion) -> Step {
        self.take_back();
        let slot = &mut self.slots[usize::from(io.tag())];
        let Some(answer) = slot.answer.take() else {
            io.park(0); // woken for a job that this slot had before
            return Step::Pending;
        };
        if answer.is_ok() && io.request().operation == Operation::Read {
            let to = io.data();
            to.copy_from_slice(&slot.data[..to.len()]);
        }
        Step::Done(answer)
    }
}
