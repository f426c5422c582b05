// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decides whether this call has anything to do, from the container's facts alone.

use std::fmt;

use crate::facts::{Command, Container, Program, Switch};
use crate::path::InnerPath;

/// What this call will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Skip(Reason),
    Prepare(PrepareReason),
}

/// Why a container is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The command is not called init or systemd.
    OtherCommand(String),
    /// The command is named like an init but isn't systemd.
    NotSystemd(String, InnerPath),
    NoProgram(String),
    /// It can't be determined what the command is.
    Unreachable(String, String),
    Disabled(String),
    /// The container is a pod's sandbox, which runs no program of the user's.
    Sandbox,
}

/// Why a container is prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrepareReason {
    /// The annotation with this key asks for it.
    Enabled(String),
    RunsSystemd(String, InnerPath),
}

#[must_use]
pub fn decide(container: &Container) -> Decision {
    match (&container.switch, &container.command) {
        (_, Command::Sandbox) => Decision::Skip(Reason::Sandbox),
        (Switch::Disabled(by), _) => Decision::Skip(Reason::Disabled(by.clone())),
        (Switch::Enabled(key), _) => Decision::Prepare(PrepareReason::Enabled(key.clone())),
        (Switch::Unset | Switch::EnabledForPod, Command::Other(name)) => {
            Decision::Skip(Reason::OtherCommand(name.clone()))
        }
        (Switch::Unset | Switch::EnabledForPod, Command::LookedUp { name, program }) => match program {
            Program::Systemd(path) => Decision::Prepare(PrepareReason::RunsSystemd(name.clone(), path.clone())),
            Program::Other(path) => Decision::Skip(Reason::NotSystemd(name.clone(), path.clone())),
            Program::Nothing => Decision::Skip(Reason::NoProgram(name.clone())),
            Program::Unreachable(why) => Decision::Skip(Reason::Unreachable(name.clone(), why.clone())),
        },
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCommand(name) => write!(f, "the command {name:?} is not called init or systemd"),
            Self::NotSystemd(name, path) => {
                write!(f, "the command {name:?} is {path} in the image, which is not systemd")
            }
            Self::NoProgram(name) => write!(f, "the command {name:?} is not in the image"),
            Self::Unreachable(name, why) => {
                write!(f, "it can't be determined whether the command {name:?} is systemd: {why}")
            }
            Self::Disabled(by) => write!(f, "{by} is set to disabled"),
            Self::Sandbox => f.write_str("it is a pod's sandbox, which only holds the pod's namespaces"),
        }
    }
}

impl fmt::Display for PrepareReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enabled(key) => write!(f, "the annotation {key} is set to enabled"),
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
        let init = |program| Command::LookedUp { name: "/sbin/init".to_owned(), program };
        let systemd = || init(Program::Systemd(path()));
        let other = || Command::Other("nginx".to_owned());
        let runs = || Decision::Prepare(PrepareReason::RunsSystemd("/sbin/init".to_owned(), path()));
        let (enabled, disabled) = (|| Switch::Enabled("k".to_owned()), || Switch::Disabled("x".to_owned()));
        let (by_key, by_x) = (PrepareReason::Enabled("k".to_owned()), Reason::Disabled("x".to_owned()));
        let not_systemd = || Decision::Skip(Reason::NotSystemd("/sbin/init".to_owned(), path()));
        let table = [
            (Switch::Unset, systemd(), runs()),
            (Switch::Unset, other(), Decision::Skip(Reason::OtherCommand("nginx".to_owned()))),
            (Switch::Unset, init(Program::Other(path())), not_systemd()),
            (Switch::Unset, init(Program::Nothing), Decision::Skip(Reason::NoProgram("/sbin/init".to_owned()))),
            (
                Switch::Unset,
                init(Program::Unreachable("EMFILE".to_owned())),
                Decision::Skip(Reason::Unreachable("/sbin/init".to_owned(), "EMFILE".to_owned())),
            ),
            (Switch::EnabledForPod, systemd(), runs()),
            (Switch::EnabledForPod, init(Program::Other(path())), not_systemd()),
            (enabled(), other(), Decision::Prepare(by_key.clone())),
            (enabled(), systemd(), Decision::Prepare(by_key)),
            (disabled(), systemd(), Decision::Skip(by_x.clone())),
            (disabled(), other(), Decision::Skip(by_x)),
        ];
        for (switch, command, expected) in table {
            let mut container = Container { id: "c".to_owned(), switch, command };
            assert_eq!(decide(&container), expected, "{container:?}");
            container.command = Command::Sandbox;
            assert_eq!(decide(&container), Decision::Skip(Reason::Sandbox), "{container:?}");
        }
    }
}
