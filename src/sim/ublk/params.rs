//! SET_PARAMS: which parameters a device takes.

use super::add::{PAGE_BYTES, refuse_if};
use crate::errno::Errno;
use crate::sim::profile::{Profile, Rule};
use ublkit_sys::abi::{as_bytes, from_bytes};
use ublkit_sys::ublk as sys;
use ublkit_sys::ublk::{SECTOR_BYTES, ublk_param_integrity, ublk_params};

/// `ublk_params::len` and `types`.
const HEADER_BYTES: usize = 8;
/// 2 to this is the largest size of a block, and of a good request.
const MAX_SHIFT: u8 = 28;

/// How much of [`ublk_params`] this kernel knows; it takes no notice of what follows.
pub(in crate::sim) fn known_bytes(profile: Profile) -> usize {
    use core::mem::offset_of;
    if profile.features() & sys::UBLK_F_INTEGRITY != 0 {
        size_of::<ublk_params>()
    } else if profile.features() & sys::UBLK_F_SUPPORT_ZERO_COPY != 0 {
        offset_of!(ublk_params, integrity) // zero copy brought `dma` and `seg`
    } else {
        112 // `zoned`, and padding to a multiple of eight
    }
}

/// The types of parameters that this kernel knows; it forgets the others.
pub(in crate::sim) fn known_types(profile: Profile) -> u32 {
    const BASE: u32 = sys::UBLK_PARAM_TYPE_BASIC
        | sys::UBLK_PARAM_TYPE_DISCARD
        | sys::UBLK_PARAM_TYPE_DEVT
        | sys::UBLK_PARAM_TYPE_ZONED;
    let later = [
        (sys::UBLK_PARAM_TYPE_DMA_ALIGN, sys::UBLK_F_SUPPORT_ZERO_COPY),
        (sys::UBLK_PARAM_TYPE_SEGMENT, sys::UBLK_F_SUPPORT_ZERO_COPY),
        (sys::UBLK_PARAM_TYPE_INTEGRITY, sys::UBLK_F_INTEGRITY),
    ];
    let known = later.iter().filter(|(_, with)| profile.features() & with != 0);
    known.fold(BASE, |types, (kind, _)| types | kind)
}

