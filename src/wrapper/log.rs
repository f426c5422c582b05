// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The log that a runtime's caller reads, in the formats that runc writes. Docker and containerd show its last error,
//! but never a runtime's standard error.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Value, json};

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`.
    Text,
    /// A JSON object with the same fields.
    Json,
}

/// The severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// The container will not start.
    Error,
    /// Something is not as it should be.
    Warning,
}

/// A log file and its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub path: PathBuf,
    pub format: LogFormat,
}

impl Log {
    /// Appends a message. If that fails, the message is lost: the exit status shows that there was an error, and
    /// standard error shows which.
    pub fn write(&self, level: LogLevel, message: &str) {
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut options = OpenOptions::new();
        // A FIFO without a reader must not block the container.
        options.append(true).create(true).mode(0o644).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        if let Ok(mut file) = options.open(&self.path) {
            // If this fails, the message is lost; see above.
            let _ = file.write_all(line(self.format, level, message, &time).as_bytes());
        }
    }
}

fn line(format: LogFormat, level: LogLevel, message: &str, time: &str) -> String {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warning => "warning",
    };
    match format {
        LogFormat::Json => format!("{}\n", json!({ "level": level, "msg": message, "time": time })),
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={}\n", Value::from(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_runc_does() {
        let told = |format| line(format, LogLevel::Error, "no \"x\"", "2026-11-22T18:00:00Z");
        assert_eq!(told(LogFormat::Text), "time=\"2026-11-22T18:00:00Z\" level=error msg=\"no \\\"x\\\"\"\n");
        assert_eq!(
            told(LogFormat::Json),
            "{\"level\":\"error\",\"msg\":\"no \\\"x\\\"\",\"time\":\"2026-11-22T18:00:00Z\"}\n"
        );
    }
}
