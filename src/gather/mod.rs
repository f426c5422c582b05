// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The only reader of the host: from files to facts. Decides nothing and changes nothing but the
//! mount namespace that this process looks at.

mod annotations;
pub mod before;
pub mod bundle;
mod conmon;
pub mod interpret;
pub mod live;
mod occupants;
mod places;
mod selinux;
pub mod stage;
pub mod unreadable;

use std::cell::OnceCell;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::Utf8Error;

use rustix::io::Errno;

use self::annotations::Annotations;
pub use self::annotations::{Annotated, annotated};
use self::stage::StageError;
use crate::command;
use crate::facts::options::OptionError;
use crate::facts::{Call, Command, Container, FollowUp, Found, Program, Stage, Switch};
use crate::kernel::cgroup::Hierarchy;
use crate::oci::config::{Config, Hook, Peek};
use crate::oci::pod::Pod;
use crate::oci::state::{State, StateError, Status};
use crate::path::InnerPath;
use crate::root::{ReadError, Root};
use crate::sys::{Context, SysError, fs, process};

/// A runtime's state is a few hundred bytes and its annotations, of which Kubernetes allows a quarter of a mebibyte.
const STATE_LIMIT_BYTES: u64 = 512 * 1024;
/// The largest configs seen are of some 100 KiB. With the other limits here, and those of `oci`, it keeps a call below
/// 8 MiB of memory.
const CONFIG_LIMIT_BYTES: u64 = 1024 * 1024;

/// Why the facts can't be had.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The state can't be read.
    #[error("cannot read the container's state from {from}")]
    ReadState {
        /// Standard input, or a file.
        from: String,
        /// Why.
        source: SysError,
    },
    /// What was read is none.
    #[error("cannot use the container's state from {from}")]
    ParseState {
        /// Standard input, or a file.
        from: String,
        /// Why.
        source: StateError,
    },
    /// Something that can't be a state or a config.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// Which file.
        what: String,
        /// How much is read.
        limit_bytes: u64,
    },
    /// See [`StateError`].
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of the host.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: SysError,
    },
    /// Not a config.json.
    #[error("cannot read {} as an OCI configuration", path.display())]
    Config {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Nor text at all.
    #[error("cannot read {} as UTF-8, which JSON is", path.display())]
    Encoding {
        /// Which.
        path: PathBuf,
        /// Where.
        source: Utf8Error,
    },
    /// No command.
    #[error("{} has no process.args", .0.display())]
    NoArgs(PathBuf),
    /// No root.
    #[error("{} has no root.path", .0.display())]
    NoRoot(PathBuf),
    /// The root can't be opened.
    #[error("cannot open the container's root {}", path.display())]
    Root {
        /// Where.
        path: PathBuf,
        /// Why.
        source: SysError,
    },
    /// A path in it can't be looked at.
    #[error("cannot look at {at} in the container's root")]
    Look {
        /// Which.
        at: InnerPath,
        /// Why.
        source: SysError,
    },
    /// A path lies on another mount than the mount table says.
    #[error(
        "{0} changed while the container was being created; make sure that no other process renames or mounts anything \
         in the container's root"
    )]
    Changed(InnerPath),
    /// A file in it can't be read.
    #[error("cannot read {at} in the container's root")]
    ReadInRoot {
        /// Its path in the root.
        at: InnerPath,
        /// Why it can't be read.
        source: ReadError,
    },
    /// One of the container's cgroups can't be examined.
    #[error("cannot examine the container's cgroup {path} of {hierarchy}")]
    Cgroup {
        /// Its path, from the root of this process's cgroup namespace.
        path: InnerPath,
        /// The hierarchy that it is in.
        hierarchy: Hierarchy,
        /// Why.
        source: SysError,
    },
    /// What this process may do can't be told.
    #[error("cannot read this process's capabilities")]
    Capabilities(#[source] SysError),
    /// A typing error in the annotation must not look like a choice.
    #[error("the annotation {key} is {value:?}: it must be `enabled` or `disabled`")]
    Switch {
        /// Which.
        key: String,
        /// What it says.
        value: String,
    },
    /// Nor in an option.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The container would share the host's mounts.
    #[error("{} has no mount namespace, so that what is mounted for the container would be mounted on the host", .0.display())]
    NoMountNamespace(PathBuf),
    /// This process is not where its stage says.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A namespace can't be entered.
    #[error(
        "cannot enter a namespace of the container's process {pid}, for which this process needs CAP_SYS_ADMIN and \
         CAP_SYS_CHROOT in the user namespaces of both; run the engine as root, or list the hook at createContainer, \
         too"
    )]
    Enter {
        /// Whose.
        pid: u32,
        /// Why.
        source: SysError,
    },
}

/// Reads the state; `from` names the input in errors.
pub fn state(input: impl AsFd, from: &str) -> Result<State, GatherError> {
    let text = fs::read_stream(input, STATE_LIMIT_BYTES)
        .map_err(|source| GatherError::ReadState { from: from.to_owned(), source })?;
    let text = text.ok_or_else(|| GatherError::TooLarge {
        what: format!("the container's state from {from}"),
        limit_bytes: STATE_LIMIT_BYTES,
    })?;
    State::parse(&text).map_err(|source| GatherError::ParseState { from: from.to_owned(), source })
}

