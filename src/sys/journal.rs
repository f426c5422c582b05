// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sends messages to the host's journal or syslog, since crun discards what a hook writes to stderr.
//!
//! syslog(3) isn't used, because it waits forever for a log daemon that doesn't read.

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The socket to which syslog(3) sends messages. Hooks see the host's /dev, since the container's
/// isn't at this path yet.
const SOCKET: &str = "/dev/log";
/// How long to wait for a log daemon that is busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// The severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The container will not start.
    Error,
    /// Something is not as it should be.
    Warning,
    /// The message needs no action.
    Info,
}

/// Sends one line to the system log. As with syslog(3), it is lost if there is no log daemon.
pub fn send(priority: Priority, line: &str) {
    let level = match priority {
        Priority::Error => libc::LOG_ERR,
        Priority::Warning => libc::LOG_WARNING,
        Priority::Info => libc::LOG_INFO,
    };
    let own = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&own).file_name().map(OsStr::to_string_lossy).unwrap_or_default();
    // The format of RFC 3164 without the time, which log daemons take from the kernel.
    let text = format!("<{}>{name}[{}]: {line}", libc::LOG_DAEMON | level, std::process::id());
    // At worst, the message is lost.
    let _ = UnixDatagram::unbound().and_then(|socket| {
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(text.as_bytes(), SOCKET)
    });
}
