//! The command line: what can be said, and where it goes.

mod abi;
mod delete;
mod device;
mod devices;
mod doctor;
mod examples;
mod exit;
#[cfg(all(any(test, fuzzing), feature = "sim"))]
pub(crate) mod fuzz;
mod listing;
mod number;
#[cfg(test)]
mod pages;
mod recover;
mod replay;
mod resize;
#[cfg(test)]
mod sentences;
mod serve;
mod signals;
mod stat;
mod state;
mod stop;
mod supervise;
mod trace;
mod upgrade;
mod wait;
mod watch;

use clap::{Args, Parser, Subcommand, ValueEnum};
use core::time::Duration;
use device::{Device, Which};
use std::path::PathBuf;
use std::process::ExitCode;
use supervise::Apart;
use ublkit::{DataPath, Recovery};

/// Serves block devices from user space (Linux ublk).
#[derive(Debug, Parser)]
#[command(name = "ublkit", version, after_help = exit::CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a block device and serves it until it is stopped
    ///
    /// Prints the device's path once it is live. Ctrl-C, SIGTERM and 'ublkit stop' stop it cleanly:
    /// requests are answered, dirty pages are written, the device is deleted. A second signal ends
    /// the server at once, and the kernel fails what is left. SIGUSR1, which 'ublkit upgrade'
    /// sends, has it leave a device with --recover to the next server.
    #[command(after_help = examples::SERVE_EXAMPLES)]
    Serve(Serve),
    /// Lists the ublk devices of this machine, whoever serves them
    #[command(after_help = "Example:\n  ublkit list --json | jq '.[].path'")]
    List(Output),
    /// Shows all that the driver says of one device
    #[command(after_help = "Example:\n  ublkit show 0")]
    Show {
        #[command(flatten)]
        device: Device,
        #[command(flatten)]
        output: Output,
    },
    /// Stops a device: its disk goes away, and so does its server, if that is ublkit
    ///
    /// Dirty pages are written first. Clients that have the disk open get errors from then on,
    /// except with --if-unused.
    #[command(after_help = "Example:\n  ublkit stop 0\n  ublkit stop 0 --if-unused")]
    Stop {
        #[command(flatten)]
        device: Device,
        /// Only if nobody has the disk open or mounted; needs Linux 7.0
        #[arg(long)]
        if_unused: bool,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        apart: Apart,
    },
    /// Serves a device whose server is gone, as 'ublkit serve' did
    ///
    /// The device was made by 'ublkit serve --recover', and its server has died. The backend is
    /// what it was, told from the record in the state directory. Runs in the foreground, as 'ublkit
    /// serve' does, unless '--background' is said again.
    #[command(after_help = examples::RECOVER_EXAMPLES)]
    Recover(recover::Recover),
    /// Replaces the server of a device by this program, while clients go on
    ///
    /// The old server, which is ublkit too, answers what it was asked, lets go and ends; this one
    /// takes the device over. Meanwhile clients wait, and see no error. Runs in the foreground,
    /// unless '--background' is said again. Needs a device made by 'ublkit serve --recover', and
    /// Linux 6.16 or '--recover reissue'.
    #[command(after_help = examples::UPGRADE_EXAMPLES)]
    Upgrade(upgrade::Upgrade),
    /// Deletes a device that is not served any more
    ///
    /// A device that a process still serves is left alone, except with --force.
    #[command(after_help = examples::DELETE_EXAMPLES)]
    Delete {
        /// The number N in /dev/ublkbN, that path, or the name that '--name' gave
        #[arg(value_name = "DEVICE", value_parser = Which::parse)]
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        device: Option<Which>,
        /// All devices that are not live, but for those that wait for their next server; with
        /// --force, all
        #[arg(long)]
        all: bool,
        /// Also a live device: its clients get errors
        #[arg(long)]
        force: bool,
        /// Do not wait for those who have the disk open: the number is free once they let go
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        apart: Apart,
    },
    /// Makes a disk larger or smaller, while it is used
    ///
    /// Larger is for devices that 'ublkit serve' serves. A file grows to SIZE; another disk that
    /// holds the contents must be that large already, and one in memory must have been given that
    /// '--room'. Needs Linux 6.16.
    #[command(after_help = "Examples:\n  ublkit resize 0 20G && resize2fs /dev/ublkb0\n  \
        umount /mnt && e2fsck -f /dev/ublkb0 && resize2fs /dev/ublkb0 10G &&\n    \
        ublkit resize 0 10G --shrink")]
    Resize(resize::Resize),
    /// Waits until a device is live, or gone
    #[command(after_help = examples::WAIT_EXAMPLES)]
    Wait(wait::Wait),
    /// Holds a recorded conversation again with a backend: no kernel, no root
    ///
    /// FILE is what 'ublkit serve --trace=FILE --trace-format json' wrote. Its requests go to the
    /// backend in their recorded order and concurrency, over a simulated kernel. An answer that is
    /// not the recorded one, or a read that brings other data, is reported, and the exit code is 1.
    #[command(after_help = examples::REPLAY_EXAMPLES)]
    Replay {
        /// The recording
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// What the disk's contents are
        backend: replay::BackendName,
        /// The disk's size [default: as it was recorded]
        #[arg(long, value_parser = number::size)]
        size: Option<u64>,
    },
    /// Prints the numbers of the user and the group who made a device: for udev
    #[command(after_help = "Example:\n  ublkit owner /dev/ublkc0")]
    Owner {
        #[command(flatten)]
        device: Device,
    },
    /// Says whether this machine can serve, and what to do if it cannot
    ///
    /// Looks at the kernel, the driver, permissions, limits and devices that were left behind.
    /// Changes nothing. The exit code is 0 if devices can be served, perhaps with notes, 3 if only
    /// permissions are lacking, and 4 otherwise.
    #[command(after_help = examples::DOCTOR_EXAMPLES)]
    Doctor(Output),
    /// Shows what a device's queues do: requests, data, latencies and errors
    ///
    /// A server that is ublkit tells for each of its queues, by a socket that only its user can
    /// reach. Latencies are the server's part, from when it was told of a request until it had
    /// answered, of a sample, exact to 6.25 %. Of devices that other programs serve, what the
    /// kernel counts is shown.
    #[command(after_help = examples::STAT_EXAMPLES)]
    Stat(stat::Stat),
    /// Lists the driver's features: which this kernel has and which this ublkit can serve
    #[command(after_help = "Example:\n  ublkit features")]
    Features(Output),
    /// Prints the structs and constants that ublkit shares with the kernel, or checks them
    ///
    /// With --check they are compared with what the running kernel says of its own types (BTF) and
    /// of its features. That needs no root, but without it the features are left out.
    #[command(after_help = examples::ABI_EXAMPLES)]
    Abi(abi::Abi),
}

