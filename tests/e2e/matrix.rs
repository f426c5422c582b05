// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the README's table of what works where from the results of the boots, and compares it with the README.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use libtest_mimic::Failed;

use crate::command::{SHORT, run};
use crate::container::Cell;
use crate::site::{Layout, Runtime, Site, Suite};

const BEGIN: &str = "<!-- cgroup matrix: written by the end-to-end tests -->\n";
const END: &str = "<!-- end of cgroup matrix -->\n";

/// The rows of the table. crun 1.8 refuses hybrid hosts, which is also tested.
pub const ROWS: [(Layout, Runtime); 6] = [
    (Layout::Legacy, Runtime::Runc),
    (Layout::Legacy, Runtime::Crun),
    (Layout::Hybrid, Runtime::Runc),
    (Layout::Hybrid, Runtime::Crun),
    (Layout::Unified, Runtime::Runc),
    (Layout::Unified, Runtime::Crun),
];

/// The number of boots of a cell: with a private and the host's cgroup namespace, each with and
/// without a user namespace.
pub const WAYS: usize = 4;

/// The results of the boots by cell, as the words for the table.
#[derive(Debug, Default)]
pub struct Matrix(Mutex<BTreeMap<(Layout, Runtime, Suite), Seen>>);

/// One word for each boot of a cell.
type Seen = Vec<&'static str>;

impl Matrix {
    pub fn note(&self, cell: Cell, seen: &'static str) {
        let mut all = self.0.lock().expect("no holder of the lock panics");
        all.entry((cell.layout, cell.runtime, cell.suite)).or_default().push(seen);
    }

    /// Compares the README with what was seen, if all of it was, or writes it with `UPDATE_EXPECT=1`.
    pub fn is_in_document(&self, site: &Site) -> Result<(), Failed> {
        let Some(table) = self.table(site)? else { return Ok(()) };
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("share/doc/cgroups.md");
        let document = fs::read_to_string(&path)?;
        let (front, back) = document.split_once(BEGIN).ok_or_else(|| format!("no {BEGIN:?} in {}", path.display()))?;
        let (old, back) = back.split_once(END).ok_or_else(|| format!("no {END:?} in {}", path.display()))?;
        if old == table {
            return Ok(());
        }
        if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
            fs::write(&path, format!("{front}{BEGIN}{table}{END}{back}"))?;
            return Ok(());
        }
        let path = path.display();
        Err(format!("{path} has a different table than the one observed (UPDATE_EXPECT=1 updates it):\n{table}").into())
    }

    /// Returns `None` if a test was skipped or has failed.
    fn table(&self, site: &Site) -> Result<Option<String>, Failed> {
        let all = self.0.lock().expect("no holder of the lock panics");
        if all.len() != ROWS.len() * Suite::ALL.len() || all.values().any(|seen| seen.len() != WAYS) {
            return Ok(None);
        }
        let mut table = String::from(
            "The cgroup version that systemd finds in the container. Each cell was booted with private and host cgroup\n\
             namespace, with and without user namespace:\n\n| host, runtime |",
        );
        for suite in Suite::ALL {
            write!(table, " Debian {} |", release(site, suite)?)?;
        }
        table.push_str("\n|---|---|---|---|---|\n");
        for (layout, runtime) in ROWS {
            write!(table, "| {}, {} |", title(layout), version(runtime)?)?;
            for suite in Suite::ALL {
                let seen = all.get(&(layout, runtime, suite)).map(Vec::as_slice).unwrap_or_default();
                let words: BTreeSet<&str> = seen.iter().copied().collect();
                write!(table, " {} |", words.into_iter().collect::<Vec<_>>().join(" or "))?;
            }
            table.push('\n');
        }
        Ok(Some(table))
    }
}

/// Returns the table's word for a layout that systemd found.
pub fn word(layout: Layout) -> &'static str {
    match layout {
        Layout::Legacy => "v1",
        Layout::Hybrid => "v1 and v2",
        Layout::Unified => "v2",
    }
}

fn title(layout: Layout) -> &'static str {
    match layout {
        Layout::Legacy => "v1 (legacy)",
        Layout::Hybrid => "v1 and v2 (hybrid)",
        Layout::Unified => "v2 (unified)",
    }
}

/// Returns the release and systemd's version, such as `12 (252)`, as reported by the image.
fn release(site: &Site, suite: Suite) -> Result<String, Failed> {
    let root = site.root(suite)?;
    let about = fs::read_to_string(root.join("etc/os-release"))?;
    let number = about.lines().find_map(|line| line.strip_prefix("VERSION_ID="));
    // Sid is never released, so it has no number.
    let number = number.map_or_else(|| suite.to_string(), |number| number.trim_matches('"').to_owned());
    let told = run(Command::new("chroot").arg(&root).args(["systemctl", "--version"]), SHORT)?.expect_success()?;
    let systemd = told.split(' ').nth(1).ok_or_else(|| format!("no version in {told}"))?;
    Ok(format!("{number} ({systemd})"))
}

/// Returns the name and version of the runtime, such as `runc 1.1`, as reported by the runtime.
fn version(runtime: Runtime) -> Result<String, Failed> {
    let told = run(Command::new(runtime.to_string()).arg("--version"), SHORT)?.expect_success()?;
    let version = told.split_whitespace().nth(2).ok_or_else(|| format!("no version in {told}"))?;
    Ok(format!("{runtime} {}", version.split('.').take(2).collect::<Vec<_>>().join(".")))
}
