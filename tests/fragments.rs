// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the configuration fragments in contrib: what containerd itself makes of those for containerd, and that
//! each file that configures the hook sets its environment and a time limit. The end-to-end tests run Docker's
//! fragment, and those in the virtual machine run what systemd and podman read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn fragment(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/containerd").join(name)
}

/// Returns the lines of a fragment without comments and empty lines.
fn settings(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(fragment(name)).unwrap();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim_end());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Returns the configuration that containerd makes of a fragment and its own defaults. containerd 2.x quotes with
/// apostrophes, which are replaced.
fn dump(name: &str) -> Option<String> {
    let Ok(output) = Command::new("containerd").arg("--config").arg(fragment(name)).args(["config", "dump"]).output()
    else {
        assert!(std::env::var_os("CI").is_none(), "containerd is not installed");
        println!("skipped: containerd is not installed");
        return None;
    };
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().replace('\'', "\""))
}

/// Returns the lines of a runtime's table and of its options.
fn runtime(dump: &str, runtime: &str) -> Vec<String> {
    let table = format!(".containerd.runtimes.{runtime}");
    let is_its =
        |header: &str| header.ends_with(&format!("{table}]")) || header.ends_with(&format!("{table}.options]"));
    let mut lines = Vec::new();
    let mut inside = false;
    for line in dump.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = is_its(line);
        } else if inside {
            lines.push(line.to_owned());
        }
    }
    lines
}

const ANNOTATIONS: &str = r#"["oci-systemd-hook*", "oci-systemd-hook*/*"]"#;

fn has(lines: &[String], wanted: &[&str]) {
    for line in wanted {
        assert!(lines.iter().any(|found| found == line), "no {line} in {lines:#?}");
    }
}

/// The files of this repository that configure the hook for an engine or a runtime.
const WITH_HOOKS: [&str; 8] = [
    "share/containers/oci/hooks.d/oci-systemd-hook.json.in",
    "share/containers/oci/hooks.d/oci-systemd-hook-annotation.json.in",
    "share/oci-systemd-hook/precreate.d/oci-systemd-hook-precreate.json.in",
    "share/oci-systemd-hook/precreate.d/oci-systemd-hook-precreate-annotation.json.in",
    "contrib/runc-hooks.json",
    "contrib/system-container/config.json.template",
    "contrib/demo.sh",
    "share/doc/options.md",
];

/// Returns each hook in the content of a file, without the quotes and escapes that differ between JSON and jq.
fn hooks(text: &str) -> Vec<String> {
    let text = text.replace(['"', '\\'], "");
    let names_it = |hook: &&str| {
        hook.starts_with("$HOOK")
            || hook.starts_with("$hook")
            || hook.starts_with('@')
            || hook.starts_with("/usr/libexec/oci/hooks.d/")
    };
    text.split("path: ").skip(1).filter(names_it).map(|hook| hook.split('}').next().unwrap().to_owned()).collect()
}

/// Without `env`, some runtimes run a hook with the container's environment, which the dynamic loader obeys. Without
/// `timeout`, they wait forever.
#[test]
fn each_hook_has_an_environment_and_a_time_limit() {
    for path in WITH_HOOKS {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let hooks = hooks(&text);
        assert!(!hooks.is_empty(), "{path} names no hook");
        for hook in hooks {
            assert!(hook.contains("env: [PATH="), "{path}: no env in {hook}");
            assert!(hook.contains("timeout: 60"), "{path}: no timeout in {hook}");
        }
    }
}

/// Only the files in [`WITH_HOOKS`] configure the hook.
#[test]
fn all_that_names_the_hook_is_known() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut left = vec![top.join("share"), top.join("contrib")];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // Skips build output, and fuzzing inputs that are malformed on purpose.
                left.extend((!path.ends_with("target") && !path.ends_with("corpus")).then_some(path));
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let below = path.strip_prefix(top).unwrap().to_str().unwrap();
            let is_benchmark = below.starts_with("contrib/benchmark");
            assert!(
                is_benchmark || WITH_HOOKS.contains(&below) || hooks(&text).is_empty(),
                "{below}: {:?}",
                hooks(&text)
            );
        }
    }
}

#[test]
fn containerd_knows_the_runtime() {
    let Some(dump) = dump("config.toml") else { return };
    let wrapper = [
        r#"runtime_type = "io.containerd.runc.v2""#,
        &format!("pod_annotations = {ANNOTATIONS}"),
        &format!("container_annotations = {ANNOTATIONS}"),
        r#"BinaryName = "/usr/bin/oci-hooks-runtime""#,
        "SystemdCgroup = true",
    ];
    has(&runtime(&dump, "systemd"), &wrapper);
    // The runtime is added beside the others and doesn't replace one.
    has(&runtime(&dump, "runc"), &[r#"runtime_type = "io.containerd.runc.v2""#, "pod_annotations = []"]);
}

#[test]
fn containerd_hands_on_what_a_plugin_of_nri_does_not() {
    let Some(dump) = dump("nri.toml") else { return };
    has(&runtime(&dump, "runc"), &[&format!("pod_annotations = {ANNOTATIONS}"), "SystemdCgroup = true"]);
}

/// containerd 1.6, which may be the installed one, accepts the newer file but ignores all of its
/// settings; 1.7 refuses it.
#[test]
fn the_file_for_containerd_2_says_the_same() {
    let mut newer = settings("config.toml");
    // With containerd 2, the runtime is added to containerd's own list.
    let runc = newer.iter().position(|line| line.ends_with(".runtimes.runc]")).expect("a section runc");
    newer.drain(runc..runc + 2);
    let renamed = |line: &String| match line.as_str() {
        "version = 2" => "version = 3".to_owned(),
        line => line.replace("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"),
    };
    assert_eq!(settings("config-v3.toml"), newer.iter().map(renamed).collect::<Vec<_>>());
}

/// Users are told to build these images, but the tests run only Debian's.
#[test]
fn each_image_has_systemd_and_its_stop_signal() {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/images");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(images).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(path.join("Containerfile")).unwrap();
        let instructions: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with([' ', '#']) && !line.is_empty())
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        assert_eq!(instructions, ["ARG", "FROM", "RUN", "STOPSIGNAL", "CMD"], "{name}");
        let stop = text.lines().find_map(|line| line.strip_prefix("STOPSIGNAL "));
        assert_eq!(stop, Some("SIGRTMIN+3"), "{name}");
        let command = text.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
        let command: Vec<String> = serde_json::from_str(command).unwrap();
        assert_eq!(command, ["/sbin/init"], "{name}");
        assert!(text.contains(" systemd "), "{name} installs no systemd");
        assert!(text.contains(&format!("podman build -t localhost/systemd contrib/images/{name}")), "{name}");
        assert_eq!(text.contains("# The tests do not run this file."), name != "debian", "{name}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["debian", "fedora", "opensuse", "ubuntu"]);
}
