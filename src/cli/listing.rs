//! `list`, `show` and `features`: what the driver tells, as text or JSON.

use super::exit::{Failure, say};
use super::number::show_size;
use super::{Output, devices, stat, state};
use serde_json::{Value, json};
use std::io::Write;
use ublkit::sys::ublk as sys;
use ublkit::sys::ublk::ublk_params;
use ublkit::{Control, DataPath, DeviceInfo, ErrorKind, Features, Linux, Recovery, Stuck};

/// Lists all devices. Goes on after one that cannot be looked at, and answers with the last such
/// failure.
pub(super) fn list(output: Output) -> Result<(), Failure> {
    let mut control = devices::control()?;
    let (mut found, mut failed) = (Vec::new(), None);
    for id in devices::ids() {
        match look(&mut control, id) {
            Ok(device) => found.push(device),
            Err(failure) if devices::is_gone(&failure) => {}
            Err(failure) => {
                if let Some(before) = failed.replace(failure) {
                    say(&before.sentence());
                }
            }
        }
    }
    if output.json {
        print_json(&Value::Array(found.iter().map(Device::json).collect()))?;
    } else {
        let head = ["DEVICE", "STATE", "SIZE", "QUEUES", "DEPTH", "SERVER"];
        let mut rows = vec![head.map(String::from)];
        rows.extend(found.iter().map(Device::row));
        print_rows(&rows)?;
    }
    failed.map_or(Ok(()), Err)
}

/// Shows one device.
pub(super) fn show(id: u32, output: Output) -> Result<(), Failure> {
    let device = look(&mut devices::control()?, id)?;
    let stuck = stat::stuck(id, device.info.server_word);
    let device = Device { stuck, ..device };
    if output.json {
        return print_json(&device.json());
    }
    print_rows(&device.lines())
}

/// Tells whose a device is, by numbers.
pub(super) fn owner(id: u32) -> Result<(), Failure> {
    let info = devices::info(&mut devices::control()?, id)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} {}", info.owner_uid, info.owner_gid)?;
    Ok(out.flush()?)
}

/// Lists the driver's features.
pub(super) fn features(output: Output) -> Result<(), Failure> {
    let offered = devices::control()?.features()?;
    let known = offered.unwrap_or_default();
    let mut rows = vec![["BIT", "FEATURE", "KERNEL", "UBLKIT"].map(String::from)];
    let mut values = Vec::new();
    for bit in 0..u64::BITS {
        let feature = Features::from_bits_retain(1 << bit);
        let name = Features::all().iter_names().find(|(_, named)| *named == feature);
        if name.is_none() && !known.contains(feature) {
            continue;
        }
        let name = name.map_or_else(|| "(unknown to ublkit)".into(), |(name, _)| name.to_string());
        let kernel = known.contains(feature);
        let served = Features::SERVED.contains(feature);
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_string();
        values.push(json!({ "bit": bit, "name": name, "kernel": kernel, "served": served }));
        rows.push([bit.to_string(), name, yes(kernel), yes(served)]);
    }
    if output.json {
        return print_json(&Value::Array(values));
    }
    print_rows(&rows)
}

/// What the driver says of one device.
struct Device {
    id: u32,
    info: DeviceInfo,
    /// None, if they were not to be had in time: somebody stops the device, say.
    params: Option<ublk_params>,
    server: Option<u32>,
    /// What its record calls it.
    name: Option<String>,
    /// What does not come to an end in its server, if that tells.
    stuck: Option<Vec<Stuck>>,
}

fn look(control: &mut Control<Linux>, id: u32) -> Result<Device, Failure> {
    let info = devices::info(control, id)?;
    let params = match devices::commands(control, id, &info).params() {
        Ok(params) => Some(params),
        Err(error) if error.kind() == ErrorKind::Timeout => None,
        Err(error) => return Err(error.into()),
    };
    // Of devices of other users or programs there is none to be read.
    let name = state::of(&info).ok().flatten().and_then(|record| record.name);
    Ok(Device { id, info, params, server: devices::server(&info), name, stuck: None })
}

impl Device {
    fn path(&self) -> String {
        format!("/dev/ublkb{}", self.id)
    }

    fn size_bytes(&self) -> Option<u64> {
        Some(self.params?.basic.dev_sectors.saturating_mul(sys::SECTOR_BYTES))
    }

    fn attr(&self, attr: u32) -> Option<bool> {
        Some(self.params?.basic.attrs & attr != 0)
    }

