//! `params`: any disk and any wish, against the simulated driver's rules; and what a kernel says of
//! the disk below.

use super::input::Input;
use crate::backend::unit_of;
use crate::control::DeviceInfo;
use crate::geometry::{Durability, Geometry};
use crate::sim::{Profile, accepts, disk, grant};
use ublkit_sys::abi::from_bytes;
use ublkit_sys::ublk::{SECTOR_BYTES, UBLK_PARAM_TYPE_BASIC, ublk_params, ublksrv_ctrl_dev_info};

/// A disk that was checked becomes just that disk on every kernel, and what a driver grants is what
/// was wished for. Parameters of any bits do no harm to the simulated driver either.
pub fn params(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        0 => a_disk(&mut input),
        1 => a_wish(&mut input),
        2 => any_bits(&mut input),
        _ => attributes(&bytes[1..]),
    }
}

/// Two lines that a kernel says of a disk's discards are a unit that a disk can have, or nothing.
fn attributes(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    let (most, granularity) = text.split_once('\n').unwrap_or((&text, ""));
    let bytes = |text: &str| text.trim().parse::<u64>().ok();
    match (unit_of(most, granularity), bytes(most), bytes(granularity)) {
        (None, most, unit) => assert!(most.is_none() || unit.is_none()),
        (Some(0), most, _) => assert_eq!(most, Some(0)),
        (Some(unit), most, granularity) => {
            assert!(unit.is_power_of_two() && most.is_some_and(|most| most > 0));
            assert!(granularity.is_some_and(|bytes| bytes.is_multiple_of(unit.into())));
        }
    }
}

fn a_disk(input: &mut Input) {
    let max_io_bytes = 4096 * (1 + input.u32() % 8192);
    let geometry = Geometry {
        size_bytes: input.u64(),
        logical_block_bytes: input.u32(),
        physical_block_bytes: input.u32(),
        durability: input.one_of(&[
            Durability::WriteThrough,
            Durability::Flush,
            Durability::FlushAndFua,
        ]),
        read_only: input.byte() % 2 == 1,
        discard_bytes: input.u32(),
        write_zeroes: input.byte() % 2 == 1,
        data_align_bytes: input.u32(),
    };
    if let Err(why) = geometry.check() {
        assert!(why.len() > 20, "{why}");
        return;
    }
    let params = geometry.params(max_io_bytes);
    for profile in Profile::ALL {
        assert_eq!(accepts(*profile, 0, max_io_bytes, &params), Ok(()), "{profile} {geometry:?}");
        let disk = disk(*profile, 0, &params).expect("accepted");
        assert_eq!(disk.capacity_sectors.checked_mul(SECTOR_BYTES), Some(geometry.size_bytes));
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

fn a_wish(input: &mut Input) {
    let profile = input.one_of(Profile::ALL);
    let (is_admin, cpus) = (input.byte().is_multiple_of(2), 1 + u16::from(input.byte()));
    let raw: ublksrv_ctrl_dev_info = from_bytes(&input.array::<64>()).expect("64 bytes");
    let said = DeviceInfo::from_sys(&raw);
    let max_io_bytes = said.max_io_bytes.max(4096); // less becomes nothing, and is never asked for
    let id = said.id.filter(|id| *id != u32::MAX);
    let wish = DeviceInfo { id, max_io_bytes, ..said };
    assert_eq!(DeviceInfo::from_sys(&wish.to_sys()).depth, wish.depth);
    let Ok(granted) = grant(profile, is_admin, cpus, &wish.to_sys()) else { return };
    let granted = DeviceInfo::from_sys(&granted);
    assert!(granted.is_grant_of(&wish), "{granted:?} for {wish:?}");
    assert!(granted.queues <= cpus);
}

fn any_bits(input: &mut Input) {
    let profile = input.one_of(Profile::ALL);
    let (flags, max_io_bytes) = (input.u64(), input.u32());
    let len = input.take(size_of::<ublk_params>());
    let mut bits = [0; size_of::<ublk_params>()];
    bits[..len.len()].copy_from_slice(&len);
    let params: ublk_params = from_bytes(&bits).expect("that long");
    if accepts(profile, flags, max_io_bytes, &params).is_err() {
        return;
    }
    assert!(params.types & UBLK_PARAM_TYPE_BASIC != 0, "a disk without a size");
    if let Ok(disk) = disk(profile, flags, &params) {
        assert!(disk.logical_block_bytes.is_power_of_two());
        assert!(disk.physical_block_bytes >= disk.logical_block_bytes);
    }
}

#[cfg(test)]
mod tests {
    use crate::fuzz::corpus;
    use crate::recovery::Recovery;
    use crate::{DeviceInfo, Durability, Features, Geometry};
    use ublkit_sys::abi::as_bytes;

    fn a_disk(geometry: &Geometry) -> Vec<u8> {
        let mut seed = vec![0, 127, 0, 0, 0];
        seed.extend(geometry.size_bytes.to_le_bytes());
        seed.extend(geometry.logical_block_bytes.to_le_bytes());
        seed.extend(geometry.physical_block_bytes.to_le_bytes());
        seed.extend([geometry.durability as u8, geometry.read_only.into()]);
        seed.extend(geometry.discard_bytes.to_le_bytes());
        seed.push(geometry.write_zeroes.into());
        seed.extend(geometry.data_align_bytes.to_le_bytes());
        seed
    }

    fn a_wish(kernel: u8, wish: &DeviceInfo) -> Vec<u8> {
        [&[1, kernel, 0, 3], as_bytes(&wish.to_sys())].concat()
    }

    fn any_bits(kernel: u8, geometry: &Geometry) -> Vec<u8> {
        let max_io_bytes = 1_u32 << 19;
        let params = geometry.params(max_io_bytes);
        let head = [&[2, kernel][..], &[0; 8], &max_io_bytes.to_le_bytes()].concat();
        [&head, as_bytes(&params)].concat()
    }

    #[test]
    fn corpus_of_params() {
        let plain = Geometry::new(1 << 30);
        let rich = Geometry {
            logical_block_bytes: 4096,
            physical_block_bytes: 1 << 16,
            durability: Durability::FlushAndFua,
            discard_bytes: 4096,
            write_zeroes: true,
            ..plain
        };
        let wish = DeviceInfo::wish(4, 128, 1 << 19);
        let numbered = DeviceInfo { id: Some(7), ..wish };
        let served = Features::SERVED - Recovery::any_features(); // some of which exclude others
        let features = served | Features::IO_DESC_SIZE;
        let sized = DeviceInfo { features, descriptor_bytes: 64, ..wish };
        let seeds = [
            ("disk", a_disk(&plain)),
            ("rich-disk", a_disk(&rich)),
            ("largest-disk", a_disk(&Geometry::new((1 << 63) - 512))),
            ("no-disk", a_disk(&Geometry::new(1000))),
            ("wish", a_wish(0, &wish)),
            ("numbered-wish", a_wish(5, &numbered)),
            ("sized-wish", a_wish(5, &sized)),
            ("bits", any_bits(0, &plain)),
            ("rich-bits", any_bits(5, &rich)),
            ("attributes", b"\x032147483648\n3145728\n".to_vec()),
            ("no-discards", b"\x030\n".to_vec()),
            ("large-unit", b"\x031\n18446744073709551614".to_vec()),
        ];
        corpus::check("params", super::params, &seeds);
    }
}
