// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps that make files, directories and nodes, always by a directory's descriptor and a name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::{Run, StepCause};
use crate::facts::Owner;
use crate::path::InnerPath;
use crate::plan::Node;
use crate::sys::{SysError, birth, cgroup, fs, process, selinux};

impl Run<'_> {
    /// The directory that holds a path, and the path's name in it; makes what is missing above.
    fn parent(&mut self, at: &InnerPath) -> Result<(Rc<OwnedFd>, OsString), SysError> {
        let (Some(parent), Some(name)) = (at.parent(), at.as_path().file_name()) else {
            return Err(SysError::new(format!("the parent of {at}"), Errno::INVAL));
        };
        if let Some((last, directory)) = &self.last_directory {
            if *last == parent {
                return Ok((Rc::clone(directory), name.to_owned()));
            }
        }
        let directory = self.directories(&parent)?;
        self.last_directory = Some((parent, Rc::clone(&directory)));
        Ok((directory, name.to_owned()))
    }

    /// Opens a directory, and makes it and those above it as far as they are missing.
    fn directories(&mut self, at: &InnerPath) -> Result<Rc<OwnedFd>, SysError> {
        let mut missing = Vec::new();
        let mut there = at.clone();
        let mut directory = loop {
            match (self.root.open_directory(&there), there.parent()) {
                (Err(error), Some(above)) if error.errno() == Errno::NOENT => {
                    missing.push(std::mem::replace(&mut there, above));
                }
                (result, _) => break Rc::new(result?),
            }
        };
        for name in missing.iter().rev().filter_map(|path| path.as_path().file_name()) {
            directory = Rc::new(self.make_directory(directory, name, 0o755)?);
        }
        Ok(directory)
    }

    pub(super) fn directory(&mut self, at: &InnerPath, mode: u32) -> Result<(), SysError> {
        let (parent, name) = self.parent(at)?;
        self.make_directory(parent, &name, mode).map(drop)
    }

    fn make_directory(&mut self, parent: Rc<OwnedFd>, name: &OsStr, mode: u32) -> Result<OwnedFd, SysError> {
        let made = self.create(|| fs::mkdir_at(parent.as_fd(), name, mode));
        let opened = fs::open_at(parent.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY);
        match made {
            Ok(()) => {
                let result = opened.and_then(|directory| self.give_new(name, directory));
                self.undo.remove(parent, name.to_owned(), FileType::Directory);
                result
            }
            Err(error) if error.errno() == Errno::EXIST => opened,
            Err(error) => Err(error),
        }
    }

    /// Gives a new directory to the container. Who may rename in the image's root can have put there what a volume is on.
    fn give_new(&self, name: &OsStr, directory: OwnedFd) -> Result<OwnedFd, SysError> {
        if fs::is_mount(&directory)? {
            return Err(SysError::new(format!("{name:?} changed while it was made"), Errno::XDEV));
        }
        self.give_open(&directory).map(|()| directory)
    }

    pub(super) fn empty_file(&mut self, at: &InnerPath) -> Result<(), SysError> {
        let (parent, name) = self.parent(at)?;
        match self.create(|| fs::create_at(parent.as_fd(), &name, 0o444)) {
            Ok(file) => {
                let result = self.give_open(file);
                self.undo.remove(parent, name, FileType::RegularFile);
                result
            }
            Err(error) if error.errno() == Errno::EXIST => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write_file(&mut self, at: &InnerPath, mode: u32, content: &str) -> Result<(), SysError> {
        let (parent, name) = self.parent(at)?;
        let create = || self.create(|| fs::create_at(parent.as_fd(), &name, mode));
        let mut file = in_place(parent.as_fd(), &name, create)?;
        self.made(parent, &name, FileType::RegularFile)?;
        fs::write(&mut file, content)
    }

    pub(super) fn symlink(&mut self, at: &InnerPath, target: &str) -> Result<(), SysError> {
        let (parent, name) = self.parent(at)?;
        let create = || self.create(|| fs::symlink_at(OsStr::new(target), parent.as_fd(), &name));
        in_place(parent.as_fd(), &name, create)?;
        self.made(parent, &name, FileType::Symlink)
    }

    pub(super) fn node(&mut self, at: &InnerPath, node: Node) -> Result<(), SysError> {
        let kind = match node {
            Node::Dir => return self.directory(at, 0),
            Node::Reg => FileType::RegularFile,
            Node::Fifo => FileType::Fifo,
            Node::Sock => FileType::Socket,
            Node::Chr => FileType::CharacterDevice,
            Node::Blk => FileType::BlockDevice,
        };
        let (parent, name) = self.parent(at)?;
        match self.create(|| fs::mknod_at(parent.as_fd(), &name, kind, 0, 0)) {
            Ok(()) => self.made(parent, &name, kind),
            Err(error) if error.errno() == Errno::EXIST => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Before the first note: what is noted from here on is taken back if a later step fails, also a record
    /// that can be written in part only.
    pub(super) fn note(&mut self) {
        if !self.has_noted {
            self.undo.take_back(self.record);
            self.has_noted = true;
        }
    }

    pub(super) fn mount_point(&mut self, at: &InnerPath, node: Node) -> Result<(), StepCause> {
        /// Another container on this root may make it, or its poststop remove it, between two calls.
        const TRIES_MAX: u32 = 100;
        for _ in 0..TRIES_MAX {
            match self.lasting(at, node == Node::Dir) {
                Err(StepCause::Sys(error)) if error.errno() == Errno::EXIST => {}
                result => return result,
            }
        }
        Err(SysError::new(format!("renameat2(\"{at}\")"), Errno::EXIST).into())
    }

    /// Makes an empty file or directory that outlives the container, with what is missing above it: as a whole under a name
    /// that only the record knows, so that a kill leaves nothing that could be taken for another's, or the other way round.
    fn lasting(&mut self, at: &InnerPath, is_directory: bool) -> Result<(), StepCause> {
        let (base, missing) = self.missing(at)?;
        let Some((top, below)) = missing.split_first() else { return Ok(()) };
        self.note();
        let temporary = OsString::from(self.record.note_making(self.root, at, is_directory, below.len())?);
        let mut births = Vec::with_capacity(missing.len());
        let mut directory = Rc::clone(&base);
        for (number, name) in std::iter::once(&temporary).chain(below).enumerate() {
            let is_last = number == below.len();
            let made = if is_last && !is_directory {
                OwnedFd::from(self.create(|| fs::create_at(directory.as_fd(), name, 0o444))?)
            } else {
                self.create(|| fs::mkdir_at(directory.as_fd(), name, 0o755))?;
                fs::open_at(directory.as_fd(), name, OFlags::PATH | OFlags::DIRECTORY)?
            };
            let made = self.give_new(name, made)?;
            births.push(birth::of(&made)?);
            directory = Rc::new(made);
        }
        self.record.note_made(births)?;
        fs::rename_new_at(base.as_fd(), &temporary, top)?;
        self.leave_to_poststop()
    }

    /// The directory below which a path is missing, and the names that are.
    fn missing(&self, at: &InnerPath) -> Result<(Rc<OwnedFd>, Vec<OsString>), SysError> {
        let mut names = Vec::new();
        let mut there = at.clone();
        loop {
            let (Some(above), Some(name)) = (there.parent(), there.as_path().file_name()) else {
                return Err(SysError::new(format!("the parent of {at}"), Errno::INVAL));
            };
            match self.root.open_directory(&above) {
                Err(error) if error.errno() == Errno::NOENT => names.push(name.to_owned()),
                result => {
                    let directory = result?;
                    match fs::stat_at(directory.as_fd(), name) {
                        Err(error) if error.errno() == Errno::NOENT => names.push(name.to_owned()),
                        result => drop(result?),
                    }
                    names.reverse();
                    return Ok((Rc::new(directory), names));
                }
            }
            there = above;
        }
    }

    /// After something lasting was made. An engine calls poststop when its runtime was killed, too, and this process may
    /// still be at work then; but if nobody has ended by now, poststop comes later, and finds what was noted.
    pub(super) fn leave_to_poststop(&self) -> Result<(), StepCause> {
        if (self.is_awaited)()? { Ok(()) } else { Err(StepCause::GivenUp) }
    }

    /// Makes something. On a file system that was mounted in the container's user namespace only its
    /// own ids can: others are EOVERFLOW there.
    fn create<T>(&self, make: impl Fn() -> Result<T, SysError>) -> Result<T, SysError> {
        match (make(), self.owner) {
            (Err(error), Some(Owner { uid, gid })) if error.errno() == Errno::OVERFLOW => {
                process::as_file_owner(uid, gid, make)
            }
            (result, _) => result,
        }
    }

    /// Notes how to undo what was made, and gives it to the container.
    fn made(&mut self, directory: Rc<OwnedFd>, name: &OsStr, kind: FileType) -> Result<(), SysError> {
        let result = self.give(directory.as_fd(), name);
        self.undo.remove(directory, name.to_owned(), kind);
        result
    }

    /// Gives a file to the container: its owner and its label.
    pub(super) fn give(&self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<(), SysError> {
        if let Some(Owner { uid, gid }) = self.owner {
            fs::chown_at(directory, name, uid, gid)?;
        }
        self.labels.give_at(directory, name);
        Ok(())
    }

    /// The same for an open file: in the image's root somebody may have put another in its place.
    fn give_open(&self, file: impl AsFd) -> Result<(), SysError> {
        if let Some(Owner { uid, gid }) = self.owner {
            fs::chown_at(file.as_fd(), OsStr::new(""), uid, gid)?;
        }
        self.labels.give(file);
        Ok(())
    }

    /// What is made in the cgroup later belongs to who makes it, and gets its label from the cgroup.
    pub(super) fn delegate(
        &mut self,
        at: &InnerPath,
        files: &[String],
        owner: Option<Owner>,
        label: Option<&str>,
    ) -> Result<(), SysError> {
        let directory = self.root.open_directory(at)?;
        cgroup::is_one(&directory)?;
        for name in files {
            match fs::open_at(directory.as_fd(), name, OFlags::PATH) {
                Ok(file) => self.hand_over(file, owner, label)?,
                // Each hierarchy has some of them.
                Err(error) if error.errno() == Errno::NOENT => {}
                Err(error) => return Err(error),
            }
        }
        self.hand_over(directory, owner, label)
    }

    fn hand_over(&mut self, file: OwnedFd, owner: Option<Owner>, label: Option<&str>) -> Result<(), SysError> {
        let file = Rc::new(file);
        if let Some(Owner { uid, gid }) = owner {
            let before = fs::stat(&file)?;
            fs::chown_at(file.as_fd(), OsStr::new(""), uid, gid)?;
            self.undo.own_again(Rc::clone(&file), before);
        }
        if let Some(label) = label {
            let before = selinux::label_of(&file);
            selinux::set_label(&file, label)?;
            self.undo.label_again(file, before);
        }
        Ok(())
    }
}

/// Makes something in place of the file or link that may be there.
fn in_place<T>(directory: BorrowedFd<'_>, name: &OsStr, make: impl Fn() -> Result<T, SysError>) -> Result<T, SysError> {
    match make() {
        Err(error) if error.errno() == Errno::EXIST => {
            fs::unlink_at(directory, name, FileType::RegularFile)?;
            make()
        }
        result => result,
    }
}
