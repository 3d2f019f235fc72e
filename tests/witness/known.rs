//! What the simulation does not play, all of it: counted, and printed with its reason, here and in
//! `docs/testing.md`.
//!
//! Where a script shows it, a step is exempt with its answers, the kernel's and the simulation's,
//! so that nothing else may be said there; and a step that agrees is a failure as well.

use std::collections::BTreeSet;

/// Steps of a script that differ.
#[derive(Debug)]
pub struct NotModelled {
    /// Of which kernels.
    pub series: &'static [&'static str],
    pub script: &'static str,
    pub reason: &'static str,
    /// The step's number, the kernel's line, and what the simulation answers in its place.
    pub lines: &'static [(usize, &'static str, &'static str)],
}

/// Where a difference is in the lists: which list, which line.
pub fn find(
    series: &str,
    script: &str,
    (step, kernel, simulation): &(usize, String, String),
) -> Option<(usize, usize)> {
    let answer = simulation.split_once(" => ")?.1;
    let is_it = |line: &(usize, &str, &str)| *line == (*step, kernel.as_str(), answer);
    let lists = NOT_MODELLED.iter().enumerate();
    let mut lists = lists.filter(|(_, l)| l.series.contains(&series) && l.script == script);
    lists.find_map(|(place, list)| {
        let line = list.lines.iter().position(is_it)?;
        Some((place, line))
    })
}

const PART: &str =
    "which sectors are looked at for partitions: the simulation reads the first alone";

const UNUSED: &str = "IOPOLL, CQE32, entries of mixed sizes and SQ_REWIND: no server of this \
                      library sets up such a ring";

const DRAIN: &str = "SQEs that are drained (IOSQE_IO_DRAIN); the verdict tells";

/// All of them.
pub const NOT_MODELLED: &[NotModelled] = &[
    NotModelled {
        series: &["6.12", "7.3"],
        script: "control: START_DEV looks for partitions",
        reason: PART,
        lines: &[
            (8, "r1: commit 0.0 res=4096 b0 => 1 | #7=0 read 24+8 b0", "1 | #7=EBUSY"),
            (14, "end => #12=0 | #13=0 | #8=ENODEV", "#12=0 | #13=0 | #6=ENODEV"),
        ],
    },
    NotModelled {
        series: &["6.12"],
        script: "control: START_DEV looks for partitions",
        reason: PART,
        lines: &[
            (7, "r1: commit 0.0 res=4096 b0 => 1 | #6=0 read 8+8 b0", "1 | #4=0"),
            (9, "r1: commit 0.0 res=4096 b0 => 1 | #4=0", "1 | #8=EBUSY"),
        ],
    },
    NotModelled {
        series: &["7.3"],
        script: "control: START_DEV looks for partitions",
        reason: PART,
        lines: &[
            (7, "r1: commit 0.0 res=4096 b0 => 1 | #6=0 read 8+8 b0", "1"),
            (9, "r1: commit 0.0 res=4096 b0 => 1", "1 | #8=EBUSY"),
        ],
    },
    NotModelled {
        series: &["6.12", "7.3"],
        script: "ring: setup flags",
        reason: UNUSED,
        lines: &[
            (0, "t1 makes r1, 4 entries, flags 0x1 => ok", "EINVAL"),
            (16, "t1 makes r1, 4 entries, flags 0x800 => ok", "EINVAL"),
            (72, "t1 makes r1, 4 entries, flags 0xc00 => ok", "EINVAL"),
        ],
    },
    NotModelled {
        series: &["7.3"],
        script: "ring: setup flags",
        reason: UNUSED,
        lines: &[
            (26, "t1 makes r1, 4 entries, flags 0x40000 => ok", "EINVAL"),
            (28, "t1 makes r1, 4 entries, flags 0x80000 => ok", "EINVAL"),
            (74, "t1 makes r1, 4 entries, flags 0x110000 => ok", "EINVAL"),
            (76, "t1 makes r1, 4 entries, flags 0x20001 => ok", "EINVAL"),
        ],
    },
    NotModelled {
        series: &["6.12", "7.3"],
        script: "ring: SQEs that are refused",
        reason: DRAIN,
        lines: &[(11, "r1: nop flags=2 => 1 | #11=EOPNOTSUPP", "1 | #11=0")],
    },
];

