//! A device's life by control commands: added, described, started, stopped, deleted.

use super::add::{self, Caller};
use super::control::{Control, Progress, Stage, Step, Task};
use super::device::{Device, Disk, Open};
use super::{info, limits, params};
use crate::errno::Errno;
use crate::sim::block::Ask;
use crate::sim::profile::Rule;
use crate::sim::user;
use crate::sim::world::World;
use ublkit_sys::abi::{as_bytes, from_bytes};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{ublk_params, ublksrv_ctrl_cmd, ublksrv_ctrl_dev_info};

const DONE: Step = Ok(Progress::Answer(0));

/// Unprivileged devices that there can be.
const MAX_UNPRIVILEGED: usize = 64;

/// How much of the disk is read when partitions are looked for.
const SCANNED_BYTES: u32 = 4096;

/// The numbers of commands that came after the legacy ones.
const DEL_ASYNC: u8 = 0x14;
const UPDATE_SIZE: u8 = 0x15;
const QUIESCE: u8 = 0x16;
const TRY_STOP: u8 = 0x17;
const REG_BUF: u8 = 0x18;
const UNREG_BUF: u8 = 0x19;

/// Those that came with a feature.
const NEWER: &[(u8, u64)] = &[
    (UPDATE_SIZE, sys::UBLK_F_UPDATE_SIZE),
    (QUIESCE, sys::UBLK_F_QUIESCE),
    (TRY_STOP, sys::UBLK_F_SAFE_STOP_DEV),
    (REG_BUF, sys::UBLK_F_SHMEM_ZC),
    (UNREG_BUF, sys::UBLK_F_SHMEM_ZC),
];

fn read(cmd: &ublksrv_ctrl_cmd, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    user::read(cmd.addr, &mut bytes)?;
    Ok(bytes)
}

impl World {
    pub(super) fn get_features(&mut self, control: &Control) -> Step {
        let cmd = &control.cmd;
        if cmd.len != sys::UBLK_FEATURES_LEN || cmd.addr == 0 {
            return Err(Errno::EINVAL);
        }
        user::write(cmd.addr, &self.profile.features().to_ne_bytes())?;
        DONE
    }

    pub(super) fn add_device(&mut self, control: &Control, caller: Caller) -> Step {
        let cmd = &control.cmd;
        let len = size_of::<ublksrv_ctrl_dev_info>();
        let asked = if usize::from(cmd.len) < len || cmd.addr == 0 || cmd.queue_id != u16::MAX {
            ublksrv_ctrl_dev_info::default() // refused before it is looked at
        } else {
            from_bytes(&read(cmd, len)?).expect("that long")
        };
        let mut wish = add::check(self.profile, &caller, cmd, &asked)?;
        let alive = |device: &&Device| !device.freed;
        let unprivileged = |device: &&Device| device.has(sys::UBLK_F_UNPRIVILEGED_DEV);
        let others = self.devices.all.iter().filter(alive);
        if wish.flags & sys::UBLK_F_UNPRIVILEGED_DEV != 0
            && others.filter(unprivileged).count() >= MAX_UNPRIVILEGED
        {
            return Err(Errno::EACCES);
        }
        let id = if wish.dev_id == u32::MAX {
            (0..).find(|id| self.devices.find(*id).is_none()).expect("few devices")
        } else {
            wish.dev_id
        };
        if self.devices.find(id).is_some() {
            return Err(Errno::EEXIST);
        }
        let mut cpus = self.cpus;
        if self.choices.chance(self.faults.fewer_queues.into(), 256) {
            cpus = 1;
        }
        if self.choices.chance(self.faults.fewer_features.into(), 256) {
            wish.flags &= sys::UBLK_F_UNPRIVILEGED_DEV;
        }
        let mut info = add::settle(self.profile, cpus, wish, id)?;
        if self.faults.junk_padding && info.flags & sys::UBLK_F_IO_DESC_SIZE == 0 {
            info.io_desc_size = 0xbeef;
        }
        user::write(cmd.addr, as_bytes(&info))?;
        self.devices.all.push(Device::new(info));
        DONE
    }

