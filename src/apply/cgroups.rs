// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps that create cgroups, move processes to them and show them in the container.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::mounts::copy_below;
use super::{Interpreter, StepCause};
use crate::kernel::cgroup::Hierarchy;
use crate::path::InnerPath;
use crate::plan::{Cgroup, Lifetime, Processes};
use crate::sys::cgroup::{self, ControllerState, RemovalBudget};
use crate::sys::mount::{self, Access};
use crate::sys::{SysError, fs};

impl Interpreter<'_> {
    fn hierarchy(&mut self, hierarchy: Hierarchy) -> Result<Rc<OwnedFd>, SysError> {
        if let Some(top) = self.hierarchies.get(&hierarchy) {
            return Ok(Rc::clone(top));
        }
        let top = Rc::new(cgroup::open(hierarchy)?);
        self.hierarchies.insert(hierarchy, Rc::clone(&top));
        Ok(top)
    }

    fn cgroup(&mut self, cgroup: &Cgroup) -> Result<OwnedFd, StepCause> {
        let top = self.hierarchy(cgroup.hierarchy)?;
        self.cgroup_below(top.as_fd(), cgroup)
    }

    /// Opens a cgroup by its path, and checks that it is still the one that the plan names or that
    /// an earlier step created.
    fn cgroup_below(&self, top: BorrowedFd<'_>, cgroup: &Cgroup) -> Result<OwnedFd, StepCause> {
        let directory = cgroup::directory(top, &cgroup.path)?;
        let made = || self.made_cgroups.get(&(cgroup.hierarchy, cgroup.path.clone())).map(|(_, inode)| *inode);
        match cgroup.inode.or_else(made) {
            Some(inode) if fs::stat(&directory)?.st_ino != inode => Err(StepCause::ChangedCgroup(cgroup.clone())),
            Some(_) | None => Ok(directory),
        }
    }

    /// Opens the parent of a cgroup, and returns it with the cgroup's name in it.
    fn above<'c>(&mut self, cgroup: &'c Cgroup, inode: Option<u64>) -> Result<(OwnedFd, &'c OsStr), StepCause> {
        let is_root = || SysError::Finding(format!("the root of {} has no parent cgroup", cgroup.hierarchy));
        let (path, name) = cgroup.path.split().ok_or_else(is_root)?;
        Ok((self.cgroup(&Cgroup { hierarchy: cgroup.hierarchy, path, inode })?, name))
    }

    pub(super) fn make_cgroup(
        &mut self,
        cgroup: &Cgroup,
        above_inode: Option<u64>,
        until: Lifetime,
    ) -> Result<(), StepCause> {
        // This comes first: if the hierarchy doesn't exist, there must be no record of a cgroup to remove.
        let (above, name) = self.above(cgroup, above_inode)?;
        if until == Lifetime::PostStop {
            self.note();
            self.record.note_cgroup(cgroup, None)?;
        }
        let make = || fs::mkdir_at(above.as_fd(), name, 0o755);
        match make() {
            // The cgroup may be left over from an earlier container with this name. A cgroup with processes
            // in it is kept.
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                cgroup::remove_unused(above.as_fd(), name, &RemovalBudget::FULL)?;
                make()?;
            }
            result => result?,
        }
        let above = Rc::new(above);
        self.undo.remove(Rc::clone(&above), name.to_owned(), FileType::Directory);
        let made = fs::stat_at(above.as_fd(), name)?;
        self.made_cgroups.insert((cgroup.hierarchy, cgroup.path.clone()), (made.st_dev, made.st_ino));
        if until == Lifetime::PostStop {
            self.record.note_cgroup(cgroup, Some(made.st_ino))?;
            self.leave_to_poststop()?;
        }
        Ok(())
    }

    pub(super) fn enter_cgroup(&mut self, to: &Cgroup, from: &Cgroup, processes: Processes) -> Result<(), StepCause> {
        let (to, from) = (self.cgroup(to)?, self.cgroup(from)?);
        match processes {
            Processes::First => {
                let no_pid = || SysError::Finding("the state has no pid of the container's first process".to_owned());
                let pid = self.first_process.ok_or_else(no_pid)?;
                cgroup::enter(to.as_fd(), pid)?;
                self.undo.return_processes(from, vec![pid]);
            }
            Processes::All => {
                let mut moved = Vec::new();
                let result = empty(&from, &to, &mut moved);
                self.undo.return_processes(from, moved);
                result?;
            }
        }
        Ok(())
    }

    pub(super) fn enable_controllers(&mut self, cgroup: &Cgroup) -> Result<(), StepCause> {
        let directory = Rc::new(self.cgroup(cgroup)?);
        for name in cgroup::controllers(directory.as_fd())? {
            cgroup::set_controller(directory.as_fd(), &name, ControllerState::Enabled)?;
            self.undo.disable_controller(Rc::clone(&directory), name);
        }
        Ok(())
    }

    pub(super) fn limit_cgroups(&mut self, cgroup: &Cgroup, most: u32) -> Result<(), StepCause> {
        let directory = self.cgroup(cgroup)?;
        let before = cgroup::max_descendants(directory.as_fd())?;
        // A lower limit was set by somebody else, and is kept.
        if before.is_none_or(|before| before > most) {
            cgroup::set_max_descendants(directory.as_fd(), Some(most))?;
            self.undo.restore_max_descendants(directory, before);
        }
        Ok(())
    }

    pub(super) fn show_cgroup(&mut self, cgroup: &Cgroup, at: &InnerPath) -> Result<(), StepCause> {
        let place = self.directory_at(at)?;
        let copy = match mount::copy_of(self.cgroup(cgroup)?) {
            // Before Linux 6.15 only what is mounted in this namespace can be copied. The cached mount of the hierarchy
            // can't be used for that, because a detached mount can be attached only once.
            Err(error) if error.errno() == Some(Errno::INVAL) => {
                let top = cgroup::open(cgroup.hierarchy)?;
                let shown = self.cgroup_below(top.as_fd(), cgroup)?;
                copy_below(&top, &shown, || Ok(Rc::clone(&place)))?
            }
            result => result?,
        };
        Ok(self.put(copy, at, &place, Access::ReadOnly)?)
    }
}

/// Moves all processes, including those that they start meanwhile.
fn empty(from: &OwnedFd, to: &OwnedFd, moved: &mut Vec<u32>) -> Result<(), SysError> {
    /// Before the container starts, its cgroup has few processes, and none that keeps starting others.
    const ROUNDS_MAX: u32 = 100;
    for _ in 0..ROUNDS_MAX {
        let found = cgroup::processes(from.as_fd())?;
        if found.is_empty() {
            return Ok(());
        }
        for pid in found {
            move_if_there(to, pid)?;
            moved.push(pid);
        }
    }
    Err(SysError::Finding(format!(
        "processes are still in the cgroup, although all of them were moved {ROUNDS_MAX} times"
    )))
}

fn move_if_there(cgroup: &OwnedFd, pid: u32) -> Result<(), SysError> {
    match cgroup::enter(cgroup.as_fd(), pid) {
        Err(error) if error.errno() == Some(Errno::SRCH) => Ok(()),
        result => result,
    }
}
