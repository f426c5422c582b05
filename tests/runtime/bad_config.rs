// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that an unreadable config.json is reported in one line without delay, and remains unmodified.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::refusal;
use crate::room::{ALWAYS, Room};
use crate::site::Site;
use crate::{Check, all};

/// What the bundle has in place of a valid config.json.
enum Kind {
    Text(&'static [u8]),
    Fifo,
    Directory,
    /// A symlink, such as one to itself.
    Link(&'static str),
    /// A sparse file of this many bytes.
    Hole(u64),
}

impl Kind {
    fn put(&self, path: &Path) {
        match self {
            Self::Text(text) => fs::write(path, text).unwrap(),
            Self::Fifo => mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::Link(target) => symlink(target, path).unwrap(),
            Self::Hole(bytes) => File::create(path).unwrap().set_len(*bytes).unwrap(),
        }
    }
}

const GIBIBYTE: u64 = 1 << 30;

const TABLE: [(&str, Kind); 23] = [
    ("empty", Kind::Text(b"")),
    ("spaces", Kind::Text(b" \n")),
    ("begun", Kind::Text(b"{")),
    ("cut", Kind::Text(br#"{"process":{"args":["/bin/tr"#)),
    ("two", Kind::Text(br#"{"process":{"args":["/bin/true"]}}{}"#)),
    ("more", Kind::Text(br#"{"process":{"args":["/bin/true"]}} x"#)),
    ("comma", Kind::Text(br#"{"process":{"args":["/bin/true"]},}"#)),
    ("comment", Kind::Text(br#"{"process":{"args":["/bin/true"]}/**/}"#)),
    ("single quotes", Kind::Text(br"{'process':{}}")),
    ("byte order mark", Kind::Text(b"\xef\xbb\xbf{\"process\":{\"args\":[\"/bin/true\"]}}")),
    ("UTF-16", Kind::Text(b"\xff\xfe{\0}\0")),
    ("zeros", Kind::Text(b"\0\0\0\0")),
    ("null", Kind::Text(b"null")),
    ("list", Kind::Text(b"[]")),
    ("number", Kind::Text(b"7")),
    ("text", Kind::Text(b"\"{}\"")),
    ("hooks are a list", Kind::Text(br#"{"process":{"args":["/bin/true"]},"hooks":[]}"#)),
    ("a stage is an object", Kind::Text(br#"{"process":{"args":["/bin/true"]},"hooks":{"poststop":{}}}"#)),
    ("fifo", Kind::Fifo),
    ("directory", Kind::Directory),
    ("link to itself", Kind::Link("config.json")),
    ("endless", Kind::Link("/dev/zero")),
    ("too large", Kind::Hole(8 * GIBIBYTE)),
];

pub fn each(site: &Site) -> Check {
    all(TABLE.iter().map(|(name, kind)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/a.json", ALWAYS);
            fs::remove_file(room.config()).unwrap();
            kind.put(&room.config());
            let before = room.snapshot();
            let mut command = room.wrapper();
            command.args(["--log", &room.filled_in("@ROOM@/log"), "--log-format", "json", "create", "--bundle"]);
            let finished = room.run(command.arg(room.path("bundle")).arg("c"))?;
            refusal::is_logged(&room, &finished, "json", &["config.json"])?;
            room.is_as(&before)
        };
        (*name, check())
    }))
}

/// A bundle name for which the lookup fails isn't a missing bundle, but the runtime also reports that best.
pub fn no_file(site: &Site) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", ALWAYS);
    let long = "x".repeat(5_000);
    let mut command = room.wrapper();
    let finished = room.run(command.args(["create", "--bundle", &long, "c"]))?;
    // Both outcomes are correct; the test ensures that the call ends.
    if finished.code == Some(1) {
        ensure!(finished.errors.lines().count() == 1 && room.record().is_none(), "{finished}");
    } else {
        finished.expect_code(crate::room::RECORDED)?;
    }
    Ok(())
}
