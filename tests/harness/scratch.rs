// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The temporary directory of a run, which is removed at its end. The next run removes the directory of
//! one that was killed.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// The age up to which a directory may not be locked yet.
const SETTLED: Duration = Duration::from_secs(60);

/// A directory with a lock that marks it as in use.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Creates a directory with this prefix, after removing those of runs that were killed.
    pub fn new(prefix: &str, parent: &Path) -> io::Result<Self> {
        for entry in fs::read_dir(parent)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) && is_abandoned(&entry.path()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        let lock = File::open(directory.path())?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self { directory, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn is_abandoned(path: &Path) -> bool {
    let is_settled = |metadata: fs::Metadata| metadata.modified().ok()?.elapsed().ok().map(|age| age > SETTLED);
    let is_settled = fs::symlink_metadata(path).ok().and_then(is_settled).unwrap_or(false);
    is_settled && File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok())
}
