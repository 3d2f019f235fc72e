use super::*;
use crate::region::Region;
use crate::ring::fake_submissions;
use crate::slots::{Share, Slots};

struct Nobody;

impl Mover for Nobody {
    fn fetch(&self, _: u16, _: Destination<'_>) -> Result<(), Errno> {
        Err(Errno::EIO)
    }

    fn give(&self, _: u16, _: Source<'_>) -> Result<(), Errno> {
        Err(Errno::EIO)
    }
}

/// Has a handler's view of a write of 1024 bytes on tag 3.
fn with_io<T>(look: impl FnOnce(&mut Io<'_>) -> T) -> T {
    with_io_of(Asked::Write { fua: true }, look)
}

pub(crate) fn with_io_of<T>(operation: Asked, look: impl FnOnce(&mut Io<'_>) -> T) -> T {
    let allowed = crate::slots::Allowed { each: 1, places: 1 };
    let regions = vec![Region::new(8192).unwrap().into()];
    let mut slots = Slots::new(DataPath::Copy, 4, Share::ALL, 4096, allowed, regions).unwrap();
    slots.at(3).lend(0);
    assert!(slots.at(3).take(1));
    let request = Request { operation, offset: 512, len_bytes: 1024 };
    slots.at(3).set_request(request, Where::Buffer);
    let char_device = FileName::Number(3);
    let slot = ring::Slot { char_device, queue: 0, tag: 0, registers: false };
    look(&mut Io {
        at: slots.at(3),
        submissions: &mut fake_submissions(),
        common: &Common {
            slot,
            commit: CommitAndFetch::new(slot),
            files: [FileName::Fixed(1)].into(),
            path: DataPath::Copy,
        },
        mover: &Nobody,
    })
}

/// What a handler that panics prints.
#[test]
fn an_io_prints_what_is_asked() {
    let text = with_io(|io| format!("{io:?}"));
    assert!(text.starts_with("Io { tag: 3, request: Request { operation: Write"), "{text}");
}

/// Numbers of the header, on purpose: to keep the size 1, to punch a hole 2, to zero 0x10.
#[test]
fn space_is_what_fallocate_calls_it() {
    let modes = [Space::Taken, Space::GivenUp, Space::Zeroed, Space::Discarded].map(Space::mode);
    assert_eq!(modes, [Some(1), Some(3), Some(0x11), None]);
}

#[test]
fn a_request_has_its_data_and_waits_when_it_is_parked() {
    assert_eq!(with_io(|io| io.data().len()), 1024);
    let waits = |io: &mut Io<'_>| io.at.is_waiting();
    assert!(!with_io(|io| waits(io)));
    assert!(with_io(|io| {
        io.park(7);
        waits(io)
    }));
}

#[test]
fn operations_that_cannot_be_are_refused() {
    let file = FileIndex(0);
    for part in [0..1025, 1024..1025, Range { start: 2, end: 1 }] {
        assert_eq!(with_io(|io| io.read(file, 0, part, 0)), Err(Errno::EINVAL));
    }
    assert_eq!(with_io(|io| io.read(file, 0, 0..1024, 0)), Ok(()), "all of it");
    let end = i64::MAX as u64;
    assert_eq!(with_io(|io| io.write(file, end, 0..1, false, 0)), Err(Errno::EINVAL));
    assert_eq!(with_io(|io| io.write(file, end - 1, 0..1, false, 0)), Ok(()));
    assert_eq!(with_io(|io| io.read(FileIndex(1), 0, 0..512, 0)), Err(Errno::EBADF));
    assert_eq!(with_io(|io| io.sync(FileIndex(1), true, 0)), Err(Errno::EBADF));
    assert_eq!(with_io(|io| io.readable(FileIndex(1), 0)), Err(Errno::EBADF));
    let backwards = Range { start: 2, end: 1 };
    let refused = with_io(|io| io.allocate(file, Space::Zeroed, backwards, 0));
    assert_eq!(refused, Err(Errno::EINVAL));
    let twice = with_io(|io| {
        io.delay(Duration::ZERO, 0).unwrap();
        io.sync(file, true, 1)
    });
    assert_eq!(twice, Err(Errno::EBUSY));
    let refused = Step::Done(Err(Errno::EINVAL));
    assert_eq!(with_io(|io| io.store(RegionIndex(1), 0, 0)), refused, "no such region");
    assert_eq!(with_io(|io| io.load(RegionIndex(0), 0)), refused, "it is a write");
    assert_eq!(with_io_of(Asked::Read, |io| io.store(RegionIndex(0), 0, 0)), refused);
    let moved = Step::Done(Ok(()));
    assert_eq!(with_io_of(Asked::Read, |io| io.load(RegionIndex(0), 512)), moved);
    assert_eq!(with_io(|io| io.store(RegionIndex(0), 512, 0)), moved);
}
