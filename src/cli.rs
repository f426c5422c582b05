// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses the command line into a [`Request`], without acting on it.

mod flags;
mod help;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use crate::facts::options::Policy;
use crate::facts::{Call, Stage};
use flags::{Flag, Form, Given, Invalid, Takes};

pub use help::help;

/// The stages that the command line may name, with the kind of call at each.
const STAGES: [(&str, Call); 4] = [
    ("prestart", Call::Create(Stage::CreateRuntime)),
    ("createRuntime", Call::Create(Stage::CreateRuntime)),
    ("createContainer", Call::Create(Stage::CreateContainer)),
    ("poststop", Call::CleanUp),
];

/// The request that a command line makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Hook {
        /// The kind of call, if the command line names a stage.
        call: Option<Call>,
        log_level: LevelFilter,
        policy: Policy,
        /// The limit on the time that the call takes.
        time_limit: Duration,
    },
    Precreate {
        log_level: LevelFilter,
        /// The limit on the time that the call takes.
        time_limit: Duration,
    },
    Plan {
        bundle: PathBuf,
        /// The file with the container's state, for its ID and annotations.
        state: Option<PathBuf>,
        format: PlanFormat,
        policy: Policy,
    },
    Help,
    Version,
}

/// The format of a printed plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanFormat {
    Text,
    Json,
}

/// Why a command line is invalid.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// lexopt reports a syntax error or an unknown option.
    #[error("{0}; see --help")]
    Parser(String),
    /// The first argument is neither a stage nor a subcommand.
    #[error("invalid argument {0:?} (expected one of: {words}); see --help", words = words())]
    Word(String),
    /// The value of an option is invalid.
    #[error("--{option}: invalid value {value:?} (expected {expected}); see --help")]
    Value {
        option: &'static str,
        /// The value, or the invalid part of it.
        value: String,
        expected: String,
    },
    /// The option does not apply to this form of the command line.
    #[error("the option --{option} can't be used with {form}, only with {takers}; see --help")]
    OtherForm {
        option: &'static str,
        form: &'static str,
        /// The forms that take the option.
        takers: String,
    },
    /// `plan` was given without a bundle.
    #[error("plan needs the bundle's directory; see --help")]
    NoBundle,
}

/// Lists the stages and subcommands, for an error message.
fn words() -> String {
    let stages = STAGES.iter().map(|(name, _)| *name);
    let subcommands = Form::ALL.into_iter().filter_map(|form| form.spec().subcommand);
    stages.chain(subcommands).collect::<Vec<_>>().join(", ")
}

/// Rewords lexopt's errors so that they are quoted like all other messages.
impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> Self {
        Self::Parser(match error {
            lexopt::Error::MissingValue { option: Some(option) } => format!("the option {option} needs a value"),
            lexopt::Error::UnexpectedOption(option) => format!("invalid option {option:?}"),
            lexopt::Error::UnexpectedArgument(argument) => format!("unexpected argument {argument:?}"),
            lexopt::Error::UnexpectedValue { option, value } => {
                format!("the option {option} takes no value, but was given {value:?}")
            }
            lexopt::Error::NonUnicodeValue(value) => format!("the value {value:?} is not UTF-8"),
            error => error.to_string(),
        })
    }
}

/// Parses the arguments, which don't include the program's name. Options may come before
/// or after the positional arguments.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    use lexopt::prelude::{Long, Short, Value, ValueExt as _};
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut options, mut words) = (Vec::new(), Vec::new());
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => return Ok(Request::Help),
            Long("version") | Short('V') => return Ok(Request::Version),
            Long(name) => {
                let flag = Flag::find(name).ok_or_else(|| argument.unexpected())?;
                let value = match flag.takes {
                    Takes::Nothing(_) => OsString::new(),
                    Takes::Text(..) | Takes::Path(..) => parser.value()?,
                };
                options.push((flag, value));
            }
            Value(word) => words.push(word),
            Short(_) => return Err(argument.unexpected().into()),
        }
    }
    let mut words = words.into_iter();
    let (form, call) = match words.next() {
        Some(word) => first_word(word.string()?)?,
        None => (Form::Hook, None),
    };
    let Given { log_level, time_limit, policy, format, state } = given(form, options)?;
    let request = match form {
        Form::Hook => Request::Hook { call, log_level, policy, time_limit },
        Form::Precreate => Request::Precreate { log_level, time_limit },
        Form::Plan => {
            let bundle = words.next().ok_or(UsageError::NoBundle)?.into();
            Request::Plan { bundle, state, format, policy }
        }
    };
    match words.next() {
        Some(word) => Err(lexopt::Error::UnexpectedArgument(word).into()),
        None => Ok(request),
    }
}

