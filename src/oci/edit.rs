// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Edits the text of a config.json and leaves every other byte as it is. This preserves unknown fields, the order of
//! fields, and the notation of numbers.

use std::fmt::Display;
use std::ops::Range;

use serde_json::Value;
use serde_json::value::RawValue;

use super::document::{Document, range_of};
use super::members::Members;

/// Why a document can't be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// A value on the path has a different type than the change requires.
    #[error("{} is not {wanted}", if path.is_empty() { "it" } else { path })]
    Kind {
        /// The names of the fields, joined by dots.
        path: String,
        wanted: &'static str,
    },
}

impl EditError {
    /// Adds the name of the field that contains the value to the path in the error.
    fn within(self, name: &str) -> Self {
        match self {
            Self::Json(error) => Self::Json(error),
            Self::Kind { path, wanted } if path.is_empty() => Self::Kind { path: name.to_owned(), wanted },
            Self::Kind { path, wanted } => Self::Kind { path: format!("{name}.{path}"), wanted },
        }
    }
}

/// A document that is edited field by field.
///
/// A path consists of field names and element indices. Objects on the path that are missing or `null` are created.
/// The `Display` of a value must be its JSON, as it is for [`Value`] and [`RawValue`].
#[derive(Debug)]
pub struct Edit<'d> {
    document: &'d Document,
    /// The fields in document order.
    fields: Vec<FieldEdit<'d>>,
    /// The added fields as names and JSON text, in the order in which they were added.
    added: Vec<(String, String)>,
}

#[derive(Debug)]
struct FieldEdit<'d> {
    name: &'d str,
    before: &'d str,
    now: Option<String>,
}

impl<'d> Edit<'d> {
    #[must_use]
    pub fn of(document: &'d Document) -> Self {
        let fields = document.fields().map(|(name, before)| FieldEdit { name, before, now: None });
        Self { document, fields: fields.collect(), added: Vec::new() }
    }

    /// Returns a field's current JSON text, or `None` if the field is missing or `null`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        // If a name occurs twice, the last field counts.
        let field = self.fields.iter().rev().find(|field| field.name == name);
        let value = field.map(|field| field.now.as_deref().unwrap_or(field.before));
        let value =
            value.or_else(|| self.added.iter().find(|(added, _)| added == name).map(|(_, value)| value.as_str()));
        value.filter(|value| *value != "null")
    }

    /// Returns the names of the fields of the original document.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name)
    }

    /// Sets the value at `path`.
    pub fn set(&mut self, path: &[&str], value: &impl Display) -> Result<(), EditError> {
        self.change(path, |text, path| set(text, path, value))
    }

    /// Adds `first` to the beginning and `last` to the end of the list at `path`. The list is created if it
    /// is missing or `null`.
    pub fn surround<V: Display>(&mut self, path: &[&str], first: &[V], last: &[V]) -> Result<(), EditError> {
        if first.is_empty() && last.is_empty() {
            return Ok(());
        }
        self.change(path, |text, path| surround(text, path, first, last))
    }

    /// Adds to the end of the list at `path`, like [`Self::surround`].
    pub fn extend<V: Display>(&mut self, path: &[&str], values: &[V]) -> Result<(), EditError> {
        self.surround(path, &[], values)
    }

    fn change(
        &mut self,
        path: &[&str],
        change: impl FnOnce(&str, &[&str]) -> Result<String, EditError>,
    ) -> Result<(), EditError> {
        let Some((name, rest)) = path.split_first() else { return Err(kind(path, "a field")) };
        let new = change(self.get(name).unwrap_or("null"), rest).map_err(|error| error.within(name))?;
        if let Some(field) = self.fields.iter_mut().rev().find(|field| field.name == *name) {
            field.now = Some(new);
        } else if let Some((_, value)) = self.added.iter_mut().find(|(added, _)| added == name) {
            *value = new;
        } else {
            self.added.push(((*name).to_owned(), new));
        }
        Ok(())
    }

    /// Returns the document's text with all changes.
    #[must_use]
    pub fn into_text(self) -> String {
        let added =
            self.added.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect::<Vec<_>>().join(",");
        let now = self.fields.iter().filter_map(|field| field.now.as_ref()).map(String::len).sum::<usize>();
        let before = self.document.text();
        let mut text = String::with_capacity(before.len() + now + added.len() + ",".len());
        let mut copied = 0;
        let mut copy_to = |text: &mut String, end: usize, next: usize| {
            text.push_str(before.get(copied..end).unwrap_or_default());
            copied = next;
        };
        if !added.is_empty() {
            let start = before.find('{').map_or(0, |brace| brace + 1);
            copy_to(&mut text, start, start);
            text.push_str(&added);
            text.push_str(if self.fields.is_empty() { "" } else { "," });
        }
        for field in &self.fields {
            if let Some(now) = &field.now {
                let Range { start, end } = range_of(before, field.before);
                copy_to(&mut text, start, end);
                text.push_str(now);
            }
        }
        copy_to(&mut text, before.len(), before.len());
        text
    }
}

