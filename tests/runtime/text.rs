// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that everything in config.json except the hooks remains byte for byte as it was.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use rustix::fs::{XattrFlags, getxattr, setxattr};
use serde_json::{Value, json};

use crate::room::{ALWAYS, RECORDED, Room};
use crate::site::Site;
use crate::{Check, all};

/// The fields that the wrapper reads, which are inserted in documents with other fields.
const ARGS: &str = r#""process":{"args":["/bin/true"]}"#;

/// Returns valid but odd JSON documents without hooks.
fn odd() -> Vec<String> {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    [
        r"{@}",
        "{@}\n",
        "\n\t {\r\n\t@\r\n}\r\n\r\n",
        "{ \t@ , \"a\" : 1 }   ",
        r#"{"a":1e400,"b":-0,"c":1.0,"d":1E+2,"e":18446744073709551616,"f":0.1000,@}"#,
        r#"{"a":1,"a":2,@,"a":{"a":[],"a":{}}}"#,
        r#"{"\u0061\ud83d\ude00":"\u0041\/\b\f","é":"\u00e9",@}"#,
        r#"{"linux":{"x":[[],{},[{}],"]}","{\"hooks\":"]},@}"#,
        r#"{"Hooks\u0000":1,"hook":{"hooks":{"poststop":[]}},@}"#,
        r#"{@,"z":null,"y":true,"x":false}"#,
        r#"{"long":"LONG",@}"#,
        r#"{"deep":DEEP,@}"#,
    ]
    .map(|text| text.replace('@', ARGS).replace("LONG", &"x".repeat(200_000)).replace("DEEP", &deep))
    .into()
}

/// Whether `after` is `before` with something inserted at one place.
fn is_put_in(before: &str, after: &str) -> bool {
    let common = before.bytes().zip(after.bytes()).take_while(|(one, other)| one == other).count();
    let end = before.bytes().rev().zip(after.bytes().rev()).take_while(|(one, other)| one == other).count();
    after.len() > before.len() && common + end >= before.len()
}

pub fn is_kept(site: &Site) -> Check {
    all(odd().into_iter().map(|text| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/a.json", ALWAYS);
            fs::write(room.config(), &text).unwrap();
            room.create(&[])?.expect_code(RECORDED)?;
            let found = fs::read_to_string(room.config()).unwrap();
            ensure!(is_put_in(&text, &found), "it is {found:.300}");
            // `Value` can't represent 1e400, so `Room::hooks` can't be used.
            ensure!(found.contains(r#""hooks":{"poststop":[{"#), "no hook in {found:.300}");
            Ok(())
        };
        (format!("{text:.120}"), check())
    }))
}

/// Existing hooks keep their place and their spelling.
pub fn of_hooks_is_kept(site: &Site) -> Check {
    let there = r#"{"path" : "/bin/true", "args":["there"],"timeout":1e0, "unknown":1e400}"#;
    let table = [
        (r#"{"hooks":{},@}"#, "poststop"),
        ("{\"hooks\" :\t{ \r\n} ,@}", "poststop"),
        (r#"{"hooks":{"poststop":[]},@}"#, "poststop"),
        (r#"{"hooks":{"poststop": [] ,"poststart":[ ] },@}"#, "poststop"),
        (r#"{"hooks":{"poststop":[THERE]},@}"#, "poststop"),
        (r#"{@,"hooks":{"unknown":[THERE],"poststop":[THERE , THERE ] } }"#, "poststop"),
        (r#"{"hooks":{"poststart":[THERE]},@}"#, "poststop"),
    ];
    all(table.into_iter().map(|(text, stage)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/a.json", &ALWAYS.replace("poststop", stage));
            let text = text.replace('@', ARGS).replace("THERE", there);
            fs::write(room.config(), &text).unwrap();
            room.create(&[])?.expect_code(RECORDED)?;
            let found = fs::read_to_string(room.config()).unwrap();
            ensure!(is_put_in(&text, &found), "it is {found}");
            let readable: Value =
                serde_json::from_str(&found.replace("1e400", "1")).map_err(|e| format!("{e}: {found}"))?;
            let hooks = readable["hooks"][stage].as_array().cloned().unwrap_or_default();
            let last = hooks.last().map(|hook| hook["args"].clone());
            ensure!(last == Some(json!(["always"])), "the last hook is {last:?}: {found}");
            ensure!(
                hooks.len() == text.split("\"poststop\"").nth(1).map_or(0, |rest| rest.matches("there").count()) + 1,
                "{found}"
            );
            Ok(())
        };
        (text, check())
    }))
}

/// The file keeps its mode, its owner and its extended attributes.
pub fn attributes_stay(site: &Site) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", ALWAYS);
    let config = room.config();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o604)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&config, Some(1234), Some(4321)).unwrap();
    }
    // Not every file system supports user attributes.
    let name = ["user.osh", "trusted.osh"]
        .into_iter()
        .find(|name| setxattr(&config, *name, b"kept", XattrFlags::empty()).is_ok())
        .ok_or("the file system has no extended attributes")?;
    let of = || fs::metadata(&config).map(|about| (about.mode(), about.uid(), about.gid())).unwrap();
    let before = of();
    room.create(&[])?.expect_code(RECORDED)?;
    ensure!(room.hooks()? == json!({"poststop": ["always"]}), "{}", room.hooks()?);
    ensure!(of() == before, "mode and owner were {before:?}, and are {:?}", of());
    let mut value = [0; 16];
    let length = getxattr(&config, name, &mut value).map_err(|error| format!("{name}: {error}"))?;
    ensure!(&value[..length] == b"kept", "{name} is {value:?}");
    let names: Vec<_> = fs::read_dir(room.path("bundle")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    ensure!(names.len() == 2, "the bundle contains {names:?}");
    Ok(())
}

/// If config.json is a symlink, the hooks are added to its target.
pub fn link_stays(site: &Site) -> Check {
    for target in ["../elsewhere/real.json", "@ROOM@/elsewhere/real.json"] {
        let room = Room::new(site)?;
        room.describe("first/a.json", ALWAYS);
        fs::create_dir(room.path("elsewhere")).unwrap();
        fs::rename(room.config(), room.path("elsewhere/real.json")).unwrap();
        symlink(room.filled_in(target), room.config()).unwrap();
        let before = room.snapshot();
        room.create(&[])?.expect_code(RECORDED)?;
        room.is_as(&before)?;
        ensure!(room.hooks()? == json!({"poststop": ["always"]}), "{target}: {}", room.hooks()?);
        let names: Vec<_> =
            fs::read_dir(room.path("elsewhere")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        ensure!(names == ["real.json"], "the directory contains {names:?}");
    }
    Ok(())
}
