// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of what contrib's scripts print and do if something is missing. They run on a simulated machine that has
//! only the programs of the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The system tools that the scripts call.
const TOOLS: [&str; 12] =
    ["sh", "basename", "cat", "dirname", "env", "grep", "id", "mktemp", "sed", "stat", "tail", "tr"];

/// A directory of programs that is the whole PATH.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        for tool in TOOLS {
            let found = ["/bin", "/usr/bin"].map(|directory| Path::new(directory).join(tool));
            symlink(found.into_iter().find(|path| path.exists()).expect(tool), machine.path(tool)).unwrap();
        }
        // The scripts run sudo if they don't run as root, and require nothing else for that.
        machine.with("sudo", "exec \"$@\"")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn with(self, program: &str, script: &str) -> Self {
        fs::write(self.path(program), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(self.path(program), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn run(&self, script: &str, environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(self.path("sh"));
        command.args(["-euc", script, "demo.sh"]).current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
        command
            .env("PATH", self.0.path())
            .env("CARGO_HOME", "/nonexistent")
            .env("TMPDIR", self.0.path())
            .env("STUB_LOG", self.path("log"));
        command.envs(environment.iter().copied()).output().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Docker's own packages include a runc and conflict with Debian's. A program that is present is therefore used,
/// whichever package it is from.
#[test]
fn what_is_there_is_not_installed() {
    if !Path::new("/etc/debian_version").exists() {
        println!("skipped: this is not Debian");
        return;
    }
    let machine = Machine::new()
        .with("runc", "")
        .with("dockerd", "")
        .with("apt-get", "echo \"apt-get $*\" >>\"$STUB_LOG\"")
        .with("tee", "cat >>\"$STUB_LOG\"")
        .with("rm", "exit 0")
        .with("chmod", "echo \"chmod $*\" >>\"$STUB_LOG\"");
    let output = machine.run(". contrib/prerequisites.sh; need runc docker.io", &[]);
    assert!(output.status.success() && output.stdout.is_empty() && machine.log().is_empty(), "{output:?}");
    let output = machine.run(". contrib/prerequisites.sh; need runc docker.io jq uidmap", &[]);
    let (said, log) = (text(&output.stdout), machine.log());
    assert!(output.status.success() && said == "installing with apt: jq uidmap\n", "{output:?}");
    let install = log.lines().find(|line| line.starts_with("apt-get install")).unwrap_or_else(|| panic!("{log:?}"));
    assert!(install.ends_with(" jq uidmap") && install.contains(" --no-remove "), "{install}");
    // No daemon is started during the installation, unless the administrator has a separate policy-rc.d.
    assert!(Path::new("/usr/sbin/policy-rc.d").exists() || log.contains("exit 101"), "{log}");
    let machine = machine.with("apt-get", "echo 'E: held broken packages'; [ $1 = update ]");
    let output = machine.run(". contrib/prerequisites.sh; need jq", &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said.contains("E: held broken packages") && said.contains("apt-get could not install jq"), "{said}");
}

#[test]
fn what_a_build_lacks_is_named_with_its_package() {
    let rust = |release: &str| {
        let script =
            format!("echo 'rustc {release}'; echo 'host: x86_64-unknown-linux-gnu'; echo 'release: {release}'");
        Machine::new().with("cargo", "echo built >>\"$STUB_LOG\"").with("rustc", &script).with("ldconfig", "")
    };
    for (machine, environment, code, says) in [
        (Machine::new(), &[][..], 1, &["cargo is missing", "1.85", "https://rustup.rs"][..]),
        (rust("1.63.0"), &[], 1, &["Rust 1.63.0 is too old", "1.85", "https://rustup.rs"]),
        (rust("1.84.1"), &[], 1, &["Rust 1.84.1 is too old"]),
        (rust("1.85.0"), &[], 1, &["these are missing:", "a C compiler: ", "libclang"]),
        (rust("2.0.0"), &[], 1, &["these are missing:"]),
        (rust("1.85.0").with("cc", "false"), &[], 1, &["a static C library: "]),
        (
            rust("1.85.0").with("cc", "case $* in *-lselinux*) false ;; esac").with("clang", ""),
            &[],
            1,
            &["a static libselinux (or set SELINUX=no"],
        ),
        (rust("1.85.0").with("cc", ""), &[("SELINUX", "maybe")], 1, &["SELINUX is \"maybe\""]),
    ] {
        let output = machine.run("contrib/build.sh", environment);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), machine.log().as_str()), (Some(code), ""), "{says:?}: {output:?}");
        assert!(said.starts_with("build.sh: ") && says.iter().all(|word| said.contains(word)), "{says:?}: {said}");
    }
}
