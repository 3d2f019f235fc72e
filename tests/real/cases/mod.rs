//! The cases, each a behaviour of the program or the library on a real kernel.

mod abi;
mod adapters;
mod below;
mod boots;
mod control;
mod crashes;
mod data;
pub mod deadlines;
mod doctor;
mod errors;
pub mod fails;
mod fs;
mod huge;
pub mod kill;
mod life;
mod names;
mod ops;
mod ordinary;
mod others;
mod paths;
mod power;
mod races;
pub mod recovery;
mod resize;
mod rivals;
mod speed;
mod spin;
mod stat;
mod storm;
pub mod supervise;
mod system;
mod threads;
mod tight;
mod trace;
mod upgrade;
mod witness;

use crate::Depth;
use crate::kernels::Quirk;
use ublkit::Features;

/// What a case is told.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// How much to do.
    pub depth: Depth,
    /// What the driver knows.
    pub features: Features,
    /// What this kernel does unlike the newest.
    pub quirks: &'static [Quirk],
    /// Whether nobody needs the machine afterwards.
    pub expendable: bool,
    /// Random scripts to show, instead of the recorded ones.
    pub seeds: &'static [u64],
}

impl Context {
    /// Whether this kernel does that.
    pub fn has(self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    /// One of two, by depth.
    pub fn pick<T>(self, slice: T, full: T) -> T {
        match self.depth {
            Depth::Slice => slice,
            Depth::Full => full,
        }
    }
}

/// A behaviour on a real kernel.
#[derive(Debug)]
pub struct Case {
    /// Module and behaviour.
    pub name: &'static str,
    /// What the driver must know.
    pub needs: Features,
    /// Panics when the behaviour is wrong.
    pub run: fn(Context),
}

impl Case {
    /// Whether there is something to compare with, where it compares.
    pub fn is_possible(&self) -> bool {
        !self.name.starts_with("witness: ") || witness::is_recorded()
    }
}

const NOTHING: Features = Features::empty();

/// All cases, in the order in which they run.
pub const CASES: &[Case] = &[
    Case { name: "life: signals stop a server", needs: NOTHING, run: life::signals },
    Case { name: "life: nohup", needs: NOTHING, run: life::nohup },
    Case { name: "life: a second signal forces", needs: NOTHING, run: life::second_signal },
    Case { name: "life: a server out of sight", needs: NOTHING, run: life::out_of_sight },
    Case { name: "life: a disk that is held open", needs: NOTHING, run: life::held_open },
    Case { name: "life: stopped by another", needs: NOTHING, run: life::stopped_by_another },
    Case { name: "life: stopped in time", needs: NOTHING, run: life::stopped_in_time },
    Case { name: "life: stopped if unused", needs: NOTHING, run: life::stopped_if_unused },
    Case { name: "life: partitions", needs: NOTHING, run: life::partitions },
    Case { name: "life: two stops at once", needs: NOTHING, run: life::two_stops },
    Case { name: "life: two commands at once", needs: NOTHING, run: races::of_a_live_one },
    Case { name: "life: cycles leave nothing", needs: NOTHING, run: life::cycles },
    Case { name: "life: creation", needs: NOTHING, run: life::creation },
    Case { name: "life: every call fails once", needs: NOTHING, run: life::every_call_fails },
    Case { name: "life: stop under load", needs: NOTHING, run: life::stop_under_load },
    Case { name: "life: a late stop", needs: NOTHING, run: life::late_stop },
    Case { name: "life: a storm of signals", needs: NOTHING, run: storm::signals },
    Case { name: "life: nobody to hand over to", needs: NOTHING, run: storm::hand_over },
    Case { name: "life: a queue fails", needs: NOTHING, run: fails::goes_down },
    Case { name: "life: kill -9", needs: NOTHING, run: kill::serving },
    Case { name: "life: kill -9 while stopping", needs: NOTHING, run: kill::stopping },
    Case { name: "life: a dropped server", needs: NOTHING, run: life::dropped },
    Case { name: "recovery: each mode", needs: NOTHING, run: recovery::each_mode },
    Case { name: "recovery: killed at each call", needs: NOTHING, run: kill::recovering },
    Case { name: "recovery: a crash loop", needs: NOTHING, run: recovery::crash_loop },
    Case { name: "recovery: crashes on each path", needs: NOTHING, run: crashes::each_path },
    Case {
        name: "recovery: crashes in batches",
        needs: Features::BATCH_IO,
        run: crashes::in_batches,
    },
    Case { name: "recovery: a lie is noticed", needs: NOTHING, run: recovery::lying },
    Case { name: "recovery: upgrades", needs: NOTHING, run: upgrade::under_load },
    Case { name: "recovery: a queue fails", needs: NOTHING, run: fails::waits },
    Case { name: "recovery: left under load", needs: NOTHING, run: fails::leaves },
    Case { name: "recovery: a stopped server", needs: NOTHING, run: upgrade::of_a_stopped_server },
    Case { name: "recovery: two commands at once", needs: NOTHING, run: races::pairs },
    Case { name: "recovery: killed at any step", needs: NOTHING, run: recovery::any_step },
    Case { name: "recovery: refused", needs: NOTHING, run: recovery::refused },
    Case { name: "recovery: dirty pages at a stop", needs: NOTHING, run: recovery::dirty_pages },
    Case { name: "recovery: by name, in the background", needs: NOTHING, run: names::whole_life },
    Case { name: "deadlines: a frozen file", needs: NOTHING, run: deadlines::frozen },
    Case { name: "deadlines: a stuck backend", needs: NOTHING, run: deadlines::gives_up },
    Case { name: "below: no space", needs: NOTHING, run: below::no_space },
    Case { name: "below: errors", needs: NOTHING, run: below::broken },
    Case { name: "power: cuts", needs: NOTHING, run: power::cut },
    Case { name: "power: overwrites of a file", needs: NOTHING, run: power::overwrites },
    Case { name: "power: control: a forgetful server", needs: NOTHING, run: power::forgetful },
    Case { name: "power: a file on a file system", needs: NOTHING, run: power::cut_in_file },
    Case {
        name: "power: control: a forgetful server of a file",
        needs: NOTHING,
        run: power::forgetful_of_files,
    },
    Case { name: "resize: a file", needs: NOTHING, run: resize::file },
    Case { name: "resize: memory", needs: Features::UPDATE_SIZE, run: resize::memory },
    Case { name: "data: stamps on every queue", needs: NOTHING, run: data::stamps },
    Case { name: "data: a wrong stride is noticed", needs: NOTHING, run: data::wrong_stride },
    Case { name: "data: fio verify", needs: NOTHING, run: data::fio_verify },
    Case { name: "adapters: jobs on threads", needs: NOTHING, run: adapters::offload },
    Case { name: "adapters: futures", needs: NOTHING, run: adapters::futures },
    Case { name: "paths: copy", needs: NOTHING, run: paths::copy },
    Case { name: "paths: get-data", needs: NOTHING, run: paths::get_data },
    Case { name: "paths: user-copy", needs: NOTHING, run: paths::user_copy },
    Case { name: "paths: zero-copy", needs: Features::AUTO_BUF_REG, run: paths::zero_copy },
    Case {
        name: "paths: zero-copy-by-hand",
        needs: Features::SUPPORT_ZERO_COPY,
        run: paths::zero_copy_by_hand,
    },
    Case { name: "paths: batches of copy", needs: Features::BATCH_IO, run: paths::batches_of_copy },
    Case {
        name: "paths: batches of user-copy",
        needs: Features::BATCH_IO,
        run: paths::batches_of_user_copy,
    },
    Case {
        name: "paths: batches of zero-copy",
        needs: Features::BATCH_IO,
        run: paths::batches_of_zero_copy,
    },
    Case {
        name: "paths: batches of zero-copy-by-hand",
        needs: Features::BATCH_IO,
        run: paths::batches_of_zero_copy_by_hand,
    },
    Case { name: "paths: batches end", needs: Features::BATCH_IO, run: paths::batches_end },
    Case { name: "threads: each path", needs: Features::PER_IO_DAEMON, run: threads::every_path },
    Case {
        name: "threads: in parallel",
        needs: Features::PER_IO_DAEMON,
        run: threads::in_parallel,
    },
    Case { name: "threads: end", needs: Features::PER_IO_DAEMON, run: threads::end },
    Case { name: "threads: refused", needs: NOTHING, run: threads::refused },
    Case { name: "paths: one tag", needs: NOTHING, run: paths::one_tag },
    Case { name: "paths: chosen", needs: NOTHING, run: paths::chosen },
    Case { name: "spin: data", needs: NOTHING, run: spin::data },
    Case { name: "spin: rare requests", needs: NOTHING, run: spin::rare_requests },
    Case { name: "speed: beside brd", needs: NOTHING, run: speed::beside_brd },
    Case { name: "fs: ext4", needs: NOTHING, run: fs::ext4 },
    Case { name: "fs: ext4 on blocks of 4096", needs: NOTHING, run: fs::ext4_of_4096 },
    Case { name: "fs: xfs", needs: NOTHING, run: fs::xfs },
    Case { name: "fs: xfs on blocks of 4096", needs: NOTHING, run: fs::xfs_of_4096 },
    Case { name: "ops: discard and zero-out", needs: NOTHING, run: ops::discard_and_zero_out },
    Case { name: "ops: flush and FUA", needs: NOTHING, run: ops::flush_and_fua },
    Case { name: "ops: read-only", needs: NOTHING, run: ops::read_only },
    Case { name: "ops: blocks of 4096", needs: NOTHING, run: ops::blocks },
    Case { name: "ops: a disk larger than memory", needs: NOTHING, run: ops::larger_than_memory },
    Case { name: "ops: a panicking backend costs an EIO", needs: NOTHING, run: ops::panicking },
    Case { name: "ops: delayed answers", needs: NOTHING, run: ops::delayed },
    Case { name: "ops: errors of the backend reach the client", needs: NOTHING, run: ops::errors },
    Case { name: "ops: no allocation while serving", needs: NOTHING, run: ops::no_allocation },
    Case { name: "control: add and delete", needs: NOTHING, run: control::add_and_delete },
    Case { name: "control: parameters", needs: NOTHING, run: control::parameters },
    Case { name: "control: start and stop", needs: NOTHING, run: control::start_and_stop },
    Case { name: "control: try to stop", needs: Features::SAFE_STOP_DEV, run: control::try_stop },
    Case { name: "control: info", needs: NOTHING, run: control::info },
    Case { name: "control: affinity", needs: NOTHING, run: control::affinity },
    Case { name: "control: granted, not wished", needs: NOTHING, run: control::negotiation },
    Case { name: "control: wishes as modelled", needs: NOTHING, run: control::wishes },
    Case {
        name: "control: parameters as modelled",
        needs: NOTHING,
        run: control::parameters_taken,
    },
    Case { name: "control: disks as modelled", needs: NOTHING, run: control::disks },
    Case { name: "control: unprivileged by path", needs: NOTHING, run: control::unprivileged },
    Case { name: "control: resize", needs: Features::UPDATE_SIZE, run: control::resize },
    Case { name: "control: quiesce", needs: Features::QUIESCE, run: control::quiesce },
    Case { name: "control: recovery", needs: NOTHING, run: control::recovery },
    Case { name: "control: dirty pages at a stop", needs: NOTHING, run: control::dirty_pages },
    Case { name: "control: shared buffers", needs: Features::SHMEM_ZC, run: control::buffers },
    Case { name: "control: deadlines", needs: NOTHING, run: control::deadlines },
    Case { name: "control: given up", needs: NOTHING, run: control::given_up_commands },
    Case { name: "control: an unserved start", needs: NOTHING, run: control::unserved_start },
    Case { name: "trace: each request is told", needs: NOTHING, run: trace::recorded },
    Case { name: "trace: nobody reads it", needs: NOTHING, run: trace::unread },
    Case { name: "trace: a path that is not heard", needs: NOTHING, run: trace::unheard },
    Case { name: "errors: bad numbers", needs: NOTHING, run: errors::bad_numbers },
    Case { name: "errors: taken, live or not there", needs: NOTHING, run: errors::taken },
    Case { name: "errors: recovery", needs: NOTHING, run: errors::recovery },
    Case { name: "errors: not root", needs: NOTHING, run: errors::not_root },
    Case { name: "errors: no driver", needs: NOTHING, run: errors::no_driver },
    Case { name: "errors: no io_uring", needs: NOTHING, run: errors::no_io_uring },
    Case { name: "errors: unwritable output", needs: NOTHING, run: errors::unwritable },
    Case { name: "supervise: in the background", needs: NOTHING, run: supervise::background },
    Case { name: "supervise: it cannot", needs: NOTHING, run: supervise::background_fails },
    Case { name: "supervise: readiness", needs: NOTHING, run: supervise::readiness },
    Case { name: "supervise: memory and OOM", needs: NOTHING, run: supervise::settings },
    Case { name: "supervise: its own mounts", needs: NOTHING, run: supervise::own_mounts },
    Case { name: "supervise: swap", needs: NOTHING, run: supervise::swap },
    Case { name: "memory: there is no more", needs: NOTHING, run: tight::told },
    Case { name: "memory: locked", needs: NOTHING, run: tight::locked },
    Case { name: "memory: no huge pages", needs: NOTHING, run: huge::none },
    Case { name: "ordinary: a user's own device", needs: NOTHING, run: ordinary::whole_life },
    Case { name: "system: nodes by udev", needs: NOTHING, run: system::nodes },
    Case { name: "system: a service", needs: NOTHING, run: system::service },
    Case { name: "system: a boot", needs: NOTHING, run: boots::mounts },
    Case { name: "system: a boot with a late mount", needs: NOTHING, run: boots::late_mounts },
    Case { name: "system: pinned queues", needs: NOTHING, run: system::pinned },
    Case { name: "stat: each request is counted", needs: NOTHING, run: stat::counts },
    Case { name: "stat: a busy disk", needs: NOTHING, run: stat::busy },
    Case { name: "stat: watched", needs: NOTHING, run: stat::watched },
    Case { name: "stat: other servers", needs: NOTHING, run: stat::of_others },
    Case { name: "others: every command", needs: NOTHING, run: others::every_command },
    Case { name: "others: rivals", needs: NOTHING, run: rivals::every_command },
    Case { name: "doctor: a machine that is well", needs: NOTHING, run: doctor::well },
    Case { name: "doctor: a poor process", needs: NOTHING, run: doctor::poor_process },
    Case { name: "doctor: closed to somebody", needs: NOTHING, run: doctor::closed },
    Case { name: "doctor: no driver", needs: NOTHING, run: doctor::no_driver },
    Case { name: "abi: agrees with the running kernel", needs: NOTHING, run: abi::agrees },
    Case { name: "witness: control commands", needs: NOTHING, run: witness::control },
    Case { name: "witness: parameters", needs: NOTHING, run: witness::params },
    Case { name: "witness: lives of a device", needs: NOTHING, run: witness::lives },
    Case { name: "witness: slots", needs: NOTHING, run: witness::slots },
    Case { name: "witness: results", needs: NOTHING, run: witness::results },
    Case { name: "witness: user copy", needs: NOTHING, run: witness::user_copy },
    Case { name: "witness: rings", needs: NOTHING, run: witness::rings },
    Case { name: "witness: optional data paths", needs: NOTHING, run: witness::optional },
    Case { name: "witness: batches", needs: Features::BATCH_IO, run: witness::batches },
    Case { name: "witness: cancellations", needs: NOTHING, run: witness::cancellations },
    Case { name: "witness: random scripts", needs: NOTHING, run: witness::random },
    Case { name: "witness: fresh scripts", needs: NOTHING, run: witness::fresh },
    Case { name: "witness: servers that go", needs: NOTHING, run: witness::server },
];

/// What leaves devices and processes behind that nothing can remove: run after all others, and only
/// in a guest that is thrown away then.
pub const LAST: &[Case] = &[
    Case {
        name: "life: control: a server that stops itself stays",
        needs: NOTHING,
        run: kill::stops_itself,
    },
    Case {
        name: "supervise: control: a server that shares its mounts",
        needs: NOTHING,
        run: supervise::shares_its_mounts,
    },
];
