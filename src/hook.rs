// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One call from beginning to end: gather, decide, prepare, apply, report.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use log::{Level, debug, info, log, log_enabled, warn};
use rustix::io::Errno;
use serde::Serialize;

use crate::apply::{self, Outcome, StepError};
use crate::bundle::{self, Bundle, BundleError};
use crate::cli::PlanFormat;
use crate::decide::{Decision, Reason, decide};
use crate::facts::options::Policy;
use crate::facts::{Call, FollowUp, Stage};
use crate::gather::label::{ContainerLabel, short};
use crate::gather::unreadable::{self, Assessment};
use crate::gather::{self, GatherError};
use crate::oci::config::Config;
use crate::oci::edit::{Edit, EditError};
use crate::oci::state::State;
use crate::one_line::one_line;
use crate::plan::Plan;
use crate::precreate;
use crate::prepare::{Refusal, prepare};
use crate::record::{self, ContainerView, Namespaces, Record, RecordProblem};
use crate::report::chain;
use crate::root::Root;
use crate::sys::{SysError, fs, process, time_limit};

/// Why a call failed. The container is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The facts can't be gathered.
    #[error(transparent)]
    Gather(#[from] GatherError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The container can't run systemd.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Step(#[from] StepError),
    /// The dynamic loader has acted on an environment variable that the container's author can set.
    #[error(
        "this program is linked dynamically and was started with {0} in its environment, which the container's author \
         can set; the dynamic loader obeys it and may have run code from the image on the host; install the static \
         build of contrib/build.sh, or set an `env` without {0} for the hook in config.json or in its descriptor"
    )]
    Loader(String),
    #[error("cannot change the config.json from standard input")]
    Edit(#[from] EditError),
    #[error("cannot write config.json to standard output")]
    Write(#[source] std::io::Error),
    /// `plan` was given something other than a bundle.
    #[error(
        "cannot plan for {path:?}: a bundle is a directory with a config.json, such as the one that `runc spec` writes"
    )]
    NoBundle { path: PathBuf, source: std::io::Error },
    /// `plan` was given a file that can't be opened.
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: SysError },
}

/// An error, and the container that it concerns, if known.
#[derive(Debug)]
pub struct Failure {
    pub container: Option<String>,
    pub error: Box<HookError>,
}

/// Runs as a hook with the state on `input`. `call` is the stage that the command line specifies, `policy` is what
/// the administrator allows, and `loader` is an environment variable that the dynamic loader has acted on.
pub fn run(input: impl AsFd, call: Option<Call>, policy: &Policy, loader: Option<String>) -> Result<(), Failure> {
    if call == Some(Call::CleanUp) {
        time_limit::end_with(CLEANED_UP);
    }
    let state = match gather::state(input, "standard input") {
        Err(error) if call == Some(Call::CleanUp) => {
            warn!("{}", chain(&error));
            return Ok(());
        }
        result => result.map_err(|error| Failure { container: None, error: Box::new(error.into()) })?,
    };
    match call.unwrap_or_else(|| gather::call(&state)) {
        Call::CleanUp => {
            time_limit::end_with(CLEANED_UP);
            // Errors are only logged: runc refuses to delete a container whose poststop fails.
            tell(record::clean_up(&state));
            Ok(())
        }
        // At the other stages the environment is that of the engine.
        Call::Create(Stage::CreateContainer) if loader.is_some() => {
            let error = Box::new(HookError::Loader(loader.unwrap_or_default()));
            Err(Failure { container: Some(ContainerLabel::of(&state).to_string()), error })
        }
        Call::Create(stage) => create(&state, stage, policy).map_err(|error| Failure {
            container: Some(ContainerLabel::of(&state).to_string()),
            error: Box::new(error),
        }),
    }
}

