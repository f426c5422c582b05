// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What contrib/install.sh installs: one bad descriptor keeps CRI-O from starting and fails every
//! podman container, so each is held against what the engines check.
//!
//! OCI_SYSTEMD_HOOK_STAGE is the DESTDIR of an installation; contrib/check.sh makes one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci_systemd_hook::hooksd::{self, Descriptor, Hooks, Stage, Subject};
use serde_json::Value;

fn stage() -> Option<PathBuf> {
    let stage = std::env::var_os("OCI_SYSTEMD_HOOK_STAGE").map(PathBuf::from);
    if stage.is_none() {
        assert!(std::env::var_os("CI").is_none(), "OCI_SYSTEMD_HOOK_STAGE is not set");
        println!("skipped: OCI_SYSTEMD_HOOK_STAGE is not set; contrib/check.sh sets it");
    }
    stage
}

/// What the engines read of the installed descriptors once the stage is the host's root: a copy, in
/// which the hook is where it is now.
fn hooks(stage: &Path, extension_stages: &[&str]) -> Hooks {
    hooks_in(&stage.join("usr/share/containers/oci/hooks.d"), stage, extension_stages)
}

fn hooks_in(directory: &Path, stage: &Path, extension_stages: &[&str]) -> Hooks {
    let copies = tempfile::tempdir().unwrap();
    let libexec = stage.join("usr/libexec");
    for entry in std::fs::read_dir(directory).expect("the descriptors") {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("\"/usr/libexec/", &format!("\"{}/", libexec.display()));
        std::fs::write(copies.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let hooks = hooksd::read(&[copies.path().to_owned()], extension_stages);
    // Not even what the engines pass over: nothing else is installed there.
    assert!(hooks.problems.is_empty(), "{:?}", hooks.problems);
    hooks
}

fn names(descriptors: &[&Descriptor]) -> Vec<String> {
    descriptors.iter().map(|each| each.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

const ANNOTATION: &str = "oci-systemd-hook-annotation.json";
/// The name of the old hook's descriptor, so that one package replaces the other.
const COMMANDS: &str = "oci-systemd-hook.json";

#[test]
fn the_descriptors_are_what_the_engines_accept() {
    let Some(stage) = stage() else { return };
    // No engine has less than the specification's stages: `precreate` is podman's alone, and keeps
    // CRI-O from starting.
    let hooks = hooks(&stage, &[]);
    assert_eq!(names(&hooks.descriptors.iter().collect::<Vec<_>>()), [ANNOTATION, COMMANDS]);
    for Descriptor { path, hook, stages, .. } in &hooks.descriptors {
        assert_eq!(stages, &[Stage::CreateRuntime, Stage::Poststop], "{path:?}");
        assert_eq!(hook.path, stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook"), "{path:?}");
        // The hook needs no arguments, and gives up by itself before a runtime ends it.
        assert_eq!((hook.args.as_slice(), hook.timeout), (&[][..], Some(60)), "{path:?}");
        assert_eq!(hook.env, ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "{path:?}");
        let mode = std::fs::metadata(&hook.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{path:?}");
    }
}

/// Installed with PRECREATE=yes, in a directory that podman alone is told of.
#[test]
fn the_descriptors_for_precreate_have_a_directory_of_their_own() {
    let Some(stage) = stage() else { return };
    let hooks = hooks_in(&stage.join("usr/share/oci-systemd-hook/precreate.d"), &stage, &["precreate", "poststop"]);
    let names = names(&hooks.descriptors.iter().collect::<Vec<_>>());
    assert_eq!(names, ["oci-systemd-hook-precreate-annotation.json", "oci-systemd-hook-precreate.json"]);
    for Descriptor { path, hook, extension_stages, .. } in &hooks.descriptors {
        assert_eq!(hook.path, stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook"), "{path:?}");
        assert_eq!(extension_stages, &["precreate"], "{path:?}");
        assert_eq!(hook.timeout, Some(60), "{path:?}");
        assert_eq!(hook.env, ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "{path:?}");
    }
}

/// podman runs poststop itself.
#[test]
fn podman_takes_poststop_for_itself() {
    let Some(stage) = stage() else { return };
    for Descriptor { path, stages, extension_stages, .. } in hooks(&stage, &["precreate", "poststop"]).descriptors {
        assert_eq!(stages, [Stage::CreateRuntime], "{path:?}");
        assert_eq!(extension_stages, ["poststop"], "{path:?}");
    }
}

/// In 1.0.0 conditions are ANDed: commands and annotation in one descriptor would want both. Which
/// commands and annotations there are is in tests/hooksd.
#[test]
fn one_descriptor_matches_commands_and_one_the_annotation() {
    let Some(stage) = stage() else { return };
    let hooks = hooks(&stage, &[]);
    for (command, switch, expected) in [
        ("/sbin/init", "unset", &[COMMANDS][..]),
        ("/bin/sh", "enabled", &[ANNOTATION]),
        ("/sbin/init", "enabled", &[ANNOTATION, COMMANDS]),
        ("/bin/sh", "disabled", &[]),
    ] {
        let annotations = BTreeMap::from([("oci-systemd-hook".to_owned(), switch.to_owned())]);
        let args = [command.to_owned()];
        let subject = Subject { args: Some(&args), annotations: &annotations, has_bind_mounts: false };
        assert_eq!(names(&hooks.matching(&subject).unwrap()), expected, "{command} {switch}");
    }
}

#[test]
fn the_fragment_for_runc_names_the_installed_hook() {
    let json: Value = serde_json::from_str(include_str!("../contrib/runc-hooks.json")).unwrap();
    for stage in ["createRuntime", "poststop"] {
        assert_eq!(json["hooks"][stage][0]["path"], "/usr/libexec/oci/hooks.d/oci-systemd-hook", "{stage}");
    }
}

/// Whatever the umask of who installs it.
#[test]
fn everybody_may_read_it() {
    let Some(stage) = stage() else { return };
    let mut directories = vec![stage];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let needed = if metadata.is_dir() { 0o755 } else { 0o444 };
            let mode = metadata.permissions().mode() & 0o777;
            assert_eq!(mode & needed, needed, "{path:?} has mode {mode:03o}");
            if metadata.is_dir() {
                directories.push(path);
            }
        }
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
