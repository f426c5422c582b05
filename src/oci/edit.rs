// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes to the text of a config.json that leave every other byte as it is: fields that we don't know, their order,
//! the form of numbers.

use std::ops::Range;

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

/// Sets what is at `path`, a step being a field's name or an element's number. Objects that are missing on the way, or
/// `null`, are made.
pub fn set(text: &str, path: &[&str], value: &Value) -> Result<String, EditError> {
    Ok(find(text, path)?.put(text, value))
}

/// Adds to the end of the list at `path`, which is made where it is missing or `null`.
pub fn extend(text: &str, path: &[&str], values: &[Value]) -> Result<String, EditError> {
    if values.is_empty() {
        return Ok(text.to_owned());
    }
    let place = find(text, path)?;
    let found = text.get(place.range.clone()).unwrap_or_default();
    if found.is_empty() || found == "null" {
        return Ok(place.put(text, &Value::from(values)));
    }
    let list: Vec<&RawValue> = serde_json::from_str(found).map_err(|_| kind(path, "a list"))?;
    let added = values.iter().map(Value::to_string).collect::<Vec<_>>().join(",");
    Ok(match list.last() {
        Some(last) => {
            let end = range_of(text, last).end;
            splice(text, end..end, &format!(",{added}"))
        }
        None => splice(text, place.range, &format!("[{added}]")),
    })
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
    fn put(self, text: &str, value: &Value) -> String {
        let whole =
            self.missing.iter().rev().fold(value.to_string(), |inner, name| format!("{{{}:{inner}}}", quoted(name)));
        let (before, behind) = self.around;
        splice(text, self.range, &format!("{before}{whole}{behind}"))
    }
}

fn find<'p>(text: &str, path: &'p [&'p str]) -> Result<Place<'p>, EditError> {
    let mut at: &RawValue = serde_json::from_str(text)?;
    let mut rest = path;
    while let Some((step, further)) = rest.split_first() {
        let done = path.get(..path.len() - rest.len()).unwrap_or_default();
        match at.get().as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(at.get())?;
                // Of two with one name, the last counts.
                let Some((_, value)) = members.iter().rev().find(|(name, _)| name == step) else {
                    let start = range_of(text, at).start + "{".len();
                    let comma = if members.is_empty() { "" } else { "," };
                    let around = (format!("{}:", quoted(step)), comma);
                    return Ok(Place { range: start..start, around, missing: further });
                };
                at = value;
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(at.get())?;
                let number = step.parse::<usize>().ok();
                at = number
                    .and_then(|number| elements.get(number))
                    .ok_or_else(|| kind(done, "a list of that length"))?;
            }
            Some(b'n') => break,
            _ => return Err(kind(done, "an object")),
        }
        rest = further;
    }
    Ok(Place { range: range_of(text, at), around: (String::new(), ""), missing: rest })
}

fn kind(path: &[&str], wanted: &'static str) -> EditError {
    EditError::Kind { path: path.join("."), wanted }
}

/// Where in `text` a part of it is.
fn range_of(text: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr() - text.as_ptr().addr();
    start..start + part.get().len()
}

fn splice(text: &str, range: Range<usize>, by: &str) -> String {
    let mut changed = text.to_owned();
    changed.replace_range(range, by);
    changed
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
        ] {
            assert_eq!(set(text, path, &json!("x")).unwrap(), expected, "{text}");
        }
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
            assert_eq!(extend(text, &["l"], &[]).unwrap(), text);
        }
    }

    #[test]
    fn says_what_does_not_fit() {
        for (text, path, says) in [
            ("[", &["a"][..], "EOF"),
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
