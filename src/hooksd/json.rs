// SPDX-License-Identifier: Apache-2.0 OR MIT
//! JSON as Go's encoding/json decodes it into a struct, which is how the engines read a descriptor:
//! the letters' case in a member's name does not matter, unknown members are passed over, `null`
//! changes nothing, and of two members with one name the later is set over the earlier one.
//!
//! Two oddities are left out, which no descriptor has. Half of a surrogate pair, such as `"\ud800"`,
//! is refused here, where Go replaces it. And where a second array of one name has a `null`, Go keeps
//! what the first one has in its place; here it is an empty string, as in a first array.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::descriptor::Fault;
use crate::oci::members;

/// The text of a file. Go replaces each byte that is not UTF-8, where the standard library would
/// replace each sequence of them.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// An object's members in their order, names in lower case.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads a whole document; `null` is an object without members.
    pub(super) fn of_document(text: &'a str) -> Result<Self, Fault> {
        let document: &RawValue = serde_json::from_str(text).map_err(Fault::Json)?;
        Self::read(document.get(), "the document")
    }

    /// Reads the object in `field`; `null` is an object without members.
    pub(super) fn of(field: &'static str, value: &'a RawValue) -> Result<Self, Fault> {
        Self::read(value.get(), field)
    }

    fn read(text: &'a str, field: &'static str) -> Result<Self, Fault> {
        let object: Option<members::Members<'a>> =
            serde_json::from_str(text).map_err(|_| Fault::Type { field, expected: "an object" })?;
        let members = object.map(|members| members.0).unwrap_or_default();
        Ok(Self(members.into_iter().map(|(name, value)| (fold(&name), value)).collect()))
    }
}

impl<'a> IntoIterator for Members<'a> {
    type Item = (String, &'a RawValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What Go compares of a member's name: Unicode has two letters outside ASCII that are another case
/// of ASCII letters, the long s and the kelvin sign.
fn fold(name: &str) -> String {
    name.chars()
        .map(|letter| match letter {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            _ => letter.to_ascii_lowercase(),
        })
        .collect()
}

/// A string, a slice or a pointer of Go: `null` unsets the latter two.
pub(super) trait Field {
    /// Sets the field to a member's value.
    fn set(&mut self, field: &'static str, value: &RawValue) -> Result<(), Fault>;
}

impl Field for String {
    fn set(&mut self, field: &'static str, value: &RawValue) -> Result<(), Fault> {
        if let Some(string) = decode(field, "a string", value)? {
            *self = string;
        }
        Ok(())
    }
}

impl Field for Option<String> {
    fn set(&mut self, field: &'static str, value: &RawValue) -> Result<(), Fault> {
        *self = decode(field, "a string", value)?;
        Ok(())
    }
}

impl Field for Option<bool> {
    fn set(&mut self, field: &'static str, value: &RawValue) -> Result<(), Fault> {
        *self = decode(field, "true or false", value)?;
        Ok(())
    }
}

impl Field for Option<i64> {
    fn set(&mut self, field: &'static str, value: &RawValue) -> Result<(), Fault> {
        // Not even `1.0` is a whole number to Go, whose own is as large.
        *self = match value.get() {
            "null" => None,
            number => Some(number.parse().map_err(|_| Fault::Type { field, expected: "a whole number" })?),
        };
        Ok(())
    }
}

impl Field for Option<Vec<String>> {
    fn set(&mut self, field: &'static str, value: &RawValue) -> Result<(), Fault> {
        let list: Option<Vec<Option<String>>> = decode(field, "an array of strings", value)?;
        *self = list.map(|list| list.into_iter().map(Option::unwrap_or_default).collect());
        Ok(())
    }
}

/// A map of Go: a second one adds to the first.
impl Field for Option<BTreeMap<String, String>> {
    fn set(&mut self, field: &'static str, value: &RawValue) -> Result<(), Fault> {
        let map: Option<BTreeMap<String, Option<String>>> = decode(field, "an object of strings", value)?;
        match map {
            Some(map) => self
                .get_or_insert_default()
                .extend(map.into_iter().map(|(key, value)| (key, value.unwrap_or_default()))),
            None => *self = None,
        }
        Ok(())
    }
}

fn decode<T: DeserializeOwned>(
    field: &'static str,
    expected: &'static str,
    value: &RawValue,
) -> Result<Option<T>, Fault> {
    serde_json::from_str(value.get()).map_err(|_| Fault::Type { field, expected })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_byte_that_is_not_utf8_is_replaced() {
        assert_eq!(text(b"a\xe2\x82b\xffc"), "a\u{fffd}\u{fffd}b\u{fffd}c");
        assert_eq!(text("ä".as_bytes()), "ä");
    }

    #[test]
    fn names_are_folded_as_unicode_does() {
        assert_eq!(fold("HasBindMounts"), "hasbindmounts");
        assert_eq!(fold("\u{17f}tages \u{212a}"), "stages k");
        assert_eq!(fold("Ä"), "Ä");
    }

    /// Each row: the members in their order, and what a field then has.
    #[test]
    fn a_later_member_is_set_over_an_earlier_one() {
        fn all<F: Field + Default>(document: &str) -> F {
            let mut field = F::default();
            for (_, value) in Members::of_document(document).unwrap() {
                field.set("f", value).unwrap();
            }
            field
        }
        assert_eq!(all::<String>(r#"{"f":"a","F":"b","f":null}"#), "b");
        assert_eq!(all::<Option<String>>(r#"{"f":"a","f":null}"#), None);
        assert_eq!(all::<Option<i64>>(r#"{"f":1,"f": -2 }"#), Some(-2));
        assert_eq!(all::<Option<i64>>(r#"{"f":1,"f": null }"#), None);
        assert_eq!(all::<Option<i64>>(r#"{"f":-0}"#), Some(0));
        assert_eq!(all::<Option<Vec<String>>>(r#"{"f":["a"],"f":["b",null]}"#), Some(vec!["b".into(), String::new()]));
        assert_eq!(all::<Option<Vec<String>>>(r#"{"f":["a"],"f":null}"#), None);
        let map: Option<BTreeMap<_, _>> = all(r#"{"f":{"a":"1","b":"2"},"f":{"b":"3","c":null}}"#);
        let pairs: Vec<_> = map.unwrap().into_iter().collect();
        assert_eq!(pairs, [("a", "1"), ("b", "3"), ("c", "")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(all::<Option<BTreeMap<_, _>>>(r#"{"f":{"a":"1"},"f":null}"#), None);
        assert_eq!(Members::of_document(" null\n").unwrap().into_iter().count(), 0);
    }

    #[test]
    fn other_types_are_refused() {
        fn taken<F: Field + Default>(value: &str) -> bool {
            F::default().set("f", serde_json::from_str(value).unwrap()).is_ok()
        }
        for value in ["1", "true", "[]", "{}"] {
            assert!(!taken::<String>(value), "{value}");
        }
        for value in ["1.0", "1e1", "\"1\"", "9223372036854775808"] {
            assert!(!taken::<Option<i64>>(value), "{value}");
        }
        for value in ["\"a\"", "[1]", "[[]]", "{}"] {
            assert!(!taken::<Option<Vec<String>>>(value), "{value}");
        }
        for value in ["[]", r#"{"a":1}"#, "\"a\""] {
            assert!(!taken::<Option<BTreeMap<_, _>>>(value), "{value}");
        }
        for document in ["", "[]", "1", "{} {}", "{}x", "{'a':1}", "{\"a\":1,}", "\u{feff}{}", "{\"a\":\"\n\"}"] {
            assert!(Members::of_document(document).is_err(), "{document:?}");
        }
    }
}
