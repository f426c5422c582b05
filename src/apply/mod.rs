// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interpreter of a plan. It sees no facts, so what is not in the plan can't happen.
//!
//! All or nothing: a required step that fails undoes what was done before it, last first.

mod copy_up;
mod undo;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use crate::facts::Owner;
use crate::path::InnerPath;
use crate::plan::{Action, Content, Need, Node, Plan, Step};
use crate::record::{Record, RecordError};
use crate::root::Root;
use crate::sys::mount::Access;
use crate::sys::{SysError, fs, mount};
use undo::Undo;

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct StepError {
    step: String,
    source: StepCause,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepCause {
    /// A system call.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A system call on one of many files.
    #[error("at {path}")]
    Copying {
        /// The file, in the container.
        path: InnerPath,
        /// Why.
        source: SysError,
    },
    /// What lasts must be written down first.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What became of a plan.
#[derive(Debug)]
pub enum Outcome {
    /// The container is prepared; these best-effort steps failed.
    Prepared(Vec<StepError>),
    /// A required step failed, everything is undone, and these parts of the undoing failed.
    Undone(StepError, Vec<SysError>),
}

/// Carries out a plan.
#[must_use]
pub fn apply(root: &Root, plan: &Plan, record: &Record) -> Outcome {
    let mut run = Run { root, record, owner: plan.owner, undo: Undo::default() };
    let mut failed = Vec::new();
    for Step { action, need, .. } in &plan.steps {
        if let Err(source) = run.perform(action) {
            let error = StepError { step: action.brief(), source };
            match need {
                Need::BestEffort => failed.push(error),
                Need::Required => return Outcome::Undone(error, run.undo.all()),
            }
        }
    }
    Outcome::Prepared(failed)
}

struct Run<'a> {
    root: &'a Root,
    record: &'a Record,
    owner: Option<Owner>,
    undo: Undo,
}

impl Run<'_> {
    fn perform(&mut self, action: &Action) -> Result<(), StepCause> {
        match action {
            Action::MakeSlave { at } => Ok(mount::make_slave(self.root.place(at)?.as_fd())?),
            Action::MakeShared { at } => Ok(mount::make_shared(self.root.place(at)?.as_fd())?),
            Action::Tmpfs { at, mode, size_bytes, inodes, content, keep } => {
                let mut options = vec![("mode", format!("{mode:o}")), ("size", size_bytes.to_string())];
                options.extend(inodes.map(|inodes| ("nr_inodes", inodes.to_string())));
                self.tmpfs(at, options, *content, keep)
            }
            Action::Directory { at, mode } => Ok(self.directory(at, *mode)?),
            Action::WriteFile { at, mode, content } => Ok(self.write_file(at, *mode, content)?),
            Action::Symlink { at, target } => Ok(self.symlink(at, target)?),
            Action::Inaccessible { at, nodes } => {
                let mut nodes = nodes.iter();
                Ok(nodes.try_for_each(|node| self.node(&at.join(node.name()), *node))?)
            }
            Action::MountPoint { at, node } => self.mount_point(at, *node),
            Action::MountFile { at, content } => Ok(self.mount_file(at, content)?),
            Action::MakeWritable { at } => {
                let place = self.root.open_directory(at)?;
                let own = mount::copy_of(&place)?;
                Ok(self.put(own, &place, Access::ReadWrite)?)
            }
            Action::BindHost { from, at } => {
                let place = self.root.open_directory(at)?;
                let hosts = mount::copy_of(fs::open_host(from)?)?;
                Ok(self.put(hosts, &place, Access::ReadOnly)?)
            }
        }
    }

    /// Mounts, notes how to undo it, and sets the access, which needs a mount in this namespace.
    fn put(&mut self, new: OwnedFd, place: &OwnedFd, access: Access) -> Result<(), SysError> {
        mount::put(&new, place)?;
        let result = mount::set_access(new.as_fd(), access);
        self.undo.unmount(new);
        result
    }

    fn tmpfs(
        &mut self,
        at: &InnerPath,
        mut options: Vec<(&str, String)>,
        content: Content,
        keep: &[InnerPath],
    ) -> Result<(), StepCause> {
        if let Some(Owner { uid, gid }) = self.owner {
            options.extend([("uid", uid.to_string()), ("gid", gid.to_string())]);
        }
        let place = self.root.open_directory(at)?;
        let new = mount::new_tmpfs(&options)?;
        if content == Content::Copied {
            copy_up::copy(place.as_fd(), new.as_fd(), at, keep)?;
        }
        // Opened before they are covered; a moved mount takes along what is mounted on it.
        let kept: Vec<(PathBuf, OwnedFd)> = keep
            .iter()
            .filter_map(|path| path.below(at).map(|below| (path, below.to_owned())))
            .map(|(path, below)| Ok((below, self.root.place(path)?)))
            .collect::<Result<_, SysError>>()?;
        mount::put(&new, &place)?;
        self.undo.unmount(new);
        for (below, moved) in kept {
            self.keep(at, &place, below, moved)?;
        }
        Ok(())
    }

    /// Moves a mount that the new tmpfs at `at` covers onto it; `covered` is the directory below.
    fn keep(&mut self, at: &InnerPath, covered: &OwnedFd, below: PathBuf, moved: OwnedFd) -> Result<(), SysError> {
        let target = at.join(&below);
        self.made_parent(&target)?;
        if fs::kind(&fs::stat(&moved)?) == FileType::Directory {
            self.directory(&target, 0o755)?;
        } else {
            self.empty_file(&target)?;
        }
        mount::put(&moved, self.root.place(&target)?)?;
        self.undo.move_back(moved, covered, below)
    }

    /// The directory that holds a path, and the path's name in it; makes what is missing above.
    fn made_parent(&mut self, at: &InnerPath) -> Result<(OwnedFd, OsString), SysError> {
        match self.root.parent(at) {
            Err(error) if error.errno() == Errno::NOENT => {}
            result => return result,
        }
        let mut above: Vec<_> = std::iter::successors(at.parent(), InnerPath::parent).collect();
        // The last is `/`, which is there.
        above.pop();
        above.iter().rev().try_for_each(|directory| self.directory(directory, 0o755))?;
        self.root.parent(at)
    }

    fn directory(&mut self, at: &InnerPath, mode: u32) -> Result<(), SysError> {
        let (parent, name) = self.root.parent(at)?;
        match fs::mkdir_at(parent.as_fd(), &name, mode) {
            Ok(()) => self.made(parent, &name, FileType::Directory),
            Err(error) if error.errno() == Errno::EXIST => {
                fs::open_at(parent.as_fd(), &name, OFlags::PATH | OFlags::DIRECTORY).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    fn empty_file(&mut self, at: &InnerPath) -> Result<(), SysError> {
        let (parent, name) = self.root.parent(at)?;
        match fs::create_at(parent.as_fd(), &name, 0o444) {
            Ok(_) => self.made(parent, &name, FileType::RegularFile),
            Err(error) if error.errno() == Errno::EXIST => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write_file(&mut self, at: &InnerPath, mode: u32, content: &str) -> Result<(), SysError> {
        let (parent, name) = self.cleared(at)?;
        let mut file = fs::create_at(parent.as_fd(), &name, mode)?;
        fs::write(&mut file, content)?;
        self.made(parent, &name, FileType::RegularFile)
    }

    fn symlink(&mut self, at: &InnerPath, target: &str) -> Result<(), SysError> {
        let (parent, name) = self.cleared(at)?;
        fs::symlink_at(OsStr::new(target), parent.as_fd(), &name)?;
        self.made(parent, &name, FileType::Symlink)
    }

    fn node(&mut self, at: &InnerPath, node: Node) -> Result<(), SysError> {
        let kind = match node {
            Node::Dir => return self.directory(at, 0),
            Node::Reg => FileType::RegularFile,
            Node::Fifo => FileType::Fifo,
            Node::Sock => FileType::Socket,
            Node::Chr => FileType::CharacterDevice,
            Node::Blk => FileType::BlockDevice,
        };
        let (parent, name) = self.made_parent(at)?;
        match fs::mknod_at(parent.as_fd(), &name, kind, 0, 0) {
            Ok(()) => self.made(parent, &name, kind),
            Err(error) if error.errno() == Errno::EXIST => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn mount_point(&mut self, at: &InnerPath, node: Node) -> Result<(), StepCause> {
        self.record.note(self.root, at, node)?;
        self.undo.take_back(self.record);
        match node {
            Node::Dir => self.directory(at, 0o755)?,
            Node::Reg | Node::Fifo | Node::Sock | Node::Chr | Node::Blk => self.empty_file(at)?,
        }
        Ok(())
    }

    /// A file can't be mounted from a tmpfs that is mounted nowhere (not before Linux 6.15), so that
    /// tmpfs is mounted for a moment over the directory of the file that is to be covered.
    fn mount_file(&mut self, at: &InnerPath, content: &str) -> Result<(), SysError> {
        let (parent, name) = self.root.parent(at)?;
        let place = self.root.place(at)?;
        if fs::kind(&fs::stat(&place)?) != FileType::RegularFile {
            return Err(SysError::new(format!("{at} is not a regular file"), Errno::INVAL));
        }
        let options = [("mode", "755".to_owned()), ("size", "64k".to_owned()), ("nr_inodes", "2".to_owned())];
        let holder = mount::new_tmpfs(&options)?;
        let mut file = fs::create_at(holder.as_fd(), &name, 0o444)?;
        fs::write(&mut file, content)?;
        self.give(holder.as_fd(), &name)?;
        mount::put(&holder, &parent)?;
        let copy = fs::open_at(holder.as_fd(), &name, OFlags::PATH).and_then(mount::copy_of);
        mount::take_away(holder.as_fd())?;
        self.put(copy?, &place, Access::ReadOnly)
    }

    /// The directory and name of a path at which nothing is left.
    fn cleared(&mut self, at: &InnerPath) -> Result<(OwnedFd, OsString), SysError> {
        let (parent, name) = self.made_parent(at)?;
        match fs::unlink_at(parent.as_fd(), &name, FileType::RegularFile) {
            Err(error) if error.errno() != Errno::NOENT => Err(error),
            _ => Ok((parent, name)),
        }
    }

    /// Gives what was made to its owner, and notes how to undo it.
    fn made(&mut self, directory: OwnedFd, name: &OsStr, kind: FileType) -> Result<(), SysError> {
        let result = self.give(directory.as_fd(), name);
        self.undo.remove(directory, name.to_owned(), kind);
        result
    }

    fn give(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), SysError> {
        match self.owner {
            Some(Owner { uid, gid }) => fs::chown_at(directory, name, uid, gid),
            None => Ok(()),
        }
    }
}
