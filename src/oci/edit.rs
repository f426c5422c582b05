// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes to the text of a config.json that leave every other byte as it is: fields that we don't know, their order,
//! the form of numbers.

use std::fmt::Display;
use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::members::Members;

/// Why a text can't be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is no JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Something else is there than the change needs.
    #[error("{} is not {wanted}", if path.is_empty() { "it" } else { path })]
    Kind {
        /// The fields' names with dots between.
        path: String,
        /// What is needed.
        wanted: &'static str,
    },
}

/// Puts another text in the place of what is at `path`, a step being a field's name or an element's number. `change` is
/// given what is there, if it isn't `null`, and says nothing where that shall stay. Objects that are missing on the way, or
/// `null`, are made.
pub fn change<E: From<EditError>>(
    text: &str,
    path: &[&str],
    change: impl FnOnce(Option<&str>) -> Result<Option<String>, E>,
) -> Result<String, E> {
    let place = find(text, path)?;
    let found = text.get(place.range.clone()).filter(|found| place.missing.is_empty() && !found.is_empty());
    Ok(match change(found.filter(|found| *found != "null"))? {
        Some(new) => place.put(text, &new),
        None => text.to_owned(),
    })
}

/// Sets what is at `path`. A value's `Display` is its JSON, as that of [`Value`] and [`RawValue`] is.
pub fn set(text: &str, path: &[&str], value: &impl Display) -> Result<String, EditError> {
    change(text, path, |_| Ok(Some(value.to_string())))
}

/// Adds to the beginning of the list at `path`, and to its end; it is made where it is missing or `null`.
pub fn surround<V: Display>(text: &str, path: &[&str], first: &[V], last: &[V]) -> Result<String, EditError> {
    if first.is_empty() && last.is_empty() {
        return Ok(text.to_owned());
    }
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

/// Adds to the end of such a list.
pub fn extend<V: Display>(text: &str, path: &[&str], values: &[V]) -> Result<String, EditError> {
    surround(text, path, &[], values)
}

/// Where a value is, or is to be.
struct Place<'p> {
    /// The value that is there; empty: between two bytes.
    range: Range<usize>,
    /// What goes in front of the value and behind it.
    around: (String, &'static str),
    /// The objects that have to be made around it.
    missing: &'p [&'p str],
}

impl Place<'_> {
    fn put(self, text: &str, value: &impl Display) -> String {
        let whole =
            self.missing.iter().rev().fold(value.to_string(), |inner, name| format!("{{{}:{inner}}}", quoted(name)));
        let (before, behind) = self.around;
        let mut changed = text.to_owned();
        changed.replace_range(self.range, &format!("{before}{whole}{behind}"));
        changed
    }
}

