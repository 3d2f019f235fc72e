//! Where a request's data is on each data path, and what brings it to the handler.

use super::desk::Enter;
use super::mover::CharDevice;
use super::{Queue, QueueError, QueuePlan};
use crate::data_path::DataPath;
use crate::errno::Errno;
use crate::handler::{Completion, Handler, Mover};
use crate::id::Id;
use crate::kernel::Kernel;
use crate::needs::Access;
use crate::request::{Operation as Asked, Request};
use crate::ring::Sqe;
use crate::slots::{Action, Operation, Where};
use ublkit_sys::ublk;

impl<F> QueuePlan<F> {
    /// Where the data of a new request is.
    pub(super) fn place(&self, request: &Request, op_flags: u32, has_data_to_fetch: bool) -> Where {
        let is_registered = ublk::flags(op_flags) & ublk::UBLK_IO_F_NEED_REG_BUF == 0;
        match self.path {
            DataPath::Copy => Where::Buffer,
            // Before 6.2 there may be something to fetch for a flush.
            _ if request.data_bytes() == 0 && !has_data_to_fetch => Where::Buffer,
            DataPath::ZeroCopy if is_registered => Where::Table,
            DataPath::ZeroCopy | DataPath::ZeroCopyByHand | DataPath::UserCopy => Where::Kernel,
            // Of a read: from where the kernel shall take it is for the handler to say.
            DataPath::GetData if has_data_to_fetch => Where::Kernel,
            DataPath::GetData
                if request.operation == Asked::Read && self.needs.access == Access::Regions =>
            {
                Where::Kernel
            }
            DataPath::GetData => Where::Buffer,
        }
    }
}

impl<K: Kernel, H: Handler> Queue<K, H> {
    /// Brings a request's data from where the kernel has it to where the handler can use it, and
    /// starts the request when it is there.
    pub(super) fn bring_data(&mut self, tag: u16) -> Result<(), QueueError> {
        // A handler without operations could not use the ring's table.
        let by_table = self.has_table && self.plan.needs.operations > 0;
        match self.plan.path {
            DataPath::GetData => self.fetch_data(tag),
            DataPath::ZeroCopyByHand if by_table => self.register_pages(tag),
            _ => self.start_with_copy(tag),
        }
    }

    /// Starts a request whose data the handler wants in the buffer, though the kernel has it.
    fn start_with_copy(&mut self, tag: u16) -> Result<(), QueueError> {
        let request = self.slots[tag].request();
        self.slots.at(tag).set_request(request, Where::Copy);
        if let Asked::Write { .. } = request.operation {
            let char_device = CharDevice::of(&self.ring, &self.plan);
            let copied = char_device.fetch(tag, self.slots.at(tag).data().into());
            if let Err(errno) = copied {
                self.slots.at(tag).settle(Err(errno));
                return self.commit_if_settled(tag);
            }
        }
        self.enter(tag, Enter::Start)
    }

    /// Has the driver put a request's pages into the ring's table, at the tag's place.
    fn register_pages(&mut self, tag: u16) -> Result<(), QueueError> {
        self.enter(tag, Enter::Ask(Operation::new(Action::Register, 0)))
    }

    /// The driver has done so, or says why not; then the data is copied.
    pub(super) fn registered(&mut self, tag: u16, result: i32) -> Result<(), QueueError> {
        if result >= 0 {
            self.slots.at(tag).set_place(Where::Table);
        }
        match self.slots[tag].place() {
            // It was given up.
            _ if self.slots[tag].answer().is_some() => self.commit_if_settled(tag)?,
            Where::Table => self.enter(tag, Enter::Start)?,
            _ => self.start_with_copy(tag)?,
        }
        self.note_waiting(tag);
        Ok(())
    }

    /// Has a request's pages leave the ring's table, if they were put there by hand: the client is
    /// answered only then.
    pub(super) fn unregister_pages(&mut self, tag: u16) -> Result<(), QueueError> {
        if self.plan.path == DataPath::ZeroCopyByHand && self.slots[tag].place() == Where::Table {
            let empty = Sqe::unregister_pages(self.common.name(tag), Id::Emptied.encode());
            self.ring.submissions().push(empty)?;
            // Once, also if the slot's next request is taken without being started.
            self.slots.at(tag).set_place(Where::Buffer);
        }
        Ok(())
    }

    /// Has the driver put a write's data into the buffer.
    pub(super) fn fetch_data(&mut self, tag: u16) -> Result<(), QueueError> {
        let buffer = self.slots.at(tag).fetch_data(None, 0, self.ring.submissions().number());
        let id = Id::Command { tag }.encode();
        let get_data = Sqe::get_data(self.common.name(tag), buffer, id);
        self.note_waiting(tag);
        Ok(self.ring.submissions().push(get_data)?)
    }

    /// A command is over that had the driver put a write's data somewhere: the data is there, or
    /// the write was taken back.
    pub(super) fn fetch_ended(
        &mut self,
        tag: u16,
        cookie: u8,
        is_to_fetch: bool,
    ) -> Result<(), QueueError> {
        let descriptor = self.descriptors.copy(tag);
        // What is no write was never asked for.
        if is_to_fetch || ublk::op(descriptor.op_flags) != ublk::UBLK_IO_OP_WRITE {
            self.note_no_room(tag);
            self.taken_back(tag, cookie, is_to_fetch)?;
        } else {
            self.fetched(tag, cookie, &descriptor)?;
        }
        self.note_waiting(tag);
        Ok(())
    }

    /// A write's data is where it was to be put; the driver says again what was written, for it
    /// may be less if that place was no good.
    fn fetched(
        &mut self,
        tag: u16,
        cookie: u8,
        descriptor: &ublk::ublksrv_io_desc,
    ) -> Result<(), QueueError> {
        if self.slots[tag].answer().is_some() {
            return self.commit_if_settled(tag);
        }
        let again = Request::decode(*descriptor, &self.plan.limits);
        let whole = again == Ok(self.slots[tag].request());
        let result = match again {
            Ok(request) if whole => {
                if self.room.is_short() {
                    self.room.succeeds(&request);
                }
                Ok(request.data_bytes())
            }
            _ => Err(Errno::EIO),
        };
        match result {
            _ if self.has_started(tag) => self.resume(tag, Completion { cookie, result }),
            Ok(_) => self.enter(tag, Enter::Start),
            Err(errno) => {
                self.slots.at(tag).settle(Err(errno));
                self.commit_if_settled(tag)
            }
        }
    }

    /// Does what is left to do for a read's data before its success is told.
    pub(super) fn complete_data(&mut self, tag: u16) -> Result<(), Errno> {
        if self.slots[tag].is_unfilled() {
            return Err(Errno::EIO); // of what others left there, the client must see nothing
        }
        if self.slots[tag].has_copy_to_give() {
            let char_device = CharDevice::of(&self.ring, &self.plan);
            return char_device.give(tag, (&*self.slots.at(tag).data()).into());
        }
        Ok(())
    }
}
