//! Making a ring, submitting and waiting: what a kernel is asked, call by call, and what comes of
//! its answers.
#![expect(unsafe_code, reason = "a seam is an unsafe trait; docs/safety.md, in tests")]

use super::{Fake, fake, params};
use crate::errno::Errno;
use crate::kernel::{Access, Destination, Kernel, Registration, RingName, Source};
use crate::ring::{FileName, Ring, RingError, RingPlan, Sqe, Sqe128};
use core::ffi::CStr;
use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use ublkit_sys::io_uring::{
    IORING_FEAT_EXT_ARG, IORING_FEAT_NODROP, IORING_FEAT_SINGLE_MMAP, IORING_FEAT_SUBMIT_STABLE,
    io_uring_params,
};

const MS: Duration = Duration::from_millis(1);

/// What the kernel was asked.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    Setup { entries: u32, flags: u32, cq_entries: u32 },
    Enter { submitted: u32, wanted: u32, timeout: Option<Duration> },
    Register(String),
    Sleep(Duration),
}

/// What it answers, and what it was asked.
#[derive(Debug, Default)]
struct Script {
    /// To `io_uring_setup`, until it takes what it is asked.
    setups: VecDeque<Errno>,
    /// What it lacks of the features.
    lacks: u32,
    /// To `io_uring_enter`; after these it takes all that there is.
    enters: VecDeque<Result<u32, Errno>>,
    /// How many bytes its mappings have at the most, if it cuts them.
    most_bytes: Option<usize>,
    now: Duration,
    calls: Vec<Call>,
}

/// A kernel that answers as it is told and completes nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Played(Arc<Mutex<Script>>);

impl Played {
    /// One that maps less than it is asked for.
    pub(crate) fn that_maps(most_bytes: usize) -> Self {
        let kernel = Self::default();
        kernel.script().most_bytes = Some(most_bytes);
        kernel
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    /// How many SQEs and CQEs the ring was to have that was asked for last.
    pub(crate) fn entries(&self) -> Option<(u32, u32)> {
        let entries = |call: &Call| match call {
            Call::Setup { entries, cq_entries, .. } => Some((*entries, *cq_entries)),
            _ => None,
        };
        self.script().calls.iter().rev().find_map(entries)
    }

    /// What was asked since the last time.
    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.script().calls)
    }
}

/// What the answered ring has: four entries.
const ENTRIES: u32 = 4;

// SAFETY: mappings are pages that live as long as they do; no memory is touched by address.
unsafe impl Kernel for Played {
    type File = i32;
    type Mapping = Fake;
    type Thread = ();

    fn task(&self) -> Self {
        self.clone()
    }

    fn spawn<W: FnOnce(Self) + Send + 'static>(&self, _: String, _: W) -> Result<(), Errno> {
        Err(Errno::EAGAIN)
    }

    fn join(&self, (): &mut (), _: Duration) -> bool {
        true
    }

    fn process(&self) -> u32 {
        1
    }

    fn open(&self, _: &CStr) -> Result<i32, Errno> {
        Err(Errno::ENOENT)
    }

    fn event(&self) -> Result<i32, Errno> {
        Err(Errno::EMFILE)
    }

    fn signal(&self, _: &i32) {}

    fn clear(&self, _: &i32) {}

    fn wait(&self, _: &i32, _: Option<Duration>) -> bool {
        false
    }

    fn ring_setup(&self, entries: u32, asked: &mut io_uring_params) -> Result<i32, Errno> {
        let mut script = self.script();
        let io_uring_params { flags, cq_entries, .. } = *asked;
        script.calls.push(Call::Setup { entries, flags, cq_entries });
        if let Some(errno) = script.setups.pop_front() {
            return Err(errno);
        }
        *asked = io_uring_params { flags, features: !script.lacks, ..params(ENTRIES) };
        asked.sq_off.array = 1024;
        Ok(9)
    }

    fn ring_enter(
        &self,
        _: RingName<'_, i32>,
        submitted: u32,
        wanted: u32,
        _: u32,
        timeout: Option<Duration>,
    ) -> Result<u32, Errno> {
        let mut script = self.script();
        script.calls.push(Call::Enter { submitted, wanted, timeout });
        assert!(script.calls.len() < 1000, "it goes on and on");
        let answer = script.enters.pop_front().unwrap_or(Ok(submitted));
        if answer == Err(Errno::ETIME) {
            script.now += timeout.unwrap_or_default();
        }
        answer
    }

    fn ring_register(&self, _: &i32, what: Registration<'_>) -> Result<u32, Errno> {
        self.script().calls.push(Call::Register(format!("{what:?}")));
        Ok(5)
    }

    fn map(&self, _: &i32, _: u64, len_bytes: usize, _: Access) -> Result<Fake, Errno> {
        let most_bytes = self.script().most_bytes.unwrap_or(len_bytes);
        Arc::try_unwrap(fake(len_bytes.min(most_bytes))).map_err(|_| Errno::ENOMEM)
    }

    fn read_at(&self, _: &i32, _: Destination<'_>, _: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn write_at(&self, _: &i32, _: Source<'_>, _: u64) -> Result<usize, Errno> {
        Err(Errno::EINVAL)
    }

    fn serves_a_disk(&self) {}

    fn runs_on(&self, _: &[u32]) -> Result<(), Errno> {
        Ok(())
    }

    fn number(&self, file: &i32) -> i32 {
        *file
    }

    fn now(&self) -> Duration {
        self.script().now
    }

    fn sleep(&self, time: Duration) {
        let mut script = self.script();
        script.now += time;
        script.calls.push(Call::Sleep(time));
    }

    fn give_way(&self) {
        self.script().now += Duration::from_micros(1);
    }
}