/// A bundle's config.json, as text: how much of it is parsed depends on what it says.
#[derive(Debug)]
pub struct ConfigText {
    path: PathBuf,
    text: Vec<u8>,
    parsed: OnceCell<Config>,
}

impl ConfigText {
    /// Reads it in the state's bundle.
    pub fn read(state: &State) -> Result<Self, GatherError> {
        Self::read_at(state.bundle()?.join("config.json"), CONFIG_LIMIT_BYTES)
    }

    /// Reads it at a path, if it isn't larger than that.
    pub fn read_at(path: PathBuf, limit_bytes: u64) -> Result<Self, GatherError> {
        let text = fs::open_host(&path).and_then(|file| fs::read_up_to(file, limit_bytes));
        Self::of(path, limit_bytes, text)
    }

    /// Reads one that a program wrote to `input`, which errors call `from`.
    pub fn read_from(input: impl AsFd, from: &str) -> Result<Self, GatherError> {
        Self::of(PathBuf::from(from), CONFIG_LIMIT_BYTES, fs::read_stream(input, CONFIG_LIMIT_BYTES))
    }

    fn new(path: PathBuf, text: Vec<u8>) -> Self {
        Self { path, text, parsed: OnceCell::new() }
    }

    fn of(path: PathBuf, limit_bytes: u64, text: Result<Option<Vec<u8>>, SysError>) -> Result<Self, GatherError> {
        match text {
            Ok(Some(text)) => Ok(Self::new(path, text)),
            Ok(None) => Err(GatherError::TooLarge { what: path.display().to_string(), limit_bytes }),
            Err(source) => Err(GatherError::Read { path, source }),
        }
    }

    /// As it was read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.text
    }

    /// The whole text.
    pub fn text(&self) -> Result<&str, GatherError> {
        std::str::from_utf8(&self.text).map_err(|source| GatherError::Encoding { path: self.path.clone(), source })
    }

    /// An error of a part of it that was read as JSON.
    #[must_use]
    pub fn bad(&self, source: serde_json::Error) -> GatherError {
        GatherError::Config { path: self.path.clone(), source }
    }

    /// The fields of the decision.
    pub fn peek(&self) -> Result<Peek<'_>, GatherError> {
        Peek::parse(&self.text).map_err(|source| self.bad(source))
    }

    /// The fields of the plan.
    pub fn config(&self) -> Result<&Config, GatherError> {
        if let Some(config) = self.parsed.get() {
            return Ok(config);
        }
        let config = Config::parse(&self.text).map_err(|source| self.bad(source))?;
        Ok(self.parsed.get_or_init(|| config))
    }
}

/// What this process is called for, where no argument says so.
///
/// A descriptor has one list of arguments for all its stages. createContainer is told from
/// createRuntime by the pid, which runtimes fill in differently: at createContainer runc writes the
/// pid in the container's own pid namespace, which is that of this process's parent; crun and youki
/// write none. Without a pid namespace it is the same number in both stages, and then the mount
/// namespaces tell: they are one at createContainer.
///
/// This is a guess that proves nothing; [`stage`] has the proof.
#[must_use]
pub fn call(state: &State) -> Call {
    match state.status {
        Status::Stopped => Call::CleanUp,
        Status::NotStarted | Status::Running if is_in_container(state) => Call::Create(Stage::CreateContainer),
        Status::NotStarted | Status::Running => Call::Create(Stage::CreateRuntime),
    }
}

fn is_in_container(state: &State) -> bool {
    // Pid 1 of the runtime's namespace is never a container's: there it is the host's init.
    let Some(pid) = state.pid.filter(|pid| *pid > 1) else { return true };
    if process::parent() == Some(pid) {
        return true;
    }
    // Hooks in a user namespace, or of an unprivileged runtime, may not look at the namespaces of even the container's
    // first process.
    process::shares_mount_namespace(pid).unwrap_or_else(|_| stage::is_ancestor(pid))
}

/// Gathers the facts of the decision, looking no further than it needs. `peek` is of `text`. Also returns the container's
/// root if it had to be opened.
pub fn container(state: &State, text: &ConfigText, peek: &Peek<'_>) -> Result<(Container, Option<Root>), GatherError> {
    let annotations = Annotations::of(state, peek);
    if annotations.pod == Pod::Sandbox {
        return Ok((Container { id: state.id.clone(), switch: Switch::Unset, command: Command::Sandbox }, None));
    }
    let switch = annotations.switch()?;
    let program = command::program(peek.args()).ok_or_else(|| GatherError::NoArgs(text.path.clone()))?;
    let is_undecided = match &switch {
        Switch::Unset => command::names_init(program),
        Switch::EnabledForPod => true,
        Switch::Enabled(_) | Switch::Disabled(_) => false,
    };
    let (command, root) = if is_undecided {
        let root = open_root(state, text)?;
        let looked_up = Command::LookedUp { name: program.to_owned(), program: look_up(&root, program, peek) };
        (looked_up, Some(root))
    } else {
        (Command::Other(program.to_owned()), None)
    };
    Ok((Container { id: state.id.clone(), switch, command }, root))
}

