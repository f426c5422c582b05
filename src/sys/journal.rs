// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The host's journal or syslog, by syslog(3): crun throws away what a hook writes to stderr.

#![allow(unsafe_code)]

use std::ffi::CString;

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
    let Ok(line) = CString::new(line.replace('\0', " ")) else {
        return;
    };
    // SAFETY: the format and its one argument are NUL-terminated strings that outlive the call, and
    // a null ident keeps openlog(3) from keeping a pointer of ours; libc falls back on the
    // program's own name.
    unsafe {
        libc::openlog(std::ptr::null(), libc::LOG_PID | libc::LOG_NDELAY, libc::LOG_DAEMON);
        libc::syslog(level, c"%s".as_ptr(), line.as_ptr());
        libc::closelog();
    }
}
