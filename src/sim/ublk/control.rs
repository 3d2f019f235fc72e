//! Control commands: who may send them, and how they wait.

use super::add::Caller;
use super::info::{Named, split_path};
use crate::errno::Errno;
use crate::sim::merge::Digest;
use crate::sim::uring::{FileCommand, Issuer, Outcome};
use crate::sim::user;
use crate::sim::world::{FileId, World};
use core::time::Duration;
use ublkit_sys::abi::from_bytes;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::ublksrv_ctrl_cmd;

/// A control command under way, or something that the driver does by itself and may wait for.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) id: u64,
    /// Who is answered; nobody when the driver does it by itself, or the ring is gone.
    pub(super) issuer: Option<Issuer>,
    pub(super) user_data: u64,
    pub(super) process: usize,
    pub(super) op: u32,
    pub(super) cmd: ublksrv_ctrl_cmd,
    /// The device's place, once it was found.
    pub(super) device: Option<usize>,
    pub(super) stage: Stage,
    pub(super) deadline: Option<Duration>,
}

impl Control {
    /// What the command says follows from its issuer's past.
    pub(super) fn digest(&self, digest: &mut Digest) {
        let Self { id, issuer, user_data, process, op, cmd: _, device, stage, deadline } = self;
        digest.add(&(id, issuer, user_data, process, op, device, stage, deadline));
    }
}

/// How far a command is, and so what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A worker has not begun it.
    Begin,
    /// Every slot is to be fetched.
    Slots,
    /// The device's mutex.
    Mutex(Task),
    /// Requests that have a tag are to be answered.
    Quiet,
    /// Likewise, and the server is dead.
    Settled,
    /// Requests of the disk are to be answered.
    Drained,
    /// Likewise, and new ones stay outside meanwhile.
    Frozen,
    /// Partitions are being looked for, by this asking.
    Scanned(u64),
    /// Nobody is to hold the device any more.
    Freed,
    /// Time is to pass.
    Later(Task),
}

/// What is done with the mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Start,
    Stop,
    Recover,
    /// What the command says, and no more.
    Command,
    /// The char device was released.
    Release,
    /// The server's commands were cancelled (before releases decided).
    NoServer,
}

/// What a step comes to.
pub(super) enum Progress {
    Answer(i32),
    /// It goes on, when it can, from there.
    Stage(Stage),
}

pub(super) type Step = Result<Progress, Errno>;

/// A command's name, for those who wait too long.
pub(super) fn name(op: u32) -> String {
    let of = |table: &'static [ublkit_sys::abi::Constant]| {
        let is_it = |constant: &&ublkit_sys::abi::Constant| constant.value == u64::from(op);
        table.iter().find(is_it).map(|constant| constant.name.trim_start_matches("UBLK_U_CMD_"))
    };
    of(sys::CONTROL_OPCODES).map_or_else(|| format!("command {op:#x}"), str::to_string)
}

impl super::Devices {
    pub(in crate::sim) fn controls(&self) -> usize {
        self.controls.len()
    }

    /// Control commands that were begun so far.
    pub(in crate::sim) fn begun(&self) -> u64 {
        self.begun
    }

    /// Whether a worker of this process is inside a command.
    pub(in crate::sim) fn has_control_of(&self, process: usize) -> bool {
        self.controls.iter().any(|control| control.op != 0 && control.process == process)
    }

    /// The commands that wait, in words.
    pub(in crate::sim) fn waiting_controls(&self) -> impl Iterator<Item = String> {
        self.controls.iter().map(|control| {
            format!(
                "{} of device {} waits: {:?}",
                name(control.op),
                control.cmd.dev_id,
                control.stage
            )
        })
    }
}

impl World {
    /// A command arrives at the control device.
    pub(in crate::sim) fn control_command(
        &mut self,
        issuer: Issuer,
        command: &FileCommand,
    ) -> Outcome {
        let cmd: ublksrv_ctrl_cmd = from_bytes(&command.payload).expect("32 bytes of 80");
        let process = self.tasks[issuer.task].process;
        if !command.is_long {
            return Outcome::Done(-libc::EINVAL);
        }
        let control = Control {
            id: self.devices.next_control,
            issuer: Some(issuer),
            user_data: command.user_data,
            process,
            op: command.op,
            cmd,
            device: None,
            stage: Stage::Begin,
            deadline: None,
        };
        self.add_control(control);
        Outcome::Pending
    }

    pub(super) fn add_control(&mut self, control: Control) {
        self.devices.next_control += 1;
        self.devices.controls.push(control);
    }

    /// The driver does something by itself, once it has the device's mutex.
    pub(super) fn do_with_mutex(&mut self, device: usize, task: Task) {
        self.do_by_itself(device, Stage::Mutex(task), None);
    }

    /// The same after some time.
    pub(super) fn do_later(&mut self, device: usize, time: Duration, task: Task) {
        let due = self.now.saturating_add(time);
        self.do_by_itself(device, Stage::Later(task), Some(due));
    }

    fn do_by_itself(&mut self, device: usize, stage: Stage, deadline: Option<Duration>) {
        let control = Control {
            id: self.devices.next_control,
            issuer: None,
            user_data: 0,
            process: usize::MAX, // nobody's
            op: 0,
            cmd: ublksrv_ctrl_cmd { dev_id: self.devices.number(device), ..Default::default() },
            device: Some(device),
            stage,
            deadline,
        };
        self.add_control(control);
    }

