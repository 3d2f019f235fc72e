//! A device's queues: what each is to be, and its threads.

use super::server::{Manner, Server};
use super::workers::Workers;
use crate::backend::Target;
use crate::control::DeviceInfo;
use crate::data_path::DataPath;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::kernel::Kernel;
use crate::needs::Needs;
use crate::queue::{Meter, QueuePlan};
use crate::recovery::Recovery;
use crate::request::Limits;
use crate::slots::Share;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl<K: Kernel> Server<K> {
    /// Opens the char device, and has threads offer the slots of each queue to the driver.
    pub(super) fn serve_queues<T: Target>(
        &mut self,
        geometry: Geometry,
        needs: &Needs,
        path: DataPath,
        deadline: Duration,
        target: T,
    ) -> Result<(), Error> {
        let DeviceInfo { queues, depth, max_io_bytes, descriptor_bytes, .. } = self.info;
        self.size_bytes.store(geometry.size_bytes, Ordering::Relaxed);
        self.block_bytes = geometry.logical_block_bytes;
        let cpus = (0..queues).map(|queue| self.cpus(queue, deadline));
        let cpus = cpus.collect::<Result<Vec<_>, Error>>()?;
        let char_device = Arc::new(self.open_char_device(deadline)?);
        let target = Arc::new(target);
        let kernel = self.control.kernel().task();
        let recovery = Recovery::of(self.info.features);
        let batches = self.batches();
        let Manner { threads_per_queue: threads, request_timeout, spin, .. } = self.manner;
        let workers = self.workers.insert(Workers::new(kernel, self.id, queues, threads)?);
        workers.leave_device(if self.started { recovery } else { Recovery::None });
        let shares = |queue| Share::all(threads).map(move |share| (queue, share));
        for ((queue, cpus), share) in (0..queues).zip(&cpus).flat_map(shares) {
            let meter = self.meters.as_mut().map(|meters| {
                let meter = Arc::new(Meter::new(queue, depth));
                meters.push(Arc::clone(&meter));
                meter
            });
            let plan = QueuePlan {
                device: self.id,
                queue,
                share,
                depth,
                descriptor_bytes,
                limits: Limits::new(geometry, max_io_bytes),
                size_bytes: Arc::clone(&self.size_bytes),
                path,
                batches,
                needs: needs.clone(),
                char_device: Arc::clone(&char_device),
                wake: workers.wake(queue, share),
                calls: workers.calls(queue, depth, needs.wakers)?,
                request_timeout,
                spin,
                leave: workers.leave(),
                cpus: cpus.clone(),
                meter,
            };
            workers.spawn(plan, Arc::clone(&target))?;
        }
        drop(char_device); // the threads hold it from here on: it closes with the last of them
        workers.ready(deadline)
    }

    /// The CPUs that a queue's thread is to run on: those whose requests it gets, if it is pinned.
    fn cpus(&mut self, queue: u16, deadline: Duration) -> Result<Vec<u32>, Error> {
        if !self.manner.pinned {
            return Ok(Vec::new());
        }
        let left = self.until(deadline);
        self.commands().within(left).queue_cpus(queue)
    }
}
