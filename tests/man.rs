// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of the manual pages as groff renders them: a reader must be able to copy and paste whatever looks like code.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::Command;

use oci_systemd_hook::cli;
use oci_systemd_hook::facts::options::Key;

const PAGES: [&str; 2] = ["share/man/man1/oci-systemd-hook.1", "share/man/man8/oci-hooks-runtime.8"];

/// Removes the escapes that the pages use from a line.
fn without_escapes(line: &str) -> String {
    line.replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns what must appear word for word: the lines of examples, and lines in one font that have a quote. groff
/// interprets a quote at the beginning of an argument and drops it.
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

fn rendered(page: &Path) -> Option<String> {
    // Each paragraph is rendered as one long line, without colors and overstrikes.
    let output = Command::new("groff").args(["-man", "-Tascii", "-P-cbou", "-rLL=2000n"]).arg(page).output();
    let output = match output {
        Err(error) if std::env::var_os("CI").is_none() => {
            println!("skipped: groff: {error}");
            return None;
        }
        result => result.expect("groff"),
    };
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn code_is_rendered_as_it_is_written() {
    let mut count = 0;
    for page in PAGES {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let Some(text) = rendered(&page) else { return };
        let text = words(&text);
        for sample in samples(&std::fs::read_to_string(&page).unwrap()) {
            assert!(text.contains(&words(&sample)), "{}: {sample:?} is not in {text}", page.display());
            count += 1;
        }
    }
    assert!(count >= 4, "only {count} samples");
}

/// Whether each quote at the beginning of a macro's argument is closed at the end of the argument.
fn encloses_arguments(line: &str) -> bool {
    let mut rest = line;
    while let Some(at) = rest.find(' ') {
        rest = rest[at..].trim_start();
        if let Some(quoted) = rest.strip_prefix('"') {
            match quoted.split_once('"') {
                Some((_, behind)) if behind.is_empty() || behind.starts_with(' ') => rest = behind,
                _ => return false,
            }
        }
    }
    true
}

#[test]
fn quotes_enclose_whole_arguments() {
    assert!(encloses_arguments(".BR k \", \" m \" or \" g") && !encloses_arguments(".BI a \"b\"]."));
    for page in PAGES {
        let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        for line in source.lines().filter(|line| line.starts_with('.') && !line.starts_with(".\\\"")) {
            assert!(encloses_arguments(line), "{page}: {line}");
        }
    }
}

#[test]
fn quotes_that_groff_drops_are_found() {
    let page = tempfile::NamedTempFile::new().unwrap();
    let wrong = ".TH X 1\n.SH NAME\nx\n.B a = [\"b\", \"c\" ].\n";
    std::fs::write(page.path(), wrong).unwrap();
    let Some(text) = rendered(page.path()) else { return };
    let text = words(&text);
    assert!(samples(wrong).iter().any(|sample| !text.contains(&words(sample))), "{text}");
}

/// Returns the headings in a section of the hook's page and the tags of its paragraphs.
fn outline(section: &str) -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGES[0])).unwrap();
    let begin = format!(".SH {section}");
    let mut lines = page.lines().skip_while(|line| *line != begin).skip(1);
    let mut outline = Vec::new();
    while let Some(line) = lines.next().filter(|line| !line.starts_with(".SH")) {
        if [".TP", ".TQ"].contains(&line) {
            outline.push(without_macro(lines.next().unwrap()));
        } else if let Some(heading) = line.strip_prefix(".SS ") {
            outline.push(heading.to_owned());
        }
    }
    assert!(!outline.is_empty(), "no paragraphs in {section}");
    outline
}

/// Returns the text of a line such as `.BI \-\-state " FILE"`. Quoted parts keep their spaces.
fn without_macro(line: &str) -> String {
    let (_, arguments) = line.split_once(' ').unwrap();
    let parts = arguments.split('"').enumerate();
    let parts = parts.map(|(at, part)| if at % 2 == 0 { part.trim() } else { part });
    without_escapes(&parts.collect::<String>())
}

/// The headings, which name the forms that accept the options, are also compared.
#[test]
fn the_options_are_those_of_the_help() {
    let help = cli::help();
    let of_help = help.lines().filter_map(|line| match line.strip_suffix(':') {
        Some(heading) if heading.starts_with("Options for ") || heading == "Other options" => Some(heading),
        _ => line.strip_prefix("  ").filter(|option| option.starts_with('-'))?.split("  ").next(),
    });
    assert_eq!(outline("OPTIONS"), of_help.collect::<Vec<_>>());
}

#[test]
fn the_options_in_annotations_are_those_of_the_table() {
    let mut documented = outline("OPTIONS IN ANNOTATIONS");
    documented.sort();
    let mut known: Vec<_> = Key::ALL.iter().map(|key| key.annotation()).collect();
    known.sort_unstable();
    assert_eq!(documented, known);
}

#[test]
fn the_synopsis_has_the_forms_of_the_help() {
    let help = cli::help();
    let of_help = help.lines().skip_while(|line| *line != "Usage:").skip(1).take_while(|line| !line.is_empty());
    let Some(page) = rendered(&Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGES[0])) else { return };
    let of_page = page.lines().skip_while(|line| *line != "SYNOPSIS").skip(1).take_while(|line| !line.is_empty());
    assert_eq!(of_page.map(str::trim).collect::<Vec<_>>(), of_help.map(str::trim).collect::<Vec<_>>());
}
