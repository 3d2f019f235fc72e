//! `io_uring_register`: fixed files, registered rings, places for requests' pages.

use super::Ring;
use crate::errno::Errno;
use crate::kernel::Registration;
use crate::sim::world::{FileId, Named, World};

/// Rings that a task can register.
const MAX_RINGS: u32 = 16;
/// Places for requests' pages in a ring.
const MAX_BUFFERS: u32 = 16384;

impl World {
    /// Registers something with a ring.
    pub(in crate::sim) fn register(
        &mut self,
        task: usize,
        id: FileId,
        what: &Registration<'_>,
    ) -> Result<u32, Errno> {
        self.own_ring(task, id)?;
        let process = self.tasks[task].process;
        match *what {
            Registration::Files(numbers) => self.register_files(process, id, numbers),
            Registration::Buffers(count) => {
                let ring = self.ring(id).ok_or(Errno::EBADF)?;
                if ring.table.is_some() {
                    return Err(Errno::EBUSY);
                }
                if count == 0 || count > MAX_BUFFERS {
                    return Err(Errno::EINVAL);
                }
                ring.table = Some(vec![None; count as usize]);
                Ok(0)
            }
            Registration::BufferRing { group, entries } => self.provide(id, group, entries),
            Registration::MaxWorkers(_) => Ok(0),
            Registration::RingFd => {
                let free =
                    (0..MAX_RINGS).find(|index| !self.ring_names.contains_key(&(task, *index)));
                let index = free.ok_or(Errno::EBUSY)?;
                self.hold(id);
                self.tasks[task].has_rings = true;
                self.ring_names.insert((task, index), id);
                Ok(index)
            }
            Registration::UnregisterRingFd(index) => {
                if index >= MAX_RINGS {
                    return Err(Errno::EINVAL);
                }
                if let Some(ring) = self.ring_names.remove(&(task, index)) {
                    self.let_go(ring);
                }
                Ok(1)
            }
        }
    }

    /// The ring with which a task may register something.
    fn own_ring(&mut self, task: usize, id: FileId) -> Result<&mut Ring, Errno> {
        self.file(self.tasks[task].process, id)?;
        let ring = self.ring(id).ok_or(Errno::EOPNOTSUPP)?;
        match ring.issuer {
            Some(issuer) if issuer != task => Err(Errno::EEXIST),
            _ => Ok(ring),
        }
    }

    /// Keeps the rights that a task has now, for those who name the answered number.
    pub(in crate::sim) fn register_personality(
        &mut self,
        task: usize,
        id: FileId,
    ) -> Result<u32, Errno> {
        let admin = self.tasks[task].admin;
        let ring = self.own_ring(task, id)?;
        ring.personalities.push(admin);
        Ok(u32::try_from(ring.personalities.len()).expect("few"))
    }

    fn register_files(
        &mut self,
        process: usize,
        id: FileId,
        numbers: &[i32],
    ) -> Result<u32, Errno> {
        if self.ring(id).is_some_and(|ring| ring.fixed.is_some()) {
            return Err(Errno::EBUSY);
        }
        if numbers.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut files = Vec::new();
        for number in numbers {
            if *number == -1 {
                files.push(None);
                continue;
            }
            let file = self.named(process, *number)?;
            if let Named::Inside(id) = file
                && self.ring(id).is_some()
            {
                return Err(Errno::EBADF);
            }
            files.push(Some(file));
        }
        for file in files.iter().flatten() {
            self.hold_named(file);
        }
        if let Some(ring) = self.ring(id) {
            ring.fixed = Some(files);
        }
        Ok(0)
    }

    /// The ring that a task registered as `index`.
    pub(super) fn registered_ring(&self, task: usize, index: u32) -> Result<FileId, Errno> {
        if index >= MAX_RINGS || !self.tasks[task].has_rings {
            return Err(Errno::EINVAL);
        }
        self.ring_names.get(&(task, index)).copied().ok_or(Errno::EBADF)
    }
}
