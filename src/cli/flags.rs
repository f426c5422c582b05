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
    /// Without a subcommand: an OCI runtime calls the hook.
    Hook,
    Precreate,
    Plan,
}

/// What is fixed about one form.
pub(super) struct FormSpec {
    /// The word that chooses it.
    pub subcommand: Option<&'static str>,
    /// What follows the program's name.
    pub usage: &'static str,
    /// What it does, for `--help`.
    pub doc: &'static str,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Hook, Self::Precreate, Self::Plan];

    pub(super) fn spec(self) -> FormSpec {
        match self {
            Self::Hook => FormSpec {
                subcommand: None,
                usage: "[OPTION...] [STAGE] < state.json",
                doc: "A hook call comes from an OCI runtime, with the container's state on standard input. The stage \
                      is detected; STAGE overrides that: prestart, createRuntime, createContainer or poststop. \
                      Containers whose command is not systemd are left alone, unless their annotation \
                      oci-systemd-hook is \"enabled\". The options belong in `args` of the hook's descriptors.",
            },
            Self::Precreate => FormSpec {
                subcommand: Some("precreate"),
                usage: "precreate [OPTION...] < config.json",
                doc: "precreate is podman's stage of that name: it writes config.json to standard output, with what \
                      can't be added later.",
            },
            Self::Plan => FormSpec {
                subcommand: Some("plan"),
                usage: "plan [OPTION...] BUNDLE",
                doc: "plan prints what the hook would do for a bundle, and why, and does nothing.",
            },
        }
    }

    /// Reads a subcommand.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.spec().subcommand == Some(word))
    }

    /// What it is called in a sentence.
    pub(super) fn name(self) -> &'static str {
        self.spec().subcommand.unwrap_or("a hook call")
    }
}

pub(super) struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    pub takes: Takes,
    /// The forms that take it. Options of the same forms stand together, since `--help` has a heading for each group.
    pub forms: &'static [Form],
    /// What it does, for `--help`.
    pub doc: &'static str,
}

/// What follows an option, by the name that `--help` has for it, and where it goes.
pub(super) enum Takes {
    Nothing(fn(&mut Given)),
    Text(&'static str, fn(&mut Given, &str) -> Result<(), Invalid>),
    Path(&'static str, fn(&mut Given, PathBuf)),
}

/// A value that an option can't have.
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

/// What the options say. An option that isn't given has its default here.
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

/// All options but `--help` and `--version`, which are instead of a form.
pub(super) const FLAGS: [Flag; 7] = [
    Flag {
        name: "log-level",
        takes: Takes::Text("LEVEL", log_level),
        forms: &[Form::Hook, Form::Precreate],
        doc: "error, warn (the default), info or debug; on stderr and, but for debug, in the host's journal or syslog",
    },
    Flag {
        name: "time-limit",
        takes: Takes::Text("SECONDS", time_limit),
        forms: &[Form::Hook, Form::Precreate],
        doc: "how long a call may take, from 1 to 3600; 45 by default; must be less than the timeout in the \
              descriptors, which is 60, and after which the runtime kills the hook without a message",
    },
    Flag {
        name: "allow-options",
        takes: Takes::Text("LIST", allow_options),
        forms: &[Form::Hook, Form::Plan],
        doc: "which options in annotations are honored, as in cgroup,run-size; by default all of them; an empty LIST \
              allows none",
    },
    Flag {
        name: "allow-v1-with-cap-sys-admin",
        takes: Takes::Nothing(|given| given.policy.v1_with_sys_admin = V1WithSysAdmin::Allowed),
        forms: &[Form::Hook, Form::Plan],
        doc: "create cgroup v1's name=systemd even for a container that may have CAP_SYS_ADMIN, and that could take \
              over the host by means of release_agent, cgroups(7)",
    },
    Flag {
        name: "max-cgroups",
        takes: Takes::Text("N", max_cgroups),
        forms: &[Form::Hook, Form::Plan],
        doc: "how many cgroups a container may create below its own in v2, or max for no limit; 16384 by default",
    },
    Flag {
        name: "json",
        takes: Takes::Nothing(|given| given.format = PlanFormat::Json),
        forms: &[Form::Plan],
        doc: "the plan as JSON",
    },
    Flag {
        name: "state",
        takes: Takes::Path("FILE", |given, path| given.state = Some(path)),
        forms: &[Form::Plan],
        doc: "the container's state, for its id and annotations; otherwise the id is in the bundle's path",
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
