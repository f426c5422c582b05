// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps that create files, directories and nodes, always by a directory's file descriptor and a name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::places::Own;
use super::{Interpreter, StepCause};
use crate::facts::Owner;
use crate::path::InnerPath;
use crate::plan::Node;
use crate::sys::{SysError, birth, cgroup, fs, process, selinux};

impl Interpreter<'_> {
    /// Opens the parent directory of a path, creates it if it is missing, and returns it with the path's name in it.
    fn parent(&mut self, at: &InnerPath) -> Result<(Own, OsString), StepCause> {
        let (parent, name) = at.split().ok_or_else(|| StepCause::Unidentified(at.clone()))?;
        Ok((self.directories(&parent)?, name.to_owned()))
    }

    /// Opens a directory. Creates it and the directories above it if they are missing.
    fn directories(&mut self, at: &InnerPath) -> Result<Own, StepCause> {
        let (mut there, mut directory) = self.nearest(at)?;
        let missing = at.below(&there).unwrap_or(Path::new("")).to_owned();
        for name in &missing {
            there = there.join(name);
            directory = self.make_directory(there.clone(), &directory, name, 0o755)?;
        }
        Ok(directory)
    }

    pub(super) fn directory(&mut self, at: &InnerPath, mode: u32) -> Result<(), StepCause> {
        let (parent, name) = self.parent(at)?;
        self.make_directory(at.clone(), &parent, &name, mode).map(drop)
    }

    /// Opens a directory. Creates it if it is missing.
    fn make_directory(&mut self, at: InnerPath, parent: &Own, name: &OsStr, mode: u32) -> Result<Own, StepCause> {
        let own = match self.create(|| fs::mkdir_at(parent.file().as_fd(), name, mode)) {
            Ok(()) => {
                let given = parent.next(&at, name).and_then(|made| self.give_new(&at, made));
                self.undo.remove(Rc::clone(parent.file()), name.to_owned(), FileType::Directory);
                given?
            }
            Err(error) if error.errno() == Some(Errno::EXIST) => parent.next(&at, name)?,
            Err(error) => return Err(error.into()),
        };
        self.has(at, own.clone());
        Ok(own)
    }

    /// Sets a new directory's owner and label to the container's. The directory is on the mount on which it was
    /// created, but a process that may rename files in the image's root may have exchanged it for another directory
    /// of the image. Such a directory has another owner, or isn't empty.
    fn give_new(&self, at: &InnerPath, made: Own) -> Result<Own, StepCause> {
        if let Some(Owner { uid, gid }) = self.owner {
            let status = fs::stat(made.file())?;
            let makers = [rustix::process::geteuid().as_raw(), uid];
            let directory = fs::open_at(made.file().as_fd(), ".", OFlags::RDONLY | OFlags::DIRECTORY)?;
            if !makers.contains(&status.st_uid) || !fs::is_empty_dir(directory.as_fd())? {
                return Err(StepCause::Changed(at.clone()));
            }
            fs::chown_at(made.file().as_fd(), OsStr::new(""), uid, gid)?;
        }
        self.labels.give(made.file());
        Ok(made)
    }

    /// Creates an empty file, unless one exists.
    pub(super) fn empty_file(&mut self, at: &InnerPath) -> Result<(), StepCause> {
        let (parent, name) = self.parent(at)?;
        let file = match self.create(|| fs::create_at(parent.file().as_fd(), &name, 0o444)) {
            Ok(file) => {
                let result = self.give_open(&file);
                self.undo.remove(Rc::clone(parent.file()), name.clone(), FileType::RegularFile);
                result?;
                OwnedFd::from(file)
            }
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                fs::open_at(parent.file().as_fd(), &name, OFlags::PATH)?
            }
            Err(error) => return Err(error.into()),
        };
        let own = parent.child(at, file)?;
        self.has(at.clone(), own);
        Ok(())
    }

    pub(super) fn write_file(&mut self, at: &InnerPath, mode: u32, content: &str) -> Result<(), StepCause> {
        let (parent, name) = self.parent(at)?;
        let create = || self.create(|| fs::create_at(parent.file().as_fd(), &name, mode));
        let mut file = in_place(parent.file().as_fd(), &name, create)?;
        self.undo.remove(Rc::clone(parent.file()), name, FileType::RegularFile);
        self.give_open(&file)?;
        Ok(fs::write(&mut file, content)?)
    }

    pub(super) fn symlink(&mut self, at: &InnerPath, target: &str) -> Result<(), StepCause> {
        let (parent, name) = self.parent(at)?;
        let create = || self.create(|| fs::symlink_at(OsStr::new(target), parent.file().as_fd(), &name));
        in_place(parent.file().as_fd(), &name, create)?;
        Ok(self.made(Rc::clone(parent.file()), &name, FileType::Symlink)?)
    }

    pub(super) fn node(&mut self, at: &InnerPath, node: Node) -> Result<(), StepCause> {
        let kind = match node {
            Node::Dir => return self.directory(at, 0),
            Node::Reg => FileType::RegularFile,
            Node::Fifo => FileType::Fifo,
            Node::Sock => FileType::Socket,
            Node::Chr => FileType::CharacterDevice,
            Node::Blk => FileType::BlockDevice,
        };
        let (parent, name) = self.parent(at)?;
        match self.create(|| fs::mknod_at(parent.file().as_fd(), &name, kind, 0, 0)) {
            Ok(()) => Ok(self.made(Rc::clone(parent.file()), &name, kind)?),
            Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Must be called before the first entry in the record. If a later step fails, all entries that are written from
    /// here on are undone, including one that could be written only in part.
    pub(super) fn note(&mut self) {
        if !self.has_noted {
            self.undo.take_back(self.record);
            self.has_noted = true;
        }
    }

    pub(super) fn mount_point(&mut self, at: &InnerPath, node: Node) -> Result<(), StepCause> {
        /// Between two system calls, another container with the same root may create the mount point, or that
        /// container's poststop may remove it.
        const TRIES_MAX: u32 = 100;
        for _ in 0..TRIES_MAX {
            if self.lasting(at, node == Node::Dir)? {
                return Ok(());
            }
        }
        Err(StepCause::Changed(at.clone()))
    }

    /// Creates an empty file or directory that outlives the container, and the missing directories above it. All of
    /// them are created under a temporary name that only the record has, and then renamed: if the hook is killed,
    /// what it created can't be confused with somebody else's file. Returns whether the file exists now. It doesn't
    /// if another process was quicker to create something in its place.
    fn lasting(&mut self, at: &InnerPath, is_directory: bool) -> Result<bool, StepCause> {
        /// Each missing directory takes a file descriptor, also when it is removed.
        const MISSING_MAX: usize = 64;
        let (mut there, base, missing) = self.missing(at)?;
        let Some((top, below)) = missing.split_first() else { return Ok(true) };
        if missing.len() > MISSING_MAX {
            let found = format!(
                "{} components of the path {at} are missing, and at most {MISSING_MAX} are created",
                missing.len()
            );
            return Err(SysError::TooMuch(found).into());
        }
        self.note();
        let temporary = OsString::from(self.record.note_making(self.root, at, is_directory, below.len())?);
        let mut births = Vec::with_capacity(missing.len());
        let mut made: Vec<(InnerPath, Own)> = Vec::with_capacity(missing.len());
        for (number, name) in missing.iter().enumerate() {
            let directory = made.last().map_or(&base, |(_, directory)| directory);
            let name = if number == 0 { temporary.as_os_str() } else { name };
            there = there.join(missing.get(number).map_or(name, OsString::as_os_str));
            let next = if number == below.len() && !is_directory {
                let file = self.create(|| fs::create_at(directory.file().as_fd(), name, 0o444))?;
                self.give_open(&file)?;
                directory.child(&there, OwnedFd::from(file))?
            } else {
                self.create(|| fs::mkdir_at(directory.file().as_fd(), name, 0o755))?;
                directory.next(&there, name).and_then(|next| self.give_new(&there, next))?
            };
            births.push(birth::of(next.file())?);
            made.push((there.clone(), next));
        }
        self.record.note_made(births)?;
        if !fs::rename_new_at(base.file().as_fd(), &temporary, top)? {
            return Ok(false);
        }
        for (at, own) in made {
            self.has(at, own);
        }
        self.leave_to_poststop()?;
        Ok(true)
    }

    /// Returns the deepest existing directory above a path, and the names that are missing below it. Remembers
    /// directories that another container with the same root has created since the plan was made.
    fn missing(&mut self, at: &InnerPath) -> Result<(InnerPath, Own, Vec<OsString>), StepCause> {
        let parent = at.parent().ok_or_else(|| StepCause::Unidentified(at.clone()))?;
        let (mut there, mut directory) = self.nearest(&parent)?;
        let names: Vec<OsString> = at.below(&there).into_iter().flatten().map(OsStr::to_owned).collect();
        for (number, name) in names.iter().enumerate() {
            let next = match fs::open_at(directory.file().as_fd(), name, OFlags::PATH) {
                Err(error) if error.errno() == Some(Errno::NOENT) => {
                    return Ok((there, directory, names.into_iter().skip(number).collect()));
                }
                result => result?,
            };
            there = there.join(name);
            directory = directory.child(&there, next)?;
            self.has(there.clone(), directory.clone());
        }
        Ok((there, directory, Vec::new()))
    }

    /// Must be called after something was created that poststop has to remove. An engine also calls poststop if its
    /// runtime was killed, and this process may still be running then. But if neither the runtime nor the container's
    /// first process has ended by now, poststop comes later and finds the entries in the record.
    pub(super) fn leave_to_poststop(&self) -> Result<(), StepCause> {
        if (self.poststop_is_pending)()? { Ok(()) } else { Err(StepCause::PoststopMayHaveRun) }
    }

    /// Creates a file. On a file system that was mounted in the container's user namespace, only IDs of that
    /// namespace can create files; other IDs get EOVERFLOW.
    fn create<T>(&self, make: impl Fn() -> Result<T, SysError>) -> Result<T, SysError> {
        match (make(), self.owner) {
            (Err(error), Some(Owner { uid, gid })) if error.errno() == Some(Errno::OVERFLOW) => {
                process::as_file_owner(uid, gid, make)
            }
            (result, _) => result,
        }
    }

    /// Registers how to undo the creation of a file, and sets its owner and label to the container's.
    fn made(&mut self, directory: Rc<OwnedFd>, name: &OsStr, kind: FileType) -> Result<(), SysError> {
        let result = self.give(directory.as_fd(), name);
        self.undo.remove(directory, name.to_owned(), kind);
        result
    }

    /// Sets the owner and the label of a file to the container's.
    pub(super) fn give(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), SysError> {
        if let Some(Owner { uid, gid }) = self.owner {
            fs::chown_at(directory, name, uid, gid)?;
        }
        self.labels.give_at(directory, name);
        Ok(())
    }

    /// Like `give`, but for an open file: in the image's root another process may have replaced the file.
    fn give_open(&self, file: impl AsFd) -> Result<(), SysError> {
        if let Some(Owner { uid, gid }) = self.owner {
            fs::chown_at(file.as_fd(), OsStr::new(""), uid, gid)?;
        }
        self.labels.give(file);
        Ok(())
    }

    /// Sets the owner and label of a cgroup's directory and files. A cgroup created below it later belongs to the
    /// process that creates it, and gets its label from this cgroup.
    pub(super) fn delegate(
        &mut self,
        at: &InnerPath,
        files: &[String],
        owner: Option<Owner>,
        label: Option<&str>,
    ) -> Result<(), StepCause> {
        let directory = self.directory_at(at)?;
        cgroup::check_is_cgroup(&directory)?;
        for name in files {
            match cgroup::open_in(directory.as_fd(), name, OFlags::PATH) {
                Ok(file) => self.hand_over(Rc::new(file), owner, label)?,
                // Each hierarchy has only some of these files.
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.hand_over(directory, owner, label)?)
    }

    fn hand_over(&mut self, file: Rc<OwnedFd>, owner: Option<Owner>, label: Option<&str>) -> Result<(), SysError> {
        if let Some(Owner { uid, gid }) = owner {
            let before = fs::stat(&file)?;
            fs::chown_at(file.as_fd(), OsStr::new(""), uid, gid)?;
            self.undo.restore_owner(Rc::clone(&file), before);
        }
        if let Some(label) = label {
            let before = selinux::label_of(&file);
            selinux::set_label(&file, label)?;
            self.undo.restore_label(file, before);
        }
        Ok(())
    }
}

/// Creates something, in place of the file or symbolic link that may exist.
fn in_place<T>(directory: BorrowedFd<'_>, name: &OsStr, make: impl Fn() -> Result<T, SysError>) -> Result<T, SysError> {
    match make() {
        Err(error) if error.errno() == Some(Errno::EXIST) => {
            fs::unlink_at(directory, name, FileType::RegularFile)?;
            make()
        }
        result => result,
    }
}
