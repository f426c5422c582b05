// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes changes to a config.json. The first line of the input says what to change, and the rest is the document.
//! The result must be readable, must have the change, and must have every other field as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::oci::document::Document;
use oci_systemd_hook::oci::edit::{Edit, EditError};
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let Some((path, text)) = input.split_once('\n') else { return };
    let Ok(document) = Document::parse(text.into()) else { return };
    assert_eq!(Edit::of(&document).into_text(), text, "nothing was to be changed");

    let path: Vec<&str> = path.split(' ').collect();
    let value = json!({ "new": ["\n", 1.5] });
    changed(&document, &path, |edit| edit.set(&path, &value), |_, now| now == Some(&value));
    changed(
        &document,
        &path,
        |edit| edit.surround(&path, &[json!("first")], &[json!("last")]),
        |before, now| {
            let mut list = before.and_then(Value::as_array).cloned().unwrap_or_default();
            list.insert(0, json!("first"));
            list.push(json!("last"));
            now.and_then(Value::as_array) == Some(&list)
        },
    );
});

fn changed(
    before: &Document,
    path: &[&str],
    change: impl FnOnce(&mut Edit<'_>) -> Result<(), EditError>,
    is_right: impl FnOnce(Option<&Value>, Option<&Value>) -> bool,
) {
    let mut edit = Edit::of(before);
    if change(&mut edit).is_err() {
        return;
    }
    let written = edit.into_text();
    let after = Document::parse(written.clone().into()).unwrap_or_else(|error| panic!("{written}: {error}"));
    for (name, _) in before.fields().filter(|(name, _)| *name != path[0]) {
        assert_eq!(before.written(name), after.written(name), "{name} in {written}");
    }
    // A `Value` supports neither numbers as large as 1e400, nor the deep nesting that a document may have
    // in fields that aren't read.
    if let (Ok(old), Ok(new)) = (serde_json::from_str(before.text()), serde_json::from_str(&written)) {
        assert!(is_right(find(&old, path), find(&new, path)), "{written}");
    }
    assert_eq!(Edit::of(&after).into_text(), written, "nothing more was to be changed");
}

fn find<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Array(list) => list.get(step.parse::<usize>().ok()?),
        other => other.get(step),
    })
}
