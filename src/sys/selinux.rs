// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Uses the kernel's SELinux through libselinux. If the program was linked with libselinux.ld, nothing of that
//! library runs before [`is_enabled`] has found selinuxfs, and no function of the library may be called earlier.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::{SysError, fs};

pub use library::{denied, is_enforcing, label_of};

const SELINUXFS: &str = "/sys/fs/selinux";

/// Whether SELinux can be used here. As in libselinux and the runtimes, it can't if selinuxfs is read-only, as it is
/// in a container whose programs should believe that SELinux is off.
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

/// Returns the value of a boolean of the policy, or `None` if the policy has no such boolean.
#[must_use]
pub fn boolean(name: &str) -> Option<bool> {
    // The file contains the current value, and the one that will be committed next.
    let text = fs::read_host_text(&format!("{SELINUXFS}/booleans/{name}")).ok()?;
    text.split_ascii_whitespace().next().map(|now| now == "1")
}

/// Labels an open file, which may be open with `O_PATH`.
pub fn set_label(file: impl AsFd, label: &str) -> Result<(), SysError> {
    let path = fs::proc_path(file.as_fd());
    library::set_label(&path, path.as_os_str(), label)
}

/// Labels `name` in `directory`, whatever its type. A symbolic link is not followed. A file on a mount with
/// `context=` keeps the label of the mount.
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

    /// Runs the constructor that libselinux.ld removed from the start of the program.
    #[allow(unsafe_code)]
    pub(super) fn start() {
        type Constructor = Option<unsafe extern "C" fn()>;
        // This ensures that the section exists, whether or not the linker script was used.
        #[used]
        // SAFETY: everything in the section has this type: the `None` here, and what libselinux.ld puts there.
        #[unsafe(link_section = "libselinux_init")]
        static NONE: Constructor = None;
        // SAFETY: linkers define these two symbols as the bounds of the section with this name.
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
                // SAFETY: `next` is in the section, and the constructor is one that the start of a program
                // would have run, without arguments.
                unsafe {
                    if let Some(constructor) = *next {
                        constructor();
                    }
                    next = next.add(1);
                }
            }
        });
    }

    /// Whether SELinux enforces the policy. Returns `None` if this process may not know.
    #[must_use]
    pub fn is_enforcing() -> Option<bool> {
        match selinux::current_mode() {
            SELinuxMode::Enforcing => Some(true),
            SELinuxMode::Permissive => Some(false),
            _ => None,
        }
    }

    /// Returns the label of an open file, which may be open with `O_PATH`. Returns `None` if its
    /// file system has no labels.
    #[must_use]
    pub fn label_of(file: impl AsFd) -> Option<Label> {
        let context = SecurityContext::of_path(fs::proc_path(file.as_fd()), true, true).ok()??;
        context.to_c_string().ok()??.to_str().ok().map(Label::parse)
    }

    /// Labels an open file through its link in /proc, since libselinux before 3.4 can't label a descriptor that was
    /// opened with `O_PATH`. An error mentions the file as `name`.
    pub(super) fn set_label(link: &Path, name: &OsStr, label: &str) -> Result<(), SysError> {
        let call = || format!("setfilecon({name:?}, {label:?})");
        let text =
            CString::new(label).map_err(|_| SysError::Finding(format!("the label {label:?} contains a NUL byte")))?;
        SecurityContext::from_c_str(&text, true).set_for_path(link, true, true).map_err(|error| {
            match error.source().and_then(|cause| cause.downcast_ref()) {
                Some(cause) => SysError::of_std(call(), cause),
                None => SysError::Finding(format!("{}: {error}", call())),
            }
        })
    }

    /// Returns the permissions, among those given, that the policy denies to a process with one label on an object of
    /// `class` with another. Returns `None` if the policy can't be queried.
    #[must_use]
    pub fn denied(
        process: &Label,
        target: &Label,
        class: &str,
        permissions: &[&'static str],
    ) -> Option<Vec<&'static str>> {
        /// `SELINUX_AVD_FLAGS_PERMISSIVE`: for this domain, what the policy denies is permitted but logged.
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

/// Stands in for libselinux in a program that was built without it, which can neither read nor change labels.
#[cfg(not(feature = "selinux"))]
mod library {
    use std::ffi::OsStr;
    use std::os::fd::AsFd;
    use std::path::Path;

    use crate::kernel::selinux::Label;
    use crate::sys::SysError;

    pub(super) fn start() {}

    #[must_use]
    pub fn is_enforcing() -> Option<bool> {
        None
    }

    #[must_use]
    pub fn label_of(_: impl AsFd) -> Option<Label> {
        None
    }

    pub(super) fn set_label(_: &Path, name: &OsStr, label: &str) -> Result<(), SysError> {
        let found = format!("this program was built without libselinux and can't label {name:?} as {label}");
        Err(SysError::Finding(found))
    }

    #[must_use]
    pub fn denied(_: &Label, _: &Label, _: &str, _: &[&'static str]) -> Option<Vec<&'static str>> {
        None
    }
}
