//! Whose a server is, when it is systemd's: a process that a unit was started for.

/// The unit that systemd started this process for, if it did.
pub(in crate::cli) fn unit_of(pid: u32) -> Option<String> {
    let of_process = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).ok();
    let group = of_process("cgroup").unwrap_or_default();
    named(pid, &of_process("environ")?, &String::from_utf8_lossy(&group))
}

/// The same, told from a process's environment and its line in `/proc/…/cgroup`. Others whom a unit
/// has started, as a shell or a daemon of its own may, have their parents' number there.
fn named(pid: u32, environment: &[u8], group: &str) -> Option<String> {
    let own = format!("SYSTEMD_EXEC_PID={pid}");
    if !environment.split(|byte| *byte == 0).any(|word| word == own.as_bytes()) {
        return None;
    }
    let names = group.lines().filter_map(|line| line.rsplit('/').next());
    let unit = names.into_iter().find(|name| name.ends_with(".service"));
    Some(unit.unwrap_or("its unit").to_owned())
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn a_units_own_process_is_known() {
        let group = "0::/system.slice/system-ublkit.slice/ublkit@scratch.service\n";
        let unit = |environment: &str, group| named(7, environment.as_bytes(), group);
        let own = "PATH=/bin\0SYSTEMD_EXEC_PID=7\0";
        assert_eq!(unit(own, group).as_deref(), Some("ublkit@scratch.service"));
        let old = "12:pids:/x\n1:name=systemd:/system.slice/ublkit@scratch.service\n";
        assert_eq!(unit(own, old).as_deref(), Some("ublkit@scratch.service"));
        assert_eq!(unit(own, "0::/\n").as_deref(), Some("its unit"), "in a namespace of its own");
        for another in
            ["SYSTEMD_EXEC_PID=70\0", "SYSTEMD_EXEC_PID=6\0", "XSYSTEMD_EXEC_PID=7\0", ""]
        {
            assert_eq!(unit(another, group), None, "{another:?}");
        }
    }
}
