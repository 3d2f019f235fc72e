//! Commands of many slots, for devices with `BATCH_IO`, and the buffers that their tags come in.

use super::build::PAGE_BYTES;
use super::bytes::Bytes;
use super::queues::Provided;
use super::run::Run;
use super::show;
use super::sqe::{Fd, Sqe, Tail, Word};
use super::world::World;
use super::{Register, Script, Step};
use std::collections::BTreeMap;
use std::sync::Arc;
use ublkit::kernel::{Access, Kernel};
use ublkit::sys::abi::as_bytes;
use ublkit::sys::io_uring::{
    IORING_CQE_BUFFER_SHIFT, IORING_CQE_F_BUFFER, IORING_OFF_PBUF_RING, IORING_OFF_PBUF_SHIFT,
    IORING_URING_CMD_MULTISHOT, IOSQE_BUFFER_SELECT, io_uring_cqe,
};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::{ublk_batch_io, ublk_elem_header};

/// The group of provided buffers that scripts use.
pub const GROUP: u16 = 0;
/// How many buffers a script gives a group at the most.
const ROOM: u16 = 128;

/// What a command says of one slot.
#[derive(Clone, Copy, Debug)]
pub struct Element {
    pub tag: u16,
    /// Its pages' place in the ring's table.
    pub place: u16,
    pub result: i32,
    /// Its buffer, where the command's flags say that there is one.
    pub addr: Word,
}

/// An element with a buffer.
pub fn element(tag: u16, result: i32, buffer: usize) -> Element {
    Element { tag, place: 0, result, addr: Word::Buffer(buffer) }
}

/// A command of elements, or one that brings tags.
#[derive(Clone, Debug)]
pub struct Batch {
    pub head: ublk_batch_io,
    pub elements: Vec<Element>,
}

fn command(name: &str, op: u32, queue: u16, elements: &[Element]) -> Sqe {
    let text = elements.iter().map(|element| format!(" {}:{}", element.tag, element.result));
    let head = ublk_batch_io {
        q_id: queue,
        flags: sys::UBLK_BATCH_F_HAS_BUF_ADDR,
        nr_elem: u16::try_from(elements.len()).expect("few"),
        elem_bytes: 16,
        ..ublk_batch_io::default()
    };
    let tail = Tail::Batch(Batch { head, elements: elements.to_vec() });
    Sqe::new(format!("{name} {queue}{}", text.collect::<String>()), op, Fd::Char(0), tail)
}

/// PREP: offers slots, with a buffer each.
pub fn prepare(queue: u16, elements: &[Element]) -> Sqe {
    command("prepare", sys::UBLK_U_IO_PREP_IO_CMDS, queue, elements)
}

/// COMMIT: answers requests, and offers the slots with a buffer each.
pub fn commit_all(queue: u16, elements: &[Element]) -> Sqe {
    command("commit-all", sys::UBLK_U_IO_COMMIT_IO_CMDS, queue, elements)
}

/// FETCH: brings tags in buffers of the group.
pub fn fetch_tags(queue: u16) -> Sqe {
    let op = sys::UBLK_U_IO_FETCH_IO_CMDS;
    let sqe = command("fetch-tags", op, queue, &[]).head("", |head| {
        (head.flags, head.elem_bytes) = (0, 2);
    });
    Sqe { flags: IOSQE_BUFFER_SELECT, op_flags: IORING_URING_CMD_MULTISHOT, group: GROUP, ..sqe }
}

impl Sqe {
    /// With another head.
    #[must_use]
    pub fn head(mut self, text: &str, change: impl FnOnce(&mut ublk_batch_io)) -> Self {
        let Tail::Batch(batch) = &mut self.tail else { panic!("a command of many slots") };
        change(&mut batch.head);
        if !text.is_empty() {
            self.text += &format!(" {text}");
        }
        self
    }

    /// With elements that have no buffers.
    #[must_use]
    pub fn bare(self) -> Self {
        self.head("bare", |head| (head.flags, head.elem_bytes) = (0, 8))
    }
}

impl Script {
    /// A group of buffers for tags, with so many of 64 bytes in it.
    pub fn tag_buffers(&mut self, ring: usize, count: u16) {
        self.together("with buffers for tags", |s| {
            s.register(ring, ring, Register::Group(ROOM));
            s.step(Step::Provide { ring, count, len: 64 });
        });
    }
}

/// The buffers that tags come in.
#[derive(Debug)]
pub(super) struct Group<M> {
    ring: Provided<M>,
    buffers: Vec<Bytes>,
}

