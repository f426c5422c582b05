// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The runtime wrapper `oci-hooks-runtime`, from its arguments to the execution of the runtime.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use crate::VERSION;
use crate::bundle::BundleError;
use crate::gather::GatherError;
use crate::hooksd::{MatchError, Problem};
use crate::oci::edit::EditError;
use crate::report::chain;
use crate::sys::{SysError, process};

mod bundle;
pub mod command_line;
mod inject;
mod log;
mod program;
mod settings;
mod stop_signal;

use self::command_line::{CommandLine, RuntimeCommand};
use self::inject::InjectError;
use self::log::{Log, LogLevel};
use self::program::{ProgramError, RuntimeProgram};
use self::settings::{Invocation, Settings, SettingsError};

/// The program's name, a prefix of its messages.
pub const NAME: &str = "oci-hooks-runtime";

/// Why the runtime could not be executed. The bundle is unmodified, except for [`Self::Execute`].
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    RuntimeProgram(#[from] ProgramError),
    /// The runtime exists but can't be started.
    #[error("cannot execute the OCI runtime {path:?}")]
    Execute { path: PathBuf, source: SysError },
    /// A descriptor, or a directory of descriptors, has a fatal problem.
    #[error(
        "cannot choose the container's hooks; fix the following problem, or use --skip-bad-descriptors to ignore it"
    )]
    Descriptor(#[source] Problem),
    #[error("cannot choose the container's hooks")]
    Match(#[from] MatchError),
    /// The file with hooks for all containers can't be read.
    #[error("cannot read the hook configuration {}", path.display())]
    ReadHookConfig { path: PathBuf, source: SysError },
    #[error("cannot use the hook configuration {}", path.display())]
    HookConfig { path: PathBuf, source: serde_json::Error },
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Gather(#[from] GatherError),
    #[error(transparent)]
    Inject(#[from] InjectError),
    #[error("cannot change config.json")]
    Edit(#[from] EditError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: SysError },
}

/// Runs the wrapper with the arguments after the program's name. Returns only if the runtime isn't executed: the text
/// to print, or `None` after an error has been reported.
#[must_use]
pub fn run(arguments: &[OsString]) -> Option<String> {
    let mut of_runtime = arguments;
    let request = settings::take(&mut of_runtime);
    let command_line = command_line::parse(of_runtime);
    let failed = match request {
        Ok(Invocation::Help) => return Some(settings::HELP.to_owned()),
        Ok(Invocation::Version) => return Some(format!("{NAME} {VERSION}\n")),
        Ok(Invocation::Run(settings)) => match prepare(settings, of_runtime, &command_line) {
            Ok((RuntimeProgram { path, name }, arguments)) => {
                let whole: Vec<OsString> = [name].into_iter().chain(arguments).collect();
                let source = process::become_program(&path, &whole);
                RuntimeError::Execute { path, source }
            }
            Err(error) => error,
        },
        Err(error) => error.into(),
    };
    complain(command_line.log.as_ref(), &failed);
    None
}

/// Does what must happen before the runtime runs. Returns the program to execute and its arguments.
fn prepare(
    settings: Settings,
    arguments: &[OsString],
    command_line: &CommandLine,
) -> Result<(RuntimeProgram, Vec<OsString>), RuntimeError> {
    let is_named = settings.runtime_path.is_some();
    let settings = match settings.clone().with_file() {
        // Running containers can be stopped even while the settings file is being written.
        Err(_) if is_named && !matches!(command_line.command, RuntimeCommand::Create { .. }) => settings,
        result => result?,
    };
    let program = program::find(settings.runtime_path.as_deref())?;
    let mut arguments = arguments.to_owned();
    match &command_line.command {
        RuntimeCommand::Create { config, id } => {
            bundle::add_hooks(config, id, &settings, command_line.log.as_ref())?;
        }
        RuntimeCommand::Kill { id, signal } => {
            let asked = signal.and_then(|at| arguments.get(at)).map(OsString::as_os_str);
            if stop_signal::is_to_stop(asked) && stop_signal::is_for_systemd(&program, command_line, id) {
                match signal.and_then(|at| arguments.get_mut(at)) {
                    Some(argument) => *argument = stop_signal::HALT.into(),
                    None => arguments.push(stop_signal::HALT.into()),
                }
            }
        }
        RuntimeCommand::Other => {}
    }
    Ok((program, arguments))
}

fn complain(log: Option<&Log>, error: &RuntimeError) {
    let line = format!("{NAME}: {}", chain(error));
    // At worst, stderr is closed, and only the log and the exit status report the error.
    let _ = writeln!(std::io::stderr(), "{line}");
    if let Some(log) = log {
        log.write(LogLevel::Error, &line);
    }
}
