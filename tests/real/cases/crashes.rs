//! Servers killed while clients write, on every data path.

use super::Context;
use super::recovery::{Image, kill, recover};
use crate::dice::Dice;
use crate::disk;
use crate::oracle::{Oracle, Writers};
use crate::tools::{Serving, UBLKIT, devices, eventually, run};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ublkit::DataPath;

/// A driver before 6.15 may notice only after half a minute that a server is gone.
const SOON: Duration = Duration::from_secs(60);

const BLOCKS: usize = 256;
/// Fewer than there are slots: see the crash loop in `recovery`.
const WRITERS: usize = 8;
/// Writes that must be acknowledged between two deaths.
const BETWEEN: u64 = 100;

/// A way of serving a file.
struct Mode {
    path: DataPath,
    direct: bool,
}

/// All that this kernel has, in batches or not.
fn modes(batches: bool, context: Context) -> Vec<Mode> {
    let has = |path: &DataPath| context.features.contains(path.features());
    let fits = |path: &DataPath| !batches || *path != DataPath::GetData;
    let paths = DataPath::ALL.iter().filter(|path| has(path) && fits(path));
    // A slice goes around the page cache only where batches do not take their time.
    let ways = if batches { context.pick(&[false][..], &[false, true]) } else { &[false, true] };
    paths.flat_map(|&path| ways.iter().map(move |&direct| Mode { path, direct })).collect()
}

/// Kills a server after some writes, at a random moment.
fn killed(serving: Serving, oracle: &Oracle, dice: &mut Dice) -> String {
    let before = oracle.counts().0;
    eventually("writers write", SOON, || oracle.counts().0 > before + BETWEEN);
    std::thread::sleep(Duration::from_millis(dice.below(50) as u64));
    kill(serving)
}

/// On each path: servers die at random moments, and the next one goes on. No client sees an error,
/// and what was acknowledged is there, through the disk and in its file.
pub fn each_path(context: Context) {
    crash(false, context);
}

/// The same where one command does for many slots.
pub fn in_batches(context: Context) {
    crash(true, context);
}

fn crash(in_batches: bool, context: Context) {
    let mut dice = Dice::new("moments of death");
    let begun = Instant::now();
    for Mode { path, direct } in modes(in_batches, context) {
        let name = format!("{path}, batches: {in_batches}, direct: {direct}");
        let image = Image::new("paths");
        let (path, batches) = (path.to_string(), if in_batches { "yes" } else { "no" });
        let words = ["--recover", "reissue", "--data", &path, "--batches", batches, "--direct"];
        let words = if direct { &words[..] } else { &words[..6] };
        let mut serving = image.serve("1M", words);
        let disk_path = serving.path.clone();
        let oracle = Arc::new(Oracle::new(BLOCKS));
        let writers = Writers::start(&oracle, &disk_path, WRITERS);
        for _ in 0..context.pick(0, 20) {
            let id = killed(serving, &oracle, &mut dice);
            serving = recover(&id);
        }
        // In the end the writes that a dead server had, and no more: nothing is written over them.
        let id = killed(serving, &oracle, &mut dice);
        serving = std::thread::scope(|scope| {
            scope.spawn(|| writers.finish());
            recover(&id)
        });
        let shown = run(UBLKIT, &["show", &disk_path]);
        let is_so = |line: &str| line.split_whitespace().take(3).eq(["data", "path:", &path]);
        assert!(shown.lines().any(is_so), "{name}: {shown}");
        assert_eq!(shown.contains("BATCH_IO"), in_batches, "{name}: {shown}");
        let (sure, failed) = oracle.counts();
        println!("  {name}: {sure} writes acknowledged, at {} s", begun.elapsed().as_secs());
        assert_eq!(failed, 0, "{name}: a client saw an error");
        let kept = oracle.verify(&disk::open(&disk_path, 0));
        kept.unwrap_or_else(|why| panic!("{name}: {why}"));
        serving.stop();
        let kept = oracle.verify(&File::open(image.path()).unwrap());
        kept.unwrap_or_else(|why| panic!("{name}, in its file: {why}"));
        assert_eq!(devices(), Vec::<String>::new());
    }
}
