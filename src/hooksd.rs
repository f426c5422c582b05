// SPDX-License-Identifier: Apache-2.0 OR MIT
//! hooks.d, oci-hooks(5): the descriptors from which podman, CRI-O, buildah and NRI's hook injector
//! choose a container's hooks.
//!
//! All of them do it with one Go package, `go.podman.io/common/pkg/hooks`, and this module does what
//! that package does, as of 2026, also where the manual page says something else. What a release
//! did otherwise is said where it matters. A descriptor that this module might read otherwise than Go
//! does is refused.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

mod descriptor;
mod json;
mod pattern;
mod when;

pub use descriptor::{Descriptor, Fault, HookEntry, HookStage};
pub use json::FormatFault;
pub use pattern::{PatternFault, TooLarge};
pub use when::WhenError;

/// What descriptors are matched against.
#[derive(Debug, Clone, Copy)]
pub struct MatchedContainer<'a> {
    /// config.json's `process.args`; none if it has no `process`.
    pub args: Option<&'a [String]>,
    /// Not always config.json's: CRI-O lays the pod's over the container's.
    pub annotations: &'a BTreeMap<String, String>,
    /// Whether the user asked for a bind mount; for CRI-O and NRI any mount is one.
    pub has_bind_mounts: bool,
}

/// What some directories hold.
#[derive(Debug, Default)]
pub struct HookSet {
    /// The good descriptors, in the order in which their hooks run.
    pub descriptors: Vec<Descriptor>,
    /// What else there is, in the order in which it was read.
    pub problems: Vec<Problem>,
}

/// A file or directory that gives no descriptor.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} is not used")]
pub struct Problem {
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub fault: Fault,
    /// Whether the engines refuse to work with it, or would use the file, which only this module
    /// refuses. If they refuse it, CRI-O does not start, and podman fails each container. Of other
    /// problems they say nothing.
    ///
    /// CRI-O is less strict with what changes while it runs: it logs the problem, and goes on with
    /// the good descriptors.
    pub fatal: bool,
}

/// Whether a descriptor's hook is for a container can't be told.
#[derive(Debug, thiserror::Error)]
#[error("the conditions of {path:?} can't be gone through")]
pub struct MatchError {
    /// The descriptor's file.
    pub path: PathBuf,
    /// Why.
    pub source: WhenError,
}

/// Reads directories, of which a later one masks an earlier one's files of the same name.
/// `extension_stages` are stages that the caller runs itself, such as podman's `precreate`.
///
/// A file masks another only if it is good itself: an empty one, or a link to /dev/null, is a fatal
/// problem. And a bad file is a problem even if a later directory masks it.
#[must_use]
pub fn read(directories: &[PathBuf], extension_stages: &[&str]) -> HookSet {
    let mut named = BTreeMap::new();
    let mut problems = Vec::new();
    for directory in directories {
        read_directory(directory, extension_stages, &mut named, &mut problems);
    }
    let mut named: Vec<_> = named.into_iter().collect();
    // Names that differ in case alone have no certain order in the engines; here they keep their own.
    named.sort_by_cached_key(|(name, _)| lower_case(name));
    HookSet { descriptors: named.into_iter().map(|(_, descriptor)| descriptor).collect(), problems }
}

impl HookSet {
    /// Whether it makes a difference for any of them that there are bind mounts.
    #[must_use]
    pub fn ask_for_bind_mounts(&self) -> bool {
        self.descriptors.iter().any(Descriptor::asks_for_bind_mounts)
    }

    /// The descriptors whose hooks are for this container, in the order in which they run.
    pub fn matching(&self, subject: &MatchedContainer<'_>) -> Result<Vec<&Descriptor>, MatchError> {
        let mut matching = Vec::new();
        for descriptor in &self.descriptors {
            if descriptor.matches(subject)? {
                matching.push(descriptor);
            }
        }
        Ok(matching)
    }
}

/// A missing hook is tolerated, and there is more to it: the engines look only at the first error
/// that a directory's files give, in the order of their names. If that is a missing hook, they go
/// on without all bad files of the directory. (Before podman 4.3 two errors of whatever kind in one
/// directory were fatal.) A file that they might use is a fatal problem all the same.
fn read_directory(
    directory: &Path,
    extension_stages: &[&str],
    named: &mut BTreeMap<OsString, Descriptor>,
    problems: &mut Vec<Problem>,
) {
    let names = match names(directory) {
        Ok(names) => names,
        Err(error) => {
            let fatal = error.kind() != ErrorKind::NotFound;
            problems.push(Problem { path: directory.to_owned(), fault: Fault::Directory(error), fatal });
            return;
        }
    };
    let mut first_is_missing_hook = None;
    for name in names {
        let path = directory.join(&name);
        match Descriptor::read(&path, extension_stages) {
            Ok(descriptor) => {
                named.insert(name, descriptor);
            }
            Err(fault) => {
                let fatal = !fault.is_no_error() && {
                    let is_missing_hook = fault.is_missing_hook();
                    let first_is_missing_hook = *first_is_missing_hook.get_or_insert(is_missing_hook);
                    !is_missing_hook && (!first_is_missing_hook || fault.may_be_ours())
                };
                problems.push(Problem { path, fault, fatal });
            }
        }
    }
}

fn names(directory: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = std::fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// oci-hooks(5) has the order independent of the locale and of case; the engines sort what Go makes
/// of the names, which maps a letter to one letter.
fn lower_case(name: &OsStr) -> String {
    name.to_string_lossy().chars().filter_map(|letter| letter.to_lowercase().next()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn names_are_put_into_lower_case_letter_by_letter() {
        for (name, expected) in [("10-Ab.JSON", "10-ab.json"), ("ÄΣ", "äσ"), ("İ", "i"), ("straße", "straße")] {
            assert_eq!(lower_case(OsStr::new(name)), expected);
        }
        assert_eq!(lower_case(OsStr::from_bytes(b"A\xff")), "a\u{fffd}");
    }
}