    /// A command to a device that was found, by a caller who may.
    pub(super) fn begin_on_device(&mut self, control: &mut Control, place: usize) -> Step {
        let number = number(control);
        let newer = NEWER.iter().find(|(newer, _)| *newer == number);
        if newer.is_some_and(|(_, feature)| self.profile.features() & feature == 0) {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = |stage| Ok(Progress::Stage(stage));
        match number {
            sys::UBLK_CMD_GET_QUEUE_AFFINITY => self.get_affinity(&control.cmd, place),
            sys::UBLK_CMD_GET_DEV_INFO | sys::UBLK_CMD_GET_DEV_INFO2 => {
                self.get_info(&control.cmd, place)
            }
            sys::UBLK_CMD_DEL_DEV | sys::UBLK_CMD_STOP_DEV | DEL_ASYNC => {
                to(Stage::Mutex(Task::Stop))
            }
            sys::UBLK_CMD_START_DEV => {
                let has_params = self.devices.all[place].params.types & sys::UBLK_PARAM_TYPE_BASIC;
                if pid(&control.cmd) <= 0 || has_params == 0 {
                    return Err(Errno::EINVAL);
                }
                to(Stage::Slots)
            }
            sys::UBLK_CMD_SET_PARAMS => {
                self.sent_params(&control.cmd, place)?;
                self.when_unlocked(control, place)
            }
            sys::UBLK_CMD_GET_PARAMS => {
                wanted_bytes(&control.cmd)?;
                self.when_unlocked(control, place)
            }
            sys::UBLK_CMD_START_USER_RECOVERY => self.when_unlocked(control, place),
            sys::UBLK_CMD_END_USER_RECOVERY => to(Stage::Slots),
            QUIESCE if !self.devices.all[place].has(sys::UBLK_F_QUIESCE) => Err(Errno::EOPNOTSUPP),
            UPDATE_SIZE | QUIESCE => self.when_unlocked(control, place),
            TRY_STOP if self.devices.all[place].disk.is_none() => Err(Errno::ENODEV),
            TRY_STOP if self.devices.all[place].openers > 0 => Err(Errno::EBUSY),
            TRY_STOP => to(Stage::Mutex(Task::Stop)),
            REG_BUF => {
                self.pin_buffer(control, place)?;
                self.when_unlocked(control, place)
            }
            UNREG_BUF => {
                self.check_index(&control.cmd, place)?;
                self.when_unlocked(control, place)
            }
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    /// A command that needs nothing but the mutex to begin.
    fn when_unlocked(&mut self, control: &Control, place: usize) -> Step {
        match self.devices.all[place].mutex {
            None => self.with_mutex(control, place),
            Some(_) => Ok(Progress::Stage(Stage::Mutex(Task::Command))),
        }
    }

    fn with_mutex(&mut self, control: &Control, place: usize) -> Step {
        match number(control) {
            sys::UBLK_CMD_SET_PARAMS => self.set_params(&control.cmd, place),
            sys::UBLK_CMD_GET_PARAMS => self.get_params(&control.cmd, place),
            sys::UBLK_CMD_START_USER_RECOVERY => self.start_recovery(place),
            UPDATE_SIZE => self.update_size(&control.cmd, place),
            QUIESCE => self.quiesce(place),
            REG_BUF | UNREG_BUF => self.freeze(control, place),
            other => unreachable!("command {other:#x} does not wait for the mutex alone"),
        }
    }

    /// What a command waited for is there, or its time is up.
    pub(super) fn continue_control(&mut self, control: &mut Control, stage: Stage) -> Step {
        let place = control.device.expect("only commands to devices wait");
        let is_start = control.op & 0xff == u32::from(sys::UBLK_CMD_START_DEV);
        match stage {
            Stage::Begin => unreachable!("has begun"),
            Stage::Slots if is_start && self.devices.all[place].stopping => Err(Errno::EBUSY),
            Stage::Slots => {
                let task = if is_start { Task::Start } else { Task::Recover };
                Ok(Progress::Stage(Stage::Mutex(task)))
            }
            Stage::Mutex(Task::Start) => self.start(control, place),
            Stage::Mutex(Task::Recover) => self.end_recovery(control, place),
            Stage::Mutex(Task::Stop) => self.stop(control, place),
            Stage::Mutex(Task::Command) => self.with_mutex(control, place),
            Stage::Mutex(Task::Release) => self.released(place),
            Stage::Mutex(Task::NoServer) => self.no_server(control, place),
            Stage::Quiet => self.quiet(control, place),
            Stage::Settled => self.settled(place),
            Stage::Drained => self.drained(control, place),
            Stage::Frozen => self.frozen(control, place),
            Stage::Scanned(_) | Stage::Freed => DONE,
            Stage::Later(task) => {
                control.deadline = None;
                self.fail_owned(place);
                Ok(Progress::Stage(Stage::Mutex(task)))
            }
        }
    }

    fn get_info(&mut self, cmd: &ublksrv_ctrl_cmd, place: usize) -> Step {
        if usize::from(cmd.len) < size_of::<ublksrv_ctrl_dev_info>() || cmd.addr == 0 {
            return Err(Errno::EINVAL);
        }
        user::write(cmd.addr, as_bytes(&self.devices.all[place].info))?;
        DONE
    }

    fn get_affinity(&mut self, cmd: &ublksrv_ctrl_cmd, place: usize) -> Step {
        if cmd.addr == 0 {
            return Err(Errno::EINVAL);
        }
        let queues = self.devices.all[place].info.nr_hw_queues;
        let mask = info::cpu_mask(self.cpus, queues, cmd.data[0], cmd.len)?;
        user::write(cmd.addr, &mask)?;
        DONE
    }

    /// The parameters that a device would have.
    fn sent_params(&self, cmd: &ublksrv_ctrl_cmd, place: usize) -> Result<ublk_params, Errno> {
        if cmd.addr == 0 {
            return Err(Errno::EINVAL);
        }
        let sent = read(cmd, cmd.len.into())?;
        params::merged(self.profile, &self.devices.all[place].params, &sent)
    }

    fn set_params(&mut self, cmd: &ublksrv_ctrl_cmd, place: usize) -> Step {
        let merged = self.sent_params(cmd, place)?;
        let device = &mut self.devices.all[place];
        if device.disk.is_some() {
            return Err(Errno::EACCES);
        }
        let (flags, max_io) = (device.info.flags, device.info.max_io_buf_bytes);
        params::keep(self.profile, flags, max_io, &mut device.params, merged)?;
        DONE
    }

    fn get_params(&mut self, cmd: &ublksrv_ctrl_cmd, place: usize) -> Step {
        let len = wanted_bytes(cmd)?;
        let device = &mut self.devices.all[place];
        let params = &mut device.params; // the answer is kept, too
        params.types |= sys::UBLK_PARAM_TYPE_DEVT;
        params.devt.char_major = 240;
        params.devt.char_minor = device.info.dev_id;
        if device.disk.is_some() {
            params.devt.disk_major = 259;
            params.devt.disk_minor = device.info.dev_id;
        }
        let bytes = as_bytes(params);
        user::write(cmd.addr, &bytes[..len.min(params::known_bytes(self.profile))])?;
        DONE
    }

    fn start(&mut self, control: &mut Control, place: usize) -> Step {
        self.check_pid(control, place)?;
        let profile = self.profile;
        let device = &mut self.devices.all[place];
        if device.info.state == sys::UBLK_S_DEV_LIVE || device.disk.is_some() {
            return Err(Errno::EEXIST);
        }
        if device.stopping {
            return Err(Errno::EBUSY);
        }
        let limits = limits::limits(profile, device.info.flags, &device.params)?;
        device.info.ublksrv_pid = pid(&control.cmd);
        device.info.state = sys::UBLK_S_DEV_LIVE;
        device.force_abort = false;
        device.disk = Some(Disk { limits, dying: false });
        let no_scan = sys::UBLK_F_NO_AUTO_PART_SCAN | sys::UBLK_F_UNPRIVILEGED_DEV;
        let scans = !device.untrusted && device.info.flags & no_scan == 0;
        let len_bytes = u64::from(SCANNED_BYTES).min(limits.capacity_bytes());
        let len_bytes = u32::try_from(len_bytes).unwrap_or(SCANNED_BYTES);
        if !scans || len_bytes == 0 {
            return DONE;
        }
        let asking = self.ask(place, 0, Ask::Read { offset: 0, len_bytes }, None);
        if profile.has(Rule::ScansLater) {
            return DONE;
        }
        self.devices.all[place].mutex = Some(control.id);
        Ok(Progress::Stage(Stage::Scanned(asking)))
    }

    /// Whether the command names the process that has the char device open.
    pub(super) fn check_pid(&self, control: &Control, place: usize) -> Result<(), Errno> {
        if !self.profile.has(Rule::PidIsTheOpeners) {
            return Ok(());
        }
        let opener = match self.devices.all[place].open {
            Open::By(process) => self.processes[process].pid.cast_signed(),
            Open::Nobody | Open::Closing => return Err(Errno::EINVAL),
        };
        if opener == pid(&control.cmd) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn update_size(&mut self, cmd: &ublksrv_ctrl_cmd, place: usize) -> Step {
        let disk = self.devices.all[place].disk.as_mut().ok_or(Errno::ENODEV)?;
        disk.limits.capacity_sectors = cmd.data[0];
        self.devices.all[place].params.basic.dev_sectors = cmd.data[0];
        DONE
    }

    /// QUIESCE_DEV, with the mutex. The driver means to wait until every queue has an idle slot,
    /// but counts wrongly and never waits. Of a device that is not live it only takes the idle
    /// commands.
    fn quiesce(&mut self, place: usize) -> Step {
        let device = &mut self.devices.all[place];
        if device.disk.is_none() || device.info.state == sys::UBLK_S_DEV_DEAD {
            return Err(Errno::ENODEV);
        }
        if device.info.state == sys::UBLK_S_DEV_LIVE {
            for queue in &mut device.queues {
                queue.canceling = true;
            }
        }
        self.take_back_idle(place);
        DONE
    }
}

/// How much of the parameters a GET_PARAMS asks for.
fn wanted_bytes(cmd: &ublksrv_ctrl_cmd) -> Result<usize, Errno> {
    if cmd.len <= 8 || cmd.addr == 0 {
        return Err(Errno::EINVAL);
    }
    let header = read(cmd, 8)?;
    let len = header.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    if len > cmd.len.into() || len == 0 { Err(Errno::EINVAL) } else { Ok(len as usize) }
}

/// The number of a command's operation.
fn number(control: &Control) -> u8 {
    u8::try_from(control.op & 0xff).unwrap_or(0)
}

/// The pid that a command carries.
#[expect(clippy::cast_possible_truncation, reason = "the driver keeps 32 bits")]
pub(super) fn pid(cmd: &ublksrv_ctrl_cmd) -> i32 {
    cmd.data[0] as i32
}
