// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The error type: a system call failed, or this program found something that keeps it from going on.

use std::fmt;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Either a system call that failed, or a finding: a sentence about a path or another object that this program
/// checked, such as `/run/lock is not a directory`. Findings that callers act on have their own variants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SysError {
    /// A system call failed. It is printed in the form of strace(1): `mount(…) = EPERM (Operation not permitted)`.
    /// The number is always from the kernel.
    Call {
        /// The call with the arguments that matter. It is boxed, like the hint, to keep results small.
        call: Box<str>,
        #[serde(with = "as_number")]
        errno: Errno,
        /// What the error means here, if the number alone doesn't explain it.
        hint: Option<Box<str>>,
    },
    /// A path doesn't lead to the expected file: a symbolic link, a mount or a file server is in the way, or
    /// something else is at that path.
    Elsewhere(String),
    /// There is more of something than this program is willing to handle.
    TooMuch(String),
    /// A process still uses what should be removed.
    InUse(String),
    /// Any other finding. It can only be reported.
    Finding(String),
}

/// Serializes an errno as a number.
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
    /// Creates an error that the kernel returned from `call`.
    pub fn new(call: impl Into<String>, errno: Errno) -> Self {
        Self::Call { call: call.into().into(), errno, hint: None }
    }

    /// Creates an error of a call that the standard library made. The library may report a finding of its own, such
    /// as that a write stopped halfway.
    pub(super) fn of_std(call: impl Into<String>, error: &std::io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::new(call, errno),
            None => Self::Finding(format!("{}: {error}", call.into())),
        }
    }

    /// Adds what the error means here, if it is a failed call.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Call { hint, .. } = &mut self {
            *hint = Some(text.into().into());
        }
        self
    }

    /// The kernel's error number, if a call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Call { errno, .. } => Some(*errno),
            Self::Elsewhere(_) | Self::TooMuch(_) | Self::InUse(_) | Self::Finding(_) => None,
        }
    }

    /// Whether a file server doesn't answer, or refuses this process because it doesn't know it. In that case the
    /// container can't use the path either.
    #[must_use]
    pub fn is_from_file_server(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::NOTCONN | Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::NOKEY | Errno::KEYEXPIRED)
        )
    }
}

impl std::error::Error for SysError {}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (call, errno, hint) = match self {
            Self::Call { call, errno, hint } => (call, *errno, hint),
            Self::Elsewhere(text) | Self::TooMuch(text) | Self::InUse(text) | Self::Finding(text) => {
                return f.write_str(text);
            }
        };
        let text = std::io::Error::from(errno).to_string();
        // The standard library appends " (os error 13)", for which the name is the better form.
        let text = text.split(" (os error").next().unwrap_or_default();
        match name(errno) {
            Some(name) => write!(f, "{call} = {name} ({text})")?,
            None => write!(f, "{call} = {} ({text})", errno.raw_os_error())?,
        }
        hint.iter().try_for_each(|hint| write!(f, ": {hint}"))
    }
}

/// Adds the name of the call to an error.
pub(crate) trait Context<T> {
    /// Converts an error. `call` is evaluated only on failure.
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SysError>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SysError> {
        self.map_err(|errno| SysError::new(call(), errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn call<S: Into<String>>(self, call: impl FnOnce() -> S) -> Result<T, SysError> {
        self.map_err(|error| SysError::of_std(call(), &error))
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        /// Returns the name of an error number, if it is one that the calls of this program can fail with.
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn prints_a_call_as_strace_does_and_a_finding_as_it_is() {
        let unmounted = SysError::new("umount2(\"/run\", 0)", Errno::PERM);
        for (error, expected) in [
            (unmounted.clone(), "umount2(\"/run\", 0) = EPERM (Operation not permitted)"),
            (
                unmounted.with_hint("it is not ours"),
                "umount2(\"/run\", 0) = EPERM (Operation not permitted): it is not ours",
            ),
            (SysError::new("x()", Errno::from_raw_os_error(libc::ENOTUNIQ)), "x() = 76 (Name not unique on network)"),
            (SysError::Elsewhere("/run is not a directory".to_owned()), "/run is not a directory"),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn an_error_of_the_standard_library_is_no_system_call() {
        let from_kernel: std::io::Result<()> = Err(std::io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(from_kernel.call(|| "write()"), Err(SysError::new("write()", Errno::NOSPC)));
        let from_std: std::io::Result<()> = Err(std::io::ErrorKind::WriteZero.into());
        assert!(matches!(from_std.call(|| "write()"), Err(SysError::Finding(text)) if text.starts_with("write(): ")));
    }

    #[test]
    fn is_the_same_in_another_process() {
        let errors = [
            SysError::new("open(\"/run\")", Errno::ACCESS).with_hint("a hint"),
            SysError::TooMuch("/run has too many files".to_owned()),
        ];
        for error in errors {
            let sent = serde_json::to_vec(&error).unwrap();
            assert_eq!(serde_json::from_slice::<SysError>(&sent).unwrap(), error);
        }
    }
}
