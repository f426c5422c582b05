// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Identifies the files that a plan may act on.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::GatherError;
use crate::facts::{Found, Image, Mounts, Places};
use crate::interface::{self, CGROUP};
use crate::kernel::cgroup::Hierarchy;
use crate::kernel::statx::FileIdentity;
use crate::path::InnerPath;
use crate::root::Root;
use crate::sys::{SysError, fs};

/// Identifies the file at each path that a plan may act on, and keeps open those files whose inode numbers could
/// otherwise be reused. The root of a mount can't be replaced while it is mounted, and so isn't kept open.
///
/// `number_of` returns the ID of a file's mount as in `mounts`. If a path is on another mount than the table says,
/// something has been renamed or mounted over since the table was read, which is an error.
pub(super) fn identify(
    root: &Root,
    mounts: &Mounts,
    image: &Image,
    cgroups: &[InnerPath],
    number_of: fn(BorrowedFd<'_>) -> Result<u64, SysError>,
) -> Result<(Places, Vec<OwnedFd>), GatherError> {
    let mut look = PlaceReader {
        root,
        mounts,
        number_of,
        numbers: BTreeMap::new(),
        places: Places::default(),
        pins: Vec::new(),
        missing: BTreeSet::new(),
    };
    for (path, found) in image.all() {
        let (at, is_there) = match found {
            Found::Directory(at) | Found::EmptyDirectory(at) | Found::File(at) => (at, true),
            Found::Nothing(at) => (at, false),
            Found::Other(..) | Found::OnServer(_) | Found::Unreachable(_) => continue,
        };
        if is_there {
            look.at(at)?;
        }
        match image.empty_above(path) {
            Some(above) => drop(look.at(above)?),
            None => look.above(at)?,
        }
        if let Some(holder) = mounts.holding(at) {
            look.at(&holder.at)?;
        }
        if interface::TMPFS.iter().any(|tmpfs| InnerPath::new(tmpfs) == *path) {
            for below in mounts.directly_below(at) {
                look.at(&below.at)?;
            }
        }
    }
    let base = InnerPath::new(CGROUP);
    look.at(&base)?;
    for hierarchy in [Hierarchy::Unified, Hierarchy::Systemd] {
        for (mount, _) in mounts.of_hierarchy(hierarchy).filter(|(mount, _)| mount.at.is_at_or_below(&base)) {
            look.at(&mount.at)?;
        }
    }
    for own in cgroups {
        look.at(own)?;
    }
    Ok((look.places, look.pins))
}

struct PlaceReader<'a> {
    root: &'a Root,
    mounts: &'a Mounts,
    number_of: fn(BorrowedFd<'_>) -> Result<u64, SysError>,
    /// The IDs in `mounts` of the mounts found so far, by the IDs in [`FileIdentity`].
    numbers: BTreeMap<u64, u64>,
    places: Places,
    pins: Vec<OwnedFd>,
    missing: BTreeSet<InnerPath>,
}

impl PlaceReader<'_> {
    /// Identifies the deepest existing directory above a path.
    fn above(&mut self, at: &InnerPath) -> Result<(), GatherError> {
        for above in std::iter::successors(at.parent(), InnerPath::parent) {
            if self.at(&above)? {
                break;
            }
        }
        Ok(())
    }

    /// Records the identity of the file at a path. Returns whether there is one.
    fn at(&mut self, at: &InnerPath) -> Result<bool, GatherError> {
        if self.places.at(at).is_some() {
            return Ok(true);
        }
        if self.missing.contains(at) {
            return Ok(false);
        }
        let looked = self.root.place(at).and_then(|file| {
            let identity = fs::identity(&file)?;
            Ok((identity, self.number(identity, file.as_fd())?, file))
        });
        let (identity, number, file) = match looked {
            // A step of the plan that needs the path will fail.
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS)) => {
                self.missing.insert(at.clone());
                return Ok(false);
            }
            result => result.map_err(|source| GatherError::Look { at: at.clone(), source })?,
        };
        let holder = self.mounts.holding(at);
        if holder.is_some_and(|holder| holder.number() != number) {
            return Err(GatherError::Changed(at.clone()));
        }
        if holder.is_none_or(|holder| holder.at != *at) {
            self.pins.push(file);
        }
        self.places.insert(at.clone(), identity);
        Ok(true)
    }

    fn number(&mut self, identity: FileIdentity, file: BorrowedFd<'_>) -> Result<u64, SysError> {
        if let Some(number) = self.numbers.get(&identity.mount) {
            return Ok(*number);
        }
        let number = (self.number_of)(file)?;
        self.numbers.insert(identity.mount, number);
        Ok(number)
    }
}
