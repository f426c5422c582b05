// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps that mount something. The source and target of each mount are open files.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::copying::Source;
use super::labels::Labels;
use super::{Interpreter, StepCause};
use crate::facts::Owner;
use crate::path::InnerPath;
use crate::plan::Content;
use crate::sys::mount::Access;
use crate::sys::{SysError, fs, mount};

impl Interpreter<'_> {
    /// Attaches a mount, and registers how to undo it.
    fn attach(&mut self, new: OwnedFd, at: &InnerPath, place: &OwnedFd) -> Result<Rc<OwnedFd>, SysError> {
        mount::put(&new, place)?;
        let new = Rc::new(new);
        self.undo.unmount(Rc::clone(&new));
        self.covers(at, Rc::clone(&new))?;
        Ok(new)
    }

    /// Attaches a copy of another mount, makes it private, and sets its access.
    pub(super) fn put(
        &mut self,
        new: OwnedFd,
        at: &InnerPath,
        place: &OwnedFd,
        access: Access,
    ) -> Result<(), SysError> {
        match mount::set_attributes(new.as_fd(), access) {
            // Before Linux 5.12 only an attached mount can be changed.
            Err(error) if error.errno() == Some(Errno::NOSYS) => {
                let mounted = self.attach(new, at, place)?;
                mount::make_private(mounted.as_fd())?;
                mount::set_access(mounted.as_fd(), access)
            }
            result => {
                result?;
                self.attach(new, at, place).map(drop)
            }
        }
    }

    pub(super) fn tmpfs(
        &mut self,
        at: &InnerPath,
        mut options: Vec<(&str, String)>,
        context: Option<&str>,
        content: Content,
        keep: &[InnerPath],
    ) -> Result<(), StepCause> {
        if let Some(Owner { uid, gid }) = self.owner {
            options.extend([("uid", uid.to_string()), ("gid", gid.to_string())]);
        }
        let place = self.directory_at(at)?;
        options.extend(context.map(|context| ("context", context.to_owned())));
        // The option `context` sets the label of all files on the mount.
        let none = Labels::new(None);
        let labels = Rc::clone(&self.labels);
        let labels = if context.is_some() { &none } else { &*labels };
        let new = self.filled_tmpfs(&options, &Source { from: &place, at, keep }, content, labels)?;
        // The kept mounts are opened before they are covered. Moving a mount also moves what is mounted on it.
        let kept: Vec<(PathBuf, Rc<OwnedFd>)> = keep
            .iter()
            .filter_map(|path| path.below(at).map(|below| (path, below.to_owned())))
            .map(|(path, below)| Ok((below, self.place(path)?)))
            .collect::<Result<_, StepCause>>()?;
        self.attach(new, at, &place)?;
        for (below, moved) in kept {
            self.keep(at, &place, below, moved)?;
        }
        Ok(())
    }

    /// Moves a mount that is covered by the new tmpfs at `at` onto that tmpfs. `covered` is the
    /// directory below the tmpfs.
    fn keep(&mut self, at: &InnerPath, covered: &OwnedFd, below: PathBuf, moved: Rc<OwnedFd>) -> Result<(), StepCause> {
        let target = at.join(&below);
        if fs::kind_of(&moved)? == FileType::Directory {
            self.directory(&target, 0o755)?;
        } else {
            self.empty_file(&target)?;
        }
        // This directory is needed to undo the move, so it is opened first.
        let back = fs::open_at(covered.as_fd(), ".", OFlags::PATH | OFlags::DIRECTORY)?;
        mount::put(&moved, self.place(&target)?)?;
        // The mount is the container's own, and later steps may only move it again.
        self.own.remove(&target);
        self.kept.insert(target, Rc::clone(&moved));
        self.undo.move_back(moved, back, below);
        Ok(())
    }

    pub(super) fn mount_file(&mut self, at: &InnerPath, content: &str, context: Option<&str>) -> Result<(), StepCause> {
        let (place, kind) = self.place_and_kind(at)?;
        let (above, name) = at.split().ok_or_else(|| StepCause::Unidentified(at.clone()))?;
        if kind != FileType::RegularFile {
            return Err(SysError::Elsewhere(format!("{at} is not a regular file")).into());
        }
        // The inodes are the directory and the file, and since Linux 6.6 also their extended attributes.
        let mut options = vec![("mode", "755".to_owned()), ("size", "64k".to_owned()), ("nr_inodes", "16".to_owned())];
        options.extend(context.map(|context| ("context", context.to_owned())));
        let holder = mount::new_tmpfs(&options)?;
        fs::write(&mut fs::create_at(holder.as_fd(), name, 0o444)?, content)?;
        self.give(holder.as_fd(), name)?;
        let file = fs::open_at(holder.as_fd(), name, OFlags::PATH)?;
        let copy = copy_below(&holder, &file, || self.directory_at(&above))?;
        Ok(self.put(copy, at, &place, Access::ReadOnly)?)
    }
}

/// Copies the mount `holder`, which is detached, with `file` as the root of the copy. Before Linux 6.15 only what is
/// mounted in this namespace can be copied, so on those kernels `holder` is temporarily mounted on `place`.
pub(super) fn copy_below(
    holder: &OwnedFd,
    file: &OwnedFd,
    place: impl FnOnce() -> Result<Rc<OwnedFd>, StepCause>,
) -> Result<OwnedFd, StepCause> {
    match mount::copy_of(file) {
        Err(error) if error.errno() == Some(Errno::INVAL) => {
            mount::put(holder, place()?)?;
            let copy = mount::copy_of(file);
            mount::take_away(holder.as_fd())?;
            Ok(copy?)
        }
        result => Ok(result?),
    }
}
