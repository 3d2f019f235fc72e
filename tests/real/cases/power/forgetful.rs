//! The controls: servers that break a promise, each of which is noticed.

use super::in_file::{EXT4, Way, cut_below};
use super::{Above, BLOCK, Clients, Lossy, Told, serve_below, until_cut};
use crate::cases::Context;
use crate::dice::Dice;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use ublkit::{Backend, Blocking, Builder, Durability, Errno, Geometry};

/// How a server breaks its promise.
#[derive(Clone, Copy, Debug)]
struct Forgets {
    /// Whether it writes FUA as it writes all; otherwise it says that it has flushed, and has not.
    fua: bool,
    /// Whether it goes around the page cache.
    direct: bool,
}

impl Forgets {
    const ALL: [Self; 4] = [
        Self { fua: false, direct: false },
        Self { fua: false, direct: true },
        Self { fua: true, direct: false },
        Self { fua: true, direct: true },
    ];

    /// Those who notice.
    fn clients(self) -> Clients {
        if self.fua { Clients::Overwrite } else { Clients::Flush }
    }

    /// Serves the disk or the file at `path`, which it makes where there is none.
    fn serve(self, path: &str) -> Above {
        let flags = if self.direct { libc::O_DIRECT } else { 0 };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
        let file = options.open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        if path.starts_with("/tmp/") {
            file.set_len((self.clients().blocks() * BLOCK) as u64).unwrap();
            file.sync_all().unwrap(); // that it is there is not what is forgotten
        }
        let server = Builder::new().serve(Blocking::new(Forgetful { file, how: self }));
        Above::Another(Box::new(server.expect("a device")))
    }
}

#[derive(Debug)]
struct Forgetful {
    file: File,
    how: Forgets,
}

impl Backend for Forgetful {
    fn geometry(&self) -> Geometry {
        let mut geometry = Geometry::new((self.how.clients().blocks() * BLOCK) as u64);
        (geometry.logical_block_bytes, geometry.physical_block_bytes) =
            (BLOCK as u32, BLOCK as u32);
        let (fua, flush) = (Durability::FlushAndFua, Durability::Flush);
        geometry.durability = if self.how.fua { fua } else { flush };
        geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        self.file.read_exact_at(data, offset).map_err(|_| Errno::EIO)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.file.write_all_at(data, offset).map_err(|_| Errno::EIO)
    }

    fn write_durably(&self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.write(offset, data)
    }

    fn flush(&self) -> Result<(), Errno> {
        if self.how.fua { self.file.sync_data().map_err(|_| Errno::EIO) } else { Ok(()) }
    }
}

/// On a disk: a server that skips flushes loses what it promised, and so does one that drops FUA
/// alone.
pub fn forgetful(_: Context) {
    let mut dice = Dice::new("power cuts");
    for how in Forgets::ALL {
        let lossy = Lossy::new(how.clients().blocks());
        let below = serve_below(&lossy);
        let above = how.serve(&below.block_path());
        let told = (&lossy, Told::Errors);
        let cut = until_cut(how.clients(), &above.path(), told, &mut dice);
        // What it said afterwards cannot be so.
        let lost = cut.before.verify(&cut.left).expect_err("nothing was lost");
        println!("  {how:?}: noticed: {lost}");
        above.stop();
        below.stop().unwrap();
    }
}

/// The same, of a file on a file system.
pub fn forgetful_of_files(_: Context) {
    let mut dice = Dice::new("power cuts");
    for how in Forgets::ALL {
        let way = Way { kind: &EXT4, preallocated: false, clients: how.clients() };
        let lost = cut_below(way, |image| how.serve(image), &mut dice);
        println!("  {how:?}: noticed: {}", lost.expect_err("nothing was lost"));
    }
}
