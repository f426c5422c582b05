// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of bundles to which the wrapper writes nothing.

use std::fs;
use std::os::unix::fs::symlink;

use crate::host;
use crate::room::{ALWAYS, RECORDED, Room};
use crate::site::Site;
use crate::{Check, all};

/// Descriptors whose hooks are for other containers, or for no stage.
const OTHERS: [&str; 4] = [
    r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"commands":["^/sbin/init$"]},"stages":["poststop"]}"#,
    r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"annotations":{"x":"y"}},"stages":["poststop"]}"#,
    r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"always":true},"stages":[]}"#,
    r#"{"version":"1.0.0","hook":{"path":"@HOOK@-not-there"},"when":{"always":true},"stages":["poststop"]}"#,
];

fn room_of_others(site: &Site) -> Result<Room, String> {
    let room = Room::new(site)?;
    for (number, text) in OTHERS.into_iter().enumerate() {
        room.describe(&format!("first/{number}.json"), text);
    }
    // Neither of these is a descriptor.
    room.describe("first/README", "{");
    fs::create_dir(room.path("first/folder")).unwrap();
    Ok(room)
}

pub fn nothing_matches(site: &Site) -> Check {
    let (empty, others) = (Room::new(site)?, room_of_others(site)?);
    let nowhere = Room::new(site)?;
    fs::remove_dir(nowhere.path("first")).unwrap();
    let empty_file = Room::new(site)?;
    fs::write(empty_file.path("hooks.json"), r#"{"hooks":{"poststop":[],"prestart":null}}"#).unwrap();
    let file = ["--hook-config-path", "@ROOM@/hooks.json"];
    let rooms = [
        ("no descriptor", &empty, &[][..]),
        ("others' descriptors", &others, &[]),
        ("no directory", &nowhere, &[]),
        ("a file without hooks", &empty_file, &file),
    ];
    all(rooms.into_iter().map(|(name, room, own)| {
        let check = || {
            let before = room.snapshot();
            room.create(own)?.expect_code(RECORDED)?;
            room.is_as(&before)
        };
        (name, check())
    }))
}

/// A bundle that can't be written is accepted if nothing has to be written.
pub fn read_only(site: &Site) -> Check {
    let room = room_of_others(site)?;
    let before = room.snapshot();
    let mut command = room.wrapper();
    command.args(["create", "--bundle"]).arg(room.path("bundle")).arg("c");
    let bundle = room.filled_in("mount --bind '@BUNDLE@' '@BUNDLE@'; mount -o remount,bind,ro '@BUNDLE@'");
    room.run(&mut host::command_after(&bundle, &command))?.expect_code(RECORDED)?;
    room.is_as(&before)
}

/// A missing bundle is left to the runtime to report.
pub fn no_bundle(site: &Site) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", ALWAYS);
    fs::create_dir(room.path("empty")).unwrap();
    fs::create_dir(room.path("dangling")).unwrap();
    symlink("nothing", room.path("dangling/config.json")).unwrap();
    all(["/nowhere", "@ROOM@/empty", "@ROOM@/nowhere", "@ROOM@/dangling", "@ROOM@/hook"].into_iter().map(|bundle| {
        let mut command = room.wrapper();
        command.args(["create", "--bundle", &room.filled_in(bundle), "c"]);
        let mut check = || {
            let finished = room.run(&mut command)?.expect_code(RECORDED)?;
            ensure!(finished.errors == "to standard error\n", "the wrapper says something: {finished}");
            Ok(())
        };
        (bundle, check())
    }))
}
