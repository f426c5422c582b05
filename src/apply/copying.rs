// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Copies an image's content so that it is charged to the container, within the container's memory. This module
//! doesn't deal with individual files.
//!
//! The kernel charges a page of a tmpfs, for as long as it exists, to the cgroup of the process that wrote it. At
//! createRuntime that is the engine's cgroup. So a child of this process enters the container's memory cgroup,
//! copies, and exits. The child never has to move back, which may be forbidden; and if the container runs out of
//! memory nevertheless, the kernel kills the child rather than the hook or the container's first process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::copy_bounds::{Allowance, Bound, CopyLimit, Failed};
use super::copy_up::{Copied, SkippedFile, copy};
use super::labels::Labels;
use super::{Interpreter, StepCause, StepError};
use crate::path::InnerPath;
use crate::plan::{Content, Copying, Excess};
use crate::sys::memory::MemoryController;
use crate::sys::time_limit::{self, Operation};
use crate::sys::{SysError, mount, process};

/// The number of pages that are copied regardless of whom they are charged to. This is enough for what images
/// usually have below /run and too little to matter. It saves entering a cgroup, which takes longer than the rest
/// of the hook's work.
const UNNOTICED_PAGES: u64 = 32;

/// The explanation for a child process that reports nothing.
const KILLED: &str = "the process that copied it was killed because the container's memory is full";

/// How much may still be copied for the container.
#[derive(Debug)]
pub(super) struct CopyBudget<'a> {
    plan: Option<&'a Copying>,
    taken_bytes: u64,
    unnoticed_bytes: u64,
    warnings: Vec<StepError>,
}

/// The directory whose content is copied.
pub(super) struct Source<'a> {
    pub from: &'a OwnedFd,
    pub at: &'a InnerPath,
    pub keep: &'a [InnerPath],
}

/// The result that the child process reports.
#[derive(Serialize, Deserialize)]
struct ChildResult {
    copied: Copied,
    label: Option<SysError>,
    unentered: Option<SysError>,
}

impl<'a> CopyBudget<'a> {
    pub(super) fn of(plan: Option<&'a Copying>) -> Self {
        let unnoticed_bytes = UNNOTICED_PAGES * process::page_bytes();
        Self { plan, taken_bytes: 0, unnoticed_bytes, warnings: Vec::new() }
    }

    /// Returns the warnings since the last call.
    pub(super) fn warnings(&mut self) -> Vec<StepError> {
        std::mem::take(&mut self.warnings)
    }

    fn warn(&mut self, step: String, source: StepCause) {
        self.warnings.push(StepError { step, source });
    }

    /// Returns what is left of `most_bytes`, but no more than three quarters of the free memory
    /// in the container's cgroup.
    fn left(&self, most_bytes: u64, cgroup: Option<&MemoryController<'_>>) -> Allowance {
        let left = |most: u64| Allowance { left_bytes: most.saturating_sub(self.taken_bytes), bound: Bound::All(most) };
        // If the cgroup's free memory is unknown, the total is the only bound.
        let Some(room) = cgroup.and_then(|cgroup| cgroup.room().ok().flatten()) else { return left(most_bytes) };
        // The memory limit may be that of a cgroup above the container's own, which the plan doesn't know.
        let all = left(most_bytes.min(room.limit_bytes / 2));
        let free_bytes = room.free_bytes / 4 * 3;
        let free = Allowance { left_bytes: free_bytes, bound: Bound::Free(free_bytes) };
        if free_bytes < all.left_bytes { free } else { all }
    }

    fn unentered(&self, most_bytes: u64) -> Allowance {
        let left_bytes = most_bytes.saturating_sub(self.taken_bytes);
        Allowance { left_bytes, bound: Bound::Unentered(most_bytes) }
    }
}