    /// Whether what a command waits for is there.
    pub(in crate::sim) fn control_can_go_on(&self, index: usize) -> bool {
        let control = &self.devices.controls[index];
        if control.deadline.is_some_and(|deadline| self.now >= deadline) {
            return true;
        }
        let Some(device) = control.device.map(|place| &self.devices.all[place]) else {
            return self.faults.never_answers != Some(control.op);
        };
        match &control.stage {
            Stage::Begin => self.faults.never_answers != Some(control.op),
            Stage::Slots => device.ready || device.stopping,
            Stage::Mutex(_) => device.mutex.is_none_or(|owner| owner == control.id),
            Stage::Quiet | Stage::Settled => !device.has_tagged(),
            Stage::Drained | Stage::Frozen => device.requests().is_empty(),
            // A worker that reads partitions is woken when its process is killed.
            Stage::Scanned(asking) => {
                let is_killed = self.processes.get(control.process).is_some_and(|p| p.dead);
                is_killed || !self.clients.askings.contains_key(asking)
            }
            Stage::Freed => device.freed,
            Stage::Later(_) => device.disk.is_none(),
        }
    }

    pub(in crate::sim) fn control_deadlines(&self) -> impl Iterator<Item = Duration> {
        self.devices.controls.iter().filter_map(|control| control.deadline)
    }

    /// A command goes on.
    pub(in crate::sim) fn go_on_with_control(&mut self, index: usize) {
        let mut control = self.devices.controls.swap_remove(index);
        let step = match control.stage.clone() {
            Stage::Begin => self.begin(&mut control),
            stage => self.continue_control(&mut control, stage),
        };
        let result = match step {
            Ok(Progress::Stage(Stage::Freed)) if self.faults.interrupt_delete => {
                self.audit.failed_command = Some(name(control.op));
                -Errno::EINTR.number()
            }
            Ok(Progress::Stage(stage)) => {
                control.stage = stage;
                self.devices.controls.push(control);
                self.devices.controls.sort_by_key(|control| control.id);
                self.free_devices();
                return;
            }
            Ok(Progress::Answer(result)) => result,
            Err(errno) => -errno.number(),
        };
        if let Some(device) = control.device.map(|place| &mut self.devices.all[place])
            && device.mutex == Some(control.id)
        {
            device.mutex = None;
        }
        self.devices.controls.sort_by_key(|control| control.id);
        self.free_devices();
        self.happened = 0;
        if let Some(issuer) = control.issuer {
            self.complete_later(issuer.ring, control.user_data, result);
        }
    }

    /// The checks that all commands share, then the command.
    fn begin(&mut self, control: &mut Control) -> Step {
        let number = self.devices.begun;
        self.devices.begun += 1;
        if let Some((_, errno)) = self.faults.fail_command.filter(|(nth, _)| *nth == number) {
            self.audit.failed_command = Some(name(control.op));
            return Err(errno);
        }
        let kind = control.op >> 8 & 0xff;
        if kind != u32::from(b'u') && kind != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if control.op == sys::UBLK_U_CMD_GET_FEATURES {
            return self.get_features(control);
        }
        let is_root = self.processes[control.process].admin;
        let admin = control.issuer.as_ref().map_or(is_root, |issuer| issuer.admin);
        let uid = if is_root { 0 } else { 1000 };
        let caller = Caller { admin, uid, gid: uid };
        if control.op & 0xff == sys::UBLK_U_CMD_ADD_DEV & 0xff {
            return self.add_device(control, caller);
        }
        let place = self.devices.find(control.cmd.dev_id).ok_or(Errno::ENODEV)?;
        let flags = self.devices.all[place].info.flags;
        let addr = control.cmd.addr;
        let read = |len: usize| {
            let mut bytes = vec![0; len];
            user::read(addr, &mut bytes).map(|()| bytes)
        };
        let Named { path, cmd } =
            split_path(self.profile, flags, admin, control.op, &control.cmd, read)?;
        if let Some((path, _)) = path {
            let right = format!("/dev/ublkc{}", control.cmd.dev_id);
            if path != right.as_bytes() {
                let is_there = self.is_file(&path);
                return Err(if is_there { Errno::EPERM } else { Errno::ENOENT });
            }
        }
        control.cmd = cmd;
        control.device = Some(place);
        self.begin_on_device(control, place)
    }

    /// Whether a path leads to a file, of those that one may think of.
    fn is_file(&self, path: &[u8]) -> bool {
        let known: [&[u8]; 4] = [b"/", b"/dev", b"/dev/null", b"/dev/ublk-control"];
        let number = path.strip_prefix(b"/dev/ublkc").and_then(|number| {
            core::str::from_utf8(number).ok().and_then(|number| number.parse().ok())
        });
        known.contains(&path) || number.is_some_and(|id| self.devices.find(id).is_some())
    }

    /// The commands of a ring that closed, or of a task that ended, wait no more.
    pub(in crate::sim) fn interrupt_controls(&mut self, ring: FileId, task: Option<usize>) {
        for control in &mut self.devices.controls {
            let is_its = |issuer: &Issuer| {
                issuer.ring == ring && task.is_none_or(|task| task == issuer.task)
            };
            if control.issuer.as_ref().is_some_and(is_its) {
                control.issuer = None;
            }
        }
        // What no worker has begun is dropped, waits that a signal ends do end; the others go on,
        // and nobody hears of them.
        self.devices.controls.retain(|control| {
            let ends = matches!(control.stage, Stage::Begin | Stage::Slots | Stage::Freed);
            control.issuer.is_some() || control.op == 0 || !ends
        });
        self.free_devices();
    }
}
