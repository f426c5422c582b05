// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Character classes: each item is written so that nothing in it can be taken for syntax that only
//! the crate has.

use regex_automata::util::syntax;

use super::PatternFault;
use super::escape;
use super::translate::Flags;

/// A class in which nothing is.
const NOTHING: &str = r"[^\x{0}-\x{10FFFF}]";

/// Surrogates: Go has them in patterns, and no text has them.
const SURROGATES: std::ops::RangeInclusive<u32> = 0xd800..=0xdfff;

/// `\d`, `\s` and `\w` are ASCII, and `\s` is without the vertical tab.
const PERL: [(char, &str); 6] = [
    ('d', "[0-9]"),
    ('D', "[^0-9]"),
    ('s', r"[\t\n\f\r ]"),
    ('S', r"[^\t\n\f\r ]"),
    ('w', "[0-9A-Za-z_]"),
    ('W', "[^0-9A-Za-z_]"),
];

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// One character.
pub(super) fn one(code_point: u32, flags: Flags) -> String {
    alone(&range(code_point, code_point), flags)
}

/// An item of a class, outside of brackets.
pub(super) fn alone(item: &str, flags: Flags) -> String {
    if flags.fold { format!("(?i:{item})") } else { item.to_owned() }
}

/// Reads what follows a `[`.
pub(super) fn bracketed(text: &str, flags: Flags) -> Result<(String, &str), PatternFault> {
    let (mut class, mut rest) = match text.strip_prefix('^') {
        Some(rest) => ("[^".to_owned(), rest),
        None => ("[".to_owned(), text),
    };
    // As the first item the closing bracket stands for itself.
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        let (item, tail) = item(rest)?;
        class.push_str(&item);
        rest = tail;
    }
    class.push(']');
    Ok((alone(&class, flags), rest.get(1..).unwrap_or_default()))
}

fn item(text: &str) -> Result<(String, &str), PatternFault> {
    if let Some((name, rest)) = text.strip_prefix("[:").and_then(|named| named.split_once(":]")) {
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(PatternFault::PosixClass(format!("[:{name}:]")));
        }
        return Ok((format!("[:{name}:]"), rest));
    }
    let class = text.strip_prefix('\\').map_or(Ok(None), escaped)?;
    if let Some(class) = class {
        return Ok(class);
    }
    let (low, rest) = character(text)?;
    // In `[a-]` the hyphen stands for itself.
    let high = rest.strip_prefix('-').filter(|high| !high.is_empty() && !high.starts_with(']'));
    let (high, rest) = high.map_or(Ok((low, rest)), character)?;
    if high < low {
        return Err(PatternFault::ClassRange(text.strip_suffix(rest).unwrap_or(text).to_owned()));
    }
    Ok((range(low, high), rest))
}

fn character(text: &str) -> Result<(u32, &str), PatternFault> {
    if let Some(escaped) = text.strip_prefix('\\') {
        return escape::code_point(escaped);
    }
    let mut characters = text.chars();
    let character = characters.next().ok_or(PatternFault::OpenClass)?;
    Ok((character.into(), characters.as_str()))
}

/// A range without the surrogates at its ends; those inside the crate leaves out itself.
fn range(low: u32, high: u32) -> String {
    let low = if SURROGATES.contains(&low) { SURROGATES.end() + 1 } else { low };
    let high = if SURROGATES.contains(&high) { SURROGATES.start() - 1 } else { high };
    match low.cmp(&high) {
        std::cmp::Ordering::Less => format!(r"[\x{{{low:x}}}-\x{{{high:x}}}]"),
        std::cmp::Ordering::Equal => format!(r"\x{{{low:x}}}"),
        std::cmp::Ordering::Greater => NOTHING.to_owned(),
    }
}

/// Reads what follows a backslash if it is a class.
pub(super) fn escaped(rest: &str) -> Result<Option<(String, &str)>, PatternFault> {
    for (letter, class) in PERL {
        if let Some(tail) = rest.strip_prefix(letter) {
            return Ok(Some((class.to_owned(), tail)));
        }
    }
    let (negated, named) = match (rest.strip_prefix('p'), rest.strip_prefix('P')) {
        (Some(named), _) => (false, named),
        (None, Some(named)) => (true, named),
        (None, None) => return Ok(None),
    };
    let (name, tail) = match named.strip_prefix('{') {
        Some(braced) => braced.split_once('}'),
        None => named.chars().next().and_then(|letter| named.split_at_checked(letter.len_utf8())),
    }
    .ok_or_else(|| PatternFault::UnicodeClass(named.to_owned()))?;
    let (negated, bare) = match name.strip_prefix('^') {
        Some(bare) => (!negated, bare),
        None => (negated, name),
    };
    let property = property(bare).ok_or_else(|| PatternFault::UnicodeClass(name.to_owned()))?;
    Ok(Some((if negated { format!("[^{property}]") } else { property }, tail)))
}

/// The class of a category or script. Go knows categories by all their names and scripts by the
/// long one; the crate also knows scripts by their codes, which have four letters, takes an "is"
/// before any name, and has no surrogates.
fn property(name: &str) -> Option<String> {
    /// Scripts whose names are as short as a code.
    const SHORT: [&str; 9] = ["ahom", "cham", "kawi", "lisu", "miao", "modi", "newa", "thai", "toto"];
    if !name.bytes().all(|byte| byte.is_ascii_alphabetic() || b" _-".contains(&byte)) {
        return None;
    }
    let name: String =
        name.chars().filter(char::is_ascii_alphabetic).map(|letter| letter.to_ascii_lowercase()).collect();
    if name.starts_with("is") {
        return None;
    }
    if name == "cs" || name == "surrogate" {
        return Some(NOTHING.to_owned());
    }
    let is_known = |class: &String| syntax::parse(class).is_ok();
    let category = Some(format!(r"\p{{gc={name}}}")).filter(is_known);
    let may_be_script = name.len() != 4 || SHORT.contains(&name.as_str());
    category.or_else(|| Some(format!(r"\p{{sc={name}}}")).filter(|class| may_be_script && is_known(class)))
}
