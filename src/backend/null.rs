//! [`Null`]: a disk that keeps nothing.

use super::Backend;
use crate::errno::Errno;
use crate::geometry::Geometry;

/// A disk that keeps nothing and answers at once: what the way there and back costs.
///
/// A read returns whatever its buffer held: zeros at first, later what was written to this device.
#[derive(Debug)]
pub struct Null {
    geometry: Geometry,
}

impl Null {
    /// A disk that looks like `geometry`; discards and zeroings are answered too.
    pub const fn new(geometry: Geometry) -> Self {
        Self { geometry: Geometry { discard_bytes: 4096, write_zeroes: true, ..geometry } }
    }
}

impl Backend for Null {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&self, _offset: u64, _data: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Result<(), Errno> {
        Ok(())
    }

    fn discard(&self, _offset: u64, _len_bytes: u64) -> Result<(), Errno> {
        Ok(())
    }

    fn write_zeroes(&self, _offset: u64, _len_bytes: u64, _may_unmap: bool) -> Result<(), Errno> {
        Ok(())
    }
}