/// Returns the form that the first positional argument selects, and the kind of call if the argument is a stage.
fn first_word(word: String) -> Result<(Form, Option<Call>), UsageError> {
    if let Some((_, call)) = STAGES.iter().find(|(name, _)| *name == word) {
        return Ok((Form::Hook, Some(*call)));
    }
    Form::parse(&word).map(|form| (form, None)).ok_or(UsageError::Word(word))
}

/// Returns the values of the options. Fails if one of them does not apply to the form.
fn given(form: Form, options: Vec<(&'static Flag, OsString)>) -> Result<Given, UsageError> {
    use lexopt::ValueExt as _;
    let mut given = Given::default();
    for (flag, value) in options {
        if !flag.forms.contains(&form) {
            let takers: Vec<_> = flag.forms.iter().map(|form| form.name()).collect();
            return Err(UsageError::OtherForm { option: flag.name, form: form.name(), takers: takers.join(", ") });
        }
        match flag.takes {
            Takes::Nothing(set) => set(&mut given),
            Takes::Path(_, set) => set(&mut given, value.into()),
            Takes::Text(_, read) => read(&mut given, &value.string()?)
                .map_err(|Invalid { value, expected }| UsageError::Value { option: flag.name, value, expected })?,
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::flags::FLAGS;
    use super::*;
    use crate::facts::options::{CgroupsMax, Key, V1WithSysAdmin};
    use crate::report::chain;
    use crate::sys::time_limit;

    fn read(arguments: &[&str]) -> Result<Request, UsageError> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn reads_each_form() {
        let usual = time_limit::USUAL;
        let hook = |call, log_level| Request::Hook { call, log_level, policy: Policy::default(), time_limit: usual };
        assert_eq!(read(&[]).unwrap(), hook(None, LevelFilter::Warn));
        assert_eq!(read(&["prestart"]).unwrap(), hook(Some(Call::Create(Stage::CreateRuntime)), LevelFilter::Warn));
        assert_eq!(read(&["--log-level=debug", "poststop"]).unwrap(), hook(Some(Call::CleanUp), LevelFilter::Debug));
        let plan = |state: Option<&str>, format| Request::Plan {
            bundle: "/b".into(),
            state: state.map(Into::into),
            format,
            policy: Policy::default(),
        };
        assert_eq!(read(&["plan", "/b"]).unwrap(), plan(None, PlanFormat::Text));
        assert_eq!(read(&["plan", "--state", "s", "/b", "--json"]).unwrap(), plan(Some("s"), PlanFormat::Json));
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
            let said = chain(&read(arguments).unwrap_err());
            assert!(said.ends_with("; see --help"), "{said}");
            assert!(!said.contains(" '") && !said.contains('`'), "quoted in another way: {said}");
        }
    }

    #[test]
    fn each_form_takes_its_own_options_alone() {
        for form in Form::ALL {
            let word = form.spec().subcommand.unwrap_or("poststop");
            for flag in &FLAGS {
                let option = match flag.takes {
                    Takes::Nothing(_) => format!("--{}", flag.name),
                    Takes::Text(..) | Takes::Path(..) => format!("--{}=1", flag.name),
                };
                let refusal = format!("the option --{} can't be used with {}, only with ", flag.name, form.name());
                for arguments in [[word, &option], [&option, word]] {
                    // An option that applies may still lead to another error, such as a missing
                    // bundle or an invalid value.
                    let is_refused = read(&arguments).is_err_and(|error| error.to_string().starts_with(&refusal));
                    assert_eq!(is_refused, !flag.forms.contains(&form), "{arguments:?}");
                }
            }
        }
    }
}
