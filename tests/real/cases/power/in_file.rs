//! A disk in a file, on a file system of the disk whose power is cut. With power again, the file
//! system is mounted, which replays its journal, and the file is served anew.

use super::{Above, BLOCK, Clients, Cut, Lossy, Told, data_paths, serve_below, until_cut};
use crate::cases::Context;
use crate::dice::Dice;
use crate::disk;
use crate::tools::{Serving, mount_point, run};
use rustix::fs::FallocateFlags;
use std::fs::File;
use ublkit::DataPath;

/// Blocks of the disk below.
const BELOW_BLOCKS: usize = 16384;

/// A file system with a journal: its programs.
#[derive(Debug)]
pub(super) struct Kind {
    make: &'static [&'static str],
    check: &'static [&'static str],
    /// What its head says of it and a journal that is to be replayed, by which program.
    needs_replay: Option<(&'static [&'static str], &'static str)>,
}

pub(super) const EXT4: Kind = Kind {
    make: &["mkfs.ext4", "-q", "-b", "4096"],
    check: &["fsck.ext4", "-fn"],
    needs_replay: Some((&["dumpe2fs", "-h"], "needs_recovery")),
};

/// It wants 300 MiB, unless it is told that this is not for use.
const XFS: Kind = Kind {
    make: &["mkfs.xfs", "-q", "--unsupported"],
    check: &["xfs_repair", "-n"],
    needs_replay: None,
};

/// What is on the disk below, and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    pub(super) kind: &'static Kind,
    /// Whether the file has its room from the start; else it is sparse.
    pub(super) preallocated: bool,
    pub(super) clients: Clients,
}

/// Runs a program with its words and a device.
fn with(command: &[&str], device: &str) -> String {
    run(command[0], &[&command[1..], &[device]].concat())
}

/// Serves a file on a file system, and cuts the power below. What was durable, or what of it is not
/// there when power is.
pub(super) fn cut_below(
    way: Way,
    serve: impl Fn(&str) -> Above,
    dice: &mut Dice,
) -> Result<u64, String> {
    let bytes = (way.clients.blocks() * BLOCK) as u64;
    let lossy = Lossy::new(BELOW_BLOCKS);
    let below = serve_below(&lossy);
    with(way.kind.make, &below.block_path());
    let point = mount_point("power-below");
    run("mount", &[&below.block_path(), &point]);
    let image = format!("{point}/image");
    if way.preallocated {
        let file = File::create_new(&image).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).unwrap();
    }
    let above = serve(&image);
    let told = (&lossy, Told::Nothing);
    let Cut { before, left, .. } = until_cut(way.clients, &above.path(), told, dice);
    above.stop();
    run("umount", &[&point]);
    below.stop().unwrap();
    drop(lossy);
    before.verify(&with_power(way.kind, left, &point, bytes))
}

/// What a client reads of the disk in the file, once there is power again.
fn with_power(kind: &Kind, left: Vec<u8>, point: &str, bytes: u64) -> Vec<u8> {
    let below = serve_below(&Lossy::holding(left));
    let path = below.block_path();
    if let Some((command, word)) = kind.needs_replay {
        assert!(with(command, &path).contains(word), "no journal was cut short");
    }
    run("mount", &[&path, point]);
    let serving = Serving::start(&["file", &format!("{point}/image")]);
    let read = disk::read_large(&disk::open(&serving.path, 0), 0, bytes as usize).unwrap();
    serving.stop();
    run("umount", &[point]);
    with(kind.check, &path);
    below.stop().unwrap();
    read
}

/// The file backend on a sparse file and on one that has its room, buffered and direct; in a slice
/// on one of the two each.
pub fn cut_in_file(context: Context) {
    let mut dice = Dice::new("power cuts");
    let paths = data_paths(context);
    let kinds = context.pick(&[&EXT4][..], &[&EXT4, &XFS]);
    for &kind in kinds {
        for clients in [Clients::Flush, Clients::Overwrite] {
            for direct in [false, true] {
                let one = [dice.below(2) == 0];
                for &preallocated in context.pick(&one[..], &[false, true].repeat(5)) {
                    let data = dice.one_of(&paths);
                    let way = Way { kind, preallocated, clients };
                    cut_ours(way, direct, data, &mut dice);
                }
            }
        }
    }
}

fn cut_ours(way: Way, direct: bool, data: DataPath, dice: &mut Dice) {
    let size = (way.clients.blocks() * BLOCK).to_string();
    let words = ["--size", &size, "--queues", "2", "--data", data.name()];
    let options: &[&str] = if direct { &["--direct"] } else { &[] };
    let serve = |image: &str| {
        Above::Ours(Serving::start(&[&["file", image], &words[..], options].concat()))
    };
    let Way { kind, preallocated, clients } = way;
    let what = format!(
        "{} preallocated: {preallocated}, {clients:?}, direct: {direct}, {data}",
        kind.make[0]
    );
    let sure = cut_below(way, serve, dice).unwrap_or_else(|lost| panic!("{what}: {lost}"));
    println!("  {what}: {sure} writes were durable, and are there");
}
