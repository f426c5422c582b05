// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The only part of the hook that reads the host: it turns files into facts. It makes no decisions, and changes
//! nothing except for the mount namespace of this process.

mod annotations;
mod call;
pub mod cgroups;
mod conmon;
mod error;
mod follow_up;
pub mod interpret;
pub mod label;
pub mod live;
mod mounted;
mod occupants;
mod places;
pub mod precreate;
pub mod predict;
mod proc;
mod program;
pub mod readings;
mod selinux;
pub mod stage;
pub mod unreadable;
mod user_namespaces;

use std::os::fd::AsFd;

use self::annotations::Annotations;
pub use self::annotations::{AnnotationFacts, annotation_facts};
pub use self::call::call;
pub use self::error::GatherError;
pub use self::follow_up::follow_up;
use self::user_namespaces::user_namespaces;
use crate::bundle::{Bundle, BundleError};
use crate::command;
use crate::facts::{Command, Container, Switch};
use crate::oci::config;
use crate::oci::pod::Pod;
use crate::oci::state::State;
use crate::root::Root;
use crate::sys::fs;

/// The maximum size of a state. It has a few hundred bytes plus the annotations, of which Kubernetes allows 256 KiB.
const STATE_LIMIT_BYTES: u64 = 512 * 1024;

/// Reads the state. `from` names the input in errors.
pub fn state(input: impl AsFd, from: &str) -> Result<State, GatherError> {
    let text = fs::read_stream(input, STATE_LIMIT_BYTES)
        .map_err(|source| GatherError::ReadState { from: from.to_owned(), source })?;
    let text = text.ok_or_else(|| GatherError::TooLarge {
        what: format!("the container's state from {from}"),
        limit_bytes: STATE_LIMIT_BYTES,
    })?;
    State::parse(&text).map_err(|source| GatherError::ParseState { from: from.to_owned(), source })
}

/// Gathers the facts on which the decision to act is based, and no others. Also returns the container's root if it
/// had to be opened.
pub fn container(bundle: &Bundle<'_>) -> Result<(Container, Option<Root>), GatherError> {
    let id = bundle.state.id.clone();
    let annotations = Annotations::of(bundle)?;
    if annotations.pod == Pod::Sandbox {
        return Ok((Container { id, switch: Switch::Unset, command: Command::Sandbox }, None));
    }
    let command = bundle.read_with(config::CommandFields::of)?.unwrap_or_default();
    let switch = annotations.switch(command.env(annotations::SWITCH))?;
    let program = command::program(&command.args).ok_or_else(|| BundleError::NoArgs(bundle.path().to_owned()))?;
    let is_undecided = match &switch {
        Switch::Unset => command::names_init(program),
        Switch::EnabledForPod => true,
        Switch::Enabled(_) | Switch::Disabled(_) => false,
    };
    let (command, root) = if is_undecided {
        let root = open_root(bundle)?;
        let looked_up =
            Command::LookedUp { name: program.to_owned(), program: program::look_up(&root, program, &command) };
        (looked_up, Some(root))
    } else {
        (Command::Other(program.to_owned()), None)
    };
    Ok((Container { id, switch, command }, root))
}

fn open_root(bundle: &Bundle<'_>) -> Result<Root, GatherError> {
    let path = bundle.root()?;
    Root::open(&path).map_err(|source| GatherError::Root { path, source })
}
