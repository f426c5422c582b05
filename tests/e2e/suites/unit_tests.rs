// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs systemd's unit tests, from Debian's package systemd-tests, in containers.

use std::thread;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::command::run;
use crate::inside::Inside;
use crate::podman::CRUN_UNIFIED;
use crate::podman::engine::{Engine, Hooks};
use crate::podman::guest::{Guest, PLAIN};
use crate::podman::store::Store;
use crate::site::{Site, Suite};
use crate::suites::{Results, lost};

const INIT: [&str; 1] = ["/sbin/init"];

/// The time limit for all tests. Some wait for timeouts, which take a minute and a half in total.
const LIMIT: Duration = Duration::from_secs(600);

/// The minimum number of tests that must pass. Each release has some 200 or more that pass in a container.
const AT_LEAST: usize = 100;

/// Tests that what passes in podman's own systemd mode without the hook also passes with only the hook.
pub fn run_in(site: &Site, store: &Store, suite: Suite) -> Result<(), Failed> {
    let engine = Engine::with_tree(site, store, CRUN_UNIFIED, site.unit_tests(suite)?)?;
    let tree = format!("{}:O", engine.host().tree().display());
    let plain = [&PLAIN[..], &["--rootfs"]].concat();
    // systemd 247 doesn't detect the container by itself, and hangs where newer versions exit.
    let told: &[&str] = if suite == Suite::Bullseye { &["--env=container=oci"] } else { &[] };
    Guest::run_image(&engine, Hooks::None, &[told, &plain].concat(), &tree, &INIT)?.gives_up()?;
    let own = Guest::run_image(&engine, Hooks::None, &["--systemd=true", "--rootfs"], &tree, &INIT)?;
    let with_hook = Guest::run_image(&engine, Hooks::Installed, &plain, &tree, &INIT)?;
    for guest in [&own, &with_hook] {
        guest.explain(Inside::until_running)?;
    }
    let (before, after) = thread::scope(|scope| {
        let before = scope.spawn(|| results(&engine, &own));
        let after = results(&engine, &with_hook);
        (before.join().map_err(|_| "a thread panicked"), after)
    });
    let (before, after) = (before??, after?);
    let passed = before.values().filter(|&&passed| passed).count();
    if passed < AT_LEAST {
        return Err(format!("only {passed} of {} tests pass in podman's own mode", before.len()).into());
    }
    println!("systemd-tests, {suite}: {passed} of {} tests pass in podman's own mode", before.len());
    for name in lost(&before, &after) {
        fails_again(&own, &with_hook, name)?;
    }
    for guest in [own, with_hook] {
        guest.call(&["kill"])?;
        guest.until_stopped()?;
        guest.removed()?;
    }
    engine.host_is_as_before()
}

/// Runs all tests in the way that Debian does.
fn results(engine: &Engine, guest: &Guest<'_>) -> Result<Results, Failed> {
    let arguments = ["exec", guest.id(), "/usr/lib/systemd/tests/run-unit-tests.py"];
    let told = run(&mut engine.command(Hooks::None, &arguments), LIMIT)?;
    let line = |line: &str| {
        let (word, name) = line.split_once(": ")?;
        matches!(word, "PASS" | "FAIL").then(|| (name.to_owned(), word == "PASS"))
    };
    let results: Results = told.output.lines().filter_map(line).collect();
    if results.is_empty() { Err(told.told().into()) } else { Ok(results) }
}

/// Repeats a lost test up to three times, because a test that waits for something can fail in either container on a
/// busy machine. It counts as broken only if each time it passes in podman's own mode and fails with the hook.
fn fails_again(own: &Guest<'_>, with_hook: &Guest<'_>, name: &str) -> Result<(), Failed> {
    let found = own.ask(&["find", "/usr/lib/systemd/tests", "-name", name, "-type", "f"])?;
    let mut paths = found.lines();
    let (Some(path), None) = (paths.next(), paths.next()) else {
        return Err(format!("{name} is not one file: {found:?}").into());
    };
    let passes = |guest: &Guest<'_>| Ok::<_, Failed>(guest.exec(&[path])?.status.success());
    for _ in 0..3 {
        if passes(with_hook)? || !passes(own)? {
            return Ok(());
        }
    }
    let told = with_hook.exec(&[path])?;
    Err(format!("{name} passes in podman's own mode, and not with the hook alone: {}", told.told()).into())
}
