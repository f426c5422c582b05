// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The mechanical part of plain English: comments, messages and documents avoid phrases that were hard to read, and few doc
//! comments are fragments. Reading them is not replaced by this.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use regex::Regex;

mod files;

/// At most one of so many doc lines may have three words or fewer.
const SHORT_ONE_IN: usize = 25;

/// Phrases that a reader has to decode, and what to write instead.
const BANNED: [(&str, &str); 15] = [
    (r"\b[Nn]one: ", "`None` if …"),
    (r"(?i), none (if|where|without)\b", "`None` if …"),
    (r"(?i)\b(can|could|may) be had\b|\b(is|are) had\b", "available"),
    (r"(?i)\bshall\b", "must, should, will"),
    (r"(?i)\bmends?\b", "fix"),
    (r"(?i), too[.,;:)]|, too$", "also"),
    (r"(?i)\blikewise\b", "a full sentence"),
    (r"(?i)\bfor good\b", "permanently"),
    (r"(?i)\bwhoever\b", "a process that, a user who"),
    (r"(?i)\bforetells?\b|\bforetold\b", "predict"),
    (r"(?i)\b(take|takes|took|taken|taking) back\b", "undo, remove, revert"),
    (r"^//! Knows ", "what the file contains"),
    (r"^/// (Nor|And|Or|But) ", "a sentence that can be understood alone"),
    (r"(?i)\b(it|this|that|which|what|path|file|value|text|name|program) is no ([a-km-z]|l[a-np-z])", "is not a"),
    (r"(?i)\bas good as\b", "equivalent to, or what differs"),
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a directory has build output, hostile input or plans, which have no prose of their own.
fn has_no_prose(directory: &Path) -> bool {
    ["target", "corpus", "tests/cases"].iter().any(|end| directory.ends_with(end))
}

/// All files with prose: sources, scripts, documents.
fn with_prose() -> Vec<PathBuf> {
    let directories =
        ["src", "tests", "contrib", "share"].map(|name| files::below(&repository().join(name), has_no_prose));
    let documents = ["README.md", "CHANGELOG.md", ".github/SECURITY.md", "build.rs", "Cargo.toml"];
    let others = documents.map(|name| repository().join(name));
    let is_prose = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        ["rs", "sh", "md", "toml", "yml", "yaml", "1", "8", "cil", "container", "service"].contains(&extension)
    };
    directories
        .into_iter()
        .flatten()
        .chain(others)
        .filter(is_prose)
        .filter(|path| !path.ends_with("tests/prose.rs"))
        .collect()
}

#[test]
fn phrases_that_have_to_be_decoded_are_avoided() {
    let banned = BANNED.map(|(pattern, instead)| (Regex::new(pattern).unwrap(), instead));
    let mut found = Vec::new();
    let files = with_prose();
    assert!(files.len() > 200, "only {} files", files.len());
    for path in files {
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            for (pattern, instead) in banned.iter().filter(|(pattern, _)| pattern.is_match(line.trim())) {
                let at = path.strip_prefix(repository()).unwrap().display();
                found.push(format!(
                    "{at}:{}: {} (write: {instead})\n    {}",
                    number + 1,
                    pattern.as_str(),
                    line.trim()
                ));
            }
        }
    }
    assert!(found.is_empty(), "{} lines:\n{}", found.len(), found.join("\n"));
}

#[test]
fn few_doc_lines_are_fragments() {
    let (mut all, mut short) = (0, Vec::new());
    for path in with_prose().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(doc) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else { continue };
            all += 1;
            // The last line of a paragraph may be as short as it is.
            let follows = at.checked_sub(1).and_then(|at| lines.get(at)).is_some_and(|above| {
                above
                    .strip_prefix("///")
                    .or_else(|| above.strip_prefix("//!"))
                    .is_some_and(|above| !above.trim().is_empty())
            });
            let words = doc.split_whitespace().count();
            if (1..=3).contains(&words) && !follows {
                short.push(format!("{}:{}: {line}", path.display(), at + 1));
            }
        }
    }
    assert!(all > 1000, "only {all} doc lines");
    assert!(short.len() * SHORT_ONE_IN <= all, "{} of {all} doc lines:\n{}", short.len(), short.join("\n"));
}
