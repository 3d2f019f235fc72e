//! `io_uring_setup`: which flags go together, and the memory of a ring.

use super::{
    CQ_ENTRIES, CQ_FLAGS, CQ_HEAD, CQ_MASK, CQ_OVERFLOW, CQ_TAIL, CQES, Ring, SQ_DROPPED,
    SQ_ENTRIES, SQ_FLAGS, SQ_HEAD, SQ_MASK, SQ_TAIL,
};
use crate::errno::Errno;
use crate::sim::user::Pages;
use crate::sim::world::{Audit, FileId, Kind, World};
use core::sync::atomic::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use ublkit_sys::io_uring::*;

const MAX_SQ_ENTRIES: u32 = 32768;
const MAX_CQ_ENTRIES: u32 = 65536;

/// Flags that this simulation plays.
const PLAYED: u32 = IORING_SETUP_CQSIZE
    | IORING_SETUP_CLAMP
    | IORING_SETUP_R_DISABLED
    | IORING_SETUP_SUBMIT_ALL
    | IORING_SETUP_COOP_TASKRUN
    | IORING_SETUP_TASKRUN_FLAG
    | IORING_SETUP_SQE128
    | IORING_SETUP_SINGLE_ISSUER
    | IORING_SETUP_DEFER_TASKRUN
    | IORING_SETUP_NO_SQARRAY;

/// All flags that some kernel knows.
const KNOWN: u32 = (IORING_SETUP_SQ_REWIND << 1) - 1;

const FEATURES: u32 = IORING_FEAT_SINGLE_MMAP
    | IORING_FEAT_NODROP
    | IORING_FEAT_SUBMIT_STABLE
    | IORING_FEAT_RW_CUR_POS
    | IORING_FEAT_CUR_PERSONALITY
    | IORING_FEAT_FAST_POLL
    | IORING_FEAT_EXT_ARG
    | IORING_FEAT_NATIVE_WORKERS
    | IORING_FEAT_RSRC_TAGS
    | IORING_FEAT_CQE_SKIP;

/// Where the index array of the submission queue begins.
pub(super) fn array_offset(cq_entries: u32) -> usize {
    CQES + cq_entries as usize * size_of::<io_uring_cqe>()
}

/// How long both queues are, or why they cannot be.
fn lengths(entries: u32, params: &io_uring_params) -> Result<(u32, u32), Errno> {
    let clamps = params.flags & IORING_SETUP_CLAMP != 0;
    let fit = |entries: u32, most: u32| match entries {
        0 => Err(Errno::EINVAL),
        entries if entries <= most => Ok(entries.next_power_of_two()),
        _ if clamps => Ok(most),
        _ => Err(Errno::EINVAL),
    };
    let sq = fit(entries, MAX_SQ_ENTRIES)?;
    if params.flags & IORING_SETUP_CQSIZE == 0 {
        return Ok((sq, sq * 2));
    }
    let cq = fit(params.cq_entries, MAX_CQ_ENTRIES)?;
    if cq < sq { Err(Errno::EINVAL) } else { Ok((sq, cq)) }
}

/// Whether flags go together.
fn go_together(flags: u32) -> bool {
    let has = |flag| flags & flag != 0;
    let runs_when_asked = has(IORING_SETUP_COOP_TASKRUN) || has(IORING_SETUP_DEFER_TASKRUN);
    (!has(IORING_SETUP_TASKRUN_FLAG) || runs_when_asked)
        && (!has(IORING_SETUP_DEFER_TASKRUN) || has(IORING_SETUP_SINGLE_ISSUER))
}