fn create(state: &State, stage: Stage, policy: &Policy) -> Result<(), HookError> {
    let label = ContainerLabel::of(state);
    let parent = process::parent();
    let Some((bundle, root)) = to_prepare(state, stage)? else { return Ok(()) };
    let proof = gather::stage::prove(stage, bundle.config()?)?;
    process::clear_umask();
    if stage == Stage::CreateRuntime {
        // This must happen in the runtime's mount namespace, in which the paths of records are valid.
        tell(record::sweep());
    }
    let seen = seen(state, stage);
    let (container, facts) = match gather::live::surroundings(&bundle, stage, root, policy, proof.runtime) {
        // A wrong state is an error at this stage already, and isn't left to the call at createContainer.
        Err(error @ GatherError::Stage(_)) => return Err(error.into()),
        // Any other failure also occurs at createContainer, and is reported there.
        Err(error) if gather::follow_up(bundle.config()?, stage).is_ok_and(|after| after != FollowUp::None) => {
            info!("{label}: skipped at {}: {}", stage.name(), chain(&error));
            return Ok(());
        }
        result => result?,
    };
    let plan = match (prepare(&facts), proof.lacking) {
        (Ok(plan), _) if plan.steps.is_empty() => {
            say_why_left_alone(&label, stage, facts.follow_up);
            return Ok(());
        }
        // If the runtime's process isn't visible, the processes in the cgroup aren't either. This
        // error names the cause.
        (Ok(_) | Err(Refusal::SharedCgroup { .. }), Some(error)) => return Err(GatherError::from(error).into()),
        (result, _) => result?,
    };
    announce(&label, &plan);
    let poststop_is_pending = || match (stage, state.pid) {
        _ if process::parent() != parent => Ok(false),
        (Stage::CreateRuntime, Some(pid)) => process::shares_mount_namespace(pid),
        // At createContainer the first process is the parent, and its PID in this namespace may differ from
        // that in the state.
        (Stage::CreateContainer, _) | (_, None) => Ok(true),
    };
    let record = Record::of(&state.id, bundle.directory()?, seen);
    match apply::apply(&container.root, &plan, &record, state.pid, &poststop_is_pending) {
        Outcome::Prepared(failed) => {
            for error in &failed {
                warn!("{label}: {}", chain(error));
            }
            info!("{label}: prepared at {}", stage.name());
            Ok(())
        }
        Outcome::Undone(error, undoing) => {
            for error in &undoing {
                warn!("{label}: cannot undo a step: {}", chain(error));
            }
            Err(error.into())
        }
    }
}

/// Returns how this call identifies the container. At createRuntime this process must still be
/// in the runtime's namespaces.
fn seen(state: &State, stage: Stage) -> ContainerView {
    match stage {
        Stage::CreateRuntime => ContainerView::ByRuntime { first_process: state.pid, namespaces: Namespaces::own() },
        Stage::CreateContainer => ContainerView::FromInside,
    }
}

/// Logs why a plan has no steps.
fn say_why_left_alone(label: &ContainerLabel<'_>, stage: Stage, follow_up: FollowUp) {
    let why = match follow_up {
        FollowUp::None => "there is nothing to do; an earlier call has done it",
        FollowUp::CreateContainer | FollowUp::CreateContainerOnReadOnlyRoot => {
            "the call at createContainer prepares the container, and no step has to be done outside it"
        }
    };
    debug!("{label}: skipped at {}: {why}", stage.name());
}

/// Logs the plan for debugging, and its warnings.
fn announce(label: &ContainerLabel<'_>, plan: &Plan) {
    if log_enabled!(Level::Debug) {
        for line in plan.to_string().lines() {
            debug!("{label}: {line}");
        }
    }
    for warning in plan.warnings() {
        warn!("{label}: {warning}");
    }
}

/// Returns the bundle if the container is to be prepared, and otherwise logs why it isn't. Also returns the root if
/// it was opened in the container's mount namespace.
fn to_prepare(state: &State, stage: Stage) -> Result<Option<(Bundle<'_>, Option<Root>)>, HookError> {
    let (label, at) = (ContainerLabel::of(state), stage.name());
    let bundle = match Bundle::read(state) {
        // At createRuntime the hook can read config.json, since its caller did so itself.
        Err(BundleError::Read { path, source })
            if stage == Stage::CreateContainer
                && source.errno() == Some(Errno::ACCESS)
                && process::is_in_user_namespace() =>
        {
            let config = without_config(&label, at, &path, &source, unreadable::assess(state)?);
            return Ok(config.map(|config| (Bundle::without_config(state, config), None)));
        }
        result => result?,
    };
    let (container, root) = gather::container(&bundle)?;
    match decide(&container) {
        Decision::Skip(reason) => {
            // A command that can't be determined may be systemd, and then the container will not start.
            let level = if matches!(reason, Reason::Unreachable(..)) { Level::Warn } else { Level::Debug };
            log!(level, "{label}: skipped at {at}: {reason}");
            Ok(None)
        }
        Decision::Prepare(because) => {
            debug!("{label}: prepare at {at}: {because}");
            // At createRuntime the root is closed here, and opened again in the container's mount namespace.
            // Meanwhile the engine, whose runtime may have been killed, must be able to unmount the root in
            // its own mount namespace.
            Ok(Some((bundle, root.filter(|_| stage == Stage::CreateContainer))))
        }
    }
}

