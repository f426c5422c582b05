// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The documents: their links lead somewhere, the messages that they explain exist, and the README stays short.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

mod files;

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files with this extension below a directory of the repository.
fn with_extension(directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut files = files::below(&repository().join(directory), |_| false);
    files.retain(|path| path.extension().is_some_and(|its| its == extension));
    files
}

fn documents() -> Vec<PathBuf> {
    let others = ["README.md", "CHANGELOG.md", "contrib/HACKING.md", ".github/SECURITY.md"];
    let pages = with_extension("share/doc", "md");
    others.iter().map(|path| repository().join(path)).chain(pages).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The anchors that GitHub gives the headings of a document.
fn anchors(text: &str) -> Vec<String> {
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()));
    let anchor = |heading: &str| {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn the_readme_is_short() {
    let lines = read(&repository().join("README.md")).lines().count();
    assert!(lines <= 250, "{lines} lines");
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut count = 0;
    for path in documents() {
        let text = read(&path);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{} links to {link}", path.display());
            let has_anchor = || anchors(&read(&target)).iter().any(|its| its == anchor);
            assert!(anchor.is_empty() || has_anchor(), "{} links to {link}", path.display());
            count += 1;
        }
    }
    assert!(count > 50, "only {count} links");
}

/// The string literals of the sources as one text, in which `{…}` stands for a value.
fn sources() -> String {
    let mut all = String::new();
    for path in with_extension("src", "rs") {
        // A backslash at the end of a line continues a string behind the white space of the next one.
        let mut lines = read(&path).lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        while let Some(mut line) = lines.next() {
            while line.ends_with('\\') {
                line.pop();
                line.push_str(lines.next().unwrap_or_default().trim_start());
            }
            all.push_str(&line.replace("\\\"", "\""));
            all.push('\n');
        }
    }
    all
}

/// The parts of a message between its values: `…`, numbers, and what else depends on the container.
fn fixed_parts(message: &str) -> impl Iterator<Item = &str> {
    const VALUES: [&str; 10] = [
        "systemd 262",
        "systemd 219",
        "/var/lib/systemd",
        "\"15\"",
        "45 s",
        "looking up",
        "container_t",
        "CAP_",
        "oci-systemd-hook",
        "oci-hooks-runtime",
    ];
    let mut parts = vec![message];
    for value in VALUES.into_iter().chain(["…", ", ", ": "]) {
        parts = parts.into_iter().flat_map(|part| part.split(value)).collect();
    }
    parts.into_iter().map(|part| part.trim_matches([' ', ',', ';', ':'])).filter(|part| part.len() >= 8)
}

#[test]
fn explained_messages_exist() {
    let sources = sources();
    let (mut count, mut missing) = (0, Vec::new());
    for page in ["share/doc/troubleshooting.md", "share/doc/selinux.md"] {
        let text = read(&repository().join(page));
        let rows = text.lines().skip_while(|line| !line.contains("| what to do |")).skip(2);
        for row in rows.take_while(|line| line.starts_with('|')) {
            let messages = row.split(" | ").next().unwrap();
            for message in messages.split('`').skip(1).step_by(2) {
                for part in fixed_parts(message) {
                    if !sources.contains(part) {
                        missing.push(format!("{page}: no message has {part:?}, of {message:?}"));
                    }
                    count += 1;
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(count > 30, "only {count} parts of messages");
}
