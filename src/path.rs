// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths in a tree whose root isn't the host's `/`. Each tree has a type of its own, since a path of one of them leads to
//! another file in another.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::path::{Component, Path, PathBuf};

use crate::one_line::OneLine;

/// The container's root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerRoot {}

/// A cgroup hierarchy from the root of this process's cgroup namespace, cgroup_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnNamespace {}

/// A cgroup hierarchy from the root of the container's cgroup namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerNamespace {}

/// A path as the container's processes see it. It says nothing about symbolic links: only [`crate::root::Root`] turns it into
/// a file, and never outside the root.
pub type InnerPath = TreePath<ContainerRoot>;
/// A cgroup's path as this process sees it.
pub type CgroupPath = TreePath<OwnNamespace>;
/// A cgroup's path as the container's processes see it.
pub type InnerCgroupPath = TreePath<ContainerNamespace>;

/// An absolute, normalised path in a tree.
///
/// It is compared by component, so `/runner` is not below `/run`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath<Tree>(PathBuf, PhantomData<Tree>);

impl<Tree> TreePath<Tree> {
    /// Reads `path` as a process chrooted to the tree would: relative to `/`, and with `..`
    /// at the top staying at the top. That is also how runtimes read a mount's destination.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let mut clean = PathBuf::from("/");
        for component in path.as_ref().components() {
            match component {
                Component::Normal(name) => clean.push(name),
                Component::ParentDir => {
                    clean.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Self(clean, PhantomData)
    }

    /// The tree's `/`.
    #[must_use]
    pub fn root() -> Self {
        Self(PathBuf::from("/"), PhantomData)
    }

    /// This path with `name` (which may have several components) added.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        let name = name.as_ref();
        Self::new(self.0.join(name.strip_prefix("/").unwrap_or(name)))
    }

    /// The directory that holds this path; none for `/`.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_owned(), PhantomData))
    }

    /// The directory that holds this path, and the path's name in it; none for `/`, which no directory holds.
    #[must_use]
    pub fn split(&self) -> Option<(Self, &OsStr)> {
        self.parent().zip(self.0.file_name())
    }

    /// Whether this is `other` or something below it.
    #[must_use]
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether this is something below `other`, and not `other` itself.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.0 != other.0 && self.is_at_or_below(other)
    }

    /// The path below `other`, without a leading slash; none where it isn't at or below it.
    #[must_use]
    pub fn below<'a>(&'a self, other: &Self) -> Option<&'a Path> {
        self.0.strip_prefix(&other.0).ok()
    }

    /// The path as a process in that tree would write it.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl<Tree> fmt::Display for TreePath<Tree> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(OneLine(f), "{}", self.0.display())
    }
}

impl<Tree> serde::Serialize for TreePath<Tree> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths_as_a_chrooted_process_would() {
        for (given, expected) in [
            ("/run", "/run"),
            ("run/", "/run"),
            ("//run/./lock", "/run/lock"),
            ("/run/../../etc", "/etc"),
            ("..", "/"),
            ("", "/"),
        ] {
            assert_eq!(InnerPath::new(given).to_string(), expected, "{given}");
        }
    }

    #[test]
    fn is_split_into_the_directory_and_the_name() {
        let path = InnerPath::new("/run/lock");
        assert_eq!(path.split(), Some((InnerPath::new("/run"), OsStr::new("lock"))));
        assert_eq!(InnerPath::new("/run").split(), Some((InnerPath::root(), OsStr::new("run"))));
        assert_eq!(InnerPath::root().split(), None);
    }

    #[test]
    fn compares_by_component() {
        let run = InnerPath::new("/run");
        assert!(!InnerPath::new("/runner").is_at_or_below(&run));
        assert!(InnerPath::new("/run/lock").is_below(&run));
        assert!(!run.is_below(&run));
        assert!(run.is_at_or_below(&run));
        assert!(run.is_below(&InnerPath::root()));
    }

    #[test]
    fn prints_what_a_terminal_would_obey_escaped() {
        for (given, expected) in [
            ("/a\nb", "/a\\nb"),
            ("/\u{1b}[2J", "/\\u{1b}[2J"),
            ("/\u{9b}2J", "/\\u{9b}2J"),
            ("/\u{202e}txt", "/\\u{202e}txt"),
            ("/it's \"\u{e9}\"", "/it's \"\u{e9}\""),
        ] {
            assert_eq!(InnerPath::new(given).to_string(), expected);
        }
    }
}
