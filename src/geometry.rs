//! [`Geometry`]: what a disk is and can do, and the kernel's parameters made from it.

use crate::memory::page_bytes;
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::SECTOR_BYTES;
use ublkit_sys::ublk::{ublk_param_basic, ublk_param_discard, ublk_param_dma_align, ublk_params};

/// What a completed write is worth: declared by the backend, and the kernel is told just that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A completed write is as durable as it ever gets. The kernel sends no FLUSH.
    #[default]
    WriteThrough,
    /// A completed write is durable after the next FLUSH. The kernel turns FUA into FLUSH.
    Flush,
    /// The same, and a write with FUA is durable when it completes.
    FlushAndFua,
}

/// A disk: its size, its blocks, and what it can do. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// The disk's size, a multiple of the logical block.
    pub size_bytes: u64,
    /// The unit of addressing: a power of two from 512 to the page size.
    pub logical_block_bytes: u32,
    /// The unit that is written without reading first: a power of two, at least the logical block.
    pub physical_block_bytes: u32,
    /// What a completed write is worth.
    pub durability: Durability,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether the disk can forget contents, in units of so many bytes (a power of two); 0 if not.
    pub discard_bytes: u32,
    /// Whether the disk can zero a range without being sent zeros.
    pub write_zeroes: bool,
    /// How clients' memory must be aligned, so that it can be handed on: a power of two up to the
    /// page size; 0 if anyhow. Kernels before 6.15 do not know of it.
    pub data_align_bytes: u32,
}

/// The longest range of one DISCARD: short enough to be answered soon.
const MAX_DISCARD_BYTES: u64 = 1 << 31;
/// The longest range of one WRITE_ZEROES, which may really have to write.
const MAX_WRITE_ZEROES_BYTES: u64 = 1 << 27;

impl Geometry {
    /// A disk of `size_bytes` with 512-byte blocks that can be read, written and no more.
    pub const fn new(size_bytes: u64) -> Self {
        Self {
            size_bytes,
            logical_block_bytes: 512,
            physical_block_bytes: 512,
            durability: Durability::WriteThrough,
            read_only: false,
            discard_bytes: 0,
            write_zeroes: false,
            data_align_bytes: 0,
        }
    }

    /// Why no such disk can be, in a sentence.
    pub(crate) fn check(&self) -> Result<(), String> {
        let logical = self.logical_block_bytes;
        let physical = self.physical_block_bytes;
        let page = page_bytes();
        if !logical.is_power_of_two() || logical < 512 || logical as usize > page {
            return Err(format!(
                "a block size of {logical} bytes cannot be: choose 512, 1024, 2048 or {page}"
            ));
        }
        if !physical.is_power_of_two() || !(logical..=1 << 28).contains(&physical) {
            return Err(format!(
                "a physical block of {physical} bytes cannot be: choose a power of two from \
                 {logical} to {}",
                1 << 28
            ));
        }
        if self.size_bytes == 0 {
            return Err("a disk of 0 bytes cannot be: give a size such as 512M or 1G".into());
        }
        if !self.size_bytes.is_multiple_of(u64::from(logical)) {
            return Err(format!(
                "a size of {} bytes is no multiple of the block size of {logical}: \
                 choose one that is",
                self.size_bytes
            ));
        }
        if self.size_bytes > i64::MAX as u64 {
            return Err(format!(
                "a disk of {} bytes is too large: choose less than 8192P",
                self.size_bytes
            ));
        }
        let discard = self.discard_bytes;
        if discard != 0 && !discard.is_power_of_two() {
            return Err(format!(
                "a discard unit of {discard} bytes cannot be: choose a power of two"
            ));
        }
        let align = self.data_align_bytes;
        if align != 0 && (!align.is_power_of_two() || align as usize > page) {
            return Err(format!(
                "an alignment of {align} bytes cannot be: choose a power of two up to {page}"
            ));
        }
        Ok(())
    }

