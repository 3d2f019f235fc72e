//! The inside role: contenders, in turns, on one kernel.

use crate::cells::{self, Contender, Group, Sample};
use crate::disk::Disk;
use crate::fio::{self, Length};
use crate::tools;

/// What the host asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub groups: Vec<Group>,
    pub contenders: Vec<Contender>,
    pub rounds: u32,
    pub length: Length,
}

/// Prints lines for the host: `kernel: …`, `missing: …` and `sample: …`.
pub fn run(wanted: &Wanted) {
    println!("kernel: {}", tools::read("/proc/sys/kernel/osrelease").trim());
    for group in &wanted.groups {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        assert!(usize::from(group.queues) <= cpus, "{} queues on {cpus} CPUs", group.queues);
        let disks = started(group, &wanted.contenders);
        for &cell in &group.cells {
            println!("-- {}: {}", group.name(), cell.name());
            for round in 0..wanted.rounds {
                for disk in &disks {
                    let sample = measured(disk, group, cell, round, wanted.length);
                    println!("sample: {}", sample.to_json());
                }
            }
        }
        disks.into_iter().for_each(Disk::stop);
    }
}

/// The contenders of a group, all at work.
fn started(group: &Group, contenders: &[Contender]) -> Vec<Disk> {
    let mut disks = Vec::new();
    for contender in contenders.iter().filter(|contender| contender.kind == group.kind) {
        match Disk::start(contender, group.queues) {
            Ok(disk) => disks.push(disk),
            Err(why) => println!("missing: {}: {}: {why}", group.name(), contender.name),
        }
    }
    disks
}

fn measured(disk: &Disk, group: &Group, cell: cells::Cell, round: u32, length: Length) -> Sample {
    let before = disk.cpu_ns();
    let seen = fio::run(&disk.path, cell, group.queues, length);
    let used = disk.cpu_ns().zip(before).map(|(after, before)| after - before);
    Sample {
        key: [group.name(), cell.name(), disk.name.clone()],
        round,
        iops: seen.iops,
        bytes_per_second: seen.bytes_per_second,
        latency_ns: seen.latency_ns,
        cpu_ns_per_io: used.map(|used| used as f64 / seen.requests),
    }
}
