//! fio: the clients.

use crate::cells::Cell;
use crate::tools;
use serde_json::Value;

/// How long one run takes.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    Milliseconds(u32),
    Requests(u32),
}

/// What clients saw.
#[derive(Debug)]
pub struct Seen {
    pub requests: f64,
    pub iops: f64,
    pub bytes_per_second: f64,
    pub latency_ns: [f64; 3],
}

/// Runs clients against a disk, on a CPU of their own for each queue where there are so many.
pub fn run(path: &str, cell: Cell, queues: u16, length: Length) -> Seen {
    let Cell { operation, bytes, depth } = cell;
    let mut words: Vec<String> = [
        "--name=bench",
        "--direct=1",
        "--ioengine=io_uring",
        "--thread=1",
        "--group_reporting=1",
        "--norandommap=1",
        "--size=96M", // inside the smallest disk, the same for all
        "--percentile_list=50:99:99.9",
        "--output-format=json",
    ]
    .map(str::to_owned)
    .to_vec();
    words.push(format!("--filename={path}"));
    words.push(format!("--rw={operation}"));
    words.push(format!("--bs={bytes}"));
    words.push(format!("--iodepth={depth}"));
    words.push(format!("--numjobs={queues}"));
    if queues > 1 {
        let last = queues - 1;
        words.extend([format!("--cpus_allowed=0-{last}"), "--cpus_allowed_policy=split".into()]);
    }
    match length {
        Length::Milliseconds(time) => {
            words.extend(["--time_based".into(), format!("--runtime={time}ms")]);
        }
        Length::Requests(count) => words.push(format!("--number_ios={count}")),
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = tools::run("fio", &words);
    // Notes for people may stand before it.
    let begin = text.find('{').unwrap_or_default();
    let value: Value = serde_json::from_str(&text[begin..])
        .unwrap_or_else(|error| panic!("fio's answer: {error}: {text}"));
    seen(&value["jobs"][0]).unwrap_or_else(|| panic!("what does fio say? {text}"))
}

fn seen(job: &Value) -> Option<Seen> {
    let sides = [&job["read"], &job["write"]];
    let sum = |name: &str| -> Option<f64> { sides.iter().map(|side| side[name].as_f64()).sum() };
    // Of reads and writes, the slower.
    let latency = |percent: &str| {
        let of = |side: &&Value| side["clat_ns"]["percentile"][percent].as_f64();
        sides.iter().filter_map(of).reduce(f64::max)
    };
    Some(Seen {
        requests: sum("total_ios")?,
        iops: sum("iops")?,
        bytes_per_second: sum("bw_bytes")?,
        latency_ns: [latency("50.000000")?, latency("99.000000")?, latency("99.900000")?],
    })
}
