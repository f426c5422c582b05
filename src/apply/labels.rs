// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SELinux label of what the steps create. The container may be denied access to a file with a wrong label, but
//! that is better than not creating the container, so a failure to set a label is only a warning.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::{SysError, selinux};

/// The label, if there is one, and the first failure to set it.
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

    /// Records a failure that another process reported.
    pub(super) fn note(&self, error: SysError) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// Returns the first failure since the last call.
    pub(super) fn failure(&self) -> Option<SysError> {
        self.failure.take()
    }

    fn try_to(&self, give: impl FnOnce(&str) -> Result<(), SysError>) {
        if let Some(Err(error)) = self.label.map(give) {
            self.note(error);
        }
    }
}
