//! How devices come and go.

use super::Context;
use crate::tools::{Serving, devices};
use rustix::process::Signal;
use std::time::Duration;

pub fn signals(_: Context) {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let serving = Serving::start(&["memory", "--size", "64M"]);
        serving.signal(signal);
        assert_eq!(serving.end(Duration::from_secs(30)), (0, String::new()), "{signal:?}");
        assert_eq!(devices(), Vec::<String>::new());
    }
}
