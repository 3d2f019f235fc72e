//! Control commands that answer an errno in place of being carried out: each one of a life in turn.

use crate::house::{House, Whim};
use crate::lives::{LIVES, Life, Told, UNDER_LOAD, has, served};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::Duration;
use ublkit::kernel::Kernel;
use ublkit::sim::{Choices, Faults, Profile, Sim};
use ublkit::{Control, Errno, Error, Features, Recovery};

/// What drivers answer, and what they might.
const ERRNOS: [Errno; 7] = [
    Errno::EIO,
    Errno::EINTR,
    Errno::ENODEV,
    Errno::ENOMEM,
    Errno::EINVAL,
    Errno::EBUSY,
    Errno::EOPNOTSUPP,
];

/// A life of which a command failed.
struct Lived<'a> {
    life: &'a str,
    house: &'a House,
    sim: &'a Sim,
    /// The command, how it failed, and how many came before it.
    command: &'a str,
    errno: Errno,
    number: u64,
    told: &'a Told,
}

/// The errors that an error is made of.
fn parts(error: &Error) -> Vec<&Error> {
    match error {
        Error::Undo { first, then } => [parts(first), parts(then)].concat(),
        one => vec![one],
    }
}

/// Longer than threads take to end, and much shorter than a start or a stop may take; with the
/// patience of the oldest driver, which looks for dead servers now and then.
const fn long(profile: Profile) -> Duration {
    Duration::from_secs(if matches!(profile, Profile::OLDEST) { 70 } else { 15 })
}

impl Lived<'_> {
    /// What is wrong with it, if something is. In the end nothing is left of it.
    fn judge(&self) -> Result<(), String> {
        let (sim, took) = (self.sim, self.sim.task().now());
        sim.until_answered();
        let wrong: Vec<String> = sim.failure().into_iter().chain(sim.mistakes()).collect();
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        self.judge_errors()?;
        self.judge_clients()?;
        let left = sim.leftovers();
        let (devices, other): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|line| line.ends_with("is not deleted"));
        if !other.is_empty() {
            return Err(format!("left behind: {}", other.join(", ")));
        }
        if !devices.is_empty() && self.command != "DEL_DEV" {
            return Err(format!("{}, without a reason", devices.join(", ")));
        }
        if took > BEGIN + long(self.house.profile) {
            return Err(format!("took {} s", (took - BEGIN).as_secs()));
        }
        delete_all(sim);
        let left = sim.leftovers();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("cannot be cleared: {}", left.join(", ")))
        }
    }

    /// Its errors name the command and the errno, and tell of nothing else.
    fn judge_errors(&self) -> Result<(), String> {
        let parts: Vec<_> = self.told.errors.iter().flat_map(parts).collect();
        if let Some(other) = parts.iter().find(|error| !self.is_told_by(error)) {
            return Err(format!("was told of something else: {other:?}"));
        }
        if parts.is_empty() && !self.is_borne() {
            return Err("nobody was told".into());
        }
        Ok(())
    }

    fn is_told_by(&self, error: &Error) -> bool {
        match (error, self.command, self.errno) {
            (Error::Command { command, errno, .. }, ..) => {
                *command == self.command && *errno == self.errno
            }
            // A driver that does not know the question lacks whatever one may ask for.
            (Error::Refused(why), "GET_FEATURES", Errno::ENODEV | Errno::EOPNOTSUPP) => {
                why.contains("this kernel's driver lacks")
            }
            (Error::Refused(why), "START_USER_RECOVERY", Errno::EINVAL) => {
                // Of the oldest drivers this answer means that somebody has begun before.
                let began = "can only be deleted: a process began to recover it";
                why.contains("cannot be recovered: the driver says")
                    || self.house.profile == Profile::OLDEST && why.contains(began)
            }
            _ => false,
        }
    }

    /// Whether it is no error: the answer says what was wished for, or is asked for again.
    fn is_borne(&self) -> bool {
        match (self.command, self.errno) {
            // Whether the device is still ours: then nobody knows, and it is stopped and deleted.
            ("GET_DEV_INFO", _) => self.told.before_end.is_some_and(|end| self.number >= end),
            // Somebody else was faster.
            ("STOP_DEV" | "DEL_DEV", Errno::ENODEV) => {
                self.told.before_end.is_some_and(|end| self.number >= end)
            }
            // Where nobody insists on a feature.
            ("GET_FEATURES", Errno::ENODEV | Errno::EOPNOTSUPP) => true,
            // There is no disk, or it is tried again.
            ("QUIESCE_DEV", Errno::ENODEV | Errno::EBUSY | Errno::EINTR) => true,
            // Drivers before 6.15 take it once, and the device waits for its server as it should.
            ("START_USER_RECOVERY", Errno::EBUSY | Errno::EINVAL) => true,
            _ => false,
        }
    }

    /// All clients are served, but where the device is taken away from them or may fail them.
    fn judge_clients(&self) -> Result<(), String> {
        let Some(clients) = self.told.clients else { return Ok(()) };
        // Who fails to look at a device that is live by then leaves it without an order.
        let looks = self.command == "GET_DEV_INFO" && !self.told.errors.is_empty();
        let quiesces = self.command != "QUIESCE_DEV" && !looks;
        let quiesces = quiesces && has(self.house, Features::QUIESCE);
        let bears = match self.house.recovery {
            _ if self.life == UNDER_LOAD => true,
            Recovery::Wait => self.house.batches || !quiesces,
            recovery => recovery == Recovery::Fail,
        };
        let tally = self.sim.tally(clients);
        let is_due = |errno: &i32| [libc::EIO, libc::EREMOTEIO].contains(errno);
        match tally.wrong.is_empty()
            && (tally.failed.is_empty() || bears && tally.failed.keys().all(is_due))
        {
            true => Ok(()),
            false => Err(format!("clients were told {tally:?}")),
        }
    }
}

