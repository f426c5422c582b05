// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A backslash and what stands for one character after it.

use super::PatternFault;

/// Reads what follows a backslash, and gives the character's number and the rest. It is a number
/// because Go has `\x{d800}`, which is no character, and matches nothing.
pub(super) fn code_point(rest: &str) -> Result<(u32, &str), PatternFault> {
    let mut letters = rest.chars();
    let Some(first) = letters.next() else { return Err(PatternFault::Backslash) };
    let tail = letters.as_str();
    let unknown = || PatternFault::Escape(first);
    let known = match first {
        '0'..='7' => return octal(rest).ok_or_else(unknown),
        'x' => return hexadecimal(tail).ok_or_else(unknown),
        'a' => '\x07',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        _ if first.is_ascii() && !first.is_ascii_alphanumeric() => first,
        _ => return Err(unknown()),
    };
    Ok((known.into(), tail))
}

/// Up to three digits. One alone, unless it is zero, would be a back reference.
fn octal(text: &str) -> Option<(u32, &str)> {
    let length = text.bytes().take(3).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
    if length == 1 && !text.starts_with('0') {
        return None;
    }
    let (digits, rest) = text.split_at_checked(length)?;
    Some((u32::from_str_radix(digits, 8).ok()?, rest))
}

/// Two digits, or any number of them in braces.
fn hexadecimal(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => text.split_at_checked(2)?,
    };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let code_point = u32::from_str_radix(digits, 16).ok()?;
    (code_point <= u32::from(char::MAX)).then_some((code_point, rest))
}
