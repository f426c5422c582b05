// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The regular expressions of descriptors.
//!
//! oci-hooks(5) specifies POSIX extended regular expressions, but the engines use Go's `regexp`, and accept a match
//! anywhere in the string. The `regex` crate is similar but not identical: `[a&&b]` is an intersection there, and
//! `a**` and `(?x)` are not errors. So a pattern is used only if both interpret it in the same way, and [`go`]
//! defines which patterns these are.
//!
//! A pattern that becomes too large for the crate, such as `\pL{1000}`, can't be matched, although Go can do so.

mod go;

use std::cell::OnceCell;

use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{BuildError, Compiler, Config, WhichCaptures};

pub use go::PatternFault;

/// A valid pattern. Its matcher is built on first use, since most descriptors have been ruled out before that for
/// most containers. It uses the crate's simplest engine, because it is used only once.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    engine: OnceCell<PikeVM>,
}

/// The error that a pattern exceeds the crate's limits.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {0:?} is too large or nested too deeply")]
pub struct TooLarge(String, #[source] Box<BuildError>);

/// The maximum size of a compiled pattern, the same as in `regex`.
const SIZE_LIMIT_BYTES: usize = 10 * 1024 * 1024;

impl Pattern {
    /// Rejects a pattern that Go doesn't interpret as the crate does.
    pub(super) fn new(pattern: &str) -> Result<Self, PatternFault> {
        Ok(Self { text: go::checked(pattern)?, engine: OnceCell::new() })
    }

    /// Whether the pattern matches anywhere in `text`.
    pub(super) fn matches(&self, text: &str) -> Result<bool, TooLarge> {
        let engine = match self.engine.get() {
            Some(engine) => engine,
            None => {
                let made = make(&self.text).map_err(|error| TooLarge(self.text.clone(), error))?;
                self.engine.get_or_init(|| made)
            }
        };
        Ok(engine.is_match(&mut engine.create_cache(), text))
    }
}

fn make(text: &str) -> Result<PikeVM, Box<BuildError>> {
    thread_local! {
        /// One compiler for all patterns, because it contains a table that takes longer to build than most patterns.
        static COMPILER: Compiler = {
            let mut compiler = Compiler::new();
            let limit = Some(SIZE_LIMIT_BYTES);
            compiler.configure(Config::new().nfa_size_limit(limit).which_captures(WhichCaptures::None));
            compiler
        };
    }
    let program = COMPILER.with(|compiler| compiler.build(text).map_err(Box::new))?;
    PikeVM::builder().build_from_nfa(program).map_err(Box::new)
}

#[cfg(test)]
mod tests;
