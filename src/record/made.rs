// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Defines the lines of a record, each of which is a JSON document, and removes what they name. Something is removed
//! only if the hook provably created it, it is empty, and no running container uses it.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::RecordError;
use super::container::{FirstProcess, RecordedContainer};
use super::in_use;
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerPath};
use crate::plan::Cgroup;
use crate::root::Root;
use crate::sys::birth::{self, Birth, Inodes, NamedFile, Sameness};
use crate::sys::cgroup::RemovalBudget;
use crate::sys::{self, SysError, fs};

/// One line of a record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The first line: the container that the record belongs to.
    Container(RecordedContainer),
    /// A file or directory will be created in an image's root.
    Making(PlannedFile),
    /// What the last `PlannedFile` announced now exists under its temporary name. The topmost directory comes first.
    Made(Vec<Birth>),
    /// A cgroup, which is removed with all its descendants.
    Cgroup {
        hierarchy: Hierarchy,
        /// The path from the root of the runtime's cgroup namespace, in which poststop also runs.
        path: OsString,
        /// The inode number, or `None` if the cgroup is about to be created.
        inode: Option<u64>,
    },
    /// Nothing could be removed from the root, because the container with this first process has mounts there.
    UsedBy(FirstProcess),
    /// The equivalent of `PlannedFile` in releases that didn't note which container a record belongs to.
    MountPoint(OldMountPoint),
}

/// An empty file or directory in an image's root, with its missing parent directories. It is created under a random
/// temporary name, noted, and only then renamed, so that it can always be distinguished from other files.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct PlannedFile {
    pub(super) root: OsString,
    // A byte string, because the names in an image need not be UTF-8.
    pub(super) at: OsString,
    pub(super) is_directory: bool,
    /// The number of missing parent directories, which are also created.
    pub(super) above: usize,
    /// The temporary name of the topmost directory or file that is created.
    pub(super) temporary: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OldMountPoint {
    root: OsString,
    // The device and inode of the root directory, because another file system may later be mounted at its path.
    device: u64,
    inode: u64,
    at: OsString,
    is_directory: bool,
    above: usize,
}

/// The content of a record.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) container: Option<RecordedContainer>,
    pub(super) used_by: Option<FirstProcess>,
    in_roots: Vec<RootEntry>,
    cgroups: Vec<Cgroup>,
}

/// Whether a removal has to lock the root first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Locking {
    Needed,
    /// This process already holds the lock for mounting, because it is undoing what it has just created.
    Held,
}

#[derive(Debug)]
enum RootEntry {
    New(PlannedFile, Vec<Birth>),
    Old(OldMountPoint),
}

impl Made {
    pub(super) fn parse(text: &[u8]) -> Self {
        let mut all = Self::default();
        // If the hook was killed while it wrote a line, it had not yet created what the line announces.
        for line in text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()) {
            match line {
                Line::Container(container) => all.container = Some(container),
                Line::Making(making) => all.in_roots.push(RootEntry::New(making, Vec::new())),
                Line::Made(births) => {
                    if let Some(RootEntry::New(_, noted)) = all.in_roots.last_mut() {
                        *noted = births;
                    }
                }
                Line::Cgroup { hierarchy, path, inode } => {
                    all.cgroups.push(Cgroup { hierarchy, path: CgroupPath::new(path), inode });
                }
                Line::UsedBy(first) => all.used_by = Some(first),
                Line::MountPoint(made) => all.in_roots.push(RootEntry::Old(made)),
            }
        }
        all
    }

    /// Removes what was created, in reverse order. Continues after an error and returns all errors. It is not an
    /// error if something is already gone.
    pub(super) fn take_back(&self, budget: &RemovalBudget, locking: Locking) -> Vec<RecordError> {
        let mut errors = self.empty_roots(budget, locking);
        for cgroup in self.cgroups.iter().rev() {
            let result = sys::cgroup::remove(cgroup.hierarchy, &cgroup.path, cgroup.inode, budget);
            errors.extend(result.err().map(|source| RecordError::Cgroup { cgroup: cgroup.clone(), source }));
        }
        errors
    }

    /// Returns the paths of the roots in which something was created.
    pub(super) fn roots(&self) -> impl Iterator<Item = &Path> {
        self.in_roots.iter().map(RootEntry::root)
    }

    fn empty_roots(&self, budget: &RemovalBudget, locking: Locking) -> Vec<RecordError> {
        let (mut errors, mut found) = (Vec::new(), Vec::new());
        for made in self.in_roots.iter().rev() {
            match made.find() {
                Ok(those) => found.extend(those),
                Err(error) => errors.push(error),
            }
        }
        let mut rest = found.as_slice();
        // Roots are handled one at a time. A container has only one, but its path may have changed between two calls.
        while let Some(first) = rest.first() {
            let count = rest.iter().take_while(|each| each.root.path() == first.root.path()).count();
            let (these, others) = rest.split_at(count);
            let places: Vec<_> = these.iter().map(|each| each.at.clone()).collect();
            // If the file system has no locks, the check for users must suffice.
            let lock = match locking {
                Locking::Held => Ok(None),
                Locking::Needed => match first.root.lock_for_removing(budget.patience()) {
                    Ok(None) => Err(RecordError::Busy { root: first.root.path().to_owned() }),
                    result => Ok(result.ok().flatten()),
                },
            };
            rest = others;
            let _lock = match lock {
                Ok(lock) => lock,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            match in_use::user(&first.root, &places, budget) {
                Ok(None) => errors.extend(these.iter().filter_map(|each| each.remove().err())),
                Ok(Some(pid)) => errors.push(RecordError::InUse { root: first.root.path().to_owned(), pid }),
                Err(source) => errors.push(first.error(source)),
            }
        }
        errors
    }
}

