// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The only reader of the host: from files to facts. Decides nothing and changes nothing but the
//! mount namespace that this process looks at.

mod annotations;
pub mod before;
pub mod cgroups;
mod conmon;
pub mod foretell;
pub mod interpret;
pub mod live;
mod occupants;
mod places;
pub mod readings;
mod selinux;
pub mod stage;
pub mod unreadable;

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use self::annotations::Annotations;
pub use self::annotations::{Annotated, annotated};
use self::stage::StageError;
use crate::bundle::{Bundle, BundleError};
use crate::command;
use crate::facts::options::OptionError;
use crate::facts::{Call, Command, Container, FollowUp, Found, Program, Stage, Switch};
use crate::kernel::cgroup::Hierarchy;
use crate::oci::config::{self, Config, Hook};
use crate::oci::pod::Pod;
use crate::oci::state::{State, StateError, Status};
use crate::path::{CgroupPath, InnerPath};
use crate::root::{ReadError, Root};
use crate::sys::{Context, SysError, fs, process};

/// A runtime's state is a few hundred bytes and its annotations, of which Kubernetes allows a quarter of a mebibyte.
const STATE_LIMIT_BYTES: u64 = 512 * 1024;
/// Why the facts can't be had.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The state can't be read.
    #[error("cannot read the container's state from {from}")]
    ReadState {
        /// Standard input, or a file.
        from: String,
        source: SysError,
    },
    /// What was read is none.
    #[error("cannot use the container's state from {from}")]
    ParseState {
        /// Standard input, or a file.
        from: String,
        source: StateError,
    },
    /// Something that can't be a state.
    #[error("{what} is larger than {limit_bytes} bytes")]
    TooLarge { what: String, limit_bytes: u64 },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A file of the host.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: SysError },
    /// The root can't be opened.
    #[error("cannot open the container's root {}", path.display())]
    Root { path: PathBuf, source: SysError },
    /// A path in it can't be looked at.
    #[error("cannot look at {at} in the container's root")]
    Look { at: InnerPath, source: SysError },
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
        path: CgroupPath,
        /// The hierarchy that it is in.
        hierarchy: Hierarchy,
        source: SysError,
    },
    /// What this process may do can't be told.
    #[error("cannot read this process's capabilities")]
    Capabilities(#[source] SysError),
    /// A typing error in the annotation must not look like a choice.
    #[error("the annotation {key} is {value:?}: it must be `enabled` or `disabled`")]
    Switch { key: String, value: String },
    #[error(transparent)]
    Option(#[from] OptionError),
    /// This process is not where its stage says.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A namespace can't be entered.
    #[error(
        "cannot enter a namespace of the container's process {pid}, for which this process needs CAP_SYS_ADMIN and \
         CAP_SYS_CHROOT in the user namespaces of both; run the engine as root, or list the hook at createContainer, \
         too"
    )]
    Enter { pid: u32, source: SysError },
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

/// Gathers the facts of the decision, looking no further than it needs. Also returns the container's root if it had to be
/// opened.
pub fn container(bundle: &Bundle<'_>) -> Result<(Container, Option<Root>), GatherError> {
    let id = bundle.state.id.clone();
    let annotations = Annotations::of(bundle)?;
    if annotations.pod == Pod::Sandbox {
        return Ok((Container { id, switch: Switch::Unset, command: Command::Sandbox }, None));
    }
    let command = bundle.read_with(config::Command::of)?.unwrap_or_default();
    let switch = annotations.switch(command.env(annotations::SWITCH))?;
    let program = command::program(&command.args).ok_or_else(|| BundleError::NoArgs(bundle.path().to_owned()))?;
    let is_undecided = match &switch {
        Switch::Unset => command::names_init(program),
        Switch::EnabledForPod => true,
        Switch::Enabled(_) | Switch::Disabled(_) => false,
    };
    let (command, root) = if is_undecided {
        let root = open_root(bundle)?;
        let looked_up = Command::LookedUp { name: program.to_owned(), program: look_up(&root, program, &command) };
        (looked_up, Some(root))
    } else {
        (Command::Other(program.to_owned()), None)
    };
    Ok((Container { id, switch, command }, root))
}

/// Opens the container's root directory.
fn open_root(bundle: &Bundle<'_>) -> Result<Root, GatherError> {
    let path = bundle.root()?;
    Root::open(&path).map_err(|source| GatherError::Root { path, source })
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
fn look_up(root: &Root, name: &str, command: &config::Command) -> Program {
    /// More than any image's `PATH` has; each is looked for with all its links.
    const DIRECTORIES_MAX: usize = 64;
    /// What execvp(3) searches without `PATH`, and the places of an init.
    const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let candidates: Vec<InnerPath> = if name.contains('/') {
        vec![InnerPath::new(Path::new(command.cwd.as_deref().unwrap_or("/")).join(name))]
    } else {
        let path = command.env("PATH").unwrap_or(DEFAULT_PATH);
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
