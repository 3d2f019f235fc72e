//! `list`, `show` and `features`: what the driver tells, as text or JSON.

use super::exit::{Failure, say};
use super::number::show_size;
use super::{Output, devices, stat, state, watch};
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
    /// Why its data moves as it does, as its record says.
    path_reason: Option<String>,
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
    let record = state::of(&info).ok().flatten();
    let (name, path_reason) = record.map_or((None, None), |it| (it.name, it.path_reason));
    let server = devices::server(&info);
    Ok(Device { id, info, params, server, name, path_reason, stuck: None })
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

    /// The same, and why.
    fn data_path_said(&self) -> String {
        match (self.data_path(), &self.path_reason) {
            (None, _) => "none of ublkit's".into(),
            (Some(path), None) => path.into(),
            (Some(path), Some(reason)) => format!("{path} ({reason})"),
        }
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
        watch::what(stuck).unwrap_or_else(|| "none".into())
    }

    fn lines(&self) -> [[String; 2]; 18] {
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
            ("data path", self.data_path_said()),
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
            "data_path_reason": self.data_path().and(self.path_reason.as_ref()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::path::Path;
    use ublkit::DeviceState;

    /// A device that ublkit serves,
    fn ours() -> Device {
        let mut info = DeviceInfo::wish(4, 128, 1 << 19);
        info.features = DataPath::ZeroCopy.features() | Features::USER_RECOVERY;
        (info.state, info.server_word) = (DeviceState::Live, 0x0123_4567_89ab_cdef);
        let mut params = ublk_params::default();
        params.basic.dev_sectors = 1 << 21;
        params.basic.logical_bs_shift = 9;
        params.basic.attrs = sys::UBLK_ATTR_VOLATILE_CACHE;
        let stuck = Stuck { queue: 1, tag: Some(3), time: Duration::from_secs(31) };
        Device {
            id: 7,
            info,
            params: Some(params),
            server: Some(4321),
            name: Some("scratch".into()),
            path_reason: Some("the best for what a file holds".into()),
            stuck: Some(vec![stuck]),
        }
    }

    /// and one that another program does, of which little is known.
    fn others() -> Device {
        let mut info = DeviceInfo::wish(1, 1, 4096);
        info.features = Features::AUTO_BUF_REG;
        let (params, server, name, path_reason, stuck) = (None, None, None, None, None);
        Device { id: 8, info, params, server, name, path_reason, stuck }
    }

    /// `UBLKIT_BLESS=1 cargo test --bin ublkit shown` writes the file anew.
    #[test]
    fn devices_are_shown_as_committed() {
        let copies = |reason: &str| {
            let mut copies = ours();
            copies.info.features = Features::empty();
            (copies.path_reason, copies.stuck) = (Some(reason.into()), Some(Vec::new()));
            copies
        };
        let mut found = String::new();
        for (title, device) in [
            ("ours", ours()),
            ("another's", others()),
            ("one that was asked for", copies("as was asked for")),
            ("of an older server", Device { path_reason: None, ..copies("") }),
        ] {
            let lines = device.lines().map(|[name, value]| format!("{name:17} {value}\n"));
            found += &format!("# {title}\n{}{:#}\n\n", lines.concat(), device.json());
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/show.txt");
        if std::env::var_os("UBLKIT_BLESS").is_some() {
            return std::fs::write(path, found).expect("the repository can be written");
        }
        let golden = std::fs::read_to_string(path).expect("the file is committed");
        assert!(golden == found, "show.txt differs; the program says:\n{found}");
    }
}
