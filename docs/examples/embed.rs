//! A block device of one's own in a program of one's own: this one's disk shows, in every block,
//! the block's number, and keeps nothing. It is served, read through the kernel, and stopped.
//!
//! `cargo run --example embed --no-default-features` (as root, with ublk_drv loaded)

use std::os::unix::fs::FileExt;
use ublkit::{Backend, Blocking, Builder, Errno, Geometry};

/// The disk: what it is, and what its blocks hold.
struct Numbers;

impl Backend for Numbers {
    fn geometry(&self) -> Geometry {
        let mut geometry = Geometry::new(1 << 30);
        geometry.read_only = true;
        geometry
    }

    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        for (index, block) in data.chunks_mut(512).enumerate() {
            block.fill(0);
            block[..8].copy_from_slice(&(offset / 512 + index as u64).to_le_bytes());
        }
        Ok(())
    }

    fn write(&self, _offset: u64, _data: &[u8]) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Builder::new().queues(2).serve(Blocking::new(Numbers))?;
    println!("{} is live, with {} queues", server.block_path(), server.info().queues);

    let disk = std::fs::File::open(server.block_path())?;
    let mut block = [0; 512];
    for number in [0, 1, 2_097_151_u64] {
        disk.read_exact_at(&mut block, number * 512)?;
        assert_eq!(block[..8], number.to_le_bytes());
    }
    drop(disk);

    for (queue, stats) in server.stop()?.iter().enumerate() {
        println!("queue {queue} answered {} reads", stats.reads);
    }
    Ok(())
}
