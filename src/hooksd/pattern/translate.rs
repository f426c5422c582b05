// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A pattern of Go's, written for the crate `regex`. Only whether it matches is of interest, so
//! groups capture nothing, and nobody asks who is greedy.

use super::PatternFault;
use super::class;
use super::escape;

/// Go's limit to how often something is repeated, inner repetitions counted.
const COPIES_MAX: u32 = 1000;

/// The flags that make a difference.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flags {
    /// `i`: letters match in any case.
    pub(super) fold: bool,
    /// `m`: `^` and `$` match at each line.
    lines: bool,
    /// `s`: the dot matches a newline as well.
    dot_newline: bool,
}

/// What a repetition after it repeats.
#[derive(Debug)]
struct Item {
    text: String,
    /// How many copies the counted repetitions in it make of what they repeat.
    copies: u32,
}

/// A group whose end has not been read; the outermost is the pattern itself.
#[derive(Debug, Default)]
struct Group {
    /// The flags around it.
    outside: Flags,
    /// The alternatives before the current one, each with its `|`.
    alternatives: String,
    /// The most copies of all items in `alternatives`.
    copies: u32,
    /// The current alternative.
    items: Vec<Item>,
}

impl Group {
    fn end_alternative(&mut self) {
        for item in std::mem::take(&mut self.items) {
            self.alternatives.push_str(&item.text);
            self.copies = self.copies.max(item.copies);
        }
    }
}

/// Writes a pattern anew.
pub(super) fn translate(pattern: &str) -> Result<String, PatternFault> {
    let mut translation =
        Translation { flags: Flags::default(), enclosing: Vec::new(), group: Group::default(), repeated: false };
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        rest = translation.next(first, rest)?;
    }
    if !translation.enclosing.is_empty() {
        return Err(PatternFault::OpenGroup);
    }
    translation.group.end_alternative();
    Ok(translation.group.alternatives)
}

#[derive(Debug)]
struct Translation {
    flags: Flags,
    enclosing: Vec<Group>,
    group: Group,
    /// Whether what was read last is a repetition.
    repeated: bool,
}

impl Translation {
    /// Takes what `rest` begins with, and gives what comes after it.
    fn next<'a>(&mut self, first: char, rest: &'a str) -> Result<&'a str, PatternFault> {
        let tail = rest.get(first.len_utf8()..).unwrap_or_default();
        let repeated = std::mem::take(&mut self.repeated);
        match first {
            '(' => return self.open(tail),
            ')' => self.close()?,
            '|' => {
                self.group.end_alternative();
                self.group.alternatives.push('|');
            }
            '^' => self.push(if self.flags.lines { "(?m:^)" } else { r"\A" }),
            '$' => self.push(if self.flags.lines { "(?m:$)" } else { r"\z" }),
            '.' => self.push(if self.flags.dot_newline { "(?s:.)" } else { "." }),
            '[' => {
                let (class, tail) = class::bracketed(tail, self.flags)?;
                self.push(&class);
                return Ok(tail);
            }
            '*' | '+' | '?' => return self.repeat(&first.to_string(), 1, tail, repeated),
            '{' => match Count::parse(tail) {
                Some((count, tail)) => return self.repeat(&count.written()?, count.copies(), tail, repeated),
                None => self.literal('{'),
            },
            '\\' => return self.escaped(tail),
            _ => self.literal(first),
        }
        Ok(tail)
    }

    fn push(&mut self, text: &str) {
        self.group.items.push(Item { text: text.to_owned(), copies: 1 });
    }

    fn literal(&mut self, literal: char) {
        self.push(&class::one(literal.into(), self.flags));
    }

    /// What follows a `(`.
    fn open<'a>(&mut self, rest: &'a str) -> Result<&'a str, PatternFault> {
        let mut flags = self.flags;
        let rest = match rest.strip_prefix('?') {
            None => rest,
            Some(named) if named.starts_with("P<") || named.starts_with('<') => group_name(named)?,
            Some(marked) => {
                let (changed, colon, tail) = read_flags(flags, marked)?;
                flags = changed;
                if !colon {
                    // They hold up to the end of the group that they are in.
                    self.flags = flags;
                    return Ok(tail);
                }
                tail
            }
        };
        let group = Group { outside: self.flags, ..Group::default() };
        self.enclosing.push(std::mem::replace(&mut self.group, group));
        self.flags = flags;
        Ok(rest)
    }

    fn close(&mut self) -> Result<(), PatternFault> {
        let around = self.enclosing.pop().ok_or(PatternFault::NoGroup)?;
        let mut group = std::mem::replace(&mut self.group, around);
        group.end_alternative();
        self.flags = group.outside;
        self.group.items.push(Item { text: format!("(?:{})", group.alternatives), copies: group.copies });
        Ok(())
    }

    /// Repeats the last item; `rest` is what follows the operator.
    fn repeat<'a>(
        &mut self,
        operator: &str,
        copies: u32,
        rest: &'a str,
        repeated: bool,
    ) -> Result<&'a str, PatternFault> {
        if repeated {
            return Err(PatternFault::RepeatsRepetition);
        }
        let item = self.group.items.last_mut().ok_or(PatternFault::RepeatsNothing)?;
        item.text = format!("(?:{}){operator}", item.text);
        item.copies = match copies {
            // Nothing is left of it.
            0 => 1,
            _ => item.copies.max(1).saturating_mul(copies),
        };
        if item.copies > COPIES_MAX {
            return Err(PatternFault::RepeatsOften);
        }
        self.repeated = true;
        // Lazy: it matches the same texts.
        Ok(rest.strip_prefix('?').unwrap_or(rest))
    }

    /// What follows a backslash.
    fn escaped<'a>(&mut self, rest: &'a str) -> Result<&'a str, PatternFault> {
        let anchors = [('A', r"\A"), ('z', r"\z"), ('b', r"(?-u:\b)"), ('B', r"(?-u:\B)")];
        for (letter, anchor) in anchors {
            if let Some(tail) = rest.strip_prefix(letter) {
                self.push(anchor);
                return Ok(tail);
            }
        }
        if let Some(quoted) = rest.strip_prefix('Q') {
            let (quoted, tail) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            for literal in quoted.chars() {
                self.literal(literal);
            }
            return Ok(tail);
        }
        if let Some((item, tail)) = class::escaped(rest)? {
            self.push(&class::alone(&item, self.flags));
            return Ok(tail);
        }
        let (code_point, tail) = escape::code_point(rest)?;
        self.push(&class::one(code_point, self.flags));
        Ok(tail)
    }
}

