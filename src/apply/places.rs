// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Opens the files that the steps act on. Nothing else in [`apply`](super) opens the path of a step.
//!
//! Either an earlier step created the file, or the mount or directory that it is on, and still has that open; or the
//! plan has the file's identity, which is compared with what the path leads to now. Otherwise a process that may
//! rename directories in the container's root could make the hook mount on, write to, or change the owner of a volume
//! in place of what the plan names.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{Interpreter, StepCause};
use crate::path::InnerPath;
use crate::sys::{SysError, fs};

/// A file or mount that this call created.
#[derive(Debug, Clone)]
pub(super) struct Own {
    file: Rc<OwnedFd>,
    /// The unique ID of the mount that the file is on.
    mount: u64,
}

impl Interpreter<'_> {
    /// Opens the file that the current step acts on with `O_PATH`.
    pub(super) fn place(&self, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
        Ok(self.place_and_kind(at)?.0)
    }

    /// Opens a directory that the current step acts on with `O_PATH`.
    pub(super) fn directory_at(&self, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
        match self.place_and_kind(at)? {
            (place, FileType::Directory) => Ok(place),
            _ => Err(SysError::Elsewhere(format!("{at} is not a directory")).into()),
        }
    }

    pub(super) fn place_and_kind(&self, at: &InnerPath) -> Result<(Rc<OwnedFd>, FileType), StepCause> {
        if let Some(kept) = self.kept.get(at) {
            return Ok((Rc::clone(kept), fs::kind_of(kept)?));
        }
        let Some((above, own)) = self.own_above(at) else { return self.identified(at) };
        let file = below(&own.file, above, at)?;
        let kind = is_on(at, &file, own.mount)?;
        Ok((file, kind))
    }

    /// Opens the deepest directory at or above a path that already exists.
    pub(super) fn nearest(&self, at: &InnerPath) -> Result<(InnerPath, Own), StepCause> {
        if let Some((above, own)) = self.own_above(at) {
            return Ok((above.clone(), own.clone()));
        }
        let above = self.on.iter().filter(|place| at.is_at_or_below(&place.at)).max_by_key(|place| &place.at);
        let place = above.ok_or_else(|| StepCause::Unidentified(at.clone()))?;
        let own = Own { file: self.identified(&place.at)?.0, mount: place.identity.mount };
        Ok((place.at.clone(), own))
    }

    /// Records the mount that is at a path from now on, and forgets everything recorded below it,
    /// which the mount hides.
    pub(super) fn covers(&mut self, at: &InnerPath, file: Rc<OwnedFd>) -> Result<(), SysError> {
        let mount = fs::identity(&file)?.mount;
        self.own.retain(|below, _| !below.is_at_or_below(at));
        self.kept.retain(|below, _| !below.is_at_or_below(at));
        self.own.insert(at.clone(), Own { file, mount });
        Ok(())
    }

    /// Records a file that was created, or that was found on a mount that this call created.
    pub(super) fn has(&mut self, at: InnerPath, own: Own) {
        self.own.insert(at, own);
    }

    fn own_above(&self, at: &InnerPath) -> Option<(&InnerPath, &Own)> {
        self.own.iter().filter(|(above, _)| at.is_at_or_below(above)).max_by_key(|(above, _)| *above)
    }

    fn identified(&self, at: &InnerPath) -> Result<(Rc<OwnedFd>, FileType), StepCause> {
        let Some(expected) = self.on.iter().find(|place| place.at == *at) else { return self.made_cgroup(at) };
        let file = self.root.place(at).map_err(|error| changed(at, error))?;
        match fs::identity_and_kind(&file)? {
            (identity, kind) if identity == expected.identity => Ok((Rc::new(file), kind)),
            _ => Err(StepCause::Changed(at.clone())),
        }
    }

    /// Opens a cgroup that an earlier step created through the hierarchy, below a cgroup whose identity the plan has.
    fn made_cgroup(&self, at: &InnerPath) -> Result<(Rc<OwnedFd>, FileType), StepCause> {
        let above = self.on.iter().filter(|place| at.is_below(&place.at)).max_by_key(|place| &place.at);
        let above = above.ok_or_else(|| StepCause::Unidentified(at.clone()))?;
        let file = below(&self.identified(&above.at)?.0, &above.at, at)?;
        let (identity, kind) = fs::identity_and_kind(&file)?;
        let is_made = identity.mount == above.identity.mount
            && self.made_cgroups.values().any(|made| *made == (identity.device, identity.inode));
        if is_made { Ok((file, kind)) } else { Err(StepCause::Changed(at.clone())) }
    }
}

impl Own {
    pub(super) fn file(&self) -> &Rc<OwnedFd> {
        &self.file
    }

    /// Opens a directory in this one, and checks that it is on the same mount.
    pub(super) fn next(&self, at: &InnerPath, name: &OsStr) -> Result<Self, StepCause> {
        let opened = fs::open_at(self.file.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY);
        self.child(at, opened.map_err(|error| changed(at, error))?)
    }

    /// Takes an open file in this directory, and checks that it is on the same mount.
    pub(super) fn child(&self, at: &InnerPath, file: OwnedFd) -> Result<Self, StepCause> {
        is_on(at, &file, self.mount)?;
        Ok(Self { file: Rc::new(file), mount: self.mount })
    }
}

/// Opens a path below an open directory, name by name. No symbolic link is followed, but mounts are crossed.
fn below(top: &Rc<OwnedFd>, above: &InnerPath, at: &InnerPath) -> Result<Rc<OwnedFd>, StepCause> {
    let names = at.below(above).unwrap_or(Path::new(""));
    let open = |directory: Rc<OwnedFd>, name: &OsStr| fs::open_at(directory.as_fd(), name, OFlags::PATH).map(Rc::new);
    names.iter().try_fold(Rc::clone(top), open).map_err(|error| changed(at, error))
}

/// Checks that a file is on a mount, and returns the file's type.
fn is_on(at: &InnerPath, file: &OwnedFd, mount: u64) -> Result<FileType, StepCause> {
    match fs::identity_and_kind(file)? {
        (identity, kind) if identity.mount == mount => Ok(kind),
        _ => Err(StepCause::Changed(at.clone())),
    }
}

/// Turns an error which shows that a path no longer leads to the same file into [`StepCause::Changed`].
fn changed(at: &InnerPath, error: SysError) -> StepCause {
    match error {
        SysError::Elsewhere(_)
        | SysError::Call { errno: Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV, .. } => {
            StepCause::Changed(at.clone())
        }
        error => error.into(),
    }
}