/// How a listing is printed.
#[derive(Args, Clone, Copy, Debug)]
struct Output {
    /// Print JSON: sizes in bytes, names as in the kernel's header
    #[arg(long)]
    json: bool,
}

/// How long a command waits for the kernel.
#[derive(Args, Clone, Copy, Debug)]
struct Patience {
    /// Seconds to wait for the kernel at the most
    #[arg(long, value_name = "SECONDS", value_parser = number::count, default_value = "30")]
    timeout: u16,
}

impl Patience {
    fn timeout(self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

#[derive(Args, Debug)]
struct Serve {
    /// What the disk's contents are
    backend: BackendName,
    /// Of 'file': the file, or another disk
    #[arg(required_if_eq("backend", "file"))]
    path: Option<PathBuf>,
    /// The disk's size in bytes, or with K, M, G, T or P for powers of 1024: 512M, 1G
    ///
    /// A file that is not there is made, sparse; one that is there has its size, and needs none.
    #[arg(long, value_parser = number::size)]
    #[arg(required_if_eq_any([("backend", "null"), ("backend", "memory")]))]
    size: Option<u64>,
    /// Of 'memory': the size that 'ublkit resize' may give the disk at the most [default: its size]
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    room: Option<u64>,
    /// Of 'file': go around the page cache (O_DIRECT)
    #[arg(long)]
    direct: bool,
    /// How data moves: copy, get-data, user-copy, zero-copy or zero-copy-by-hand [default: the best
    /// that there is]
    #[arg(long, value_name = "HOW", value_parser = str::parse::<DataPath>)]
    data: Option<DataPath>,

    /// Whether one command does for many slots: yes or no [default: no]; needs Linux 7.0
    #[arg(long, value_name = "YES|NO", value_parser = number::yes_or_no)]
    batches: Option<bool>,
    /// The number N in /dev/ublkbN [default: the first free]
    #[arg(long, value_parser = number::device)]
    id: Option<u32>,
    /// Queues, each with its threads [default: the number of CPUs, 4 at the most]
    #[arg(long, value_parser = number::count)]
    queues: Option<u16>,
    /// Threads that share the requests of each queue; more than one needs Linux 6.16
    #[arg(long, value_name = "THREADS", value_parser = number::count, default_value = "1")]
    threads_per_queue: u16,
    /// Keep each queue's threads on the CPUs whose requests they serve
    #[arg(long)]
    pin_queues: bool,
    /// Microseconds that a queue looks for requests before it sleeps [default: it sleeps at once]
    ///
    /// A client that sends one request after the other gets its answers sooner, and the queue may
    /// use a whole CPU for that. It gives way to others, looks less often while it finds nothing,
    /// and not while a file is read or written for it.
    #[arg(long, value_name = "MICROSECONDS")]
    spin_us: Option<u16>,
    /// Requests that each queue may have under way
    #[arg(long, value_parser = number::count, default_value = "128")]
    depth: u16,
    /// The largest request; the kernel splits larger ones
    #[arg(long, value_name = "SIZE", value_parser = number::size, default_value = "512K")]
    max_io: u64,
    /// The logical block in bytes: 512, 1024, 2048 or 4096 [default: 512, or what a file needs]
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    block_size: Option<u64>,
    /// Refuse writes
    #[arg(long)]
    read_only: bool,
    /// Do not look for partitions when the disk appears; needs Linux 7.0
    #[arg(long)]
    no_partition_scan: bool,
    /// What clients see when the server dies, and 'ublkit recover' can take its place: wait,
    /// reissue or fail [default: the disk goes with its server]
    ///
    /// With 'wait' they wait for the next server, but requests that the old one had fail. With
    /// 'reissue' those are sent again, so that no client sees an error. With 'fail' all fail until
    /// the next server comes.
    #[arg(long, value_name = "HOW", value_parser = str::parse::<Recovery>)]
    recover: Option<Recovery>,
    /// Make a device that needs no privileges
    ///
    /// For ordinary users whom udev gives its nodes (docs/udev/README.md, which also says what such
    /// devices cannot do). The driver makes a usual one for root.
    #[arg(long)]
    unprivileged: bool,
    /// Seconds that a request may wait in the server; its client then gets an error
    ///
    /// What the request waits for is cancelled. A write that cannot be cancelled may still reach
    /// the backend later; with zero copy its client waits until then. If the backend itself does
    /// not return for twice as long, the server ends with code 7, so that with --recover another
    /// one can go on.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..))]
    request_timeout: Option<u16>,
    /// Do not count and time requests for 'ublkit stat', nor see which are stuck
    ///
    /// The server says nothing of requests that wait for long then, and to 'ublkit show' they are
    /// unknown. With --request-timeout they are counted all the same.
    #[arg(long)]
    no_meter: bool,
    /// What the device shall be called: 'by-name/NAME' in the state directory leads to its disk
    #[arg(long, value_parser = state::name)]
    name: Option<String>,
    /// If a device with that name waits for its next server, be that, as 'ublkit recover' would
    ///
    /// For service managers, which start a server that has died again. What the device's first
    /// server was told stands; these arguments are for a device that there is not yet.
    #[arg(long, requires_all = ["name", "recover"])]
    resume: bool,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    supervision: supervise::Supervision,
    #[command(flatten)]
    tracing: trace::Tracing,
    /// Of a device that is recovered: how large the kernel has its disk.
    #[arg(skip)]
    at_most: Option<u64>,
}

impl Serve {
    fn request_timeout(&self) -> Option<Duration> {
        self.request_timeout.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// The backends that the command line knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// Keeps nothing and answers at once
    Null,
    /// Keeps the disk in memory, and takes memory only for what was written
    Memory,
    /// Keeps the disk in a file, or on another disk
    File,
}

/// Runs the command line of this process.
pub(crate) fn run() -> ExitCode {
    // Wrong usage ends here with a sentence and code 2; --help and --version with code 0.
    let cli = Cli::parse();
    // Whether another process waits for how this one ends.
    let is_awaited = match &cli.command {
        Command::Serve(serve) => serve.supervision.background.is_there(),
        Command::Recover(recover) => recover.background.is_there(),
        Command::Upgrade(upgrade) => upgrade.background.is_there(),
        Command::Stop { apart, .. } | Command::Delete { apart, .. } => apart.is_there(),
        Command::Resize(resize) => resize.apart.is_there(),
        _ => false,
    };
    let result = match cli.command {
        Command::Serve(serve) => serve::run(&serve),
        Command::List(output) => listing::list(output),
        Command::Show { device, output } => device.id().and_then(|id| listing::show(id, output)),
        Command::Stop { device, if_unused, patience, apart } => apart.run(|| {
            let stop = if if_unused { delete::stop_unused } else { delete::stop };
            stop(device.id()?, patience.timeout())
        }),
        Command::Delete { device, force, no_wait, patience, apart, .. } => apart.run(|| {
            let how = delete::How { force, no_wait, timeout: patience.timeout() };
            let one = |device: Which| delete::one(device.id()?, how);
            device.map_or_else(|| delete::all(how), one)
        }),
        Command::Resize(resize) => resize.apart.run(|| resize::run(&resize)),
        Command::Wait(wait) => wait::run(&wait),
        Command::Recover(recover) => recover::run(&recover),
        Command::Upgrade(upgrade) => upgrade::run(&upgrade),
        Command::Replay { path, backend, size } => replay::run(&path, backend, size),
        Command::Stat(stat) => stat::run(&stat),
        Command::Owner { device } => device.id().and_then(listing::owner),
        Command::Doctor(output) => doctor::run(output),
        Command::Features(output) => listing::features(output),
        Command::Abi(abi) => abi::run(&abi),
    };
    let code = exit::code(result);
    if is_awaited {
        supervise::ended(code);
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::{Cli, Command};
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_what_they_say() {
        let read = |words: &str| Cli::try_parse_from(words.split(' ')).expect("words").command;
        let waits = |words| match read(words) {
            Command::Delete { no_wait, force: false, .. } => !no_wait,
            other => panic!("{other:?}"),
        };
        assert!(waits("ublkit delete 7") && waits("ublkit delete --all"));
        assert!(!waits("ublkit delete 7 --no-wait") && !waits("ublkit delete --all --no-wait"));
        let scans = |words| matches!(read(words), Command::Serve(it) if !it.no_partition_scan);
        assert!(scans("ublkit serve null --size 1G"));
        assert!(!scans("ublkit serve null --size 1G --no-partition-scan"));
    }
}
