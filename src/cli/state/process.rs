//! [`Process`]: a process that is known again, although its number may be another's later.

/// A process, by its number and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Process {
    pub(in crate::cli) pid: u32,
    /// In clock ticks since boot; 0 where `/proc` does not say.
    pub(in crate::cli) began: u64,
}

impl Process {
    /// The calling one.
    pub(in crate::cli) fn own() -> Self {
        let pid = std::process::id();
        Self { pid, began: began(pid).unwrap_or(0) }
    }

    /// Whether it still runs.
    pub(in crate::cli) fn is_alive(self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

/// When a process began that is more than its exit code.
fn began(pid: u32) -> Option<u64> {
    of_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in the middle may hold anything, also what looks like the end of a name.
fn of_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// For fuzzing.
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(super) fn exercise(text: &str) {
    let _ = of_stat(text);
}

#[cfg(test)]
mod tests {
    use super::{Process, of_stat};

    #[test]
    fn a_process_is_known_again() {
        let own = Process::own();
        assert!(own.is_alive() && own.began > 0);
        assert!(!Process { began: own.began + 1, ..own }.is_alive(), "another with its number");
        assert!(!Process { pid: u32::MAX, ..own }.is_alive());
    }

    #[test]
    fn what_is_only_an_exit_code_does_not_run() {
        let stat =
            |state| format!("7 (a) b) {state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 99 0");
        assert_eq!(of_stat(&stat("S")), Some(99));
        assert_eq!(of_stat(&stat("Z")), None);
        assert_eq!(of_stat(""), None);
    }
}
