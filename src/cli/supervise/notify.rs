//! [`Notify`]: telling a service manager how far the server is (`sd_notify(3)`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the service manager listens.
pub(in crate::cli) const VARIABLE: &str = "NOTIFY_SOCKET";

/// A service manager, if there is one.
#[derive(Debug)]
pub(in crate::cli) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    /// The one that the environment names.
    pub(in crate::cli) fn of_environment() -> Self {
        let name = std::env::var_os(VARIABLE);
        Self { manager: name.and_then(|name| Self::reach(&name).ok()) }
    }

    fn reach(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?; // a manager that does not listen keeps nobody
        Ok((socket, address))
    }

    /// The disk is live.
    pub(in crate::cli) fn ready(&self, path: &str) {
        self.say(&format!("READY=1\nSTATUS=serving {path}\n"));
    }

    /// The server has begun to stop.
    pub(in crate::cli) fn stopping(&self, path: &str) {
        self.say(&format!("STOPPING=1\nSTATUS=stopping {path}\n"));
    }

    /// It is one datagram; whether it arrives makes no difference to what is done.
    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.manager {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a manager hears that listens at this address.
    fn heard(manager: &UnixDatagram, name: &OsStr) -> String {
        let notify = Notify { manager: Notify::reach(name).ok() };
        notify.ready("/dev/ublkb7");
        let mut text = [0; 100];
        let len = manager.recv(&mut text).expect("a datagram");
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    #[test]
    fn a_manager_is_told() {
        let name = format!("ublkit-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let _ = std::fs::remove_file(&path);
        let manager = UnixDatagram::bind(&path).expect("a socket");
        assert_eq!(heard(&manager, path.as_os_str()), "READY=1\nSTATUS=serving /dev/ublkb7\n");
        let _ = std::fs::remove_file(&path);
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let manager = UnixDatagram::bind_addr(&address).expect("a socket");
        let name = format!("@{name}");
        assert_eq!(heard(&manager, OsStr::new(&name)), "READY=1\nSTATUS=serving /dev/ublkb7\n");
    }

    #[test]
    fn nobody_need_listen() {
        for name in ["", "/nowhere/notify", "@ublkit-nobody"] {
            let notify = Notify { manager: Notify::reach(OsStr::new(name)).ok() };
            notify.ready("/dev/ublkb7");
            notify.stopping("/dev/ublkb7");
        }
    }
}
