// SPDX-License-Identifier: Apache-2.0 OR MIT
//! System calls, and why they or what they tell can be an error; knows nothing of containers.
//!
//! Close-on-exec and no-follow by default. The only place for raw mount, namespace and libc calls.

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

/// A cryptographically random number, getrandom(2).
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
