//! [`Builder`]: what a device shall be, and bringing it to life.

use super::server::{Manner, Plan, Server};
use crate::backend::Target;
use crate::control::{Control, DeviceInfo};
use crate::data_path::{DataPath, PathReason};
use crate::error::Error;
use crate::features::Features;
use crate::geometry::Geometry;
use crate::kernel::{Kernel, Linux};
use crate::memory::page_bytes;
use crate::needs::{Access, Needs};
use crate::queue::QueuePlan;
use crate::recovery::Recovery;
use core::time::Duration;
use ublkit_sys::ublk::{UBLK_MAX_NR_QUEUES, UBLK_MAX_QUEUE_DEPTH};

/// What a device needs to be served in batches.
fn batch_features(batches: bool) -> Features {
    if batches { Features::BATCH_IO } else { Features::empty() }
}

/// The largest request that can be chosen.
const MAX_IO_BYTES: u32 = 32 << 20;

/// The longest submission queue (`IORING_MAX_ENTRIES` in `io_uring.c`).
const MAX_RING_ENTRIES: u32 = 32768;

/// How many numbers there are for devices (`UBLK_MAX_UBLKS` in `ublk_drv.c`).
const MAX_IDS: u32 = 1 << 20;

/// What a device shall be.
///
/// ```no_run
/// use ublkit::{Blocking, Builder, Geometry, Memory};
///
/// let memory = Memory::new(Geometry::new(1 << 30))?;
/// let server = Builder::new().queues(2).serve(Blocking::new(memory))?;
/// println!("{}", server.block_path());
/// server.wait(); // until somebody stops it
/// server.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Builder {
    id: Option<u32>,
    queues: u16,
    depth: u16,
    max_io_bytes: u32,
    features: Features,
    data_path: Option<DataPath>,
    batches: Option<bool>,
    recovery: Recovery,
    tag: Option<u64>,
    timeout: Duration,
    manner: Manner,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A device with any number, one queue of 128 slots, and requests of up to 512 KiB.
    pub const fn new() -> Self {
        Self {
            id: None,
            queues: 1,
            depth: 128,
            max_io_bytes: 512 << 10,
            features: Features::empty(),
            data_path: None,
            batches: None,
            recovery: Recovery::None,
            tag: None,
            timeout: Duration::from_secs(30),
            manner: Manner {
                metered: false,
                request_timeout: None,
                spin: Duration::ZERO,
                pinned: false,
                threads_per_queue: 1,
            },
        }
    }

    /// The number N in `/dev/ublkbN`, below 2^20; without one the kernel chooses.
    #[must_use]
    pub const fn id(mut self, id: u32) -> Self {
        self.id = Some(id);
        self
    }

    /// How many queues, each with a thread or more: 1 to 4096. The kernel grants no more than there
    /// are CPUs.
    #[must_use]
    pub const fn queues(mut self, queues: u16) -> Self {
        self.queues = queues;
        self
    }

    /// How many requests each queue may have under way: 1 to 4096.
    #[must_use]
    pub const fn depth(mut self, depth: u16) -> Self {
        self.depth = depth;
        self
    }

    /// The largest read or write: a page to 32 MiB, rounded down to whole pages. Each slot has a
    /// buffer of that size, which takes memory only where it was used.
    #[must_use]
    pub const fn max_io_bytes(mut self, bytes: u32) -> Self {
        self.max_io_bytes = bytes;
        self
    }

    /// Features to ask for, of those that are [`SERVED`](Features::SERVED). The driver drops what
    /// it does not know; [`Server::info`] says what came of it. Those of a data path, of batches
    /// and of recovery are refused here: see [`data_path`](Self::data_path),
    /// [`batches`](Self::batches) and [`recovery`](Self::recovery).
    #[must_use]
    pub const fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// How data shall move. Without a wish it is the best that the kernel has for the target;
    /// [`Server::data_path`] says which.
    #[must_use]
    pub const fn data_path(mut self, path: DataPath) -> Self {
        self.data_path = Some(path);
        self
    }

    /// Whether one command shall answer and offer many slots (`BATCH_IO`, since 7.0), which is
    /// faster with many requests under way and slower with one. Without a wish it does not;
    /// [`Server::batches`] says what came of it.
    #[must_use]
    pub const fn batches(mut self, batches: bool) -> Self {
        self.batches = Some(batches);
        self
    }

    /// What shall become of the device when its server is gone. The kernel must have it.
    #[must_use]
    pub const fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }

    /// A word by which the device can be known again: the kernel keeps it, and does not look at it
    /// ([`DeviceInfo::server_word`]). Without one it is made from the process and the time.
    #[must_use]
    pub const fn tag(mut self, tag: u64) -> Self {
        self.tag = Some(tag);
        self
    }

    /// Whether each queue has a [`Meter`](crate::Meter), which others may read while it serves. Not
    /// unless asked for: it costs a little each time that a queue wakes up.
    #[must_use]
    pub const fn metered(mut self, metered: bool) -> Self {
        self.manner.metered = metered;
        self
    }

    /// How long starting and stopping may take, 30 seconds unless said otherwise.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long a request may wait once its handler has returned [`Step::Pending`]: for operations,
    /// for wakers. It is answered with `ETIMEDOUT` then. Without one it may wait for ever.
    ///
    /// Operations are cancelled first; one that the kernel does not end within half a second is
    /// left behind, with the memory that it uses, and the slot goes on in other memory. Such a
    /// write may still reach its file later, over what a client wrote since: whoever gets
    /// `ETIMEDOUT` for a write cannot know. On [`DataPath::ZeroCopy`] such an operation has the
    /// client's own memory, and the client waits until it ends.
    ///
    /// For a handler that does not return there is [`Watchdog`](crate::Watchdog).
    ///
    /// [`Step::Pending`]: crate::Step::Pending
    #[must_use]
    pub const fn request_timeout(mut self, timeout: Duration) -> Self {
        self.manner.request_timeout = Some(timeout);
        self
    }

    /// How long each queue's thread looks for requests before it sleeps, at the most; not at all
    /// unless said otherwise.
    ///
    /// To be woken costs more than many a request. A client that sends its next request soon after
    /// an answer is served faster by a thread that does not sleep meanwhile, and that thread uses
    /// up to a whole CPU. It gives way to whoever else wants the CPU, and one that looked in vain
    /// sleeps twice as often before it looks again, up to a thousand times. While an operation of a
    /// request is under way, a delay included, it does not look: who works at it may want the CPU.
    /// A parked request does not keep it from that.
    #[must_use]
    pub const fn spin(mut self, most: Duration) -> Self {
        self.manner.spin = most;
        self
    }

    /// Whether each queue's threads stay on the CPUs whose requests the queue gets, as the driver
    /// says (`GET_QUEUE_AFFINITY`); otherwise the scheduler has them run anywhere. A process that
    /// may use none of those CPUs gets [`QueueError::Cpus`](crate::QueueError::Cpus).
    #[must_use]
    pub const fn pinned(mut self, pinned: bool) -> Self {
        self.manner.pinned = pinned;
        self
    }

    /// How many threads serve each queue, one unless said otherwise: each has its share of the
    /// queue's slots, a ring, and a handler of the target's. Where requests take the server long,
    /// those of one CPU are not served one after another then. Since 6.16, not in batches.
    #[must_use]
    pub const fn threads_per_queue(mut self, threads: u16) -> Self {
        self.manner.threads_per_queue = threads;
        self
    }

    /// Makes the device on the running kernel and serves `target` until it is stopped.
    ///
    /// Returns once the block device is there. Blocks for the timeout at the most; when it fails,
    /// for the timeout once more and half a minute at the most, until what was begun is undone.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] before anything is tried; [`Error::Open`], [`Error::Command`],
    /// [`Error::Queue`], [`Error::Timeout`] and [`Error::Thread`] from the step that failed.
    pub fn serve<T: Target>(&self, target: T) -> Result<Server<Linux>, Error> {
        self.serve_on(Linux, target)
    }

    /// The same on any kernel.
    pub fn serve_on<K: Kernel, T: Target>(&self, kernel: K, target: T) -> Result<Server<K>, Error> {
        let geometry = target.geometry();
        let needs = target.needs();
        geometry.check().and_then(|()| self.check()).map_err(Error::Refused)?;
        let mut control = Control::open(kernel)?;
        let (path, reason, features) = self.choose(&mut control, &needs)?;
        let insists = self.data_path.is_some() || self.batches.is_some();
        // The driver keeps this word and does not look at it: by it we know our device again.
        let begun_ns = u64::try_from(control.kernel().now().as_nanos()).unwrap_or(u64::MAX);
        let own = u64::from(control.kernel().process()).rotate_right(16) ^ begun_ns;
        let server_word = self.tag.unwrap_or(own);
        let wish = DeviceInfo {
            id: self.id,
            features,
            server_word,
            ..DeviceInfo::wish(self.queues, self.depth, self.max_io_bytes)
        };
        let plan = Plan { reason, ..self.plan(geometry, needs) };
        Server::start(control, &wish, plan, (path, insists), target)
    }

    /// Serves `target` as the disk of device `id`, whose server is gone, until it is stopped.
    ///
    /// The device was made with a [`Recovery`], and is as it was made: of this builder only the
    /// timeouts count, whether there are meters, how many threads, and where, and how they wait.
    /// Its old server must be gone from the kernel, which is waited for.
    ///
    /// Blocks for the timeout at the most; when it fails, for ten seconds more. The device then
    /// waits for a server as before: it can be recovered or deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: the device cannot be recovered, or is not such a disk.
    /// [`Error::Command`] with `EBUSY`: its old server is still there. Others as of
    /// [`serve`](Self::serve).
    pub fn recover<T: Target>(&self, id: u32, target: T) -> Result<Server<Linux>, Error> {
        self.recover_on(Linux, id, target)
    }

    /// The same on any kernel.
    pub fn recover_on<K: Kernel, T: Target>(
        &self,
        kernel: K,
        id: u32,
        target: T,
    ) -> Result<Server<K>, Error> {
        let (geometry, needs) = (target.geometry(), target.needs());
        geometry.check().map_err(Error::Refused)?;
        let plan = self.plan(geometry, needs);
        Server::recover(Control::open(kernel)?, id, plan, target)
    }

    fn plan(&self, geometry: Geometry, needs: Needs) -> Plan {
        let (timeout, manner, reason) = (self.timeout, self.manner, PathReason::Made);
        Plan { geometry, needs, timeout, manner, reason }
    }

    /// The data path to take, `Copy` without asking where nothing else can be, and why; and all
    /// features to ask for.
    fn choose<K: Kernel>(
        &self,
        control: &mut Control<K>,
        needs: &Needs,
    ) -> Result<(DataPath, PathReason, Features), Error> {
        let (access, wanted) = (needs.access, self.data_path.or(needs.data_path));
        let Manner { threads_per_queue: threads, request_timeout, .. } = self.manner;
        let asks = wanted.map_or(access != Access::Slices, |path| path != DataPath::Copy)
            || self.batches == Some(true)
            || threads > 1
            || self.recovery != Recovery::None;
        // Before 6.5 nobody can ask; then there is nothing to choose from.
        let asked = if asks { control.features()? } else { None };
        let offered = match self.features.contains(Features::UNPRIVILEGED_DEV) {
            true => asked.unwrap_or_default() - Features::PRIVILEGED,
            false => asked.unwrap_or_default(),
        };
        let path = DataPath::choose(wanted, access, self.batches, offered);
        let path = path.map_err(Error::Refused)?;
        let reason = match path.reason(wanted, access, self.batches, offered) {
            PathReason::Lacking(better, _)
                if asked.is_some_and(|all| all.contains(better.features())) =>
            {
                PathReason::Unprivileged(better)
            }
            reason => reason,
        };
        let batches = path.batches(self.batches, self.depth, offered).map_err(Error::Refused)?;
        let batches = batch_features(batches);
        check_threads(threads, self.depth, (offered - Features::BATCH_IO) | batches)
            .map_err(Error::Refused)?;
        let slots = self.depth.div_ceil(threads);
        check_ring(slots, path, needs, request_timeout.is_some()).map_err(Error::Refused)?;
        let recovery = self.recovery.choose(offered).map_err(Error::Refused)?;
        Ok((path, reason, self.features | path.features() | batches | recovery))
    }

    fn check(&self) -> Result<(), String> {
        let within = |what: &str, value: u16, most: u16| {
            if (1..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("{value} {what} cannot be: choose 1 to {most}"))
        };
        within("queues", self.queues, UBLK_MAX_NR_QUEUES)?;
        within("slots in a queue", self.depth, UBLK_MAX_QUEUE_DEPTH)?;
        if !(page_bytes()..=MAX_IO_BYTES as usize).contains(&(self.max_io_bytes as usize)) {
            return Err(format!(
                "requests of up to {} bytes cannot be: choose {} to {MAX_IO_BYTES}",
                self.max_io_bytes,
                page_bytes()
            ));
        }
        if let Some(id) = self.id.filter(|id| *id >= MAX_IDS) {
            return Err(format!("a device cannot have number {id}: choose 0 to {}", MAX_IDS - 1));
        }
        let of_a_path = self.features & (DataPath::any_features() | Features::BATCH_IO);
        if !of_a_path.is_empty() {
            return Err(format!(
                "{of_a_path} belongs to a data path, or to batches: choose that instead"
            ));
        }
        let of_recovery = self.features & Recovery::any_features();
        if !of_recovery.is_empty() {
            return Err(format!("{of_recovery} belongs to recovery: choose that instead"));
        }
        let unserved = self.features - Features::SERVED;
        if !unserved.is_empty() {
            return Err(format!(
                "this version of ublkit does not serve {unserved}: leave that out"
            ));
        }
        Ok(())
    }
}

