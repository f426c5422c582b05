// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Size-limited deserialization. A 1 MiB JSON document of tiny elements can expand to ten times its size in memory,
//! so lists and maps are capped at `ENTRIES_MAX`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::Text;
use super::object::Object;

/// The maximum number of entries. No container has as many annotations, capabilities or mounts. `process.args` and
/// `process.env` are read by other means: `first_texts` and `for_each_text`.
pub(super) const ENTRIES_MAX: usize = 4096;

/// The error for a collection with more than [`ENTRIES_MAX`] entries.
pub(super) fn too_many<E: Error>() -> E {
    E::custom(format_args!("more than {ENTRIES_MAX} entries"))
}

/// Deserializes a list of at most [`ENTRIES_MAX`] entries.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    BoundedList::deserialize(deserializer).map(|BoundedList(entries)| entries)
}

/// Deserializes the first entries of a list of strings and discards the rest.
pub(super) fn first_texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    /// Enough for a shell, its option and its script.
    const FIRST: usize = 3;
    let mut entries = Vec::with_capacity(FIRST);
    for_each_text(deserializer, |entry| {
        if entries.len() < FIRST {
            entries.push(entry.into());
        }
    })?;
    Ok(entries)
}

/// Calls `show` for each string of a list of any length, without keeping the strings.
pub(super) fn for_each_text<'de, D: Deserializer<'de>>(
    deserializer: D,
    show: impl FnMut(Text<'de>),
) -> Result<(), D::Error> {
    struct TextsVisitor<F>(F);
    impl<'de, F: FnMut(Text<'de>)> Visitor<'de> for TextsVisitor<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of strings")
        }

        fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(text) = list.next_element()? {
                (self.0)(text);
            }
            Ok(())
        }
    }
    deserializer.deserialize_seq(TextsVisitor(show))
}

/// Deserializes a map of at most [`ENTRIES_MAX`] entries.
pub(super) fn map<'de, D, T>(deserializer: D) -> Result<BTreeMap<T, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Ord,
{
    BoundedMap::deserialize(deserializer).map(|BoundedMap(entries)| entries)
}

pub(super) struct BoundedList<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for BoundedList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(Object(entry)) = list.next_element()? {
                    if entries.len() == ENTRIES_MAX {
                        return Err(too_many());
                    }
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_seq(ListVisitor(PhantomData)).map(Self)
    }
}

pub(super) struct BoundedMap<T>(pub BTreeMap<T, T>);

impl<'de, T: Deserialize<'de> + Ord> Deserialize<'de> for BoundedMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de> + Ord> Visitor<'de> for MapVisitor<T> {
            type Value = BTreeMap<T, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = map.next_entry()? {
                    if entries.len() == ENTRIES_MAX {
                        return Err(too_many());
                    }
                    entries.insert(key, value);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(MapVisitor(PhantomData)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Sample {
        #[serde(deserialize_with = "list")]
        list: Vec<u32>,
        #[serde(deserialize_with = "map")]
        map: BTreeMap<String, String>,
    }

    fn read(text: &str) -> serde_json::Result<Sample> {
        serde_json::from_str(text).map(|Object(both)| both)
    }

    #[test]
    fn null_and_nothing_are_empty() {
        for text in ["{}", r#"{"list":null,"map":null}"#, r#"{"list":[],"map":{}}"#] {
            let both = read(text).unwrap();
            assert!(both.list.is_empty() && both.map.is_empty(), "{text}");
        }
        let both = read(r#"{"list":[1,2],"map":{"a":"1","b":"2","a":"3"}}"#).unwrap();
        assert_eq!((both.list, both.map.get("a").map(String::as_str), both.map.len()), (vec![1, 2], Some("3"), 2));
        assert!(read(r#"{"list":{}}"#).is_err() && read(r#"{"map":[]}"#).is_err());
    }

    #[test]
    fn too_many_are_an_error() {
        let both = |count: usize| {
            let list = vec!["7"; count].join(",");
            let map: Vec<_> = (0..count).map(|number| format!("\"{number}\":\"\"")).collect();
            [format!("{{\"list\":[{list}]}}"), format!("{{\"map\":{{{}}}}}", map.join(","))]
        };
        for text in both(ENTRIES_MAX) {
            read(&text).unwrap();
        }
        for text in both(ENTRIES_MAX + 1) {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.ends_with(": more than 4096 entries"), "{error}");
        }
    }
}
