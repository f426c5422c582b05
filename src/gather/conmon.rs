// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Determines whether podman will run poststop. podman runs the poststop hooks itself and leaves them out of
//! config.json. Annotations name the engine, but a container's author can write them. The arguments of conmon(8),
//! which runs the runtime and calls podman when the container ends, come from podman alone.

use std::path::Path;

use super::GatherError;
use super::proc::read_if_shown;
use crate::kernel::status;
use crate::oci::state::State;
use crate::sys::fs;

/// Whether an ancestor of this process is the conmon of this container and calls podman to clean up after it.
pub(super) fn calls_podman(state: &State) -> Result<bool, GatherError> {
    /// Enough for the runtime, programs that wrap it or this hook, and conmon.
    const ANCESTORS_MAX: usize = 8;
    let mut pid = "self".to_owned();
    for _ in 0..ANCESTORS_MAX {
        let status = read_if_shown(&format!("/proc/{pid}/status"))?;
        let Some(parent) = status.as_deref().and_then(status::parent) else { return Ok(false) };
        pid = parent.to_string();
        let Some(command_line) = read_if_shown(&format!("/proc/{pid}/cmdline"))? else { return Ok(false) };
        if let Some(bundle) = bundle_of_podmans(&command_line, &state.id) {
            return Ok(state
                .bundle()
                .is_ok_and(|own| own == Path::new(bundle) || fs::is_same_file(own, Path::new(bundle))));
        }
    }
    Ok(false)
}

/// Returns the bundle in the arguments of a conmon that calls podman at the end of the container `id`. Returns
/// `None` if `command_line` isn't that of such a conmon.
fn bundle_of_podmans<'a>(command_line: &'a str, id: &str) -> Option<&'a str> {
    let words: Vec<&str> = command_line.split('\0').collect();
    let values = |option: &'static str| {
        words.windows(2).filter_map(move |pair| match pair {
            [name, value] if *name == option => Some(*value),
            _ => None,
        })
    };
    let program = words.first().and_then(|program| Path::new(program).file_name());
    let exit: Vec<&str> = values("--exit-command-arg").collect();
    let is_podmans = program.is_some_and(|program| program == "conmon")
        && values("-c").any(|value| value == id)
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
