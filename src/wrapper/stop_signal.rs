// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The signal by which an engine stops a container. systemd interprets SIGTERM as "re-execute yourself" and SIGINT as
//! "reboot", systemd(1), so `docker stop` would wait for its timeout and then kill the container.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::command_line::CommandLine;
use super::program::RuntimeProgram;
use crate::bundle::Bundle;
use crate::decide::{Decision, decide};
use crate::facts::options::Policy;
use crate::gather::label::short;
use crate::gather::{self, GatherError};
use crate::oci::state::{State, Status};
use crate::report::chain;
use crate::sys::journal::{self, Priority};
use crate::sys::process;

/// SIGRTMIN+3, on which systemd halts, as the kernel numbers it: glibc reserves 32 and 33 for itself. runc 1.1 has
/// no name for it.
pub const HALT: &str = "37";

/// Whether a signal stops most programs. Runtimes send TERM if no signal is given.
#[must_use]
pub fn is_to_stop(signal: Option<&OsStr>) -> bool {
    let Some(signal) = signal else { return true };
    let name = signal.to_string_lossy().to_ascii_uppercase();
    matches!(name.strip_prefix("SIG").unwrap_or(&name), "TERM" | "INT" | "15" | "2")
}

/// The longest time for which the check may delay the signal. Engines give a container about ten seconds to stop.
const LIMIT: Duration = Duration::from_secs(3);

/// Whether a container's first process is systemd, according to the bundle that the runtime's state names. If that
/// can't be determined, the result is `false`, since the signal must be delivered. A child process does the check,
/// because a process that waits for a file server in the container's root couldn't even execute the runtime.
#[must_use]
pub fn is_for_systemd(program: &RuntimeProgram, command_line: &CommandLine, id: &OsStr) -> bool {
    let told = process::in_child(Some(LIMIT), || vec![u8::from(looks_like_systemd(program, command_line, id))]);
    match told {
        Ok(told) => told.is_some_and(|told| told == [1]),
        Err(error) => {
            warn_unchanged(&id.to_string_lossy(), &error);
            false
        }
    }
}

fn looks_like_systemd(program: &RuntimeProgram, command_line: &CommandLine, id: &OsStr) -> bool {
    let state = state(program, command_line, id);
    // Before the container is started, its process is the runtime's own, which TERM terminates.
    let Some(state) = state.filter(|state| state.status == Status::Running) else { return false };
    needs_halt_signal(&state).unwrap_or_else(|error| {
        warn_unchanged(&state.id, &error);
        false
    })
}

fn warn_unchanged(id: &str, error: &dyn std::error::Error) {
    let (id, why) = (short(id), chain(error));
    let line = format!("{id}: cannot determine whether the command is systemd, so the stop signal is unchanged: {why}");
    journal::send(Priority::Warning, &line);
}

/// Asks the runtime for the container's state.
fn state(program: &RuntimeProgram, command_line: &CommandLine, id: &OsStr) -> Option<State> {
    let mut command = Command::new(&program.path);
    command.args(&command_line.globals).args(["state", "--"]).arg(id);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut text = Vec::new();
    let told = child.stdout.take()?.read_to_end(&mut text);
    // At worst, the caller ignores SIGCHLD and there is no exit status. Only the output matters.
    let _ = child.wait();
    told.ok().and_then(|_| State::parse(&text).ok())
}

fn needs_halt_signal(state: &State) -> Result<bool, GatherError> {
    let bundle = Bundle::read(state)?;
    Ok(match decide(&gather::container(&bundle)?.0) {
        Decision::Skip(_) => false,
        Decision::Prepare(_) => !gather::annotation_facts(&bundle, &Policy::default())?.options.keeps_stop_signal(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_signals_that_stop() {
        for (signal, stops) in [
            (None, true),
            (Some("TERM"), true),
            (Some("SIGTERM"), true),
            (Some("sigint"), true),
            (Some("15"), true),
            (Some("2"), true),
            (Some("KILL"), false),
            (Some("9"), false),
            (Some("37"), false),
            (Some("SIGRTMIN+3"), false),
            (Some("HUP"), false),
            (Some("SIG"), false),
            (Some(""), false),
        ] {
            assert_eq!(is_to_stop(signal.map(OsStr::new)), stops, "{signal:?}");
        }
    }
}
