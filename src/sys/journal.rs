// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's journal or syslog: crun throws away what a hook writes to stderr.
//!
//! syslog(3) isn't used, because it waits forever for a log daemon that reads nothing.

use std::ffi::OsStr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The socket to which syslog(3) sends messages. Hooks see the host's /dev: the container's is not at this path yet.
const SOCKET: &str = "/dev/log";
/// How long to wait for a log daemon that is busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// How grave a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The container will not start.
    Error,
    /// Something is not as it should be.
    Warning,
    /// For the curious.
    Info,
}

/// Sends one line to the system's log; where there is none it is lost, as syslog(3) has it.
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
    // Worst case: the message is lost.
    let _ = UnixDatagram::unbound().and_then(|socket| {
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.send_to(text.as_bytes(), SOCKET)
    });
}
