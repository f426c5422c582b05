// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines whether podman will run poststop. podman runs the poststop hooks itself and leaves them out of
//! config.json. Annotations name the engine, but a container's author can write them. The arguments of conmon(8),
//! which runs the runtime and calls podman when the container ends, come from podman alone.

use std::path::{Path, PathBuf};

use super::GatherError;
use super::proc::read_if_shown;
use crate::kernel::status;
use crate::oci::pod::is_name;
use crate::oci::state::State;
use crate::sys::fs;

/// Whether an ancestor of this process is the conmon of this container and calls podman to clean up after it.
pub(super) fn calls_podman(state: &State) -> Result<bool, GatherError> {
    let find = |command_line: &str| bundle_of_podmans(command_line, &state.id).map(PathBuf::from);
    Ok(find_ancestor(find)?
        .is_some_and(|bundle| state.bundle().is_ok_and(|own| own == bundle || fs::is_same_file(own, &bundle))))
}

/// Returns the name that the container's conmon was given. podman and CRI-O give it one; podman writes it nowhere else.
pub(super) fn container_name(state: &State) -> Option<String> {
    let find = |command_line: &str| {
        let name = || values(command_line, "-n").next().filter(|name| is_name(name)).map(str::to_owned);
        is_conmon_of(command_line, &state.id).then(name).flatten()
    };
    find_ancestor(find).ok().flatten()
}

/// Looks for something in the command lines of this process's ancestors, beginning with its parent.
fn find_ancestor<T>(find: impl Fn(&str) -> Option<T>) -> Result<Option<T>, GatherError> {
    /// Enough for the runtime, programs that wrap it or this hook, and conmon.
    const ANCESTORS_MAX: usize = 8;
    let mut pid = "self".to_owned();
    for _ in 0..ANCESTORS_MAX {
        let status = read_if_shown(&format!("/proc/{pid}/status"))?;
        let Some(parent) = status.as_deref().and_then(status::parent) else { return Ok(None) };
        pid = parent.to_string();
        let Some(command_line) = read_if_shown(&format!("/proc/{pid}/cmdline"))? else { return Ok(None) };
        let found = find(&command_line);
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Whether a command line is that of the conmon of the container `id`.
fn is_conmon_of(command_line: &str, id: &str) -> bool {
    let program = command_line.split('\0').next().and_then(|program| Path::new(program).file_name());
    program.is_some_and(|program| program == "conmon") && values(command_line, "-c").any(|value| value == id)
}

/// Returns the values of an option that is followed by its value.
fn values<'a>(command_line: &'a str, option: &'static str) -> impl Iterator<Item = &'a str> {
    let words = command_line.split('\0');
    words.clone().zip(words.skip(1)).filter(move |(name, _)| *name == option).map(|(_, value)| value)
}

/// Returns the bundle in the arguments of a conmon that calls podman at the end of the container `id`. Returns
/// `None` if `command_line` isn't that of such a conmon.
fn bundle_of_podmans<'a>(command_line: &'a str, id: &str) -> Option<&'a str> {
    let values = |option| values(command_line, option);
    let exit: Vec<&str> = values("--exit-command-arg").collect();
    let is_podmans = is_conmon_of(command_line, id)
        && values("--exit-command").next().is_some()
        && exit.windows(2).any(|pair| pair == ["container", "cleanup"])
        && exit.contains(&id);
    if is_podmans { values("-b").next() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_podman_tells_conmon() {
        let exit = "--exit-command|/usr/bin/podman|--exit-command-arg|--root|--exit-command-arg|/s|\
                    --exit-command-arg|container|--exit-command-arg|cleanup|--exit-command-arg|--rm|--exit-command-arg|c1|";
        let line = |program, id, rest: &str| format!("{program}|--api-version|1|-c|{id}|-b|/b|-n|web|{rest}");
        for (text, expected) in [
            (line("/usr/bin/conmon", "c1", exit), Some("/b")),
            // CRI-O leaves poststop in config.json, and conmon calls nothing.
            (line("/usr/bin/conmon", "c1", ""), None),
            (line("/usr/bin/conmon", "c2", exit), None),
            (line("/usr/bin/runc", "c1", exit), None),
            // conmon also runs exec sessions.
            (line("/usr/bin/conmon", "c1", &exit.replace("cleanup", "exec")), None),
            (line("/usr/bin/conmon", "c1", &exit.replace("|c1|", "|c2|")), None),
            (String::new(), None),
        ] {
            assert_eq!(bundle_of_podmans(&text.replace('|', "\0"), "c1"), expected, "{text}");
        }
    }
}
