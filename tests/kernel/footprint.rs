// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests that a call needs less than 8 MiB of memory, whatever its input is. Each call has an address space of that
//! size, so one that needs more is not slower but dies.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::Check;
use crate::bundle::{Bundle, Cgroup, tmpfs, with_bundle};
use crate::hook::{Finished, How};
use crate::namespace::Realm;

/// The limit in KiB, for a shell. It applies to mapped memory; less than that is used.
pub const EIGHT_MIB: &str = "ulimit -v 8192;";
/// The largest sizes of a config.json and a state.
const CONFIG_BYTES: usize = 1024 * 1024;
const STATE_BYTES: usize = 512 * 1024;

#[derive(Debug, Clone, Copy)]
enum End {
    Prepared,
    /// The hook fails with one line that contains this.
    Refused(&'static str),
    /// The container is prepared, with one line that contains this.
    Warned(&'static str),
}

struct Case {
    name: &'static str,
    /// Changes the image before the runtime sets up the container.
    image: fn(&Bundle),
    /// Changes the bundle after the runtime has set up the container.
    give: fn(&mut Bundle),
    end: End,
}

/// The default values of a case.
const PLAIN: Case = Case { name: "nothing special", image: |_| {}, give: |_| {}, end: End::Prepared };

const CASES: [Case; 20] = [
    PLAIN,
    Case {
        name: "variables, many",
        give: |bundle| fill(bundle, "/process/env", |number| json!(format!("A{number}="))),
        ..PLAIN
    },
    Case {
        name: "variables, none but an empty text",
        give: |bundle| fill(bundle, "/process/env", |_| json!("")),
        ..PLAIN
    },
    Case {
        name: "variables that are kept, as long as there may be",
        give: |bundle| {
            let names = ["PATH", "container", "container_host_id", "container_host_build_id", "oci-systemd-hook"];
            let variable = |name| format!("{name}={}", "x".repeat(120 * 1024));
            bundle.config["process"]["env"] = names.map(variable).into();
        },
        ..PLAIN
    },
    Case {
        name: "arguments",
        give: |bundle| {
            fill(bundle, "/process/args", |_| json!(""));
            bundle.config["process"]["args"][0] = json!("/sbin/init");
        },
        ..PLAIN
    },
    Case {
        name: "a text with nothing but escapes",
        give: |bundle| bundle.config["process"]["cwd"] = json!("\u{1}".repeat(CONFIG_BYTES / 7)),
        ..PLAIN
    },
    Case {
        name: "mounts, as many as there may be",
        give: |bundle| {
            // The last mount really exists, as all of them do with a runtime.
            let mounts = (0..4095).map(|number| json!({"destination": format!("/m/{number}/{}", "x".repeat(200))}));
            bundle.config["mounts"] = mounts.chain([json!({"destination": "/proc"})]).collect();
        },
        ..PLAIN
    },
    Case {
        name: "too many mounts",
        give: |bundle| fill(bundle, "/mounts", |_| json!({"destination": ""})),
        end: End::Refused("more than 4096 entries"),
        ..PLAIN
    },
    Case {
        name: "options of a mount",
        give: |bundle| {
            bundle.config["mounts"] = json!([{"destination": "/proc"}]);
            fill(bundle, "/mounts/0/options", |_| json!(""));
        },
        ..PLAIN
    },
    Case {
        name: "too many capabilities",
        give: |bundle| fill(bundle, "/process/capabilities/bounding", |_| json!("")),
        end: End::Refused("more than 4096 entries"),
        ..PLAIN
    },
    Case {
        name: "too many annotations",
        give: |bundle| {
            let all = (0..50_000).map(|number| (format!("{number}"), json!("")));
            bundle.config["annotations"] = Value::Object(all.collect());
        },
        end: End::Refused("more than 4096 entries"),
        ..PLAIN
    },
    Case {
        name: "annotations of the state, as many as there may be",
        give: |bundle| {
            let all = (0..4096).map(|number| (format!("{number:0100}"), json!("")));
            bundle.state["annotations"] = Value::Object(all.collect());
        },
        ..PLAIN
    },
    Case {
        name: "a large state",
        give: |bundle| bundle.state["annotations"] = json!({"x": "x".repeat(STATE_BYTES * 9 / 10)}),
        ..PLAIN
    },
    Case {
        name: "what nobody asks for",
        give: |bundle| {
            bundle.config["linux"]["seccomp"] = json!({"syscalls": []});
            fill(bundle, "/linux/seccomp/syscalls", |number| json!({"names": [[[[number]]]], "a": {}}));
        },
        ..PLAIN
    },
    Case {
        name: "mounts on the host",
        give: |bundle| {
            for number in 0..4_000 {
                tmpfs(&bundle.elsewhere(&format!("mounts/{number}-with-a-name-that-is-long")), "size=4k");
            }
        },
        ..PLAIN
    },
    Case {
        name: "mounts in the root",
        image: |bundle| {
            for number in 0..2_000 {
                fs::create_dir_all(bundle.image(&format!("srv/{number}"))).unwrap();
            }
        },
        give: |bundle| {
            for number in 0..2_000 {
                tmpfs(&bundle.root(&format!("srv/{number}")), "size=4k");
            }
        },
        ..PLAIN
    },
    Case {
        name: "many files to copy, with long names",
        image: |bundle| {
            for number in 0..50_000 {
                file(&bundle.image("tmp").join(format!("{number:0240}")));
            }
        },
        ..PLAIN
    },
    Case {
        name: "many files with two names",
        image: |bundle| {
            for number in 0..30_000 {
                file(&bundle.image("tmp").join(number.to_string()));
                fs::hard_link(
                    bundle.image("tmp").join(number.to_string()),
                    bundle.image("srv").join(number.to_string()),
                )
                .unwrap();
            }
        },
        end: End::Warned("bytes of paths to files with several hard links"),
        ..PLAIN
    },
    Case {
        name: "a large file to copy",
        image: |bundle| fs::write(bundle.image("var/log/journal/system.journal"), vec![7; 60 << 20]).unwrap(),
        ..PLAIN
    },
    Case {
        name: "a program of systemd's without end",
        image: |bundle| {
            let file = fs::File::options().write(true).open(bundle.image("usr/lib/systemd/systemd")).unwrap();
            file.set_len(1 << 40).unwrap();
        },
        ..PLAIN
    },
];

/// Tests each large input separately.
pub fn of_each(realm: Realm) -> Check {
    crate::all(CASES.iter().map(|case| {
        let check = |bundle: &mut Bundle| {
            (case.image)(bundle);
            bundle.start(Cgroup::Mounted);
            (case.give)(bundle);
            bundle.write_config();
            ensure!(bundle.config.to_string().len() <= CONFIG_BYTES, "the config is too large for this test");
            let finished = within_eight_mib(bundle)?;
            match case.end {
                End::Prepared => finished.silently()?,
                End::Refused(words) => finished.refused(&[words])?,
                End::Warned(words) => finished.with_warning(&[words])?,
            }
            bundle.end();
            poststop_within_eight_mib(bundle)
        };
        (case.name, with_bundle(realm, check))
    }))
}

/// Tests several large inputs at once.
pub fn of_all_at_once(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        let silent = CASES.iter().filter(|case| matches!(case.end, End::Prepared));
        for case in silent.clone().filter(|case| !case.name.contains("program")) {
            (case.image)(bundle);
        }
        bundle.start(Cgroup::Mounted);
        for name in [
            "mounts, as many as there may be",
            "annotations of the state, as many as there may be",
            "mounts on the host",
            "mounts in the root",
        ] {
            let case = silent.clone().find(|case| case.name == name).unwrap();
            (case.give)(bundle);
        }
        bundle.write_config();
        within_eight_mib(bundle)?.silently()?;
        bundle.end();
        poststop_within_eight_mib(bundle)
    })
}

