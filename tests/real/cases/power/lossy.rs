//! The disk below: it forgets what was not flushed.

use super::BLOCK;
use crate::dice::Dice;
use std::sync::{Arc, Mutex, MutexGuard};
use ublkit::{Backend, Blocking, Builder, Durability, Errno, Geometry, Server};

/// A disk whose cache is lost when the power is cut.
#[derive(Clone, Debug)]
pub(in super::super) struct Lossy(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// What clients see,
    now: Vec<u8>,
    /// what stays without power,
    durable: Vec<u8>,
    /// and the blocks that were written since the last flush, each time that they were.
    cached: Vec<(usize, Vec<u8>)>,
    has_power: bool,
}

impl Inner {
    /// Of what was not flushed, some is there and some is not, in any order.
    fn left(&self, dice: &mut Dice) -> Vec<u8> {
        let mut left = self.durable.clone();
        let mut cached: Vec<_> = self.cached.iter().collect();
        while !cached.is_empty() {
            let (offset, data) = cached.swap_remove(dice.below(cached.len()));
            if dice.below(2) == 0 {
                left[*offset..][..BLOCK].copy_from_slice(data);
            }
        }
        left
    }
}

impl Lossy {
    pub(in super::super) fn new(blocks: usize) -> Self {
        Self::holding(vec![0; blocks * BLOCK])
    }

    /// A disk that was switched on again.
    pub(super) fn holding(durable: Vec<u8>) -> Self {
        let (now, cached) = (durable.clone(), Vec::new());
        Self(Arc::new(Mutex::new(Inner { now, durable, cached, has_power: true })))
    }

    fn inner(&self) -> Result<MutexGuard<'_, Inner>, Errno> {
        let inner = self.0.lock().expect("no panic");
        if inner.has_power { Ok(inner) } else { Err(Errno::EIO) }
    }

    /// Has no power any more, and fails everything. Answers what is left.
    pub(in super::super) fn cut(&self, dice: &mut Dice) -> Vec<u8> {
        let mut inner = self.0.lock().expect("no panic");
        inner.has_power = false;
        inner.left(dice)
    }

    /// What would be left if power went now. Whoever goes on is not told: without power he would
    /// not go on.
    pub(super) fn at_this_moment(&self, dice: &mut Dice) -> Vec<u8> {
        self.0.lock().expect("no panic").left(dice)
    }
}

impl Backend for Lossy {
    fn geometry(&self) -> Geometry {
        let mut geometry = Geometry::new(self.0.lock().expect("no panic").now.len() as u64);
        (geometry.logical_block_bytes, geometry.physical_block_bytes) =
            (BLOCK as u32, BLOCK as u32);
        geometry.durability = Durability::FlushAndFua;
        geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.copy_from_slice(&self.inner()?.now[offset as usize..][..data.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut inner = self.inner()?;
        for (offset, block) in (offset as usize..).step_by(BLOCK).zip(data.chunks(BLOCK)) {
            inner.now[offset..][..BLOCK].copy_from_slice(block);
            inner.cached.push((offset, block.to_vec()));
        }
        Ok(())
    }

    fn write_durably(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut inner = self.inner()?;
        let offset = offset as usize;
        inner.now[offset..][..data.len()].copy_from_slice(data);
        inner.durable[offset..][..data.len()].copy_from_slice(data);
        let range = offset..offset + data.len();
        inner.cached.retain(|(cached, _)| !range.contains(cached));
        Ok(())
    }

    fn flush(&self) -> Result<(), Errno> {
        let mut inner = self.inner()?;
        let Inner { durable, cached, .. } = &mut *inner;
        for (offset, block) in cached.drain(..) {
            durable[offset..][..BLOCK].copy_from_slice(&block);
        }
        Ok(())
    }
}

pub(in super::super) fn serve_below(lossy: &Lossy) -> Server {
    Builder::new().serve(Blocking::new(lossy.clone())).expect("a device")
}