impl World {
    /// Makes a ring for `task`; fills `params`.
    pub(in crate::sim) fn ring_setup(
        &mut self,
        task: usize,
        entries: u32,
        params: &mut io_uring_params,
    ) -> Result<FileId, Errno> {
        let flags = params.flags;
        if params.resv != [0; 3] || flags & (!KNOWN | self.faults.unknown_setup_flags) != 0 {
            return Err(Errno::EINVAL);
        }
        if flags & !PLAYED != 0 {
            let line = format!("io_uring_setup with flags {flags:#x}");
            Audit::note(&mut self.audit.unmodelled, line);
            return Err(Errno::EINVAL);
        }
        if !go_together(flags) {
            return Err(Errno::EINVAL);
        }
        let (sq_entries, cq_entries) = lengths(entries, params)?;
        let sqe_bytes = if flags & IORING_SETUP_SQE128 != 0 {
            size_of::<io_uring_sqe128>()
        } else {
            size_of::<io_uring_sqe>()
        };
        let has_array = flags & IORING_SETUP_NO_SQARRAY == 0;
        let array = array_offset(cq_entries);
        let indices_bytes = array + if has_array { sq_entries as usize * 4 } else { 0 };
        let indices = Pages::new(indices_bytes);
        let first = 0_u32.wrapping_sub(self.faults.indices_before_wrap);
        for offset in [SQ_HEAD, SQ_TAIL, CQ_HEAD, CQ_TAIL] {
            indices.word(offset).store(first, Ordering::Relaxed);
        }
        for (offset, value) in [
            (SQ_MASK, sq_entries - 1),
            (SQ_ENTRIES, sq_entries),
            (CQ_MASK, cq_entries - 1),
            (CQ_ENTRIES, cq_entries),
        ] {
            indices.word(offset).store(value, Ordering::Relaxed);
        }
        let offset = |offset: usize| u32::try_from(offset).expect("a small page");
        params.sq_entries = sq_entries;
        params.cq_entries = cq_entries;
        params.features = FEATURES;
        params.sq_off = io_sqring_offsets {
            head: offset(SQ_HEAD),
            tail: offset(SQ_TAIL),
            ring_mask: offset(SQ_MASK),
            ring_entries: offset(SQ_ENTRIES),
            flags: offset(SQ_FLAGS),
            dropped: offset(SQ_DROPPED),
            array: if has_array { offset(array) } else { 0 },
            ..io_sqring_offsets::default()
        };
        params.cq_off = io_cqring_offsets {
            head: offset(CQ_HEAD),
            tail: offset(CQ_TAIL),
            ring_mask: offset(CQ_MASK),
            ring_entries: offset(CQ_ENTRIES),
            overflow: offset(CQ_OVERFLOW),
            cqes: offset(CQES),
            flags: offset(CQ_FLAGS),
            ..io_cqring_offsets::default()
        };
        let disabled = flags & IORING_SETUP_R_DISABLED != 0;
        let single = flags & IORING_SETUP_SINGLE_ISSUER != 0;
        let ring = Ring {
            flags,
            issuer: (single && !disabled).then_some(task),
            owner: task,
            disabled,
            sq_entries,
            cq_entries,
            sqe_bytes,
            indices: Arc::new(indices),
            sqes: Arc::new(Pages::new(sq_entries as usize * sqe_bytes)),
            sq_head: first,
            cq_tail: first,
            overflow: VecDeque::new(),
            work: VecDeque::new(),
            fixed: None,
            personalities: Vec::new(),
            table: None,
            groups: BTreeMap::new(),
            timeouts: Vec::new(),
            stuck: Vec::new(),
            polls: Vec::new(),
            operations: BTreeMap::new(),
            next_operation: 0,
            brought: 0,
        };
        self.tasks[task].has_rings = true;
        let process = self.tasks[task].process;
        Ok(self.open_file(process, Kind::Ring(Box::new(ring))))
    }

    /// What `mmap` of a ring gives: its indices, or its SQEs.
    pub(in crate::sim) fn map_ring(
        &mut self,
        id: FileId,
        offset_bytes: u64,
        len_bytes: usize,
    ) -> Result<Arc<Pages>, Errno> {
        let ring = self.ring(id).ok_or(Errno::ENODEV)?;
        let pages = match offset_bytes & IORING_OFF_MMAP_MASK {
            IORING_OFF_SQ_RING | IORING_OFF_CQ_RING => Arc::clone(&ring.indices),
            IORING_OFF_SQES => Arc::clone(&ring.sqes),
            IORING_OFF_PBUF_RING => self.provided(id, offset_bytes).ok_or(Errno::EINVAL)?,
            _ => return Err(Errno::EINVAL),
        };
        if len_bytes == 0 || len_bytes > pages.len_bytes() {
            return Err(Errno::EINVAL);
        }
        Ok(pages)
    }
}
