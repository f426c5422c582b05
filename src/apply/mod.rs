// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The interpreter of a plan. It has no access to the facts, so it can't do anything that isn't in the plan.
//!
//! Either all required steps succeed, or everything that was done is undone in reverse order.

mod cgroups;
mod copy_bounds;
mod copy_up;
mod copying;
mod inodes;
mod labels;
mod mounts;
mod places;
mod undo;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use crate::facts::Owner;
use crate::kernel::cgroup::Hierarchy;
use crate::path::{CgroupPath, InnerPath};
use crate::plan::{Action, Cgroup, Need, Place, Plan, Step};
use crate::record::{Record, RecordError};
use crate::root::Root;
use crate::sys::mount::Access;
use crate::sys::{SysError, cgroup, fs, mount};
pub use copy_bounds::Bound;
use copy_bounds::BoundOf;
use copying::CopyBudget;
use labels::Labels;
use places::Own;
use undo::Undo;

#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct StepError {
    step: String,
    source: StepCause,
}

impl StepError {
    fn labeling_failed(action: &Action, source: SysError) -> Self {
        Self { step: format!("label everything that '{}' created", action.brief()), source: source.into() }
    }

    fn undo_failed(source: StepCause) -> Self {
        Self { step: "undo a step that failed".to_owned(), source }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepCause {
    /// A system call or a check failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A system call or a check failed for one of the files that are copied.
    #[error("at {path}")]
    Copying {
        /// The path of the file in the container.
        path: InnerPath,
        source: SysError,
    },
    /// The image has more content than may be copied.
    #[error(
        "at {path}{}: the image has more than {}, which is the limit for copies; remove what is not needed from the \
         image, or mount a volume on {top}{}",
        and(*others), BoundOf(*bound, top), raised_by(*option)
    )]
    TooMuch {
        /// The path in the container of the file that exceeds the limit.
        path: InnerPath,
        /// The number of other files that don't fit.
        others: u32,
        bound: Bound,
        /// The directory whose content is copied.
        top: InnerPath,
        /// The annotation that can raise the bound.
        option: Option<&'static str>,
    },
    /// The copied content takes more space than was calculated.
    #[error(
        "at {path}{}: no space is left on the tmpfs; remove what is not needed there from the image{}",
        and(*others), raised_by(*option)
    )]
    Full {
        /// The path in the container of the file that exceeds the limit.
        path: InnerPath,
        /// The number of other files that don't fit.
        others: u32,
        /// The annotation that can make the tmpfs larger.
        option: Option<&'static str>,
        source: SysError,
    },
    /// A path no longer leads to the file that the plan names.
    #[error(
        "{0} changed while the container was being created; make sure that no other process renames or mounts anything \
         in the container's root"
    )]
    Changed(InnerPath),
    /// The plan has no identity for a file that a step acts on.
    #[error("the plan has no identity for {0}; please report this bug")]
    Unidentified(InnerPath),
    /// A cgroup is no longer the one that was found when facts were gathered, or the one that a step created.
    #[error(
        "the cgroup {0} changed while the container was being created; make sure that no other process replaces it"
    )]
    ChangedCgroup(Cgroup),
    /// The record, which must be written before anything that outlives the container is created, couldn't be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The engine may already have called poststop.
    #[error("poststop might not undo it: the runtime, or the container's first process, has already ended")]
    PoststopMayHaveRun,
}

fn and(others: u32) -> String {
    if others > 0 { format!(" and {others} others") } else { String::new() }
}

fn raised_by(option: Option<&str>) -> String {
    option.map(|key| format!(", or set the size with the annotation {key}")).unwrap_or_default()
}

/// The result of carrying out a plan.
#[derive(Debug)]
pub enum Outcome {
    /// The container is prepared; these best-effort steps failed.
    Prepared(Vec<StepError>),
    /// A required step failed, and everything was undone, except where undoing failed with these errors.
    Undone(StepError, Vec<StepCause>),
}