impl Interpreter<'_> {
    /// Creates a detached tmpfs with these options, and copies as much of the content to it as is allowed.
    pub(super) fn filled_tmpfs(
        &mut self,
        options: &[(&str, String)],
        source: &Source<'_>,
        content: Content,
        labels: &Labels<'_>,
    ) -> Result<OwnedFd, StepCause> {
        let empty = || {
            let new = mount::new_tmpfs(options)?;
            labels.give(&new);
            Ok::<_, SysError>(new)
        };
        let new = empty()?;
        let (Content::Copied { most_bytes, excess, option }, Some(plan)) = (content, self.budget.plan) else {
            return Ok(new);
        };
        let here = Allowance { left_bytes: most_bytes, bound: Bound::Bytes(most_bytes) };
        let few_bytes = self.budget.unnoticed_bytes.min(plan.most_bytes.saturating_sub(self.budget.taken_bytes));
        let few = Allowance { left_bytes: few_bytes, bound: Bound::All(plan.most_bytes) };
        let copied = source.copy_to(&new, CopyLimit { here, all: few, excess: Excess::Refused }, labels);
        match copied.failed {
            None => {
                self.budget.taken_bytes += copied.taken_bytes;
                self.budget.unnoticed_bytes -= copied.taken_bytes;
                return Ok(new);
            }
            Some(trouble) if !trouble.why.is_of_size() => return Err(source.cause(trouble, option, 0)),
            Some(_) => drop(new),
        }
        let new = empty()?;
        let copied =
            self.charged(plan, source, labels, |all| source.copy_to(&new, CopyLimit { here, all, excess }, labels));
        let what = format!("copy all that the image has in {}", source.at);
        match copied {
            Ok(copied) => {
                self.budget.taken_bytes += copied.taken_bytes;
                if let Some(trouble) = copied.failed {
                    return Err(source.cause(trouble, option, 0));
                }
                if let Some(trouble) = copied.left_out {
                    self.budget.warn(what, source.cause(trouble, option, copied.left_out_count - 1));
                }
                Ok(new)
            }
            Err(error) if excess == Excess::Refused => Err(error.into()),
            Err(error) => {
                self.budget.warn(what, error.into());
                Ok(empty()?)
            }
        }
    }

    /// Copies so that the container is charged. This process copies if it is in the container's cgroup, and otherwise
    /// a child that enters it. Fails if that child reports no result.
    fn charged(
        &mut self,
        plan: &Copying,
        source: &Source<'_>,
        labels: &Labels<'_>,
        copy: impl Fn(Allowance) -> Copied,
    ) -> Result<Copied, SysError> {
        let place = plan.cgroup.as_ref();
        let cgroup = || place.map(|cgroup| MemoryController::open(cgroup.hierarchy, &cgroup.path)).transpose();
        // The container's cgroup may be frozen, or have no memory left, or hardly any processor time.
        time_limit::watch();
        time_limit::note(Operation::Copying, source.at.as_path());
        let Some(most_unentered_bytes) = plan.most_unentered_bytes else {
            return Ok(copy(self.budget.left(plan.most_bytes, cgroup().ok().flatten().as_ref())));
        };
        let (budget, first_process) = (&self.budget, self.first_process);
        let enter = || {
            let cgroup = cgroup()?.zip(first_process);
            let unknown = || SysError::Finding("the container's first process, or its cgroup, is unknown".to_owned());
            let (cgroup, pid) = cgroup.ok_or_else(unknown)?;
            cgroup.enter_beside(pid)?;
            Ok::<_, SysError>(budget.left(plan.most_bytes, Some(&cgroup)))
        };
        let told = process::in_child(None, || {
            let (all, unentered) = match enter() {
                Ok(all) => (all, None),
                Err(error) => (budget.unentered(most_unentered_bytes), Some(error)),
            };
            let told = ChildResult { copied: copy(all), label: labels.failure(), unentered };
            serde_json::to_vec(&told).unwrap_or_else(|error| error.to_string().into_bytes())
        });
        let (copied, unentered) = match told {
            Ok(said) => {
                let said = said.ok_or_else(|| SysError::Finding(KILLED.to_owned()))?;
                let result = serde_json::from_slice(&said);
                let ChildResult { copied, label, unentered } = result.map_err(|error| {
                    SysError::Finding(format!("the process that copied it reported an invalid result: {error}"))
                })?;
                if let Some(error) = label {
                    labels.note(error);
                }
                (copied, unentered)
            }
            // This happens if the limit on the number of processes is reached, for example.
            Err(error) => (copy(budget.unentered(most_unentered_bytes)), Some(error)),
        };
        if let Some(error) = unentered {
            self.budget
                .warn(format!("charge the container for the files that are copied to {}", source.at), error.into());
        }
        Ok(copied)
    }
}

impl Source<'_> {
    fn copy_to(&self, to: &OwnedFd, room: CopyLimit, labels: &Labels<'_>) -> Copied {
        copy(self.from.as_fd(), to.as_fd(), self.at, self.keep, room, labels)
    }

    /// Returns the error for a file that isn't copied. `others` is the number of other files that don't fit.
    fn cause(&self, trouble: SkippedFile, option: Option<&'static str>, others: u32) -> StepCause {
        let (path, top) = (self.at.join(trouble.path()), self.at.clone());
        match trouble.why {
            Failed::Sys(source) if source.errno() == Some(Errno::NOSPC) => {
                StepCause::Full { path, others, option, source }
            }
            Failed::Sys(source) => StepCause::Copying { path, source },
            Failed::Bound(bound) => {
                let option = option.filter(|_| matches!(bound, Bound::Bytes(_)));
                StepCause::TooMuch { path, others, bound, top, option }
            }
        }
    }
}
