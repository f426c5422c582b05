// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes the bundle of a container that is about to be created: adds to its config.json what it
//! lacks, and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::inject::{HookConfig, add, calls_this_hook};
use super::log::{Log, LogLevel};
use super::settings::{self, Settings};
use super::{NAME, RuntimeError};
use crate::bundle::{Bundle, BundleError, absolute};
use crate::decide::{Decision, PrepareReason};
use crate::gather::GatherError;
use crate::gather::label::ContainerLabel;
use crate::hooksd::{self, Descriptor, Fault, HookSet, MatchedContainer, Problem};
use crate::oci::Text;
use crate::oci::config::{CommandFields, ConfigMount, annotations, mounts};
use crate::oci::edit::Edit;
use crate::oci::state::State;
use crate::plan::Change;
use crate::precreate;
use crate::report::{self, chain, last_words};
use crate::sys::fs;
use crate::sys::journal::{self, Priority};
use crate::sys::time_limit;

/// The maximum size of config.json. Every container's config.json is read, even if the engine has written a
/// thousand mounts into it.
const CONFIG_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// Adds the hooks that match, and what containers with systemd need. A missing config.json is left for
/// the runtime to report.
pub fn add_hooks(config: &Path, id: &str, settings: &Settings, log: Option<&Log>) -> Result<(), RuntimeError> {
    let log_at_end = log.cloned();
    time_limit::begin(time_limit::USUAL, move |line| {
        last_words(NAME, line);
        if let Some(log) = &log_at_end {
            log.write(LogLevel::Error, &format!("{NAME}: {line}"));
        }
    });
    let state = state(config, id);
    let bundle = match Bundle::read_at(&state, config.to_owned(), CONFIG_LIMIT_BYTES) {
        Err(BundleError::Read { source, .. }) if matches!(source.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => {
            return Ok(());
        }
        result => result?,
    };
    let hooks = good_descriptors(settings, log)?;
    let last = matching(&hooks, &bundle)?;
    let first = settings.hook_config_path.as_deref().map(hook_config).transpose()?.unwrap_or_default();
    let (because, changes) = for_systemd(&bundle)?;
    if last.is_empty() && first.is_empty() && because.is_none() {
        return Ok(());
    }
    let mut edit = Edit::of(bundle.document());
    if !(last.is_empty() && first.is_empty()) {
        add(&mut edit, &first, &last)?;
    }
    precreate::apply(&mut edit, &changes)?;
    if let Some(because) = because.filter(|_| !calls_this_hook(&edit)) {
        warn(log, &missing_hook_warning(&state, &because, settings, &hooks.problems));
    }
    let after = edit.into_text();
    if after == bundle.document().text() {
        return Ok(());
    }
    fs::replace_host(config, &after).map_err(|source| RuntimeError::Write { path: config.to_owned(), source })
}

/// Predicts the state that the runtime will write.
fn state(config: &Path, id: &str) -> State {
    let bundle = absolute(config.parent().filter(|bundle| !bundle.as_os_str().is_empty()).unwrap_or(Path::new(".")));
    State::predicted(id, bundle)
}

fn good_descriptors(settings: &Settings, log: Option<&Log>) -> Result<HookSet, RuntimeError> {
    let mut hooks = hooksd::read(&settings.hooks_dirs(), &[]);
    let fatal = hooks.problems.iter().position(|problem| problem.fatal);
    if !settings.skips_bad_descriptors() {
        return match fatal {
            Some(at) => Err(RuntimeError::Descriptor(hooks.problems.swap_remove(at))),
            None => Ok(hooks),
        };
    }
    for problem in hooks.problems.iter().filter(|problem| problem.fatal) {
        warn(log, &chain(problem));
    }
    Ok(hooks)
}

/// Logs a warning. It also goes to the journal, because engines show a runtime's log only if the runtime failed.
fn warn(log: Option<&Log>, line: &str) {
    journal::send(Priority::Warning, line);
    if let Some(log) = log {
        log.write(LogLevel::Warning, &format!("{NAME}: {line}"));
    }
}

fn hook_config(path: &Path) -> Result<HookConfig, RuntimeError> {
    let path_of = || PathBuf::from(path);
    let text = fs::read_host(path).map_err(|source| RuntimeError::ReadHookConfig { path: path_of(), source })?;
    HookConfig::parse(&text).map_err(|source| RuntimeError::HookConfig { path: path_of(), source })
}

fn matching<'h>(hooks: &'h HookSet, bundle: &Bundle<'_>) -> Result<Vec<&'h Descriptor>, RuntimeError> {
    let command = bundle.read_with(CommandFields::of)?;
    let owned = |(key, value): (Text<'_>, Text<'_>)| (key.into(), value.into());
    let annotations: BTreeMap<String, String> = bundle.read_with(annotations)?.into_iter().map(owned).collect();
    let has_bind_mounts = hooks.depend_on_bind_mounts() && bundle.read_with(mounts)?.iter().any(may_be_user_bind_mount);
    let args = command.as_ref().map(|command| command.args.as_slice());
    Ok(hooks.matching(&MatchedContainer { args, annotations: &annotations, has_bind_mounts })?)
}

/// Whether the user may have requested this bind mount. Engines know which ones the user requested, but config.json
/// also has the engines' own.
fn may_be_user_bind_mount(mount: &ConfigMount) -> bool {
    const ENGINES: [&str; 8] = [
        "/etc/resolv.conf",
        "/etc/hostname",
        "/etc/hosts",
        "/dev/shm",
        "/dev/init",
        "/sbin/docker-init",
        "/run/.containerenv",
        "/dev/termination-log",
    ];
    mount.is_bind() && !ENGINES.iter().any(|path| mount.destination == Path::new(path))
}

/// Returns why the container is to be prepared for systemd, or `None` if it isn't, and what its config.json lacks for
/// that. A root that can't be opened and a process without arguments are left for the runtime to reject.
fn for_systemd(bundle: &Bundle<'_>) -> Result<(Option<PrepareReason>, Vec<Change>), RuntimeError> {
    match precreate::changes(bundle) {
        Ok((Decision::Prepare(because), changes)) => Ok((Some(because), changes)),
        Ok((Decision::Skip(_), changes)) => Ok((None, changes)),
        Err(GatherError::Root { .. } | GatherError::Bundle(BundleError::NoRoot(_) | BundleError::NoArgs(_))) => {
            Ok((None, Vec::new()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Describes a container that runs systemd without being prepared by this hook. This is not an error: its image may
/// not need the hook, and other hooks may do the same. But systemd usually exits with status 255 in such a container
/// without a message, and the engine doesn't print one either.
fn missing_hook_warning(state: &State, because: &PrepareReason, settings: &Settings, problems: &[Problem]) -> String {
    let directories = settings.hooks_dirs();
    let is_missing = |problem: &&Problem| matches!(problem.fault, Fault::Directory(_));
    let none = match directories.as_slice() {
        [] => "no directory of descriptors is set".to_owned(),
        directories => format!("no usable descriptor in {} matches this container", quoted(directories)),
    };
    let mut line = format!(
        "{}: {because}, but no hook called {} runs when the container is created, and without it systemd usually exits \
         at once: {none}; install the hook with contrib/install.sh, or set hooksDirs in {} to the directory of its \
         descriptors",
        ContainerLabel::of(state),
        report::NAME,
        settings::FILE,
    );
    // Often one of the default directories is missing, which is fine.
    let all_missing = problems.iter().filter(is_missing).count() == directories.len();
    for problem in problems.iter().filter(|problem| problem.fault.is_missing_hook() || all_missing) {
        line.push_str("; ");
        line.push_str(&chain(problem));
    }
    line
}

fn quoted(paths: &[PathBuf]) -> String {
    let words: Vec<String> = paths.iter().map(|path| format!("{path:?}")).collect();
    words.join(", ")
}