    /// The parameters for the kernel. `self` was checked.
    pub(crate) fn params(&self, max_io_bytes: u32) -> ublk_params {
        let mut attrs = match self.durability {
            Durability::WriteThrough => 0,
            Durability::Flush => sys::UBLK_ATTR_VOLATILE_CACHE,
            Durability::FlushAndFua => sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA,
        };
        if self.read_only {
            attrs |= sys::UBLK_ATTR_READ_ONLY;
        }
        let physical_bs_shift = shift(self.physical_block_bytes);
        let mut types = sys::UBLK_PARAM_TYPE_BASIC;
        let mut discard = ublk_param_discard::default();
        if self.discard_bytes != 0 || self.write_zeroes {
            types |= sys::UBLK_PARAM_TYPE_DISCARD;
            discard.discard_granularity = self.discard_bytes.max(self.logical_block_bytes);
            if self.discard_bytes != 0 {
                discard.max_discard_sectors = sectors(MAX_DISCARD_BYTES);
                discard.max_discard_segments = 1;
            }
            if self.write_zeroes {
                discard.max_write_zeroes_sectors = sectors(MAX_WRITE_ZEROES_BYTES);
            }
        }
        let mut dma = ublk_param_dma_align::default();
        if self.data_align_bytes != 0 {
            types |= sys::UBLK_PARAM_TYPE_DMA_ALIGN;
            dma.alignment = self.data_align_bytes - 1;
        }
        #[expect(clippy::cast_possible_truncation, reason = "152 bytes")]
        let len = size_of::<ublk_params>() as u32;
        ublk_params {
            len,
            types,
            basic: ublk_param_basic {
                attrs,
                logical_bs_shift: shift(self.logical_block_bytes),
                physical_bs_shift,
                io_opt_shift: physical_bs_shift,
                io_min_shift: physical_bs_shift,
                max_sectors: sectors(u64::from(max_io_bytes)),
                dev_sectors: self.size_bytes / SECTOR_BYTES,
                ..ublk_param_basic::default()
            },
            discard,
            dma,
            ..ublk_params::default()
        }
    }