fn plan(one_task: bool) -> RingPlan {
    RingPlan { submissions: 3, completions: 4, one_task, tells: false }
}

/// A ring with so many SQEs queued; what it took to make it is forgotten.
fn ring(kernel: &Played, queued: u64) -> Ring<Played, Sqe> {
    let mut ring = Ring::new(kernel.clone(), plan(false)).unwrap();
    for id in 0..queued {
        ring.submissions().push(Sqe::poll_readable(FileName::Number(3), id)).unwrap();
    }
    kernel.calls();
    ring
}

/// The flags asked for, one after the other, by a ring that is always refused.
fn flags(calls: &[Call]) -> Vec<u32> {
    let flags = |call: &Call| match call {
        Call::Setup { entries: 3, flags, cq_entries: 4 } => *flags,
        other => panic!("{other:?}"),
    };
    calls.iter().map(flags).collect()
}

/// Numbers of the header, on purpose: `SUBMIT_ALL` and `CQSIZE` always, then of `NO_SQARRAY`,
/// `DEFER_TASKRUN`, `SINGLE_ISSUER` and `COOP_TASKRUN` as many as there may be.
#[test]
fn the_best_flags_are_asked_for_first() {
    const ALWAYS: u32 = 1 << 7 | 1 << 3;
    let kernel = Played::default();
    kernel.script().setups = [Errno::EINVAL; 5].into();
    let refused = Ring::<_, Sqe>::new(kernel.clone(), plan(true)).err();
    assert_eq!(refused, Some(RingError::Setup(Errno::EINVAL)));
    let best = [1 << 16 | 1 << 13 | 1 << 12, 1 << 13 | 1 << 12, 1 << 12 | 1 << 8, 1 << 8, 0];
    assert_eq!(flags(&kernel.calls()), best.map(|flags| flags | ALWAYS));

    // With `TASKRUN_FLAG`, where work waits for the task to ask.
    kernel.script().setups = [Errno::EINVAL; 5].into();
    let tells = RingPlan { tells: true, ..plan(true) };
    assert!(Ring::<_, Sqe>::new(kernel.clone(), tells).is_err());
    let telling = best.map(|flags| flags | if flags == 0 { 0 } else { 1 << 9 } | ALWAYS);
    assert_eq!(flags(&kernel.calls()), telling);

    kernel.script().setups = [Errno::EINVAL; 2].into();
    assert!(Ring::<_, Sqe128>::new(kernel.clone(), plan(false)).is_err());
    assert_eq!(flags(&kernel.calls()), [1 << 16, 0].map(|flags| flags | 1 << 10 | ALWAYS));

    kernel.script().setups = [Errno::EPERM].into();
    let forbidden = Ring::<_, Sqe>::new(kernel.clone(), plan(true)).err();
    assert_eq!(forbidden, Some(RingError::Setup(Errno::EPERM)), "fewer flags would not help");
    assert_eq!(kernel.calls().len(), 1);
}

#[test]
fn a_ring_without_what_it_relies_on_is_refused() {
    let needs = [
        IORING_FEAT_SINGLE_MMAP,
        IORING_FEAT_NODROP,
        IORING_FEAT_SUBMIT_STABLE,
        IORING_FEAT_EXT_ARG,
    ];
    let lacking = |lacks| {
        let kernel = Played::default();
        kernel.script().lacks = lacks;
        Ring::<_, Sqe>::new(kernel, plan(true)).err()
    };
    for feature in needs {
        assert!(matches!(lacking(feature), Some(RingError::Impossible(_))), "{feature:#x}");
    }
    let others = needs.iter().fold(u32::MAX, |others, feature| others & !feature);
    assert_eq!(lacking(others), None, "it relies on no more");
    for (submissions, completions) in [(ENTRIES + 1, 1), (1, ENTRIES + 1)] {
        let long = RingPlan { submissions, completions, one_task: true, tells: false };
        let short = Ring::<_, Sqe>::new(Played::default(), long).err();
        assert!(matches!(short, Some(RingError::Impossible(_))), "{short:?}");
    }
}

