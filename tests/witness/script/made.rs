//! What tasks make: rings, files, mappings, and what they register.

use super::batch::GROUP;
use super::queues::{Queues, lengths_bytes};
use super::run::{Ring, Run};
use super::world::World;
use super::{Place, Register, show};
use std::ffi::CString;
use std::sync::Arc;
use ublkit::Errno;
use ublkit::kernel::{Access, Kernel, Registration};
use ublkit::sys::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IORING_SETUP_CQSIZE, io_uring_params,
};

impl<W: World> Run<'_, W> {
    pub(super) fn ring(
        &mut self,
        task: usize,
        ring: usize,
        entries: u32,
        flags: u32,
        cqes: u32,
    ) -> String {
        let sized = if cqes != 0 { IORING_SETUP_CQSIZE } else { 0 };
        let asked = io_uring_params {
            flags: flags | sized,
            cq_entries: cqes,
            ..io_uring_params::default()
        };
        let made = self.on(task, move |kernel| {
            let mut params = asked;
            let file = kernel.ring_setup(entries, &mut params)?;
            let (indices, sqes) = lengths_bytes(&params);
            let indices = kernel.map(&file, IORING_OFF_SQ_RING, indices, Access::ReadWrite)?;
            let sqes = kernel.map(&file, IORING_OFF_SQES, sqes, Access::ReadWrite)?;
            Ok::<_, Errno>((file, Queues::new(indices, sqes, params), params))
        });
        match made {
            None => "hangs".into(),
            Some(Err(error)) => show::errno(error),
            Some(Ok((file, queues, params))) => {
                let made = Ring { task, flags: params.flags, file: Arc::new(file), queues };
                self.rings.insert(ring, made);
                if entries == params.sq_entries && cqes == 0 {
                    return "ok".into();
                }
                format!("{} SQEs, {} CQEs", params.sq_entries, params.cq_entries)
            }
        }
    }

    pub(super) fn open(&mut self, task: usize, file: usize, device: usize) -> String {
        let id = self.devices.get(&device).copied().unwrap_or(u32::MAX);
        let path = CString::new(format!("/dev/ublkc{id}")).expect("no zeros");
        let opened = self.on(task, move |kernel| kernel.open(&path));
        let seen = self.opened(file, opened);
        if seen == "ok" {
            self.tags.clear();
        }
        seen
    }

    pub(super) fn event(&mut self, task: usize, file: usize) -> String {
        let made = self.on(task, Kernel::event);
        self.opened(file, made)
    }

    fn opened(
        &mut self,
        file: usize,
        opened: Option<Result<<W::K as Kernel>::File, Errno>>,
    ) -> String {
        match opened {
            None => "hangs".into(),
            Some(Err(error)) => show::errno(error),
            Some(Ok(opened)) => {
                self.files.insert(file, Arc::new(opened));
                "ok".into()
            }
        }
    }

    pub(super) fn map(&mut self, task: usize, map: usize, place: Place) -> String {
        let Some(file) = self.files.get(&place.file).cloned() else { return "no file".into() };
        let Place { offset, len, access, .. } = place;
        match self.on(task, move |kernel| kernel.map(&file, offset, len, access)) {
            None => "hangs".into(),
            Some(Err(error)) => show::errno(error),
            Some(Ok(mapping)) => {
                self.maps.insert(map, (place, Arc::new(mapping)));
                "ok".into()
            }
        }
    }

    pub(super) fn register(&mut self, task: usize, ring: usize, what: &Register) -> String {
        let Some(file) = self.rings.get(&ring).map(|ring| Arc::clone(&ring.file)) else {
            return "no ring".into();
        };
        let files: Vec<i32> = match what {
            Register::Files(files) => files.iter().map(|file| self.number(*file)).collect(),
            _ => Vec::new(),
        };
        if matches!(what, Register::Personality) {
            let number = self.on(task, move |kernel| kernel.number(&file));
            let answer = number.and_then(|ring| self.world.personality(task, ring));
            return Self::counted(answer);
        }
        let what = what.clone();
        let answer = self.on(task, move |kernel| {
            let what = match what {
                Register::Files(_) => Registration::Files(&files),
                Register::RingFd => Registration::RingFd,
                Register::UnregisterRingFd(index) => Registration::UnregisterRingFd(index),
                Register::Buffers(count) => Registration::Buffers(count),
                Register::Workers(count) => Registration::MaxWorkers(count),
                Register::Group(entries) => Registration::BufferRing { group: GROUP, entries },
                Register::Personality => unreachable!("the seam has none"),
            };
            kernel.ring_register(&file, what)
        });
        Self::counted(answer)
    }
}
