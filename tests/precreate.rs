// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of podman's precreate stage, see oci-hooks(5): the hook reads a config.json from standard input and writes
//! it, possibly changed, to standard output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The parts of a podman bundle's config.json that matter here, with unknown fields and odd spellings of known ones.
const CONFIG: &str = r#"{
  "ociVersion" : "1.0.2-dev", "future": {"z": 1e400, "a": [1.50, -0, 12345678901234567890123], "z": null},
  "process": {"terminal":false,"args":["/sbin/init"],"env":["PATH=/usr/bin", "TERM=xterm" ],"cwd":"\/"},
  "root": {"path":"ROOT"},
  "hooks": null, "mounts": [ {"type": "cgroup", "destination": "/sys/fs/cgroup", "options": ["rprivate", "ro"]}],
  "linux":{ "namespaces" : [{"type":"mount"},{"type":"pid"}], "ünknown": "\u00fc\ud83d\ude00" }
}
"#;

/// Creates an image with systemd, and a directory with a name like those of podman's bundles.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let systemd = place.path().join("image/usr/lib/systemd");
    std::fs::create_dir_all(&systemd).unwrap();
    std::fs::create_dir_all(place.path().join("image/sbin")).unwrap();
    std::fs::create_dir_all(place.path().join(ID).join("userdata")).unwrap();
    std::fs::write(systemd.join("systemd"), b"\x7fELF").unwrap();
    std::os::unix::fs::symlink("/usr/lib/systemd/systemd", place.path().join("image/sbin/init")).unwrap();
    place
}

fn config(place: &TempDir) -> String {
    CONFIG.replace("ROOT", place.path().join("image").to_str().unwrap())
}

fn precreate(bundle: &Path, config: &[u8]) -> Output {
    let mut hook = Command::new(env!("CARGO_BIN_EXE_oci-systemd-hook"))
        .arg("precreate")
        .current_dir(bundle)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    hook.stdin.take().unwrap().write_all(config).unwrap();
    hook.wait_with_output().unwrap()
}