/// What a device that keeps `kept` is asked to keep: `sent` is what lies at the command's `addr`,
/// as long as its `len`.
pub(in crate::sim) fn merged(
    profile: Profile,
    kept: &ublk_params,
    sent: &[u8],
) -> Result<ublk_params, Errno> {
    refuse_if(sent.len() <= HEADER_BYTES)?;
    let word = |at: usize| sent[at..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    let (len_bytes, types) = (word(0) as usize, word(4));
    refuse_if(len_bytes == 0 || types == 0 || len_bytes > sent.len())?;
    let mut bytes = as_bytes(kept).to_vec();
    let len_bytes = len_bytes.min(known_bytes(profile));
    bytes[..len_bytes].copy_from_slice(&sent[..len_bytes]);
    let params: ublk_params = from_bytes(&bytes).ok_or(Errno::EINVAL)?;
    Ok(ublk_params { types: params.types & known_types(profile), ..params })
}

/// The device keeps `params` for what it `kept`, if they are valid; otherwise nothing of both.
pub(in crate::sim) fn keep(
    profile: Profile,
    device_flags: u64,
    max_io_buf_bytes: u32,
    kept: &mut ublk_params,
    params: ublk_params,
) -> Result<(), Errno> {
    let answer = validate(profile, device_flags, max_io_buf_bytes, &params);
    *kept = if answer.is_ok() { params } else { forgotten(profile, &params) };
    answer
}

fn forgotten(profile: Profile, params: &ublk_params) -> ublk_params {
    if profile.has(Rule::RefusalForgetsAll) {
        return ublk_params::default();
    }
    ublk_params { types: 0, ..*params }
}

/// Whether a device with these flags and this largest request can have `params`, whose types are
/// [known](known_types).
fn validate(
    profile: Profile,
    device_flags: u64,
    max_io_buf_bytes: u32,
    params: &ublk_params,
) -> Result<(), Errno> {
    let has = |kind| params.types & kind != 0;
    let is_zoned = device_flags & sys::UBLK_F_ZONED != 0;
    refuse_if(!has(sys::UBLK_PARAM_TYPE_BASIC))?;
    basic(profile, is_zoned, max_io_buf_bytes, params)?;
    if has(sys::UBLK_PARAM_TYPE_DISCARD) {
        let discard = &params.discard;
        let is_split = discard.max_discard_sectors != 0 && discard.max_discard_segments != 1;
        refuse_if(is_split || discard.discard_granularity == 0)?;
    }
    refuse_if(has(sys::UBLK_PARAM_TYPE_DEVT))?;
    refuse_if(has(sys::UBLK_PARAM_TYPE_ZONED) != is_zoned)?;
    if is_zoned {
        return zoned(params); // and nothing that follows is looked at
    }
    memory(params)?;
    if has(sys::UBLK_PARAM_TYPE_INTEGRITY) {
        refuse_if(device_flags & sys::UBLK_F_INTEGRITY == 0)?;
        integrity(&params.integrity, params.basic.logical_bs_shift)?;
    }
    Ok(())
}

fn basic(
    profile: Profile,
    is_zoned: bool,
    max_io_buf_bytes: u32,
    params: &ublk_params,
) -> Result<(), Errno> {
    let basic = &params.basic;
    let logical = basic.logical_bs_shift;
    refuse_if(!(9..=12).contains(&logical) || basic.physical_bs_shift < logical)?;
    if profile.has(Rule::ShiftsAreBounded) {
        let shifts = [basic.physical_bs_shift, basic.io_min_shift, basic.io_opt_shift];
        refuse_if(shifts.iter().any(|shift| *shift > MAX_SHIFT))?;
    }
    let bytes = u64::from(basic.max_sectors) * SECTOR_BYTES;
    let least = if profile.has(Rule::RequestsHoldAPage) { PAGE_BYTES } else { 0 };
    refuse_if(!(u64::from(least)..=u64::from(max_io_buf_bytes)).contains(&bytes))?;
    if profile.has(Rule::ZonesArePowersOfTwo) {
        return refuse_if(is_zoned && !basic.chunk_sectors.is_power_of_two());
    }
    refuse_if(is_zoned && basic.chunk_sectors == 0)
}

fn zoned(params: &ublk_params) -> Result<(), Errno> {
    let zoned = &params.zoned;
    refuse_if(zoned.max_zone_append_sectors == 0)?;
    // Taken for a power of two even where it need not be one.
    let zones = params.basic.dev_sectors >> params.basic.chunk_sectors.ilog2();
    #[expect(clippy::cast_possible_truncation, reason = "the driver counts zones in 32 bits")]
    let zones = zones as u32;
    refuse_if(zoned.max_active_zones > zones || zoned.max_open_zones > zones)
}

fn memory(params: &ublk_params) -> Result<(), Errno> {
    if params.types & sys::UBLK_PARAM_TYPE_DMA_ALIGN != 0 {
        let mask = params.dma.alignment;
        refuse_if(mask >= PAGE_BYTES || !(mask + 1).is_power_of_two())?;
    }
    if params.types & sys::UBLK_PARAM_TYPE_SEGMENT != 0 {
        let boundary_bytes = params.seg.seg_boundary_mask.wrapping_add(1);
        refuse_if(!boundary_bytes.is_power_of_two())?;
        refuse_if(boundary_bytes < u64::from(sys::UBLK_MIN_SEGMENT_SIZE))?;
        refuse_if(params.seg.max_segment_size < sys::UBLK_MIN_SEGMENT_SIZE)?;
    }
    Ok(())
}

fn integrity(integrity: &ublk_param_integrity, logical_bs_shift: u8) -> Result<(), Errno> {
    refuse_if(integrity.flags & !(sys::LBMD_PI_CAP_INTEGRITY | sys::LBMD_PI_CAP_REFTAG) != 0)?;
    let tuple_bytes: u16 = match integrity.csum_type {
        sys::LBMD_PI_CSUM_NONE => 0,
        sys::LBMD_PI_CSUM_IP | sys::LBMD_PI_CSUM_CRC16_T10DIF => 8,
        sys::LBMD_PI_CSUM_CRC64_NVME => 16,
        _ => return Err(Errno::EINVAL),
    };
    refuse_if(tuple_bytes == 0 && integrity.flags & sys::LBMD_PI_CAP_REFTAG != 0)?;
    refuse_if(integrity.metadata_size == 0)?;
    refuse_if(u16::from(integrity.pi_offset) + tuple_bytes > integrity.metadata_size.into())?;
    refuse_if(!(9..=logical_bs_shift).contains(&integrity.interval_exp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX_IO_BYTES: u32 = 64 << 10;

    /// Parameters that every kernel takes, with these types.
    fn sound(types: u32) -> ublk_params {
        let mut params = ublk_params {
            len: u32::try_from(size_of::<ublk_params>()).unwrap(),
            types: sys::UBLK_PARAM_TYPE_BASIC | types,
            ..ublk_params::default()
        };
        params.basic.logical_bs_shift = 9;
        params.basic.physical_bs_shift = 12;
        params.basic.max_sectors = 128;
        params.basic.chunk_sectors = 64;
        params.basic.dev_sectors = 1024;
        params.discard.discard_granularity = 4096;
        params.discard.max_discard_sectors = 8;
        params.discard.max_discard_segments = 1;
        params.zoned.max_zone_append_sectors = 8;
        params.dma.alignment = 511;
        params.seg.seg_boundary_mask = 4095;
        params.seg.max_segment_size = 4096;
        params.integrity.metadata_size = 16;
        params.integrity.pi_offset = 8;
        params.integrity.csum_type = sys::LBMD_PI_CSUM_CRC16_T10DIF;
        params.integrity.flags = sys::LBMD_PI_CAP_INTEGRITY | sys::LBMD_PI_CAP_REFTAG;
        params.integrity.interval_exp = 9;
        params
    }

    type Spoil = fn(&mut ublk_params);

    /// Each refusal of `validate`: device flags, types, what spoils it, and since which profile.
    const SPOILS: &[(u64, u32, &str, Spoil)] = &[
        (0, 0, "6.12", |p| p.types = sys::UBLK_PARAM_TYPE_DISCARD),
        (0, 0, "6.12", |p| p.basic.logical_bs_shift = 8),
        (0, 0, "6.12", |p| (p.basic.logical_bs_shift, p.basic.physical_bs_shift) = (13, 13)),
        (0, 0, "6.12", |p| p.basic.physical_bs_shift = 8),
        (0, 0, "7.2", |p| p.basic.physical_bs_shift = 29),
        (0, 0, "7.2", |p| p.basic.io_min_shift = 29),
        (0, 0, "7.2", |p| p.basic.io_opt_shift = 255),
        (0, 0, "6.12", |p| p.basic.max_sectors = 129),
        (0, 0, "6.12", |p| p.basic.max_sectors = u32::MAX),
        (0, sys::UBLK_PARAM_TYPE_DISCARD, "6.12", |p| p.discard.discard_granularity = 0),
        (0, sys::UBLK_PARAM_TYPE_DISCARD, "6.12", |p| p.discard.max_discard_segments = 2),
        (0, sys::UBLK_PARAM_TYPE_DISCARD, "6.12", |p| p.discard.max_discard_segments = 0),
        (0, 0, "6.12", |p| p.types |= sys::UBLK_PARAM_TYPE_DEVT),
        (0, 0, "6.12", |p| p.types |= sys::UBLK_PARAM_TYPE_ZONED),
        (sys::UBLK_F_ZONED, ZONED, "6.12", |p| p.types &= !ZONED),
        (sys::UBLK_F_ZONED, ZONED, "6.12", |p| p.basic.chunk_sectors = 0),
        (sys::UBLK_F_ZONED, ZONED, "6.12", |p| p.zoned.max_zone_append_sectors = 0),
        (sys::UBLK_F_ZONED, ZONED, "6.12", |p| p.zoned.max_open_zones = 17),
        (sys::UBLK_F_ZONED, ZONED, "6.12", |p| p.zoned.max_active_zones = 17),
        (0, sys::UBLK_PARAM_TYPE_DMA_ALIGN, "6.16", |p| p.dma.alignment = 2),
        (0, sys::UBLK_PARAM_TYPE_DMA_ALIGN, "6.16", |p| p.dma.alignment = 4096),
        (0, sys::UBLK_PARAM_TYPE_DMA_ALIGN, "6.16", |p| p.dma.alignment = u32::MAX),
        (0, sys::UBLK_PARAM_TYPE_SEGMENT, "6.16", |p| p.seg.seg_boundary_mask = 2047),
        (0, sys::UBLK_PARAM_TYPE_SEGMENT, "6.16", |p| p.seg.seg_boundary_mask = 4096),
        (0, sys::UBLK_PARAM_TYPE_SEGMENT, "6.16", |p| p.seg.seg_boundary_mask = u64::MAX),
        (0, sys::UBLK_PARAM_TYPE_SEGMENT, "6.16", |p| p.seg.max_segment_size = 4095),
        (0, 0, "7.0", |p| p.types |= INTEGRITY),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| p.integrity.flags = 4),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| p.integrity.csum_type = 3),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| p.integrity.csum_type = 0),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| p.integrity.pi_offset = 9),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| p.integrity.metadata_size = 15),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| p.integrity.interval_exp = 8),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| p.integrity.interval_exp = 10),
        (sys::UBLK_F_INTEGRITY, INTEGRITY, "7.0", |p| {
            p.integrity = ublk_param_integrity { interval_exp: 9, ..Default::default() };
        }),
    ];
    const ZONED: u32 = sys::UBLK_PARAM_TYPE_ZONED;
    const INTEGRITY: u32 = sys::UBLK_PARAM_TYPE_INTEGRITY;

    #[test]
    fn each_check_is_one_value_away_from_sound() {
        for (at, (flags, types, since, spoil)) in SPOILS.iter().enumerate() {
            let since = Profile::named(since).expect("a profile");
            let good = sound(*types);
            let mut bad = good;
            spoil(&mut bad);
            for profile in Profile::ALL {
                let check = |params| crate::sim::accepts(*profile, *flags, MAX_IO_BYTES, params);
                assert_eq!(check(&good), Ok(()), "spoil {at} before, {profile}");
                let knows = profile.features() >= since.features();
                let expected = if knows { Err(Errno::EINVAL) } else { Ok(()) };
                assert_eq!(check(&bad), expected, "spoil {at}, {profile}");
            }
        }
    }

    #[test]
    fn odd_values_that_are_taken() {
        let newest =
            |flags, params: &ublk_params| validate(Profile::NEWEST, flags, MAX_IO_BYTES, params);
        // Behind zones nothing is looked at.
        let later = ZONED | INTEGRITY | sys::UBLK_PARAM_TYPE_SEGMENT;
        let unseen = ublk_params { seg: Default::default(), ..sound(later) };
        assert_eq!(newest(sys::UBLK_F_ZONED, &unseen), Ok(()));
        // Zones are counted in 32 bits.
        let mut many = sound(ZONED);
        many.basic.dev_sectors = 1 << 38;
        many.zoned.max_open_zones = 1;
        assert_eq!(newest(sys::UBLK_F_ZONED, &many), Err(Errno::EINVAL));
        // Once they could be of any size, and were counted as if it were the power of two below.
        let mut odd = sound(ZONED);
        odd.basic.chunk_sectors = 96;
        odd.zoned.max_open_zones = 16;
        let older = Profile::named("6.16").unwrap();
        let older = |params: &ublk_params| validate(older, sys::UBLK_F_ZONED, MAX_IO_BYTES, params);
        assert_eq!(older(&odd), Ok(()));
        odd.zoned.max_open_zones = 17;
        assert_eq!(older(&odd), Err(Errno::EINVAL));
        // No size is refused, and a discard of nothing in no pieces is one.
        let mut params = sound(sys::UBLK_PARAM_TYPE_DISCARD);
        params.basic.dev_sectors = u64::MAX;
        params.basic.chunk_sectors = 3;
        params.discard.max_discard_sectors = 0;
        params.discard.max_discard_segments = 0;
        assert_eq!(newest(0, &params), Ok(()));
    }

    #[test]
    fn checks_that_an_old_series_was_given_later() {
        let mut small = sound(0);
        small.basic.max_sectors = 7;
        let mut odd = sound(ZONED);
        odd.basic.chunk_sectors = 48;
        for (name, is_taken) in [("6.12", false), ("6.16", true), ("6.18", true), ("7.3", false)] {
            let profile = Profile::named(name).unwrap();
            for (flags, params) in [(0, small), (sys::UBLK_F_ZONED, odd)] {
                let answer = validate(profile, flags, MAX_IO_BYTES, &params);
                assert_eq!(answer.is_ok(), is_taken, "{name}, flags {flags:#x}");
            }
        }
    }

    #[test]
    fn lengths_come_first() {
        let newest = |kept: &ublk_params, sent: &[u8]| merged(Profile::NEWEST, kept, sent);
        let fresh = ublk_params::default();
        let params = sound(0);
        let sent = as_bytes(&params);
        assert_eq!(newest(&fresh, sent), Ok(params));
        for short in [&[], &sent[..8], &sent[..151]] {
            assert_eq!(newest(&fresh, short), Err(Errno::EINVAL), "shorter than it says");
        }
        for (len, types) in [(0, 1), (16, 0), (153, 1)] {
            let bad = ublk_params { len, types, ..params };
            assert_eq!(newest(&fresh, as_bytes(&bad)), Err(Errno::EINVAL), "{len} {types}");
        }
        let longer = [sent, &[0xff; 100]].concat();
        assert_eq!(newest(&fresh, &longer), Ok(params), "what is not known is not read");
        // What was not sent stays.
        let mut part = params;
        part.len = 16;
        part.basic.max_sectors = 8;
        part.basic.attrs = sys::UBLK_ATTR_FUA;
        let kept = newest(&params, as_bytes(&part)).unwrap();
        assert_eq!((kept.basic.attrs, kept.basic.max_sectors), (sys::UBLK_ATTR_FUA, 128));
    }

    #[test]
    fn old_kernels_know_less() {
        let known = |name| known_bytes(Profile::named(name).unwrap());
        assert_eq!(["6.12", "6.16", "7.3"].map(known), [112, 136, 152]);
        let sent = sound(sys::UBLK_PARAM_TYPE_SEGMENT);
        let kept = merged(Profile::OLDEST, &ublk_params::default(), as_bytes(&sent)).unwrap();
        assert_eq!((kept.types, kept.zoned), (sys::UBLK_PARAM_TYPE_BASIC, sent.zoned));
        assert_eq!(kept.seg, Default::default());
        assert_eq!(forgotten(Profile::OLDEST, &sent), ublk_params { types: 0, ..sent });
        assert_eq!(forgotten(Profile::NEWEST, &sent), ublk_params::default());
    }

    proptest! {
        /// Nothing that is sent makes the model panic; what is taken makes a disk or is refused.
        #[test]
        fn any_bytes_are_answered(
            types in 0_u32..128,
            at in 8_usize..148,
            junk: u32,
            len in 0_usize..200,
            flags: u64,
        ) {
            let mut sent = as_bytes(&sound(types)).to_vec();
            sent[at..at + 4].copy_from_slice(&junk.to_ne_bytes());
            sent.resize(len.max(4), 0xff);
            for profile in Profile::ALL {
                let mut kept = ublk_params::default();
                let set = crate::sim::set_params;
                if set(*profile, flags, MAX_IO_BYTES, &mut kept, &sent).is_ok() {
                    let disk = crate::sim::disk(*profile, flags, &kept);
                    prop_assert!(disk.is_ok() || disk == Err(Errno::EINVAL));
                }
            }
        }
    }
}
