// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests the lives of containers with systemd, and what happens to them without the wrapper or a part of it.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::boot::{has_come_up, notices_a_killed_service, same, survives_reexec};
use crate::command::run_at_once;
use crate::docker::engine::{Engine, PLAIN, WRAPPED};
use crate::docker::guest::{Guest, INIT};
use crate::engines::hooks;
use crate::engines::image::IMAGE;
use crate::inside::Inside;
use crate::shutdown::{self, JOURNAL};

/// Tests the README's single command, and a stop that doesn't specify a signal.
pub fn whole(engine: &Engine) -> Result<(), Failed> {
    let (name, point) = JOURNAL;
    let journal = engine.host().home().join(name);
    fs::create_dir(&journal)?;
    let volume = format!("--volume={}:{point}", journal.display());
    let guest = Guest::run(engine, &[&volume], &INIT)?;
    guest.explain(|guest| {
        guest.is_well()?;
        notices_a_killed_service(guest)?;
        survives_reexec(guest)?;
        guest.ends_in_order("0")?;
        guest.removed()
    })?;
    shutdown::is_in(engine.host().command("unshare"), &journal, &engine.host().tree())
}

/// Tests the descriptors that also call the hook at createContainer.
pub fn all_stages(engine: &Engine) -> Result<(), Failed> {
    hooks::add_create_container(&engine.hooks_directory())?;
    Guest::run_by(engine, PLAIN, &[], &INIT)?.gives_up()?;
    let guest = Guest::run(engine, &[], &INIT)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}

/// Tests that the same container doesn't boot with only the plain runtime.
pub fn without_wrapper(engine: &Engine) -> Result<(), Failed> {
    Guest::run_by(engine, PLAIN, &[], &INIT)?.gives_up()
}

/// Tests that the container doesn't boot if its user disables the hook. Docker 20.10 has no annotations, so an
/// environment variable does it.
pub fn disabled(engine: &Engine) -> Result<(), Failed> {
    Guest::run(engine, &["--env=oci-systemd-hook=disabled"], &INIT)?.gives_up()
}

/// A runtime that sends SIGTERM, which Docker requested from the wrapper, in place of the SIGRTMIN+3 that the
/// wrapper passes to it.
const UNTRANSLATED: &str = r#"#!/bin/sh
set -eu
count=$#
for argument; do
    shift
    case " $* " in *" kill "*) [ "$argument" = 37 ] && argument=15 ;; esac
    set -- "$@" "$argument"
done
[ "$count" = "$#" ]
exec "$RUNTIME" "$@"
"#;

/// Tests that without the wrapper's translation of signals, systemd misunderstands the signal that Docker sends,
/// and Docker kills the container after its timeout.
pub fn untranslated(engine: &Engine) -> Result<(), Failed> {
    let text = UNTRANSLATED.replace("$RUNTIME", &engine.below()?.display().to_string());
    let script = engine.script("untranslated", &text)?;
    engine.add_runtime("untranslated", engine.wrapper(), &engine.around(&script))?;
    let guest = Guest::run_by(engine, "untranslated", &[], &INIT)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.call(&["stop", "--time=3"])?;
        guest.until_stopped()?;
        same("the exit code", &guest.inspect(".State.ExitCode")?, "137")?;
        guest.removed()
    })
}

/// Tests that each restart works as well as the first start, with the same machine ID.
pub fn restarted(engine: &Engine) -> Result<(), Failed> {
    let guest = Guest::run(engine, &[], &INIT)?;
    guest.explain(|guest| guest.restarts(2))
}

const CROWD: Duration = Duration::from_secs(180);

/// Tests that containers that start, run and end at the same time don't interfere with each other.
pub fn thirty_at_once(engine: &Engine) -> Result<(), Failed> {
    let command = || engine.command(&["run", "--detach", "--runtime", WRAPPED, IMAGE, "/sbin/init"]);
    let told = run_at_once((0..30).map(|_| command()).collect(), CROWD)?;
    let guests = told.iter().map(|told| Guest::by(engine, told)).collect::<Result<Vec<_>, _>>()?;
    let mut ids = BTreeSet::new();
    for guest in &guests {
        // Two processors take a while to start so many.
        guest.explain(|guest| guest.until_running_within(CROWD))?;
        guest.explain(has_come_up)?;
        ids.insert(guest.ask(&["cat", "/etc/machine-id"])?);
    }
    same("different machine ids", &ids.len().to_string(), &guests.len().to_string())?;
    let each = |words: &[&str]| {
        let ids = guests.iter().map(Inside::id);
        engine.ask(&words.iter().copied().chain(ids).collect::<Vec<_>>())
    };
    each(&["stop", "--time=60"])?;
    for guest in &guests {
        same("the exit code", &guest.inspect(".State.ExitCode")?, "0")?;
    }
    each(&["rm"]).map(drop)
}

/// Tests containers in a user namespace, whose root has no privileges on the host.
pub fn in_user_namespace(engine: &Engine) -> Result<(), Failed> {
    without_wrapper(engine)?;
    let guest = Guest::run(engine, &[], &INIT)?;
    guest.explain(|guest| {
        guest.is_well()?;
        let map = guest.ask(&["cat", "/proc/self/uid_map"])?;
        same("the host's root", &(map.split_whitespace().nth(1) == Some("0")).to_string(), "false")?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}
