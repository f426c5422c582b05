// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System calls and their errors. This module knows nothing about containers.
//!
//! Files are opened with close-on-exec, and without following symbolic links, by default. Raw mount, namespace and
//! libc calls are made only here.

pub mod birth;
pub mod cgroup;
mod error;
pub mod fs;
pub mod journal;
pub mod memory;
pub mod mount;
pub mod mount_table;
pub mod others;
pub mod process;
pub mod selinux;
pub mod time_limit;

pub(crate) use self::error::Context;
pub use self::error::SysError;

/// Returns a cryptographically random number, getrandom(2).
pub fn random_number() -> Result<u128, SysError> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).call(|| "getrandom()")?;
    // Up to 256 bytes are always returned at once.
    if filled == bytes.len() {
        Ok(u128::from_ne_bytes(bytes))
    } else {
        Err(SysError::Finding(format!("getrandom() returned only {filled} bytes")))
    }
}
