// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that real runtimes call the hooks that the wrapper added from descriptors.

use std::fs;

use serde_json::{Value, json};

use crate::Check;
use crate::harness::machine::Runtime;
use crate::room::ALWAYS;
use crate::site::Site;
use crate::stand::{Stand, Way};

/// Returns a descriptor whose hook runs a shell command. The command must read its state: crun 1.8 fails if it can't
/// write all of it.
fn shell(stage: &str, script: &str) -> String {
    let hook =
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin", "FROM=descriptor"]});
    json!({"version": "1.0.0", "hook": hook, "when": {"always": true}, "stages": [stage]}).to_string()
}

/// Each stage is called at its time, with the state on standard input and the descriptor's environment.
pub fn each(site: &Site, runtime: Runtime) -> Check {
    let stand = Stand::new(site, runtime, &["/pause"])?;
    for stage in ["prestart", "createRuntime", "poststart", "poststop"] {
        let script = format!("{{ cat; echo; echo {stage} $FROM; }} >>'@ROOM@/called'");
        stand.room.describe(&format!("first/{stage}.json"), &shell(stage, &script));
    }
    let called = || -> Result<(Vec<String>, Vec<Value>), String> {
        let text = fs::read_to_string(stand.room.path("called")).unwrap_or_default();
        let (names, states): (Vec<&str>, Vec<&str>) =
            text.lines().filter(|line| !line.is_empty()).partition(|line| line.ends_with(" descriptor"));
        let mut stream = Vec::new();
        for state in serde_json::Deserializer::from_str(&states.concat()).into_iter() {
            stream.push(state.map_err(|error| format!("{error}: {text}"))?);
        }
        Ok((names.into_iter().map(|line| line.replace(" descriptor", "")).collect(), stream))
    };
    let mut expected = Vec::new();
    for (line, adds) in [
        ("R create --bundle @BUNDLE@ c", &["createRuntime", "createRuntime"][..]),
        ("R state c", &[]),
        ("R start c", &["poststart"]),
        ("R kill c KILL", &[]),
        ("~", &[]),
        ("R delete c", &["poststop"]),
    ] {
        if line == "~" {
            stand.until_stopped()?;
            continue;
        }
        let finished = stand.run(Way::Wrapped, line)?;
        ensure!(finished.code == Some(0), "{line}: {finished}");
        expected.extend(adds.iter().map(|name| (*name).to_owned()));
        let (names, states) = called()?;
        // The descriptor for prestart adds a createRuntime hook as well, but the hook prints its own name.
        let mut names: Vec<String> = names.iter().map(|name| name.replace("prestart", "createRuntime")).collect();
        if expected.len() == 2 {
            // runc 1.1 already calls poststart after it has created the container.
            names.retain(|name| name != "poststart");
        }
        ensure!(names == expected, "{line} called {names:?}, expected {expected:?}");
        ensure!(states.iter().all(|state| state["id"] == "c"), "the states are {states:?}");
    }
    ensure!(stand.cgroups().is_empty(), "left: {:?}", stand.cgroups());
    Ok(())
}

/// Tests the forms of `create` and `run` that engines use.
pub fn injected(site: &Site, runtime: Runtime) -> Check {
    crate::all(
        [
            "R create --bundle @BUNDLE@ --pid-file @ROOM@/pid c",
            "R --log @ROOM@/log --log-format json create --bundle @BUNDLE@ --pid-file @ROOM@/pid c",
            "R create --bundle=@BUNDLE@ c",
            "R create -b @BUNDLE@ --no-pivot c",
            "in bundle: R create --no-new-keyring c",
            "in bundle: R run -d c",
            "R run --detach --bundle bundle c",
            "R run --bundle @BUNDLE@ --detach --pid-file=@ROOM@/pid c",
        ]
        .into_iter()
        .map(|line| {
            let check = || {
                let stand = Stand::new(site, runtime, &["/pause"])?;
                stand
                    .room
                    .describe("first/a.json", &shell("createRuntime", "cat >/dev/null; echo called >>'@ROOM@/called'"));
                stand.room.describe("first/b.json", ALWAYS);
                let finished = stand.run(Way::Wrapped, line)?;
                ensure!(finished.code == Some(0), "{finished}");
                let called = fs::read_to_string(stand.room.path("called")).unwrap_or_default();
                ensure!(called == "called\n", "the hook said {called:?}");
                Ok(())
            };
            (line, check())
        }),
    )?;
    // In the foreground, the call exits with the container's exit code.
    let stand = Stand::new(site, runtime, &["/pause", "end"])?;
    stand.room.describe("first/a.json", &shell("poststop", "cat >/dev/null; echo called >>'@ROOM@/called'"));
    let finished = stand.run(Way::Wrapped, "R run --bundle @BUNDLE@ c")?;
    ensure!(finished.code == Some(5), "{finished}");
    let called = fs::read_to_string(stand.room.path("called")).unwrap_or_default();
    ensure!(called == "called\n", "the hook said {called:?}");
    Ok(())
}

/// A hook that fails results in the runtime's error, as if the hook had been in config.json.
pub fn failing_hook(site: &Site, runtime: Runtime) -> Check {
    let stand = Stand::new(site, runtime, &["/pause"])?;
    stand.room.describe("first/a.json", &shell("createRuntime", "cat >/dev/null; echo some words >&2; exit 3"));
    let wrapped = stand.run(Way::Wrapped, "R create --bundle @BUNDLE@ c")?;
    stand.clear();
    // The bundle contains the hook at this point.
    let bare = stand.run(Way::Bare, "R create --bundle @BUNDLE@ c")?;
    let failed = wrapped.code.is_some_and(|code| code != 0);
    ensure!(failed && wrapped.code == bare.code, "with the wrapper {wrapped}\nwithout {bare}");
    let without_time = |text: &str| text.split_once("level=").map_or(text.to_owned(), |(_, rest)| rest.to_owned());
    let (wrapped, bare) = (without_time(&wrapped.errors), without_time(&bare.errors));
    ensure!(wrapped.contains("hook"), "no hook is mentioned in {wrapped}");
    // crun's message begins with the time.
    let tail = |text: &str| text.split_once(": ").map_or(String::new(), |(_, rest)| rest.to_owned());
    ensure!(wrapped == bare || tail(&wrapped) == tail(&bare), "with the wrapper {wrapped}\nwithout {bare}");
    Ok(())
}
