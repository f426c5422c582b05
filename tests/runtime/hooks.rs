// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests which hooks of which descriptors are added to config.json, in which order, and for which commands.

use std::fs;

use serde_json::{Value, json};

use crate::room::{ALWAYS, RECORDED, Room, config};
use crate::site::Site;
use crate::{Check, all};

/// The conditions of a descriptor, and whether they match the container of [`room::config`].
///
/// [`room::config`]: crate::room::config
const WHICH: &[(&str, bool)] = &[
    (r#""when":{"always":true}"#, true),
    (r#""when":{"always":false}"#, false),
    (r#""when":{}"#, false),
    (r#""when":{"commands":["nginx$"]}"#, true),
    (r#""when":{"commands":["^/usr/bin/","^/usr/sbin/nginx$"]}"#, true),
    (r#""when":{"commands":["^nginx$"]}"#, false),
    (r#""when":{"commands":["-g"]}"#, false),
    (r#""when":{"annotations":{"^org\\.example\\.role$":"^web$"}}"#, true),
    (r#""when":{"annotations":{"role":"w"}}"#, true),
    (r#""when":{"annotations":{"role":"^db$"}}"#, false),
    (r#""when":{"hasBindMounts":true}"#, false),
    (r#""when":{"commands":["nginx"],"annotations":{"role":"db"}}"#, false),
    (r#""when":{"commands":["nginx"],"annotations":{"role":"web"}}"#, true),
    (r#""when":{"always":false,"commands":["nginx"]}"#, false),
];

pub fn which(site: &Site) -> Check {
    let with_version = WHICH.iter().map(|(when, matches)| {
        let text = r#"{"version":"1.0.0","hook":{"path":"@HOOK@","args":["one"]},"stages":["poststop"],"#;
        (format!("{text}{when}}}"), *matches)
    });
    let old =
        [(r#""cmd":["nginx"]"#, true), (r#""cmds":["nginx"],"annotations":["db"]"#, true), (r#""cmd":["^x$"]"#, false)];
    let old = old.into_iter().flat_map(|(when, matches)| {
        ["", r#""version":"0.1.0","#].map(|version| {
            (format!(r#"{{{version}"hook":"@HOOK@","arguments":["one"],"stages":["poststop"],{when}}}"#), matches)
        })
    });
    all(with_version.chain(old).map(|(text, matches)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/a.json", &text);
            room.create(&[])?.expect_code(RECORDED)?;
            let added = room.read_config()?["hooks"]["poststop"][0]["path"] == room.path("hook").to_str().unwrap();
            ensure!(added == matches, "config.json has {}", room.hooks()?);
            Ok(())
        };
        (text.clone(), check())
    }))
}

/// A descriptor in the second directory masks that with the same name in the first.
pub fn two_directories(site: &Site) -> Check {
    let named = |name: &str| ALWAYS.replace("always\"]", &format!("{name}\"]"));
    let off = ALWAYS.replace(r#"["poststop"]"#, "[]");
    for form in [["--hooks-dir", "@ROOM@/second"].as_slice(), &["--hooks-dir=@ROOM@/second"]] {
        let room = Room::new(site)?;
        for (file, text) in [
            ("first/20-a.json", named("a1")),
            ("first/30-b.json", named("b1")),
            ("first/40-c.json", named("c1")),
            ("second/30-b.json", named("b2")),
            ("second/40-c.json", off.clone()),
            ("second/10-d.json", named("d2")),
        ] {
            room.describe(file, &text);
        }
        room.create(form)?.expect_code(RECORDED)?;
        ensure!(room.hooks()? == json!({"poststop": ["d2", "a1", "b2"]}), "{form:?}: {}", room.hooks()?);
    }
    Ok(())
}

/// Existing hooks stay first, and the others follow in the order of their file names.
pub fn order(site: &Site) -> Check {
    let room = Room::new(site)?;
    for (file, stages) in [
        (
            "first/30-Last.json",
            r#"["prestart","createRuntime","createContainer","startContainer","poststart","poststop"]"#,
        ),
        ("first/10-first.json", r#"["createRuntime","poststop"]"#),
        ("first/20-middle.json", r#"["createContainer","poststop"]"#),
    ] {
        let name = file.rsplit('-').next().unwrap();
        room.describe(
            file,
            &ALWAYS.replace(r#"["always"]"#, &format!("[\"{name}\"]")).replace(r#"["poststop"]"#, stages),
        );
    }
    let mut config = config();
    let there = |name: &str| json!([{"path": "/bin/true", "args": [name]}]);
    config["hooks"] =
        json!({"poststop": there("there"), "prestart": there("old"), "createContainer": [], "poststart": null});
    room.write_config(&config);
    room.create(&[])?.expect_code(RECORDED)?;
    let expected = json!({
        "prestart": ["old"],
        "createRuntime": ["first.json", "Last.json", "Last.json"],
        "createContainer": ["middle.json", "Last.json"],
        "startContainer": ["Last.json"],
        "poststart": ["Last.json"],
        "poststop": ["there", "first.json", "middle.json", "Last.json"],
    });
    let found = room.hooks()?;
    // If both stages of a descriptor mean createRuntime, one call and two calls are both correct,
    // as with the engines.
    let mut once = expected.clone();
    once["createRuntime"] = json!(["first.json", "Last.json"]);
    ensure!(found == expected || found == once, "{found}, expected {expected}");
    Ok(())
}

/// All fields that a descriptor has for a hook are copied, and no others are added.
pub fn members(site: &Site) -> Check {
    let table = [
        (r#"{"path":"@HOOK@"}"#, r#"{"path":"@HOOK@"}"#),
        (r#"{"path":"@HOOK@","args":["a","b\"\\ \u00e9"]}"#, r#"{"path":"@HOOK@","args":["a","b\"\\ é"]}"#),
        (r#"{"path":"@HOOK@","env":["A=1","B="],"timeout":7}"#, r#"{"path":"@HOOK@","env":["A=1","B="],"timeout":7}"#),
        (r#"{"path":"@HOOK@","unknown":1}"#, r#"{"path":"@HOOK@"}"#),
    ];
    all(table.into_iter().map(|(hook, expected)| {
        let check = || {
            let room = Room::new(site)?;
            let text = format!(r#"{{"version":"1.0.0","hook":{hook},"when":{{"always":true}},"stages":["poststop"]}}"#);
            room.describe("first/a.json", &text);
            room.create(&[])?.expect_code(RECORDED)?;
            let expected: Value = serde_json::from_str(&room.filled_in(expected)).unwrap();
            let found = room.read_config()?["hooks"]["poststop"][0].clone();
            ensure!(found == expected, "{found}, expected {expected}");
            Ok(())
        };
        (hook, check())
    }))
}

/// Each way to specify the bundle in runc's and crun's command lines.
pub fn where_the_bundle_is(site: &Site) -> Check {
    // The arguments, and the working directory relative to the room's.
    let table: &[(&[&str], &str)] = &[
        (&["create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["create", "--bundle=@BUNDLE@", "c"], ""),
        (&["create", "-b", "@BUNDLE@", "c"], ""),
        (&["create", "-b=@BUNDLE@", "c"], ""),
        (&["create", "-b@BUNDLE@", "c"], ""),
        (&["create", "-bundle", "@BUNDLE@", "c"], ""),
        (&["create", "-bundle=@BUNDLE@", "c"], ""),
        (&["create", "--bundle", "bundle", "c"], ""),
        (&["create", "--bundle", "@BUNDLE@/", "c"], ""),
        (&["create", "c", "--bundle", "@BUNDLE@"], ""),
        (&["create", "c"], "bundle"),
        (&["create", "--bundle", ".", "c"], "bundle"),
        (&["create", "--pid-file", "p", "--console-socket", "s", "--bundle", "@BUNDLE@", "c"], ""),
        (&["create", "--pid-file=p", "--no-pivot", "--bundle", "@BUNDLE@", "--preserve-fds", "3", "c"], ""),
        (&["create", "--pid-file", "--bundle", "--bundle", "@BUNDLE@", "c"], ""),
        (&["create", "--bundle", "/nowhere", "--bundle", "@BUNDLE@", "c"], ""),
        (&["create", "--no-new-keyring", "--", "c"], "bundle"),
        (&["run", "--bundle", "@BUNDLE@", "c"], ""),
        (&["run", "-d", "--bundle", "@BUNDLE@", "c"], ""),
        (&["run", "--detach", "--keep", "-b", "@BUNDLE@", "c"], ""),
        (&["run", "--no-subreaper", "c"], "bundle"),
        (&["--root", "/r", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--root=/r", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--root", "create", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--root", "state", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--log", "@ROOM@/l", "--log-format", "json", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--log=@ROOM@/l", "--log-format=json", "--debug", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--systemd-cgroup", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--cgroup-manager", "systemd", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--cgroup-manager=cgroupfs", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--rootless", "true", "--criu", "/c", "create", "--bundle", "@BUNDLE@", "c"], ""),
        (&["--rootless=auto", "create", "--bundle", "@BUNDLE@", "c"], ""),
    ];
    all(table.iter().map(|(arguments, directory)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/a.json", ALWAYS);
            let arguments: Vec<String> = arguments.iter().map(|each| room.filled_in(each)).collect();
            room.run(room.wrapper().args(arguments).current_dir(room.path(directory)))?.expect_code(RECORDED)?;
            ensure!(room.hooks()? == json!({"poststop": ["always"]}), "config.json has {}", room.hooks()?);
            Ok(())
        };
        (format!("{arguments:?} in {directory:?}"), check())
    }))
}

/// Commands that don't create a container change no bundle, wherever the word `create` or `run` appears.
pub fn no_other_command(site: &Site) -> Check {
    let table: &[&[&str]] = &[
        &[],
        &["--version"],
        &["--help"],
        &["--bundle", "@BUNDLE@"],
        &["state", "c"],
        &["start", "c"],
        &["delete", "c"],
        &["delete", "create"],
        &["exec", "c", "create", "--bundle", "@BUNDLE@"],
        &["exec", "create", "run"],
        &["kill", "run", "TERM"],
        &["spec"],
        &["spec", "--bundle", "@BUNDLE@"],
        &["restore", "--bundle", "@BUNDLE@", "c"],
        &["checkpoint", "c"],
        &["update", "c"],
        &["help", "create"],
        &["h", "create"],
        &["Create", "--bundle", "@BUNDLE@", "c"],
        &["--root", "create", "state", "c"],
        &["--log", "run", "state", "c"],
        &["--root=create", "state", "c"],
        &["", "create", "c"],
    ];
    all(table.iter().map(|arguments| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/a.json", ALWAYS);
            // The descriptors aren't read at all: an invalid one must not prevent a container from being deleted.
            room.describe("first/b.json", "{");
            let before = room.snapshot();
            let arguments: Vec<String> = arguments.iter().map(|each| room.filled_in(each)).collect();
            room.run(room.wrapper().args(arguments).current_dir(room.path("bundle")))?.expect_code(RECORDED)?;
            room.is_as(&before)
        };
        (format!("{arguments:?}"), check())
    }))
}

/// A bundle that already has the hooks gets no second copies, and isn't written.
pub fn twice(site: &Site) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", &ALWAYS.replace(r#"["poststop"]"#, r#"["createRuntime","poststop"]"#));
    room.describe("first/b.json", &ALWAYS.replace("always\"]", "b\",\"c\"],\"timeout\":3"));
    room.create(&[])?.expect_code(RECORDED)?;
    let (once, before) = (fs::read(room.config()).unwrap(), room.snapshot());
    let expected = json!({"createRuntime": ["always"], "poststop": ["always", "b"]});
    ensure!(room.hooks()? == expected, "{}", room.hooks()?);
    room.create(&[])?.expect_code(RECORDED)?;
    ensure!(fs::read(room.config()).unwrap() == once, "the second time: {}", room.hooks()?);
    room.is_as(&before)
}
