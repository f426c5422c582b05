// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether this call has anything to do, from the container's facts alone.

use std::fmt;

use crate::facts::{Command, Container, Program, Stage, Switch};
use crate::path::InnerPath;

/// What this call is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Skip(Reason),
    /// Prepare the container for systemd.
    Prepare(Because),
    /// Take back what was made for the container.
    CleanUp,
}

/// Why a container is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The command is something else.
    OtherCommand(String),
    /// The command is called like an init and is none of systemd's.
    NotSystemd(String, InnerPath),
    /// The command leads nowhere.
    NoProgram(String, String),
    /// The author said so.
    Disabled(&'static str),
    /// The same hook will run in a better place.
    CreateContainerFollows,
}

/// Why a container is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Because {
    /// The annotation asks for it.
    Enabled,
    /// The command is systemd.
    RunsSystemd(String, InnerPath),
}

/// Decides.
#[must_use]
pub fn decide(container: &Container) -> Decision {
    if container.stage == Stage::Poststop {
        return Decision::CleanUp;
    }
    let because = match (&container.switch, &container.command) {
        (Switch::Disabled(by), _) => return Decision::Skip(Reason::Disabled(by)),
        (Switch::Enabled, _) => Because::Enabled,
        (Switch::Unset, Command::Other(name)) => {
            return Decision::Skip(Reason::OtherCommand(name.clone()));
        }
        (Switch::Unset, Command::Init { name, program }) => match program {
            Program::Systemd(path) => Because::RunsSystemd(name.clone(), path.clone()),
            Program::Else(path) => {
                return Decision::Skip(Reason::NotSystemd(name.clone(), path.clone()));
            }
            Program::Nothing(why) => {
                return Decision::Skip(Reason::NoProgram(name.clone(), why.clone()));
            }
        },
    };
    if container.stage == Stage::CreateRuntime && container.create_container_follows {
        return Decision::Skip(Reason::CreateContainerFollows);
    }
    Decision::Prepare(because)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCommand(name) => write!(f, "the command {name:?} is not called init or systemd"),
            Self::NotSystemd(name, path) => {
                write!(f, "the command {name:?} is {path} in the image, which is not systemd")
            }
            Self::NoProgram(name, why) => write!(f, "the command {name:?} can't be found in the image: {why}"),
            Self::Disabled(by) => write!(f, "{by} says disabled"),
            Self::CreateContainerFollows => {
                f.write_str("config.json calls this hook at createContainer too, and nothing needs the host's side")
            }
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled => f.write_str("the annotation oci-systemd-hook says enabled"),
            Self::RunsSystemd(name, path) => {
                write!(f, "the command {name:?} is systemd, {path} in the image")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_has_its_decision() {
        let path = || InnerPath::new("/x");
        let init = |program| Command::Init { name: "/sbin/init".to_owned(), program };
        let systemd = || init(Program::Systemd(path()));
        let other = || Command::Other("nginx".to_owned());
        let runs = || Decision::Prepare(Because::RunsSystemd("/sbin/init".to_owned(), path()));
        let enabled = || Decision::Prepare(Because::Enabled);
        let disabled = || Decision::Skip(Reason::Disabled("x"));
        let table = [
            (Switch::Unset, systemd(), runs()),
            (Switch::Unset, other(), Decision::Skip(Reason::OtherCommand("nginx".to_owned()))),
            (
                Switch::Unset,
                init(Program::Else(path())),
                Decision::Skip(Reason::NotSystemd("/sbin/init".to_owned(), path())),
            ),
            (
                Switch::Unset,
                init(Program::Nothing("gone".to_owned())),
                Decision::Skip(Reason::NoProgram("/sbin/init".to_owned(), "gone".to_owned())),
            ),
            (Switch::Enabled, other(), enabled()),
            (Switch::Enabled, systemd(), enabled()),
            (Switch::Disabled("x"), systemd(), disabled()),
            (Switch::Disabled("x"), other(), disabled()),
        ];
        for (switch, command, expected) in table {
            for (stage, create_container_follows, expected) in [
                (Stage::CreateContainer, true, expected.clone()),
                (Stage::CreateRuntime, false, expected.clone()),
                (
                    Stage::CreateRuntime,
                    true,
                    match &expected {
                        Decision::Prepare(_) => Decision::Skip(Reason::CreateContainerFollows),
                        Decision::Skip(_) | Decision::CleanUp => expected.clone(),
                    },
                ),
                (Stage::Poststop, true, Decision::CleanUp),
            ] {
                let container = Container {
                    id: "c".to_owned(),
                    stage,
                    switch: switch.clone(),
                    command: command.clone(),
                    create_container_follows,
                };
                assert_eq!(decide(&container), expected, "{container:?}");
            }
        }
    }
}
