// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that Go and the crate interpret a pattern in the same way.
//!
//! Go's rules are those of <https://pkg.go.dev/regexp/syntax> in Go 1.26. Two things are accepted although an older
//! Go rejects them: `(?<name>…)`, which was added in 1.22, and scripts of a newer Unicode version.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    self, Assertion, AssertionKind, Ast, ClassBracketed, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetItem,
    ClassUnicode, ClassUnicodeKind, ErrorKind, Flags, Group, GroupKind, Literal, Repetition, RepetitionKind,
    RepetitionRange, Span, Visitor,
};

/// Go's limit for a counted repetition, and for the product of nested ones.
const COPIES_MAX: u32 = 1000;

/// Unicode's general categories, by the names that every release of Go knows. Categories that differ between Go
/// releases or from the crate are omitted: `C`, which had no unassigned code points before Go 1.25, and `Cs`, the
/// surrogates, which the crate lacks.
pub(super) const CATEGORIES: [&str; 35] = [
    "Any", "Cc", "Cf", "Co", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P",
    "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// Scripts whose names are as long as a script code, that is, four letters. Only the crate accepts script codes.
pub(super) const FOUR_LETTER_SCRIPTS: [&str; 9] =
    ["Ahom", "Cham", "Kawi", "Lisu", "Miao", "Modi", "Newa", "Thai", "Toto"];

/// Why a pattern is refused.
#[derive(Debug, thiserror::Error)]
#[error("{construct:?}: {reason}")]
pub struct PatternFault {
    /// The offending part of the pattern, or the rest of the pattern from where it begins.
    construct: String,
    reason: String,
}

/// Checks that Go accepts the pattern, and that it has the same meaning for the crate. Returns the pattern for the
/// crate, which differs from the original only in the classes and word boundaries that are ASCII in Go.
pub(super) fn checked(pattern: &str) -> Result<String, PatternFault> {
    let ast = Parser::new().parse(pattern).map_err(|error| unreadable(pattern, &error))?;
    ast::visit(&ast, Check { pattern, copies: vec![1], text: String::new(), copied: 0 })
}

/// Describes why the crate can't parse a pattern. Go may be able to.
fn unreadable(pattern: &str, error: &ast::Error) -> PatternFault {
    let instead = match error.kind() {
        ErrorKind::ClassUnclosed => r"; write a literal bracket as \[",
        ErrorKind::ClassRangeLiteral => r"; write a literal hyphen as \-",
        ErrorKind::RepetitionCountUnclosed | ErrorKind::RepetitionCountDecimalEmpty => r"; write a literal brace as \{",
        ErrorKind::UnsupportedBackreference => r"; write a character code as \x{…}",
        _ => "",
    };
    let rest = pattern.get(error.span().start.offset..).filter(|rest| !rest.is_empty());
    PatternFault { construct: rest.unwrap_or(pattern).to_owned(), reason: format!("{}{instead}", error.kind()) }
}

/// A visitor that checks the pattern from its beginning to its end.
struct Check<'p> {
    pattern: &'p str,
    /// How often each repetition around the current position repeats it, multiplied by the counts
    /// of the repetitions outside.
    copies: Vec<u32>,
    /// The pattern for the crate as far as it is complete, and how many bytes of the original it covers.
    text: String,
    copied: usize,
}

