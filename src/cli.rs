// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line, and nothing of what it leads to.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::facts::options::{CgroupsMax, Key, Policy, V1WithSysAdmin, list};
use crate::facts::{Call, Stage};
use crate::sys::time_limit;

/// What `--help` prints.
pub const HELP: &str = "\
oci-systemd-hook - prepares a container whose first process is systemd

Usage:
  oci-systemd-hook [OPTION...] [POLICY] [STAGE] < state.json
  oci-systemd-hook [OPTION...] precreate < config.json
  oci-systemd-hook plan [--json] [--state FILE] [POLICY] BUNDLE

An OCI runtime runs the first form, with the container's state on standard input.
The stage is found out; STAGE overrides: prestart, createRuntime, createContainer
or poststop. Containers whose command is not systemd are left alone, unless their
annotation oci-systemd-hook is \"enabled\".

precreate is podman's stage of that name: it writes config.json to standard output,
with what can't be had later.

plan prints what the hook would do for a bundle, and why, and does nothing.

Options:
  --log-level LEVEL  error, warn (the default), info or debug; on stderr and, but
                     for debug, in the host's journal or syslog

POLICY, which the host's administrator sets in the descriptors' arguments:
  --allow-options LIST
                     the annotations oci-systemd-hook.OPTION that are honored,
                     separated by commas; by default all of them, which are
                     cgroup,journal-size,run-size,stop-signal,tmp-size;
                     an empty LIST allows none
  --allow-v1-with-cap-sys-admin
                     create cgroup v1's name=systemd even for a container that
                     may have CAP_SYS_ADMIN, and that could take over the host
                     by means of release_agent, cgroups(7)
  --max-cgroups N    how many cgroups a container may create below its own in
                     v2, or max for no limit; 16384 by default

Options of all forms but plan:
  --time-limit SECONDS
                     how long a call may take, from 1 to 3600; 45 by default;
                     must be less than the timeout in the descriptors, which is
                     60, and after which the runtime kills the hook without a
                     message

Options of plan:
  --json             the plan as JSON
  --state FILE       the container's state, for its id and annotations; otherwise
                     the id is in the bundle's path
  --help             this text
  --version          the version

Exit status: 0, or 1 after an error, which is one line on stderr; 2 for a wrong
command line. At poststop errors are logged and the status is 0.
";

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Work as a hook.
    Hook {
        /// What for, if that was given.
        call: Option<Call>,
        /// Which messages.
        log_level: LevelFilter,
        /// What the administrator allows.
        policy: Policy,
        /// The limit on the time that the call takes.
        time_limit: Duration,
    },
    /// Change a config.json.
    Precreate {
        /// Which messages.
        log_level: LevelFilter,
        /// The limit on the time that the call takes.
        time_limit: Duration,
    },
    /// Print a plan.
    Plan {
        /// The bundle's directory.
        bundle: PathBuf,
        /// A file with a state.
        state: Option<PathBuf>,
        /// In which form.
        form: Form,
        /// What the administrator allows.
        policy: Policy,
    },
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// The form of a printed plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A wrong command line.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// Something that the parser refuses.
    #[error("{}; see --help", of_parser(.0))]
    Lexopt(#[from] lexopt::Error),
    /// Neither a stage nor a subcommand.
    #[error("{0:?} is neither a stage of this hook nor \"precreate\" nor \"plan\"; see --help")]
    Word(String),
    /// Not a level.
    #[error("--log-level: {0:?} is not one of error, warn, info and debug; see --help")]
    Level(String),
    /// An invalid time limit.
    #[error("--time-limit: {0:?} is not a number of seconds from 1 to 3600; see --help")]
    TimeLimit(String),
    /// Not an option.
    #[error("--allow-options: invalid value {0:?} (expected one of: {all}); see --help", all = list(Key::name))]
    Option(String),
    /// An invalid number of cgroups.
    #[error("--max-cgroups: {0:?} is neither a number from 1 to 2147483647 nor \"max\"; see --help")]
    CgroupsMax(String),
    /// `plan` without its argument.
    #[error("plan needs the bundle's directory; see --help")]
    NoBundle,
    /// An option of the other form.
    #[error("the option {0} is only for \"plan\"; see --help")]
    PlanOnly(&'static str),
}

/// The parser's errors, quoted as all others are.
fn of_parser(error: &lexopt::Error) -> String {
    match error {
        lexopt::Error::MissingValue { option: Some(option) } => format!("the option {option} needs a value"),
        lexopt::Error::UnexpectedOption(option) => format!("invalid option {option:?}"),
        lexopt::Error::UnexpectedArgument(argument) => format!("unexpected argument {argument:?}"),
        lexopt::Error::UnexpectedValue { option, value } => {
            format!("the option {option} takes no value, but was given {value:?}")
        }
        lexopt::Error::NonUnicodeValue(value) => format!("the value {value:?} is not UTF-8"),
        error => error.to_string(),
    }
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    use lexopt::prelude::{Long, Short, Value, ValueExt as _};
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut log_level, mut policy) = (LevelFilter::Warn, Policy::default());
    let mut time_limit = time_limit::USUAL;
    let (mut word, mut bundle, mut state, mut form) = (None, None, None, Form::Text);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Request::Help),
            Long("version") | Short('V') => return Ok(Request::Version),
            Long("log-level") => log_level = level(&parser.value()?.string()?)?,
            Long("allow-options") => policy.allowed = options(&parser.value()?.string()?)?,
            Long("allow-v1-with-cap-sys-admin") => policy.v1_with_sys_admin = V1WithSysAdmin::Allowed,
            Long("max-cgroups") => policy.cgroups_max = cgroups_max(parser.value()?.string()?)?,
            Long("time-limit") => time_limit = seconds(&parser.value()?.string()?)?,
            Long("json") => form = Form::Json,
            Long("state") => state = Some(PathBuf::from(parser.value()?)),
            Value(value) if word.is_none() => word = Some(value.string()?),
            Value(value) if word.as_deref() == Some("plan") && bundle.is_none() => {
                bundle = Some(PathBuf::from(value));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if word.as_deref() == Some("plan") {
        return Ok(Request::Plan { bundle: bundle.ok_or(UsageError::NoBundle)?, state, form, policy });
    }
    if state.is_some() {
        return Err(UsageError::PlanOnly("--state"));
    }
    if form == Form::Json {
        return Err(UsageError::PlanOnly("--json"));
    }
    if word.as_deref() == Some("precreate") {
        return Ok(Request::Precreate { log_level, time_limit });
    }
    Ok(Request::Hook { call: word.map(call).transpose()?, log_level, policy, time_limit })
}