/// Opens the root directory that config.json names, or crun's state.
fn open_root(state: &State, text: &ConfigText) -> Result<Root, GatherError> {
    let bundle = state.bundle()?;
    let path = text.config()?.root(bundle).or_else(|| state.root.as_ref().map(|root| bundle.join(root)));
    let path = path.ok_or_else(|| GatherError::NoRoot(text.path.clone()))?;
    Root::open(&path).map_err(|source| GatherError::Root { path, source })
}

/// The config of a container that is to be prepared.
fn config_to_prepare(text: &ConfigText) -> Result<&Config, GatherError> {
    let config = text.config()?;
    if config.has_namespace("mount") { Ok(config) } else { Err(GatherError::NoMountNamespace(text.path.clone())) }
}

/// What happens after this call.
pub fn follow_up(config: &Config, stage: Stage) -> Result<FollowUp, GatherError> {
    // In a user namespace createContainer may be unable to read config.json (a bundle below a
    // directory of mode 0700) or to write a record, so that there this call does the whole job.
    let follows = stage == Stage::CreateRuntime
        && !config.has_namespace("user")
        && lists_this_hook(&config.hooks.create_container)?;
    Ok(match (follows, config.root.readonly) {
        (false, _) => FollowUp::None,
        (true, false) => FollowUp::CreateContainer,
        (true, true) => FollowUp::CreateContainerOnReadOnlyRoot,
    })
}

fn lists_this_hook(hooks: &[Hook]) -> Result<bool, GatherError> {
    /// No hook of this process's namespace, or none that it may look at.
    const NONE: [Errno; 6] = [Errno::NOENT, Errno::NOTDIR, Errno::ACCESS, Errno::PERM, Errno::LOOP, Errno::NAMETOOLONG];
    if hooks.is_empty() {
        return Ok(false);
    }
    let file = |path: &Path| match std::fs::metadata(path).call(|| format!("stat({path:?})")) {
        Ok(file) => Ok(Some((file.dev(), file.ino()))),
        Err(error) if error.errno().is_some_and(|errno| NONE.contains(&errno)) || error.is_of_a_server() => Ok(None),
        Err(source) => Err(GatherError::Read { path: path.to_owned(), source }),
    };
    let Some(own) = file(Path::new("/proc/self/exe"))? else { return Ok(false) };
    for hook in hooks {
        if file(&hook.path)? == Some(own) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two paths lead to the same file, which can have several names.
fn is_same_file(a: &Path, b: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|status| (status.dev(), status.ino()));
    file(a).is_some_and(|a| file(b) == Some(a))
}

/// Finds a command's program in the image as execvpe(3) would, and tells whether it is systemd's.
fn look_up(root: &Root, name: &str, peek: &Peek<'_>) -> Program {
    /// More than any image's `PATH` has; each is looked for with all its links.
    const DIRECTORIES_MAX: usize = 64;
    /// What execvp(3) searches without `PATH`, and the places of an init.
    const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let candidates: Vec<InnerPath> = if name.contains('/') {
        vec![InnerPath::new(Path::new(peek.cwd().unwrap_or("/")).join(name))]
    } else {
        let path = peek.env("PATH").unwrap_or(DEFAULT_PATH);
        let directories = path.split(':').filter(|each| each.starts_with('/')).take(DIRECTORIES_MAX);
        directories.map(|each| InnerPath::new(each).join(name)).collect()
    };
    let mut unreachable = None;
    for candidate in candidates {
        match root.find(&candidate) {
            Ok(Found::File(at)) => {
                return match is_systemd(root, &at) {
                    Ok(true) => Program::Systemd(at),
                    Ok(false) => Program::Else(at),
                    Err(error) => Program::Unreachable(error.to_string()),
                };
            }
            Ok(Found::Else(at, _) | Found::Directory(at) | Found::EmptyDirectory(at)) => return Program::Else(at),
            Ok(Found::Nothing(_)) => {}
            Ok(Found::Unreachable(reason)) => unreachable = Some(reason),
            Ok(Found::OnServer(at)) => return Program::Unreachable(ReadError::OfAServer(at).to_string()),
            // It may be the one.
            Err(error) => return Program::Unreachable(error.to_string()),
        }
    }
    unreachable.map_or(Program::Nothing, Program::Unreachable)
}

/// systemd's own binary is `…/systemd/systemd` in every distribution, and a program of machine code.
fn is_systemd(root: &Root, at: &InnerPath) -> Result<bool, ReadError> {
    const ELF: &[u8] = b"\x7fELF";
    if !at.as_path().ends_with("systemd/systemd") {
        return Ok(false);
    }
    let mut start = [0_u8; 4];
    match root.read_program(at)?.read_exact(&mut start) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        result => Ok(result.call(|| format!("read(\"{at}\")")).map(|()| start == ELF)?),
    }
}
