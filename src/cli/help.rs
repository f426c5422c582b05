// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Formats the output of `--help` from the tables of forms and options.

use super::flags::{FLAGS, Flag, Form, Takes};
use crate::facts::options::Key;

/// The number of columns of a terminal.
const WIDTH: usize = 80;
/// The column in which the descriptions of options begin.
const DESCRIPTIONS: usize = 21;

const EXIT_STATUS: &str = "Exit status: 0, or 1 after an error, which is one line on stderr, or 2 for a wrong command \
                           line. At poststop, errors are logged and the status is 0.";

/// Returns the output of `--help`.
#[must_use]
pub fn help() -> String {
    let mut lines = vec!["oci-systemd-hook - prepares a container whose first process is systemd".to_owned()];
    lines.extend(heading("Usage"));
    lines.extend(Form::ALL.map(|form| format!("  oci-systemd-hook {}", form.spec().usage)));
    for form in Form::ALL {
        lines.push(String::new());
        lines.extend(wrapped(form.spec().doc, WIDTH));
    }
    for group in FLAGS.chunk_by(|a, b| a.forms == b.forms) {
        let forms = group.first().map_or(&[][..], |flag| flag.forms);
        let forms: Vec<_> = forms.iter().map(|form| form.name()).collect();
        lines.extend(heading(&format!("Options for {}", forms.join(" and "))));
        lines.extend(group.iter().flat_map(|flag| entry(&flag.synopsis(), flag.doc)));
    }
    lines.extend(heading("Other options"));
    lines.extend(entry("-h, --help", "print this help"));
    lines.extend(entry("-V, --version", "print the version"));
    lines.extend(heading("Options in a container's annotations"));
    for spec in Key::ALL.iter().map(|key| key.spec()) {
        lines.extend(entry(spec.annotation, &format!("{}; by default {}", spec.doc, spec.default)));
    }
    lines.push(String::new());
    lines.extend(wrapped(EXIT_STATUS, WIDTH));
    lines.join("\n") + "\n"
}

impl Flag {
    /// Returns the option as `--help` shows it, with the placeholder of its value.
    fn synopsis(&self) -> String {
        match self.takes {
            Takes::Nothing(_) => format!("--{}", self.name),
            Takes::Text(value, _) | Takes::Path(value, _) => format!("--{} {value}", self.name),
        }
    }
}

fn heading(text: &str) -> [String; 2] {
    [String::new(), format!("{text}:")]
}

/// Formats an option and its description, which begins on the next line if the option is too long for its column.
fn entry(option: &str, description: &str) -> Vec<String> {
    let mut option = format!("  {option}");
    let mut lines = Vec::new();
    if option.len() + 2 > DESCRIPTIONS {
        lines.push(std::mem::take(&mut option));
    }
    for line in wrapped(description, WIDTH - DESCRIPTIONS) {
        lines.push(format!("{:DESCRIPTIONS$}{line}", std::mem::take(&mut option)));
    }
    lines
}

/// Wraps a string into lines that are at most `width` columns long.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => *line = format!("{line} {word}"),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_all_that_the_tables_have() {
        let help = help();
        for flag in &FLAGS {
            assert!(help.contains(&format!("\n  {}", flag.synopsis())), "{}", flag.name);
        }
        for key in Key::ALL {
            assert!(help.contains(&format!("\n  {}\n", key.annotation())), "{key:?}");
        }
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for doc in FLAGS.iter().map(|flag| flag.doc).chain(Key::ALL.iter().map(|key| key.spec().doc)) {
            assert!(words.contains(doc), "{doc}");
        }
        assert!(help.lines().all(|line| line.len() <= WIDTH && line.trim_end() == line), "{help}");
    }

    #[test]
    fn a_long_option_has_a_line_of_its_own() {
        assert_eq!(entry("--state FILE", "a b"), ["  --state FILE       a b"]);
        assert_eq!(entry("--log-level LEVEL", "a"), ["  --log-level LEVEL  a"]);
        assert_eq!(entry("--log-levels LEVEL", "a"), ["  --log-levels LEVEL", "                     a"]);
        assert_eq!(wrapped("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrapped("abcdef gh", 5), ["abcdef", "gh"]);
    }
}
