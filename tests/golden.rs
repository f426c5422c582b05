// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares plans with the expected ones. Each directory in tests/cases contains the description of a container and
//! its host, with the plan expected for it, and is a separate trial. To add a case, add a directory;
//! contrib/HACKING.md describes its files.
//!
//! `UPDATE_EXPECT=1` rewrites the expected plans. Review what it wrote.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use oci_systemd_hook::prepare::prepare;
use serde_json::Value;
use similar::TextDiff;

use self::world::{DEFAULT, World, rules};

mod world;

fn main() -> ExitCode {
    let trials = cases().into_iter().map(|case| {
        let name = case.file_name().unwrap().to_str().unwrap().to_owned();
        Trial::test(name, move || has_its_plan(&case))
    });
    let trials = trials.chain([Trial::test("json-is-documented", json_is_documented)]);
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir("tests/cases").unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> = entries.filter(|path| path.is_dir() && path != Path::new(DEFAULT)).collect();
    cases.sort();
    assert!(cases.len() >= 20, "the cases are gone");
    cases
}

/// Checks that the plan of a case is the expected one and keeps the rules.
fn has_its_plan(case: &Path) -> Result<(), Failed> {
    let facts = World::read(case).facts()?;
    if let Some(broken) = rules::broken(&facts) {
        return Err(broken.into());
    }
    let plan = match prepare(&facts) {
        Ok(plan) => plan.to_string(),
        Err(refusal) => format!("refused: {refusal}\n"),
    };
    let path = case.join("expected.plan");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &plan)?;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if plan == expected {
        return Ok(());
    }
    let diff = TextDiff::from_lines(&expected, &plan);
    Err(diff.unified_diff().context_radius(1).header(&path.display().to_string(), "the plan").to_string().into())
}

/// Checks that share/doc/plan.md describes each field that the plans of the cases have as JSON.
fn json_is_documented() -> Result<(), Failed> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for plan in cases().iter().filter_map(|case| prepare(&World::read(case).facts().ok()?).ok()) {
        let plan = serde_json::to_value(&plan)?;
        let mut note = |name: &str, object: &Value, tag: &str| {
            let fields = object.as_object().into_iter().flat_map(|object| object.keys()).filter(|key| *key != tag);
            found.entry(name.to_owned()).or_default().extend(fields.cloned());
        };
        note("plan", &plan, "");
        for (list, tag) in [("steps", "action"), ("notes", "note")] {
            for object in plan.get(list).and_then(Value::as_array).into_iter().flatten() {
                note(object.get(tag).and_then(Value::as_str).unwrap_or_default(), object, tag);
            }
        }
    }
    let document = fs::read_to_string("share/doc/plan.md")?;
    let mut documented = BTreeMap::<String, BTreeSet<String>>::new();
    for row in document.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.trim_matches('|').split(" | ");
        let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let (name, fields) = (words(cells.next().unwrap_or_default()), words(cells.next().unwrap_or_default()));
        documented.entry(name.concat()).or_default().extend(fields);
    }
    let steps = ["on", "need", "why"].map(str::to_owned);
    for (name, fields) in found {
        let known = documented.get(&name).ok_or_else(|| format!("{name} is missing in share/doc/plan.md"))?;
        let missing: Vec<_> = fields.iter().filter(|field| !known.contains(*field) && !steps.contains(field)).collect();
        if !missing.is_empty() {
            return Err(format!("{name}: {missing:?} are missing in share/doc/plan.md").into());
        }
    }
    Ok(())
}
