// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System calls, with errors that print the call as strace(1) would; knows nothing of containers.
//!
//! Close-on-exec and no-follow by default. The only place for raw mount, namespace and libc calls.

pub mod birth;
pub mod cgroup;
pub mod fs;
pub mod journal;
pub mod memory;
pub mod mount;
pub mod mount_table;
pub mod others;
pub mod process;
pub mod selinux;
pub mod time_limit;

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// A system call that failed: `mount(…) = EPERM (Operation not permitted)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysError {
    call: String,
    #[serde(with = "as_number")]
    errno: Errno,
}

/// Serializes an errno as a number, for errors that are sent to another process.
mod as_number {
    use super::{Deserialize, Errno};

    // serde requires this signature.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: serde::Serializer>(errno: &Errno, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(errno.raw_os_error())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Errno, D::Error> {
        i32::deserialize(deserializer).map(Errno::from_raw_os_error)
    }
}

impl SysError {
    /// An error of `call`, which is printed as given.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self { call: call.into(), errno }
    }

    /// The same error, with what it means here.
    #[must_use]
    pub fn with_hint(self, hint: &str) -> Self {
        Self { call: format!("{} [{hint}]", self.call), ..self }
    }

    /// Whether a file server is away, or doesn't know this process: the path is as good as not there for the container, too.
    #[must_use]
    pub fn is_of_a_server(&self) -> bool {
        matches!(
            self.errno,
            Errno::NOTCONN | Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::NOKEY | Errno::KEYEXPIRED
        )
    }

    /// The error's number.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }
}

impl std::error::Error for SysError {}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from(self.errno).to_string();
        // std appends " (os error 13)", which the name says better.
        let text = text.split(" (os error").next().unwrap_or_default();
        match name(self.errno) {
            Some(name) => write!(f, "{} = {name} ({text})", self.call),
            None => write!(f, "{} = {} ({text})", self.call, self.errno.raw_os_error()),
        }
    }
}

/// A cryptographically random number, getrandom(2).
pub fn random_number() -> Result<u128, SysError> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).call(|| "getrandom()")?;
    // Up to 256 bytes are always returned at once.
    if filled == bytes.len() { Ok(u128::from_ne_bytes(bytes)) } else { Err(SysError::new("getrandom()", Errno::INTR)) }
}

/// Names the call where it fails.
pub(crate) trait Context<T> {
    /// `call` is made only on failure.
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SysError>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SysError> {
        self.map_err(|errno| SysError::new(call(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SysError> {
        self.map_err(|error| SysError::new(call(), Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        /// The name of an error number, for those that the calls here give.
        fn name(errno: Errno) -> Option<&'static str> {
            match errno.raw_os_error() {
                $(libc::$name => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE ERANGE ENAMETOOLONG
    ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA EOVERFLOW EILSEQ EOPNOTSUPP ENOTCONN ETIMEDOUT EHOSTDOWN ESTALE EUCLEAN
    EDQUOT ENOKEY EKEYEXPIRED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_call_as_strace_does() {
        let error = SysError::new("umount2(\"/run\", 0)", Errno::PERM);
        assert_eq!(error.to_string(), "umount2(\"/run\", 0) = EPERM (Operation not permitted)");
        let error = SysError::new("x()", Errno::from_raw_os_error(libc::ENOTUNIQ));
        assert_eq!(error.to_string(), "x() = 76 (Name not unique on network)");
    }
}
