//! The conversation between a server and the kernel, listened to: every control command, fetch,
//! request, backend operation and commit, decoded, with its time and how long it took.
//!
//! [`Traced`] is a [`Kernel`](crate::Kernel) around another one: it hands every call on, and reads
//! in the shared memory what is said there in both directions. The driver above it is unchanged,
//! and a server without it has no code for it on its way: they are different types. What it hears
//! are [`Event`]s, and a [`Sink`] takes them: [`Lines`] writes them as text or JSON, [`Log`] keeps
//! the latest.
//!
//! ```no_run
//! use ublkit::trace::{Detail, Format, Lines, Traced};
//! use ublkit::{Blocking, Builder, Geometry, Linux, Memory};
//! use std::time::Duration;
//!
//! let lines = Lines::new(Format::Text, std::io::stderr())?;
//! let kernel = Traced::new(Linux, Detail::default(), lines.clone());
//! let target = kernel.watch(Blocking::new(Memory::new(Geometry::new(1 << 30))?));
//! let server = Builder::new().serve_on(kernel, target)?;
//! server.wait();
//! server.stop()?;
//! let ending = lines.finish(Duration::from_secs(5)); // how many lines were lost, and why
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Over the simulated kernel it makes no choice and takes no time: a simulation that failed, run
//! again with the same seed, is the same simulation and prints as such a conversation.
//!
//! ```
//! # #[cfg(feature = "sim")] {
//! use ublkit::sim::{Choices, Faults, Profile, Sim};
//! use ublkit::trace::{Detail, Log, Traced};
//! use ublkit::{Blocking, Builder, Geometry, Null};
//!
//! let sim = Sim::new(Profile::NEWEST, Choices::seed(7), Faults::bearable());
//! let log = Log::of_last(1000);
//! let kernel = Traced::new(sim.task(), Detail::REPEATABLE, log.clone());
//! let target = kernel.watch(Blocking::new(Null::new(Geometry::new(1 << 20))));
//! Builder::new().serve_on(kernel, target).unwrap().stop().unwrap();
//! assert!(sim.verdict().is_ok(), "{log}");
//! # assert!(log.to_string().contains("-> START_DEV"));
//! # }
//! ```

mod batches;
mod event;
mod fields;
mod kernel;
mod lines;
mod listen;
mod log;
mod ring;
mod sums;
mod target;
mod text;
mod view;
mod voice;

pub use event::{Command, Event, Outcome, Payload, Place, Slot, What};
pub use kernel::Traced;
pub use lines::{Ending, Format, Lines};
pub use log::Log;
pub use sums::Sums;
pub use target::{TracedHandler, TracedTarget};
pub use view::Mapping;
pub use voice::{Detail, File, Sink};
