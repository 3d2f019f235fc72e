//! `serve`: one device, in the foreground.

use super::device::Which;
use super::exit::{Failure, say};
use super::recover::{self, Next};
use super::signals::{Event, Signals};
use super::stat::Teller;
use super::state::{self, FileName, Kept, Record};
use super::stop::stop;
use super::supervise::{self, Notify};
use super::{BackendName, Serve, delete, devices, resize, watch};
use core::time::Duration;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use ublkit::{
    Blocking, Builder, DeviceState, ErrorKind, Features, File, FileOptions, Geometry, Kernel,
    Linux, MadeFile, Memory, Null, Recovery, Server, Target,
};

/// Queues unless said otherwise: more than this rarely help, and each is a thread.
const DEFAULT_QUEUES: usize = 4;

/// Serves until a signal, or until somebody stops the device.
pub(super) fn run(serve: &Serve) -> Result<(), Failure> {
    if serve.backend != BackendName::File && (serve.path.is_some() || serve.direct) {
        return Err(refused("only the backend 'file' has a path and '--direct'".into()));
    }
    if serve.room.is_some() && serve.backend != BackendName::Memory {
        return Err(refused("only a disk in memory needs '--room'".into()));
    }
    let background = serve.supervision.background;
    if background.begin(&serve.tracing)? {
        return Ok(());
    }
    let signals = Signals::catch(background.is_there())?;
    match waiting(serve)? {
        Some(id) => {
            let (timeout, tracing) = (serve.patience.timeout, &serve.tracing);
            recover::go_on(id, &signals, &Next { data_lost: false, timeout, background, tracing })
        }
        None => go(serve, &signals, Way::Made),
    }
}

/// The device with that name, if it is there and is to be resumed. Of one that was stopped, and
/// whose server did not live to delete it, there is nothing to resume: it goes.
fn waiting(serve: &Serve) -> Result<Option<u32>, Failure> {
    let Some(name) = serve.name.clone().filter(|_| serve.resume) else { return Ok(None) };
    let id = match Which::Name(name).id() {
        Err(Failure::Said(ErrorKind::NotFound, _)) => return Ok(None),
        found => found?,
    };
    if delete::dead(id, serve.patience.timeout())? { Ok(None) } else { Ok(Some(id)) }
}

/// How a device comes to be served.
#[derive(Debug)]
pub(super) enum Way {
    /// It is made.
    Made,
    /// It is there, with a record, and its server is gone.
    Recovered(u32, Box<Record>),
}

/// Serves as those arguments say.
pub(super) fn go(serve: &Serve, signals: &Signals, way: Way) -> Result<(), Failure> {
    serve.supervision.begin()?;
    match serve.backend {
        BackendName::Null => {
            serve_target(serve, signals, way, Blocking::new(Null::new(geometry(serve)?)), None)
        }
        BackendName::Memory => {
            serve_target(serve, signals, way, memory_of(geometry(serve)?, serve.room)?, None)
        }
        BackendName::File => {
            // What a dead server still writes keeps the file locked.
            let is_new = matches!(way, Way::Made);
            let patience = if is_new { Duration::ZERO } else { serve.patience.timeout() };
            let mut file = file_of(serve, patience)?;
            let made = file.take_made();
            serve_target(serve, signals, way, file, made)
        }
    }
}

fn serve_target(
    serve: &Serve,
    signals: &Signals,
    way: Way,
    target: impl Target,
    made: Option<MadeFile>,
) -> Result<(), Failure> {
    let builder = builder(serve)?;
    // It is open; what comes next may leave the mounts by which it has its name.
    let file = serve.path.as_deref().and_then(FileName::of);
    if let Way::Recovered(_, record) = &way {
        record.check_file(file)?;
    }
    let folders = [state::place(), serve.tracing.file()];
    let folders: Vec<&Path> = folders.iter().flatten().map(PathBuf::as_path).collect();
    serve.supervision.settle(&folders)?;
    let trace = serve.tracing.begin()?;
    let (id, mut kept) = match way {
        Way::Made => (None, Kept::begin(record_of(serve, file)?, made, must_be_known(serve))?),
        Way::Recovered(id, record) => (Some(id), Kept::again(*record, made)?),
    };
    let end = match &trace {
        None => serve_on(Linux, serve, signals, (&builder, id), target, &mut kept),
        Some(trace) => {
            let kernel = trace.kernel();
            let target = kernel.watch(target);
            serve_on(kernel, serve, signals, (&builder, id), target, &mut kept)
        }
    };
    if let Some(trace) = trace {
        trace.finish();
    }
    match end {
        Ok(End::Gone) => {}
        Ok(End::Left) => return Ok(()),
        Err(Ended { is_left: true, why }) => return Err(why),
        Err(Ended { why, .. }) => {
            kept.forget();
            return Err(why);
        }
    }
    kept.forget();
    Ok(())
}

