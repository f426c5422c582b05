// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Deserializes JSON objects as Go's encoding/json, and so most runtimes, do: the last of several fields with the
//! same name counts, `null` is equivalent to a missing field, and unknown fields are ignored. serde's derived
//! implementations are stricter in the first two points.

use std::fmt;
use std::marker::PhantomData;
use std::vec;

use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::value::RawValue;

/// A struct, or a value that contains structs, that is deserialized from JSON in this way.
#[derive(Debug)]
pub(super) struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(LastFieldWins(deserializer)).map(Self)
    }
}

/// Returns an error's message without its position, which would be relative to the field's text instead of the file.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

/// A deserializer that handles structs as described above, and everything else like the deserializer that it wraps.
struct LastFieldWins<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for LastFieldWins<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let values = self.0.deserialize_map(FieldFinder { fields })?;
        let found = fields.iter().zip(values).filter_map(|(name, value)| Some((*name, value?)));
        visitor.visit_map(FoundFields { rest: found.collect::<Vec<_>>().into_iter(), next: None, error: PhantomData })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_ignored_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier
    }
}

/// Finds the values of a struct's fields, in the struct's order.
struct FieldFinder {
    fields: &'static [&'static str],
}

impl<'de> Visitor<'de> for FieldFinder {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.fields.len()];
        while let Some(Name(name)) = map.next_key()? {
            let known = self.fields.iter().zip(&mut values).find(|(field, _)| **field == name);
            match known {
                Some((_, value)) => {
                    let new: &RawValue = map.next_value()?;
                    // Go keeps the value that it has read before.
                    if new.get() != "null" {
                        *value = Some(new);
                    }
                }
                None => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// A field's name, which is borrowed unless it contains escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// The fields that were found, as input for the struct's own `Deserialize` implementation.
struct FoundFields<'de, E> {
    rest: vec::IntoIter<(&'static str, &'de RawValue)>,
    next: Option<(&'static str, &'de RawValue)>,
    error: PhantomData<E>,
}

impl<'de, E: Error> MapAccess<'de> for FoundFields<'de, E> {
    type Error = E;

    fn next_key_seed<K: serde::de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, E> {
        self.next = self.rest.next();
        self.next.map(|(name, _)| seed.deserialize(name.into_deserializer())).transpose()
    }

    fn next_value_seed<S: serde::de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, E> {
        let (name, value) = self.next.take().ok_or_else(|| E::custom("value without a key"))?;
        seed.deserialize(LastFieldWins(value))
            .map_err(|error| E::custom(format_args!("{name}: {}", without_position(&error))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        text: Option<String>,
        flag: bool,
        inner: Inner,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        #[serde(rename = "aNumber")]
        number: u32,
    }

    fn read(text: &str) -> serde_json::Result<Outer> {
        serde_json::from_str(text).map(|Object(outer)| outer)
    }

    #[test]
    fn the_last_of_a_name_counts_and_null_is_nothing() {
        for (text, expected) in [
            ("{}", Outer::default()),
            (r#"{"text":null,"flag":null,"inner":null,"unknown":[1e400]}"#, Outer::default()),
            (r#"{"text":"a","text":"b","text":null}"#, Outer { text: Some("b".to_owned()), ..Outer::default() }),
            (r#"{"flag":true,"fl\u0061g":false}"#, Outer::default()),
            (
                r#"{"inner":{"aNumber":1,"aNumber":2,"aNumber":null,"x":1,"x":2}}"#,
                Outer { inner: Inner { number: 2 }, ..Outer::default() },
            ),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_error_names_the_field() {
        for (text, says) in [
            (r#"{"inner":{"aNumber":"x"}}"#, "inner: aNumber: invalid type: string \"x\", expected u32"),
            (r#"{"flag":1}"#, "flag: invalid type: integer `1`, expected a boolean"),
            (r#"{"inner":[]}"#, "inner: invalid type: sequence, expected an object"),
            ("[]", "invalid type: sequence, expected an object"),
        ] {
            assert_eq!(without_position(&read(text).unwrap_err()), says);
        }
    }
}