/// When a simulated machine begins.
const BEGIN: Duration = Duration::from_secs(1000);

/// Deletes what a life has left, as root does.
fn delete_all(sim: &Sim) {
    let Ok(mut control) = Control::open(sim.process(true)) else { return };
    let node = || CString::new("/dev/ublkc0").expect("no zeros");
    let _ = control.device(0).delete();
    let _ = control.device(0).by_path(node()).delete(); // an ordinary user's
}

/// Lives with command `number` failing, and judges that; nothing if it was not sent, and then all
/// is well. Else the command, too.
fn live(
    (name, recovery, life): (&str, Recovery, Life),
    house: House,
    seed: u64,
    (number, errno): (u64, Errno),
) -> Option<(String, Result<(), String>)> {
    let faults = Faults { fail_command: Some((number, errno)), ..house.faults };
    let house = House { faults, recovery, ..house };
    let sim = house.sim(Choices::seed(seed));
    let mut told = Told::default();
    life(&house, &sim, &mut told);
    let Some(command) = sim.audit().failed_command else {
        assert!(told.errors.is_empty(), "{name} of {house:?}, {seed}: {:?}", told.errors);
        sim.until_answered();
        sim.assert_clean();
        return None;
    };
    let lived = Lived {
        life: name,
        house: &house,
        sim: &sim,
        command: &command,
        errno,
        number,
        told: &told,
    };
    let judged = lived.judge();
    Some((command, judged))
}

/// P40, P48, P55: every control command of whole lives fails once, with each of some errnos: the
/// life goes on, or an error says which command failed and how; clients are answered, and nothing
/// is left behind but what DEL_DEV did not delete.
#[test]
fn every_command_fails_once() {
    let mut failed: BTreeMap<String, u32> = BTreeMap::new();
    for (profile, life) in Profile::ALL.iter().flat_map(|p| LIVES.map(|life| (*p, life))) {
        let plain = House { profile, ..House::new() };
        if !has(&plain, life.1.features()) {
            continue;
        }
        let bearable = Faults { fewer_features: 0, ..Faults::bearable() };
        let batches = House { batches: has(&plain, Features::BATCH_IO), ..plain };
        let houses = [(plain, 0), (batches, 0), (House { faults: bearable, ..plain }, 1)];
        let errnos = |seed: u64| if seed == 0 { &ERRNOS[..] } else { &ERRNOS[..3] };
        let cases = houses.iter().flat_map(|h| errnos(h.1).iter().map(|errno| (*h, *errno)));
        for ((house, seed), errno) in cases {
            for number in 0.. {
                let Some((command, judged)) = live(life, house, seed, (number, errno)) else {
                    break; // it was not sent any more
                };
                let what = || format!("{}, {house:?}, {seed}: {number}, {command}", life.0);
                judged.unwrap_or_else(|why| panic!("{} fails with {errno}: {why}", what()));
                *failed.entry(command).or_default() += 1;
            }
        }
    }
    println!("failed: {failed:?}");
    let all = [
        "ADD_DEV",
        "DEL_DEV",
        "DEL_DEV_ASYNC",
        "END_USER_RECOVERY",
        "GET_DEV_INFO",
        "GET_DEV_INFO2",
        "GET_FEATURES",
        "GET_PARAMS",
        "GET_QUEUE_AFFINITY",
        "QUIESCE_DEV",
        "SET_PARAMS",
        "START_DEV",
        "START_USER_RECOVERY",
        "STOP_DEV",
        "TRY_STOP_DEV",
        "UPDATE_SIZE",
    ];
    assert_eq!(failed.keys().collect::<Vec<_>>(), all);
}

