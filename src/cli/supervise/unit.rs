//! Whose a server is, when it is systemd's: a process that a unit was started for.

use core::fmt;

/// A unit of systemd's, as far as it can be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Unit {
    name: Option<String>,
    /// Whether it is one of a user's manager.
    is_users: bool,
}

impl Unit {
    /// What has `systemctl` do something with it.
    pub(in crate::cli) fn command(&self, what: &str) -> String {
        let user = if self.is_users { " --user" } else { "" };
        format!("systemctl{user} {what} {}", self.name.as_deref().unwrap_or("UNIT"))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name.as_deref().unwrap_or("a unit of systemd's"))
    }
}

/// The unit that systemd started this process for, if it did (systemd says so since 248).
pub(in crate::cli) fn unit_of(pid: u32) -> Option<Unit> {
    let of_process = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let group = of_process("cgroup").unwrap_or_default();
    told(pid, &of_process("environ")?, &String::from_utf8_lossy(&group))
}

/// The same, told from a process's environment and its lines in `/proc/…/cgroup`. Others whom a
/// unit has started, as a shell or a daemon of its own may, have their parents' number there.
pub(in crate::cli) fn told(pid: u32, environment: &[u8], group: &str) -> Option<Unit> {
    let own = format!("SYSTEMD_EXEC_PID={pid}");
    if !environment.split(|byte| *byte == 0).any(|word| word == own.as_bytes()) {
        return None;
    }
    let is_manager = |part: &&str| part.starts_with("user@");
    let is_unit = |part: &&str| part.ends_with(".service") && !is_manager(part);
    let name = group.lines().find_map(|line| line.rsplit('/').find(is_unit));
    let is_users = group.split('/').any(|part| is_manager(&part));
    Some(Unit { name: name.map(str::to_owned), is_users })
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn a_units_own_process_is_known() {
        let group = "0::/system.slice/system-ublkit.slice/ublkit@scratch.service\n";
        let command = |environment: &str, group| {
            let unit = told(7, environment.as_bytes(), group);
            unit.map(|unit| (unit.to_string(), unit.command("kill")))
        };
        let scratch = Some(("ublkit@scratch.service", "systemctl kill ublkit@scratch.service"));
        let scratch = scratch.map(|(unit, command)| (unit.to_owned(), command.to_owned()));
        let own = "PATH=/bin\0SYSTEMD_EXEC_PID=7\0";
        assert_eq!(command(own, group), scratch);
        let old = "12:pids:/x\n1:name=systemd:/system.slice/ublkit@scratch.service\n";
        assert_eq!(command(own, old), scratch);
        let below = "0::/system.slice/ublkit@scratch.service/payload\n";
        assert_eq!(command(own, below), scratch, "a group of its own below");
        let users = "0::/user.slice/user@1000.service/app.slice/x.service\n";
        let of_user = ("x.service".to_owned(), "systemctl --user kill x.service".to_owned());
        assert_eq!(command(own, users), Some(of_user));
        let manager = "0::/user.slice/user@1000.service/payload\n";
        let of_manager =
            ("a unit of systemd's".to_owned(), "systemctl --user kill UNIT".to_owned());
        assert_eq!(command(own, manager), Some(of_manager), "its manager is none of it");
        let nameless = ("a unit of systemd's".to_owned(), "systemctl kill UNIT".to_owned());
        assert_eq!(command(own, "0::/\n"), Some(nameless), "in a namespace of its own");
        for another in
            ["SYSTEMD_EXEC_PID=70\0", "SYSTEMD_EXEC_PID=6\0", "XSYSTEMD_EXEC_PID=7\0", ""]
        {
            assert_eq!(command(another, group), None, "{another:?}");
        }
    }
}
