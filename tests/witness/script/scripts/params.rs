//! SET_PARAMS and GET_PARAMS (protocol 1.2), check by check.

use super::super::Script;
use super::super::build::{Plan, script, sound};
use super::super::sqe::{self, NOWHERE, Payload, Sqe};
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::ublk_params;

pub fn all() -> Vec<Script> {
    let mut all = vec![lengths(), wiped(), read_back(), shrunk(), accepted()];
    all.extend([basic(), discard(), other_types(), zoned(), integrity()]);
    all
}

/// A change of sound parameters, named.
fn set(s: &mut Script, what: &str, change: impl FnOnce(&mut ublk_params)) {
    let mut params = sound();
    change(&mut params);
    s.control(sqe::set_params(0, &params, what));
}

/// The first bytes of parameters, and a length in them and in the command.
fn cut(inside: u32, size: u16) -> Sqe {
    let mut params = sound();
    params.len = inside;
    sqe::set_params(0, &params, &format!("len={inside}")).size(size)
}

fn lengths() -> Script {
    script("params: lengths", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        s.control(sqe::get_params(0));
        for (inside, size) in [
            (152, 0),
            (152, 8),
            (152, 9),
            (0, 152),
            (8, 152),
            (8, 9),
            (9, 9),
            (40, 40),
            (112, 112),
            (152, 112),
            (112, 152),
            (152, 152),
            (200, 152),
            (153, 152),
        ] {
            s.control(cut(inside, size));
            s.control(sqe::get_params(0));
        }
        s.control(cut(152, 152).payload(Payload::Nothing, "null"));
        s.control(cut(152, 152).payload(Payload::At(NOWHERE), "nowhere"));
        let mut long = [0; 300];
        long[0] = 200;
        long[4] = 1;
        s.control(cut(200, 300).payload(Payload::Bytes(long.into()), "long").size(300));
        for size in [0, 8, 9, 16, 100, 160] {
            s.control(sqe::get_params(0).size(size));
        }
        s.control(sqe::get_params(0).payload(Payload::Nothing, "null"));
        s.control(sqe::get_params(0).payload(Payload::At(NOWHERE), "nowhere"));
        for len in [0, 8, 9, 16, 200_u8] {
            let mut bytes = vec![0; 152];
            bytes[0] = len;
            let text = format!("inside={len}");
            s.control(sqe::get_params(0).payload(Payload::Bytes(bytes), &text));
        }
    })
}

fn wiped() -> Script {
    script("params: what a refusal leaves", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        set(s, "sound", |_| {});
        s.control(sqe::get_params(0));
        set(s, "no types", |p| p.types = 0);
        s.control(sqe::get_params(0));
        set(s, "no length", |p| p.len = 0);
        s.control(sqe::get_params(0));
        set(s, "bad shift", |p| p.basic.logical_bs_shift = 8);
        s.control(sqe::get_params(0));
        s.control(sqe::start(0, sqe::Word::PidOf(1)));
        set(s, "sound", |_| {});
        set(s, "DEVT", |p| p.types |= sys::UBLK_PARAM_TYPE_DEVT);
        s.control(sqe::get_params(0));
    })
}

fn read_back() -> Script {
    script("params: every word comes back", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        set(s, "filled", |p| {
            p.types |= sys::UBLK_PARAM_TYPE_DISCARD
                | sys::UBLK_PARAM_TYPE_DMA_ALIGN
                | sys::UBLK_PARAM_TYPE_SEGMENT;
            p.basic.attrs = 0xf;
            p.basic.chunk_sectors = 64;
            p.basic.virt_boundary_mask = 4095;
            p.discard.discard_granularity = 4096;
            p.discard.discard_alignment = 1;
            p.discard.max_discard_sectors = 8;
            p.discard.max_write_zeroes_sectors = 9;
            p.discard.max_discard_segments = 1;
            p.discard.reserved0 = 3;
            p.devt.char_major = 1;
            p.devt.disk_minor = 2;
            p.zoned.max_open_zones = 4;
            p.zoned.reserved[19] = 5;
            p.dma.alignment = 511;
            p._pad = 6;
            p.seg.seg_boundary_mask = 4095;
            p.seg.max_segment_size = 4096;
            p.seg.max_segments = 7;
            p.integrity.metadata_size = 8;
            p.integrity.pad = [9; 5];
        });
        s.control(sqe::get_params(0));
    })
}

