// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names and values come from hostile images and annotations: none of them may forge a line of a plan or a log, or give a
//! terminal an order.

use std::fmt::{self, Write};

/// Writes on with all escaped that isn't printed as it is: control characters, and those that change the direction of
/// writing.
#[derive(Debug)]
pub struct OneLine<W>(pub W);

impl<W: Write> Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| match letter {
            // These are printed as they are, though a literal couldn't have them so.
            '"' | '\'' | '\\' => self.0.write_char(letter),
            _ => write!(self.0, "{}", letter.escape_debug()),
        })
    }
}

/// A text as one line.
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
