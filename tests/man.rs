// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The manual pages as groff renders them: a reader must be able to paste what looks like code.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::Command;

const PAGES: [&str; 2] = ["share/man/man1/oci-systemd-hook.1", "share/man/man8/oci-hooks-runtime.8"];

/// The text of a line without the escapes that the pages use.
fn without_escapes(line: &str) -> String {
    line.replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What must appear word for word: examples, and what is set in one font and has a quote. groff takes a quote at the
/// beginning of an argument for its own, and drops it.
fn samples(source: &str) -> Vec<String> {
    let mut samples = Vec::new();
    let mut is_example = false;
    for line in source.lines() {
        match line.split_once(' ') {
            _ if line == ".EX" => is_example = true,
            _ if line == ".EE" => is_example = false,
            _ if is_example => samples.push(without_escapes(line)),
            Some((".B" | ".I", text)) if text.contains('"') => {
                let whole = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                samples.push(without_escapes(whole.unwrap_or(text)));
            }
            _ => {}
        }
    }
    samples
}

fn rendered(page: &Path) -> String {
    // One long line a paragraph, and neither colors nor overstrikes.
    let output = Command::new("groff").args(["-man", "-Tascii", "-P-cbou", "-rLL=2000n"]).arg(page).output();
    let output = output.unwrap_or_else(|error| panic!("groff: {error}; contrib/check.sh installs it"));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn code_is_rendered_as_it_is_written() {
    let mut count = 0;
    for page in PAGES {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = words(&rendered(&page));
        for sample in samples(&std::fs::read_to_string(&page).unwrap()) {
            assert!(text.contains(&words(&sample)), "{}: {sample:?} is not in {text}", page.display());
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} samples");
}

#[test]
fn quotes_that_groff_drops_are_found() {
    let page = tempfile::NamedTempFile::new().unwrap();
    let wrong = ".TH X 1\n.SH NAME\nx\n.B a = [\"b\", \"c\" ].\n";
    std::fs::write(page.path(), wrong).unwrap();
    let text = words(&rendered(page.path()));
    assert!(samples(wrong).iter().any(|sample| !text.contains(&words(sample))), "{text}");
}
