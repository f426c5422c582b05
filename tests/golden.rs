// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Each folder of tests/cases is a world and the plan for it. A new case is a new folder; contrib/HACKING.md says what may
//! be in it.
//!
//! `UPDATE_EXPECT=1` writes the expected plans anew. Read what it wrote.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;

use oci_systemd_hook::prepare::prepare;

use self::world::{World, rules};

mod world;

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<_> =
        fs::read_dir("tests/cases").unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "the cases are gone");
    cases
}

#[test]
fn each_case_has_its_plan() {
    let mut wrong = Vec::new();
    for case in cases() {
        let got = match prepare(&World::read(&case).facts().expect("a case")) {
            Ok(plan) => plan.to_string(),
            Err(refusal) => format!("refused: {refusal}\n"),
        };
        let path = case.join("expected.plan");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &got).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if got != expected {
            wrong.push(format!("--- {}\n{expected}--- but the plan is\n{got}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_plan_keeps_the_rules() {
    let broken: Vec<_> = cases()
        .into_iter()
        .filter_map(|case| {
            let broken = rules::broken(&World::read(&case).facts().expect("a case"))?;
            Some(format!("{}: {broken}", case.display()))
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
