//! START_DEV: what the disk is like, by its parameters and the block layer.

use super::add::refuse_if;
use super::params::known_types;
use crate::errno::Errno;
use crate::sim::profile::{Profile, Rule};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{SECTOR_BYTES, ublk_params};

/// A disk as the block layer treats it. Sectors are of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Its size.
    pub capacity_sectors: u64,
    /// The unit of addressing.
    pub logical_block_bytes: u32,
    /// The unit that is written without reading first.
    pub physical_block_bytes: u32,
    /// The smallest request that is not slow.
    pub io_min_bytes: u32,
    /// The best request; 0 where none was told.
    pub io_opt_bytes: u32,
    /// The largest request with data that the device takes.
    pub max_hw_sectors: u32,
    /// The largest that clients' reads and writes come in.
    pub max_sectors: u32,
    /// The largest DISCARD; 0 where there is none.
    pub max_discard_sectors: u32,
    /// The unit of discarding; 0 where there is none.
    pub discard_granularity_bytes: u32,
    /// The largest WRITE_ZEROES; 0 where there is none.
    pub max_write_zeroes_sectors: u32,
    /// Requests do not cross multiples of this; the size of a zone. 0 for none.
    pub chunk_sectors: u32,
    /// Pieces of memory in a request, at the most.
    pub max_segments: u16,
    /// The longest piece.
    pub max_segment_bytes: u32,
    /// Pieces do not cross multiples of this and one.
    pub segment_boundary_mask: u64,
    /// Pieces join only at addresses with these bits clear.
    pub virt_boundary_mask: u64,
    /// Clients' memory begins at addresses with these bits clear, when it is not copied first.
    pub dma_alignment_mask: u32,
    /// FLUSH is sent.
    pub volatile_cache: bool,
    /// WRITE is sent with FUA.
    pub fua: bool,
    /// Writers are refused.
    pub read_only: bool,
    /// Seeking costs time.
    pub rotational: bool,
    /// The zones, on a zoned disk.
    pub zones: Option<Zones>,
}

/// What only zoned disks have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Zones {
    /// Zones open at once; 0 for any number.
    pub max_open: u32,
    /// Zones open or closed at once; 0 for any number.
    pub max_active: u32,
    /// The largest append.
    pub max_append_sectors: u32,
}

/// The disk that START_DEV would attach, or the block layer's refusal. `params` are valid, or were
/// never set.
///
/// What it says to what the driver stored unseen is not played.
pub(in crate::sim) fn limits(
    profile: Profile,
    device_flags: u64,
    params: &ublk_params,
) -> Result<Limits, Errno> {
    refuse_if(params.types & sys::UBLK_PARAM_TYPE_BASIC == 0)?;
    let basic = &params.basic;
    // Shifts above 31 can only be where they are not bounded, and count as x86 does there.
    let size = |shift: u8| 1_u32.wrapping_shl(shift.into());
    let logical_block_bytes = size(basic.logical_bs_shift);
    let physical_block_bytes = size(basic.physical_bs_shift).max(logical_block_bytes);
    let io_min_bytes = size(basic.io_min_shift).max(physical_block_bytes);
    let io_opt_bytes = size(basic.io_opt_shift) / physical_block_bytes * physical_block_bytes;
    let max_hw_sectors = whole_blocks(basic.max_sectors, logical_block_bytes);
    let cut = cut_sectors(profile, io_opt_bytes, io_min_bytes);
    let known = known_types(profile);
    let has = |kind| params.types & known & kind != 0;
    let discard =
        if has(sys::UBLK_PARAM_TYPE_DISCARD) { params.discard } else { Default::default() };
    let granularity = discard.discard_granularity.max(physical_block_bytes);
    let segment = has(sys::UBLK_PARAM_TYPE_SEGMENT).then_some(params.seg);
    let volatile_cache = basic.attrs & sys::UBLK_ATTR_VOLATILE_CACHE != 0;
    Ok(Limits {
        capacity_sectors: basic.dev_sectors,
        logical_block_bytes,
        physical_block_bytes,
        io_min_bytes,
        io_opt_bytes,
        max_hw_sectors,
        max_sectors: whole_blocks(max_hw_sectors.min(cut), logical_block_bytes),
        max_discard_sectors: discard.max_discard_sectors,
        discard_granularity_bytes: if discard.max_discard_sectors == 0 { 0 } else { granularity },
        max_write_zeroes_sectors: discard.max_write_zeroes_sectors,
        chunk_sectors: basic.chunk_sectors,
        max_segments: segment.map_or(u16::MAX, |segment| segment.max_segments),
        max_segment_bytes: segment.map_or(u32::MAX, |segment| segment.max_segment_size),
        segment_boundary_mask: segment.map_or(u32::MAX.into(), |s| s.seg_boundary_mask),
        virt_boundary_mask: basic.virt_boundary_mask,
        dma_alignment_mask: match params.dma.alignment {
            _ if !has(sys::UBLK_PARAM_TYPE_DMA_ALIGN) => 3,
            0 => 511, // taken for not set
            mask => mask,
        },
        volatile_cache,
        fua: volatile_cache && basic.attrs & sys::UBLK_ATTR_FUA != 0,
        read_only: basic.attrs & sys::UBLK_ATTR_READ_ONLY != 0,
        rotational: basic.attrs & sys::UBLK_ATTR_ROTATIONAL != 0,
        zones: zones(device_flags, params)?,
    })
}

