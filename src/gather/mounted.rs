// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads a container's mount table. On a host with many mounts, only a few lines of it matter.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use super::{GatherError, interpret};
use crate::facts::mounts::{is_hosts_hierarchy, is_inside, tmpfs_devices};
use crate::facts::{Image, Mounts};
use crate::interface;
use crate::kernel::mountinfo::{self, Entry};
use crate::oci::config::Config;
use crate::path::InnerPath;
use crate::root::Root;
use crate::sys::mount_table::{self, Table};
use crate::sys::{SysError, fs};

/// The container's mounts, as a mount table and as facts.
pub(super) struct Mounted {
    pub text: Vec<u8>,
    /// Whether `text` also has all mounts that aren't the container's.
    is_whole: bool,
    pub mounts: Mounts,
    /// Returns the ID, as in `text`, of the mount that holds an open file.
    pub number_of: fn(BorrowedFd<'_>) -> Result<u64, SysError>,
}

impl Mounted {
    /// Finds the tmpfs mounts that the runtime created for this container, among those that hold a path which the
    /// plan may look up. Only for those is it worth reading a long mount table.
    pub(super) fn prove_own(&mut self, config: &Config, image: &Image) -> Result<(), GatherError> {
        let places = image.all().filter_map(|(_, found)| found.place());
        let holders: HashSet<&InnerPath> =
            places.filter_map(|at| self.mounts.holding(at)).map(|holder| &holder.at).collect();
        let asked: HashSet<InnerPath> =
            interpret::asked_tmpfs(config).into_iter().filter(|at| holders.contains(at)).collect();
        let maybe_own = self.mounts.maybe_own(&asked);
        if maybe_own.is_empty() {
            return Ok(());
        }
        let shows_one = |entry: &Entry<'_>| entry.is_type("tmpfs") && maybe_own.contains(&entry.device());
        let devices = if self.is_whole {
            tmpfs_devices(&self.text)
        } else {
            tmpfs_devices(&mount_table::read(mount_table::OWN, shows_one).map_err(unread)?)
        };
        self.mounts.prove_own(&asked, &devices);
        Ok(())
    }
}

fn unread(source: SysError) -> GatherError {
    GatherError::Read { path: PathBuf::from(mount_table::OWN), source }
}

/// Reads the container's mounts.
///
/// A table of usual size is read as a whole. A host can have 10,000 mounts; then the kernel is asked only for the
/// container's mounts and the host's cgroup hierarchies, unless the container has too many mounts for that as well.
pub(super) fn mounted(root: &Root) -> Result<Mounted, GatherError> {
    /// The maximum number of mounts to ask for one by one. Asking for a mount takes the kernel half as long again as
    /// writing it into the table.
    const ASKED_MAX: usize = 400;
    let by_number = |text: Vec<u8>, is_whole| -> Result<Mounted, GatherError> {
        let root_mount = root.mount().map_err(|source| GatherError::Root { path: root.path().to_owned(), source })?;
        let mounts = Mounts::read(&text, root.path(), root_mount);
        Ok(Mounted { text, is_whole, mounts, number_of: |file| fs::mount_number(file) })
    };
    if let Some(text) = root.mount_table() {
        return by_number(text.to_owned(), true);
    }
    if let Some(Table { text, root_mount }) = mount_table::below(root.directory(), &interface::HIERARCHIES, ASKED_MAX) {
        let mounts = Mounts::read(&text, root.path(), root_mount);
        let number_of = |file: BorrowedFd<'_>| fs::identity(file).map(|file| file.mount);
        return Ok(Mounted { text, is_whole: false, mounts, number_of });
    }
    let root_mount = root.mount().map_err(|source| GatherError::Root { path: root.path().to_owned(), source })?;
    by_number(mounts_of(root, root_mount).map_err(unread)?, false)
}

/// Reads the lines of a mount table of any length that are about the container's mounts and
/// the host's cgroup hierarchies.
pub(super) fn mounts_of(root: &Root, root_mount: u64) -> Result<Vec<u8>, SysError> {
    let prefix = mountinfo::escape(root.path().as_os_str().as_encoded_bytes());
    mount_table::read(mount_table::OWN, |entry| is_inside(entry, &prefix, root_mount) || is_hosts_hierarchy(entry))
}
