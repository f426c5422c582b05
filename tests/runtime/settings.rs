// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the wrapper's own configuration file: which settings it has, that options override them, and that the
//! wrapper stops before it does anything if the file has a mistake.

use std::fs;

use serde_json::json;

use crate::refusal::is_one;
use crate::room::{ALWAYS, RECORDED, Room};
use crate::site::{SETTINGS, Site};
use crate::{Check, all, host};

/// Returns shell commands that mount an /etc that contains only the settings.
fn with_settings(room: &Room, settings: &str) -> String {
    fs::write(room.path("settings"), room.filled_in(settings)).unwrap();
    room.filled_in(&format!("mount -t tmpfs tmpfs /etc; cp '@ROOM@/settings' {SETTINGS}"))
}

pub fn good(site: &Site) -> Check {
    let hooks = |names: &[&str]| json!({"poststop": names});
    let none = json!({});
    // Each row has the file, the options, and the resulting hooks.
    let table: &[(&str, &[&str], serde_json::Value)] = &[
        (r#"{"runtimePath":"@RUNTIME@","hooksDirs":["@ROOM@/first"]}"#, &[], hooks(&["one"])),
        (r#"{"runtimePath":"@RUNTIME@","hooksDirs":["@ROOM@/first","@ROOM@/second"]}"#, &[], hooks(&["one", "two"])),
        (
            r#"{"runtimePath":"@RUNTIME@","hooksDirs":["@ROOM@/first"]}"#,
            &["--hooks-dir", "@ROOM@/second"],
            hooks(&["two"]),
        ),
        (r#"{"runtimePath":"/nowhere","hooksDirs":[]}"#, &["--runtime-path", "@RUNTIME@"], none.clone()),
        (r"{}", &["--runtime-path", "@RUNTIME@"], none.clone()),
        (
            r#"{"hookConfigPath":"@ROOM@/hooks.json","runtimePath":"@RUNTIME@","hooksDirs":["@ROOM@/first"]}"#,
            &[],
            hooks(&["file", "one"]),
        ),
        (
            r#"{"hookConfigPath":"/nowhere","runtimePath":"@RUNTIME@","hooksDirs":[]}"#,
            &["--hook-config-path", "@ROOM@/hooks.json"],
            hooks(&["file"]),
        ),
        (
            r#"{"skipBadDescriptors":true,"runtimePath":"@RUNTIME@","hooksDirs":["@ROOM@/bad","@ROOM@/first"]}"#,
            &[],
            hooks(&["one"]),
        ),
    ];
    all(table.iter().map(|(settings, options, expected)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/1.json", &ALWAYS.replace("always\"]", "one\"]"));
            room.describe("second/2.json", &ALWAYS.replace("always\"]", "two\"]"));
            fs::create_dir(room.path("bad")).unwrap();
            room.describe("bad/bad.json", "{");
            let hook = r#"{"hooks":{"poststop":[{"path":"/bin/true","args":["file"]}]}}"#;
            fs::write(room.path("hooks.json"), hook).unwrap();
            let mut command = room.bare_wrapper();
            command.args(options.iter().map(|each| room.filled_in(each)));
            command.args(["create", "--bundle"]).arg(room.path("bundle")).arg("c");
            let script = with_settings(&room, settings);
            room.run(&mut host::command_after(&script, &command))?.expect_code(RECORDED)?;
            ensure!(room.hooks()? == *expected, "{}, expected {expected}", room.hooks()?);
            Ok(())
        };
        (format!("{settings} {options:?}"), check())
    }))
}

/// Invalid files, and a word that the error line must contain besides the file's name.
const BAD: [(&str, &str); 14] = [
    ("", ""),
    ("{", ""),
    ("[]", ""),
    ("null", ""),
    (r#"{"runtimePath":"@RUNTIME@"} x"#, ""),
    ("\u{feff}{}", ""),
    (r#"{"runtimepath":"@RUNTIME@"}"#, "runtimepath"),
    (r#"{"hooksDir":["@ROOM@/first"]}"#, "hooksDir"),
    (r#"{"runtimePath":7}"#, ""),
    (r#"{"hookConfigPath":[]}"#, ""),
    (r#"{"hooksDirs":"@ROOM@/first"}"#, ""),
    (r#"{"hooksDirs":[7]}"#, ""),
    (r#"{"skipBadDescriptors":"yes"}"#, ""),
    (r#"{"runtimePath":"@RUNTIME@","runtimePath":"@HOOK@"}"#, "runtimePath"),
];

pub fn bad(site: &Site) -> Check {
    all(BAD.iter().map(|(settings, word)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/a.json", ALWAYS);
            let before = room.snapshot();
            let mut command = room.wrapper();
            command.args(["create", "--bundle"]).arg(room.path("bundle")).arg("c");
            let script = with_settings(&room, settings);
            let finished = room.run(&mut host::command_after(&script, &command))?;
            is_one(&room, &finished, &[SETTINGS, word])?;
            room.is_as(&before)?;
            // Running containers can still be stopped.
            let mut command = room.wrapper();
            command.args(["kill", "c", "KILL"]);
            room.run(&mut host::command_after(&script, &command))?.expect_code(RECORDED).map(drop)
        };
        (*settings, check())
    }))
}

/// By default the engines' own directories are read, and /etc overrides /usr.
pub fn defaults(site: &Site) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", &ALWAYS.replace("always\"]", "usr a\"]"));
    room.describe("first/b.json", &ALWAYS.replace("always\"]", "usr b\"]"));
    room.describe("second/b.json", &ALWAYS.replace("always\"]", "etc b\"]"));
    room.describe("second/c.json", &ALWAYS.replace("always\"]", "etc c\"]"));
    let script = room.filled_in(
        "mount -t tmpfs tmpfs /etc; mkdir -p /etc/containers/oci; cp -r '@ROOM@/second' /etc/containers/oci/hooks.d; \
         mount -t tmpfs tmpfs /usr/share; mkdir -p /usr/share/containers/oci; \
         cp -r '@ROOM@/first' /usr/share/containers/oci/hooks.d",
    );
    let mut command = room.bare_wrapper();
    command.args(["--runtime-path", &room.filled_in("@RUNTIME@"), "create", "-b"]).arg(room.path("bundle")).arg("c");
    room.run(&mut host::command_after(&script, &command))?.expect_code(RECORDED)?;
    ensure!(room.hooks()? == json!({"poststop": ["usr a", "etc b", "etc c"]}), "{}", room.hooks()?);
    Ok(())
}
