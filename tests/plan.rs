// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of `oci-systemd-hook plan` as a user runs it: what it prints, and that it changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Creates a bundle whose command is recognized as systemd by its file.
fn bundle(config: &Value) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("web");
    let root = bundle.join("rootfs");
    for each in ["run", "tmp", "etc", "sbin", "usr/lib/systemd"] {
        fs::create_dir_all(root.join(each)).unwrap();
    }
    fs::write(root.join("etc/machine-id"), "").unwrap();
    fs::write(root.join("usr/lib/systemd/systemd"), b"\x7fELF and more").unwrap();
    symlink("../usr/lib/systemd/systemd", root.join("sbin/init")).unwrap();
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    (directory, bundle)
}

fn config(command: &str) -> Value {
    json!({
        "process": {"args": [command], "capabilities": {"bounding": ["CAP_SYS_ADMIN"]}},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [{"type": "mount"}], "resources": {"memory": {"limit": 1 << 30}}},
    })
}

fn plan(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_oci-systemd-hook")).arg("plan").args(arguments).output().unwrap()
}

/// Returns the paths in a directory with the attributes that any modification would change.
fn tree(at: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let stat = path.symlink_metadata().unwrap();
        if stat.is_dir() {
            all.extend(tree(&path));
        }
        all.insert(path, (stat.ino(), stat.mtime(), stat.mtime_nsec()));
    }
    all
}

#[test]
fn prints_the_plan_and_does_nothing() {
    let (_directory, bundle) = bundle(&config("/sbin/init"));
    let before = (tree(&bundle), fs::read("/proc/self/mountinfo").unwrap());
    let output = plan(&[&bundle]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{text}");
    let first = "prepare web: the command \"/sbin/init\" is systemd, /usr/lib/systemd/systemd in the image\n";
    assert!(text.starts_with(first), "{text}");
    // The sizes are 20 % and 50 % of the limit of 1 GiB.
    for line in ["must  mount tmpfs on /run (mode=755,size=204M,", "must  mount tmpfs on /tmp (mode=1777,size=512M,"] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert_eq!(before, (tree(&bundle), fs::read("/proc/self/mountinfo").unwrap()), "something changed");
}

#[test]
fn a_bundle_may_have_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let (directory, bundle) = bundle(&config("/sbin/init"));
    for (name, id) in [
        (&b"n\xff"[..], "n\u{fffd}"),
        (b"n\nx", "bundle"),
        (b".hidden", "hidden"),
        (b"...", "bundle"),
        ("n\u{202e}".as_bytes(), "n\\u{202e}"),
    ] {
        let odd = directory.path().join(std::ffi::OsStr::from_bytes(name));
        fs::rename(&bundle, &odd).unwrap();
        let output = plan(&[&odd]);
        fs::rename(&odd, &bundle).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(&format!("prepare {id}: ")), "{name:?}: {text}{:?}", output.stderr);
    }
}

#[test]
fn gives_the_same_to_programs() {
    let (directory, bundle) = bundle(&config("/sbin/init"));
    let state = directory.path().join("state.json");
    let id = "0123456789abcdef".repeat(4);
    fs::write(&state, json!({"id": id, "bundle": "/elsewhere", "status": "running"}).to_string()).unwrap();
    let output = plan(&[Path::new("--json"), Path::new("--state"), &state, &bundle]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["version"], &json["id"], &json["decision"]), (&json!(1), &json!(id), &json!("prepare")));
    let steps = json["steps"].as_array().unwrap();
    let run = steps.iter().find(|step| step["action"] == "tmpfs" && step["at"] == "/run").expect("/run");
    assert_eq!(
        (&run["need"], &run["size_bytes"], &run["mode"]),
        (&json!("required"), &json!(204 << 20), &json!("0755"))
    );
    let file = steps.iter().find(|step| step["action"] == "mount-file").expect("the machine id");
    assert_eq!(file["content"], format!("{}\n", &id[..32]));
}

/// The plan doesn't suggest an annotation that would have no effect.
#[test]
fn names_the_annotation_that_raises_a_bound_if_it_counts() {
    let (_directory, bundle) = bundle(&config("/sbin/init"));
    fs::write(bundle.join("rootfs/tmp/file"), "content").unwrap();
    for (allowed, option) in [("run-size,tmp-size", json!("oci-systemd-hook.tmp-size")), ("run-size", json!(null))] {
        let allowed = format!("--allow-options={allowed}");
        let json: Value =
            serde_json::from_slice(&plan(&[Path::new("--json"), Path::new(&allowed), &bundle]).stdout).expect("JSON");
        let steps = json["steps"].as_array().unwrap();
        let tmp = steps.iter().find(|step| step["action"] == "tmpfs" && step["at"] == "/tmp").expect("/tmp");
        assert_eq!(tmp["content"]["copied"]["option"], option, "{allowed}");
        // The bound is half of the limit of 1 GiB, and up to that many bytes are copied.
        assert_eq!(tmp["content"]["copied"]["most_bytes"], 512 << 20);
    }
}

