// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests what `docker logs` shows of a container with systemd.

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::{Look, SHORT, until};
use crate::container::message;
use crate::docker::engine::Engine;
use crate::docker::guest::{Guest, INIT};
use crate::inside::Inside;

/// systemd writes its messages to /dev/console, which exists only with a terminal. In that case the log has all of
/// them, from the first message to the last.
const ON_CONSOLE: [&str; 6] =
    ["systemd 252", "Welcome to", "Reached target", GREETING, "Stopped target", "Exiting container"];

/// The end of the line above the login prompt, which appears when everything else is quiet. The log holds back the
/// prompt itself, like any incomplete line.
const GREETING: &str = " console\r\n";

pub fn with_and_without_terminal(engine: &Engine) -> Result<(), Failed> {
    let silent = life(engine, &[], "")?;
    same("the log without a terminal", &silent, "")?;
    let told = life(engine, &["--tty"], GREETING)?;
    let mut rest = told.as_str();
    for words in ON_CONSOLE {
        let at = rest
            .find(words)
            .ok_or_else(|| format!("the log does not have {words:?} in the expected order:\n{told}"))?;
        rest = &rest[at..];
    }
    Ok(())
}

/// Returns the log of a container, which is stopped only after the log contains `last`.
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
