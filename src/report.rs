// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Logging: one line per message, on stderr and in the host's journal or syslog.

use std::error::Error;

use log::{Level, LevelFilter, Log, Metadata, Record};
use stderrlog::{ColorChoice, StdErrLog};

use crate::one_line::one_line;
use crate::sys::journal::{self, Priority};
use crate::sys::time_limit;

/// The program's name, which starts each line on stderr.
pub const NAME: &str = "oci-systemd-hook";

/// Sends messages to stderr and, except for debug, to the system's log.
struct StderrAndSyslog {
    stderr: StdErrLog,
}

impl Log for StderrAndSyslog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = one_line(record.args());
        self.stderr
            .log(&Record::builder().metadata(record.metadata().clone()).args(format_args!("{NAME}: {line}")).build());
        let priority = match record.level() {
            Level::Error => Priority::Error,
            Level::Warn => Priority::Warning,
            Level::Info => Priority::Info,
            // Users who ask for these messages read stderr.
            Level::Debug | Level::Trace => return,
        };
        journal::send(priority, &line);
    }

    fn flush(&self) {}
}

/// Starts logging messages at `level` and more severe ones.
pub fn start(level: LevelFilter) {
    let mut stderr = stderrlog::new();
    stderr.verbosity(LevelFilter::Trace).show_level(false).color(ColorChoice::Never);
    log::set_max_level(level);
    // This fails only if logging was started before, which does no harm.
    let _ = log::set_boxed_logger(Box::new(StderrAndSyslog { stderr }));
}

/// Reports why the program is about to end although another of its threads is blocked, perhaps while logging. It
/// ignores the log level, takes no lock of the logger, and never waits for long.
pub fn last_words(name: &str, line: &str) {
    let line = one_line(line);
    time_limit::say_on_stderr(&format!("{name}: {line}\n"));
    journal::send(Priority::Error, &line);
}

/// Formats an error and its causes as one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        source = cause.source();
    }
    one_line(line.replace('\n', " "))
}
