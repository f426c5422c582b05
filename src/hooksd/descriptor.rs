// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One descriptor: a JSON file that says which hook runs, in which stages, and for which containers.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use super::json::{self, Field, Members};
use super::pattern::{Pattern, PatternFault};
use super::when::When;
use super::{MatchError, Subject};

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
    /// No JSON, or something after it.
    #[error("it is no JSON document")]
    Json(#[source] serde_json::Error),
    /// A member of another type.
    #[error("{field} is not {expected}")]
    Type {
        /// The member.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// A version of the future.
    #[error("its version {0:?} is unknown, expected \"1.0.0\", \"0.1.0\" or none")]
    Version(String),
    /// A required member.
    #[error("it has no {0:?}, which is required")]
    Missing(&'static str),
    /// Two members of version 0.1.0 that mean the same.
    #[error("it has both {0:?} and {1:?}, expected one of them")]
    Both(&'static str, &'static str),
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
        /// The member.
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

    /// Whether the engines may use the file: of patterns this module refuses more than they do.
    pub(super) fn may_be_ours(&self) -> bool {
        matches!(self, Self::Pattern { .. })
    }

    /// Whether the hook's executable doesn't exist. The engines then go without the hook, and say nothing.
    #[must_use]
    pub fn is_missing_hook(&self) -> bool {
        matches!(self, Self::Hook { source, .. } if source.kind() == ErrorKind::NotFound)
    }
}

/// A stage of config.json's `hooks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
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

impl Stage {
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
pub struct Hook {
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
    pub hook: Hook,
    /// The stages of config.json, as often as they are named; none is allowed, and how a descriptor
    /// of an earlier directory is switched off.
    pub stages: Vec<Stage>,
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
        let text = json::text(&read(path).map_err(Fault::File)?);
        let mut version = String::new();
        for (name, value) in Members::of_document(&text)? {
            if name == "version" {
                version.set("version", value)?;
            }
        }
        let written = match version.as_str() {
            "1.0.0" => Written::current(&text)?,
            "0.1.0" | "" => Written::old(&text)?,
            _ => return Err(Fault::Version(version)),
        };
        written.checked(path, extension_stages)
    }

    /// Whether it has a condition about bind mounts.
    pub(super) fn asks_for_bind_mounts(&self) -> bool {
        self.when.has_bind_mounts.is_some()
    }

    /// Whether its hook is for this container.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> Result<bool, MatchError> {
        self.when.holds(subject).map_err(|source| MatchError { path: self.path.clone(), source })
    }
}

/// A descriptor's members, unchecked. What is an option may be missing, which is not the same as
/// being empty.
#[derive(Debug, Default)]
struct Written {
    path: String,
    args: Option<Vec<String>>,
    env: Option<Vec<String>>,
    timeout: Option<i64>,
    always: Option<bool>,
    has_bind_mounts: Option<bool>,
    annotations: Option<BTreeMap<String, String>>,
    commands: Option<Vec<String>>,
    any: bool,
    stages: Option<Vec<String>>,
}

impl Written {
    /// Version 1.0.0.
    fn current(text: &str) -> Result<Self, Fault> {
        let mut written = Self::default();
        for (name, value) in Members::of_document(text)? {
            match name.as_str() {
                "hook" => written.set_hook(value)?,
                "when" => written.set_when(value)?,
                "stages" => written.stages.set("stages", value)?,
                _ => {}
            }
        }
        Ok(written)
    }

    fn set_hook(&mut self, hook: &RawValue) -> Result<(), Fault> {
        for (name, value) in Members::of("hook", hook)? {
            match name.as_str() {
                "path" => self.path.set("hook.path", value)?,
                "args" => self.args.set("hook.args", value)?,
                "env" => self.env.set("hook.env", value)?,
                "timeout" => self.timeout.set("hook.timeout", value)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn set_when(&mut self, when: &RawValue) -> Result<(), Fault> {
        for (name, value) in Members::of("when", when)? {
            match name.as_str() {
                "always" => self.always.set("when.always", value)?,
                "annotations" => self.annotations.set("when.annotations", value)?,
                "commands" => self.commands.set("when.commands", value)?,
                "hasbindmounts" => self.has_bind_mounts.set("when.hasBindMounts", value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Version 0.1.0, which 1.0.0 replaced in 2018. Three members have a plural and a singular.
    fn old(text: &str) -> Result<Self, Fault> {
        let mut hook: Option<String> = None;
        let mut arguments: Option<Vec<String>> = None;
        let mut annotations: Option<Vec<String>> = None;
        let (mut stage, mut cmd, mut annotation) = (None, None, None);
        let mut written = Self { any: true, ..Self::default() };
        for (name, value) in Members::of_document(text)? {
            match name.as_str() {
                "hook" => hook.set("hook", value)?,
                "arguments" => arguments.set("arguments", value)?,
                "stages" => written.stages.set("stages", value)?,
                "stage" => stage.set("stage", value)?,
                "cmds" => written.commands.set("cmds", value)?,
                "cmd" => cmd.set("cmd", value)?,
                "annotations" => annotations.set("annotations", value)?,
                "annotation" => annotation.set("annotation", value)?,
                "hasbindmounts" => written.has_bind_mounts.set("hasbindmounts", value)?,
                _ => {}
            }
        }
        written.path = hook.ok_or(Fault::Missing("hook"))?;
        written.stages = one_of(("stages", written.stages), ("stage", stage))?;
        if written.stages.is_none() {
            return Err(Fault::Missing("stages"));
        }
        written.commands = one_of(("cmds", written.commands), ("cmd", cmd))?;
        // Any key, and a value that one of them matches. They are joined as text, so that each may
        // be half of an expression, and none at all matches every annotation.
        written.annotations = one_of(("annotations", annotations), ("annotation", annotation))?
            .map(|values| BTreeMap::from([(".*".to_owned(), values.join("|"))]));
        written.args = arguments.map(|arguments| {
            let mut args = vec![written.path.clone()];
            args.extend(arguments);
            args
        });
        Ok(written)
    }

    /// Checks in the engines' order, by which a missing hook hides a bad expression or stage.
    fn checked(self, file: &Path, extension_stages: &[&str]) -> Result<Descriptor, Fault> {
        if self.path.is_empty() {
            return Err(Fault::Missing("hook.path"));
        }
        let path = PathBuf::from(self.path);
        // Whether it is a file, and may be executed, the engines don't ask.
        if let Err(source) = std::fs::metadata(&path) {
            return Err(Fault::Hook { path, source });
        }
        let mut annotations = Vec::new();
        for (key, value) in self.annotations.unwrap_or_default() {
            annotations.push((pattern("when.annotations", key)?, pattern("when.annotations", value)?));
        }
        let mut commands = Vec::new();
        for command in self.commands.unwrap_or_default() {
            commands.push(pattern("when.commands", command)?);
        }
        let mut descriptor = Descriptor {
            path: file.to_owned(),
            hook: Hook {
                path,
                args: self.args.unwrap_or_default(),
                env: self.env.unwrap_or_default(),
                timeout: self.timeout,
            },
            stages: Vec::new(),
            extension_stages: Vec::new(),
            when: When {
                always: self.always,
                has_bind_mounts: self.has_bind_mounts,
                annotations,
                commands,
                any: self.any,
            },
        };
        for name in self.stages.ok_or(Fault::Missing("stages"))? {
            if extension_stages.contains(&name.as_str()) {
                descriptor.extension_stages.push(name);
            } else {
                descriptor.stages.push(Stage::of_descriptor(&name).ok_or(Fault::Stage(name))?);
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

type List = (&'static str, Option<Vec<String>>);

fn one_of(plural: List, singular: List) -> Result<Option<Vec<String>>, Fault> {
    match (plural, singular) {
        ((plural, Some(_)), (singular, Some(_))) => Err(Fault::Both(singular, plural)),
        ((_, plural), (_, singular)) => Ok(plural.or(singular)),
    }
}

fn pattern(field: &'static str, pattern: String) -> Result<Pattern, Fault> {
    Pattern::new(&pattern).map_err(|source| Fault::Pattern { field, pattern, source })
}
