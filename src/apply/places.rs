// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The only way from a path in a step to an open file.
//!
//! Either an earlier step made the file, or what it lies on, and still has it open; or the step has its identity, and what
//! the path leads to now is compared with that. Who may rename directories in the container's root could otherwise have a
//! volume mounted on, written to or given away in place of what the plan is about.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{Run, StepCause};
use crate::path::InnerPath;
use crate::sys::{SysError, fs};

/// A directory or mount that this call made.
#[derive(Debug, Clone)]
pub(super) struct Own {
    file: Rc<OwnedFd>,
    /// The unique number of the mount that it lies on.
    mount: u64,
}

impl Run<'_> {
    /// Opens what the current step acts on, as a mere place (`O_PATH`).
    pub(super) fn place(&self, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
        if let Some(kept) = self.kept.get(at) {
            return Ok(Rc::clone(kept));
        }
        let Some((above, own)) = self.own_above(at) else { return self.identified(at) };
        let file = below(&own.file, above, at)?;
        is_on(at, &file, own.mount)?;
        Ok(file)
    }

    /// The same for a directory.
    pub(super) fn directory_at(&self, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
        let place = self.place(at)?;
        if fs::kind_of(&place)? == FileType::Directory {
            Ok(place)
        } else {
            Err(SysError::new(format!("open(\"{at}\", O_DIRECTORY)"), Errno::NOTDIR).into())
        }
    }

    /// The nearest directory above a path that is there already, and the mount that it lies on.
    pub(super) fn nearest(&self, at: &InnerPath) -> Result<(InnerPath, Own), StepCause> {
        if let Some((above, own)) = self.own_above(at) {
            return Ok((above.clone(), own.clone()));
        }
        let above = self.on.iter().filter(|place| at.is_at_or_below(&place.at)).max_by_key(|place| &place.at);
        let place = above.ok_or_else(|| StepCause::Unidentified(at.clone()))?;
        let own = Own { file: self.identified(&place.at)?, mount: place.identity.mount };
        Ok((place.at.clone(), own))
    }

    /// Notes what is at a path from now on, and that what was noted below it is out of sight.
    pub(super) fn covers(&mut self, at: &InnerPath, file: Rc<OwnedFd>) -> Result<(), SysError> {
        let mount = fs::identity(&file)?.mount;
        self.own.retain(|below, _| !below.is_at_or_below(at));
        self.kept.retain(|below, _| !below.is_at_or_below(at));
        self.own.insert(at.clone(), Own { file, mount });
        Ok(())
    }

    /// Notes a directory that was made, or found on a mount of this call's.
    pub(super) fn has(&mut self, at: InnerPath, own: Own) {
        self.own.insert(at, own);
    }

    fn own_above(&self, at: &InnerPath) -> Option<(&InnerPath, &Own)> {
        self.own.iter().filter(|(above, _)| at.is_at_or_below(above)).max_by_key(|(above, _)| *above)
    }

    fn identified(&self, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
        let Some(expected) = self.on.iter().find(|place| place.at == *at) else { return self.made_cgroup(at) };
        let file = self.root.place(at).map_err(|error| changed(at, error))?;
        if fs::identity(&file)? == expected.identity { Ok(Rc::new(file)) } else { Err(StepCause::Changed(at.clone())) }
    }

    /// A cgroup that an earlier step made through the hierarchy, below one that was identified.
    fn made_cgroup(&self, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
        let above = self.on.iter().filter(|place| at.is_below(&place.at)).max_by_key(|place| &place.at);
        let above = above.ok_or_else(|| StepCause::Unidentified(at.clone()))?;
        let file = below(&self.identified(&above.at)?, &above.at, at)?;
        let identity = fs::identity(&file)?;
        let is_made = identity.mount == above.identity.mount
            && self.made_cgroups.values().any(|made| *made == (identity.device, identity.inode));
        if is_made { Ok(file) } else { Err(StepCause::Changed(at.clone())) }
    }
}

impl Own {
    pub(super) fn file(&self) -> &Rc<OwnedFd> {
        &self.file
    }

    /// Opens a directory in this one, which must lie on the same mount.
    pub(super) fn next(&self, at: &InnerPath, name: &OsStr) -> Result<Self, StepCause> {
        let opened = fs::open_at(self.file.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY);
        self.child(at, opened.map_err(|error| changed(at, error))?)
    }

    /// A file in this directory, which must lie on the same mount.
    pub(super) fn child(&self, at: &InnerPath, file: OwnedFd) -> Result<Self, StepCause> {
        is_on(at, &file, self.mount)?;
        Ok(Self { file: Rc::new(file), mount: self.mount })
    }
}

/// Opens a path below an open directory, name by name. No link is followed, but mounts are crossed.
fn below(top: &Rc<OwnedFd>, above: &InnerPath, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
    let names = at.below(above).unwrap_or(Path::new(""));
    let open = |directory: Rc<OwnedFd>, name: &OsStr| fs::open_at(directory.as_fd(), name, OFlags::PATH).map(Rc::new);
    names.iter().try_fold(Rc::clone(top), open).map_err(|error| changed(at, error))
}

fn is_on(at: &InnerPath, file: &OwnedFd, mount: u64) -> Result<(), StepCause> {
    if fs::identity(file)?.mount == mount { Ok(()) } else { Err(StepCause::Changed(at.clone())) }
}

/// What a path leads to now cannot be what it led to before.
fn changed(at: &InnerPath, error: SysError) -> StepCause {
    match error.errno() {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => StepCause::Changed(at.clone()),
        _ => error.into(),
    }
}
