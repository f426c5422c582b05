// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that the jobs on GitHub are the parts of contrib/check.sh, and use the Rust version that Cargo.toml names.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

fn workflow() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows/ci.yml")).unwrap()
}

#[test]
fn has_a_job_for_each_part() {
    let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/check.sh");
    let list = Command::new(check).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let parts: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(parts.len() > 10, "{parts:?}");
    let text = workflow();
    let lines = text.lines().map(str::trim);
    let jobs: Vec<&str> =
        lines.skip_while(|line| *line != "part:").skip(1).map_while(|line| line.strip_prefix("- ")).collect();
    assert_eq!(parts, jobs);
}

#[test]
fn lints_with_the_rust_whose_warnings_are_errors() {
    let check = include_str!("../contrib/check.sh");
    let release = check.lines().find_map(|line| line.strip_prefix("LINTS=")).unwrap();
    let chosen = format!("${{{{ matrix.part == 'form' && '{release}' || 'stable' }}}}");
    for command in ["toolchain install", "default"] {
        assert!(workflow().contains(&format!("rustup {command} {chosen}")), "there is no {command} {chosen}");
    }
}

#[test]
fn uses_the_minimum_rust() {
    let installs = format!("rustup toolchain install {} ", env!("CARGO_PKG_RUST_VERSION"));
    assert!(workflow().contains(&installs), "there is no {installs}");
}