fn call(word: String) -> Result<Call, UsageError> {
    match word.as_str() {
        "prestart" | "createRuntime" => Ok(Call::Create(Stage::CreateRuntime)),
        "createContainer" => Ok(Call::Create(Stage::CreateContainer)),
        "poststop" => Ok(Call::CleanUp),
        _ => Err(UsageError::Word(word)),
    }
}

fn options(list: &str) -> Result<Vec<Key>, UsageError> {
    let keys = list.split(',').filter(|name| !name.is_empty());
    let keys = keys.map(|name| Key::parse(name).ok_or_else(|| UsageError::Option(name.to_owned())));
    keys.collect()
}

fn cgroups_max(text: String) -> Result<CgroupsMax, UsageError> {
    CgroupsMax::parse(&text).ok_or(UsageError::CgroupsMax(text))
}

fn seconds(word: &str) -> Result<Duration, UsageError> {
    let seconds = word.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| UsageError::TimeLimit(word.to_owned()))
}

fn level(word: &str) -> Result<LevelFilter, UsageError> {
    match word {
        "error" => Ok(LevelFilter::Error),
        "warn" => Ok(LevelFilter::Warn),
        "info" => Ok(LevelFilter::Info),
        "debug" => Ok(LevelFilter::Debug),
        _ => Err(UsageError::Level(word.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(arguments: &[&str]) -> Result<Request, UsageError> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn reads_both_forms() {
        let usual = time_limit::USUAL;
        let hook = |call, log_level| Request::Hook { call, log_level, policy: Policy::default(), time_limit: usual };
        assert_eq!(read(&[]).unwrap(), hook(None, LevelFilter::Warn));
        assert_eq!(read(&["prestart"]).unwrap(), hook(Some(Call::Create(Stage::CreateRuntime)), LevelFilter::Warn));
        assert_eq!(read(&["--log-level=debug", "poststop"]).unwrap(), hook(Some(Call::CleanUp), LevelFilter::Debug));
        let plan = |state: Option<&str>, form| Request::Plan {
            bundle: "/b".into(),
            state: state.map(Into::into),
            form,
            policy: Policy::default(),
        };
        assert_eq!(read(&["plan", "/b"]).unwrap(), plan(None, Form::Text));
        assert_eq!(read(&["plan", "--state", "s", "/b", "--json"]).unwrap(), plan(Some("s"), Form::Json));
        assert_eq!(
            read(&["precreate"]).unwrap(),
            Request::Precreate { log_level: LevelFilter::Warn, time_limit: usual }
        );
        assert_eq!(read(&["--help"]).unwrap(), Request::Help);
        for (list, keys) in [("", vec![]), ("run-size,cgroup", vec![Key::RunSize, Key::Cgroup])] {
            let policy = Policy::only(keys);
            let expected = Request::Hook { call: None, log_level: LevelFilter::Warn, policy, time_limit: usual };
            assert_eq!(read(&["--allow-options", list]).unwrap(), expected);
        }
        let policy = Policy {
            allowed: vec![Key::RunSize],
            v1_with_sys_admin: V1WithSysAdmin::Allowed,
            cgroups_max: CgroupsMax::Of(7),
        };
        let expected = Request::Hook { call: None, log_level: LevelFilter::Warn, policy, time_limit: usual };
        let given = ["--max-cgroups=7", "--allow-v1-with-cap-sys-admin", "--allow-options", "run-size"];
        assert_eq!(read(&given).unwrap(), expected);
    }

    #[test]
    fn refuses_the_rest() {
        for arguments in [
            &["poststart"][..],
            &["plan"],
            &["plan", "a", "b"],
            &["--json"],
            &["--state", "x"],
            &["--log-level", "loud"],
            &["--nonsense"],
            &["--allow-options", "all"],
            &["--time-limit", "0"],
            &["--time-limit", "3601"],
            &["--time-limit", "1s"],
            &["--max-cgroups", "many"],
            &["--max-cgroups", "0"],
            &["--max-cgroups"],
            &["--allow-v1-with-cap-sys-admin=yes"],
            &["createContainer", "x"],
            &["-x"],
            &["--state"],
        ] {
            let said = read(arguments).unwrap_err().to_string();
            assert!(said.ends_with("; see --help"), "{said}");
            assert!(!said.contains(" '") && !said.contains('`'), "quoted in another way: {said}");
        }
    }
}