impl PlannedFile {
    /// Returns the paths that are created, the last one first.
    fn all(&self) -> Vec<InnerPath> {
        let at = InnerPath::new(&self.at);
        std::iter::successors(Some(at), InnerPath::parent).take(self.above + 1).collect()
    }

    /// Removes what was created under the temporary name. No other process knows that name, so it proves
    /// that the hook created it.
    fn remove_temporary(&self, root: &Root) -> Result<(), SysError> {
        let at = InnerPath::new(&self.at);
        let Some(top) = std::iter::successors(Some(at.clone()), InnerPath::parent).nth(self.above) else {
            return Ok(());
        };
        let Some(above) = top.parent() else { return Ok(()) };
        let below = at.below(&top).unwrap_or(Path::new(""));
        let names: Vec<&OsStr> = std::iter::once(OsStr::new(&self.temporary)).chain(below).collect();
        // The path is opened name by name, because with the temporary name it can be longer than with the final one,
        // and longer than any path may be.
        let mut way = Vec::with_capacity(names.len());
        let mut next = root.open_directory(&above);
        for name in &names {
            match next {
                Err(failed) if is_gone(&failed) => break,
                result => way.push(result?),
            }
            next = match way.last() {
                Some(directory) => fs::open_at(directory.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY),
                None => break,
            };
        }
        for (number, (directory, name)) in way.iter().zip(&names).enumerate().rev() {
            let is_last = number + 1 == names.len();
            let kind = if self.is_directory || !is_last { FileType::Directory } else { FileType::RegularFile };
            // On a read-only file system, unlinkat(2) fails with `EROFS` even if the file doesn't exist.
            if fs::stat_at(directory.as_fd(), name).is_err_and(|failed| is_gone(&failed)) {
                continue;
            }
            match fs::unlink_at(directory.as_fd(), name, kind) {
                Err(failed) if is_replaced(&failed) => {}
                result => result?,
            }
        }
        Ok(())
    }
}

impl RootEntry {
    fn root(&self) -> &Path {
        match self {
            Self::New(made, _) => Path::new(&made.root),
            Self::Old(made) => Path::new(&made.root),
        }
    }

