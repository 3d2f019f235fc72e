//! Power cuts: a disk below that forgets what was not flushed, and a server above that said more.

mod clients;
mod forgetful;
mod in_file;
mod lossy;

pub(super) use clients::DISK_BLOCKS;
pub use forgetful::{forgetful, forgetful_of_files};
pub use in_file::cut_in_file;
pub(super) use lossy::{Lossy, serve_below};

use super::Context;
use crate::dice::Dice;
use crate::tools::{self, Serving, UBLKIT};
use clients::{BLOCKS, MORE, Overwrites, Promises, Writers};
use rustix::process::Signal;
use std::time::Duration;
use ublkit::{DataPath, Server};

const SOON: Duration = Duration::from_secs(60);

const BLOCK: usize = 4096;

/// Who wants what of a disk made durable, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    /// A disk's own, by fdatasync and O_DSYNC: a flush comes after each FUA write, too.
    Flush,
    /// A file system that has a file overwritten, by FUA alone.
    Overwrite,
}

impl Clients {
    /// What they need of a disk.
    fn blocks(self) -> usize {
        match self {
            Self::Flush => BLOCKS,
            Self::Overwrite => DISK_BLOCKS,
        }
    }
}

/// What is told to those who use a disk whose power is cut.
#[derive(Clone, Copy, Debug)]
enum Told {
    Errors,
    /// They go on, as nobody does without power.
    Nothing,
}

/// A power cut.
#[derive(Debug)]
struct Cut {
    /// What clients were promised before it,
    before: Promises,
    /// and those who went on, until they saw an error or were told that it is enough.
    after: Promises,
    left: Vec<u8>,
}

/// Has clients use the disk at `path`, and cuts the power of the one below in the middle.
fn until_cut(clients: Clients, path: &str, (below, told): (&Lossy, Told), dice: &mut Dice) -> Cut {
    let cut = |dice: &mut Dice| match told {
        Told::Errors => below.cut(dice),
        Told::Nothing => below.at_this_moment(dice),
    };
    match clients {
        Clients::Flush => {
            let writers = Writers::start(path);
            writers.until(100 + dice.below(200) as u64);
            let (before, left) = (writers.promises(), cut(dice));
            Cut { before, after: writers.finish(), left }
        }
        Clients::Overwrite => {
            let overwrites = Overwrites::made(path, dice.below(MORE));
            let (before, left) = (overwrites.promises(), cut(dice));
            Cut { before, after: overwrites.finish(), left }
        }
    }
}

/// A server of what is on the disk below.
#[derive(Debug)]
enum Above {
    Ours(Serving),
    Another(Box<Server>),
}

impl Above {
    fn path(&self) -> String {
        match self {
            Self::Ours(serving) => serving.path.clone(),
            Self::Another(server) => server.block_path(),
        }
    }

    fn stop(self) {
        match self {
            Self::Ours(serving) => serving.stop(),
            Self::Another(server) => server.stop().map(drop).unwrap(),
        }
    }
}

fn data_paths(context: Context) -> Vec<DataPath> {
    let offered = context.features;
    DataPath::ALL.iter().copied().filter(|path| offered.contains(path.features())).collect()
}

/// The file backend on such a disk, buffered and direct, on each path: what it says is durable is
/// so, whatever the power cut takes.
pub fn cut(context: Context) {
    let mut dice = Dice::new("power cuts");
    for path in data_paths(context) {
        for direct in [false, true] {
            for _ in 0..context.pick(1, 10) {
                let lossy = Lossy::new(BLOCKS);
                let below = serve_below(&lossy);
                let mut words = vec!["file".into(), below.block_path(), "--queues".into()];
                words.extend(["2", "--data", path.name()].map(String::from));
                words.extend(direct.then(|| "--direct".into()));
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let serving = Serving::start(&words);
                let told = (&lossy, Told::Errors);
                let cut = until_cut(Clients::Flush, &serving.path, told, &mut dice);
                let sure = cut.after.verify(&cut.left);
                let sure = sure.unwrap_or_else(|lost| panic!("{words:?}: {lost}"));
                println!("  {path}, direct: {direct}: {sure} writes were durable, and are there");
                let id = serving.id().to_string();
                serving.signal(Signal::KILL);
                serving.end(SOON);
                tools::output(UBLKIT, &["delete", &id]); // if it is still there
                below.stop().unwrap();
            }
        }
    }
}

/// The file backend below a file system's durable overwrites.
pub fn overwrites(context: Context) {
    let mut dice = Dice::new("power cuts");
    for options in [&[][..], &["--direct"]] {
        for _ in 0..context.pick(1, 10) {
            let lossy = Lossy::new(DISK_BLOCKS);
            let below = serve_below(&lossy);
            let words = ["file", &below.block_path(), "--queues", "2"];
            let serving = Serving::start(&[&words[..], options].concat());
            let told = (&lossy, Told::Errors);
            let cut = until_cut(Clients::Overwrite, &serving.path, told, &mut dice);
            let sure = cut.after.verify(&cut.left);
            let sure = sure.unwrap_or_else(|lost| panic!("{options:?}: {lost}"));
            println!("  {options:?}: {sure} overwrites were durable, and are there");
            serving.signal(Signal::INT);
            serving.end(SOON);
            below.stop().unwrap();
        }
    }
}
