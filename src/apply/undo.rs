// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Undoes what was done so far, in reverse order. A mount that was made a slave remains one: it can't rejoin its old
//! peer group, and its mount namespace disappears with the container that isn't created.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::StepCause;
use crate::kernel::selinux::Label;
use crate::record::Record;
use crate::sys::{SysError, cgroup, fs, mount, selinux};

#[derive(Debug)]
enum Reversal {
    Unmount(Rc<OwnedFd>),
    /// Moves a mount back to where it was, below a directory that a tmpfs covers.
    MoveBack {
        moved: Rc<OwnedFd>,
        covered: OwnedFd,
        below: PathBuf,
    },
    Remove {
        directory: Rc<OwnedFd>,
        name: OsString,
        kind: FileType,
    },
    RestoreOwner {
        file: Rc<OwnedFd>,
        before: Stat,
    },
    RestoreLabel {
        file: Rc<OwnedFd>,
        before: Label,
    },
    /// Moves processes back. Some of them may have ended meanwhile.
    ReturnProcesses {
        cgroup: OwnedFd,
        processes: Vec<u32>,
    },
    DisableController {
        cgroup: Rc<OwnedFd>,
        name: String,
    },
    RestoreMaxDescendants {
        cgroup: OwnedFd,
        before: Option<u32>,
    },
    /// Reverts what this call wrote to the record.
    RevertRecord(Record),
}

/// The operations that undo what was done so far.
#[derive(Debug, Default)]
pub(super) struct Undo(Vec<Reversal>);

impl Undo {
    pub(super) fn unmount(&mut self, new: Rc<OwnedFd>) {
        self.0.push(Reversal::Unmount(new));
    }

    pub(super) fn move_back(&mut self, moved: Rc<OwnedFd>, covered: OwnedFd, below: PathBuf) {
        self.0.push(Reversal::MoveBack { moved, covered, below });
    }

    pub(super) fn remove(&mut self, directory: Rc<OwnedFd>, name: OsString, kind: FileType) {
        self.0.push(Reversal::Remove { directory, name, kind });
    }

    pub(super) fn restore_owner(&mut self, file: Rc<OwnedFd>, before: Stat) {
        self.0.push(Reversal::RestoreOwner { file, before });
    }

    pub(super) fn restore_label(&mut self, file: Rc<OwnedFd>, before: Option<Label>) {
        self.0.extend(before.map(|before| Reversal::RestoreLabel { file, before }));
    }

    pub(super) fn return_processes(&mut self, cgroup: OwnedFd, processes: Vec<u32>) {
        self.0.push(Reversal::ReturnProcesses { cgroup, processes });
    }

    pub(super) fn disable_controller(&mut self, cgroup: Rc<OwnedFd>, name: String) {
        self.0.push(Reversal::DisableController { cgroup, name });
    }

    pub(super) fn restore_max_descendants(&mut self, cgroup: OwnedFd, before: Option<u32>) {
        self.0.push(Reversal::RestoreMaxDescendants { cgroup, before });
    }

    pub(super) fn take_back(&mut self, record: &Record) {
        self.0.push(Reversal::RevertRecord(record.clone()));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Undoes all but the first `length` operations. Continues after an error, and returns all errors.
    pub(super) fn back_to(&mut self, length: usize) -> Vec<StepCause> {
        self.0.split_off(length).into_iter().rev().flat_map(Reversal::undo).collect()
    }
}

impl Reversal {
    fn undo(self) -> Vec<StepCause> {
        let result = match self {
            Self::Unmount(new) => mount::take_away(new.as_fd()),
            Self::MoveBack { moved, covered, below } => {
                place_below(covered, &below).and_then(|place| mount::put(moved, place))
            }
            Self::Remove { directory, name, kind } => match fs::unlink_at(directory.as_fd(), &name, kind) {
                // The mount points of kept mounts disappear with their tmpfs.
                Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::BUSY)) => Ok(()),
                result => result,
            },
            Self::RestoreOwner { file, before } => {
                fs::chown_at(file.as_fd(), OsStr::new(""), before.st_uid, before.st_gid)
            }
            Self::RestoreLabel { file, before } => selinux::set_label(file, &before.text),
            Self::ReturnProcesses { cgroup, processes } => {
                let moved = processes.into_iter().map(|pid| cgroup::enter(cgroup.as_fd(), pid));
                moved.filter(|result| !matches!(result, Err(error) if error.errno() == Some(Errno::SRCH))).collect()
            }
            Self::DisableController { cgroup, name } => {
                cgroup::set_controller(cgroup.as_fd(), &name, cgroup::ControllerState::Disabled)
            }
            Self::RestoreMaxDescendants { cgroup, before } => cgroup::set_max_descendants(cgroup.as_fd(), before),
            Self::RevertRecord(record) => return record.take_back().into_iter().map(StepCause::from).collect(),
        };
        result.err().map(StepCause::from).into_iter().collect()
    }
}

/// Opens a path below a directory that a tmpfs covers. It has no symbolic link in it, since a mount was found there.
fn place_below(covered: OwnedFd, below: &Path) -> Result<OwnedFd, SysError> {
    below.iter().try_fold(covered, |directory, name| fs::open_at(directory.as_fd(), name, OFlags::PATH))
}