    /// Returns the files and directories that still exist.
    fn find(&self) -> Result<Vec<Remnant>, RecordError> {
        let (root, at) = match self {
            Self::New(made, _) => (&made.root, &made.at),
            Self::Old(made) => (&made.root, &made.at),
        };
        let at = InnerPath::new(at);
        let error = |source| RecordError::TakeBack { root: PathBuf::from(root), at: at.to_string(), source };
        let opened = match Root::open(Path::new(root)) {
            Err(failed) if is_gone(&failed) => return Ok(Vec::new()),
            result => Rc::new(result.map_err(error)?),
        };
        let remnant = |at, is_directory, proof| Remnant { root: Rc::clone(&opened), at, is_directory, proof };
        let all: Vec<Remnant> = match self {
            Self::New(made, births) => {
                made.remove_temporary(&opened).map_err(error)?;
                let all = made.all().into_iter().zip(births.iter().rev()).enumerate();
                all.map(|(number, (at, birth))| remnant(at, made.is_directory || number > 0, Ownership::Birth(*birth)))
                    .collect()
            }
            Self::Old(made) => {
                let status = fs::stat(opened.directory()).map_err(error)?;
                if (status.st_dev, status.st_ino) != (made.device, made.inode) {
                    return Ok(Vec::new());
                }
                let all = std::iter::successors(Some(at.clone()), InnerPath::parent).take(made.above + 1).enumerate();
                all.map(|(number, at)| remnant(at, made.is_directory || number > 0, Ownership::Root)).collect()
            }
        };
        let mut there = Vec::new();
        for each in all {
            if each.is_there()? {
                there.push(each);
            }
        }
        Ok(there)
    }
}

/// A file or directory in a root that may be the hook's.
#[derive(Debug)]
struct Remnant {
    root: Rc<Root>,
    at: InnerPath,
    is_directory: bool,
    proof: Ownership,
}

/// The proof that the hook created a file.
#[derive(Debug, Clone, Copy)]
enum Ownership {
    /// The file has the inode number and the birth time that were noted.
    Birth(Birth),
    /// The file is in the same root directory. Records of older releases have no better proof.
    Root,
}

impl Remnant {
    fn error(&self, source: SysError) -> RecordError {
        RecordError::TakeBack { root: self.root.path().to_owned(), at: self.at.to_string(), source }
    }

    fn is_there(&self) -> Result<bool, RecordError> {
        let looked = look(&self.root, &self.at, self.is_directory).map_err(|source| self.error(source))?;
        let Some(FoundFile { directory, newborn, .. }) = looked else { return Ok(false) };
        let Ownership::Birth(noted) = self.proof else { return Ok(true) };
        let inodes =
            if self.is_directory { Inodes::of(directory).map_err(|source| self.error(source))? } else { Inodes::Kept };
        match noted.is(&newborn.birth, inodes) {
            Sameness::Yes => Ok(true),
            Sameness::No => Ok(false),
            Sameness::Unknown => {
                Err(RecordError::NoBirthTime { root: self.root.path().to_owned(), at: self.at.to_string() })
            }
        }
    }

    fn remove(&self) -> Result<(), RecordError> {
        if self.is_there()? {
            remove_empty(&self.root, &self.at, self.is_directory).map_err(|source| self.error(source))
        } else {
            Ok(())
        }
    }
}

struct FoundFile {
    directory: std::os::fd::OwnedFd,
    name: OsString,
    newborn: NamedFile,
}

/// Looks up a path. Returns `None` unless it is a directory or an empty regular file, whichever is expected.
fn look(root: &Root, at: &InnerPath, is_directory: bool) -> Result<Option<FoundFile>, SysError> {
    let found = root.parent(at).and_then(|(directory, name)| {
        let newborn = birth::at(directory.as_fd(), &name)?;
        Ok(FoundFile { directory, name, newborn })
    });
    let found = match found {
        Err(failed) if is_gone(&failed) => return Ok(None),
        result => result?,
    };
    let is_it = match found.newborn.kind {
        FileType::Directory => is_directory,
        FileType::RegularFile => !is_directory && found.newborn.size_bytes == 0,
        _ => false,
    };
    Ok(is_it.then_some(found))
}

fn remove_empty(root: &Root, at: &InnerPath, is_directory: bool) -> Result<(), SysError> {
    let Some(FoundFile { directory, name, newborn }) = look(root, at, is_directory)? else { return Ok(()) };
    match fs::unlink_at(directory.as_fd(), &name, newborn.kind) {
        Err(failed) if is_replaced(&failed) => Ok(()),
        result => result,
    }
}

/// Whether an error proves that what the hook created is no longer reachable at its path: nothing is there, a
/// component of the path is now a symbolic link, or the file server is gone. Any other error proves nothing.
fn is_gone(error: &SysError) -> bool {
    let is_of_a_call = matches!(
        error.errno(),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NOTCONN | Errno::STALE)
    );
    is_of_a_call || matches!(error, SysError::Elsewhere(_))
}

/// Whether a failed removal means that the file is gone, is no longer empty, or now has another type.
fn is_replaced(failed: &SysError) -> bool {
    matches!(failed.errno(), Some(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR))
}
