//! What is measured, as data.

use ublkit::Features;

/// A way that data takes between a client and a backend.
#[derive(Debug)]
pub struct Mode {
    /// As `ublkit serve --data` knows it.
    pub name: &'static str,
    pub features: Features,
}

/// All that ublkit serves.
pub const MODES: &[Mode] = &[Mode { name: "copy", features: Features::empty() }];
