// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The forms of the command line, and the options that each takes.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::PlanFormat;
use crate::facts::options::{CgroupsMax, Key, Policy, V1WithSysAdmin, list};
use crate::sys::time_limit;

/// A form of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A hook call by an OCI runtime, which has no subcommand.
    Hook,
    Precreate,
    Plan,
}

/// The static description of a form.
pub(super) struct FormSpec {
    /// The subcommand that selects the form, or `None` for a hook call.
    pub subcommand: Option<&'static str>,
    /// The usage line, without the program's name.
    pub usage: &'static str,
    /// The description that `--help` prints.
    pub doc: &'static str,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Hook, Self::Precreate, Self::Plan];

    pub(super) fn spec(self) -> FormSpec {
        match self {
            Self::Hook => FormSpec {
                subcommand: None,
                usage: "[OPTION...] [STAGE] < state.json",
                doc: "An OCI runtime calls the hook with the container's state on standard input. The stage is \
                      detected; STAGE overrides that: prestart, createRuntime, createContainer or poststop. The hook \
                      skips containers whose command is not systemd, unless their annotation oci-systemd-hook is \
                      \"enabled\". The options belong in `args` of the hook's descriptors.",
            },
            Self::Precreate => FormSpec {
                subcommand: Some("precreate"),
                usage: "precreate [OPTION...] < config.json",
                doc: "precreate is podman's stage of that name: it writes config.json to standard output, and adds \
                      what can't be added later.",
            },
            Self::Plan => FormSpec {
                subcommand: Some("plan"),
                usage: "plan [OPTION...] BUNDLE",
                doc: "plan prints what the hook would do for a bundle, and why, without doing it.",
            },
        }
    }

    /// Returns the form that a subcommand selects.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.spec().subcommand == Some(word))
    }

    /// Returns the form's name in messages.
    pub(super) fn name(self) -> &'static str {
        self.spec().subcommand.unwrap_or("a hook call")
    }
}

pub(super) struct Flag {
    /// The long option, without the leading dashes.
    pub name: &'static str,
    pub takes: Takes,
    /// The forms that take the option. Options for the same forms must be adjacent, because `--help` prints
    /// a heading for each group.
    pub forms: &'static [Form],
    /// The description that `--help` prints.
    pub doc: &'static str,
}

/// The kind of value that an option takes, its placeholder in `--help`, and the function that stores it.
pub(super) enum Takes {
    Nothing(fn(&mut Given)),
    Text(&'static str, fn(&mut Given, &str) -> Result<(), Invalid>),
    Path(&'static str, fn(&mut Given, PathBuf)),
}

/// An invalid value of an option, and a description of the valid ones.
#[derive(Debug)]
pub(super) struct Invalid {
    pub value: String,
    pub expected: String,
}

impl Invalid {
    fn new(value: &str, expected: impl Into<String>) -> Self {
        Self { value: value.to_owned(), expected: expected.into() }
    }
}

/// The values of all options, which are the defaults for options that weren't given.
pub(super) struct Given {
    pub log_level: LevelFilter,
    pub time_limit: Duration,
    pub policy: Policy,
    pub format: PlanFormat,
    pub state: Option<PathBuf>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            log_level: LevelFilter::Warn,
            time_limit: time_limit::USUAL,
            policy: Policy::default(),
            format: PlanFormat::Text,
            state: None,
        }
    }
}

/// All options except `--help` and `--version`, which take the place of a form.
pub(super) const FLAGS: [Flag; 7] = [
    Flag {
        name: "log-level",
        takes: Takes::Text("LEVEL", log_level),
        forms: &[Form::Hook, Form::Precreate],
        doc: "which messages are logged: error, warn (the default), info or debug; they go to stderr and, except for \
              debug, to the host's journal or syslog",
    },
    Flag {
        name: "time-limit",
        takes: Takes::Text("SECONDS", time_limit),
        forms: &[Form::Hook, Form::Precreate],
        doc: "the time limit of a call, from 1 to 3600; 45 by default; it must be less than the timeout in the \
              descriptors (60), after which the runtime kills the hook without a message",
    },
    Flag {
        name: "allow-options",
        takes: Takes::Text("LIST", allow_options),
        forms: &[Form::Hook, Form::Plan],
        doc: "which options annotations may set, as in cgroup,run-size; by default all of them; an empty LIST allows \
              none",
    },
    Flag {
        name: "allow-v1-with-cap-sys-admin",
        takes: Takes::Nothing(|given| given.policy.v1_with_sys_admin = V1WithSysAdmin::Allowed),
        forms: &[Form::Hook, Form::Plan],
        doc: "create cgroup v1's name=systemd even for a container that may have CAP_SYS_ADMIN; it could take over \
              the host by means of release_agent, see cgroups(7)",
    },
    Flag {
        name: "max-cgroups",
        takes: Takes::Text("N", max_cgroups),
        forms: &[Form::Hook, Form::Plan],
        doc: "how many cgroups a container may create below its own on v2, or max for no limit; 16384 by default",
    },
    Flag {
        name: "json",
        takes: Takes::Nothing(|given| given.format = PlanFormat::Json),
        forms: &[Form::Plan],
        doc: "print the plan as JSON",
    },
    Flag {
        name: "state",
        takes: Takes::Path("FILE", |given, path| given.state = Some(path)),
        forms: &[Form::Plan],
        doc: "the container's state, for its ID and annotations; without it, the ID is taken from the bundle's path",
    },
];

impl Flag {
    /// Finds an option by its name.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FLAGS.iter().find(|flag| flag.name == name)
    }
}

fn log_level(given: &mut Given, value: &str) -> Result<(), Invalid> {
    given.log_level = match value {
        "error" => LevelFilter::Error,
        "warn" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        _ => return Err(Invalid::new(value, "one of: error, warn, info, debug")),
    };
    Ok(())
}

fn time_limit(given: &mut Given, value: &str) -> Result<(), Invalid> {
    let seconds = value.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    let seconds = seconds.ok_or_else(|| Invalid::new(value, "a number of seconds from 1 to 3600"))?;
    given.time_limit = Duration::from_secs(seconds);
    Ok(())
}

fn allow_options(given: &mut Given, value: &str) -> Result<(), Invalid> {
    let names = value.split(',').filter(|name| !name.is_empty());
    let key = |name| Key::parse(name).ok_or_else(|| Invalid::new(name, format!("one of: {}", list(Key::name))));
    given.policy.allowed = names.map(key).collect::<Result<_, _>>()?;
    Ok(())
}

fn max_cgroups(given: &mut Given, value: &str) -> Result<(), Invalid> {
    let max = CgroupsMax::parse(value);
    given.policy.cgroups_max = max.ok_or_else(|| Invalid::new(value, "a number from 1 to 2147483647 or \"max\""))?;
    Ok(())
}
