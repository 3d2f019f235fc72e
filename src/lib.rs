//! A Linux userspace block device (ublk) driver, by hand down to the syscall.
