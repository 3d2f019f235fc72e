//! Requests that come from no client's asking: as a real block layer once handed them over.

use super::Sim;
use super::block::Request;
use super::faults::Faults;
use super::ublk::SlotName;
use super::world::World;
use ublkit_sys::ublk as sys;

/// A request for the driver, word for word as its I/O descriptor will say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// Operation and flags, as in the descriptor.
    pub op_flags: u32,
    /// Where, in sectors of 512 bytes.
    pub start_sector: u64,
    /// How many.
    pub nr_sectors: u32,
    /// What a write brings: that many sectors.
    pub data: Vec<u8>,
}

impl Sim {
    /// Gives this request this tag of this queue of device `id`, past the block layer's checks and
    /// cuts; answers its number as an asking. `None` when there is no such tag, it is in use, the
    /// request is longer than the device takes, or the data is not that long.
    pub fn inject(&self, id: u32, queue: u16, tag: u16, request: Injected) -> Option<u64> {
        let mut world = self.shared.lock();
        let device = world.devices.find(id)?;
        world.inject(SlotName { device, queue, tag }, request)
    }

    /// From now on the kernel does that.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// The machine has so many CPUs, 4 unless said otherwise: no device has more queues.
    pub fn set_cpus(&self, cpus: u16) {
        self.shared.lock().cpus = cpus;
    }
}

impl World {
    fn inject(&mut self, name: SlotName, injected: Injected) -> Option<u64> {
        let Injected { op_flags, start_sector: sector, nr_sectors: sectors, mut data } = injected;
        let (op, flags) = (sys::op(op_flags), sys::flags(op_flags));
        let mut request = Request { asking: 0, op, flags, sector, sectors, data_at: 0 };
        let len_bytes = request.data_bytes();
        if !self.devices.has_room(name, len_bytes) {
            return None;
        }
        let is_read = op == sys::UBLK_IO_OP_READ;
        if is_read {
            data = vec![0xa5; len_bytes];
        }
        if data.len() != len_bytes {
            return None;
        }
        let asking = self.clients.begin(data, is_read);
        request.asking = asking;
        let id = self.clients.number();
        self.clients.requests.insert(id, request);
        self.give_tag(name, id);
        Some(asking)
    }
}
