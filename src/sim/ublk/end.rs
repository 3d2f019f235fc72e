//! Ends: a stop, a server that is gone, a device that is forgotten; and what recovery brings back.

use super::control::{Control, Progress, Stage, Step, Task};
use super::device::{Open, Queue, SlotName, State};
use super::life::pid;
use crate::errno::Errno;
use crate::sim::profile::Rule;
use crate::sim::world::{FileId, World};
use core::time::Duration;
use ublkit_sys::ublk as sys;

/// When the block layer first asks after a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

const DONE: Step = Ok(Progress::Answer(0));

impl World {
    /// STOP_DEV, and the first half of DEL_DEV, with the mutex.
    pub(super) fn stop(&mut self, control: &Control, place: usize) -> Step {
        let device = &mut self.devices.all[place];
        if device.disk.is_none() {
            return self.stopped(control, place);
        }
        device.mutex = Some(control.id);
        if device.parks() && !device.force_abort {
            device.quieted = true;
            return Ok(Progress::Stage(Stage::Quiet));
        }
        if let Some(disk) = &mut device.disk {
            disk.dying = true;
        }
        self.clients.loads.end(place);
        Ok(Progress::Stage(Stage::Drained))
    }

    /// The server has no request of a device any more whose requests would wait for another server:
    /// those without a tag fail.
    pub(super) fn quiet(&mut self, control: &Control, place: usize) -> Step {
        let device = &mut self.devices.all[place];
        device.quieted = false;
        device.force_abort = true;
        device.unpark();
        self.stop(control, place)
    }

    /// All requests of a disk that is being deleted are answered.
    pub(super) fn drained(&mut self, control: &Control, place: usize) -> Step {
        let device = &mut self.devices.all[place];
        device.disk = None;
        device.info.state = sys::UBLK_S_DEV_DEAD;
        device.info.ublksrv_pid = -1;
        device.force_abort = false;
        self.stopped(control, place)
    }

    /// There is no disk any more.
    fn stopped(&mut self, control: &Control, place: usize) -> Step {
        let device = &mut self.devices.all[place];
        if self.profile.has(Rule::StopsAndRestarts) && matches!(device.open, Open::By(_)) {
            device.stopping = true;
        }
        self.take_back_idle(place);
        let device = &mut self.devices.all[place];
        if device.mutex == Some(control.id) {
            device.mutex = None;
        }
        match control.op {
            sys::UBLK_U_CMD_DEL_DEV | sys::UBLK_U_CMD_DEL_DEV_ASYNC => {
                device.unlinked = true;
                let waits = control.op == sys::UBLK_U_CMD_DEL_DEV;
                if waits { Ok(Progress::Stage(Stage::Freed)) } else { DONE }
            }
            _ => DONE,
        }
    }

    /// Completes the commands of all slots that have no request: they are gone.
    pub(super) fn take_back_idle(&mut self, place: usize) {
        self.take_back_fetches(place, None);
        for name in self.devices.all[place].names(place) {
            self.take_back(name);
        }
    }

    fn take_back(&mut self, name: SlotName) {
        let Some(slot) = self.devices.all[name.device].slot(name.queue, name.tag) else { return };
        if slot.request.is_some() {
            return;
        }
        let Some(pending) = slot.pending.take() else { return };
        slot.aborted = true;
        self.audit.aborted += 1;
        self.complete_later(pending.ring, pending.user_data, sys::UBLK_IO_RES_ABORT);
        self.let_go(pending.file);
    }