#[test]
fn takes_the_cgroup_layout_from_the_annotation() {
    let asking_for = |layout: &str| {
        let mut config = config("/sbin/init");
        config["annotations"] = json!({"oci-systemd-hook.cgroup": layout});
        config["mounts"] = json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}]);
        let (_directory, bundle) = bundle(&config);
        plan(&[Path::new("--json"), &bundle])
    };
    // The result must not depend on this host's layout.
    for layout in ["legacy", "hybrid", "unified"] {
        let output = asking_for(layout);
        let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["cgroup_layout"]["layout"], layout);
        let why = json["cgroup_layout"]["why"].as_str().unwrap();
        assert!(why.contains("oci-systemd-hook.cgroup"), "{why}");
    }
    let output = asking_for("v2");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    for word in ["oci-systemd-hook.cgroup", "\"v2\"", "`legacy`", "`hybrid`", "`unified`"] {
        assert!(line.contains(word), "no {word} in {line}");
    }
}

/// A cgroup namespace that config.json names may be this host's. In that case the container sees the host's cgroups.
#[test]
fn tells_the_hosts_cgroup_namespace_from_others() {
    let of = |namespace: Option<Value>| {
        let mut config = config("/sbin/init");
        config["mounts"] = json!([{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}]);
        config["linux"]["namespaces"].as_array_mut().unwrap().extend(namespace);
        let (_directory, bundle) = bundle(&config);
        String::from_utf8(plan(&[&bundle]).stdout).unwrap()
    };
    let hosts = of(None);
    assert!(hosts.starts_with("prepare "), "{hosts}");
    assert_eq!(of(Some(json!({"type": "cgroup", "path": "/proc/self/ns/cgroup"}))), hosts);
    assert_ne!(of(Some(json!({"type": "cgroup"}))), hosts);
}

#[test]
fn says_why_a_container_is_left_alone() {
    let (_directory, bundle) = bundle(&config("nginx"));
    let text = String::from_utf8(plan(&[&bundle]).stdout).unwrap();
    assert_eq!(text, "skip web: the command \"nginx\" is not called init or systemd\n");
}

#[test]
fn says_what_is_wrong_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let output = plan(&[directory.path()]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.starts_with("oci-systemd-hook: cannot read ") && line.contains("config.json"), "{line}");
    for (argument, says) in [("no-such-bundle", "No such file"), ("/dev/null", "not a directory")] {
        let output = plan(&[Path::new(argument)]);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
        assert!(
            line.contains(&format!("{argument:?}")) && line.contains("a bundle is") && line.contains(says),
            "{line}"
        );
    }
    assert_eq!(plan(&[]).status.code(), Some(2), "a wrong command line");
}

/// Earlier versions silently accepted and ignored such options.
#[test]
fn an_option_of_another_form_is_an_error_in_one_line() {
    for (arguments, option, form) in [
        (&["--log-level=debug", "plan", "/b"][..], "--log-level", "plan"),
        (&["plan", "/b", "--time-limit=1"], "--time-limit", "plan"),
        (&["--allow-options=cgroup", "precreate"], "--allow-options", "precreate"),
        (&["createRuntime", "--json"], "--json", "a hook call"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_oci-systemd-hook")).args(arguments).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{line}");
        assert!(line.contains(&format!("the option {option} can't be used with {form}, ")), "{line}");
    }
}

/// In a descriptor whose `args` lack the program's name, the first option is taken for the name and has no effect,
/// which would go unnoticed.
#[test]
fn an_option_in_place_of_the_programs_name_is_a_warning() {
    let (_directory, bundle) = bundle(&config("/bin/sh"));
    let state = json!({"ociVersion": "1.0.2", "id": "c", "status": "creating", "pid": 1, "bundle": bundle});
    for (name, warns) in [("oci-systemd-hook", false), ("--log-level=info", true)] {
        let file = bundle.join("state");
        fs::write(&file, state.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_oci-systemd-hook"))
            .arg0(name)
            .env_clear()
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("has no effect") && said.contains(name), warns, "{said}");
    }
}