/// Whether the device must have a record.
fn must_be_known(serve: &Serve) -> bool {
    serve.name.is_some() || serve.recover.is_some_and(|recovery| recovery != Recovery::None)
}

/// What another server would need to know.
fn record_of(serve: &Serve, file: Option<FileName>) -> Result<Record, Failure> {
    let words = std::env::args_os().skip(2); // without the program and 'serve'
    let words = words.filter(|word| !supervise::is_about_background(word));
    let mut arguments = Vec::new();
    for word in words {
        match word.into_string() {
            Ok(word) => arguments.push(word),
            Err(word) if must_be_known(serve) => {
                return Err(refused(format!(
                    "{} is no UTF-8, which a record of it would have to be: use another \
                     name, or leave '--name' and '--recover' out",
                    word.display()
                )));
            }
            Err(word) => arguments.push(word.to_string_lossy().into_owned()),
        }
    }
    Ok(Record { arguments, file, ..state::new_record(serve.name.clone())? })
}

/// What became of a device that was served.
enum End {
    /// It is deleted.
    Gone,
    /// It waits for its next server.
    Left,
}

/// The same when something went wrong.
struct Ended {
    is_left: bool,
    why: Failure,
}

impl<E: Into<Failure>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self { is_left: false, why: error.into() }
    }
}

fn serve_on<K: Kernel<File: AsFd>>(
    kernel: K,
    serve: &Serve,
    signals: &Signals,
    (builder, id): (&Builder, Option<u32>),
    target: impl Target,
    kept: &mut Kept,
) -> Result<End, Ended> {
    // What cannot be recovered now may be so later.
    let failed = |why| Ended { is_left: id.is_some(), why };
    let server = match id {
        None => builder.clone().tag(kept.tag()).serve_on(kernel, target),
        Some(id) => builder.recover_on(kernel, id, target),
    };
    let server = server.map_err(|error| failed(error.into()))?;
    until_ended(serve, signals, server, kept)
}

fn until_ended<K>(
    serve: &Serve,
    signals: &Signals,
    mut server: Server<K>,
    kept: &mut Kept,
) -> Result<End, Ended>
where
    K: Kernel<File: AsFd>,
{
    kept.is_live(server.info(), server.path_reason());
    let path = server.block_path();
    let stuck = watch::begin(path.clone(), server.meters(), serve.request_timeout());
    let teller = Teller::begin(kept.tag(), server.meters(), stuck);
    let mut out = std::io::stdout();
    let told = writeln!(out, "{path}").and_then(|()| out.flush());
    if let Err(error) = told {
        stop(server, serve.patience.timeout())?; // nobody was told of it: it is not left running
        return Err(Failure::Output(error).into());
    }
    if serve.supervision.background.is_there() {
        supervise::let_go();
    }
    let manager = Notify::of_environment();
    manager.ready(&path);
    let mut event = signals.wait(&server)?;
    while event == Event::Grow {
        resize::grow(&server, kept);
        event = signals.wait(&server)?;
    }
    manager.stopping(&path);
    drop(teller); // the next server has a socket of its own there
    match event {
        // Nobody waits for what is gone, and another device may have its number by now.
        Event::Ended if !has_disk(&server) => {
            server.stop()?;
            say(&format!("somebody stopped {path}"));
            Ok(End::Gone)
        }
        Event::Ended if Recovery::of(server.info().features) != Recovery::None => {
            leave(&mut server, false)
        }
        Event::HandOver if Recovery::of(server.info().features) != Recovery::None => {
            leave(&mut server, true)
        }
        Event::Ended | Event::Stop | Event::HandOver | Event::Grow => {
            stop(server, serve.patience.timeout())?;
            Ok(End::Gone)
        }
    }
}

/// Whether a device is still there after a queue of its server has ended.
fn has_disk<K: Kernel>(server: &Server<K>) -> bool {
    let state = || -> Result<DeviceState, Failure> {
        Ok(devices::info(&mut devices::control()?, server.id())?.state)
    };
    match state() {
        Ok(state) => state != DeviceState::Dead,
        Err(failure) => !devices::is_gone(&failure),
    }
}

/// Leaves the device to its next server.
fn leave<K: Kernel>(server: &mut Server<K>, is_asked: bool) -> Result<End, Ended> {
    let (id, path) = (server.id(), server.block_path());
    let handed_over = server.hand_over();
    say(&left(id, &path, is_asked, handed_over.is_ok()));
    match handed_over {
        Ok(_) => Ok(End::Left),
        Err(error) => Err(Ended { is_left: true, why: error.into() }),
    }
}

