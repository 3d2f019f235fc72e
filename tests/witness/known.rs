//! What the simulation does not play, line by line: counted, and printed with its reason.

/// Lines that may differ.
#[derive(Debug)]
pub struct NotModelled {
    /// Of one series of kernels, or of all.
    pub series: Option<&'static str>,
    /// What the script's name begins with.
    pub script: &'static str,
    /// What the kernel's line contains.
    pub line: &'static str,
    pub reason: &'static str,
}

impl NotModelled {
    pub fn is(&self, series: &str, script: &str, line: &str) -> bool {
        self.series.is_none_or(|only| only == series)
            && script.starts_with(self.script)
            && line.contains(self.line)
    }
}

const fn of(script: &'static str, line: &'static str, reason: &'static str) -> NotModelled {
    NotModelled { series: None, script, line, reason }
}

const UNUSED: &str = "a way of io_uring that no server of this library takes";

/// All of it.
pub const NOT_MODELLED: &[NotModelled] = &[
    of("ring: setup flags", "flags 0x1 =>", UNUSED),
    of("ring: setup flags", "flags 0x800 =>", UNUSED),
    of("ring: setup flags", "flags 0xc00 =>", UNUSED),
    of("ring: setup flags", "flags 0x40000 =>", UNUSED),
    of("ring: setup flags", "flags 0x80000 =>", UNUSED),
    of("ring: setup flags", "flags 0x110000 =>", UNUSED),
    of("ring: setup flags", "flags 0x20001 =>", UNUSED),
    of(
        "control: START_DEV looks for partitions",
        "",
        "which sectors are looked at: only the first",
    ),
    of("ring: SQEs that are refused", "nop flags=2 =>", "IOSQE_IO_DRAIN"),
    of("shared memory: ", "", "REG_BUF and UNREG_BUF; the verdict says so"),
];