/// P48: a deletion whose last wait a signal ends has removed the device all the same: it says so
/// with `EINTR`, and nothing is left.
#[test]
fn an_interrupted_deletion_deletes() {
    let mut interrupted = 0;
    let faults = Faults { interrupt_delete: true, ..Faults::default() };
    for (profile, life) in Profile::ALL.iter().flat_map(|p| LIVES.map(|life| (*p, life))) {
        let (name, recovery, life) = life;
        let house = House { profile, recovery, faults, ..House::new() };
        if !has(&house, recovery.features()) {
            continue;
        }
        let sim = house.sim(Choices::seed(0));
        let mut told = Told::default();
        life(&house, &sim, &mut told);
        sim.until_answered();
        let said = told.errors.iter().flat_map(parts).map(|error| match error {
            Error::Command { command, errno, .. } => (*command, *errno),
            other => panic!("{name} of {house:?}: {other:?}"),
        });
        let times = sim.audit().failed_command.iter().count();
        let due = std::iter::repeat_n(("DEL_DEV", Errno::EINTR), times);
        assert!(said.eq(due), "{name} of {house:?}: {:?}", told.errors);
        interrupted += times;
        sim.assert_clean();
    }
    println!("{interrupted} lives whose deletion was interrupted");
    assert!(interrupted > 20);
}

/// What is wrong with a life of which a command with `errno` failed.
fn wrong(name: &str, life: Life, house: House, number: u64, errno: Errno) -> String {
    let (_, judged) =
        live((name, house.recovery, life), house, 0, (number, errno)).expect("it is sent");
    judged.expect_err(name)
}

/// The control: lives that are told wrong, or leave something, or somebody.
#[test]
fn lives_that_are_told_wrong_are_noticed() {
    let house = House::new();
    let (add, end) = (0, 7); // ADD_DEV and DEL_DEV of a plain life
    let silent: Life = |house, sim, told| {
        served(house, sim, told);
        told.errors.clear();
        None
    };
    for number in [add, end] {
        assert_eq!(wrong("silent", silent, house, number, Errno::EIO), "nobody was told");
    }
    let mistaken: Life = |house, sim, told| {
        served(house, sim, told);
        told.errors = vec![Error::Thread(Errno::EIO)];
        None
    };
    let said = wrong("mistaken", mistaken, house, add, Errno::EIO);
    assert!(said.starts_with("was told of something else"), "{said}");
    let verbose: Life = |house, sim, told| {
        served(house, sim, told);
        told.errors.push(Error::Thread(Errno::EIO));
        None
    };
    let said = wrong("verbose", verbose, house, add, Errno::EIO);
    assert!(said.starts_with("was told of something else"), "{said}");

    let forgetful: Life = |house, sim, told| {
        served(house, sim, told);
        std::mem::forget(sim.task().open(c"/dev/ublk-control"));
        None
    };
    let said = wrong("forgetful", forgetful, house, end, Errno::EIO);
    assert!(said.starts_with("left behind: the control device is open"), "{said}");
    let surviving: Life = |house, sim, told| {
        let mut server = told.step(house.serve(sim.task()))?;
        told.step(server.hand_over());
        let mut control = told.step(Control::open(sim.process(true)))?;
        told.step(control.features()).map(drop)
    };
    let left = House { recovery: Recovery::Fail, ..house };
    let said = wrong("surviving", surviving, left, 6, Errno::EIO);
    assert_eq!(said, "device 0 is not deleted, without a reason");
    let held: Life = |house, sim, told| {
        let server = told.step(house.serve(sim.task()))?;
        std::mem::forget(sim.open_disk(server.id()));
        told.stop(sim, server);
        None
    };
    let said = wrong("held", held, house, end, Errno::EIO);
    assert_eq!(said, "cannot be cleared: device 0 is not deleted");
    let slow: Life = |house, sim, told| {
        served(house, sim, told);
        sim.task().sleep(Duration::from_secs(16));
        None
    };
    assert_eq!(wrong("slow", slow, house, end, Errno::EIO), "took 16 s");

    // Clients that are failed, and one that waits for ever.
    let failing = House { whims: &[Whim::Fail(Errno::EIO)], ..house };
    let said = wrong("failing", served, failing, end, Errno::EIO);
    assert!(said.starts_with("clients were told"), "{said}");
    let forgetting = House { whims: &[Whim::Forget], ..house };
    let busy: Life = |house, sim, told| {
        let server = told.step(house.serve(sim.task()))?;
        told.load(sim, &server, 300);
        sim.until_answered();
        told.stop(sim, server);
        None
    };
    let said = wrong("forgetting", busy, forgetting, end, Errno::EIO);
    assert!(said.contains("sector"), "{said}");
    let deserted: Life = |house, sim, told| {
        let mut server = told.step(house.serve_store(sim.process(true), &house.store()))?;
        told.load(sim, &server, 100);
        (0..20).for_each(|_| sim.give_way());
        told.step(server.hand_over()).map(drop)
    };
    let waited = House { recovery: Recovery::Wait, ..house };
    let said = wrong("deserted", deserted, waited, 5, Errno::EBUSY);
    assert!(said.contains("waits") || said.contains("wait"), "{said}");
}
