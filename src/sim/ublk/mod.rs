//! The driver, `ublk_drv`, as far as a server can tell.
