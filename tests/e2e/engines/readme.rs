// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The commands that the README and the pages of share/doc show, and the output that their comments promise.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::Finished;

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A section of a document.
pub struct Section {
    /// The document's path in the repository.
    pub document: &'static str,
    /// The line with its heading.
    pub heading: &'static str,
    /// The number of its shell blocks.
    pub blocks: usize,
}

/// Returns the shell blocks of some sections.
pub fn steps(sections: &[Section]) -> Result<Vec<String>, Failed> {
    let mut steps = Vec::new();
    for Section { document, heading: title, blocks: count } in sections {
        let text = fs::read_to_string(repository().join(document))?;
        let blocks = blocks(&text, title).map_err(|error| format!("{document}: {error}"))?;
        same(&format!("the steps of the section {title}"), &blocks.len().to_string(), &count.to_string())?;
        steps.extend(blocks);
    }
    Ok(steps)
}

fn blocks(text: &str, title: &str) -> Result<Vec<String>, String> {
    let mut lines = text.lines().skip_while(|line| *line != title);
    lines.next().ok_or_else(|| format!("there is no section {title:?}"))?;
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in lines {
        match (&mut block, line) {
            (None, "```sh") => block = Some(String::new()),
            (None, line) if line.starts_with('#') => break,
            (None, _) => {}
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(text), line) => text.extend([line, "\n"]),
        }
    }
    Ok(blocks)
}

/// Checks that a step has succeeded and has printed the lines that its comments promise.
pub fn has_done(step: &str, finished: Finished) -> Result<(), Failed> {
    const SAYS: &str = "# until it says: ";
    let output = finished
        .expect_success()
        .map_err(|failed| format!("the README's step\n{step}fails: {}", failed.message().unwrap_or_default()))?;
    for expected in step.lines().filter_map(|line| line.split_once(SAYS)).map(|(_, word)| word) {
        if !output.lines().any(|line| line == expected) {
            return Err(format!("the README's step\n{step}doesn't print {expected:?}, but {output}").into());
        }
    }
    Ok(())
}
