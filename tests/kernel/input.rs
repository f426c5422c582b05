// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that invalid input is reported in one clear line that says what is wrong and where, and
//! that nothing is changed.

use std::fs;

use serde_json::{Value, json};

use crate::Check;
use crate::bundle::{Bundle, Cgroup, with_bundle};
use crate::hook::How;
use crate::namespace::Realm;

type Spoil = fn(&mut Bundle);

/// Strings that are written to standard input in place of the state, and a word that the error line must contain.
const INPUTS: [(&str, &str); 13] = [
    ("", "standard input"),
    ("   \n", "standard input"),
    ("{", "standard input"),
    (r#"{"ociVersion":"1.0.2","id":"c1","status":"crea"#, "standard input"),
    ("no json at all", "standard input"),
    ("null", "standard input"),
    ("[]", "standard input"),
    ("\u{feff}{}", "standard input"),
    ("\0\0\0\0", "standard input"),
    (r#"{"id":"c1","status":"creating","bundle":"/b"}}"#, "standard input"),
    (r#"{"id":7,"status":"creating","bundle":"/b"}"#, "standard input"),
    (r#"{"id":"c1","status":"creating"}"#, "bundle"),
    (r#"{"status":"creating","bundle":"/b"}"#, "id"),
];

/// Invalid fields of the state, with a word that the error line must contain.
const STATES: [(&str, &str, &str); 14] = [
    ("id", r#""a/b""#, "a/b"),
    ("id", r#""..""#, r#"".."#),
    ("id", r#""""#, "ID"),
    ("id", r#""a\nb""#, "ID"),
    ("id", "null", "id"),
    ("bundle", r#""relative/bundle""#, "relative/bundle"),
    ("bundle", r#""""#, "bundle"),
    ("bundle", r#""/nowhere/../nowhere""#, "/nowhere/../nowhere"),
    ("bundle", r#""/nowhere/at/all""#, "/nowhere/at/all/config.json"),
    ("bundle", "[]", "standard input"),
    ("pid", r#""1""#, "standard input"),
    ("status", "7", "standard input"),
    ("annotations", r#"{"oci-systemd-hook":"yes"}"#, "yes"),
    ("annotations", "[1]", "standard input"),
];

/// Invalid fields of config.json by their JSON pointers. An empty value stands for a missing field.
const CONFIGS: [(&str, &str, &str); 31] = [
    ("/process", "", "config.json"),
    ("/process", "7", "config.json"),
    ("/process/args", "", "process.args"),
    ("/process/args", "[]", "process.args"),
    ("/process/args", "null", "process.args"),
    ("/process/args", r#""/sbin/init""#, "config.json"),
    ("/process/args", "[1]", "config.json"),
    ("/process/env", r#"{"a":"b"}"#, "config.json"),
    ("/process/env", "[null]", "config.json"),
    ("/process/cwd", "1", "config.json"),
    ("/process/terminal", r#""no""#, "config.json"),
    ("/process/capabilities", "7", "config.json"),
    ("/process/capabilities/bounding", "1", "config.json"),
    ("/root", "", "root.path"),
    ("/root", "[1]", "config.json"),
    ("/root/path", "", "root.path"),
    ("/root/path", r#""""#, "root.path"),
    ("/root/path", "{}", "config.json"),
    ("/root/path", r#""nowhere""#, "nowhere"),
    ("/root/path", r#""config.json""#, "config.json"),
    ("/annotations", r#"{"oci-systemd-hook":"on"}"#, "\"on\""),
    ("/annotations", r#"{"oci-systemd-hook":true}"#, "config.json"),
    ("/annotations", r#"{"oci-systemd-hook.run-size":"64 MB"}"#, "\"64 MB\""),
    ("/annotations", r#"{"oci-systemd-hook.run-size":"0"}"#, "oci-systemd-hook.run-size"),
    ("/annotations", r#"{"oci-systemd-hook.tmp-size":"999999g"}"#, "oci-systemd-hook.tmp-size"),
    ("/annotations", r#"{"oci-systemd-hook.cgroup":"v2"}"#, "\"v2\""),
    ("/annotations", r#"{"oci-systemd-hook.run-szie":"64m"}"#, "invalid annotation \"oci-systemd-hook.run-szie\""),
    ("/annotations", "7", "config.json"),
    ("/linux", "7", "config.json"),
    ("/linux/uidMappings", r#"[{"containerID":"x"}]"#, "config.json"),
    ("/linux/namespaces", r#"[{"type":1}]"#, "config.json"),
];

/// Changes to the whole config.json.
const FILES: [(&str, Spoil, &str); 6] = [
    ("config.json is missing", |bundle| fs::remove_file(config_file(bundle)).unwrap(), "config.json"),
    ("config.json is empty", |bundle| fs::write(config_file(bundle), "").unwrap(), "config.json"),
    (
        "config.json is cut short",
        |bundle| {
            let text = bundle.config.to_string();
            fs::write(config_file(bundle), &text[..text.len() / 2]).unwrap();
        },
        "config.json",
    ),
    (
        "config.json is a directory",
        |bundle| {
            fs::remove_file(config_file(bundle)).unwrap();
            fs::create_dir(config_file(bundle)).unwrap();
        },
        "config.json",
    ),
    ("config.json nests deep", |bundle| fs::write(config_file(bundle), "[".repeat(1_000_000)).unwrap(), "config.json"),
    (
        "config.json is huge",
        |bundle| fs::File::create(config_file(bundle)).unwrap().set_len(100 << 20).unwrap(),
        "config.json",
    ),
];

/// The limit on the address space, which is enough for the hook but not for the input if it were read as a whole.
const LITTLE_MEMORY: &str = "ulimit -v 65536;";

fn config_file(bundle: &Bundle) -> std::path::PathBuf {
    bundle.directory().join("config.json")
}

/// Tests invalid states.
pub fn states(realm: Realm) -> Check {
    for (text, word) in INPUTS {
        refused(realm, text, word, |_| {}, Some(text.as_bytes()))?;
    }
    for (field, value, word) in STATES {
        let name = format!("{field}: {value}");
        let spoil = move |bundle: &mut Bundle| bundle.state[field] = serde_json::from_str(value).unwrap();
        refused(realm, &name, word, spoil, None)?;
    }
    for (what, byte) in [("text", b'x'), ("space", b' '), ("arrays", b'['), ("zeros", 0)] {
        let flood = vec![byte; 100 << 20];
        refused(realm, &format!("100 MiB of {what}"), "standard input", |_| {}, Some(&flood))?;
    }
    refused(realm, "deep nesting", "standard input", |_| {}, Some("[".repeat(500_000).as_bytes()))?;
    let above = " ".repeat(512 * 1024 + 1);
    refused(realm, "512 KiB and a byte", "is larger than 524288 bytes", |_| {}, Some(above.as_bytes()))
}

/// Tests invalid config.json files.
pub fn configs(realm: Realm) -> Check {
    for (pointer, value, word) in CONFIGS {
        let spoil = move |bundle: &mut Bundle| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = bundle.config.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
            if value.is_empty() {
                parent.remove(key);
            } else {
                parent.insert(key.to_owned(), serde_json::from_str(value).unwrap());
            }
            bundle.write_config();
        };
        refused(realm, &format!("{pointer}: {value:?}"), word, spoil, None)?;
    }
    for (name, spoil, word) in FILES {
        refused(realm, name, word, spoil, None)?;
    }
    let spoil = |bundle: &mut Bundle| {
        let text = fs::read_to_string(config_file(bundle)).unwrap();
        let padding = 1024 * 1024 + 1 - text.len();
        fs::write(config_file(bundle), text + &" ".repeat(padding)).unwrap();
    };
    refused(realm, "1 MiB and a byte", "is larger than 1048576 bytes", spoil, None)
}

fn refused(
    realm: Realm,
    name: &str,
    word: &str,
    spoil: impl FnOnce(&mut Bundle) + Send,
    input: Option<&[u8]>,
) -> Check {
    let check = |bundle: &mut Bundle| {
        bundle.start(Cgroup::Mounted);
        spoil(bundle);
        let watch = bundle.watch();
        let state = bundle.state.to_string();
        let how = How { first: Some(LITTLE_MEMORY), ..How::default() };
        bundle.call(input.unwrap_or(state.as_bytes()), &how)?.refused(&[word])?;
        watch.everything(bundle)?;
        watch.image(bundle)
    };
    with_bundle(realm, check).map_err(|message| format!("{name:?}: {message}"))
}

/// Whatever runtimes accept is not refused, however odd it is.
pub fn tolerated(realm: Realm) -> Check {
    for (pointer, value) in [
        ("/mounts", json!(null)),
        ("/hooks", json!({"createContainer": null, "poststart": [], "fromTheFuture": 7})),
        ("/process/capabilities/bounding", json!(["CAP_SYS_ADMIN", "CAP_FROM_THE_FUTURE"])),
        ("/process/user", json!("nobody")),
        ("/linux/seccomp", json!({"defaultAction": 7})),
        ("/annotations", json!({"other": "yes"})),
        ("/annotations", json!(null)),
        ("/linux/rootfsPropagation", json!("")),
        ("/linux/uidMappings", json!(null)),
        ("/process/args", json!(["/sbin/init", "--unit=multi-user.target", "\u{1f600}"])),
    ] {
        with_bundle(realm, |bundle| {
            bundle.start(Cgroup::Mounted);
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            bundle.config.pointer_mut(parent).unwrap()[key] = value.clone();
            bundle.write_config();
            bundle.create()?.silently()?;
            ensure!(crate::table::at(&bundle.root("run")).is_some(), "nothing was done");
            Ok(())
        })
        .map_err(|message| format!("{pointer}: {value}: {message}"))?;
    }
    Ok(())
}
