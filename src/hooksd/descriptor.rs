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

/// Why a file or directory gives no descriptor.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A directory; one that does not exist is fine.
    #[error("the directory can't be read")]
    Directory(#[source] io::Error),
    /// The engines pass such files over.
    #[error("its name does not end in .json")]
    Name,
    /// A file; one that went away meanwhile is fine.
    #[error("it can't be read")]
    File(#[source] io::Error),
    /// What is in the file.
    #[error(transparent)]
    Format(#[from] FormatFault),
    /// The executable isn't there, or it can't be seen whether it is.
    #[error("its hook {path:?} can't be found")]
    Hook {
        /// The hook's path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A regular expression.
    #[error("{field} has the pattern {pattern:?}, which can't be used")]
    Pattern {
        /// The field.
        field: &'static str,
        /// The expression.
        pattern: String,
        /// Why.
        #[source]
        source: PatternFault,
    },
    /// A stage that neither the specification nor the caller knows.
    #[error(
        "its stage {0:?} is unknown, expected createRuntime, createContainer, startContainer, poststart, poststop or prestart"
    )]
    Stage(String),
}

impl Fault {
    /// Whether the engines see no error in it.
    pub(super) fn is_no_error(&self) -> bool {
        match self {
            Self::Name => true,
            Self::File(error) => error.kind() == ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the engines may use the file. They refuse one that ends too early; of other JSON, and of patterns, this
    /// module refuses more than they do.
    pub(super) fn may_be_ours(&self) -> bool {
        match self {
            Self::Pattern { .. } => true,
            Self::Format(FormatFault::Json(error)) => !error.is_eof(),
            _ => false,
        }
    }

    /// Whether the hook's executable doesn't exist. The engines then go without the hook, and say nothing.
    #[must_use]
    pub fn is_missing_hook(&self) -> bool {
        matches!(self, Self::Hook { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

/// A stage of config.json's `hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookStage {
    /// Also what `prestart` stands for, since containers/common 0.58 (podman 5.0); before, such a
    /// hook went to config.json's own `prestart`, which runtimes run first.
    CreateRuntime,
    /// In the container's namespaces, before its root is the root.
    CreateContainer,
    /// In the container, before its process.
    StartContainer,
    /// After the process is started.
    Poststart,
    /// After the container is deleted.
    Poststop,
}

impl HookStage {
    /// The name in config.json.
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

/// What config.json gets: an entry of one of its stages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookEntry {
    /// The executable. The engines want no absolute path, runtimes do.
    pub path: PathBuf,
    /// The arguments, beginning with the program's name; empty: none were given.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<String>,
    /// In seconds, and whatever number the file has.
    pub timeout: Option<i64>,
}

/// A good descriptor.
#[derive(Debug)]
pub struct Descriptor {
    /// Its file.
    pub path: PathBuf,
    /// What is run.
    pub hook: HookEntry,
    /// The stages of config.json, as often as they are named; none is allowed, and how a descriptor
    /// of an earlier directory is switched off.
    pub stages: Vec<HookStage>,
    /// The stages that the caller runs itself. Such a stage may also be one of the specification's,
    /// as podman's `poststop` is, and then it is here alone.
    pub extension_stages: Vec<String>,
    when: When,
}

impl Descriptor {
    /// Reads a file of any version.
    pub(super) fn read(path: &Path, extension_stages: &[&str]) -> Result<Self, Fault> {
        if !path.as_os_str().as_bytes().ends_with(b".json") {
            return Err(Fault::Name);
        }
        let text = read(path).map_err(Fault::File)?;
        Self::checked(path, json::read(&text)?, extension_stages)
    }

    /// Whether it has a condition about bind mounts.
    pub(super) fn asks_for_bind_mounts(&self) -> bool {
        self.when.has_bind_mounts.is_some()
    }

    /// Whether its hook is for this container.
    pub(super) fn matches(&self, subject: &MatchedContainer<'_>) -> Result<bool, MatchError> {
        self.when.holds(subject).map_err(|source| MatchError { path: self.path.clone(), source })
    }

    /// Checks in the engines' order, by which a missing hook hides a bad expression or stage.
    fn checked(file: &Path, written: RawDescriptor, extension_stages: &[&str]) -> Result<Self, Fault> {
        let RawDescriptor { hook, when, stages } = written;
        let path = hook.path.filter(|path| !path.is_empty()).ok_or(FormatFault::Missing("hook.path"))?;
        let path = PathBuf::from(path);
        // Whether it is a file, and may be executed, the engines don't ask.
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

/// A FIFO is empty, and not waited for.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

fn pattern(field: &'static str, pattern: String) -> Result<Pattern, Fault> {
    Pattern::new(&pattern).map_err(|source| Fault::Pattern { field, pattern, source })
}