    /// A ring closes: its commands are cancelled.
    pub(in crate::sim) fn cancel_commands(&mut self, ring: FileId) {
        self.interrupt_controls(ring, None);
        for place in 0..self.devices.all.len() {
            let device = &mut self.devices.all[place];
            let mut names = device.names(place);
            names.retain(|name| {
                let slot = device.slot(name.queue, name.tag);
                slot.is_some_and(|slot| slot.pending.is_some_and(|pending| pending.ring == ring))
            });
            let is_its = |queue: &Queue| queue.fetches.iter().any(|it| it.pending.ring == ring);
            if names.is_empty() && !device.queues.iter().any(is_its) {
                continue;
            }
            if self.profile.has(Rule::ReleaseDecides) {
                for queue in &mut device.queues {
                    queue.canceling = true;
                }
            } else {
                for name in &names {
                    device.queues[usize::from(name.queue)].canceling = true;
                }
                self.fail_owned(place);
                self.do_with_mutex(place, Task::NoServer);
            }
            self.take_back_fetches(place, Some(ring));
            for name in names {
                // A request that was about to be delivered is not.
                self.abort_request(name);
                self.take_back(name);
            }
        }
    }

    /// A task has ended. Before releases decided, the driver was not told if none of the task's
    /// slots had a command: then only the time-out of a request sees it.
    pub(in crate::sim) fn lose_task(&mut self, task: usize) {
        if self.profile.has(Rule::ReleaseDecides) {
            return;
        }
        for place in 0..self.devices.all.len() {
            let is_its = |queue: &Queue| queue.task == Some(task);
            if self.devices.all[place].queues.iter().any(is_its) {
                self.do_later(place, REQUEST_TIMEOUT, Task::NoServer);
            }
        }
    }

    /// A request that its server did not get, or will not answer, fails or waits for the next one.
    fn abort_request(&mut self, name: SlotName) {
        let device = &mut self.devices.all[name.device];
        let parks = device.parks() && !device.force_abort;
        let reissues = device.reissues() && !device.force_abort;
        // In batches a tag that nobody fetched is the server's already (`ublk_abort_batch_queue`).
        let is_announced = device.queues[usize::from(name.queue)].events.contains(&name.tag);
        let Some(slot) = device.slot(name.queue, name.tag) else { return };
        let was_delivered =
            is_announced || matches!(slot.state, State::Owned | State::OwnedWantsData);
        let Some(id) = slot.request else { return };
        if if was_delivered { reissues } else { parks } {
            self.requeue(name);
        } else {
            slot.request = None;
            self.end_request(id, Err(Errno::EIO));
        }
    }

    /// Before releases decided: what a dead server's queues owe is settled at once, mutex or not.
    pub(super) fn fail_owned(&mut self, place: usize) {
        for name in self.devices.all[place].names(place) {
            let queue = &mut self.devices.all[place].queues[usize::from(name.queue)];
            queue.canceling |= queue.task.is_some_and(|task| self.tasks[task].ended);
            let canceling = queue.canceling;
            let slot = self.devices.all[place].slot(name.queue, name.tag);
            if canceling && slot.is_some_and(|slot| slot.pending.is_none()) {
                self.abort_request(name);
            }
        }
    }

    /// The char device has no holder any more.
    pub(in crate::sim) fn release_char_device(&mut self, place: usize) {
        if self.devices.all[place].disk.is_some() && self.profile.has(Rule::ReleaseDecides) {
            for queue in &mut self.devices.all[place].queues {
                queue.canceling = true;
            }
            for name in self.devices.all[place].names(place) {
                self.abort_request(name);
            }
        }
        self.do_with_mutex(place, Task::Release);
    }

    /// The rest of a release, with the mutex.
    pub(super) fn released(&mut self, place: usize) -> Step {
        let profile = self.profile;
        let device = &mut self.devices.all[place];
        device.open = Open::Nobody;
        if !profile.has(Rule::ReleaseDecides) {
            return DONE;
        }
        if device.disk.is_none() {
            if profile.has(Rule::StopsAndRestarts) {
                device.reset();
            }
            return DONE;
        }
        device.reset();
        if device.has(sys::UBLK_F_USER_RECOVERY) {
            let fails = device.has(sys::UBLK_F_USER_RECOVERY_FAIL_IO);
            device.info.state =
                if fails { sys::UBLK_S_DEV_FAIL_IO } else { sys::UBLK_S_DEV_QUIESCED };
            return DONE;
        }
        self.lose_disk(place);
        DONE
    }