/// Carries out a plan. `first_process` is the PID of the container's first process, which a step may have to move.
/// `poststop_is_pending` reports whether the call at poststop is still to come.
#[must_use]
pub fn apply(
    root: &Root,
    plan: &Plan,
    record: &Record,
    first_process: Option<u32>,
    poststop_is_pending: &dyn Fn() -> Result<bool, SysError>,
) -> Outcome {
    let labels = Rc::new(Labels::new(plan.label.as_deref()));
    let mut run = Interpreter {
        root,
        record,
        first_process,
        poststop_is_pending,
        owner: plan.owner,
        labels,
        budget: CopyBudget::of(plan.copying.as_ref()),
        hierarchies: HashMap::new(),
        made_cgroups: HashMap::new(),
        has_noted: false,
        undo: Undo::default(),
        on: &[],
        own: BTreeMap::new(),
        kept: BTreeMap::new(),
    };
    let mut failed = Vec::new();
    for Step { action, on, need, .. } in &plan.steps {
        let (done_before, own_before, kept_before) = (run.undo.len(), run.own.clone(), run.kept.clone());
        run.on = on;
        let result = run.perform(action);
        failed.extend(run.labels.failure().map(|error| StepError::labeling_failed(action, error)));
        failed.extend(run.budget.warnings());
        if let Err(source) = result {
            let error = StepError { step: action.brief(), source };
            match need {
                Need::BestEffort => {
                    failed.push(error);
                    failed.extend(run.undo.back_to(done_before).into_iter().map(StepError::undo_failed));
                    // Some of the recorded files may be among what was undone.
                    (run.own, run.kept) = (own_before, kept_before);
                    run.has_noted = false;
                }
                Need::Required => {
                    // The part of undoing that poststop also does waits until a hierarchy that isn't used any more is
                    // gone. An open descriptor would keep the hierarchy.
                    run.hierarchies.clear();
                    return Outcome::Undone(error, run.undo.back_to(0));
                }
            }
        }
    }
    // The kernel closes all open files at once when the process ends.
    std::mem::forget(run.undo);
    Outcome::Prepared(failed)
}

struct Interpreter<'a> {
    root: &'a Root,
    record: &'a Record,
    first_process: Option<u32>,
    poststop_is_pending: &'a dyn Fn() -> Result<bool, SysError>,
    owner: Option<Owner>,
    labels: Rc<Labels<'a>>,
    budget: CopyBudget<'a>,
    /// The hierarchies that were opened so far.
    hierarchies: HashMap<Hierarchy, Rc<OwnedFd>>,
    /// The device and inode number of each cgroup that a step created.
    made_cgroups: HashMap<(Hierarchy, CgroupPath), (u64, u64)>,
    has_noted: bool,
    undo: Undo,
    /// The identities of the files that the current step acts on.
    on: &'a [Place],
    /// The mounts and directories that this call created. A path below one of them can't be
    /// redirected to another mount.
    own: BTreeMap<InnerPath, Own>,
    /// The container's mounts that a step moved onto a new tmpfs.
    kept: BTreeMap<InnerPath, Rc<OwnedFd>>,
}

impl Interpreter<'_> {
    fn perform(&mut self, action: &Action) -> Result<(), StepCause> {
        match action {
            Action::MakeSlave { at } => mount::make_slave(self.place(at)?.as_fd())?,
            Action::MakeShared { at } => mount::make_shared(self.place(at)?.as_fd())?,
            Action::Tmpfs { at, mode, size_bytes, inodes, context, content, keep } => {
                let mut options = vec![("mode", format!("{mode:o}")), ("size", size_bytes.to_string())];
                options.extend(inodes.map(|inodes| ("nr_inodes", inodes.to_string())));
                self.tmpfs(at, options, context.as_deref(), *content, keep)?;
            }
            Action::Directory { at, mode } => self.directory(at, *mode)?,
            Action::WriteFile { at, mode, content } => self.write_file(at, *mode, content)?,
            Action::Symlink { at, target } => self.symlink(at, target)?,
            Action::Inaccessible { at, nodes } => {
                nodes.iter().try_for_each(|node| self.node(&at.join(node.name()), *node))?;
            }
            Action::MountPoint { at, node } => self.mount_point(at, *node)?,
            Action::MountFile { at, content, context } => self.mount_file(at, content, context.as_deref())?,
            Action::MakeWritable { at } => {
                let place = self.directory_at(at)?;
                cgroup::check_is_cgroup(&place)?;
                let own = mount::copy_of(&place)?;
                self.put(own, at, &place, Access::ReadWrite)?;
            }
            Action::Delegate { at, files, owner, label } => self.delegate(at, files, *owner, label.as_deref())?,
            Action::MakeReadOnly { at } => mount::set_access(self.place(at)?.as_fd(), Access::ReadOnly)?,
            Action::MakeCgroup { cgroup, above_inode, until } => self.make_cgroup(cgroup, *above_inode, *until)?,
            Action::EnterCgroup { cgroup, from, processes } => self.enter_cgroup(cgroup, from, *processes)?,
            Action::EnableControllers { cgroup } => self.enable_controllers(cgroup)?,
            Action::LimitCgroups { cgroup, most, writer: _ } => self.limit_cgroups(cgroup, *most)?,
            Action::ShowCgroup { cgroup, at } => self.show_cgroup(cgroup, at)?,
            Action::BindHost { from, at } => {
                let place = self.directory_at(at)?;
                let from = fs::open_host_directory(from)?;
                cgroup::check_is_cgroup(&from)?;
                self.put(mount::copy_of(from)?, at, &place, Access::ReadOnly)?;
            }
        }
        Ok(())
    }
}
