// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows what `docker logs` shows of a container with systemd.

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::{Look, SHORT, until};
use crate::container::message;
use crate::docker::engine::Engine;
use crate::docker::guest::{Guest, INIT};
use crate::inside::Inside;

/// systemd says what it does on /dev/console, which is there with a terminal alone; then all of it is kept, from the
/// greeting to the end.
const ON_CONSOLE: [&str; 6] =
    ["systemd 252", "Welcome to", "Reached target", GREETING, "Stopped target", "Exiting container"];

/// What is above the login prompt, and comes when all else is quiet; the log holds the prompt back, as any line that isn't
/// complete.
const GREETING: &str = " console\r\n";

pub fn with_and_without_terminal(engine: &Engine) -> Result<(), Failed> {
    let silent = life(engine, &[], "")?;
    same("the log without a terminal", &silent, "")?;
    let told = life(engine, &["--tty"], GREETING)?;
    let mut rest = told.as_str();
    for words in ON_CONSOLE {
        let at = rest.find(words).ok_or_else(|| format!("{words:?} is not in its place in the log:\n{told}"))?;
        rest = &rest[at..];
    }
    Ok(())
}

/// The log of one, which isn't stopped before it has these words in it.
fn life(engine: &Engine, options: &[&str], last: &str) -> Result<String, Failed> {
    let guest = Guest::run(engine, options, &INIT)?;
    let logs = || {
        let logs = engine.call(&["logs", guest.id()])?;
        Ok::<_, Failed>([logs.output.as_str(), &logs.errors].concat())
    };
    let mut told = String::new();
    guest.explain(|guest| {
        guest.is_well()?;
        until(&format!("{last:?} in the log"), SHORT, || match logs() {
            Ok(told) if told.contains(last) => Look::Done(()),
            Ok(told) => Look::NotYet(told),
            Err(failed) => Look::Never(message(&failed)),
        })?;
        guest.ends_in_order("0")?;
        told = logs()?;
        guest.removed()
    })?;
    Ok(told)
}