impl Visitor for Check<'_> {
    type Output = String;
    type Err = PatternFault;

    fn finish(mut self) -> Result<String, PatternFault> {
        self.text.push_str(self.pattern.get(self.copied..).unwrap_or_default());
        Ok(self.text)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), PatternFault> {
        match ast {
            Ast::Flags(set) => self.flags(&set.flags)?,
            Ast::Literal(literal) => self.literal(literal)?,
            Ast::Assertion(assertion) => self.assertion(assertion)?,
            Ast::ClassUnicode(class) => self.unicode(class)?,
            Ast::ClassPerl(class) => self.replace(&class.span, ascii(class)),
            Ast::ClassBracketed(class) => self.bracketed(class)?,
            Ast::Repetition(repetition) => self.repetition(repetition)?,
            Ast::Group(group) => self.group(group)?,
            Ast::Empty(_) | Ast::Dot(_) | Ast::Alternation(_) | Ast::Concat(_) => {}
        }
        Ok(())
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), PatternFault> {
        if let Ast::Repetition(_) = ast {
            self.copies.pop();
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), PatternFault> {
        match item {
            ClassSetItem::Literal(literal) => self.literal(literal)?,
            ClassSetItem::Range(range) => {
                self.literal(&range.start)?;
                self.literal(&range.end)?;
            }
            ClassSetItem::Unicode(class) => self.unicode(class)?,
            ClassSetItem::Perl(class) => self.replace(&class.span, ascii(class)),
            ClassSetItem::Bracketed(class) => {
                self.refuse(&class.span, r"Go has no nested classes; write a literal bracket as \[")?;
            }
            ClassSetItem::Empty(_) | ClassSetItem::Ascii(_) | ClassSetItem::Union(_) => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, operation: &ClassSetBinaryOp) -> Result<(), PatternFault> {
        self.refuse(&operation.span, r"Go has no set operations; write literal characters as \&, \- and \~")
    }
}

impl Check<'_> {
    fn refuse(&self, span: &Span, reason: &str) -> Result<(), PatternFault> {
        Err(PatternFault { construct: self.source(span).to_owned(), reason: reason.to_owned() })
    }

    fn source(&self, span: &Span) -> &str {
        self.pattern.get(span.start.offset..span.end.offset).unwrap_or_default()
    }

    /// Copies the pattern up to `span`, and then appends `text` instead of the span.
    fn replace(&mut self, span: &Span, text: &str) {
        self.text.push_str(self.pattern.get(self.copied..span.start.offset).unwrap_or_default());
        self.text.push_str(text);
        self.copied = span.end.offset;
    }

    fn flags(&self, flags: &Flags) -> Result<(), PatternFault> {
        if self.source(&flags.span).contains(|flag| !"imsU-".contains(flag)) {
            return self.refuse(&flags.span, "Go has only the flags i, m, s and U");
        }
        Ok(())
    }

    fn group(&self, group: &Group) -> Result<(), PatternFault> {
        match &group.kind {
            GroupKind::NonCapturing(flags) => self.flags(flags),
            GroupKind::CaptureName { name, .. }
                if !name.name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') =>
            {
                self.refuse(&name.span, "Go allows only ASCII letters, digits and underscores in a group's name")
            }
            GroupKind::CaptureName { .. } | GroupKind::CaptureIndex(_) => Ok(()),
        }
    }

    fn literal(&self, literal: &Literal) -> Result<(), PatternFault> {
        let source = self.source(&literal.span);
        if source.starts_with(r"\u") || source.starts_with(r"\U") {
            return self.refuse(&literal.span, r"Go has neither \u nor \U; write \x{…}");
        }
        Ok(())
    }

    fn assertion(&mut self, assertion: &Assertion) -> Result<(), PatternFault> {
        match assertion.kind {
            AssertionKind::StartLine | AssertionKind::EndLine | AssertionKind::StartText | AssertionKind::EndText => {}
            AssertionKind::WordBoundary => self.replace(&assertion.span, r"(?-u:\b)"),
            AssertionKind::NotWordBoundary => self.replace(&assertion.span, r"(?-u:\B)"),
            _ => return self.refuse(&assertion.span, r"Go has no such word boundary; write \b, < or >"),
        }
        Ok(())
    }

    fn unicode(&self, class: &ClassUnicode) -> Result<(), PatternFault> {
        let is_known = match &class.kind {
            ClassUnicodeKind::OneLetter(letter) => is_known(letter.encode_utf8(&mut [0; 4])),
            ClassUnicodeKind::Named(name) => is_known(name),
            ClassUnicodeKind::NamedValue { .. } => false,
        };
        if is_known {
            return Ok(());
        }
        self.refuse(
            &class.span,
            r"not every version of Go supports this class; use a category such as \p{Lu} or a script such as \p{Greek}",
        )
    }

    fn bracketed(&self, class: &ClassBracketed) -> Result<(), PatternFault> {
        let source = self.source(&class.span);
        let inside = source.strip_prefix("[^").or(source.strip_prefix('[')).unwrap_or_default();
        if inside.starts_with("--") || inside.starts_with("]-") && !inside.starts_with("]-]") {
            return self.refuse(&class.span, r"Go interprets its beginning as a range; escape the first character");
        }
        Ok(())
    }

    fn repetition(&mut self, repetition: &Repetition) -> Result<(), PatternFault> {
        let span = &repetition.op.span;
        let mut copies = self.copies.last().copied().unwrap_or(1);
        if let RepetitionKind::Range(range) = &repetition.op.kind {
            let (most, count) = match *range {
                RepetitionRange::Exactly(count) => (count, format!("{{{count}}}")),
                RepetitionRange::AtLeast(least) => (least, format!("{{{least},}}")),
                RepetitionRange::Bounded(least, most) => (most, format!("{{{least},{most}}}")),
            };
            if self.source(span).trim_end_matches('?') != count {
                return self.refuse(span, r"Go does not interpret this as a count; write a literal brace as \{");
            }
            copies = copies.saturating_mul(most.max(1));
        }
        if let Ast::Repetition(_) = *repetition.ast {
            return self.refuse(&repetition.span, "Go does not allow this; put the inner repetition into (?:…)");
        }
        if copies > COPIES_MAX {
            return self.refuse(span, "Go allows at most 1000 repetitions; nested counts are multiplied");
        }
        self.copies.push(copies);
        Ok(())
    }
}

/// Returns the ASCII class that a Perl class stands for in Go.
fn ascii(class: &ClassPerl) -> &'static str {
    match (&class.kind, class.negated) {
        (ClassPerlKind::Digit, false) => "[0-9]",
        (ClassPerlKind::Digit, true) => "[^0-9]",
        // Go's class lacks the vertical tab, which [[:space:]] has.
        (ClassPerlKind::Space, false) => r"[\t\n\f\r ]",
        (ClassPerlKind::Space, true) => r"[^\t\n\f\r ]",
        (ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
        (ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
    }
}

/// Whether every release of Go knows a Unicode class by this name.
fn is_known(name: &str) -> bool {
    let mut letters = name.chars();
    let may_be_script = letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && letters.all(|letter| letter.is_ascii_lowercase())
        // The crate also knows script codes, and accepts an "is" in front of any name.
        && (name.len() != 4 || FOUR_LETTER_SCRIPTS.contains(&name))
        && !name.starts_with("Is");
    CATEGORIES.contains(&name) || may_be_script && regex_syntax::parse(&format!(r"\p{{sc={name}}}")).is_ok()
}
