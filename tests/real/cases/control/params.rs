//! Parameters: which are kept and which refused.

use super::{Context, NOBODY, NOTHING, added, open, refused, served, sound};
use crate::kernels::Quirk;
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::ublk_params;
use ublkit::{Errno, Error, Features};

/// A way to spoil parameters, and the feature with which a check for it came.
type Spoil = (&'static str, Features, fn(&mut ublk_params));

const BELOW_A_PAGE: &str = "requests below a page";

const SPOILS: &[Spoil] = &[
    ("no length", NOTHING, |p| p.len = 0),
    ("no types", NOTHING, |p| p.types = 0),
    ("no basic ones", NOTHING, |p| {
        p.types = sys::UBLK_PARAM_TYPE_DISCARD;
        p.discard.discard_granularity = 4096;
    }),
    ("logical blocks of 256 bytes", NOTHING, |p| p.basic.logical_bs_shift = 8),
    ("logical blocks of two pages", NOTHING, |p| {
        p.basic.logical_bs_shift = 13;
        p.basic.physical_bs_shift = 13;
    }),
    ("physical below logical blocks", NOTHING, |p| p.basic.physical_bs_shift = 8),
    ("physical blocks of 512 MiB", Features::SHMEM_ZC, |p| p.basic.physical_bs_shift = 29),
    ("best requests of 512 MiB", Features::SHMEM_ZC, |p| p.basic.io_opt_shift = 29),
    ("least requests of 512 MiB", Features::SHMEM_ZC, |p| p.basic.io_min_shift = 29),
    ("requests above the granted size", NOTHING, |p| p.basic.max_sectors = 129),
    (BELOW_A_PAGE, NOTHING, |p| p.basic.max_sectors = 7),
    ("discards of nothing", NOTHING, |p| p.types |= sys::UBLK_PARAM_TYPE_DISCARD),
    ("discards of two pieces", NOTHING, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_DISCARD;
        p.discard.discard_granularity = 4096;
        p.discard.max_discard_sectors = 8;
        p.discard.max_discard_segments = 2;
    }),
    ("device numbers", NOTHING, |p| p.types |= sys::UBLK_PARAM_TYPE_DEVT),
    ("zones of an ordinary disk", NOTHING, |p| p.types |= sys::UBLK_PARAM_TYPE_ZONED),
    ("memory aligned to 3 bytes", Features::SUPPORT_ZERO_COPY, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_DMA_ALIGN;
        p.dma.alignment = 2;
    }),
    ("segments within 3 KiB", Features::SUPPORT_ZERO_COPY, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_SEGMENT;
        p.seg.seg_boundary_mask = 3071;
        p.seg.max_segment_size = 4096;
    }),
    ("integrity without the feature", Features::INTEGRITY, |p| {
        p.types |= sys::UBLK_PARAM_TYPE_INTEGRITY;
        p.integrity.metadata_size = 8;
    }),
];

pub fn parameters(context: Context) {
    let mut control = open();
    let id = added(&mut control, NOTHING);
    for (what, since, spoil) in SPOILS {
        control.device(id).set_params(&sound()).unwrap();
        let kept = control.device(id).params().unwrap();
        assert_eq!((kept.basic, kept.types & 1), (sound().basic, sys::UBLK_PARAM_TYPE_BASIC));
        assert_ne!(kept.types & sys::UBLK_PARAM_TYPE_DEVT, 0, "DEVT is in every answer");
        let mut params = sound();
        spoil(&mut params);
        let answer = control.device(id).set_params(&params);
        let is_taken = *what == BELOW_A_PAGE && context.has(Quirk::TinyRequests);
        if is_taken || !context.features.contains(*since) {
            answer.unwrap_or_else(|error| panic!("{what}: {error}, for this driver knows no rule"));
            continue;
        }
        assert!(
            matches!(answer, Err(Error::Command { errno: Errno::EINVAL, .. })),
            "{what}: {answer:?}"
        );
        // What was kept before stays only if the driver did not read as far as the values.
        let is_kept = params.len == 0 || params.types == 0;
        let kept = control.device(id).params().unwrap().types & sys::UBLK_PARAM_TYPE_BASIC;
        assert_eq!(kept != 0, is_kept, "{what}");
    }
    refused(control.device(NOBODY).params(), Errno::ENODEV);
    refused(control.device(NOBODY).set_params(&sound()), Errno::ENODEV);
    control.device(id).delete().unwrap();
    let server = served(NOTHING);
    refused(control.device(server.id()).set_params(&sound()), Errno::EACCES);
    server.stop().unwrap();
}