/// Only the first bytes are replaced.
fn shrunk() -> Script {
    script("params: a second, shorter set", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        set(s, "with discard", |p| {
            p.types |= sys::UBLK_PARAM_TYPE_DISCARD;
            p.discard.discard_granularity = 4096;
        });
        s.control(cut(40, 40));
        s.control(sqe::get_params(0));
        s.control(cut(16, 16));
        s.control(sqe::get_params(0));
        let mut params = sound();
        params.len = 40;
        params.types |= sys::UBLK_PARAM_TYPE_DISCARD;
        s.control(sqe::set_params(0, &params, "discard beyond its length").size(40));
        s.control(sqe::get_params(0));
    })
}

fn accepted() -> Script {
    script("params: sizes of the disk", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        for sectors in [0, 1, 7, u64::MAX, 1 << 54, 1 << 63] {
            set(s, &format!("dev_sectors={sectors}"), |p| p.basic.dev_sectors = sectors);
        }
        set(s, "unknown type", |p| p.types |= 1 << 31);
        s.control(sqe::get_params(0));
        set(s, "types=all", |p| p.types = u32::MAX);
        s.control(sqe::get_params(0));
    })
}

fn basic() -> Script {
    script("params: BASIC", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        set(s, "missing", |p| p.types = sys::UBLK_PARAM_TYPE_DISCARD);
        set(s, "attrs=all", |p| p.basic.attrs = u32::MAX);
        for shift in [0, 8, 9, 12, 13, 31, 64, 255] {
            set(s, &format!("logical={shift}"), |p| {
                p.basic.logical_bs_shift = shift;
                p.basic.physical_bs_shift = shift.max(12);
            });
            set(s, &format!("physical={shift}"), |p| p.basic.physical_bs_shift = shift);
            set(s, &format!("io_min={shift}"), |p| p.basic.io_min_shift = shift);
            set(s, &format!("io_opt={shift}"), |p| p.basic.io_opt_shift = shift);
        }
        for shift in [28, 29, 30, 32] {
            set(s, &format!("physical={shift}"), |p| p.basic.physical_bs_shift = shift);
        }
        set(s, "physical below logical", |p| {
            p.basic.logical_bs_shift = 12;
            p.basic.physical_bs_shift = 11;
        });
        for sectors in [0, 1, 7, 8, 9, 31, 32, 33, u32::MAX] {
            set(s, &format!("max_sectors={sectors}"), |p| p.basic.max_sectors = sectors);
            set(s, &format!("chunk_sectors={sectors}"), |p| p.basic.chunk_sectors = sectors);
        }
        for mask in [1, 4094, 4095, u64::MAX] {
            set(s, &format!("virt_boundary={mask}"), |p| p.basic.virt_boundary_mask = mask);
        }
    })
}

fn discard() -> Script {
    script("params: DISCARD", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        for granularity in [0, 1, 512, 4096, 5000] {
            for (sectors, segments) in [(0, 0), (8, 0), (8, 1), (8, 2), (0, 2), (u32::MAX, 1)] {
                let name = format!("granularity={granularity} max={sectors} segments={segments}");
                set(s, &name, |p| {
                    p.types |= sys::UBLK_PARAM_TYPE_DISCARD;
                    p.discard.discard_granularity = granularity;
                    p.discard.max_discard_sectors = sectors;
                    p.discard.max_discard_segments = segments;
                });
            }
        }
        set(s, "all zero", |p| p.types |= sys::UBLK_PARAM_TYPE_DISCARD);
    })
}