    fn logical_block_bytes(&self) -> Option<u64> {
        Some(1_u64.checked_shl(self.params?.basic.logical_bs_shift.into()).unwrap_or(0))
    }

    /// How data moves, if it is a way that ublkit knows.
    fn data_path(&self) -> Option<&'static str> {
        DataPath::of(self.info.features).map(DataPath::name)
    }

    fn row(&self) -> [String; 6] {
        [
            self.path(),
            self.info.state.to_string(),
            bytes(self.size_bytes()),
            self.info.queues.to_string(),
            self.info.depth.to_string(),
            self.server.map_or_else(|| "none".into(), |pid| format!("pid {pid}")),
        ]
    }

    /// What does not come to an end.
    fn stuck(&self) -> String {
        let Some(stuck) = &self.stuck else { return UNKNOWN.into() };
        let Some(longest) = stuck.iter().map(|stuck| stuck.time.as_secs()).max() else {
            return "none".into();
        };
        let what = match (stuck.iter().find(|stuck| stuck.tag.is_none()), stuck.len()) {
            (Some(stuck), _) => format!("the backend of queue {}", stuck.queue),
            (None, 1) => "a request".into(),
            (None, count) => format!("{count} requests"),
        };
        format!("{what}, for {longest} s")
    }

    fn lines(&self) -> Vec<[String; 2]> {
        let [path, state, size, queues, depth, server] = self.row();
        let yes = |attr| match self.attr(attr) {
            Some(true) => "yes".to_string(),
            Some(false) => "no".to_string(),
            None => UNKNOWN.to_string(),
        };
        let info = &self.info;
        [
            ("device", path),
            ("state", state),
            ("size", size),
            ("logical block", bytes(self.logical_block_bytes())),
            ("read-only", yes(sys::UBLK_ATTR_READ_ONLY)),
            ("volatile cache", yes(sys::UBLK_ATTR_VOLATILE_CACHE)),
            ("FUA", yes(sys::UBLK_ATTR_FUA)),
            ("queues", queues),
            ("depth", depth),
            (
                "data path",
                self.data_path().map_or_else(|| "none of ublkit's".into(), str::to_owned),
            ),
            ("largest request", show_size(info.max_io_bytes.into())),
            ("server", server),
            ("stuck", self.stuck()),
            ("recovery", Recovery::of(info.features).to_string()),
            ("name", self.name.clone().unwrap_or_else(|| "none".into())),
            ("tag", format!("{:016x}", info.server_word)),
            ("owner", format!("uid {}, gid {}", info.owner_uid, info.owner_gid)),
            ("features", info.features.to_string()),
        ]
        .map(|(name, value)| [format!("{name}:"), value])
        .to_vec()
    }

    fn json(&self) -> Value {
        let info = &self.info;
        let stuck: Option<Vec<Value>> =
            self.stuck.as_ref().map(|all| all.iter().map(stat::stuck_json).collect());
        let features: Vec<&str> = info.features.iter_names().map(|(name, _)| name).collect();
        json!({
            "id": self.id,
            "path": self.path(),
            "char_path": format!("/dev/ublkc{}", self.id),
            "state": info.state.to_string(),
            "size_bytes": self.size_bytes(),
            "logical_block_bytes": self.logical_block_bytes(),
            "read_only": self.attr(sys::UBLK_ATTR_READ_ONLY),
            "volatile_cache": self.attr(sys::UBLK_ATTR_VOLATILE_CACHE),
            "fua": self.attr(sys::UBLK_ATTR_FUA),
            "queues": info.queues,
            "depth": info.depth,
            "data_path": self.data_path(),
            "max_io_bytes": info.max_io_bytes,
            "recovery": Recovery::of(info.features).name(),
            "name": self.name,
            "tag": format!("{:016x}", info.server_word),
            "server_pid": self.server,
            "stuck": stuck,
            "owner_uid": info.owner_uid,
            "owner_gid": info.owner_gid,
            "features": features,
            "features_bits": info.features.bits(),
        })
    }
}

/// What could not be asked.
const UNKNOWN: &str = "unknown";

fn bytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| UNKNOWN.into(), show_size)
}

pub(super) fn print_json(value: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value:#}")?;
    Ok(out.flush()?)
}

/// Prints columns, each as wide as its widest cell.
pub(super) fn print_rows<const N: usize>(rows: &[[String; N]]) -> Result<(), Failure> {
    let widths: [usize; N] =
        core::array::from_fn(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0));
    let mut out = std::io::stdout().lock();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(out.flush()?)
}
