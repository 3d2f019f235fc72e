//! The host's role.

use std::path::Path;

pub type Outcome<T> = Result<T, String>;

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
