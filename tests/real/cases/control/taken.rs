//! Parameters, random and odd: what the simulated driver takes, against what this kernel's does.

use super::modelled::{Comparison, another, errno, profile};
use super::{Context, NOTHING, added, open, raw, sound};
use crate::dice::Dice;
use core::mem::offset_of;
use std::fmt::{self, Debug, Formatter};
use ublkit::sim::{self, Profile};
use ublkit::sys::abi::{as_bytes, from_bytes};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::ublk_params;
use ublkit::{Errno, Features};

/// A field of the parameters.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    offset_bytes: usize,
    size_bytes: usize,
    /// What is worth trying.
    values: &'static [u64],
}

macro_rules! field {
    ($($path:ident).+: $int:ty = $values:expr) => {
        Field {
            name: stringify!($($path).+),
            offset_bytes: offset_of!(ublk_params, $($path).+),
            size_bytes: size_of::<$int>(),
            values: &$values,
        }
    };
}

const ALL: u64 = u64::MAX;

const FIELDS: &[Field] = &[
    field!(len: u32 = [0, 1, 4, 8, 9, 16, 24, 40, 60, 76, 104, 108, 112, 120, 136, 151, 153, ALL]),
    field!(types: u32 = [0, 1, 2, 3, 5, 9, 11, 17, 33, 49, 65, 113, 121, 123, 127, 0x81, ALL]),
    field!(basic.attrs: u32 = [0, 1, 4, 8, 12, ALL]),
    field!(basic.logical_bs_shift: u8 = [0, 8, 9, 10, 11, 12, 13, 31, 32, ALL]),
    field!(basic.physical_bs_shift: u8 = [0, 8, 9, 12, 13, 28, 29, 31, 32, 41, ALL]),
    field!(basic.io_opt_shift: u8 = [0, 9, 28, 29, 31, 32, ALL]),
    field!(basic.io_min_shift: u8 = [0, 9, 28, 29, 31, 32, ALL]),
    field!(basic.max_sectors: u32 = [0, 1, 7, 8, 9, 127, 128, 129, 1 << 23, 1 << 31, ALL]),
    field!(basic.chunk_sectors: u32 = [0, 1, 2, 3, 64, 96, 1 << 31, ALL]),
    field!(basic.dev_sectors: u64 = [0, 1, 7, 64, 2049, 1 << 38, 1 << 54, 1 << 63, ALL]),
    field!(basic.virt_boundary_mask: u64 = [0, 1, 4095, 5, ALL]),
    field!(discard.discard_alignment: u32 = [0, 1, 4096, ALL]),
    field!(discard.discard_granularity: u32 = [0, 1, 511, 512, 3000, ALL]),
    field!(discard.max_discard_sectors: u32 = [0, 1, 8, ALL]),
    field!(discard.max_write_zeroes_sectors: u32 = [0, 1, 8, ALL]),
    field!(discard.max_discard_segments: u16 = [0, 1, 2, ALL]),
    field!(devt.char_major: u32 = [0, 1, ALL]),
    field!(zoned.max_open_zones: u32 = [0, 1, 16, 32, 33, ALL]),
    field!(zoned.max_active_zones: u32 = [0, 1, 16, 32, 33, ALL]),
    field!(zoned.max_zone_append_sectors: u32 = [0, 1, 128, 129, ALL]),
    field!(dma.alignment: u32 = [0, 1, 2, 3, 511, 4094, 4095, 4096, 8191, ALL]),
    field!(seg.seg_boundary_mask: u64 = [0, 511, 2047, 4094, 4095, 4096, 8191, ALL >> 1, ALL]),
    field!(seg.max_segment_size: u32 = [0, 4095, 4096, ALL]),
    field!(seg.max_segments: u16 = [0, 1, ALL]),
    field!(integrity.flags: u32 = [0, 1, 2, 3, 4, ALL]),
    field!(integrity.max_integrity_segments: u16 = [0, 1, ALL]),
    field!(integrity.interval_exp: u8 = [0, 8, 9, 10, 12, 13, 31, 64, ALL]),
    field!(integrity.metadata_size: u8 = [0, 1, 7, 8, 15, 16, 17, ALL]),
    field!(integrity.pi_offset: u8 = [0, 1, 8, 248, ALL]),
    field!(integrity.csum_type: u8 = [0, 1, 2, 3, 4, 5, ALL]),
    field!(integrity.tag_size: u8 = [0, 1, ALL]),
];

/// Parameters that are sound whatever their types say.
fn plausible() -> ublk_params {
    let mut params = sound();
    params.basic.chunk_sectors = 64; // with 2048 sectors, 32 zones
    params.discard.discard_granularity = 4096;
    params.discard.max_discard_sectors = 8;
    params.discard.max_discard_segments = 1;
    params.zoned.max_zone_append_sectors = 8;
    params.dma.alignment = 511;
    params.seg.seg_boundary_mask = 4095;
    params.seg.max_segment_size = 4096;
    params.integrity.flags = sys::LBMD_PI_CAP_INTEGRITY | sys::LBMD_PI_CAP_REFTAG;
    params.integrity.metadata_size = 16;
    params.integrity.pi_offset = 8;
    params.integrity.csum_type = sys::LBMD_PI_CSUM_CRC16_T10DIF;
    params.integrity.interval_exp = 9;
    params
}

