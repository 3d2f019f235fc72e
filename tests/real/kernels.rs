//! The committed table of kernels: what each lacks, and how many cases must run on it.

use ublkit::Features;

/// What a kernel does unlike the newest: docs/protocol.md tells of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// START_DEV and END_USER_RECOVERY do not ask who opened the char device.
    AnyOpener,
    /// START_DEV knows its server by the number that it has in the first PID namespace.
    FirstPids,
    /// SET_PARAMS takes a limit on requests that is below a page.
    TinyRequests,
    /// A write's short result, or data that found no room, is the whole of it.
    PartsAreWhole,
}

/// What is known of a series of kernels.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// Such as `6.12`.
    pub name: &'static str,
    /// Features that these kernels do not have, so that cases which need them do not run.
    pub absent: Features,
    /// What they do otherwise.
    pub quirks: &'static [Quirk],
    /// How many cases run at least, on those of them that the witness has no recordings of.
    pub cases: usize,
}

/// What 6.18 does not have, and 7.2 has.
const NEWER: Features = Features::BATCH_IO
    .union(Features::SAFE_STOP_DEV)
    .union(Features::NO_AUTO_PART_SCAN)
    .union(Features::SHMEM_ZC);

/// Oldest first; a row also stands for the series between it and the next.
pub const SERIES: &[Series] = &[
    Series {
        name: "6.12",
        absent: Features::SUPPORT_ZERO_COPY
            .union(Features::UPDATE_SIZE)
            .union(Features::QUIESCE)
            .union(Features::PER_IO_DAEMON)
            .union(Features::AUTO_BUF_REG)
            .union(NEWER),
        quirks: &[Quirk::AnyOpener],
        cases: 138,
    },
    Series {
        name: "6.16",
        absent: NEWER,
        quirks: &[Quirk::TinyRequests, Quirk::FirstPids],
        cases: 134,
    },
    Series { name: "6.18", absent: NEWER, quirks: &[Quirk::TinyRequests], cases: 134 },
    Series { name: "7.2", absent: Features::empty(), quirks: &[], cases: 142 },
    Series { name: "7.3", absent: Features::empty(), quirks: &[Quirk::PartsAreWhole], cases: 142 },
];

/// The row for a kernel's release, such as `6.12.107+deb13-amd64`: the last that is not newer.
pub fn series(release: &str) -> Series {
    let number = |text: &str| -> (u32, u32) {
        let mut parts =
            text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    let running = number(release);
    let not_newer = |row: &&Series| number(row.name) <= running;
    *SERIES.iter().rev().find(not_newer).unwrap_or(&SERIES[0])
}
