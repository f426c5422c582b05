// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The content of a descriptor's file, in either version of the format.
//!
//! The engines read it with Go's encoding/json, which ignores the case of field names, unknown fields, and `null` as
//! a field's value. So does this module. It rejects some things that Go accepts, since no descriptor contains them: a
//! known field twice, `null` in a list or as an annotation's value, `-0`, unpaired surrogates, and invalid UTF-8.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};

/// Why a file's content is not a descriptor.
#[derive(Debug, thiserror::Error)]
pub enum FormatFault {
    /// The content is not JSON, or a field has the wrong type.
    #[error("invalid descriptor: it must be JSON in the format of oci-hooks(5)")]
    Json(#[source] serde_json::Error),
    /// The version of the format is unknown.
    #[error("its version {0:?} is unknown; expected \"1.0.0\", \"0.1.0\" or no version")]
    VersionField(String),
    /// A required field is missing.
    #[error("the required field {0:?} is missing")]
    Missing(&'static str),
    /// Two fields of version 0.1.0 with the same meaning are present.
    #[error("it has both {0:?} and {1:?}; expected only one of them")]
    Both(&'static str, &'static str),
}

/// The fields of version 1.0.0, unchecked. Any of them may be missing.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RawDescriptor {
    #[serde(default, deserialize_with = "in_any_case")]
    pub(super) hook: RawHook,
    #[serde(default, deserialize_with = "in_any_case")]
    pub(super) when: RawWhen,
    pub(super) stages: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RawHook {
    pub(super) path: Option<String>,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) timeout: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct RawWhen {
    pub(super) always: Option<bool>,
    #[serde(rename = "hasbindmounts")]
    pub(super) has_bind_mounts: Option<bool>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) commands: Option<Vec<String>>,
    /// Whether one condition is enough, as in version 0.1.0.
    #[serde(skip)]
    pub(super) any: bool,
}

#[derive(Debug, Default, Deserialize)]
struct VersionField {
    version: Option<String>,
}

/// The fields of version 0.1.0, which 1.0.0 replaced in 2018. Three of them have a plural and a singular name.
#[derive(Debug, Default, Deserialize)]
struct OldDescriptor {
    hook: Option<String>,
    arguments: Option<Vec<String>>,
    stages: Option<Vec<String>>,
    stage: Option<Vec<String>>,
    cmds: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    annotations: Option<Vec<String>>,
    annotation: Option<Vec<String>>,
    #[serde(rename = "hasbindmounts")]
    has_bind_mounts: Option<bool>,
}

/// Parses a descriptor in any version of the format.
pub(super) fn read(text: &[u8]) -> Result<RawDescriptor, FormatFault> {
    let version: VersionField = document(text)?;
    match version.version.as_deref() {
        Some("1.0.0") => document(text),
        Some("0.1.0" | "") | None => document::<OldDescriptor>(text)?.written(),
        Some(version) => Err(FormatFault::VersionField(version.to_owned())),
    }
}

impl OldDescriptor {
    fn written(self) -> Result<RawDescriptor, FormatFault> {
        let path = self.hook.ok_or(FormatFault::Missing("hook"))?;
        let stages = one_of(("stages", self.stages), ("stage", self.stage))?;
        let commands = one_of(("cmds", self.cmds), ("cmd", self.cmd))?;
        let values = one_of(("annotations", self.annotations), ("annotation", self.annotation))?;
        let args = self.arguments.map(|arguments| [vec![path.clone()], arguments].concat());
        Ok(RawDescriptor {
            hook: RawHook { path: Some(path), args, ..RawHook::default() },
            when: RawWhen {
                has_bind_mounts: self.has_bind_mounts,
                // The key may be any, and the value must match one of the expressions. They are joined as strings, so
                // each may be half of an expression, and an empty list matches every annotation.
                annotations: values.map(|values| BTreeMap::from([(".*".to_owned(), values.join("|"))])),
                commands,
                any: true,
                ..RawWhen::default()
            },
            // The engines check for stages before they check whether the hook exists.
            stages: Some(stages.ok_or(FormatFault::Missing("stages"))?),
        })
    }
}

type NamedList = (&'static str, Option<Vec<String>>);

fn one_of(plural: NamedList, singular: NamedList) -> Result<Option<Vec<String>>, FormatFault> {
    match (plural, singular) {
        ((plural, Some(_)), (singular, Some(_))) => Err(FormatFault::Both(singular, plural)),
        ((_, plural), (_, singular)) => Ok(plural.or(singular)),
    }
}

fn document<T: DeserializeOwned + Default>(text: &[u8]) -> Result<T, FormatFault> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let document = in_any_case(&mut deserializer).map_err(FormatFault::Json)?;
    deserializer.end().map_err(FormatFault::Json)?;
    Ok(document)
}

/// Deserializes an object with field names in any case as if they were lowercase. `null` counts as
/// an object without fields.
fn in_any_case<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    struct ObjectVisitor<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for ObjectVisitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(LowerCase { object, name: String::new() }))
        }
    }
    deserializer.deserialize_any(ObjectVisitor(PhantomData))
}

