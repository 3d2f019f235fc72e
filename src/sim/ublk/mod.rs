//! The driver, `ublk_drv`, as far as a server can tell.

pub(in crate::sim) mod add;
#[cfg_attr(not(test), expect(dead_code, reason = "the devices that answer so are not there yet"))]
pub(in crate::sim) mod info;
pub(in crate::sim) mod limits;
pub(in crate::sim) mod params;
