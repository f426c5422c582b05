// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs the tests of Debian's packages, which use the services of a package, in containers that autopkgtest creates
//! with podman and with Docker.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;

use crate::command::run;
use crate::docker;
use crate::docker::stock::Kind;
use crate::engines::host::EngineHost;
use crate::engines::image::{self, IMAGE};
use crate::podman;
use crate::podman::engine::{Engine, Hooks};
use crate::podman::guest::{Guest, PLAIN};
use crate::site::Site;
use crate::suites::{Results, lost};

/// The packages. They are in the image with everything that their tests need, so no network is needed.
pub const PACKAGES: [&str; 4] = ["redis", "memcached", "dovecot", "lighttpd"];

const SERVICES: &str = "localhost/services";

/// The time limit for the tests of a package, which usually take a minute.
const LIMIT: Duration = Duration::from_secs(300);

/// Tests that what passes in podman's own systemd mode without the hook also passes with only the
/// hook, and under Docker.
pub fn run_in(
    site: &Site,
    podmans: &podman::store::Store,
    dockers: &docker::stock::Store,
    package: &str,
) -> Result<(), Failed> {
    let source = source(&site.services()?, package)?;
    let package = source.to_str().ok_or("a path that isn't UTF-8")?;
    let engine = Engine::with_tree(site, podmans, podman::RUNC_UNIFIED, site.services()?)?;
    image::import(engine.host(), &mut engine.command(Hooks::None, &["import", "-", SERVICES]))?;
    Guest::run_image(&engine, Hooks::None, &PLAIN, SERVICES, &["/sbin/init"])?.gives_up()?;
    let before = by_podman(&engine, Hooks::None, &[], package)?.ok_or("autopkgtest gives up in podman's own mode")?;
    let after = by_podman(&engine, Hooks::Installed, &PLAIN, package)?;
    engine.host_is_as_before()?;
    is_as_good(package, &before, after.as_ref(), "podman")?;

    let engine = docker::engine::Engine::new(site, dockers, Kind::Services, docker::RUNC_UNIFIED)?;
    let runtime = format!("--runtime={}", docker::engine::WRAPPED);
    // podman's seccomp profile is used, so that only the hook differs. Docker's forbids user namespaces, and a
    // service with `PrivateUsers=yes`, such as redis, would fail with 217/USER.
    let seccomp = "--security-opt=seccomp=/usr/share/containers/seccomp.json";
    let autopkgtest = engine.host().command("autopkgtest");
    let after = results(engine.host(), autopkgtest, package, &["docker", "--init", IMAGE, "--", &runtime, seccomp])?;
    engine.host_is_as_before()?;
    is_as_good(package, &before, after.as_ref(), "Docker")
}

/// Returns the path of the description (.dsc) of a package's source.
fn source(root: &Path, package: &str) -> Result<PathBuf, Failed> {
    let mut sources = fs::read_dir(root.join("srv"))?.flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&format!("{package}_")) && name.ends_with(".dsc")
    };
    sources.find(is_it).ok_or_else(|| format!("no source of {package}").into())
}

fn is_as_good(package: &str, before: &Results, after: Option<&Results>, engine: &str) -> Result<(), Failed> {
    let passed = before.values().filter(|&&passed| passed).count();
    if passed == 0 {
        return Err(format!("no test of {package} passes in podman's own mode: {before:?}").into());
    }
    let after = after.ok_or_else(|| format!("autopkgtest gives up on {engine} with the hook"))?;
    let lost = lost(before, after);
    println!(
        "{engine}: {passed} tests pass in podman's own mode, and {} of these fail with the hook alone",
        lost.len()
    );
    if lost.is_empty() { Ok(()) } else { Err(format!("these fail on {engine} with the hook alone: {lost:?}").into()) }
}

/// Runs the tests with podman, through a script that adds the options and comes first in `PATH`.
fn by_podman(engine: &Engine, hooks: Hooks, options: &[&str], package: &str) -> Result<Option<Results>, Failed> {
    let host = engine.host();
    let directory = host.home().join(format!("bin-{hooks:?}"));
    fs::create_dir_all(&directory)?;
    let quoted: Vec<String> = engine.options(hooks).iter().map(|option| format!("'{option}'")).collect();
    let script = directory.join("podman");
    fs::write(&script, format!("#!/bin/sh\nexec /usr/bin/podman {} \"$@\"\n", quoted.join(" ")))?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut autopkgtest = engine.program("autopkgtest");
    autopkgtest.env("PATH", format!("{}:{path}", directory.display()));
    let parent = format!("--cgroup-parent=/{}", host.cgroup());
    let run_options =
        [&["podman", "--init", SERVICES, "--", "--network=none", "--ulimit=host", &parent], options].concat();
    results(host, autopkgtest, package, &run_options)
}

/// Runs the tests. Returns `None` if autopkgtest gives up on the container.
fn results(
    host: &EngineHost,
    mut autopkgtest: Command,
    package: &str,
    server: &[&str],
) -> Result<Option<Results>, Failed> {
    let summary = host.home().join("summary");
    let _ = fs::remove_file(&summary); // The one of the run before.
    autopkgtest.args([package, "--no-built-binaries", "--summary-file"]).arg(&summary).arg("--").args(server);
    let told = run(&mut autopkgtest, LIMIT)?;
    match told.status.code() {
        // All tests passed, or some were skipped, failed or lack a package.
        Some(0 | 2 | 4 | 6 | 12 | 14) => read(&summary).map(Some),
        // The testbed failed.
        Some(16) => Ok(None),
        _ => Err(told.told().into()),
    }
}

fn read(summary: &Path) -> Result<Results, Failed> {
    let text = fs::read_to_string(summary)?;
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, result) = (words.next()?, words.next()?);
        // FLAKY is a failure of a test that its package declares to be flaky. Like a success, it does not
        // count as a loss.
        matches!(result, "PASS" | "FAIL" | "FLAKY").then(|| (name.to_owned(), result != "FAIL"))
    };
    Ok(text.lines().filter_map(line).collect())
}