fn without_config(
    label: &ContainerLabel<'_>,
    at: &str,
    path: &Path,
    source: &SysError,
    told: Assessment,
) -> Option<Config> {
    let path = path.display();
    match told {
        Assessment::LeaveAlone(why) => info!("{label}: skipped at {at}: cannot read {path}, and {why}"),
        Assessment::Enabled(config) => {
            debug!("{label}: prepare at {at}: cannot read {path}, and the annotation in the state enables the hook");
            return Some(*config);
        }
        // This isn't an error, since the call at createRuntime may have determined that the container
        // isn't to be prepared.
        Assessment::MayBeSystemd => warn!(
            "{label}: skipped at {at}: it can't be determined whether the command is systemd, since {path} can't be \
             read in this user namespace ({source}); if it is, let this hook also run at createRuntime, as its \
             descriptors do, or set the container's annotation oci-systemd-hook to enabled"
        ),
    }
    None
}

/// Runs as podman's stage precreate, oci-hooks(5): reads config.json from `input` and writes it to `output`, with
/// changes if the container is to be prepared.
pub fn precreate(input: impl AsFd, output: &mut dyn Write) -> Result<(), Failure> {
    const INPUT: &str = "the config.json on standard input";
    let document = bundle::read_stream(input, INPUT);
    let document = document.map_err(|error| Failure { container: None, error: Box::new(error.into()) })?;
    let state = gather::precreate::state_at_precreate(bundle::absolute(Path::new(".")), &document);
    let bundle = Bundle::of(&state, INPUT.into(), document);
    change(&bundle, output)
        .map_err(|error| Failure { container: Some(ContainerLabel::of(&state).to_string()), error: Box::new(error) })
}

fn change(bundle: &Bundle<'_>, output: &mut dyn Write) -> Result<(), HookError> {
    let label = ContainerLabel::of(bundle.state);
    let (decision, changes) = precreate::changes(bundle)?;
    match decision {
        Decision::Skip(reason) => debug!("{label}: skipped at precreate: {reason}"),
        Decision::Prepare(because) => debug!("{label}: change config.json at precreate: {because}"),
    }
    for change in &changes {
        debug!("{label}: {change}");
    }
    let changed = if changes.is_empty() {
        Cow::Borrowed(bundle.document().bytes())
    } else {
        let mut edit = Edit::of(bundle.document());
        precreate::apply(&mut edit, &changes)?;
        Cow::Owned(edit.into_text().into_bytes())
    };
    output.write_all(&changed).and_then(|()| output.flush()).map_err(HookError::Write)
}

/// The exit status at poststop in all cases: runc refuses to delete a container whose poststop fails.
const CLEANED_UP: u8 = 0;

/// Logs the problems with the records of this container, and of others that are gone.
fn tell(all: Vec<RecordProblem>) {
    for RecordProblem { id, error, is_of_another_call } in all {
        let level = if error.is_deferred() || is_of_another_call { Level::Info } else { Level::Warn };
        log!(level, "{}: {}", short(&id), chain(&error));
    }
}

/// The version of the JSON document. It is raised when a field or a value is removed, renamed, or changes its meaning; see
/// share/doc/plan.md.
const PLAN_VERSION: u32 = 1;

/// The JSON document that `plan --json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    version: u32,
    id: &'a str,
    decision: &'static str,
    because: String,
    #[serde(flatten)]
    plan: Plan,
}

/// Returns the plan for a bundle in the given format, without carrying it out.
pub fn plan(bundle: &Path, state: Option<&Path>, format: PlanFormat, policy: &Policy) -> Result<String, HookError> {
    let not_found = |source| HookError::NoBundle { path: bundle.to_owned(), source };
    let directory = std::fs::canonicalize(bundle).map_err(not_found)?;
    if !directory.is_dir() {
        return Err(not_found(ErrorKind::NotADirectory.into()));
    }
    let state = match state {
        Some(path) => {
            let file = fs::open_host(path).map_err(|source| HookError::Open { path: path.to_owned(), source })?;
            gather::state(file, &path.display().to_string())?.with_bundle(directory)
        }
        None => gather::precreate::predicted_state(directory),
    };
    let bundle = Bundle::read(&state)?;
    let (decision, because, plan) = match decide(&gather::container(&bundle)?.0) {
        Decision::Skip(reason) => ("skip", reason.to_string(), Plan::default()),
        Decision::Prepare(because) => {
            ("prepare", because.to_string(), prepare(&gather::predict::surroundings(&bundle, policy)?)?)
        }
    };
    let printed = Printed { version: PLAN_VERSION, id: &state.id, decision, because, plan };
    Ok(match format {
        PlanFormat::Text => printed.text(),
        PlanFormat::Json => format!("{:#}\n", serde_json::json!(printed)),
    })
}

impl Printed<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", one_line(format_args!("{} {}: {}", self.decision, short(self.id), self.because)));
        let _ = write!(text, "{}", self.plan);
        text
    }
}
