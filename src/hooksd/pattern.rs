// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The regular expressions of descriptors.
//!
//! oci-hooks(5) speaks of POSIX extended regular expressions; the engines take Go's `regexp`, see
//! <https://pkg.go.dev/regexp/syntax>, and a match anywhere in the text. The crate `regex` is its
//! relative and not its twin: `\d` has other digits than ASCII's there, `[a&&b]` is an intersection,
//! and `a**` and `(?x)` are no errors. So a pattern is read by Go's rules, and written anew with
//! what means the same in both.
//!
//! The rules are those of Go 1.26. Before 1.25 `\p{…}` knows fewer names and wants their exact
//! case, before 1.22 there is no `(?<name>…)`. Taken here though Go refuses it: scripts of several
//! words, such as `\p{Old_Italic}`, which Go lost in 1.25 and most likely by mistake, and scripts of
//! a newer Unicode. What becomes too large for the crate, such as `\pL{1000}`, or is nested hundreds
//! deep, can't be matched though Go can.

mod class;
mod escape;
mod translate;

use std::cell::OnceCell;

use regex_automata::nfa::thompson::pikevm::PikeVM;
use regex_automata::nfa::thompson::{BuildError, Compiler, Config, WhichCaptures};

/// A pattern that is valid. What matches it is made when it is needed, since for most containers most descriptors have been
/// ruled out before; and by the simplest engine of the crate, since it is used once.
#[derive(Debug)]
pub(super) struct Pattern {
    translated: String,
    engine: OnceCell<PikeVM>,
}

/// A pattern that is beyond the crate's limits.
#[derive(Debug, thiserror::Error)]
#[error("the pattern {0:?} is too large or nested too deeply")]
pub struct TooLarge(String, #[source] Box<BuildError>);

/// As much as `regex` lets a pattern become.
const SIZE_LIMIT_BYTES: usize = 10 * 1024 * 1024;

/// Why a text is no pattern.
#[derive(Debug, thiserror::Error)]
pub enum PatternFault {
    /// A group, without its end.
    #[error("a `)` is missing")]
    OpenGroup,
    /// The end of a group, without its beginning.
    #[error("a `)` has no `(`")]
    NoGroup,
    /// A name of more than ASCII letters, digits and underscores, or without an end.
    #[error("a group's name is not of the form (?P<name>…) with ASCII letters, digits and underscores")]
    GroupName,
    /// Go has no lookaround, no atomic groups, and no other flags.
    #[error("a `(?` is followed by something else than a group's name or the flags i, m, s and U")]
    GroupFlags,
    /// A character class, without its end.
    #[error("a `]` is missing")]
    OpenClass,
    /// As `[z-a]`.
    #[error("the range {0:?} in brackets runs backwards")]
    ClassRange(String),
    /// As `[[:word:]]` misspelt.
    #[error("{0:?} is no POSIX class; an example of one is \"[:alpha:]\"")]
    PosixClass(String),
    /// As `\p{Alphabetic}`.
    #[error("{0:?} is neither a Unicode category nor a script")]
    UnicodeClass(String),
    /// As `\Z`, `\1` or `\x4`.
    #[error("the escape \\{} is unknown or not complete; Go has neither back references nor \\Z", .0.escape_debug())]
    Escape(char),
    /// A backslash at the end.
    #[error("it ends with a backslash")]
    Backslash,
    /// As `*a`.
    #[error("a repetition has nothing before it that it could repeat")]
    RepeatsNothing,
    /// As `a**`.
    #[error("a repetition follows a repetition; a group between them makes it valid")]
    RepeatsRepetition,
    /// As `a{1001}` or `a{2,1}`.
    #[error("a repetition runs backwards or repeats something more than 1000 times, inner repetitions counted")]
    RepeatsOften,
}

impl Pattern {
    /// Reads a pattern as Go does.
    pub(super) fn new(pattern: &str) -> Result<Self, PatternFault> {
        Ok(Self { translated: translate::translate(pattern)?, engine: OnceCell::new() })
    }

    /// Whether it matches anywhere in the text.
    pub(super) fn matches(&self, text: &str) -> Result<bool, TooLarge> {
        let engine = match self.engine.get() {
            Some(engine) => engine,
            None => {
                let made = make(&self.translated).map_err(|error| TooLarge(self.translated.clone(), error))?;
                self.engine.get_or_init(|| made)
            }
        };
        Ok(engine.is_match(&mut engine.create_cache(), text))
    }
}

fn make(translated: &str) -> Result<PikeVM, Box<BuildError>> {
    thread_local! {
        /// One for all, since it has a table that takes longer to make than most patterns.
        static COMPILER: Compiler = {
            let mut compiler = Compiler::new();
            let limit = Some(SIZE_LIMIT_BYTES);
            compiler.configure(Config::new().nfa_size_limit(limit).which_captures(WhichCaptures::None));
            compiler
        };
    }
    let program = COMPILER.with(|compiler| compiler.build(translated).map_err(Box::new))?;
    PikeVM::builder().build_from_nfa(program).map_err(Box::new)
}

#[cfg(test)]
mod tests;
