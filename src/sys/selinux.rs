// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's SELinux, by libselinux. Nothing of that library runs before [`is_enabled`] has found
//! selinuxfs, if the program was linked with libselinux.ld; and it must not be asked before.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::{SysError, fs};

pub use library::{denied, is_enforcing, label_of};

const SELINUXFS: &str = "/sys/fs/selinux";

/// Whether SELinux can be used here. As for libselinux and the runtimes it can't where selinuxfs is
/// read-only: in a container, for programs that are to think that it is off.
#[must_use]
pub fn is_enabled() -> bool {
    /// `SELINUX_MAGIC` in linux/magic.h.
    const MAGIC: u64 = 0xf97c_ff8c;
    let is_there = rustix::fs::statfs(SELINUXFS).is_ok_and(|found| u64::try_from(found.f_type) == Ok(MAGIC));
    let is_on =
        is_there && rustix::fs::statvfs(SELINUXFS).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::RDONLY));
    if is_on {
        library::start();
    }
    is_on
}

/// A boolean of the policy; none where it has no such boolean.
#[must_use]
pub fn boolean(name: &str) -> Option<bool> {
    // The value now, and the one that is to be committed.
    let text = fs::read_host_text(&format!("{SELINUXFS}/booleans/{name}")).ok()?;
    text.split_ascii_whitespace().next().map(|now| now == "1")
}

/// Labels an open file, also one that was opened as a path only.
pub fn set_label(file: impl AsFd, label: &str) -> Result<(), SysError> {
    let path = fs::proc_path(file.as_fd());
    library::set_label(&path, path.as_os_str(), label)
}

/// Labels `name` in `directory`, whatever it is; a link itself. The label of a file that lies on a
/// mount with `context=` is the mount's, and stays so.
pub fn set_label_at(directory: BorrowedFd<'_>, name: &OsStr, label: &str) -> Result<(), SysError> {
    let file = fs::open_at(directory, name, OFlags::PATH)?;
    match library::set_label(&fs::proc_path(file.as_fd()), name, label) {
        Err(error) if error.errno() == Some(Errno::NOTSUP) => Ok(()),
        result => result,
    }
}

#[cfg(feature = "selinux")]
mod library {
    use std::error::Error as _;
    use std::ffi::{CString, OsStr};
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::sync::Once;

    use selinux::{SELinuxMode, SecurityClass, SecurityContext};

    use crate::kernel::selinux::Label;
    use crate::sys::{SysError, fs};

    /// Runs the constructor that libselinux.ld took out of the program's start.
    #[allow(unsafe_code)]
    pub(super) fn start() {
        type Constructor = Option<unsafe extern "C" fn()>;
        // So that the section is there, whether or not the linker script was used.
        #[used]
        // SAFETY: what the section holds is of this type: none here, and what libselinux.ld puts there.
        #[unsafe(link_section = "libselinux_init")]
        static NONE: Constructor = None;
        // SAFETY: linkers define these two as the bounds of a section that is called so.
        unsafe extern "C" {
            #[link_name = "__start_libselinux_init"]
            static FIRST: [Constructor; 0];
            #[link_name = "__stop_libselinux_init"]
            static END: [Constructor; 0];
        }
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let (mut next, end) = ((&raw const FIRST).cast::<Constructor>(), (&raw const END).cast());
            while next < end {
                // SAFETY: `next` is in the section, and the constructor is one that the start of a
                // program would have run, without arguments.
                unsafe {
                    if let Some(constructor) = *next {
                        constructor();
                    }
                    next = next.add(1);
                }
            }
        });
    }

    /// Whether the policy denies; none where this process may not know.
    #[must_use]
    pub fn is_enforcing() -> Option<bool> {
        match selinux::current_mode() {
            SELinuxMode::Enforcing => Some(true),
            SELinuxMode::Permissive => Some(false),
            _ => None,
        }
    }

    /// The label of an open file, also one that was opened as a path only; none where its file system
    /// has none.
    #[must_use]
    pub fn label_of(file: impl AsFd) -> Option<Label> {
        let context = SecurityContext::of_path(fs::proc_path(file.as_fd()), true, true).ok()??;
        context.to_c_string().ok()??.to_str().ok().map(Label::parse)
    }

    /// Labels an open file, by its link in /proc: libselinux before 3.4 can't do it to a descriptor that is a path only.
    /// An error calls it `name`.
    pub(super) fn set_label(link: &Path, name: &OsStr, label: &str) -> Result<(), SysError> {
        let call = || format!("setfilecon({name:?}, {label:?})");
        let text = CString::new(label).map_err(|_| SysError::Finding(format!("the label {label:?} has a NUL byte")))?;
        SecurityContext::from_c_str(&text, true).set_for_path(link, true, true).map_err(|error| {
            match error.source().and_then(|cause| cause.downcast_ref()) {
                Some(cause) => SysError::of_std(call(), cause),
                None => SysError::Finding(format!("{}: {error}", call())),
            }
        })
    }

    /// Which of these permissions the policy denies to a process with one label on something of
    /// `class` with another; none where it can't be asked.
    #[must_use]
    pub fn denied(
        process: &Label,
        target: &Label,
        class: &str,
        permissions: &[&'static str],
    ) -> Option<Vec<&'static str>> {
        /// `SELINUX_AVD_FLAGS_PERMISSIVE`: what is denied to this domain is done, and logged.
        const PERMISSIVE: u32 = 1;
        let class = SecurityClass::from_name(class).ok()?;
        let bits: Vec<_> = permissions.iter().map(|name| class.access_vector_bit(name).ok()).collect::<Option<_>>()?;
        let (process, target) = (CString::new(&*process.text).ok()?, CString::new(&*target.text).ok()?);
        let context = |text| SecurityContext::from_c_str(text, true);
        let wanted = bits.iter().fold(0, |all, bit| all | bit);
        let decision = context(&process).query_access_decision(&context(&target), class, wanted).ok()?;
        if decision.flags & PERMISSIVE != 0 {
            return Some(Vec::new());
        }
        let is_denied = |bit| decision.allowed & bit == 0;
        Some(permissions.iter().zip(bits).filter(|(_, bit)| is_denied(*bit)).map(|(name, _)| *name).collect())
    }
}

/// A program that was built without libselinux can't tell or change a label.
#[cfg(not(feature = "selinux"))]
mod library {
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::path::Path;

    use crate::kernel::selinux::Label;
    use crate::sys::SysError;

    pub(super) fn start() {}

    /// Can't be told.
    #[must_use]
    pub fn is_enforcing() -> Option<bool> {
        None
    }

    /// No label can be read.
    #[must_use]
    pub fn label_of(_: impl AsFd) -> Option<Label> {
        None
    }

    /// No label can be set.
    pub(super) fn set_label(_: &Path, name: &OsStr, label: &str) -> Result<(), SysError> {
        let found = format!("this program was built without libselinux, and can't give {name:?} the label {label}");
        Err(SysError::Finding(found))
    }

    /// No policy can be asked.
    #[must_use]
    pub fn denied(_: &Label, _: &Label, _: &str, _: &[&'static str]) -> Option<Vec<&'static str>> {
        None
    }
}