/// Whether each queue of a device with these features can have so many threads.
pub(super) fn check_threads(threads: u16, depth: u16, features: Features) -> Result<(), String> {
    let cannot = |why: String| Err(format!("{threads} threads for a queue cannot be: {why}"));
    if !(1..=depth).contains(&threads) {
        return cannot(format!("choose 1 to {depth}, for it has {depth} slots"));
    }
    if threads == 1 {
        return Ok(());
    }
    if features.contains(Features::BATCH_IO) {
        return cannot("in batches there is one: choose 1, or leave batches out".into());
    }
    if !features.contains(Features::PER_IO_DAEMON) {
        return cannot(
            "this kernel's driver lacks PER_IO_DAEMON, which is there since 6.16: choose 1".into(),
        );
    }
    Ok(())
}

/// Whether a ring can have all entries that a thread with so many slots needs.
pub(super) fn check_ring(
    slots: u16,
    path: DataPath,
    needs: &Needs,
    gives_up: bool,
) -> Result<(), String> {
    let entries = QueuePlan::<()>::ring_entries(slots, path, needs.operations, gives_up);
    if entries > MAX_RING_ENTRIES {
        return Err(format!(
            "{slots} slots of {} operations each cannot be: a ring has {MAX_RING_ENTRIES} entries; \
             choose a smaller depth",
            needs.operations
        ));
    }
    Ok(())
}
