// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that the wrapper changes nothing in containers that have nothing to do with systemd.

use std::fs;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::{Look, SHORT, until};
use crate::container::message;
use crate::docker::engine::{Engine, PLAIN, WRAPPED};
use crate::docker::guest::{Guest, INIT};
use crate::docker::stock::OTHER_INIT;
use crate::engines::image::IMAGE;
use crate::inside::Inside;

/// Commands that users run, and the exit codes of docker. For a missing program there are two, because Docker
/// doesn't understand crun 1.8's message.
const COMMANDS: [(&[&str], &[i32]); 3] =
    [(&["/bin/echo", "hi"], &[0]), (&["sh", "-c", "echo no >&2; exit 7"], &[7]), (&["/no/such/program"], &[127, 125])];

pub fn says_the_same(engine: &Engine) -> Result<(), Failed> {
    for (command, codes) in COMMANDS {
        let by = |runtime| {
            // One name, since Docker's messages have it.
            let told = engine.call(&[&["run", "--rm", "--runtime", runtime, IMAGE], command].concat())?;
            Ok::<_, Failed>((told.status.code(), told.output, told.errors))
        };
        let (wrapped, plain) = (by(WRAPPED)?, by(PLAIN)?);
        if wrapped != plain || !plain.0.is_some_and(|code| codes.contains(&code)) {
            return Err(format!("{command:?}: with the wrapper {wrapped:?}, without {plain:?}").into());
        }
    }
    Ok(())
}

/// A runtime that saves config.json as it receives it, with the file's metadata.
const RECORDING: &str = r#"#!/bin/sh
set -eu
bundle='' before='' verb=''
for argument; do
    case $before in --bundle | -b) bundle=$argument ;; esac
    case $argument in create | run) verb=$argument ;; esac
    before=$argument
done
if [ -n "$verb" ]; then
    cp "$bundle/config.json" "$RECORDS/$RECORD.json"
    stat -c '%i %y %a %U:%G' "$bundle/config.json" >"$RECORDS/$RECORD.stat"
fi
exec "$NEXT" "$@"
"#;

/// Tests that the runtime gets the same file that containerd wrote, except for a container with systemd.
pub fn keeps_config_json(engine: &Engine) -> Result<(), Failed> {
    let recording = |record: &str, next: &str| {
        let records = engine.host().home().display().to_string();
        let words = [("$RECORDS", records.as_str()), ("$RECORD", record), ("$NEXT", next)];
        let text = words.iter().fold(RECORDING.to_owned(), |text, (word, value)| text.replace(word, value));
        engine.script(&format!("recording-{record}"), &text)
    };
    let inner = recording("got", &engine.below()?.display().to_string())?;
    let outer = recording("written", &engine.wrapper().display().to_string())?;
    engine.add_runtime("recording", &outer, &engine.around(&inner))?;
    let same_files = || -> Result<[bool; 2], Failed> {
        let read = |name: &str| fs::read(engine.host().home().join(name));
        let same = |kind: &str| Ok::<_, Failed>(read(&format!("written.{kind}"))? == read(&format!("got.{kind}"))?);
        Ok([same("json")?, same("stat")?])
    };
    let ran = ["run", "--rm", "--runtime=recording", IMAGE];
    for command in [&["/bin/true"][..], &["/bin/sh", "-c", "true"]] {
        engine.ask(&[&ran, command].concat())?;
        same(&format!("config.json of {command:?}"), &format!("{:?}", same_files()?), "[true, true]")?;
    }
    let guest = Guest::run_by(engine, "recording", &[], &INIT)?;
    guest.explain(|guest| {
        same("config.json of systemd", &format!("{:?}", same_files()?), "[false, false]")?;
        guest.is_well()?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}

/// Tests that `docker stop` sends these containers the same signal as ever, even if their command has the
/// name of an init.
pub fn stops_as_ever(engine: &Engine) -> Result<(), Failed> {
    for command in [&["/bin/sh", OTHER_INIT][..], &[OTHER_INIT]] {
        let guest = Guest::run(engine, &[], command)?;
        guest.explain(|guest| {
            until("a trap for the signal", SHORT, || match engine.ask(&["logs", guest.id()]) {
                Ok(said) if said == "ready" => Look::Done(()),
                Ok(said) => Look::NotYet(said),
                Err(failed) => Look::Never(message(&failed)),
            })?;
            guest.ends_in_order("3")?;
            guest.removed()
        })?;
    }
    Ok(())
}
