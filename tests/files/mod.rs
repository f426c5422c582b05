// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lists the files below a directory, for the tests of documents, prose and installed files.

use std::path::{Path, PathBuf};

/// Returns all files below a directory, in the order of their paths, without those in a directory that `is_left_out` selects.
/// A symbolic link counts as a file, and isn't followed.
pub fn below(top: &Path, is_left_out: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() || path.is_symlink() {
                all.push(path);
            } else if !is_left_out(&path) {
                directories.push(path);
            }
        }
    }
    all.sort();
    all
}
