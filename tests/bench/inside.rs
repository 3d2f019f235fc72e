//! The inside role: contenders, in turns, on one kernel.

use crate::cells::{Cell, Group};
use crate::contenders::Contender;
use crate::disk::{self, Disk};
use crate::fio::{self, Length};
use crate::sample::Sample;
use crate::tools;

/// What the host asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub groups: Vec<Group>,
    pub contenders: Vec<Contender>,
    pub rounds: u32,
    pub length: Length,
}

/// Prints lines for the host: `kernel: …`, `build: …`, `missing: …`, `failed: …` and `sample: …`.
pub fn run(wanted: &Wanted) {
    println!("kernel: {}", tools::read("/proc/sys/kernel/osrelease").trim());
    println!("build: {}", tools::read("/proc/sys/kernel/version").trim());
    for group in &wanted.groups {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(usize::from(group.queues) <= cpus, "{} queues on {cpus} CPUs", group.queues);
        let disks = started(group, &wanted.contenders);
        for &cell in &group.cells {
            println!("-- {}: {}", group.name(), cell.name());
            let able = able(&disks, group, cell);
            if able.is_empty() {
                continue;
            }
            let seen = fio::run(&able, cell, group.queues, wanted.length, wanted.rounds);
            let seen = seen.unwrap_or_else(|why| {
                println!("failed: {}: {}: {why}", group.name(), cell.name());
                Vec::new()
            });
            for (number, seen) in (0..).zip(seen) {
                let (round, disk) = (number / able.len(), able[number % able.len()]);
                let key = [group.name(), cell.name(), disk.name.clone()];
                println!("sample: {}", Sample::new(key, round, &seen).to_json());
            }
        }
        disks.into_iter().for_each(Disk::stop);
    }
    disk::clean_up();
}

/// The disks that can do what a cell asks.
fn able<'a>(disks: &'a [Disk], group: &Group, cell: Cell) -> Vec<&'a Disk> {
    let is_able = |disk: &&Disk| {
        let name = disk.path.trim_start_matches("/dev/");
        let limit = |file: &str| -> u32 {
            let text = tools::read(&format!("/sys/block/{name}/queue/{file}"));
            text.trim().parse().expect("a number")
        };
        // Clients' buffers lie one behind the other, so a request is no less than their alignment.
        let least = limit("logical_block_size").max(limit("dma_alignment") + 1);
        if least > cell.bytes {
            let (group, cell) = (group.name(), cell.name());
            println!("missing: {group}: {}: no {cell}: it wants {least} B at least", disk.name);
        }
        least <= cell.bytes
    };
    disks.iter().filter(is_able).collect()
}

/// The contenders of a group, all at work.
fn started(group: &Group, contenders: &[Contender]) -> Vec<Disk> {
    let mut disks = Vec::new();
    let is_here = |it: &&Contender| it.kind == group.kind && it.field.meets(group.field);
    for contender in contenders.iter().filter(is_here) {
        match Disk::start(contender, group.queues) {
            Ok(disk) => disks.push(disk),
            Err(why) => println!("missing: {}: {}: {why}", group.name(), contender.name),
        }
    }
    disks
}
