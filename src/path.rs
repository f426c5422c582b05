// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Paths in trees whose root isn't the host's `/`. Each tree has its own type of path, since the same path leads to
//! different files in different trees.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::path::{Component, Path, PathBuf};

use crate::one_line::OneLine;

/// The container's root file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerRoot {}

/// A cgroup hierarchy as seen from the root of this process's cgroup namespace, cgroup_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnNamespace {}

/// A cgroup hierarchy as seen from the root of the container's cgroup namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContainerNamespace {}

/// A path as the container's processes see it. Symbolic links in it are not resolved: only [`crate::root::Root`]
/// turns it into a file, and never into one outside the root.
pub type InnerPath = TreePath<ContainerRoot>;
/// The path of a cgroup as this process sees it.
pub type CgroupPath = TreePath<OwnNamespace>;
/// The path of a cgroup as the container's processes see it.
pub type InnerCgroupPath = TreePath<ContainerNamespace>;

/// An absolute, normalized path in a tree.
///
/// Paths are compared by component, so `/runner` is not below `/run`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath<Tree>(PathBuf, PhantomData<Tree>);

impl<Tree> TreePath<Tree> {
    /// Normalizes `path` as a process that is chrooted to the tree would: it is relative to `/`, and `..` at the top
    /// stays at the top. Runtimes interpret the destination of a mount in the same way.
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

    /// The path of the tree's root directory.
    #[must_use]
    pub fn root() -> Self {
        Self(PathBuf::from("/"), PhantomData)
    }

    /// Appends `name`, which may have several components.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> Self {
        let name = name.as_ref();
        Self::new(self.0.join(name.strip_prefix("/").unwrap_or(name)))
    }

    /// The parent directory. Returns `None` for `/`.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_owned(), PhantomData))
    }

    /// Splits the path into its parent directory and its last component. Returns `None` for `/`, which has neither.
    #[must_use]
    pub fn split(&self) -> Option<(Self, &OsStr)> {
        self.parent().zip(self.0.file_name())
    }

    /// Whether this path is `other` or below it.
    #[must_use]
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether this path is below `other`, and not `other` itself.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.0 != other.0 && self.is_at_or_below(other)
    }

    /// The part of this path that follows `other`, without a leading slash. Returns `None` if the path
    /// isn't at or below `other`.
    #[must_use]
    pub fn below<'a>(&'a self, other: &Self) -> Option<&'a Path> {
        self.0.strip_prefix(&other.0).ok()
    }

    /// The path as a process in the tree would write it.
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
