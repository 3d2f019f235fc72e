//! `stat`: what a device's queues do, while they do it.

mod prometheus;
mod rates;
mod snapshot;
mod socket;
#[cfg(test)]
mod tests;
mod view;

pub(super) use snapshot::stuck_json;
pub(super) use socket::Teller;

use super::device::Which;
use super::devices;
use super::exit::Failure;
use super::listing::print_json;
use core::time::Duration;
use rates::Rates;
use serde_json::Value;
use snapshot::Snapshot;
use std::io::{IsTerminal, Write};
use std::time::Instant;
use ublkit::{DeviceInfo, DeviceState, ErrorKind, Stuck};
use view::{Lines, Live};

/// How long a device that is watched may tell nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The words of `ublkit stat`.
#[derive(clap::Args, Debug)]
pub(super) struct Stat {
    /// The number N in /dev/ublkbN, that path, or the name that '--name' gave
    #[arg(value_name = "DEVICE", value_parser = Which::parse)]
    #[arg(required_unless_present = "prometheus")]
    device: Option<Which>,
    /// Go on until Ctrl-C, or until the device is gone
    ///
    /// On a terminal it is a view that is drawn anew each time, elsewhere lines.
    #[arg(long, conflicts_with = "prometheus")]
    watch: bool,
    /// Seconds to look at the device for, each time
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    interval: u16,
    /// Print JSON: rates of the time that was looked at, and totals; with --watch a line each time
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,
    /// Print totals as Prometheus reads them; without a device, of all that tell theirs
    #[arg(long)]
    prometheus: bool,
}

/// Looks at a device for a while, or again and again.
pub(super) fn run(stat: &Stat) -> Result<(), Failure> {
    let id = stat.device.as_ref().map(Which::id).transpose()?;
    match id {
        Some(id) if stat.prometheus => print(&prometheus::text(&[Source::find(id)?.look()?])),
        Some(id) => look(id, stat),
        None => print(&prometheus::text(&all())),
    }
}

/// What does not come to an end in the server of the device with this tag, if it tells.
pub(super) fn stuck(id: u32, tag: u64) -> Option<Vec<Stuck>> {
    Snapshot::parse(id, &socket::ask(tag).ok()?).ok()?.stuck
}

fn look(id: u32, stat: &Stat) -> Result<(), Failure> {
    let source = Source::find(id)?;
    let interval = Duration::from_secs(stat.interval.into());
    let mut before = source.look()?;
    let begun = Instant::now();
    let mut seen = begun;
    let mut lines = Lines::default();
    let mut live = Live::begin(stat.watch && !stat.json);
    for turn in 1.. {
        std::thread::sleep((begun + interval * turn).saturating_duration_since(Instant::now()));
        let after = match source.look() {
            Ok(after) => after,
            // It was there when we came.
            Err(_) if stat.watch && !source.is_there() => return Ok(()),
            // It is being stopped, or goes from one server to the next.
            Err(_) if stat.watch && seen.elapsed() < PATIENCE => continue,
            Err(failure) => return Err(failure),
        };
        seen = Instant::now();
        let rates = Rates::between(&before, &after);
        match (stat.json, stat.watch) {
            (true, false) => print_json(&rates.json())?,
            (true, true) => print(&format!("{}\n", rates.json()))?,
            (false, false) => print(&view::table(&rates))?,
            (false, true) => match &mut live {
                Some(live) => print(&live.frame(&rates, begun.elapsed()))?,
                None => print(&lines.next(&rates, begun.elapsed()))?,
            },
        }
        if !stat.watch {
            break;
        }
        before = after;
    }
    Ok(())
}

/// Writes all of it at once: nobody sees half a view.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// What all devices tell that tell anything.
fn all() -> Vec<Snapshot> {
    let look = |id| Source::find(id).ok()?.look().ok();
    devices::ids().into_iter().filter_map(look).collect()
}

/// Where a device's numbers come from.
struct Source {
    id: u32,
    /// The socket of its server, by the device's tag; none where another's server serves it.
    tag: Option<u64>,
    /// Who serves it.
    server: Option<u32>,
}

impl Source {
    fn find(id: u32) -> Result<Self, Failure> {
        let info = devices::info(&mut devices::control()?, id)?;
        let server = devices::server(&info);
        let source = Self { id, tag: Some(info.server_word), server };
        match socket::ask(info.server_word) {
            Ok(_) => Ok(source),
            // The kernel counts what a disk does, whoever serves it.
            Err(_) if snapshot::of_disk(id, server).is_some() => Ok(Self { tag: None, ..source }),
            Err(why) => Err(no_numbers(&info, id, &why)),
        }
    }

    fn look(&self) -> Result<Snapshot, Failure> {
        let (id, server) = (self.id, self.server);
        let looked = match self.tag {
            Some(tag) => socket::ask(tag).and_then(|text| Snapshot::parse(id, &text)),
            None => snapshot::of_disk(id, server).ok_or_else(|| NO_DISK.into()),
        };
        looked.map_err(|why| no_more(id, &why))
    }

    /// Whether the device is there, and has or will have a server.
    fn is_there(&self) -> bool {
        let asked = devices::control().and_then(|mut control| devices::info(&mut control, self.id));
        asked.is_ok_and(|info| info.state != DeviceState::Dead)
    }
}

const NO_DISK: &str = "it has no disk any more";

/// A device that told something before.
fn no_more(id: u32, why: &str) -> Failure {
    let sentence =
        format!("ublk device {id} tells no more: {why}; 'ublkit show {id}' tells what it is");
    Failure::Said(ErrorKind::Failed, sentence)
}

/// A device that neither its server nor the kernel has numbers of.
fn no_numbers(info: &DeviceInfo, id: u32, why: &str) -> Failure {
    let state = info.state;
    let sentence = format!(
        "ublk device {id} is {state}, so it does nothing that could be counted ({why}); see \
         'ublkit show {id}'"
    );
    Failure::Said(ErrorKind::Failed, sentence)
}

/// Whether what is written is looked at by a person.
fn is_seen() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && !is_dumb
}

/// A value as JSON tells it, of what may not be known.
fn or_null<T: Into<Value>>(value: Option<T>) -> Value {
    value.map_or(Value::Null, Into::into)
}

/// For fuzzing: reads what a server told, and what the kernel says of a disk.
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(super) fn exercise(text: &str) -> Result<(), String> {
    let _ = snapshot::disk(text);
    Snapshot::parse(7, text).map(|snapshot| assert_eq!(snapshot.device, 7))
}