fn other_types() -> Script {
    script("params: DEVT, DMA_ALIGN, SEGMENT", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        set(s, "DEVT", |p| p.types |= sys::UBLK_PARAM_TYPE_DEVT);
        set(s, "ZONED", |p| p.types |= sys::UBLK_PARAM_TYPE_ZONED);
        for mask in [0, 1, 2, 3, 511, 4095, 8191, u32::MAX] {
            set(s, &format!("dma={mask}"), |p| {
                p.types |= sys::UBLK_PARAM_TYPE_DMA_ALIGN;
                p.dma.alignment = mask;
            });
        }
        for (mask, bytes, count) in [
            (0, 0, 0),
            (4095, 4096, 0),
            (4095, 4096, 1),
            (4094, 4096, 1),
            (2047, 4096, 1),
            (4095, 4095, 1),
            (u64::MAX, 4096, 1),
            (8191, u32::MAX, u16::MAX),
            (4095, 0, 1),
        ] {
            set(s, &format!("boundary={mask} size={bytes} segments={count}"), |p| {
                p.types |= sys::UBLK_PARAM_TYPE_SEGMENT;
                p.seg.seg_boundary_mask = mask;
                p.seg.max_segment_size = bytes;
                p.seg.max_segments = count;
            });
        }
    })
}

fn zoned() -> Script {
    script("params: ZONED", |s| {
        s.control_ring();
        let flags = sys::UBLK_F_ZONED | sys::UBLK_F_USER_COPY;
        s.control(sqe::add(0, Plan::with(flags).info()));
        set(s, "not zoned", |_| {});
        let zoned = |s: &mut Script, what: &str, chunk: u32, open: u32, append: u32| {
            set(s, what, |p| {
                p.types |= sys::UBLK_PARAM_TYPE_ZONED;
                p.basic.chunk_sectors = chunk;
                p.zoned.max_open_zones = open;
                p.zoned.max_active_zones = open;
                p.zoned.max_zone_append_sectors = append;
            });
        };
        zoned(s, "sound", 64, 0, 8);
        zoned(s, "chunk=0", 0, 0, 8);
        zoned(s, "chunk=48", 48, 0, 8);
        zoned(s, "append=0", 64, 0, 0);
        zoned(s, "open=32", 64, 32, 8);
        zoned(s, "open=33", 64, 33, 8);
        set(s, "with a bad mask of DMA", |p| {
            p.types |= sys::UBLK_PARAM_TYPE_ZONED | sys::UBLK_PARAM_TYPE_DMA_ALIGN;
            p.basic.chunk_sectors = 64;
            p.zoned.max_zone_append_sectors = 8;
            p.dma.alignment = 2;
        });
    })
}

fn integrity() -> Script {
    script("params: INTEGRITY", |s| {
        s.control_ring();
        s.control(sqe::add(0, Plan::default().info()));
        set(s, "without the feature", |p| {
            p.types |= sys::UBLK_PARAM_TYPE_INTEGRITY;
            p.integrity.metadata_size = 8;
            p.integrity.interval_exp = 9;
        });
        let flags = sys::UBLK_F_INTEGRITY | sys::UBLK_F_USER_COPY;
        s.control(sqe::add(1, Plan::with(flags).info()));
        for (caps, metadata, offset, interval, csum) in [
            (1, 8, 0, 9, 0),
            (0, 8, 0, 9, 0),
            (4, 8, 0, 9, 0),
            (2, 8, 0, 9, 0),
            (3, 8, 0, 9, 2),
            (1, 0, 0, 9, 0),
            (1, 8, 0, 8, 0),
            (1, 8, 0, 10, 0),
            (1, 8, 1, 9, 2),
            (1, 16, 8, 9, 1),
            (1, 8, 0, 9, 4),
            (1, 16, 0, 9, 4),
            (1, 8, 0, 9, 3),
            (1, 8, 0, 9, 9),
            (1, 8, 9, 9, 0),
        ] {
            let name = format!("caps={caps} {metadata}@{offset} interval={interval} csum={csum}");
            let mut params = sound();
            params.types |= sys::UBLK_PARAM_TYPE_INTEGRITY;
            params.integrity.flags = caps;
            params.integrity.metadata_size = metadata;
            params.integrity.pi_offset = offset;
            params.integrity.interval_exp = interval;
            params.integrity.csum_type = csum;
            s.control(sqe::set_params(1, &params, &name));
        }
    })
}