fn changed(place: &TempDir, config: &str) -> String {
    let output = precreate(&place.path().join(ID).join("userdata"), config.as_bytes());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

fn env(config: &str) -> Vec<String> {
    // No number type of the hook could hold this number.
    let config: Value = serde_json::from_str(&config.replace("1e400", "0")).unwrap();
    let env = config["process"]["env"].as_array().unwrap();
    env.iter().map(|variable| variable.as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_what_is_meant_changes() {
    let place = place();
    let config = config(&place);
    let got = changed(&place, &config);
    // Without the new fields, the output is byte for byte the input.
    let (before, rest) = got.split_once("\"TERM=xterm\"").unwrap();
    let (added, behind) = rest.split_once(" ]").unwrap();
    let behind = behind.replacen("\"rootfsPropagation\":\"private\",", "", 1);
    assert_eq!(format!("{before}\"TERM=xterm\" ]{behind}"), config);
    assert!(added.contains("\"container=oci\""), "{added}");
    assert!(added.contains(&format!("\"container_uuid={}\"", &ID[..32])), "{added}");
    assert!(added.contains("\"container_host_id="), "{added}");
    assert!(got.contains(r#""linux":{"rootfsPropagation":"private", "namespaces""#), "{got}");
}

#[test]
fn a_second_time_changes_nothing() {
    let place = place();
    let once = changed(&place, &config(&place));
    assert_ne!(once, config(&place));
    assert_eq!(changed(&place, &once), once);
}

#[test]
fn what_the_user_set_stays() {
    let place = place();
    let id = "f".repeat(32);
    let mine = format!("container=mine\", \"container_uuid={id}\", \"container_host_id=x");
    let got = env(&changed(&place, &config(&place).replace("TERM=xterm", &mine)));
    for (name, value) in [("container=", "mine"), ("container_uuid=", &id), ("container_host_id=", "x")] {
        let found: Vec<_> = got.iter().filter_map(|variable| variable.strip_prefix(name)).collect();
        assert_eq!(found, [value], "{name}");
    }
}

#[test]
fn without_an_engines_id_there_is_no_uuid() {
    let place = place();
    let output = precreate(place.path(), config(&place).as_bytes());
    assert!(output.status.success(), "{output:?}");
    let got = env(&String::from_utf8(output.stdout).unwrap());
    assert!(got.contains(&"container=oci".to_owned()), "{got:?}");
    assert!(!got.iter().any(|variable| variable.starts_with("container_uuid=")), "{got:?}");
}

#[test]
fn other_containers_come_out_as_they_went_in() {
    let place = place();
    for (from, to) in [
        ("/sbin/init", "/bin/sh"),
        ("/sbin/init", "/nowhere/init"),
        ("\"hooks\": null", r#""annotations": {"oci-systemd-hook": "disabled"}"#),
    ] {
        let config = config(&place).replace(from, to);
        assert_eq!(changed(&place, &config), config);
    }
    // This is also true of input that isn't UTF-8, though JSON has to be.
    let mut odd = config(&place).replace("/sbin/init", "/bin/sh").replace("1.0.2-dev", "FF").into_bytes();
    let at = odd.windows(2).position(|two| two == b"FF").unwrap();
    odd[at] = 0xff;
    let output = precreate(place.path(), &odd);
    assert_eq!((output.status.code(), output.stdout), (Some(0), odd));
}

/// Go accepts such a file, and runc is written in Go.
#[test]
fn what_is_not_utf_8_is_no_reason_to_fail() {
    let place = place();
    let mut odd = config(&place).replace("1.0.2-dev", "FF").into_bytes();
    let at = odd.windows(2).position(|two| two == b"FF").unwrap();
    odd[at] = 0xff;
    let output = precreate(place.path(), &odd);
    let got = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && got.contains("\"\u{fffd}F\""), "{got}");
    assert!(env(&got).contains(&"container=oci".to_owned()), "{got}");
}

#[test]
fn podmans_mark_has_the_id_where_the_directory_has_none() {
    let place = place();
    let mark = format!(
        r#""mounts": [{{"destination":"/run/.containerenv","type":"bind","options":["bind","rprivate"],
            "source":"/x/overlay-containers/{ID}/userdata/.containerenv"}}, "#
    );
    let config = config(&place).replace("\"mounts\": [", &mark);
    let output = precreate(place.path(), config.as_bytes());
    let got = String::from_utf8(output.stdout).unwrap();
    assert!(env(&got).contains(&format!("container_uuid={}", &ID[..32])), "{got}");
}

#[test]
fn an_annotation_is_enough() {
    let place = place();
    let config = config(&place).replace("/sbin/init", "/entrypoint.sh").replace(
        "\"hooks\": null",
        r#""annotations": {"oci-systemd-hook": "enabled", "io.container.manager": "libpod"}"#,
    );
    assert!(env(&changed(&place, &config)).contains(&"container=podman".to_owned()));
}

#[test]
fn a_bad_config_is_one_line_and_no_output() {
    let place = place();
    let not_text = [config(&place).replace("future", "\u{1}").into_bytes(), b"\xff".to_vec()].concat();
    for (bad, says) in [
        (b"".to_vec(), "standard input"),
        (b"{".to_vec(), "standard input"),
        (b"null".to_vec(), "standard input"),
        (b"{}".to_vec(), "process.args"),
        (br#"{"process":{"args":["/sbin/init"]},"root":{"path":"/nowhere"}}"#.to_vec(), "/nowhere"),
        (
            config(&place).replace("\"env\":[\"PATH=/usr/bin\", \"TERM=xterm\" ]", "\"env\":{}").into_bytes(),
            "standard input",
        ),
        (not_text, "standard input"),
    ] {
        let output = precreate(place.path(), &bad);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty());
        assert!(said.lines().count() == 1 && said.contains(says), "{said}");
    }
}