fn zones(device_flags: u64, params: &ublk_params) -> Result<Option<Zones>, Errno> {
    if device_flags & sys::UBLK_F_ZONED == 0 {
        return Ok(None);
    }
    let zoned = &params.zoned;
    let (max_open, max_active) = (zoned.max_open_zones, zoned.max_active_zones);
    refuse_if(max_active != 0 && max_open > max_active)?;
    let max_append_sectors = zoned.max_zone_append_sectors;
    Ok(Some(Zones { max_open, max_active, max_append_sectors }))
}

/// Where the block layer cuts reads and writes of its own accord.
fn cut_sectors(profile: Profile, io_opt_bytes: u32, io_min_bytes: u32) -> u32 {
    let kib: u32 = if profile.has(Rule::CutsAtFourMebibytes) { 4096 } else { 1280 };
    let usual = kib << 10;
    let bytes = [io_opt_bytes, io_min_bytes].into_iter().find(|good| *good > usual);
    bytes.unwrap_or(usual) >> SECTOR_BYTES.trailing_zeros()
}

fn whole_blocks(sectors: u32, block_bytes: u32) -> u32 {
    let block_sectors = block_bytes >> SECTOR_BYTES.trailing_zeros();
    sectors / block_sectors * block_sectors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> ublk_params {
        let mut params = ublk_params { types: sys::UBLK_PARAM_TYPE_BASIC, ..Default::default() };
        params.basic.logical_bs_shift = 9;
        params.basic.physical_bs_shift = 12;
        params.basic.max_sectors = 65_535;
        params.basic.dev_sectors = u64::MAX;
        params
    }

    fn newest(params: &ublk_params) -> Limits {
        limits(Profile::NEWEST, 0, params).unwrap()
    }

    #[test]
    fn never_set_is_invalid() {
        let unset = ublk_params::default();
        assert_eq!(limits(Profile::NEWEST, 0, &unset), Err(Errno::EINVAL));
    }

    #[test]
    fn sizes_are_made_to_fit() {
        let mut params = params();
        params.basic.io_opt_shift = 11;
        let disk = newest(&params);
        assert_eq!(disk.capacity_sectors, u64::MAX);
        assert_eq!((disk.logical_block_bytes, disk.physical_block_bytes), (512, 4096));
        assert_eq!((disk.io_min_bytes, disk.io_opt_bytes), (4096, 0));
        assert_eq!(disk.max_hw_sectors, 65_535);
        params.basic.logical_bs_shift = 12;
        assert_eq!(newest(&params).max_hw_sectors, 65_528);
    }

    #[test]
    fn large_requests_are_cut_unless_they_are_good() {
        let mut params = params();
        let oldest = |params: &ublk_params| limits(Profile::OLDEST, 0, params).unwrap().max_sectors;
        assert_eq!((newest(&params).max_sectors, oldest(&params)), (8192, 2560));
        params.basic.io_opt_shift = 22; // not larger than what is usual now
        assert_eq!((newest(&params).max_sectors, oldest(&params)), (8192, 8192));
        params.basic.io_min_shift = 23;
        assert_eq!((newest(&params).max_sectors, oldest(&params)), (16_384, 8192));
        params.basic.max_sectors = 9;
        assert_eq!(newest(&params).max_sectors, 9);
    }

    #[test]
    fn what_was_not_declared_does_not_count() {
        let mut params = params();
        params.discard.discard_granularity = 512;
        params.discard.max_discard_sectors = 7;
        params.discard.max_write_zeroes_sectors = 8;
        params.seg.max_segments = 1;
        params.dma.alignment = 15;
        let disk = newest(&params);
        assert_eq!((disk.max_discard_sectors, disk.max_write_zeroes_sectors), (0, 0));
        assert_eq!((disk.discard_granularity_bytes, disk.zones), (0, None));
        assert_eq!((disk.max_segments, disk.dma_alignment_mask), (u16::MAX, 3));
        params.types |= sys::UBLK_PARAM_TYPE_DISCARD
            | sys::UBLK_PARAM_TYPE_SEGMENT
            | sys::UBLK_PARAM_TYPE_DMA_ALIGN;
        let disk = newest(&params);
        assert_eq!((disk.max_discard_sectors, disk.max_write_zeroes_sectors), (7, 8));
        assert_eq!(disk.discard_granularity_bytes, 4096, "at least a physical block");
        assert_eq!((disk.max_segments, disk.dma_alignment_mask), (1, 15));
        let anywhere = ublk_params { dma: Default::default(), ..params };
        assert_eq!(newest(&anywhere).dma_alignment_mask, 511, "the block layer's own");
        // What the oldest kernel does not know, it does not follow.
        let old = limits(Profile::OLDEST, 0, &params).unwrap();
        assert_eq!((old.max_segments, old.dma_alignment_mask), (u16::MAX, 3));
    }

    #[test]
    fn fua_needs_a_cache() {
        let mut params = params();
        let mut worth = |attrs| {
            params.basic.attrs = attrs;
            let disk = newest(&params);
            (disk.volatile_cache, disk.fua, disk.read_only, disk.rotational)
        };
        assert_eq!(worth(0), (false, false, false, false));
        assert_eq!(worth(sys::UBLK_ATTR_FUA), (false, false, false, false));
        let both = sys::UBLK_ATTR_FUA | sys::UBLK_ATTR_VOLATILE_CACHE;
        assert_eq!(worth(both), (true, true, false, false));
        let last = sys::UBLK_ATTR_READ_ONLY | sys::UBLK_ATTR_ROTATIONAL;
        assert_eq!(worth(last), (false, false, true, true));
    }

    #[test]
    fn more_open_than_active_zones_cannot_be() {
        let mut params = params();
        params.zoned.max_open_zones = 3;
        let zones = |params: &ublk_params, flags| limits(Profile::NEWEST, flags, params);
        assert_eq!(zones(&params, sys::UBLK_F_ZONED).unwrap().zones.unwrap().max_open, 3);
        params.zoned.max_active_zones = 2;
        assert_eq!(zones(&params, sys::UBLK_F_ZONED), Err(Errno::EINVAL));
        assert!(zones(&params, 0).is_ok());
    }
}