fn find<'p>(text: &str, path: &'p [&'p str]) -> Result<Place<'p>, EditError> {
    let mut at = text.trim_matches([' ', '\t', '\n', '\r']);
    let mut rest = path;
    while let Some((step, further)) = rest.split_first() {
        let done = path.get(..path.len() - rest.len()).unwrap_or_default();
        match at.as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(at)?;
                // Of two with one name, the last counts.
                let Some((_, value)) = members.iter().rev().find(|(name, _)| name == step) else {
                    let start = range_of(text, at).start + "{".len();
                    let comma = if members.is_empty() { "" } else { "," };
                    let around = (format!("{}:", quoted(step)), comma);
                    return Ok(Place { range: start..start, around, missing: further });
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
            _ if at == "null" => break,
            _ => {
                let _: IgnoredAny = serde_json::from_str(at)?;
                return Err(kind(done, "an object"));
            }
        }
        rest = further;
    }
    Ok(Place { range: range_of(text, at), around: (String::new(), ""), missing: rest })
}

fn kind(path: &[&str], wanted: &'static str) -> EditError {
    EditError::Kind { path: path.join("."), wanted }
}

/// Where in `text` a part of it is.
fn range_of(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - text.as_ptr().addr();
    start..start + part.len()
}

fn quoted(name: &str) -> String {
    Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_one_value_and_leaves_the_rest() {
        for (text, path, expected) in [
            (r#"{ "a" : 1.50 ,"b":[ ] }"#, &["a"][..], r#"{ "a" : "x" ,"b":[ ] }"#),
            (r#"{"a":1e400}"#, &["b"], r#"{"b":"x","a":1e400}"#),
            ("{}", &["a", "b", "c"], r#"{"a":{"b":{"c":"x"}}}"#),
            ("{\n}", &["a"], "{\"a\":\"x\"\n}"),
            (r#"{"a":null}"#, &["a", "b"], r#"{"a":{"b":"x"}}"#),
            (r#"{"a":{"b":{"b":2}}}"#, &["a", "b", "c"], r#"{"a":{"b":{"c":"x","b":2}}}"#),
            (r#"{"a":[0,{"b":["ro", "ü"]}]}"#, &["a", "1", "b", "0"], r#"{"a":[0,{"b":["x", "ü"]}]}"#),
            (r#"{"a":1,"a":2}"#, &["a"], r#"{"a":1,"a":"x"}"#),
            (r#"{"\u0061":1}"#, &["a"], r#"{"\u0061":"x"}"#),
            (" 7 ", &[], r#" "x" "#),
            (" {\"a\": 7} ", &["b"], " {\"b\":\"x\",\"a\": 7} "),
            (" null\n", &["a"], " {\"a\":\"x\"}\n"),
        ] {
            assert_eq!(set(text, path, &json!("x")).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn tells_what_is_there() {
        for (text, path, expected) in [
            (r#"{"a":{"b": [1, 2] }}"#, &["a", "b"][..], Some("[1, 2]")),
            (r#"{"a":{"b":1,"b":2}}"#, &["a", "b"], Some("2")),
            (r#"{"a":null}"#, &["a"], None),
            (r#"{"a":null}"#, &["a", "b"], None),
            (r#"{"c":{}}"#, &["a", "b"], None),
        ] {
            let mut seen = None;
            let unchanged = change(text, path, |found| {
                seen = found.map(str::to_owned);
                Ok::<_, EditError>(None)
            });
            assert_eq!((unchanged.unwrap().as_str(), seen.as_deref()), (text, expected));
        }
    }

    #[test]
    fn adds_to_both_ends_of_a_list() {
        for (text, expected) in [
            (r#"{"l":[ 1, 2 ]}"#, r#"{"l":[ "a","b",1, 2,"c" ]}"#),
            (r#"{"l":[0]}"#, r#"{"l":["a","b",0,"c"]}"#),
            (r#"{"l":[ ]}"#, r#"{"l":["a","b","c"]}"#),
            ("{}", r#"{"l":["a","b","c"]}"#),
        ] {
            assert_eq!(surround(text, &["l"], &[json!("a"), json!("b")], &[json!("c")]).unwrap(), expected, "{text}");
        }
        let none: [Value; 0] = [];
        assert_eq!(surround(r#"{"l":[0]}"#, &["l"], &[json!("a")], &none).unwrap(), r#"{"l":["a",0]}"#);
        assert_eq!(surround("{}", &["l"], &[json!("a")], &none).unwrap(), r#"{"l":["a"]}"#);
    }

    #[test]
    fn adds_to_a_list() {
        for (text, expected) in [
            (r#"{"l":[1, 2 ]}"#, r#"{"l":[1, 2,"x",{"y":1} ]}"#),
            (r#"{"l":[ ]}"#, r#"{"l":["x",{"y":1}]}"#),
            (r#"{"l":null,"m":0}"#, r#"{"l":["x",{"y":1}],"m":0}"#),
            (r#"{"m":0}"#, r#"{"l":["x",{"y":1}],"m":0}"#),
        ] {
            assert_eq!(extend(text, &["l"], &[json!("x"), json!({"y": 1})]).unwrap(), expected, "{text}");
            assert_eq!(extend::<Value>(text, &["l"], &[]).unwrap(), text);
        }
    }

    #[test]
    fn says_what_does_not_fit() {
        for (text, path, says) in [
            ("[", &["a"][..], "EOF"),
            ("nonsense", &["a"], "expected ident"),
            (r#"{"a":1} x"#, &["a"], "trailing characters"),
            ("7", &["a"], "it is not an object"),
            (r#"{"a":{"b":"c"}}"#, &["a", "b", "c"], "a.b is not an object"),
            (r#"{"a":[1]}"#, &["a", "1"], "a is not a list of that length"),
            (r#"{"a":[1]}"#, &["a", "b"], "a is not a list of that length"),
        ] {
            let error = set(text, path, &json!(1)).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        let error = extend(r#"{"a":{"b":"c"}}"#, &["a", "b"], &[json!(1)]).unwrap_err().to_string();
        assert_eq!(error, "a.b is not a list");
    }
}
