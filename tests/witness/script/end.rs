//! A script's end: whatever it did, its devices are deleted.

use super::record::{BETWEEN, Hint};
use super::run::{Client, Ring, Run, SILENT, Sent};
use super::sqe::{Payload, Sqe, commit, delete, get_data, stop};
use super::world::World;
use super::{ADMIN, CLEANER, Target};
use ublkit::sys::io_uring::IORING_SETUP_SQE128;

/// How often requests of a device that is being stopped are answered.
const ROUNDS: u32 = 6;

/// Commands under way at once, and entries of their ring: of more, 6.12 refuses many with EINVAL.
const AT_ONCE: usize = 8;

/// An unprivileged device must be named by path, even by those who have all rights.
fn by_path(sqe: Sqe, device: usize) -> Sqe {
    sqe.payload(Payload::Path(device, Vec::new()), "by path")
}

impl<W: World> Run<'_, W> {
    /// Stops and deletes what devices there are, whatever happened before; what is seen meanwhile
    /// ends the observation.
    pub(super) fn end(&mut self) -> String {
        self.sent.iter_mut().for_each(|sent| sent.given_up = true);
        self.world.let_go();
        let entries = u32::try_from(AT_ONCE).expect("few");
        let ring = self.ring(CLEANER, CLEANER, entries, IORING_SETUP_SQE128, 0);
        if ring != "ok" {
            return format!("end => STUCK: no ring: {ring}");
        }
        let mut parts = Vec::new();
        let devices: Vec<usize> = self.devices.keys().copied().collect();
        for few in devices.chunks(AT_ONCE) {
            for device in few {
                self.send(None, CLEANER, &[by_path(stop(*device), *device).patient()]);
            }
            if few.len() == AT_ONCE {
                parts.extend(self.settle(Hint::default()));
            }
        }
        parts.extend(self.answer_all());
        self.sent.iter_mut().filter(|sent| sent.ring == CLEANER).for_each(|s| s.given_up = false);
        self.rings.retain(|number, _| *number == CLEANER);
        self.groups.clear();
        self.maps.clear();
        self.files.clear();
        for task in 0..CLEANER {
            if self.world.is_alive(task) && task != ADMIN && !self.world.end_task(task) {
                parts.push(format!("t{task} STUCK"));
            }
        }
        parts.extend(self.settle(Hint::default()));
        for device in devices {
            self.send(None, CLEANER, &[by_path(delete(device), device)]);
            parts.extend(self.settle(Hint::default()));
        }
        let waiting = |(client, state): (&usize, &Client)| {
            (*state == Client::Waits).then(|| format!("c{client} STUCK"))
        };
        parts.extend(self.clients.iter().filter_map(waiting));
        let unanswered = |sent: &Sent| sent.ring == CLEANER && !sent.answered;
        if self.sent.iter().any(unanswered) || self.stuck {
            parts.push("STUCK".into());
        }
        self.rings.clear();
        self.control = None;
        self.world.end_task(CLEANER);
        self.world.end_task(ADMIN);
        parts.sort();
        format!("end => {}", parts.join(BETWEEN))
    }

    /// Answers all requests that a server still has with EIO, until devices stop. Old drivers do
    /// not notice that a server is gone when none of its commands is idle, and then clients wait
    /// for ever.
    fn answer_all(&mut self) -> Vec<String> {
        let mut parts = self.settle(Hint::default());
        for _ in 0..ROUNDS {
            if self.sent.iter().all(|sent| sent.ring != CLEANER || sent.answered) {
                break;
            }
            for (ring, fd, queue, tag) in self.had.clone() {
                let alive = |ring: &Ring<W>| self.world.is_alive(ring.task);
                if !self.rings.get(&ring).is_some_and(alive) {
                    continue;
                }
                let answer = |sqe: Sqe| Sqe { fd, flags: 0, ..sqe };
                for sqe in [
                    get_data(queue, 0).buf(0),
                    commit(queue, 0, -libc::EIO).buf(0),
                    commit(queue, 0, -libc::EIO),
                ] {
                    self.put_silently(ring, &answer(sqe), Some(tag));
                }
            }
            for (ring, sqe) in self.batches_that_end() {
                self.put_silently(ring, &sqe, None);
            }
            parts.extend(self.settle(Hint::default()));
        }
        parts
    }

    /// Submits one command whose answer is not shown.
    fn put_silently(&mut self, ring: usize, sqe: &Sqe, tag: Option<u16>) {
        let (mut raw, _) = self.raw(sqe, SILENT);
        if let Some(tag) = tag {
            raw.head.cmd[0] = raw.head.cmd[0] & !0xffff_0000 | u64::from(tag) << 16;
        }
        let Some(place) = self.rings.get(&ring) else { return };
        let task = place.task;
        if self.world.is_alive(task) && place.queues.put(&raw) {
            self.enter(task, Target::Ring(ring), 1, 0, 0, None);
        }
    }
}