    /// The disk is gone with its server; what clients wait for fails.
    fn lose_disk(&mut self, place: usize) {
        let device = &mut self.devices.all[place];
        device.disk = None;
        device.info.state = sys::UBLK_S_DEV_DEAD;
        device.info.ublksrv_pid = -1;
        for id in device.requests() {
            self.end_request(id, Err(Errno::EIO));
        }
        let device = &mut self.devices.all[place];
        for queue in &mut device.queues {
            queue.waiting.clear();
            for slot in &mut queue.slots {
                (slot.request, slot.answered) = (None, None);
            }
        }
        self.clients.loads.end(place);
    }

    /// Before releases decided: the server's death stops or quiesces the device at once.
    pub(super) fn no_server(&mut self, control: &mut Control, place: usize) -> Step {
        let device = &mut self.devices.all[place];
        if device.disk.is_none() || device.info.state != sys::UBLK_S_DEV_LIVE {
            return DONE;
        }
        if device.has(sys::UBLK_F_USER_RECOVERY) {
            device.mutex = Some(control.id);
            return Ok(Progress::Stage(Stage::Settled));
        }
        control.op = sys::UBLK_U_CMD_STOP_DEV;
        self.stop(control, place)
    }

    /// The same, once the dead server has no request any more.
    pub(super) fn settled(&mut self, place: usize) -> Step {
        self.devices.all[place].info.state = sys::UBLK_S_DEV_QUIESCED;
        self.take_back_idle(place);
        DONE
    }

    /// START_USER_RECOVERY.
    pub(super) fn start_recovery(&mut self, place: usize) -> Step {
        let decides = self.profile.has(Rule::ReleaseDecides);
        let device = &mut self.devices.all[place];
        if !device.has(sys::UBLK_F_USER_RECOVERY) {
            return Err(Errno::EINVAL);
        }
        if !decides && device.queues.iter().all(|queue| queue.task.is_none()) {
            return Err(Errno::EINVAL);
        }
        let serverless = [sys::UBLK_S_DEV_QUIESCED, sys::UBLK_S_DEV_FAIL_IO];
        if device.open != Open::Nobody || !serverless.contains(&device.info.state) {
            return Err(Errno::EBUSY);
        }
        if !decides {
            device.reset();
        }
        DONE
    }

    /// END_USER_RECOVERY, with the mutex, once all slots were fetched.
    pub(super) fn end_recovery(&mut self, control: &Control, place: usize) -> Step {
        self.check_pid(control, place)?;
        let device = &mut self.devices.all[place];
        if !device.has(sys::UBLK_F_USER_RECOVERY) {
            return Err(Errno::EINVAL);
        }
        let serverless = [sys::UBLK_S_DEV_QUIESCED, sys::UBLK_S_DEV_FAIL_IO];
        if !serverless.contains(&device.info.state) {
            return Err(Errno::EBUSY);
        }
        device.info.ublksrv_pid = pid(&control.cmd);
        device.info.state = sys::UBLK_S_DEV_LIVE;
        device.unpark();
        for queue in &mut device.queues {
            queue.canceling = false;
        }
        // What the old server's end was to bring is past.
        self.devices.controls.retain(|other| {
            let is_past = matches!(other.stage, Stage::Later(_) | Stage::Mutex(Task::NoServer));
            other.device != Some(place) || !is_past
        });
        DONE
    }

    /// Forgets the devices that were deleted and that nobody holds any more.
    pub(super) fn free_devices(&mut self) {
        for place in 0..self.devices.all.len() {
            let held = self.devices.controls.iter().any(|control| {
                let holds = !matches!(control.stage, Stage::Freed | Stage::Later(_));
                control.device == Some(place) && holds
            });
            let device = &mut self.devices.all[place];
            let open = device.open != Open::Nobody || device.openers > 0;
            if device.unlinked && device.disk.is_none() && !open && !held {
                device.freed = true;
            }
        }
    }
}
