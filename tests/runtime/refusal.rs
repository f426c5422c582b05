// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks of how the wrapper reports that it fails: in one line, and in the log that the engine reads.

use std::fs;

use serde_json::Value;

use crate::Check;
use crate::command::Finished;
use crate::room::Room;

/// The program's name, which begins the line.
const SAYS: &str = "oci-hooks-runtime: ";

/// Checks that the wrapper failed with one line that contains all of these words, and that no runtime was started.
pub fn is_one(room: &Room, finished: &Finished, words: &[&str]) -> Check {
    ensure!(finished.code == Some(1), "expected code 1, not {finished}");
    ensure!(finished.output.is_empty(), "output on standard output: {finished}");
    let line = finished.errors.strip_suffix('\n').unwrap_or_default();
    let is_line = line.starts_with(SAYS) && !line.contains('\n') && line.chars().count() < 1_000;
    ensure!(is_line, "expected one line from the wrapper: {finished}");
    for word in words {
        ensure!(line.contains(word), "{word:?} is not in {line:?}");
    }
    ensure!(room.record().is_none(), "the runtime was started: {finished}");
    Ok(())
}

/// Checks the same as [`is_one`], and that the log in this format contains the words.
pub fn is_logged(room: &Room, finished: &Finished, format: &str, words: &[&str]) -> Check {
    is_one(room, finished, words)?;
    let log = fs::read_to_string(room.path("log")).map_err(|error| format!("the log: {error}"))?;
    let (level, message) = only_entry(&log, format)?;
    ensure!(level == "error", "its level is {level:?}: {log}");
    for word in words {
        ensure!(message.contains(word), "{word:?} is not in the log: {log}");
    }
    Ok(())
}

/// Checks that the log has a warning with all of these words, and that the journal has the same message.
pub fn is_warned(log: &str, words: impl Iterator<Item = String>, sent: &str) -> Check {
    let (level, message) = only_entry(log, "text")?;
    ensure!(level == "warning", "its level is {level:?}: {log}");
    for word in words {
        ensure!(message.contains(&word), "{word:?} is not in {message:?}");
    }
    let line = message
        .strip_prefix(SAYS)
        .ok_or(format!("the message in the log doesn't begin with the wrapper's name: {message:?}"))?;
    ensure!(sent.split_once("]: ").is_some_and(|(_, told)| told == line), "the journal has {sent:?}, not {line:?}");
    Ok(())
}

/// Returns the level and the message of a log's only entry.
fn only_entry(log: &str, format: &str) -> Result<(String, String), String> {
    let entry = log.strip_suffix('\n').ok_or(format!("the log does not end in a newline: {log:?}"))?;
    ensure!(!entry.contains('\n'), "more than one line: {log:?}");
    let (time, level, message) = match format {
        "json" => {
            let entry: Value = serde_json::from_str(entry).map_err(|error| format!("{error}: {entry}"))?;
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            (part("time"), part("level"), part("msg"))
        }
        _ => text(entry).ok_or(format!("not in the format of logrus: {entry}"))?,
    };
    is_time(&time)?;
    Ok((level, message))
}

/// Parses an entry such as `time="2024-01-31T12:34:56Z" level=error msg="a \"quoted\" text"` and returns its values.
fn text(entry: &str) -> Option<(String, String, String)> {
    let (time, rest) = entry.strip_prefix("time=\"")?.split_once("\" level=")?;
    let (level, quoted) = rest.split_once(" msg=")?;
    // Go's quoting is the same as JSON's for the messages in these tests.
    let message = serde_json::from_str(quoted).ok()?;
    Some((time.to_owned(), level.to_owned(), message))
}

/// Checks that a string is a time in RFC 3339 format, in seconds or finer, in this century.
fn is_time(time: &str) -> Check {
    let bytes = time.as_bytes();
    let has = |index: usize, byte: u8| bytes.get(index) == Some(&byte);
    let is_form = has(4, b'-') && has(7, b'-') && has(10, b'T') && has(13, b':') && has(16, b':');
    let zone = time.get(19..).unwrap_or_default();
    let is_zoned = zone.ends_with('Z') || zone.contains('+') || zone.contains('-');
    ensure!(is_form && is_zoned && time.starts_with("20"), "not a time: {time:?}");
    Ok(())
}