fn set(text: &str, path: &[&str], value: &impl Display) -> Result<String, EditError> {
    Ok(find(text, path)?.put(text, value))
}

fn surround<V: Display>(text: &str, path: &[&str], first: &[V], last: &[V]) -> Result<String, EditError> {
    let joined = |values: &[V]| values.iter().map(V::to_string).collect::<Vec<_>>().join(",");
    let place = find(text, path)?;
    let list: Vec<&RawValue> = match text.get(place.range.clone()) {
        None | Some("" | "null") => Vec::new(),
        Some(found) => serde_json::from_str(found).map_err(|_| kind(path, "a list"))?,
    };
    let (Some(head), Some(tail)) = (list.first(), list.last()) else {
        let both = [joined(first), joined(last)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        return Ok(place.put(text, &format!("[{}]", both.join(","))));
    };
    let (start, end) = (range_of(text, head.get()).start, range_of(text, tail.get()).end);
    let mut changed = text.to_owned();
    if !last.is_empty() {
        changed.insert_str(end, &format!(",{}", joined(last)));
    }
    if !first.is_empty() {
        changed.insert_str(start, &format!("{},", joined(first)));
    }
    Ok(changed)
}

/// The position of a value that exists or is to be inserted.
struct Insertion<'p> {
    /// The range of the existing value. If it is empty, the value is inserted there.
    range: Range<usize>,
    /// The text in front of the value and behind it.
    around: (String, &'static str),
    /// The names of the objects that have to be created around the value.
    missing: &'p [&'p str],
}

impl Insertion<'_> {
    fn put(self, text: &str, value: &impl Display) -> String {
        let whole =
            self.missing.iter().rev().fold(value.to_string(), |inner, name| format!("{{{}:{inner}}}", quoted(name)));
        let (before, behind) = self.around;
        let mut changed = text.to_owned();
        changed.replace_range(self.range, &format!("{before}{whole}{behind}"));
        changed
    }
}

fn find<'p>(text: &str, path: &'p [&'p str]) -> Result<Insertion<'p>, EditError> {
    let mut at = text;
    let mut rest = path;
    while let Some((step, further)) = rest.split_first() {
        let done = path.get(..path.len() - rest.len()).unwrap_or_default();
        match at.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(at)?;
                // If a name occurs twice, the last field counts.
                let Some((_, value)) = members.iter().rev().find(|(name, _)| name == step) else {
                    let start = range_of(text, at).start + "{".len();
                    let comma = if members.is_empty() { "" } else { "," };
                    let around = (format!("{}:", quoted(step)), comma);
                    return Ok(Insertion { range: start..start, around, missing: further });
                };
                at = value.get();
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(at)?;
                let number = step.parse::<usize>().ok();
                at = number
                    .and_then(|number| elements.get(number))
                    .ok_or_else(|| kind(done, "a list of that length"))?
                    .get();
            }
            Some(b'n') => break,
            _ => return Err(kind(done, "an object")),
        }
        rest = further;
    }
    Ok(Insertion { range: range_of(text, at), around: (String::new(), ""), missing: rest })
}

