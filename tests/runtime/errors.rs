// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that each error of the wrapper is reported in one line, in the place that the caller reads.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;

use serde_json::{Value, json};

use crate::command::text_of;
use crate::host;
use crate::refusal::{is_logged, is_one, is_warned};
use crate::room::{ALWAYS, RECORDED, Room};
use crate::site::Site;
use crate::{Check, all};

/// Invalid descriptors, and a word that the error line for each must contain.
const DESCRIPTORS: [(&str, &str); 11] = [
    ("", "JSON"),
    ("{", "JSON"),
    (r#"{"version":"2.0.0","hook":{"path":"@HOOK@"},"when":{"always":true},"stages":[]}"#, "2.0.0"),
    (r#"{"version":7,"hook":{"path":"@HOOK@"},"when":{"always":true},"stages":[]}"#, "version"),
    (r#"{"version":"1.0.0","when":{"always":true},"stages":["poststop"]}"#, "hook.path"),
    (
        r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"commands":["("]},"stages":["poststop"]}"#,
        "when.commands",
    ),
    (r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"annotations":{"a":"*"}},"stages":["poststop"]}"#, "*"),
    (r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"always":true},"stages":["precreate"]}"#, "precreate"),
    (r#"{"version":"1.0.0","hook":{"path":"@HOOK@"},"when":{"always":1},"stages":["poststop"]}"#, "when: always: "),
    (r#"{"hook":"@HOOK@","cmds":["a"]}"#, "stages"),
    (r#"{"hook":"@HOOK@","cmd":["a"],"cmds":["a"],"stages":["poststop"]}"#, "cmd"),
];

pub fn descriptors(site: &Site) -> Check {
    all(DESCRIPTORS.iter().flat_map(|row| ["json", "text"].map(|format| (row, format))).map(
        |((text, word), format)| {
            let check = || {
                let room = Room::new(site)?;
                room.describe("first/10-good.json", ALWAYS);
                room.describe("first/20-bad.json", text);
                let before = room.snapshot();
                let mut command = room.wrapper();
                command.args(["--log", &room.filled_in("@ROOM@/log"), "--log-format", format, "create", "--bundle"]);
                let finished = room.run(command.arg(room.path("bundle")).arg("c"))?;
                is_logged(&room, &finished, format, &[&room.filled_in("@ROOM@/first/20-bad.json"), word])?;
                room.is_as(&before)
            };
            (format!("{format} {text}"), check())
        },
    ))
}

/// With the option, an invalid descriptor only loses its own hook, which is reported.
pub fn skipped_descriptors(site: &Site) -> Check {
    all(DESCRIPTORS.iter().map(|(text, word)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/10-good.json", ALWAYS);
            room.describe("first/20-bad.json", text);
            let finished = room.create(&["--skip-bad-descriptors"])?.expect_code(RECORDED)?;
            ensure!(room.hooks()? == json!({"poststop": ["always"]}), "{}", room.hooks()?);
            // The engine shows this output as the runtime's own error, so it must not begin with another program's.
            let own: Vec<&str> = finished.errors.lines().filter(|line| !line.starts_with("to standard")).collect();
            let told = own.iter().all(|line| line.contains("20-bad.json") && line.contains(word));
            ensure!(told && own.len() <= 1, "{finished}");
            Ok(())
        };
        (*text, check())
    }))
}

/// A runtime that can't be executed, or that is the wrapper itself, which would execute itself forever.
pub fn runtime(site: &Site) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", ALWAYS);
    for (folder, program) in [("itself", "runc"), ("itself", "link"), ("itself", "crun")] {
        fs::create_dir_all(room.path(folder)).unwrap();
        symlink(site.wrapper(), room.path(folder).join(program)).unwrap();
    }
    fs::hard_link(site.wrapper(), room.path("hard")).unwrap();
    let wrapper = site.wrapper().to_str().unwrap();
    // Each row has the option, PATH, and a word that the error line must contain.
    let table: &[(&[&str], &str, &str)] = &[
        (&["--runtime-path", "/nowhere/runc"], "", "/nowhere/runc"),
        (&["--runtime-path", "@BUNDLE@"], "", "@BUNDLE@"),
        (&["--runtime-path", "@HOOK@"], "", "@HOOK@"),
        (&["--runtime-path", "@HOOK@/below"], "", "@HOOK@/below"),
        (&["--runtime-path", "no-such-runtime"], "@ROOM@", "no-such-runtime"),
        (&["--runtime-path", ""], "", "runtime"),
        (&[], "@ROOM@/first", "runc"),
        (&[], "", "runc"),
        (&["--runtime-path", wrapper], "", "itself"),
        (&["--runtime-path", "@ROOM@/itself/link"], "", "itself"),
        (&["--runtime-path", "@ROOM@/hard"], "", "itself"),
        (&["--runtime-path", "runc"], "@ROOM@/itself", "runc"),
        (&[], "@ROOM@/itself", "runc"),
    ];
    let creates = ["create", "--bundle", "@BUNDLE@", "c"].as_slice();
    all(table.iter().flat_map(|row| [creates, &["state", "c"]].map(|last| (row, last))).map(
        |((options, path, word), last)| {
            let before = room.snapshot();
            let mut command = room.bare_wrapper();
            command.args(options.iter().chain(last).map(|each| room.filled_in(each)));
            command.env("PATH", room.filled_in(path));
            let mut check = || {
                let finished = room.run(&mut command)?;
                is_one(&room, &finished, &[&room.filled_in(word)])?;
                room.is_as(&before)
            };
            (format!("{options:?} {path:?} {last:?}"), check())
        },
    ))
}