/// What is told of a disk that was left to its next server.
pub(super) fn left(id: u32, path: &str, is_asked: bool, is_well: bool) -> String {
    match (is_well, is_asked) {
        (true, true) => format!("{path} was handed over"),
        (true, false) => format!("{path} was quiesced by somebody: 'ublkit recover {id}' goes on"),
        (false, _) => format!("{path} waits for its next server: 'ublkit recover {id}'"),
    }
}

fn refused(sentence: String) -> Failure {
    Failure::Said(ErrorKind::Usage, sentence)
}

/// What is said where '--no-partition-scan' cannot be.
pub(super) const ALWAYS_SCANS: &str =
    "this kernel always looks for partitions (7.0 need not): leave '--no-partition-scan' out";

pub(super) fn builder(serve: &Serve) -> Result<Builder, Failure> {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let queues = u16::try_from(cpus.min(DEFAULT_QUEUES)).unwrap_or(1);
    let max_io_bytes = u32::try_from(serve.max_io).map_err(|_| {
        refused(format!(
            "requests of {} bytes are too large: choose 4096 to 33554432",
            serve.max_io
        ))
    })?;
    let builder = Builder::new()
        .queues(serve.queues.unwrap_or(queues))
        .depth(serve.depth)
        .max_io_bytes(max_io_bytes)
        .metered(!serve.no_meter || serve.request_timeout.is_some())
        .pinned(serve.pin_queues)
        .threads_per_queue(serve.threads_per_queue)
        .spin(Duration::from_micros(serve.spin_us.unwrap_or_default().into()))
        .recovery(serve.recover.unwrap_or_default())
        .timeout(serve.patience.timeout());
    let builder = match serve.request_timeout() {
        Some(timeout) => builder.request_timeout(timeout),
        None => builder,
    };
    let builder = match serve.id {
        Some(id) => builder.id(id),
        None => builder,
    };
    let mut features = Features::empty();
    features.set(Features::UNPRIVILEGED_DEV, serve.unprivileged);
    if serve.no_partition_scan {
        let offered = devices::control()?.features()?.unwrap_or_default();
        if !offered.contains(Features::NO_AUTO_PART_SCAN) {
            return Err(Failure::Said(ErrorKind::Unsupported, ALWAYS_SCANS.into()));
        }
        features |= Features::NO_AUTO_PART_SCAN;
    }
    let builder = builder.features(features);
    let builder = match serve.data {
        Some(path) => builder.data_path(path),
        None => builder,
    };
    Ok(match serve.batches {
        Some(batches) => builder.batches(batches),
        None => builder,
    })
}

pub(super) fn geometry(serve: &Serve) -> Result<Geometry, Failure> {
    let block_bytes = block_bytes(serve)?.unwrap_or(512);
    let mut geometry = Geometry::new(serve.size.unwrap_or(0));
    geometry.logical_block_bytes = block_bytes;
    geometry.physical_block_bytes = block_bytes.max(4096);
    geometry.read_only = serve.read_only;
    Ok(geometry)
}

fn block_bytes(serve: &Serve) -> Result<Option<u32>, Failure> {
    let fits = |size| u32::try_from(size).map_err(|_| size);
    let block_bytes = serve.block_size.map(fits).transpose();
    block_bytes.map_err(|size| {
        refused(format!("a block of {size} bytes cannot be: choose 512, 1024, 2048 or 4096"))
    })
}

/// A disk in a file, whose lock is waited for.
fn file_of(serve: &Serve, patience: Duration) -> Result<File, Failure> {
    let path = serve.path.as_deref().unwrap_or(Path::new("")); // clap insists on one
    let mut options = FileOptions::new(path).direct(serve.direct).read_only(serve.read_only);
    options = options.patience(patience);
    if let Some(size_bytes) = serve.at_most {
        options = options.at_most(size_bytes);
    }
    if let Some(size_bytes) = serve.size {
        options = options.size_bytes(size_bytes);
    }
    if let Some(block_bytes) = block_bytes(serve)? {
        options = options.block_bytes(block_bytes);
    }
    Ok(options.open()?)
}

/// A memory disk.
pub(super) fn memory_of(geometry: Geometry, room_bytes: Option<u64>) -> Result<Memory, Failure> {
    let room_bytes = room_bytes.unwrap_or(geometry.size_bytes);
    if room_bytes < geometry.size_bytes {
        return Err(refused(format!(
            "a disk of {} bytes needs more room than {room_bytes} bytes: give '--room' at \
             the least its size",
            geometry.size_bytes
        )));
    }
    Memory::with_room(geometry, room_bytes).map_err(|errno| {
        refused(format!(
            "cannot map {room_bytes} bytes of memory: {errno}; choose a smaller size, or see \
             sysctl vm.overcommit_memory and 'ulimit -v'"
        ))
    })
}
