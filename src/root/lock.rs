// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A lock on a container's root, which several containers can share. While one of them is prepared, no mount
//! point may be removed on which something is about to be mounted, and nothing may be mounted while
//! mount points are removed.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::Root;
use crate::sys::time_limit::{self, Operation};
use crate::sys::{Context, SysError, fs};

/// The pause between two attempts to take the lock.
const PAUSE: Duration = Duration::from_millis(5);

impl Root {
    /// Locks the root against removals for as long as the returned descriptor is open. Returns `None` if other
    /// processes remove something for longer than `patience`, which a process in the root can pretend to do.
    pub fn lock_for_mounting(&self, patience: Duration) -> Result<Option<OwnedFd>, SysError> {
        self.lock(FlockOperation::NonBlockingLockShared, patience)
    }

    /// Locks the root against mounts for as long as the returned descriptor is open. Returns `None` if containers
    /// are being prepared on it for longer than `patience`.
    pub fn lock_for_removing(&self, patience: Duration) -> Result<Option<OwnedFd>, SysError> {
        self.lock(FlockOperation::NonBlockingLockExclusive, patience)
    }

    fn lock(&self, operation: FlockOperation, patience: Duration) -> Result<Option<OwnedFd>, SysError> {
        let directory = fs::open_at(self.directory().as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        let deadline = Instant::now() + patience;
        loop {
            match rustix::fs::flock(&directory, operation) {
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    time_limit::watch();
                    time_limit::note(Operation::Locking, self.path());
                    std::thread::sleep(PAUSE);
                }
                Err(Errno::WOULDBLOCK) => return Ok(None),
                result => {
                    result.call(|| format!("flock({:?})", self.path()))?;
                    time_limit::unlock_at_end(directory.as_fd());
                    return Ok(Some(directory));
                }
            }
        }
    }
}