    /// Why the disk is another than the one that the kernel has from an earlier server, in half a
    /// sentence: what clients rely upon must be the same. `self` was checked.
    pub(crate) fn check_same(&self, params: &ublk_params) -> Result<(), String> {
        let own = self.params(0); // how large requests are is the kernel's affair
        let (theirs, ours) = (&params.basic, &own.basic);
        if theirs.dev_sectors != ours.dev_sectors {
            let bytes = theirs.dev_sectors.saturating_mul(SECTOR_BYTES);
            return Err(format!("it has {bytes} bytes, and this one {}", self.size_bytes));
        }
        if theirs.logical_bs_shift != ours.logical_bs_shift {
            let bytes = 1_u64.checked_shl(theirs.logical_bs_shift.into()).unwrap_or(0);
            let own = self.logical_block_bytes;
            return Err(format!("its blocks are of {bytes} bytes, and of this one {own}"));
        }
        for (attr, name) in [
            (sys::UBLK_ATTR_READ_ONLY, "read-only"),
            (sys::UBLK_ATTR_VOLATILE_CACHE, "write-back"),
            (sys::UBLK_ATTR_FUA, "for FUA"),
        ] {
            if (theirs.attrs ^ ours.attrs) & attr != 0 {
                let not = if theirs.attrs & attr == 0 { "not " } else { "" };
                return Err(format!("it is {not}{name}, unlike this one"));
            }
        }
        // A discard is a favour: whether there are any may change with what is below the disk, and
        // those that it cannot do any more are answered so.
        let zeroes = |params: &ublk_params| {
            let has = params.types & sys::UBLK_PARAM_TYPE_DISCARD != 0;
            has && params.discard.max_write_zeroes_sectors != 0
        };
        if zeroes(params) != zeroes(&own) {
            return Err("only one of them can zero a range".into());
        }
        // Older kernels forget what they do not know: then it was not so before either.
        let aligned = |params: &ublk_params| params.dma.alignment;
        if params.types & sys::UBLK_PARAM_TYPE_DMA_ALIGN != 0 && aligned(params) < aligned(&own) {
            return Err("its clients' memory is aligned less than this one needs".into());
        }
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a shift is at most 31")]
const fn shift(power_of_two: u32) -> u8 {
    power_of_two.trailing_zeros() as u8
}

#[expect(clippy::cast_possible_truncation, reason = "callers stay below 2 TiB")]
const fn sectors(bytes: u64) -> u32 {
    (bytes / SECTOR_BYTES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_disks_are_refused_in_words() {
        let good = Geometry::new(1 << 20);
        assert_eq!(good.check(), Ok(()));
        let bad = [
            Geometry { size_bytes: 0, ..good },
            Geometry { size_bytes: 1000, ..good },
            Geometry { size_bytes: 1 << 63, ..good },
            Geometry { logical_block_bytes: 256, ..good },
            Geometry { logical_block_bytes: 1000, ..good },
            Geometry { logical_block_bytes: 1 << 20, ..good },
            Geometry { physical_block_bytes: 0, ..good },
            Geometry { logical_block_bytes: 4096, ..good },
            Geometry { discard_bytes: 3000, ..good },
            Geometry { data_align_bytes: 3, ..good },
            Geometry { data_align_bytes: 1 << 20, ..good },
        ];
        for geometry in bad {
            assert!(geometry.check().is_err(), "{geometry:?}");
        }
    }

    #[test]
    fn the_least_and_the_most_can_be() {
        let good = Geometry::new(1 << 30);
        let page = u32::try_from(page_bytes()).unwrap();
        let borders = [
            Geometry { size_bytes: 512, ..good },
            Geometry { size_bytes: (1 << 63) - 512, ..good },
            Geometry { logical_block_bytes: page, physical_block_bytes: page, ..good },
            Geometry { physical_block_bytes: 1 << 28, ..good },
            Geometry { discard_bytes: 1 << 31, ..good },
            Geometry { data_align_bytes: 1, ..good },
            Geometry { data_align_bytes: page, ..good },
        ];
        for geometry in borders {
            assert_eq!(geometry.check(), Ok(()), "{geometry:?}");
        }
    }

    /// A disk that is served anew is the one that its clients know, or it is said what differs.
    #[test]
    fn another_disk_is_told_from_the_same() {
        let known = Geometry {
            logical_block_bytes: 1024,
            physical_block_bytes: 4096,
            durability: Durability::FlushAndFua,
            discard_bytes: 4096,
            write_zeroes: true,
            data_align_bytes: 512,
            ..Geometry::new(1 << 30)
        };
        let params = known.params(1 << 19);
        // Hints may change, and memory may be aligned better than is needed by now.
        let same = [
            known,
            Geometry { physical_block_bytes: 1024, ..known },
            Geometry { discard_bytes: 1024, ..known },
            Geometry { data_align_bytes: 256, ..known },
            Geometry { data_align_bytes: 0, ..known },
        ];
        for geometry in same {
            assert_eq!(geometry.check_same(&params), Ok(()), "{geometry:?}");
        }
        let durability = Durability::WriteThrough;
        let others = [
            (
                Geometry { size_bytes: 1 << 31, ..known },
                "1073741824 bytes, and this one 2147483648",
            ),
            (Geometry { logical_block_bytes: 512, ..known }, "of 1024 bytes, and of this one 512"),
            (Geometry { read_only: true, ..known }, "it is not read-only"),
            (Geometry { durability, ..known }, "it is write-back"),
            (Geometry { durability: Durability::Flush, ..known }, "it is for FUA"),
            (Geometry { write_zeroes: false, ..known }, "can zero"),
            (Geometry { discard_bytes: 0, write_zeroes: false, ..known }, "can zero"),
            (Geometry { data_align_bytes: 1024, ..known }, "aligned less"),
        ];
        for (geometry, words) in others {
            let why = geometry.check_same(&params).unwrap_err();
            assert!(why.contains(words), "{geometry:?}: {why}");
            let other = geometry.params(1 << 19);
            // The other way round it is not the same either, but for memory.
            assert_eq!(known.check_same(&other).is_ok(), words == "aligned less", "{geometry:?}");
        }
        // An older kernel forgot the alignment, and what it does not say of discards is nothing.
        let (types, dma) = (params.types & !sys::UBLK_PARAM_TYPE_DMA_ALIGN, Default::default());
        assert_eq!(known.check_same(&ublk_params { types, dma, ..params }), Ok(()));
        let types = params.types & !sys::UBLK_PARAM_TYPE_DISCARD;
        assert!(known.check_same(&ublk_params { types, ..params }).is_err());
        let plain = Geometry::new(1 << 30);
        let (zeroes, discards) =
            (Geometry { write_zeroes: true, ..plain }, Geometry { discard_bytes: 4096, ..plain });
        assert!(plain.check_same(&zeroes.params(0)).is_err());
        // Whether there are discards may change, either way.
        assert_eq!(plain.check_same(&discards.params(0)), Ok(()));
        assert_eq!(discards.check_same(&plain.params(0)), Ok(()));
    }

    #[test]
    fn attributes_follow_durability() {
        let attrs =
            |durability| Geometry { durability, ..Geometry::new(512) }.params(1 << 20).basic.attrs;
        assert_eq!(attrs(Durability::WriteThrough), 0);
        assert_eq!(attrs(Durability::Flush), sys::UBLK_ATTR_VOLATILE_CACHE);
        let both = sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA;
        assert_eq!(attrs(Durability::FlushAndFua), both);
    }

    #[test]
    fn bytes_become_sectors_of_512_whatever_the_block() {
        let geometry = Geometry {
            logical_block_bytes: 4096,
            physical_block_bytes: 4096,
            discard_bytes: 4096,
            ..Geometry::new(1 << 30)
        };
        let params = geometry.params(1 << 19);
        assert_eq!(params.basic.dev_sectors, 1 << 21);
        assert_eq!(params.basic.max_sectors, 1 << 10);
        assert_eq!(params.basic.logical_bs_shift, 12);
        assert_eq!(params.discard.discard_granularity, 4096);
        assert_eq!(params.discard.max_write_zeroes_sectors, 0);
    }

    #[test]
    fn parameters_name_what_they_hold() {
        let plain = Geometry { physical_block_bytes: 4096, ..Geometry::new(1 << 30) };
        let params = plain.params(1 << 19);
        assert_eq!((params.len, params.types), (152, sys::UBLK_PARAM_TYPE_BASIC));
        let ublk_param_basic { logical_bs_shift, physical_bs_shift, .. } = params.basic;
        let hints = (params.basic.io_min_shift, params.basic.io_opt_shift);
        assert_eq!((logical_bs_shift, physical_bs_shift, hints), (9, 12, (12, 12)));

        let zeroes = Geometry { write_zeroes: true, ..plain }.params(1 << 19);
        assert_eq!(zeroes.types, sys::UBLK_PARAM_TYPE_BASIC | sys::UBLK_PARAM_TYPE_DISCARD);
        let ublk_param_discard { max_discard_sectors, max_write_zeroes_sectors, .. } =
            zeroes.discard;
        assert_eq!((max_discard_sectors, max_write_zeroes_sectors), (0, 1 << 18));
        let discard = Geometry { discard_bytes: 4096, ..plain }.params(1 << 19).discard;
        assert_eq!((discard.max_discard_sectors, discard.max_discard_segments), (1 << 22, 1));
        let read_only = Geometry { read_only: true, ..plain }.params(1 << 19);
        assert_eq!(read_only.basic.attrs, sys::UBLK_ATTR_READ_ONLY);
        let aligned = Geometry { data_align_bytes: 512, ..plain }.params(1 << 19);
        assert_eq!(aligned.types, sys::UBLK_PARAM_TYPE_BASIC | sys::UBLK_PARAM_TYPE_DMA_ALIGN);
        assert_eq!(aligned.dma.alignment, 511, "a mask");
    }

    /// Whatever disk [`Geometry::check`] lets pass, every kernel takes, and makes the same of it.
    #[cfg(feature = "sim")]
    #[test]
    fn every_kernel_takes_what_was_checked() {
        use crate::sim::{Profile, accepts, disk};

        let blocks = (8..=29).map(|shift| 1_u32 << shift).chain([0, 513]).collect::<Vec<_>>();
        let sizes = [0, 512, 4096, 4608, 1 << 30, (1 << 63) - 4096, 1 << 63, u64::MAX];
        let (mut passed, mut stopped) = (0, 0);
        for case in 0..blocks.len().pow(3) * sizes.len() * 36 {
            let mut rest = case;
            let mut one_of = |count| {
                let choice = rest % count;
                rest /= count;
                choice
            };
            let geometry = Geometry {
                logical_block_bytes: blocks[one_of(blocks.len())],
                physical_block_bytes: blocks[one_of(blocks.len())],
                discard_bytes: blocks[one_of(blocks.len())],
                size_bytes: sizes[one_of(sizes.len())],
                durability: [Durability::WriteThrough, Durability::Flush, Durability::FlushAndFua]
                    [one_of(3)],
                read_only: one_of(2) == 1,
                write_zeroes: one_of(2) == 1,
                data_align_bytes: [0, 1, 4096][one_of(3)],
            };
            if geometry.check().is_err() {
                stopped += 1;
                continue;
            }
            passed += 1;
            for (profile, max_io_bytes) in
                Profile::ALL.iter().flat_map(|profile| [4096, 1 << 19].map(|max| (*profile, max)))
            {
                let params = geometry.params(max_io_bytes);
                assert_eq!(accepts(profile, 0, max_io_bytes, &params), Ok(()), "{geometry:?}");
                let disk = disk(profile, 0, &params).expect("a disk");
                assert_eq!(disk.capacity_sectors * SECTOR_BYTES, geometry.size_bytes);
                assert_eq!(disk.logical_block_bytes, geometry.logical_block_bytes);
                assert_eq!(disk.physical_block_bytes, geometry.physical_block_bytes);
                assert_eq!(u64::from(disk.max_hw_sectors) * SECTOR_BYTES, u64::from(max_io_bytes));
                assert_eq!(disk.max_discard_sectors != 0, geometry.discard_bytes != 0);
                assert_eq!(disk.max_write_zeroes_sectors != 0, geometry.write_zeroes);
                assert_eq!(disk.volatile_cache, geometry.durability != Durability::WriteThrough);
                assert_eq!(disk.fua, geometry.durability == Durability::FlushAndFua);
                assert_eq!(disk.read_only, geometry.read_only);
            }
        }
        assert!(passed > 10_000 && stopped > passed, "{passed} passed, {stopped} did not");
    }

    /// What is refused here for the kernel's sake, a kernel refuses.
    #[cfg(feature = "sim")]
    #[test]
    fn what_is_refused_no_kernel_takes() {
        use crate::sim::{Profile, accepts};

        let good = Geometry::new(1 << 20);
        for (logical_block_bytes, physical_block_bytes) in
            [(256, 512), (8192, 8192), (4096, 512), (512, 1 << 29)]
        {
            let bad = Geometry { logical_block_bytes, physical_block_bytes, ..good };
            assert!(bad.check().is_err());
            let answer = accepts(Profile::NEWEST, 0, 1 << 19, &bad.params(1 << 19));
            assert!(answer.is_err(), "{bad:?}");
        }
    }
}
