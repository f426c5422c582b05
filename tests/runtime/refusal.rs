// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows how the wrapper says that it does not go on: in one line, and in the log that the engine reads.

use std::fs;

use serde_json::Value;

use crate::Check;
use crate::command::Finished;
use crate::room::Room;

/// The program's name in front of its line.
const SAYS: &str = "oci-hooks-runtime: ";

/// The wrapper has failed with one line that has all of these words in it, and no runtime was started.
pub fn is_one(room: &Room, finished: &Finished, words: &[&str]) -> Check {
    ensure!(finished.code == Some(1), "expected code 1, not {finished}");
    ensure!(finished.output.is_empty(), "something on standard output: {finished}");
    let line = finished.errors.strip_suffix('\n').unwrap_or_default();
    let is_line = line.starts_with(SAYS) && !line.contains('\n') && line.chars().count() < 1_000;
    ensure!(is_line, "not one line of the wrapper's: {finished}");
    for word in words {
        ensure!(line.contains(word), "nothing of {word:?} in {line:?}");
    }
    ensure!(room.record().is_none(), "the runtime was started: {finished}");
    Ok(())
}

/// The same, and the same words are in the log, in the format that was asked for.
pub fn is_logged(room: &Room, finished: &Finished, format: &str, words: &[&str]) -> Check {
    is_one(room, finished, words)?;
    let log = fs::read_to_string(room.path("log")).map_err(|error| format!("the log: {error}"))?;
    let (level, message) = only_entry(&log, format)?;
    ensure!(level == "error", "its level is {level:?}: {log}");
    for word in words {
        ensure!(message.contains(word), "nothing of {word:?} in the log: {log}");
    }
    Ok(())
}

/// The log has a warning with all of these words, and the journal has the same.
pub fn is_warned(log: &str, words: impl Iterator<Item = String>, sent: &str) -> Check {
    let (level, message) = only_entry(log, "text")?;
    ensure!(level == "warning", "its level is {level:?}: {log}");
    for word in words {
        ensure!(message.contains(&word), "nothing of {word:?} in {message:?}");
    }
    let line = message.strip_prefix(SAYS).ok_or(format!("the log doesn't say whose it is: {message:?}"))?;
    ensure!(sent.split_once("]: ").is_some_and(|(_, told)| told == line), "the journal has {sent:?}, not {line:?}");
    Ok(())
}

/// The level and the message of a log's only entry.
fn only_entry(log: &str, format: &str) -> Result<(String, String), String> {
    let entry = log.strip_suffix('\n').ok_or(format!("not a line: {log:?}"))?;
    ensure!(!entry.contains('\n'), "more than a line: {log:?}");
    let (time, level, message) = match format {
        "json" => {
            let entry: Value = serde_json::from_str(entry).map_err(|error| format!("{error}: {entry}"))?;
            let part = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            (part("time"), part("level"), part("msg"))
        }
        _ => text(entry).ok_or(format!("not logrus's form: {entry}"))?,
    };
    is_time(&time)?;
    Ok((level, message))
}

/// `time="2024-01-31T12:34:56Z" level=error msg="a \"quoted\" text"`.
fn text(entry: &str) -> Option<(String, String, String)> {
    let (time, rest) = entry.strip_prefix("time=\"")?.split_once("\" level=")?;
    let (level, quoted) = rest.split_once(" msg=")?;
    // Go's quoting, which is JSON's for what these tests make it write.
    let message = serde_json::from_str(quoted).ok()?;
    Some((time.to_owned(), level.to_owned(), message))
}

/// RFC 3339, in seconds or finer, and of these days.
fn is_time(time: &str) -> Check {
    let bytes = time.as_bytes();
    let has = |index: usize, byte: u8| bytes.get(index) == Some(&byte);
    let is_form = has(4, b'-') && has(7, b'-') && has(10, b'T') && has(13, b':') && has(16, b':');
    let zone = time.get(19..).unwrap_or_default();
    let is_zoned = zone.ends_with('Z') || zone.contains('+') || zone.contains('-');
    ensure!(is_form && is_zoned && time.starts_with("20"), "not a time: {time:?}");
    Ok(())
}
