//! Figures, not verdicts: what a memory disk does beside the kernel's own, in one boot.

use super::Context;
use crate::tools::{self, Serving};
use serde_json::Value;

/// Requests a second of one fio job with 32 requests under way.
fn iops(path: &str, pattern: &str, block: &str, seconds: u32) -> f64 {
    let words = [
        "--name=speed".to_string(),
        format!("--filename={path}"),
        format!("--rw={pattern}"),
        format!("--bs={block}"),
        format!("--runtime={seconds}"),
        "--time_based".into(),
        "--direct=1".into(),
        "--ioengine=libaio".into(),
        "--iodepth=32".into(),
        "--thread=1".into(),
        "--output-format=json".into(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let report: Value = serde_json::from_str(&tools::run("fio", &words)).expect("JSON");
    let job = &report["jobs"][0];
    job["read"]["iops"].as_f64().unwrap_or(0.0) + job["write"]["iops"].as_f64().unwrap_or(0.0)
}

/// The median of ratios to the kernel's brd, which answers in the client's own call.
pub fn beside_brd(context: Context) {
    tools::run("modprobe", &["brd", "rd_nr=1", "rd_size=65536"]);
    let serving = Serving::start(&["memory", "--size", "64M"]);
    let rounds = context.pick(3, 9);
    let cells = [("randread", "4k"), ("randwrite", "4k"), ("randread", "128k")];
    for (pattern, block) in cells.into_iter().take(context.pick(1, cells.len())) {
        let mut ratios: Vec<f64> = (0..rounds)
            .map(|_| {
                let ours = iops(&serving.path, pattern, block, 1);
                let brd = iops("/dev/ram0", pattern, block, 1);
                assert!(ours > 0.0 && brd > 0.0);
                ours / brd
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "  measured: {pattern} {block}: {:.2} of brd ({:.2} to {:.2} in {rounds} rounds)",
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
    serving.stop();
    tools::run("rmmod", &["brd"]);
}