/// Passes over a name, which may be given to several groups.
fn group_name(named: &str) -> Result<&str, PatternFault> {
    let name_on = named.strip_prefix('P').unwrap_or(named).strip_prefix('<');
    let (name, rest) = name_on.and_then(|on| on.split_once('>')).ok_or(PatternFault::GroupName)?;
    if name.is_empty() || !name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Err(PatternFault::GroupName);
    }
    Ok(rest)
}

/// Reads what follows `(?`: the flags, whether a `:` or a `)` ends them, and what comes then. None
/// at all are fine, after a `-` at least one is wanted.
fn read_flags(mut flags: Flags, text: &str) -> Result<(Flags, bool, &str), PatternFault> {
    let mut set = true;
    let mut wanted = false;
    let mut letters = text.chars();
    for letter in letters.by_ref() {
        match letter {
            'i' => flags.fold = set,
            'm' => flags.lines = set,
            's' => flags.dot_newline = set,
            'U' => {}
            '-' if set => {
                set = false;
                wanted = true;
                continue;
            }
            ':' | ')' if !wanted => return Ok((flags, letter == ':', letters.as_str())),
            _ => return Err(PatternFault::GroupFlags),
        }
        wanted = false;
    }
    Err(PatternFault::GroupFlags)
}

/// A counted repetition; a number that is too large for the type is one that is too large for Go.
#[derive(Debug, Clone, Copy)]
struct Count {
    least: u32,
    most: Option<u32>,
}

impl Count {
    /// Reads what follows a `{`; if it has not the form of a count the brace stands for itself.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let (count, rest) = text.split_once('}')?;
        let number = |digits: &str| {
            let plain = !digits.is_empty()
                && digits.bytes().all(|digit| digit.is_ascii_digit())
                && (digits == "0" || !digits.starts_with('0'));
            plain.then(|| digits.parse().unwrap_or(u32::MAX))
        };
        let count = match count.split_once(',') {
            None => number(count).map(|exact| Self { least: exact, most: Some(exact) })?,
            Some((least, "")) => Self { least: number(least)?, most: None },
            Some((least, most)) => Self { least: number(least)?, most: Some(number(most)?) },
        };
        Some((count, rest))
    }

    fn written(self) -> Result<String, PatternFault> {
        let Self { least, most } = self;
        if least > COPIES_MAX || most.is_some_and(|most| most > COPIES_MAX || most < least) {
            return Err(PatternFault::RepeatsOften);
        }
        Ok(most.map_or_else(|| format!("{{{least},}}"), |most| format!("{{{least},{most}}}")))
    }

    /// By how much it multiplies copies: `x{0,}` is a star.
    fn copies(self) -> u32 {
        self.most.unwrap_or(self.least.max(1))
    }
}