#[test]
fn what_is_registered_is_given_back() {
    let kernel = Played::default();
    let mut ring = Ring::<_, Sqe>::new(kernel.clone(), plan(true)).unwrap();
    assert_eq!(&*ring.fix_files(&[7, 8]), [FileName::Fixed(0), FileName::Fixed(1)]);
    ring.make_table(4);
    ring.allow_blocking(16);
    drop(ring);
    let said = ["RingFd", "Files([7, 8])", "Buffers(4)", "MaxWorkers(16)", "UnregisterRingFd(5)"];
    assert_eq!(kernel.calls()[1..], said.map(|what| Call::Register(what.into())));
}

#[test]
fn a_kernel_without_progress_starves_a_ring() {
    // EAGAIN, or nothing taken of something.
    for answer in [Err(Errno::EAGAIN), Err(Errno::EBUSY), Err(Errno::ENOMEM), Ok(0)] {
        let kernel = Played::default();
        let mut ring = ring(&kernel, 1);
        let starved = RingError::Starved(answer.err().unwrap_or(Errno::EAGAIN));
        kernel.script().enters = [answer; 100].into();
        assert_eq!(ring.submit(), Err(starved));
        let pauses = kernel.calls().iter().filter(|call| **call == Call::Sleep(MS)).count();
        assert_eq!(pauses, 99);
        // 99 tries are not too many, and any progress makes them forgotten.
        kernel.script().enters = [answer; 99].into();
        assert_eq!(ring.submit(), Ok(()));
        assert_eq!(ring.taken(), 1);
    }
}

#[test]
fn all_is_submitted_and_nothing_waited_for() {
    let kernel = Played::default();
    let mut ring = ring(&kernel, 3);
    kernel.script().enters = [Ok(1), Err(Errno::EINTR), Ok(2)].into();
    ring.submit().unwrap();
    let enter = |submitted| Call::Enter { submitted, wanted: 0, timeout: None };
    assert_eq!(kernel.calls(), [enter(3), enter(2), enter(2)]);
    ring.submit().unwrap();
    assert_eq!(kernel.calls(), [], "nothing is queued");
    kernel.script().enters = [Ok(2)].into();
    ring.submissions().push(Sqe::poll_readable(FileName::Number(3), 3)).unwrap();
    assert!(matches!(ring.submit(), Err(RingError::Impossible(_))), "it took more than one");
}

#[test]
fn a_wait_ends_at_its_deadline() {
    use crate::ring::enter::Woken;

    let kernel = Played::default();
    let mut ring = ring(&kernel, 2);
    let enter = |submitted, timeout| Call::Enter { submitted, wanted: 1, timeout: Some(timeout) };
    // Woken early, with nothing to submit: that is no lack of progress.
    kernel.script().enters = [Ok(1), Ok(1), Ok(0), Err(Errno::ETIME)].into();
    kernel.script().now = 5 * MS;
    assert_eq!(ring.wait(Some(8 * MS)), Ok(Woken::Deadline));
    let calls = [2, 1, 0, 0].map(|submitted| enter(submitted, 3 * MS));
    assert_eq!(kernel.calls(), calls);
    // A deadline in the past still submits everything.
    ring.submissions().push(Sqe::poll_readable(FileName::Number(3), 2)).unwrap();
    kernel.script().enters = [Err(Errno::EINTR)].into();
    assert_eq!(ring.wait(Some(MS)), Ok(Woken::Deadline));
    assert_eq!(kernel.calls(), [enter(1, Duration::ZERO), enter(1, Duration::ZERO)]);
}

/// However many come: a server is stopped and continued, debugged, profiled.
#[test]
fn signals_do_not_end_a_wait() {
    use crate::ring::enter::Woken;

    let kernel = Played::default();
    let mut ring = ring(&kernel, 0);
    kernel.script().enters = [Err(Errno::EINTR); 300].into();
    kernel.script().enters.push_back(Err(Errno::ETIME));
    assert_eq!(ring.wait(Some(8 * MS)), Ok(Woken::Deadline));
    assert_eq!(kernel.calls().len(), 301, "no pause, and no error");
}