fn kind(path: &[&str], wanted: &'static str) -> EditError {
    EditError::Kind { path: path.join("."), wanted }
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn edited(text: &str, change: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>) -> Result<String, EditError> {
        let document = Document::parse(text.into()).unwrap();
        let mut edit = Edit::of(&document);
        change(&mut edit)?;
        Ok(edit.into_text())
    }

    #[test]
    fn sets_one_value_and_leaves_the_rest() {
        for (text, path, expected) in [
            (r#"{ "a" : 1.50 ,"b":[ ] }"#, &["a"][..], r#"{ "a" : "x" ,"b":[ ] }"#),
            (r#"{"a":1e400}"#, &["b"], r#"{"b":"x","a":1e400}"#),
            ("{}", &["a", "b", "c"], r#"{"a":{"b":{"c":"x"}}}"#),
            (" {\n}\n", &["a"], " {\"a\":\"x\"\n}\n"),
            (r#"{"a":null}"#, &["a", "b"], r#"{"a":{"b":"x"}}"#),
            (r#"{"a":{"b":{"b":2}}}"#, &["a", "b", "c"], r#"{"a":{"b":{"c":"x","b":2}}}"#),
            (r#"{"a":[0,{"b":["ro", "ü"]}]}"#, &["a", "1", "b", "0"], r#"{"a":[0,{"b":["x", "ü"]}]}"#),
            (r#"{"a":1,"a":2}"#, &["a"], r#"{"a":1,"a":"x"}"#),
            (r#"{"a":{"b":1,"b":2}}"#, &["a", "b"], r#"{"a":{"b":1,"b":"x"}}"#),
            (r#"{"\u0061":1}"#, &["a"], r#"{"\u0061":"x"}"#),
            (" {\"a\": 7} ", &["b"], " {\"b\":\"x\",\"a\": 7} "),
        ] {
            assert_eq!(edited(text, |edit| edit.set(path, &json!("x"))).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn makes_several_changes() {
        let changed = edited(r#"{"a":{"l":[1]}, "z": 0}"#, |edit| {
            edit.extend(&["a", "l"], &[json!(2)])?;
            edit.set(&["n", "o"], &json!(true))?;
            edit.extend(&["a", "l"], &[json!(3)])?;
            edit.set(&["m"], &json!({}))?;
            edit.set(&["n", "p"], &json!(false))?;
            assert_eq!(edit.get("a"), Some(r#"{"l":[1,2,3]}"#));
            assert_eq!(edit.get("m"), Some("{}"));
            assert_eq!(edit.get("x"), None);
            edit.set(&["z"], &json!(null))?;
            assert_eq!(edit.get("z"), None);
            Ok(())
        });
        assert_eq!(changed.unwrap(), r#"{"n":{"p":false,"o":true},"m":{},"a":{"l":[1,2,3]}, "z": null}"#);
    }

    #[test]
    fn adds_to_a_list() {
        for (text, expected) in [
            (r#"{"l":[1, 2 ]}"#, r#"{"l":[1, 2,"x",{"y":1} ]}"#),
            (r#"{"l":[ ]}"#, r#"{"l":["x",{"y":1}]}"#),
            (r#"{"l":null,"m":0}"#, r#"{"l":["x",{"y":1}],"m":0}"#),
            (r#"{"m":0}"#, r#"{"l":["x",{"y":1}],"m":0}"#),
        ] {
            let values = [json!("x"), json!({"y": 1})];
            assert_eq!(edited(text, |edit| edit.extend(&["l"], &values)).unwrap(), expected, "{text}");
            assert_eq!(edited(text, |edit| edit.extend::<Value>(&["l"], &[])).unwrap(), text);
        }
    }

    #[test]
    fn adds_to_both_ends_of_a_list() {
        let (a, b, none) = ([json!("a"), json!("b")], [json!("c")], [] as [Value; 0]);
        for (text, first, last, expected) in [
            (r#"{"l":[ 1, 2 ]}"#, &a[..], &b[..], r#"{"l":[ "a","b",1, 2,"c" ]}"#),
            (r#"{"l":[0]}"#, &a, &b, r#"{"l":["a","b",0,"c"]}"#),
            (r#"{"l":[ ]}"#, &a, &b, r#"{"l":["a","b","c"]}"#),
            ("{}", &a, &b, r#"{"l":["a","b","c"]}"#),
            (r#"{"l":[0]}"#, &b, &none, r#"{"l":["c",0]}"#),
            ("{}", &b, &none, r#"{"l":["c"]}"#),
        ] {
            assert_eq!(edited(text, |edit| edit.surround(&["l"], first, last)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn says_what_does_not_fit() {
        for (text, path, says) in [
            (r#"{"a":7}"#, &["a", "b"][..], "a is not an object"),
            (r#"{"a":{"b":"c"}}"#, &["a", "b", "c"], "a.b is not an object"),
            (r#"{"a":[1]}"#, &["a", "1"], "a is not a list of that length"),
            (r#"{"a":[1]}"#, &["a", "b"], "a is not a list of that length"),
        ] {
            let error = edited(text, |edit| edit.set(path, &json!(1))).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let add = |text| edited(text, |edit| edit.extend(&["a", "b"], &[json!(1)])).unwrap_err().to_string();
        assert_eq!(add(r#"{"a":{"b":"c"}}"#), "a.b is not a list");
    }
}
