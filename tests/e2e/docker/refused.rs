// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests what a user of Docker sees when the wrapper refuses a container, and hooks that are
//! not described by descriptors.

use std::fs;

use libtest_mimic::Failed;
use serde_json::json;

use crate::boot::same;
use crate::docker::engine::{Engine, WRAPPED};
use crate::docker::guest::{Guest, INIT};
use crate::engines::image::IMAGE;
use crate::inside::Inside;

/// Tests that a file that isn't a descriptor fails each container, as with engines that read the directory
/// themselves, and that Docker reports which file it is. An administrator may have the file skipped.
pub fn bad_descriptor(engine: &Engine) -> Result<(), Failed> {
    let bad = engine.hooks_directory().join("broken.json");
    fs::write(&bad, "{ \"version\": ")?;
    let bad = bad.display().to_string();
    let told = engine.call(&["run", "--rm", "--runtime", WRAPPED, IMAGE, "/bin/true"])?;
    same("docker's exit code", &format!("{:?}", told.status.code()), "Some(125)")?;
    if told.errors.lines().filter(|line| line.contains(&bad)).count() != 1 {
        return Err(format!("expected one line with {bad}: {}", told.told()).into());
    }
    let skipping = [engine.around(&engine.below()?), vec!["--skip-bad-descriptors".to_owned()]].concat();
    engine.add_runtime("skipping", engine.wrapper(), &skipping)?;
    let guest = Guest::run_by(engine, "skipping", &[], &INIT)?;
    guest.explain(|guest| {
        guest.is_well()?;
        guest.ends_in_order("0")?;
        guest.removed()
    })
}

/// Tests that Docker shows the hook's message if a user mounts the host's cgroups, as many guides recommend.
pub fn hosts_cgroups(engine: &Engine) -> Result<(), Failed> {
    let told = engine.call(&[
        "run",
        "--rm",
        "--runtime",
        WRAPPED,
        "--volume=/sys/fs/cgroup:/sys/fs/cgroup",
        IMAGE,
        "/sbin/init",
    ])?;
    same("docker's exit code", &format!("{:?}", told.status.code()), "Some(125)")?;
    let words = ["oci-systemd-hook: ", "the host's cgroups are mounted there"];
    if told.errors.lines().any(|line| words.iter().all(|word| line.contains(word))) {
        return Ok(());
    }
    Err(format!("no line with {words:?}: {}", told.told()).into())
}

/// Tests the entry of daemon.json in the README of oci-add-hooks, with the wrapper in place of that program.
pub fn add_hooks(engine: &Engine) -> Result<(), Failed> {
    let home = engine.host().home();
    let (file, proof) = (home.join("hooks.json"), home.join("proof"));
    let write = format!("cat >{}", proof.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", write], "env": ["PATH=/usr/bin:/bin"] });
    fs::write(&file, json!({ "hooks": { "prestart": [hook] } }).to_string())?;
    let words =
        ["--hook-config-path", &file.display().to_string(), "--runtime-path", &engine.below()?.display().to_string()]
            .map(str::to_owned);
    engine.add_runtime("hooks", engine.wrapper(), &words)?;
    let said = engine.ask(&["run", "--rm", "--runtime=hooks", IMAGE, "/bin/echo", "hi"])?;
    same("the container's output", &said, "hi")?;
    let state: serde_json::Value = serde_json::from_slice(&fs::read(&proof)?)?;
    same("the length of the id that the hook got", &state["id"].as_str().map_or(0, str::len).to_string(), "64")
}
