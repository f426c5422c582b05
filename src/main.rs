// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The hook's entry point: handles the arguments, the standard streams and the exit status.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use oci_systemd_hook::VERSION;
use oci_systemd_hook::cli::{self, Request};
use oci_systemd_hook::hook::{self, Failure};
use oci_systemd_hook::report::{self, chain};
use oci_systemd_hook::sys::{process, time_limit};

fn main() -> ExitCode {
    let loader = process::loader_variable();
    process::clear_environment();
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    match cli::parse(arguments) {
        Ok(Request::Hook { call, log_level, policy, time_limit }) => {
            report::start(log_level);
            if name.as_encoded_bytes().starts_with(b"-") {
                log::warn!(
                    "{name:?} has no effect: `args` of a hook begins with the program's name, as in [\"oci-systemd-hook\", \
                     {name:?}]"
                );
            }
            begin(time_limit);
            status(hook::run(std::io::stdin(), call, &policy, loader))
        }
        Ok(Request::Precreate { log_level, time_limit }) => {
            report::start(log_level);
            begin(time_limit);
            status(hook::precreate(std::io::stdin(), &mut std::io::stdout()))
        }
        Ok(Request::Plan { bundle, state, format, policy }) => {
            match hook::plan(&bundle, state.as_deref(), format, &policy) {
                Ok(text) => print(&text),
                Err(error) => complain(&chain(&error), ExitCode::FAILURE),
            }
        }
        Ok(Request::Help) => print(&cli::help()),
        Ok(Request::Version) => print(&format!("oci-systemd-hook {VERSION}\n")),
        Err(error) => complain(&chain(&error), ExitCode::from(2)),
    }
}

fn begin(limit: Duration) {
    time_limit::begin(limit, |line| report::last_words(report::NAME, line));
    time_limit::start_timer();
}

fn status(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { container, error }) => {
            match container {
                Some(container) => log::error!("{container}: {}", chain(&error)),
                None => log::error!("{}", chain(&error)),
            }
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(line: &str, status: ExitCode) -> ExitCode {
    // At worst, stderr is closed and only the exit status reports the error.
    let _ = writeln!(std::io::stderr(), "{}: {line}", report::NAME);
    status
}