/// Invalid values of the wrapper's own options.
pub fn own_options(site: &Site) -> Check {
    let room = Room::new(site)?;
    let table: &[(&[&str], &str)] = &[
        (&["--runtime-path"], "--runtime-path"),
        (&["--hooks-dir"], "--hooks-dir"),
        (&["--hook-config-path"], "--hook-config-path"),
    ];
    all(table.iter().map(|(options, word)| {
        let check = || {
            let finished = room.run(room.bare_wrapper().args(*options))?;
            is_one(&room, &finished, &[word])
        };
        (format!("{options:?}"), check())
    }))
}

/// Each way to specify a log file.
pub fn log(site: &Site) -> Check {
    let table: &[(&[&str], &str)] = &[
        (&["--log", "@ROOM@/log"], "text"),
        (&["--log=@ROOM@/log"], "text"),
        (&["-log", "@ROOM@/log"], "text"),
        (&["--log", "@ROOM@/log", "--log-format", "json"], "json"),
        (&["--log-format=json", "--log=@ROOM@/log"], "json"),
        (&["--root", "/r", "--log", "@ROOM@/log", "--log-format", "json", "--systemd-cgroup"], "json"),
        (&["--log", "/nowhere/log", "--log", "@ROOM@/log"], "text"),
    ];
    all(table.iter().map(|(options, format)| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/bad \"quoted\".json", "{");
            let mut command = room.wrapper();
            command.args(options.iter().map(|each| room.filled_in(each)));
            let finished = room.run(command.args(["create", "-b"]).arg(room.path("bundle")).arg("c"))?;
            is_logged(&room, &finished, format, &["JSON"])?;
            // The engine created the file and reads all of it, so the wrapper must append to it.
            room.run(&mut command)?;
            let log = fs::read_to_string(room.path("log")).unwrap();
            ensure!(log.lines().count() == 2, "after two calls it has {log}");
            Ok(())
        };
        (format!("{options:?}"), check())
    }))
}

/// If the log can't be written, the error on standard error is still complete.
pub fn no_log(site: &Site) -> Check {
    all(["/nowhere/log", "@BUNDLE@", "", "/dev/full"].into_iter().map(|log| {
        let check = || {
            let room = Room::new(site)?;
            room.describe("first/bad.json", "{");
            let mut command = room.wrapper();
            command.args(["--log", &room.filled_in(log), "create", "-b"]).arg(room.path("bundle")).arg("c");
            let finished = room.run(&mut command)?;
            is_one(&room, &finished, &["bad.json"])
        };
        (log, check())
    }))
}

/// A descriptor of the hook for each container, with the stages in place of `@STAGES@`.
const THIS_HOOK: &str =
    r#"{"version":"1.0.0","hook":{"path":"@ROOM@/oci-systemd-hook"},"when":{"always":true},"stages":[@STAGES@]}"#;

