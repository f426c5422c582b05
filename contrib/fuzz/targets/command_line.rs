// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fuzzes command lines, with one argument per line: those of runtimes, as the wrapper parses them, and the hook's
//! own. Everything that the wrapper finds must be in the arguments.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use libfuzzer_sys::fuzz_target;
use oci_systemd_hook::cli;
use oci_systemd_hook::report::chain;
use oci_systemd_hook::wrapper::command_line::{RuntimeCommand, parse, split};

fuzz_target!(|text: &[u8]| {
    let arguments: Vec<_> = text.split(|byte| *byte == b'\n').map(|word| OsString::from_vec(word.to_vec())).collect();
    let line = parse(&arguments);
    let mut rest = arguments.iter();
    for global in &line.globals {
        assert!(rest.any(|argument| argument == global), "{global:?} is in no order, or twice: {line:?}");
    }
    if let Some(log) = &line.log {
        let path = log.path.as_os_str().as_bytes();
        assert!(!path.is_empty() && arguments.iter().any(|argument| argument.as_bytes().ends_with(path)), "{log:?}");
    }
    match &line.command {
        RuntimeCommand::Create { id, .. } => {
            assert!(arguments.iter().any(|argument| argument.to_string_lossy() == id.as_str()), "{line:?}");
            assert!(arguments.iter().any(|argument| argument == "create" || argument == "run"), "{line:?}");
        }
        RuntimeCommand::Kill { id, signal } => {
            assert!(arguments.contains(id), "{line:?}");
            assert!(signal.is_none_or(|at| at > 0 && at < arguments.len()), "{line:?}");
        }
        RuntimeCommand::Other => {}
    }
    for argument in &arguments {
        let (name, value) = split(argument);
        let length = name.len() + value.map_or(0, |value| "=".len() + value.len());
        assert_eq!(length, argument.len(), "{argument:?}");
    }
    if let Err(error) = cli::parse(arguments) {
        let line = chain(&error);
        assert!(!line.contains(char::is_control), "{line:?}");
    }
});
