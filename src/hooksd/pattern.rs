// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The regular expressions of descriptors.
//!
//! oci-hooks(5) speaks of POSIX extended regular expressions; the engines take Go's `regexp`, and a match anywhere in the
//! text. The crate `regex` is its relative and not its twin: `[a&&b]` is an intersection there, and `a**` and `(?x)` are no
//! errors. So a pattern is used only if both read it alike, and [`go`] says what that is.
//!
//! What becomes too large for the crate, such as `\pL{1000}`, can't be matched though Go can.

mod go;

use std::cell::OnceCell;

use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{BuildError, Compiler, Config, WhichCaptures};

pub use go::PatternFault;

/// A pattern that is valid. What matches it is made when it is needed, since for most containers most descriptors have been
/// ruled out before; and by the simplest engine of the crate, since it is used once.
#[derive(Debug)]
pub(super) struct Pattern {
    text: String,
    engine: OnceCell<PikeVM>,
}

/// A pattern that is beyond the crate's limits.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {0:?} is too large or nested too deeply")]
pub struct TooLarge(String, #[source] Box<BuildError>);

/// As much as `regex` lets a pattern become.
const SIZE_LIMIT_BYTES: usize = 10 * 1024 * 1024;

impl Pattern {
    /// Refuses a pattern that Go doesn't read as the crate does.
    pub(super) fn new(pattern: &str) -> Result<Self, PatternFault> {
        Ok(Self { text: go::checked(pattern)?, engine: OnceCell::new() })
    }

    /// Whether it matches anywhere in the text.
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
        /// One for all, since it has a table that takes longer to make than most patterns.
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