/// Tests that the limit is effective: a call with less memory than it is known to need fails.
pub fn is_a_limit(realm: Realm) -> Check {
    with_bundle(realm, |bundle| {
        bundle.start(Cgroup::Mounted);
        let finished = bundle.create_as(&How { first: Some("ulimit -v 1024;"), ..How::default() })?;
        ensure!(finished.code != Some(0), "it worked in 1 MiB: {finished:?}");
        Ok(())
    })
}

fn within_eight_mib(bundle: &Bundle) -> Result<Finished, String> {
    bundle.create_as(&How { first: Some(EIGHT_MIB), ..How::default() })
}

fn poststop_within_eight_mib(bundle: &Bundle) -> Check {
    let mut state = bundle.state.clone();
    state["status"] = json!("stopped");
    let how = How { first: Some(EIGHT_MIB), cwd: Some("/".into()), ..How::default() };
    bundle.call(state.to_string().as_bytes(), &how)?.silently()
}

/// Adds as many entries as fit into a config.json.
fn fill(bundle: &mut Bundle, pointer: &str, entry: fn(usize) -> Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let room = CONFIG_BYTES - bundle.config.to_string().len() - 1024;
    let mut taken = 0;
    let entries = (0..).map(entry).take_while(|entry| {
        taken += entry.to_string().len() + 1;
        taken < room
    });
    let entries = entries.collect();
    bundle.config.pointer_mut(parent).unwrap()[key] = entries;
}

fn file(at: &Path) {
    mknodat(CWD, at, FileType::RegularFile, Mode::RUSR, 0).unwrap();
}
