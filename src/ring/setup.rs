//! Making a ring: the best flags first, fewer where the kernel refuses.

use super::mapped::Mapped;
use super::queues::{CompletionQueue, Entry, SubmissionQueue};
use super::{Ring, RingError, broken};
use crate::errno::Errno;
use crate::kernel::{Access, Kernel, Registration};
use std::sync::Arc;
use ublkit_sys::io_uring::{
    IORING_FEAT_EXT_ARG, IORING_FEAT_NODROP, IORING_FEAT_SINGLE_MMAP, IORING_FEAT_SUBMIT_STABLE,
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IORING_SETUP_COOP_TASKRUN, IORING_SETUP_CQSIZE,
    IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_NO_SQARRAY, IORING_SETUP_SINGLE_ISSUER,
    IORING_SETUP_SUBMIT_ALL, IORING_SETUP_TASKRUN_FLAG, io_uring_cqe, io_uring_params,
};

/// What a ring is for, and so how large it must be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RingPlan {
    /// SQEs that may be queued between two submissions.
    pub(crate) submissions: u32,
    /// CQEs that may be outstanding at one time.
    pub(crate) completions: u32,
    /// Whether only the task that makes the ring uses it, and always enters it to wait.
    pub(crate) one_task: bool,
    /// Whether the kernel shall say when it has work for that task, for one that does not sleep.
    pub(crate) tells: bool,
}

/// The flags of a ring for one task, best first. Each row leaves out what came latest:
/// `NO_SQARRAY` (6.6), `DEFER_TASKRUN` (6.1; `COOP_TASKRUN` from 5.19 stands in), `SINGLE_ISSUER`
/// (6.0). No kernel with ublk lacks those of the last row.
const ONE_TASK: &[u32] = &[
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_NO_SQARRAY,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN,
    IORING_SETUP_COOP_TASKRUN,
    0,
];

/// The flags of a ring that any task may use in turn.
const ANY_TASK: &[u32] = &[IORING_SETUP_NO_SQARRAY, 0];

/// What every kernel with ublk has, and this ring relies on.
const FEATURES: u32 =
    IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;

impl<K: Kernel, S: Entry> Ring<K, S> {
    /// Makes a ring for the calling task.
    pub(crate) fn new(kernel: K, plan: RingPlan) -> Result<Self, RingError> {
        let (file, params) = setup::<K, S>(&kernel, plan)?;
        if params.features & FEATURES != FEATURES {
            return Err(RingError::Impossible(broken::OLD));
        }
        if params.sq_entries < plan.submissions || params.cq_entries < plan.completions {
            return Err(RingError::Impossible(broken::SHORT));
        }
        let (sq, cq) = (&params.sq_off, &params.cq_off);
        let array_bytes = if params.flags & IORING_SETUP_NO_SQARRAY == 0 {
            u64::from(sq.array) + u64::from(params.sq_entries) * 4
        } else {
            0
        };
        let cqes_bytes =
            u64::from(cq.cqes) + u64::from(params.cq_entries) * size_of::<io_uring_cqe>() as u64;
        let indices = map(&kernel, &file, IORING_OFF_SQ_RING, array_bytes.max(cqes_bytes))?;
        let sqes_bytes = u64::from(params.sq_entries) * size_of::<S>() as u64;
        let sqes = map(&kernel, &file, IORING_OFF_SQES, sqes_bytes)?;
        let work = if plan.tells { Some(Mapped::locate(&indices, sq.flags, 1)?) } else { None };
        let sq = SubmissionQueue::new(&indices, &sqes, &params)?;
        let cq = CompletionQueue::new(&indices, &params)?;
        let registered = if plan.one_task {
            kernel.ring_register(&file, Registration::RingFd).ok()
        } else {
            None
        };
        Ok(Self { kernel, sq, cq, work, registered, file: Arc::new(file) })
    }
}

fn setup<K: Kernel, S: Entry>(
    kernel: &K,
    plan: RingPlan,
) -> Result<(K::File, io_uring_params), RingError> {
    let steps = if plan.one_task { ONE_TASK } else { ANY_TASK };
    let mut refused = Errno::EINVAL;
    for &flags in steps {
        let runs_when_asked = flags & (IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN) != 0;
        let tells = if plan.tells && runs_when_asked { IORING_SETUP_TASKRUN_FLAG } else { 0 };
        let flags = flags | tells | S::SETUP_FLAGS | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
        let mut params = io_uring_params {
            flags,
            cq_entries: plan.completions.max(plan.submissions),
            ..io_uring_params::default()
        };
        match kernel.ring_setup(plan.submissions, &mut params) {
            Ok(file) => return Ok((file, params)),
            Err(Errno::EINVAL) => refused = Errno::EINVAL, // an unknown flag: ask for less
            Err(errno) => return Err(RingError::Setup(errno)),
        }
    }
    Err(RingError::Setup(refused))
}

fn map<K: Kernel>(
    kernel: &K,
    file: &K::File,
    offset_bytes: u64,
    len_bytes: u64,
) -> Result<Arc<K::Mapping>, RingError> {
    let len_bytes = usize::try_from(len_bytes).map_err(|_| RingError::Map(Errno::ENOMEM))?;
    kernel
        .map(file, offset_bytes, len_bytes, Access::ReadWrite)
        .map(Arc::new)
        .map_err(RingError::Map)
}
