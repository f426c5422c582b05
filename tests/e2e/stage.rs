// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that the hook accepts the state of each runtime at the right stage: at createContainer inside the
//! container, and nowhere else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::boot::same;
use crate::command::{SHORT, run, run_from};
use crate::config::{Config, Stages, Users};
use crate::container::{Cell, Container};
use crate::inside::Inside;
use crate::mounts;
use crate::site::{Runtime, Site};

const OUTSIDE: &str = "at createContainer this process must be in the container's mount namespace";

/// Tests each stage with and without a user namespace and a PID namespace. The runtime's own mount namespace is not
/// that of process 1.
pub fn of_each_runtime(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for (stages, stage) in
        [(Stages::WithoutPoststop, "createRuntime"), (Stages::CreateContainerOnly, "createContainer")]
    {
        for users in [Users::Hosts, Users::Own, Users::HostsInANamespace] {
            for has_pids in [true, false] {
                one(site, cell, &Config { stages, users, ..quiet() }, stage, has_pids).map_err(|failed| {
                    format!("{stage}, {users:?}, pids {has_pids}: {}", crate::container::message(&failed))
                })?;
            }
        }
    }
    Ok(())
}

/// Returns the configuration of a container in which the hook only mounts.
fn quiet() -> Config {
    Config { args: vec!["/bin/sleep", "infinity"], annotation: Some("enabled"), ..Config::default() }
}

fn one(site: &Arc<Site>, cell: Cell, config: &Config, stage: &str, has_pids: bool) -> Result<(), Failed> {
    let container = Container::new(site, cell, config, &[])?;
    let heard = container.home().join("heard");
    fs::create_dir(&heard)?;
    fs::set_permissions(&heard, fs::Permissions::from_mode(0o777))?;
    let recorder = container.home().join("recorder");
    // A script runs the hook, so that the hook is not a child of the container's first process.
    let text =
        format!("#!/bin/sh\ncat >'{0}/state' && '{1}' <'{0}/state'\nexit\n", heard.display(), site.hook().display());
    fs::write(&recorder, text)?;
    fs::set_permissions(&recorder, fs::Permissions::from_mode(0o755))?;
    change(&container, |json| {
        for hook in json["hooks"][stage].as_array_mut().into_iter().flatten() {
            *hook = json!({"path": recorder, "args": [recorder]});
        }
        if !has_pids {
            let namespaces = json["linux"]["namespaces"].as_array_mut().expect("a list");
            namespaces.retain(|namespace| namespace["type"] != "pid");
            // In a user namespace without a PID namespace, the container can't mount its own /proc.
            json["mounts"][0] =
                json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
        }
    })?;
    container.explain(|container| {
        container.create()?.expect_success()?;
        mounts::at(&container.mounts()?, "/run").ok_or("nothing is mounted on /run")?;
        let text = fs::read_to_string(heard.join("state"))?;
        let state: Value = serde_json::from_str(&text)?;
        match (cell.runtime, stage, has_pids) {
            (Runtime::Crun, "createContainer", _) => same("crun's pid", &state["pid"].to_string(), "0")?,
            (Runtime::Runc, "createContainer", true) => same("runc's pid", &state["pid"].to_string(), "1")?,
            _ => same("whether the pid is a host's", &(state["pid"].as_i64() > Some(1)).to_string(), "true")?,
        }
        if stage == "createContainer" {
            // If the state has a PID of the host, the call may be meant for createRuntime. The container already
            // has its own root at this point.
            let told = if state["pid"].as_i64() > Some(1) { "cannot open the container's root" } else { OUTSIDE };
            for (form, told) in forms(&text, &state).into_iter().zip([told, told, OUTSIDE]) {
                refused_outside(site, container, &form, (&[], told))?;
                refused_outside(site, container, &form, (&["createContainer"], OUTSIDE))?;
            }
        }
        container.delete(&["--force"])
    })?;
    container.host_is_as_before()
}

fn change(container: &Container, change: impl FnOnce(&mut Value)) -> Result<(), Failed> {
    let path = container.holder().seen(&container.home().join("bundle/config.json"));
    let mut json = serde_json::from_slice(&fs::read(&path)?)?;
    change(&mut json);
    Ok(fs::write(path, json.to_string())?)
}

/// Tests a /proc that hides the runtime from the container's root user (`hidepid`). If createRuntime has done the
/// work, that is enough; work that only createContainer could do is not done.
pub fn hidden_runtime(site: &Arc<Site>, cell: Cell) -> Result<(), Failed> {
    for (stages, is_created) in [(Stages::WithCreateContainer, true), (Stages::CreateContainerOnly, false)] {
        let container = Container::new(site, cell, &Config { stages, users: Users::Own, ..quiet() }, &[])?;
        let run = |program: &str, arguments: &[&str]| {
            run(container.holder().command(program).args(arguments), SHORT)?.expect_success()
        };
        container.explain(|container| {
            run("mount", &["-t", "proc", "-o", "hidepid=2,gid=4294", "proc", "/proc"])?;
            let created = container.create();
            run("umount", &["/proc"])?;
            let is_done = created?.status.success();
            same("whether it is created", &is_done.to_string(), &is_created.to_string())?;
            if is_created {
                return container.delete(&["--force"]);
            }
            let said = container.said();
            if said.contains("cannot prove that this process is in the container's mount namespace") {
                Ok(())
            } else {
                Err("the hook does not print the reason".into())
            }
        })?;
        container.host_is_as_before()?;
    }
    Ok(())
}

/// Returns the state in three forms: unchanged, as crun has written it since 1.28, and as youki writes it.
fn forms(text: &str, state: &Value) -> [String; 3] {
    let escaped = format!("{state:#}\n").replace('/', "\\/");
    let mut without_pid = state.clone();
    if let Some(fields) = without_pid.as_object_mut() {
        fields.remove("pid");
        fields.remove("root");
    }
    [text.to_owned(), escaped, without_pid.to_string()]
}

/// Passes the same state to a hook that runs in the runtime's namespaces, and checks that the hook refuses it.
fn refused_outside(
    site: &Arc<Site>,
    container: &Container,
    state: &str,
    (words, told): (&[&str], &str),
) -> Result<(), Failed> {
    let before = container.holder().mountinfo()?;
    let file = container.home().join("replayed");
    fs::write(&file, state)?;
    let mut command = container.holder().command("sh");
    command.args(["-c", "\"$0\" \"$@\"; exit"]).arg(site.hook()).args(words);
    let finished = run_from(&mut command, Stdio::from(fs::File::open(file)?), SHORT)?;
    same("the exit status", &finished.status.code().unwrap_or(-1).to_string(), "1")?;
    same("the lines", &finished.errors.lines().count().to_string(), "1")?;
    if !finished.errors.contains(told) {
        return Err(finished.told().into());
    }
    same("the runtime's mounts", &container.holder().mountinfo()?, &before)
}
