// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Escapes text for output. Names and values come from hostile images and annotations. They must not be able to forge
//! a line of a plan or a log, or to send control sequences to a terminal.

use std::fmt::{self, Write};

/// A writer that escapes everything that isn't printed literally, such as control characters and characters that
/// change the writing direction.
#[derive(Debug)]
pub struct OneLine<W>(pub W);

impl<W: Write> Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| match letter {
            // `escape_debug` would also escape these characters, which are printed literally.
            '"' | '\'' | '\\' => self.0.write_char(letter),
            _ => write!(self.0, "{}", letter.escape_debug()),
        })
    }
}

/// Formats a value as a single line, escaped as by [`OneLine`].
#[must_use]
pub fn one_line(text: impl fmt::Display) -> String {
    let mut line = OneLine(String::new());
    // Writing to a string can't fail.
    let _ = write!(line, "{text}");
    line.0
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn escapes_what_is_not_printed() {
        for (text, expected) in [
            ("", ""),
            ("plain \"text\" \\n ü", "plain \"text\" \\n ü"),
            ("a\nb\r\n", "a\\nb\\r\\n"),
            ("\u{1b}[31m\u{85}\0", "\\u{1b}[31m\\u{85}\\0"),
            ("\u{202e}txt", "\\u{202e}txt"),
        ] {
            assert_eq!(one_line(text), expected);
        }
    }
}
