//! What the simulation does not play, step by step: counted, and printed with its reason.
//!
//! A step is exempt with its answers, the kernel's and the simulation's, so that nothing else may
//! be said there; and a step that agrees is a failure as well.

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

const PART: &str = "which sectors are looked at for partitions: only the first";

const UNUSED: &str = "IOPOLL, CQE32, entries of mixed sizes and SQ_REWIND: no server of this \
                      library sets up such a ring";

const DRAIN: &str = "IOSQE_IO_DRAIN is not played; the verdict says so";

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
