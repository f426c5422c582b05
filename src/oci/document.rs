// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The JSON text of a config.json. All fields are located once, but each is parsed only on demand: most calls are for
//! containers that need nothing, and read only two fields.

use std::ops::Range;

use serde::Deserialize;

use super::members::Members;
use super::object::{Object, without_position};

/// A JSON object, and the positions of its fields.
#[derive(Debug, Default)]
pub struct Document {
    text: String,
    /// The bytes that were read, if they aren't valid UTF-8.
    bytes: Option<Vec<u8>>,
    /// The names and values in document order. A name may occur twice.
    fields: Vec<(String, Range<usize>)>,
}

/// The error that a field has a different type than the OCI runtime specification requires.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {why}")]
pub struct FieldError {
    name: String,
    why: String,
}

impl Document {
    /// Parses a JSON object and locates its fields. Invalid UTF-8 is replaced by U+FFFD, as Go does.
    pub fn parse(text: Vec<u8>) -> serde_json::Result<Self> {
        let (text, bytes) = match String::from_utf8(text) {
            Ok(text) => (text, None),
            Err(error) => {
                let bytes = error.into_bytes();
                (String::from_utf8_lossy(&bytes).into_owned(), Some(bytes))
            }
        };
        let Members(members) = serde_json::from_str(&text)?;
        let fields = members.into_iter().map(|(name, value)| (name, range_of(&text, value.get()))).collect();
        Ok(Self { text, bytes, fields })
    }

    /// Returns the bytes as they were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.text.as_bytes())
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the names of the fields and the JSON text of their values, in document order.
    #[must_use]
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, range)| (name.as_str(), self.text.get(range.clone()).unwrap_or_default()))
    }

    /// Parses a field. Returns `None` if it is missing or `null`.
    pub fn field<'t, T: Deserialize<'t>>(&'t self, name: &str) -> Result<Option<T>, FieldError> {
        let Some(text) = self.written(name).filter(|text| *text != "null") else { return Ok(None) };
        match serde_json::from_str(text) {
            Ok(Object(value)) => Ok(Some(value)),
            Err(error) => Err(FieldError { name: name.to_owned(), why: without_position(&error) }),
        }
    }

    /// Returns the JSON text of a field, the last one if there are several of that name.
    #[must_use]
    pub fn written(&self, name: &str) -> Option<&str> {
        self.fields().rev().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

/// Returns the range of `part` in `text`. `part` must be a slice of `text`.
pub(super) fn range_of(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_the_last_field_of_a_name() {
        let text = r#" {"a": 1, "b":null, "a" : 2 , "c":"x", "\u0064":[] } "#;
        let document = Document::parse(text.into()).unwrap();
        assert_eq!(document.text(), text);
        assert_eq!(document.field::<u32>("a").unwrap(), Some(2));
        assert_eq!(document.field::<u32>("b").unwrap(), None);
        assert_eq!(document.field::<&str>("c").unwrap(), Some("x"));
        assert_eq!(document.written("d"), Some("[]"));
        assert_eq!(document.field::<u32>("e").unwrap(), None);
        let error = document.field::<u32>("c").unwrap_err().to_string();
        assert_eq!(error, "c: invalid type: string \"x\", expected u32");
    }

    #[test]
    fn replaces_what_is_not_utf_8() {
        let document = Document::parse(b"{\"a\":\"x\xffy\"}".to_vec()).unwrap();
        assert_eq!(document.field::<String>("a").unwrap().as_deref(), Some("x\u{fffd}y"));
        assert_eq!(document.bytes(), b"{\"a\":\"x\xffy\"}");
        assert!(Document::parse(b"{\"a\":\xff1}".to_vec()).is_err());
    }

    #[test]
    fn refuses_what_is_no_object() {
        for text in ["", "{", "[]", "7", "null", "{} {}", r#"{"a":1,}"#] {
            assert!(Document::parse(text.into()).is_err(), "{text}");
        }
    }
}