/// A container with systemd that no hook prepares is nevertheless started, and a warning in the journal and in the
/// runtime's log says why systemd will not start.
pub fn missing_hook_warning(site: &Site) -> Check {
    type Change = fn(&Room);
    fn describe(room: &Room, stages: &str) {
        room.describe("first/systemd.json", &THIS_HOOK.replace("@STAGES@", stages));
    }
    fn change_config(room: &Room, change: impl FnOnce(&mut Value)) {
        let mut config = room.read_config().unwrap();
        change(&mut config);
        room.write_config(&config);
    }
    // Each row has the change, the wrapper's options, and the words of the warning; no words if there
    // must be no warning.
    let table: &[(&str, Change, &[&str], &[&str])] = &[
        ("no descriptor", |_| (), &[], &["/sbin/init", "@ROOM@/first", "contrib/install.sh", "hooksDirs"]),
        ("no directory", |_| (), &["--hooks-dir", "/nowhere"], &["@ROOM@/first", "/nowhere"]),
        ("no directory at all", |_| (), &["--hooks-dir", ""], &["@ROOM@/first"]),
        ("only a missing directory", |room| fs::remove_dir(room.path("first")).unwrap(), &[], &["No such file"]),
        (
            "no program",
            |room| {
                describe(room, r#""createRuntime""#);
                fs::remove_file(room.path("oci-systemd-hook")).unwrap();
            },
            &[],
            &["first/systemd.json\" is not used", "@ROOM@/oci-systemd-hook\" can't be found"],
        ),
        ("another's hook", |room| room.describe("first/a.json", ALWAYS), &[], &["oci-systemd-hook"]),
        ("too late", |room| describe(room, r#""startContainer", "poststart", "poststop""#), &[], &["@ROOM@/first"]),
        (
            "enabled by annotation",
            |room| {
                change_config(room, |config| {
                    config["process"]["args"] = json!(["/entrypoint.sh"]);
                    config["annotations"]["oci-systemd-hook"] = json!("enabled");
                });
            },
            &[],
            &["annotation"],
        ),
        ("prestart", |room| describe(room, r#""prestart""#), &[], &[]),
        ("createRuntime", |room| describe(room, r#""createRuntime", "poststop""#), &[], &[]),
        ("createContainer", |room| describe(room, r#""createContainer""#), &[], &[]),
        (
            "in config.json",
            |room| {
                let path = room.path("oci-systemd-hook");
                change_config(room, |config| config["hooks"] = json!({"prestart": [{"path": path}]}));
            },
            &[],
            &[],
        ),
        (
            "in a hook configuration",
            |room| room.describe("hooks.json", r#"{"hooks":{"prestart":[{"path":"@ROOM@/oci-systemd-hook"}]}}"#),
            &["--hook-config-path", "@ROOM@/hooks.json"],
            &[],
        ),
        (
            "another command",
            |room| change_config(room, |config| config["process"]["args"] = json!(["/usr/sbin/nginx"])),
            &[],
            &[],
        ),
        (
            "disabled",
            |room| change_config(room, |config| config["process"]["env"] = json!(["oci-systemd-hook=disabled"])),
            &[],
            &[],
        ),
    ];
    all(table.iter().map(|(name, change, options, words)| {
        let check = || {
            let room = Room::new(site)?;
            room.runs_systemd();
            fs::write(room.path("oci-systemd-hook"), "").unwrap();
            change(&room);
            let journal = UnixDatagram::bind(room.path("journal")).unwrap();
            journal.set_nonblocking(true).unwrap();
            let mut command = room.wrapper();
            command.args(options.iter().map(|option| room.filled_in(option)));
            command.args(["--log", &room.filled_in("@ROOM@/log"), "create", "-b"]).arg(room.path("bundle")).arg("c");
            let script = room.filled_in("mount -t tmpfs tmpfs /dev; ln -s '@ROOM@/journal' /dev/log");
            room.run(&mut host::command_after(&script, &command))?.expect_code(RECORDED)?;
            let mut bytes = [0; 4096];
            let sent = journal.recv(&mut bytes).map(|count| text_of(&bytes[..count])).unwrap_or_default();
            let log = fs::read_to_string(room.path("log")).unwrap_or_default();
            if words.is_empty() {
                ensure!(sent.is_empty() && log.is_empty(), "the journal has {sent:?}, and the log {log:?}");
            } else {
                ensure!(sent.starts_with("<28>oci-hooks-runtime["), "not a daemon's warning: {sent:?}");
                is_warned(&log, words.iter().map(|word| room.filled_in(word)), &sent)?;
            }
            Ok(())
        };
        (*name, check())
    }))
}

/// A bundle on a read-only mount that would have to be changed.
pub fn read_only(site: &Site) -> Check {
    cannot_be_written(site, "mount --bind '@BUNDLE@' '@BUNDLE@'; mount -o remount,bind,ro '@BUNDLE@'")
}

/// If the file system is full, no part of a new file remains, and config.json isn't truncated.
pub fn full(site: &Site) -> Check {
    // The file system has a page for the existing file, and none for another one.
    let script = "cp '@BUNDLE@/config.json' '@ROOM@/kept'; mount -t tmpfs -o size=4096 tmpfs '@BUNDLE@'; \
                  cat '@ROOM@/kept' >'@BUNDLE@/config.json'; trap 'cmp @ROOM@/kept @BUNDLE@/config.json >&2; \
                  ls -A @BUNDLE@ >@ROOM@/left' EXIT; \"$@\" && exit; exit";
    let room = Room::new(site)?;
    // The new config.json must not fit into the same page.
    room.describe("first/a.json", &ALWAYS.replace("always\"]", &format!("{}\"]", "x".repeat(8_000))));
    let mut command = room.wrapper();
    command.args(["create", "--bundle"]).arg(room.path("bundle")).arg("c");
    let finished = room.run(&mut host::command_after(&room.filled_in(script), &command))?;
    is_one(&room, &finished, &["config.json"])?;
    let left = fs::read_to_string(room.path("left")).unwrap();
    ensure!(left == "config.json\n", "the bundle contains {left:?}");
    Ok(())
}

fn cannot_be_written(site: &Site, script: &str) -> Check {
    let room = Room::new(site)?;
    room.describe("first/a.json", ALWAYS);
    let before = room.snapshot();
    let mut command = room.wrapper();
    command.args(["create", "--bundle"]).arg(room.path("bundle")).arg("c");
    let finished = room.run(&mut host::command_after(&room.filled_in(script), &command))?;
    is_one(&room, &finished, &["config.json"])?;
    room.is_as(&before)
}