/// An object whose field names are converted to lower case. Errors contain the names as they are written.
struct LowerCase<A> {
    object: A,
    /// The original name of the field that is being read.
    name: String,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for LowerCase<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let Some(name) = self.object.next_key::<String>()? else { return Ok(None) };
        // Go treats the long s as another case of an ASCII letter, and also the Kelvin
        // sign, which `to_lowercase` handles.
        let lower = name.to_lowercase().replace('ſ', "s");
        self.name = name;
        seed.deserialize(lower.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.object.next_value_seed(seed).map_err(|error| {
            // serde_json appends the position again.
            let text = error.to_string();
            let why = text.split(" at line ").next().unwrap_or_default();
            A::Error::custom(format_args!("{}: {why}", self.name))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_may_be_in_any_case() {
        for name in ["stages", "Stages", "STAGES", "\u{17f}tages"] {
            let text = format!(r#"{{"VERSION":"1.0.0","{name}":[]}}"#);
            assert!(read(text.as_bytes()).unwrap().stages.is_some(), "{text}");
        }
        let text =
            r#"{"version":"1.0.0","Hook":{"Path":"/h"},"WHEN":{"HasBindMounts":true,"annotations":{"K":"V","k":"v"}}}"#;
        let RawDescriptor { hook, when, .. } = read(text.as_bytes()).unwrap();
        assert_eq!((hook.path.as_deref(), when.has_bind_mounts), (Some("/h"), Some(true)));
        assert_eq!(when.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["K", "k"]);
        let old = read("{\"hoo\u{212a}\":\"/h\",\"hasBindMounts\":true,\"stages\":[]}".as_bytes()).unwrap();
        assert_eq!((old.hook.path.as_deref(), old.when.has_bind_mounts), (Some("/h"), Some(true)));
    }

    #[test]
    fn null_is_as_if_it_was_missing() {
        for fields in [
            r#""hook":null,"when":null,"stages":null"#,
            r#""hook":{"path":null,"args":null,"env":null,"timeout":null}"#,
            r#""when":{"always":null,"annotations":null,"commands":null,"hasBindMounts":null}"#,
        ] {
            let written = read(format!(r#"{{"version":"1.0.0",{fields}}}"#).as_bytes()).unwrap();
            assert_eq!(format!("{written:?}"), format!("{:?}", RawDescriptor::default()), "{fields}");
        }
    }

    /// The engines only require that unknown fields are valid JSON.
    #[test]
    fn unknown_fields_may_have_anything() {
        let text = b"{\"version\":\"1.0.0\",\"//\":\"\xff\",\"//\":[1e999,\"\\ud800\",null],\"stages\":[],\"cmds\":7}";
        assert!(read(text).unwrap().stages.is_some());
    }

    /// Go accepts these, but no descriptor contains them.
    #[test]
    fn oddities_are_refused() {
        for fields in [
            r#""stages":[],"stages":[]"#,
            r#""hook":{},"Hook":{}"#,
            r#""hook":{"path":"/a","path":null}"#,
            r#""hook":{"args":["h",null]}"#,
            r#""hook":{"timeout":-0}"#,
            r#""hook":{"path":"\ud800"}"#,
            r#""when":{"annotations":{"a":null}}"#,
        ] {
            let text = format!(r#"{{"version":"1.0.0",{fields}}}"#);
            assert!(matches!(read(text.as_bytes()), Err(FormatFault::Json(_))), "{text}");
        }
        let text = b"{\"version\":\"1.0.0\",\"hook\":{\"path\":\"/\xff\"}}";
        assert!(matches!(read(text), Err(FormatFault::Json(_))));
    }
}
