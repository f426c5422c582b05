// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The README as a reader uses it: the commands that a section tells the reader to type, and the
//! output that it promises.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::Failed;

use crate::boot::same;
use crate::command::Finished;

pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the code blocks of these sections, and fails if a section doesn't have the given number of blocks.
pub fn steps(sections: &[(&str, usize)]) -> Result<Vec<String>, Failed> {
    let readme = fs::read_to_string(repository().join("README.md"))?;
    let mut steps = Vec::new();
    for (title, count) in sections {
        let blocks = blocks(&readme, title)?;
        same(&format!("the steps of the section {title}"), &blocks.len().to_string(), &count.to_string())?;
        steps.extend(blocks);
    }
    Ok(steps)
}

fn blocks(readme: &str, title: &str) -> Result<Vec<String>, Failed> {
    let mut lines = readme.lines().skip_while(|line| *line != title);
    lines.next().ok_or_else(|| format!("README.md has no section {title:?}"))?;
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
