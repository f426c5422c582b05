// SPDX-License-Identifier: Apache-2.0 OR MIT
//! hooks.d, oci-hooks(5): the descriptors from which podman, CRI-O, buildah and NRI's hook injector
//! choose a container's hooks.
//!
//! All of them use one Go package, `go.podman.io/common/pkg/hooks`. This module behaves like that package as of 2026,
//! even where the manual page differs. Differences in older releases are described where they matter. A descriptor
//! that this module might interpret differently than Go does is rejected.

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

/// The properties of a container that descriptors are matched against.
#[derive(Debug, Clone, Copy)]
pub struct MatchedContainer<'a> {
    /// `process.args` of config.json; `None` if it has no `process`.
    pub args: Option<&'a [String]>,
    /// The annotations, which are not always config.json's: CRI-O overlays the container's with the pod's.
    pub annotations: &'a BTreeMap<String, String>,
    /// Whether the user requested a bind mount. For CRI-O and NRI, any mount counts as one.
    pub has_bind_mounts: bool,
}

/// The result of reading some directories of descriptors.
#[derive(Debug, Default)]
pub struct HookSet {
    /// The valid descriptors, in the order in which their hooks run.
    pub descriptors: Vec<Descriptor>,
    /// Everything else that was found, in the order in which it was read.
    pub problems: Vec<Problem>,
}

/// A file or directory that provides no descriptor.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} is not used")]
pub struct Problem {
    pub path: PathBuf,
    #[source]
    pub fault: Fault,
    /// Whether the engines fail because of the problem, or would use the file, which only this module rejects. If
    /// they fail, CRI-O does not start, and podman fails every container. The engines do not report other problems.
    ///
    /// CRI-O is less strict about changes while it runs: it logs the problem and continues
    /// with the valid descriptors.
    pub fatal: bool,
}

/// The error that it can't be determined whether a descriptor's hook applies to a container.
#[derive(Debug, thiserror::Error)]
#[error("cannot evaluate the conditions of {path:?}")]
pub struct MatchError {
    /// The path of the descriptor's file.
    pub path: PathBuf,
    pub source: WhenError,
}

/// Reads directories. A file masks files of the same name in earlier directories. `extension_stages` are stages that
/// the caller runs itself, such as podman's `precreate`.
///
/// Only a valid file masks another: an empty file, or a link to /dev/null, is a fatal problem. A bad file is a
/// problem even if a later directory masks it.
#[must_use]
pub fn read(directories: &[PathBuf], extension_stages: &[&str]) -> HookSet {
    let mut named = BTreeMap::new();
    let mut problems = Vec::new();
    for directory in directories {
        read_directory(directory, extension_stages, &mut named, &mut problems);
    }
    let mut named: Vec<_> = named.into_iter().collect();
    // The engines sort names that differ only in case in no particular order. Here they are sorted
    // by the original names.
    named.sort_by_cached_key(|(name, _)| lower_case(name));
    HookSet { descriptors: named.into_iter().map(|(_, descriptor)| descriptor).collect(), problems }
}

impl HookSet {
    /// Whether any of the descriptors has a condition about bind mounts.
    #[must_use]
    pub fn depend_on_bind_mounts(&self) -> bool {
        self.descriptors.iter().any(Descriptor::has_bind_mount_condition)
    }

    /// Returns the descriptors whose hooks apply to the container, in the order in which the hooks run.
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

/// Reads one directory. The engines tolerate a descriptor whose hook is missing, but not only that: they evaluate
/// only the first error among a directory's files, in the order of their names. If that is a missing hook, they
/// ignore all bad files in the directory. (Before podman 4.3, any two errors in one directory were fatal.) A file
/// that the engines might use is a fatal problem regardless.
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
                let fatal = !fault.is_ignored_by_engines() && {
                    let is_missing_hook = fault.is_missing_hook();
                    let first_is_missing_hook = *first_is_missing_hook.get_or_insert(is_missing_hook);
                    !is_missing_hook && (!first_is_missing_hook || fault.may_be_valid_for_engines())
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

/// Converts a name to lower case for sorting. oci-hooks(5) makes the order independent of the locale and of case. The
/// engines sort the names as converted by Go, which maps each letter to a single letter.
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
