//! What becomes of a disk: what the simulated driver makes of parameters, against this kernel's
//! block layer.

use super::modelled::{Comparison, another, profile};
use super::{Context, LIMIT, NOTHING, open, raw, sound, wish};
use crate::dice::Dice;
use crate::tools;
use ublkit::sim::{self, Limits};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::{SECTOR_BYTES, ublk_params};
use ublkit::{Control, DeviceInfo, Linux};

/// Larger than what the block layer cuts requests at. The server's buffers are smaller: clients
/// here read little, and write nothing.
const MAX_IO_BYTES: u32 = 16 << 20;

/// A disk in the words of sysfs.
type Shown = Vec<(&'static str, u64)>;

fn modelled(disk: &Limits) -> Shown {
    let bytes = |sectors: u32| u64::from(sectors) * SECTOR_BYTES;
    vec![
        ("size", disk.capacity_sectors),
        ("ro", disk.read_only.into()),
        ("queue/logical_block_size", disk.logical_block_bytes.into()),
        ("queue/physical_block_size", disk.physical_block_bytes.into()),
        ("queue/minimum_io_size", disk.io_min_bytes.into()),
        ("queue/optimal_io_size", disk.io_opt_bytes.into()),
        ("queue/max_hw_sectors_kb", bytes(disk.max_hw_sectors) >> 10),
        ("queue/max_sectors_kb", bytes(disk.max_sectors) >> 10),
        ("queue/discard_max_hw_bytes", bytes(disk.max_discard_sectors)),
        ("queue/discard_granularity", disk.discard_granularity_bytes.into()),
        ("queue/write_zeroes_max_bytes", bytes(disk.max_write_zeroes_sectors)),
        ("queue/chunk_sectors", disk.chunk_sectors.into()),
        ("queue/max_segments", disk.max_segments.into()),
        ("queue/max_segment_size", disk.max_segment_bytes.into()),
        ("queue/virt_boundary_mask", disk.virt_boundary_mask),
        ("queue/dma_alignment", disk.dma_alignment_mask.into()),
        ("queue/fua", disk.fua.into()),
        ("queue/rotational", disk.rotational.into()),
        ("queue/write_cache", disk.volatile_cache.into()),
    ]
}

/// The same as the kernel shows it.
fn shown(id: u32, names: &Shown) -> Shown {
    let value = |name: &str| match tools::read(&format!("/sys/block/ublkb{id}/{name}")).trim() {
        "write through" => 0,
        "write back" => 1,
        number => number.parse().unwrap(),
    };
    names.iter().map(|(name, _)| (*name, value(name))).collect()
}

/// Parameters that every driver takes, and every block layer.
fn tried(random: usize) -> Vec<ublk_params> {
    let mut dice = Dice::new("disks");
    let mut all = vec![sound()];
    for _ in 0..random {
        let mut params = sound();
        params.types = sys::UBLK_PARAM_TYPE_BASIC
            | dice.one_of(&[0, sys::UBLK_PARAM_TYPE_DISCARD])
            | dice.one_of(&[0, sys::UBLK_PARAM_TYPE_DMA_ALIGN])
            | dice.one_of(&[0, sys::UBLK_PARAM_TYPE_SEGMENT]);
        let basic = &mut params.basic;
        basic.attrs = dice.below(16) as u32;
        basic.logical_bs_shift = dice.one_of(&[9, 10, 11, 12]);
        basic.physical_bs_shift = dice.one_of(&[12, 13, 16, 20, 28]);
        basic.io_opt_shift = dice.one_of(&[0, 9, 12, 13, 20, 21, 22, 23, 28]);
        basic.io_min_shift = dice.one_of(&[0, 9, 12, 13, 20, 21, 22, 23, 28]);
        basic.max_sectors = dice.one_of(&[8, 9, 15, 2559, 2561, 8193, MAX_IO_BYTES >> 9]);
        basic.chunk_sectors = dice.one_of(&[0, 0, 8, 64, 96, 2048]);
        basic.dev_sectors = dice.one_of(&[0, 1, 7, 2048, 2049, 1 << 40]);
        let discard = &mut params.discard;
        discard.discard_granularity = dice.one_of(&[512, 3000, 4096, 1 << 20]);
        discard.max_discard_sectors = dice.one_of(&[0, 8, 9, 1 << 22]);
        discard.max_discard_segments = 1;
        discard.max_write_zeroes_sectors = dice.one_of(&[0, 8, 9, 1 << 22]);
        params.dma.alignment = dice.one_of(&[0, 3, 511, 4095]);
        params.seg.seg_boundary_mask = dice.one_of(&[4095, 65_535, u64::MAX >> 1]);
        params.seg.max_segment_size = dice.one_of(&[4096, 65_536, u32::MAX]);
        params.seg.max_segments = dice.one_of(&[1, 2, 128, u16::MAX]);
        all.push(params);
    }
    all
}

/// The disk that parameters make, as long as it takes to look at it.
fn attached(control: &mut Control<Linux>, params: &ublk_params, names: &Shown) -> Shown {
    let asked = DeviceInfo { max_io_bytes: MAX_IO_BYTES, ..wish(NOTHING) };
    let id = control.add(&asked, LIMIT).unwrap().id.unwrap();
    control.device(id).set_params(params).unwrap();
    let server = raw::serve(id, None);
    let started = control.device(id).start(std::process::id());
    let shown = started.map(|()| shown(id, names));
    control.device(id).stop().unwrap();
    server.join().unwrap();
    control.device(id).delete().unwrap();
    shown.unwrap_or_else(|error| panic!("{params:?}: {error}"))
}

pub fn disks(context: Context) {
    let profile = profile(context);
    let mut control = open();
    let [mut all, mut control_group] = [Comparison::default(), Comparison::default()];
    for params in tried(context.pick(40, 1000)) {
        sim::accepts(profile, 0, MAX_IO_BYTES, &params).unwrap();
        let [right, wrong] = [profile, another(profile)]
            .map(|profile| modelled(&sim::disk(profile, 0, &params).unwrap()));
        let real = attached(&mut control, &params, &right);
        for (at, real) in real.iter().enumerate() {
            all.compare(|| format!("{params:?}"), real, &right[at]);
            control_group.compare(String::new, real, &wrong[at]);
        }
    }
    all.end("disks", 40 * 19, &control_group);
}
