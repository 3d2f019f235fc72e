//! A device's life: made, parametrised, fetched, started, served, stopped, deleted.
//!
//! Every step can fail, and then what came before it is undone in reverse: no number, file,
//! mapping, thread or ring is left. No thread that serves I/O waits for a control command.

mod builder;
mod grow;
mod queues;
mod recover;
pub(crate) mod refusals;
mod server;
mod stop;
mod workers;

pub use builder::Builder;
pub use server::Server;