impl<W: World> Run<'_, W> {
    /// The bytes of a command, and of its elements.
    pub(super) fn batch(&mut self, batch: &Batch) -> ([u64; 2], Bytes) {
        let mut bytes = Vec::new();
        let each = usize::from(batch.head.elem_bytes);
        for element in &batch.elements {
            let head = ublk_elem_header {
                tag: self.real_tag(batch.head.q_id, element.tag),
                buf_index: element.place,
                result: element.result,
            };
            let mut whole = as_bytes(&head).to_vec();
            whole.extend(self.word(element.addr).to_ne_bytes());
            whole.resize(each.max(8), 0);
            bytes.extend(whole);
        }
        let head = as_bytes(&batch.head);
        let word = |at: usize| u64::from_ne_bytes(*head[at..].first_chunk().expect("8 of 16"));
        ([word(0), word(8)], Bytes::from(&bytes))
    }

    /// Puts so many buffers of `len` bytes in the group, which is mapped when it is first used.
    pub(super) fn provide(&mut self, ring: usize, count: u16, len: usize) -> String {
        if !self.groups.contains_key(&ring) {
            let Some(made) = self.rings.get(&ring) else { return "no ring".into() };
            let (task, file) = (made.task, Arc::clone(&made.file));
            let place = IORING_OFF_PBUF_RING | u64::from(GROUP) << IORING_OFF_PBUF_SHIFT;
            let map = move |kernel: &W::K| kernel.map(&file, place, PAGE_BYTES, Access::ReadWrite);
            match self.on(task, map) {
                None => return "hangs".into(),
                Some(Err(error)) => return show::errno(error),
                Some(Ok(mapping)) => {
                    let ring_of_buffers = Provided::new(mapping);
                    self.groups.insert(ring, Group { ring: ring_of_buffers, buffers: Vec::new() });
                }
            }
        }
        let group = self.groups.get_mut(&ring).expect("it was made");
        for _ in 0..count {
            let buffer = Bytes::new(len, 0xbb);
            let number = u16::try_from(group.buffers.len()).expect("few");
            group.buffers.push(buffer);
            group.ring.add(buffer.address(), u32::try_from(len).expect("short"), number);
        }
        "ok".into()
    }

    /// What a completion of such a command tells: the requests whose tags it brings.
    pub(super) fn batch_completed(
        &mut self,
        ring: usize,
        sqe: &Sqe,
        memory: Option<Bytes>,
        cqe: io_uring_cqe,
    ) -> String {
        let Tail::Batch(Batch { head, .. }) = &sqe.tail else { return String::new() };
        let bytes = usize::try_from(cqe.res).unwrap_or(0);
        let tags = |bytes: &[u8], each: usize| -> Vec<u16> {
            let whole = bytes.chunks_exact(each.max(2));
            whole.map(|one| u16::from_ne_bytes([one[0], one[1]])).collect()
        };
        let known = self.tags.entry(head.q_id).or_default();
        if sqe.op == sys::UBLK_U_IO_COMMIT_IO_CMDS
            && let Some(memory) = memory
        {
            let answered = tags(&memory.read(bytes), head.elem_bytes.into());
            known.retain(|tag| !answered.contains(tag));
        }
        if cqe.flags & IORING_CQE_F_BUFFER == 0 {
            return String::new();
        }
        let number = (cqe.flags >> IORING_CQE_BUFFER_SHIFT) as usize;
        let buffer = self.groups.get(&ring).and_then(|group| group.buffers.get(number));
        let Some(buffer) = buffer else { return " in no buffer".into() };
        let brought = tags(&buffer.read(bytes), 2);
        known.extend(&brought);
        self.had_batches.insert((ring, sqe.fd, head.q_id));
        let Fd::Char(file) = sqe.fd else { return String::new() };
        brought.into_iter().map(|tag| self.descriptor(file, head.q_id, tag)).collect()
    }

    /// Commands that answer all requests that a server of such a device still has, with EIO.
    pub(super) fn batches_that_end(&self) -> Vec<(usize, Sqe)> {
        let mut all = Vec::new();
        for (ring, fd, queue) in &self.had_batches {
            let known = self.tags.get(queue).map_or(0, Vec::len);
            for tag in (0..known).filter_map(|tag| u16::try_from(tag).ok()) {
                let one = commit_all(*queue, &[element(tag, -libc::EIO, 0)]);
                let sqe = Sqe { fd: *fd, ..one };
                all.extend([(*ring, sqe.clone()), (*ring, sqe.bare())]);
            }
        }
        all
    }
}

/// The groups of a script's rings.
pub(super) type Groups<W> = BTreeMap<usize, Group<<<W as World>::K as Kernel>::Mapping>>;
