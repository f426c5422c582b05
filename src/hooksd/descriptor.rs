// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One descriptor: a JSON file that says which hook runs, in which stages, and for which containers.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::json::{self, FormatFault, RawDescriptor};
use super::pattern::{Pattern, PatternFault};
use super::when::When;
use super::{MatchError, MatchedContainer};

/// Why a file or directory provides no descriptor.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The directory can't be read. A directory that does not exist is fine.
    #[error("the directory can't be read")]
    Directory(#[source] io::Error),
    /// The engines ignore such files.
    #[error("its name does not end in .json")]
    Name,
    /// The file can't be read. A file that has disappeared in the meantime is fine.
    #[error("it can't be read")]
    File(#[source] io::Error),
    /// The file's content is not a valid descriptor.
    #[error(transparent)]
    Format(#[from] FormatFault),
    /// The executable doesn't exist, or its existence can't be determined.
    #[error("its hook {path:?} can't be found")]
    Hook {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A regular expression can't be used.
    #[error("{field} has the pattern {pattern:?}, which can't be used")]
    Pattern {
        field: &'static str,
        pattern: String,
        #[source]
        source: PatternFault,
    },
    /// The stage is defined neither by the specification nor by the caller.
    #[error(
        "its stage {0:?} is unknown; expected createRuntime, createContainer, startContainer, poststart, poststop or prestart"
    )]
    Stage(String),
}

impl Fault {
    /// Whether the engines don't treat this as an error.
    pub(super) fn is_ignored_by_engines(&self) -> bool {
        match self {
            Self::Name => true,
            Self::File(error) => error.kind() == ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the engines might use the file. They do reject a truncated one, but this module also rejects other
    /// JSON, and patterns, that they may accept.
    pub(super) fn may_be_valid_for_engines(&self) -> bool {
        match self {
            Self::Pattern { .. } => true,
            Self::Format(FormatFault::Json(error)) => !error.is_eof(),
            _ => false,
        }
    }

    /// Whether the hook's executable doesn't exist. The engines then silently do without the hook.
    #[must_use]
    pub fn is_missing_hook(&self) -> bool {
        matches!(self, Self::Hook { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

/// A stage of config.json's `hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookStage {
    /// Also the meaning of `prestart` since containers/common 0.58 (podman 5.0). Before that, such a hook was added
    /// to config.json's own `prestart`, which runtimes run first.
    CreateRuntime,
    /// Runs in the container's namespaces, before the container's root becomes the root file system.
    CreateContainer,
    /// Runs in the container, before its command.
    StartContainer,
    /// Runs after the container's command is started.
    Poststart,
    /// Runs after the container is deleted.
    Poststop,
}

impl HookStage {
    /// Returns the stage's name in config.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    fn of_descriptor(name: &str) -> Option<Self> {
        let all = [Self::CreateRuntime, Self::CreateContainer, Self::StartContainer, Self::Poststart, Self::Poststop];
        match name {
            "prestart" => Some(Self::CreateRuntime),
            _ => all.into_iter().find(|stage| stage.name() == name),
        }
    }
}

/// An entry that is added to a stage of config.json's `hooks`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookEntry {
    /// The path of the executable. Unlike the engines, runtimes require it to be absolute.
    pub path: PathBuf,
    /// The arguments, including the program's name. Empty if the descriptor has none.
    pub args: Vec<String>,
    /// The whole environment of the hook.
    pub env: Vec<String>,
    /// The timeout in seconds. Any number in the file is accepted.
    pub timeout: Option<i64>,
}

/// A descriptor that passed all checks.
#[derive(Debug)]
pub struct Descriptor {
    /// The path of its file.
    pub path: PathBuf,
    pub hook: HookEntry,
    /// The stages in config.json, including duplicates. The list may be empty, which is how to disable a descriptor
    /// of an earlier directory.
    pub stages: Vec<HookStage>,
    /// The stages that the caller runs itself. Such a stage may also be one of the specification's, as podman's
    /// `poststop` is. It is then listed only here.
    pub extension_stages: Vec<String>,
    when: When,
}

impl Descriptor {
    /// Reads a descriptor in any version of the format.
    pub(super) fn read(path: &Path, extension_stages: &[&str]) -> Result<Self, Fault> {
        if !path.as_os_str().as_bytes().ends_with(b".json") {
            return Err(Fault::Name);
        }
        let text = read(path).map_err(Fault::File)?;
        Self::checked(path, json::read(&text)?, extension_stages)
    }

    /// Whether the descriptor has a condition about bind mounts.
    pub(super) fn has_bind_mount_condition(&self) -> bool {
        self.when.has_bind_mounts.is_some()
    }

    /// Whether the hook applies to the container.
    pub(super) fn matches(&self, subject: &MatchedContainer<'_>) -> Result<bool, MatchError> {
        self.when.holds(subject).map_err(|source| MatchError { path: self.path.clone(), source })
    }

    /// Checks a descriptor in the same order as the engines, in which a missing hook hides a bad expression or stage.
    fn checked(file: &Path, written: RawDescriptor, extension_stages: &[&str]) -> Result<Self, Fault> {
        let RawDescriptor { hook, when, stages } = written;
        let path = hook.path.filter(|path| !path.is_empty()).ok_or(FormatFault::Missing("hook.path"))?;
        let path = PathBuf::from(path);
        // The engines don't check whether the path is a regular file or is executable.
        if let Err(source) = std::fs::metadata(&path) {
            return Err(Fault::Hook { path, source });
        }
        let mut annotations = Vec::new();
        for (key, value) in when.annotations.unwrap_or_default() {
            annotations.push((pattern("when.annotations", key)?, pattern("when.annotations", value)?));
        }
        let mut commands = Vec::new();
        for command in when.commands.unwrap_or_default() {
            commands.push(pattern("when.commands", command)?);
        }
        let mut descriptor = Self {
            path: file.to_owned(),
            hook: HookEntry {
                path,
                args: hook.args.unwrap_or_default(),
                env: hook.env.unwrap_or_default(),
                timeout: hook.timeout,
            },
            stages: Vec::new(),
            extension_stages: Vec::new(),
            when: When {
                always: when.always,
                has_bind_mounts: when.has_bind_mounts,
                annotations,
                commands,
                any: when.any,
            },
        };
        for name in stages.ok_or(FormatFault::Missing("stages"))? {
            if extension_stages.contains(&name.as_str()) {
                descriptor.extension_stages.push(name);
            } else {
                descriptor.stages.push(HookStage::of_descriptor(&name).ok_or(Fault::Stage(name))?);
            }
        }
        Ok(descriptor)
    }
}

/// Reads a file without waiting for the writer of a FIFO, which counts as empty.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn pattern(field: &'static str, pattern: String) -> Result<Pattern, Fault> {
    Pattern::new(&pattern).map_err(|source| Fault::Pattern { field, pattern, source })
}