/// Who learns of a gap that no script shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Who asks for it finds that in the verdict.
    ByVerdict,
    /// The kernel does it to a server that obeys, and nothing tells that it is missing.
    ByNobody,
    /// It is answered otherwise than by a kernel, and nothing tells.
    InAnswers,
}

impl Seen {
    pub fn words(self) -> &'static str {
        match self {
            Self::ByVerdict => "the verdict tells",
            Self::ByNobody => "nothing tells",
            Self::InAnswers => "answers differ, and nothing tells",
        }
    }
}

use Seen::{ByNobody, ByVerdict, InAnswers};

/// What no script shows.
pub const UNSHOWN: &[(&str, Seen)] = &[
    ("rings with SQPOLL, or another ring's workers (ATTACH_WQ)", ByVerdict),
    ("SQEs that are linked (IOSQE_IO_LINK, IOSQE_IO_HARDLINK)", ByVerdict),
    ("opcodes of SQEs that no server of this library sends", ByVerdict),
    (
        "transfers, syncs and the like of the simulation's own files, but for READ and WRITE of a \
         char device, with and without a request's pages",
        ByVerdict,
    ),
    ("transfers at a file's position", ByVerdict),
    ("flags of transfers other than RWF_DSYNC and RWF_SYNC", ByVerdict),
    ("syncs of a part of a file", ByVerdict),
    ("flags of cancellations", ByVerdict),
    ("zones: a device becomes live without a report of its zones", ByNobody),
    ("integrity: its data is refused", InAnswers),
    ("that a power cut takes back a file's size and holes", ByNobody),
    (
        "clients' requests that lie in a buffer of SHMEM_ZC: the simulation's clients have no \
         memory, and servers of this library refuse the feature",
        ByNobody,
    ),
    (
        "pages that REG_BUF cannot pin because of what they are (of a file system's file, of a \
         device), or for want of memory",
        InAnswers,
    ),
    (
        "pages of no file that are unmapped and mapped anew: REG_BUF takes them for the same",
        InAnswers,
    ),
    (
        "what the block layer says to parameters that the driver stored unseen: DMA_ALIGN, \
         SEGMENT and INTEGRITY of a zoned device, and some requests of less than a page",
        InAnswers,
    ),
    ("ublks_max: it is 64, and nobody changes it", InAnswers),
    (
        "6.12 loses requests that come to a ring while its thread, which lives on, closes it \
         ([protocol.md](protocol.md))",
        ByNobody,
    ),
    (
        "a server of an unprivileged device is killed when it has not answered a request for 30 s",
        ByNobody,
    ),
    (
        "a write in copy mode finds memory for a part of its data, and reaches the server shorter",
        ByNobody,
    ),
    ("clients' page cache: what is dirty when a disk is stopped", ByNobody),
    ("namespaces of processes, of users and of mounts", InAnswers),
    ("that 6.12 refuses some of many control commands under way at one time (EINVAL)", InAnswers),
    ("kernels that crash at a command ([protocol.md](protocol.md) has those known)", ByNobody),
    (
        "what the seam has no words for: registered buffers of a program's own memory, waits with \
         EXT_ARG_REG or ABS_TIMER",
        ByNobody,
    ),
    ("GET_DEV_INFO tells the pid -1 of a server that is gone", InAnswers),
    ("TRY_STOP_DEV keeps the disk from being opened from its check on", ByNobody),
    (
        "a ring's commands that block wait for a worker of io-wq when there are as many as may be",
        ByNobody,
    ),
    ("the FETCH of a batch ends with ENOBUFS when the CQ is full", ByVerdict),
    (
        "a task waits inside a call, as in a FETCH on 7.3 while a STOP_DEV has the device's mutex",
        ByNobody,
    ),
];

/// Why steps of scripts differ.
pub fn reasons() -> BTreeSet<&'static str> {
    NOT_MODELLED.iter().map(|list| list.reason).collect()
}

/// How many things are not played.
pub fn count() -> usize {
    reasons().len() + UNSHOWN.len()
}
