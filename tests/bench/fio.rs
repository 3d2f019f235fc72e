//! fio: the clients.

use crate::cells::Cell;
use crate::contenders::MIB;
use crate::disk::Disk;
use crate::guest::Outcome;
use crate::sample::Seen;
use crate::tools;
use serde_json::Value;
use std::fmt::Write;

/// How long one run takes.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    Milliseconds(u32),
    Requests(u32),
}

/// Looks at the time that a process's threads had so far: a line for each, then an empty one.
const LOOK: &str = "cat /proc/$1/task/*/schedstat >>$2; echo >>$2";

/// Runs clients against all disks in turns, so many rounds, with a CPU for each queue where there
/// are several; what they saw, round after round. It is one process, which takes its time to start.
pub fn run(
    disks: &[&Disk],
    cell: Cell,
    queues: u16,
    length: Length,
    rounds: u32,
) -> Outcome<Vec<Seen>> {
    let _ = std::fs::remove_dir_all("/tmp/looks");
    std::fs::create_dir("/tmp/looks").expect("/tmp is writable");
    std::fs::write("/tmp/looks/look", LOOK).expect("/tmp is writable");
    std::fs::write("/tmp/looks/jobs", jobs(disks, cell, queues, length, rounds)).expect("so it is");
    let command = "cd /tmp/looks && exec fio --output-format=json --output=seen jobs";
    let output = tools::output("sh", &["-c", command]);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
        return Err(format!("fio: {}: {said}", output.status));
    }
    let text = tools::read("/tmp/looks/seen");
    // Notes for people may stand before it.
    let begin = text.find('{').unwrap_or_default();
    let value: Value = serde_json::from_str(&text[begin..]).map_err(|error| error.to_string())?;
    let jobs = value["jobs"].as_array().ok_or("fio answers without jobs")?;
    if jobs.len() != disks.len() * rounds as usize {
        return Err(format!("fio ran {} jobs", jobs.len()));
    }
    jobs.iter().map(|job| seen(job).ok_or_else(|| format!("fio's job says {job}"))).collect()
}

/// fio's job file.
fn jobs(disks: &[&Disk], cell: Cell, queues: u16, length: Length, rounds: u32) -> String {
    let Cell { operation, bytes, depth } = cell;
    let mut text = format!(
        "[global]\ndirect=1\nioengine=io_uring\nthread=1\ngroup_reporting=1\nnorandommap=1\n\
         size={MIB}M\npercentile_list=50:99:99.9\nrw={operation}\nbs={bytes}\niodepth={depth}\n\
         numjobs={queues}\n"
    );
    if queues > 1 {
        let _ = writeln!(text, "cpus_allowed=0-{}\ncpus_allowed_policy=split", queues - 1);
    }
    text += &match length {
        Length::Milliseconds(time) => format!("time_based=1\nruntime={time}ms\n"),
        Length::Requests(count) => format!("number_ios={count}\n"),
    };
    for round in 0..rounds {
        for (index, disk) in disks.iter().enumerate() {
            let name = format!("{round}-{index}");
            let _ = writeln!(text, "[{name}]\nstonewall\nfilename={}", disk.path);
            if let Some(pid) = disk.pid {
                let look = |when: &str| format!("sh look {pid} {when}-{name}");
                let (before, after) = (look("before"), look("after"));
                let _ = writeln!(text, "exec_prerun={before}\nexec_postrun={after}");
            }
        }
    }
    text
}

/// The CPU time that was seen by each look at a server.
fn looks(when: &str, name: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(format!("/tmp/looks/{when}-{name}")).unwrap_or_default();
    let time = |line: &str| line.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    text.split_terminator("\n\n").map(|look| look.lines().filter_map(time).sum()).collect()
}

fn seen(job: &Value) -> Option<Seen> {
    let sides = [&job["read"], &job["write"]];
    let sum = |name: &str| -> Option<f64> { sides.iter().map(|side| side[name].as_f64()).sum() };
    // Of reads and writes, the slower.
    let latency = |percent: &str| {
        let of = |side: &&Value| side["clat_ns"]["percentile"][percent].as_f64();
        sides.iter().filter_map(of).reduce(f64::max)
    };
    let name = job["jobname"].as_str()?;
    // Each of several jobs looks: the time begins with the first and ends with the last.
    let (before, after) = (looks("before", name), looks("after", name));
    let used = after.iter().max().zip(before.iter().min()).map(|(after, before)| after - before);
    let requests = sum("total_ios")?;
    Some(Seen {
        cpu_ns_per_io: used.map(|used| used as f64 / requests),
        iops: sum("iops")?,
        bytes_per_second: sum("bw_bytes")?,
        latency_ns: [latency("50.000000")?, latency("99.000000")?, latency("99.900000")?],
    })
}