impl Field {
    fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.offset_bytes..][..self.size_bytes]
    }

    fn set(&self, params: &ublk_params, value: u64) -> ublk_params {
        let mut bytes = as_bytes(params).to_vec();
        let end = self.offset_bytes + self.size_bytes;
        bytes[self.offset_bytes..end].copy_from_slice(&value.to_ne_bytes()[..self.size_bytes]);
        from_bytes(&bytes).unwrap()
    }
}

/// Parameters that print as what is not [`plausible`] in them.
#[derive(PartialEq)]
struct Brief(ublk_params);

impl Debug for Brief {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let usual = plausible();
        let (bytes, usual) = (as_bytes(&self.0), as_bytes(&usual));
        let odd = FIELDS.iter().filter(|field| field.of(bytes) != field.of(usual));
        f.debug_map().entries(odd.map(|field| (field.name, field.of(bytes)))).finish()
    }
}

/// More zones than 32 bits count, by so many; and how many of them may be open.
const MANY_ZONES: [(u64, u32); 4] = [(0, 1), (1, 1), (1, 2), (1 << 32, 1)];

/// Every value of every field with the rest sound, for each type; then so many with random values.
fn tried(random: usize, types: u32) -> Vec<ublk_params> {
    let mut dice = Dice::new("parameters");
    let sound = plausible();
    let full = ublk_params { types: sys::UBLK_PARAM_TYPE_BASIC | types, ..sound };
    let mut all = vec![sound, full];
    for field in FIELDS {
        all.extend(field.values.iter().map(|value| field.set(&full, *value)));
    }
    for (more, open) in MANY_ZONES {
        let mut params = full;
        params.basic.dev_sectors = ((1 << 32) + more) * u64::from(params.basic.chunk_sectors);
        params.zoned.max_open_zones = open;
        all.push(params);
    }
    for _ in 0..random {
        let mut params = if dice.below(2) == 0 { sound } else { full };
        for _ in 0..=dice.below(3) {
            let field = dice.one_of(FIELDS);
            let value = if dice.below(4) == 0 { dice.number() } else { dice.one_of(field.values) };
            params = field.set(&params, value);
        }
        all.push(params);
    }
    all
}

/// Kinds of devices, and the types of parameters that suit them.
const KINDS: &[(Features, u32)] = &[
    (NOTHING, sys::UBLK_PARAM_TYPE_DISCARD | 0x30),
    (ZONED, sys::UBLK_PARAM_TYPE_ZONED | sys::UBLK_PARAM_TYPE_DISCARD),
    (INTEGRITY, sys::UBLK_PARAM_TYPE_INTEGRITY | 0x30),
];
const ZONED: Features = Features::ZONED.union(Features::USER_COPY);
const INTEGRITY: Features = Features::INTEGRITY.union(Features::USER_COPY);

/// A device's parameters as a model keeps them, and what was compared with it.
struct Modelled {
    profile: Profile,
    kept: ublk_params,
    compared: Comparison,
}

impl Modelled {
    fn new(profile: Profile) -> Self {
        Self { profile, kept: ublk_params::default(), compared: Comparison::default() }
    }

    fn compare(
        &mut self,
        features: Features,
        sent: ublk_params,
        real: Result<(), Errno>,
        told: ublk_params,
    ) {
        let (bits, before) = (features.bits(), self.kept);
        let kept = &mut self.kept;
        let modelled =
            sim::set_params(self.profile, bits, raw::MAX_IO_BYTES, kept, as_bytes(&sent));
        let what = || format!("{features}: {:02x?} after {:02x?}", Brief(sent), Brief(before));
        self.compared.compare(what, &real, &modelled);
        // Asked what it keeps, the driver puts the device's numbers among it.
        kept.types |= sys::UBLK_PARAM_TYPE_DEVT;
        kept.devt = told.devt;
        self.compared.compare(what, &Brief(told), &Brief(*kept));
        *kept = told;
    }
}

pub fn parameters_taken(context: Context) {
    let profile = profile(context);
    let mut control = open();
    let [mut right, mut wrong] = [profile, another(profile)].map(Modelled::new);
    let kinds = KINDS.iter().filter(|(features, _)| context.features.contains(*features));
    for (features, types) in kinds {
        let id = added(&mut control, *features);
        right.kept = ublk_params::default();
        for params in tried(context.pick(400, 10_000), *types) {
            let real = errno(control.device(id).set_params(&params));
            let told = control.device(id).params().unwrap();
            right.compare(*features, params, real, told);
            wrong.compare(*features, params, real, told);
        }
        control.device(id).delete().unwrap();
    }
    right.compared.end("parameters", 1000, &wrong.compared);
}
