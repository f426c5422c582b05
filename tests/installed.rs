// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What contrib/install.sh installs: one bad descriptor keeps CRI-O from starting and fails every
//! podman container, so each is held against what the engines check.
//!
//! OCI_SYSTEMD_HOOK_STAGE is the DESTDIR of an installation; contrib/check.sh makes one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn stage() -> Option<PathBuf> {
    let stage = std::env::var_os("OCI_SYSTEMD_HOOK_STAGE").map(PathBuf::from);
    if stage.is_none() {
        assert!(std::env::var_os("CI").is_none(), "OCI_SYSTEMD_HOOK_STAGE is not set");
        println!("skipped: OCI_SYSTEMD_HOOK_STAGE is not set; contrib/check.sh sets it");
    }
    stage
}

fn descriptors(stage: &Path) -> Vec<(String, Value)> {
    let directory = stage.join("usr/share/containers/oci/hooks.d");
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .expect("the descriptors' directory")
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path.file_name().unwrap().to_string_lossy().into_owned(), json)
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().expect("an array").iter().map(|each| each.as_str().expect("a string")).collect()
}

#[test]
fn the_descriptors_are_what_the_engines_accept() {
    let Some(stage) = stage() else { return };
    let found = descriptors(&stage);
    let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    // The first name is the old hook's, so that one package replaces the other.
    assert_eq!(names, ["oci-systemd-hook-annotation.json", "oci-systemd-hook.json"]);
    for (name, json) in &found {
        assert_eq!(json["version"], "1.0.0", "{name}");
        assert_eq!(strings(&json["stages"]), ["createRuntime", "createContainer", "poststop"], "{name}");
        let path = json["hook"]["path"].as_str().expect("hook.path");
        assert!(path.starts_with('/') && !path.contains('@'), "{name}: {path}");
        let mode = std::fs::metadata(stage.join(&path[1..])).expect(path).permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{path}");
    }
}

/// In 1.0.0 conditions are ANDed: commands and annotation in one descriptor would want both.
#[test]
fn one_descriptor_matches_commands_and_one_the_annotation() {
    let Some(stage) = stage() else { return };
    let found = descriptors(&stage);
    let (annotation, commands) = (&found[0].1["when"], &found[1].1["when"]);
    assert_eq!(strings(&commands["commands"]), [".*/init$", ".*/systemd$"]);
    assert_eq!(commands.as_object().unwrap().len(), 1);
    assert_eq!(annotation["annotations"]["^oci-systemd-hook(/.*)?$"], "^enabled$");
    assert_eq!(annotation.as_object().unwrap().len(), 1);
}

#[test]
fn the_fragment_for_runc_names_the_installed_hook() {
    let json: Value = serde_json::from_str(include_str!("../contrib/runc-hooks.json")).unwrap();
    for stage in ["createRuntime", "createContainer", "poststop"] {
        assert_eq!(json["hooks"][stage][0]["path"], "/usr/libexec/oci/hooks.d/oci-systemd-hook", "{stage}");
    }
}

#[test]
fn the_binary_runs_without_shared_libraries() {
    let Some(stage) = stage() else { return };
    let binary = stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook");
    // With this the dynamic loader lists libraries instead of starting the program; a static
    // program has no loader.
    let output = Command::new(&binary).arg("--version").env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let version = concat!("oci-systemd-hook ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
}

/// Linked as usual, libselinux looks for SELinux before main, at the start of each hook for each
/// container; libselinux.ld takes that out.
#[test]
fn libselinux_does_not_run_for_other_containers() {
    let Some(stage) = stage() else { return };
    let binary = stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook");
    let bundle = tempfile::tempdir().unwrap();
    std::fs::write(bundle.path().join("config.json"), r#"{"process":{"args":["/bin/true"]}}"#).unwrap();
    let state = serde_json::json!({ "id": "c", "status": "creating", "pid": 1, "bundle": bundle.path() });
    std::fs::write(bundle.path().join("state"), state.to_string()).unwrap();
    let output = Command::new("strace")
        .arg(&binary)
        .stdin(std::fs::File::open(bundle.path().join("state")).unwrap())
        .output()
        .expect("strace");
    let calls = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && calls.contains("config.json"), "{calls}");
    for looked_at in ["\"/sys/fs/selinux", "\"/selinux", "\"/etc/selinux", "\"/proc/filesystems"] {
        assert!(!calls.contains(looked_at), "{looked_at}: {calls}");
    }
    // It is not simply a build without.
    let section = b"libselinux_init\0";
    assert!(std::fs::read(&binary).unwrap().windows(section.len()).any(|bytes| bytes == section));
}
