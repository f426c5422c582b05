// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that the wrapper treats the file of the option `--hook-config-path` as oci-add-hooks does.

use std::fs;

use serde_json::{Value, json};

use crate::room::{ALWAYS, RECORDED, Room, config};
use crate::site::Site;
use crate::{Check, all};

const OPTION: [&str; 2] = ["--hook-config-path", "@ROOM@/hooks.json"];

/// The file's hooks are added before the existing ones, and those of descriptors after them.
pub fn before_all(site: &Site) -> Check {
    for form in [&OPTION[..], &["--hook-config-path=@ROOM@/hooks.json"]] {
        let room = Room::new(site)?;
        let hook = |name: &str| json!([{"path": "/bin/true", "args": [name]}]);
        let two = json!([{"path": "/bin/true", "args": ["file"]}, {"path": "/bin/true", "args": ["file 2"]}]);
        let file = json!({"hooks": {"poststop": two, "prestart": hook("file"), "startContainer": hook("file")}});
        fs::write(room.path("hooks.json"), file.to_string()).unwrap();
        let mut config = config();
        config["hooks"] = json!({"poststop": hook("there"), "prestart": hook("there"), "poststart": hook("there")});
        room.write_config(&config);
        room.describe("first/a.json", ALWAYS);
        room.create(form)?.expect_code(RECORDED)?;
        let expected = json!({
            "poststop": ["file", "file 2", "there", "always"],
            "prestart": ["file", "there"],
            "startContainer": ["file"],
            "poststart": ["there"],
        });
        ensure!(room.hooks()? == expected, "{form:?}: {}, expected {expected}", room.hooks()?);
    }
    Ok(())
}

/// Tests the example of oci-add-hooks' README, called as Docker calls it.
pub fn example(site: &Site) -> Check {
    let room = Room::new(site)?;
    let hook = r#"{"path":"path/to/prestart/hook","args":["hook","some","args","here"]}"#;
    fs::write(room.path("hooks.json"), format!("{{\n  \"hooks\": {{\n    \"prestart\": [\n{hook}\n]\n}}\n}}\n"))
        .unwrap();
    let arguments = ["--hook-config-path", "@ROOM@/hooks.json", "--runtime-path", "@RUNTIME@"];
    // Docker's own arguments follow the configured ones.
    let own = ["--root", "/r", "--log", "@ROOM@/log.json", "--log-format", "json", "create", "--bundle", "@BUNDLE@"];
    let mut command = room.bare_wrapper();
    command.args(arguments.iter().chain(&own).map(|each| room.filled_in(each))).args(["--pid-file", "p", "c"]);
    room.run(&mut command)?.expect_code(RECORDED)?;
    let expected: Value = serde_json::from_str(hook).unwrap();
    let found = room.read_config()?["hooks"]["prestart"][0].clone();
    ensure!(found == expected, "{found}, expected {expected}");
    Ok(())
}

/// A hook of the file needs no condition and no existing executable, and keeps its unknown fields.
pub fn as_they_are(site: &Site) -> Check {
    let room = Room::new(site)?;
    let hook = r#"{"args":["x"],"path":"relative/../hook","timeout":7,"unknown":[1e400]}"#;
    fs::write(room.path("hooks.json"), format!(r#"{{"unknown":1,"hooks":{{"poststart":[{hook}]}}}}"#)).unwrap();
    room.create(&OPTION)?.expect_code(RECORDED)?;
    let text = fs::read_to_string(room.config()).unwrap();
    ensure!(text.contains(hook), "{text}");
    Ok(())
}

/// A second call for the same bundle, such as `run` after a failed `create`, adds nothing.
pub fn twice(site: &Site) -> Check {
    let room = Room::new(site)?;
    let two = json!([{"path": "/bin/true", "args": ["file"]}, {"path": "/bin/true", "args": ["file 2"]}]);
    fs::write(room.path("hooks.json"), json!({"hooks": {"poststop": two}}).to_string()).unwrap();
    room.describe("first/a.json", ALWAYS);
    room.create(&OPTION)?.expect_code(RECORDED)?;
    let (once, before) = (room.hooks()?, room.snapshot());
    ensure!(once == json!({"poststop": ["file", "file 2", "always"]}), "{once}");
    room.create(&OPTION)?.expect_code(RECORDED)?;
    ensure!(room.hooks()? == once, "the second time {}", room.hooks()?);
    room.is_as(&before)
}

/// A file that can't be used is an error: the container must not start without its hooks.
pub fn bad(site: &Site) -> Check {
    let texts = [
        Some(""),
        Some("{"),
        Some("[]"),
        Some(r#"{"hooks":[]}"#),
        Some(r#"{"hooks":{"poststop":{}}}"#),
        Some(r#"{"hooks":{"poststop":[7]}}"#),
        None,
    ];
    all(texts.into_iter().map(|text| {
        let check = || {
            let room = Room::new(site)?;
            if let Some(text) = text {
                fs::write(room.path("hooks.json"), text).unwrap();
            }
            let before = room.snapshot();
            let finished = room.create(&OPTION)?;
            crate::refusal::is_one(&room, &finished, &["hooks.json"])?;
            room.is_as(&before)
        };
        (format!("{text:?}"), check())
    }))
}
