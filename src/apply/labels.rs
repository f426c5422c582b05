// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The label of what the steps make. A file with a wrong one may be denied to the container, but the
//! container is better off than not created: what can't be labelled is a warning.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::{SysError, selinux};

/// The label, if there is one, and the first failure to give it.
#[derive(Debug)]
pub(super) struct Labels<'a> {
    label: Option<&'a str>,
    failure: RefCell<Option<SysError>>,
}

impl<'a> Labels<'a> {
    pub(super) fn new(label: Option<&'a str>) -> Self {
        Self { label, failure: RefCell::default() }
    }

    /// Labels an open file.
    pub(super) fn give(&self, file: impl AsFd) {
        self.try_to(|label| selinux::set_label(file, label));
    }

    /// Labels `name` in `directory`.
    pub(super) fn give_at(&self, directory: BorrowedFd<'_>, name: &OsStr) {
        self.try_to(|label| selinux::set_label_at(directory, name, label));
    }

    /// Notes a failure that another process reported.
    pub(super) fn note(&self, error: SysError) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// The first failure since it was asked last.
    pub(super) fn failure(&self) -> Option<SysError> {
        self.failure.take()
    }

    fn try_to(&self, give: impl FnOnce(&str) -> Result<(), SysError>) {
        if let Some(Err(error)) = self.label.map(give) {
            self.note(error);
        }
    }
}
