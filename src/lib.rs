// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An OCI hook that makes systemd run as the first process of an unprivileged container.
//!
//! Data flows one way: [`gather`] reads facts, [`decide`] and [`prepare`] turn them into a [`plan`] without side
//! effects, and [`apply`] carries out the plan without access to the facts. A module uses only modules of its own
//! group in the list below and of the groups above it. [`hooksd`] is independent of the rest: it implements how
//! engines choose hooks. [`wrapper`], which uses it, is a separate program from the hook.

/// The version that both programs print, including what the build lacks. The loader of a dynamically linked program
/// obeys environment variables that an image may set; see `.github/SECURITY.md`.
pub const VERSION: &str = match (cfg!(target_feature = "crt-static"), cfg!(feature = "selinux")) {
    (true, true) => env!("CARGO_PKG_VERSION"),
    (true, false) => concat!(env!("CARGO_PKG_VERSION"), " (without SELinux)"),
    (false, true) => concat!(env!("CARGO_PKG_VERSION"), " (dynamically linked)"),
    (false, false) => concat!(env!("CARGO_PKG_VERSION"), " (dynamically linked, without SELinux)"),
};

pub mod one_line;
pub mod path;

pub mod kernel;
pub mod oci;
pub mod sys;

pub mod bundle;
pub mod os_release;
pub mod systemd;

pub mod command;
pub mod identity;
pub mod interface;

pub mod facts;

pub mod root;

pub mod decide;
pub mod plan;

pub mod prepare;

pub mod gather;
pub mod record;

pub mod apply;
pub mod precreate;

pub mod cli;
pub mod report;

pub mod hook;

pub mod hooksd;

pub mod wrapper;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }

    /// Returns the content of a file without its comments and unit tests.
    fn code(path: &Path) -> String {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    }

    /// Returns the modules that follow `parent::` in a file's code, including those in braces.
    fn used(code: &str, parent: &str) -> Vec<String> {
        let name = |path: &str| {
            path.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>()
        };
        let mut names = Vec::new();
        for rest in code.split(&format!("{parent}::")).skip(1) {
            let Some(list) = rest.strip_prefix('{') else {
                names.push(name(rest));
                continue;
            };
            let mut depth = 0;
            let mut is_start = true;
            for (at, c) in list.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => is_start = true,
                    _ if is_start && !c.is_whitespace() => {
                        names.push(name(&list[at..]));
                        is_start = false;
                    }
                    _ => {}
                }
            }
        }
        // An empty name is an item of the parent itself.
        names.retain(|name| !name.is_empty());
        names
    }

    /// Returns each use of a module in a file of another module: the file, its module, and the module that it uses.
    fn uses() -> Vec<(PathBuf, String, String)> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let of_file = |path: PathBuf| {
            let name = path.strip_prefix(&source).unwrap().iter().next().unwrap().to_string_lossy().into_owned();
            let own = name.trim_end_matches(".rs").to_owned();
            let others = used(&code(&path), "crate");
            others.into_iter().map(|other| (path.clone(), own.clone(), other)).collect::<Vec<_>>()
        };
        files(&source).into_iter().filter(|path| !path.ends_with("tests.rs")).flat_map(of_file).collect()
    }

    #[test]
    fn each_module_uses_only_those_of_its_group_and_above() {
        let groups: Vec<Vec<&str>> = include_str!("lib.rs")
            .split("\n\n")
            .map(|group| group.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect())
            .collect();
        let place = |module: &str| groups.iter().position(|group| group.contains(&module));
        let mut looked_at = 0;
        for (path, own, other) in uses() {
            let Some(own) = place(&own) else { continue };
            assert!(
                place(&other).is_some_and(|other| other <= own),
                "{} uses {other}, which is below it",
                path.display()
            );
            looked_at += 1;
        }
        assert!(looked_at > 100, "only {looked_at} uses found");
    }

    /// Finds modules below `directory`, the directory of module `path`, that use each other directly or indirectly.
    /// Returns them together with the modules that use them.
    fn cycle(directory: &Path, path: &str) -> Option<String> {
        let mut uses = BTreeMap::<String, BTreeSet<String>>::new();
        for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_stem().unwrap().to_str().unwrap().to_owned();
            if ["mod", "lib", "main", "bin", "tests"].contains(&name.as_str()) {
                continue;
            }
            let (own, below) = if entry.is_dir() {
                if let Some(cycle) = cycle(&entry, &format!("{path}::{name}")) {
                    return Some(cycle);
                }
                (entry.join("mod.rs"), files(&entry))
            } else {
                (entry.clone(), vec![entry])
            };
            let others = uses.entry(name).or_default();
            others.extend(below.iter().flat_map(|file| used(&code(file), path)));
            if own.exists() && path != "crate" {
                others.extend(used(&code(&own), "super"));
            }
        }
        // A module that uses none of the remaining modules is not part of a cycle.
        loop {
            let is_free = |(name, others): &(&String, &BTreeSet<String>)| {
                others.iter().all(|other| other == *name || !uses.contains_key(other))
            };
            let Some(name) = uses.iter().find(is_free).map(|(name, _)| name.clone()) else { break };
            uses.remove(&name);
        }
        (!uses.is_empty()).then(|| format!("in {path}: {uses:?}"))
    }

    #[test]
    fn no_modules_use_each_other() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        assert_eq!(cycle(&source, "crate"), None);
    }

    #[test]
    fn no_two_types_have_the_same_name() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut names = BTreeMap::<String, PathBuf>::new();
        for path in files(&source) {
            for line in fs::read_to_string(&path).unwrap().lines() {
                let words = line.split_whitespace().skip_while(|word| word.starts_with("pub")).collect::<Vec<_>>();
                let ["struct" | "enum" | "trait", name, ..] = words[..] else { continue };
                let name: String = name.chars().take_while(char::is_ascii_alphanumeric).collect();
                if let Some(other) = names.insert(name.clone(), path.clone()) {
                    panic!("{name} is in {} and in {}", other.display(), path.display());
                }
            }
        }
        assert!(names.len() > 100, "only {} types found", names.len());
    }

    /// `hooksd` could be a separate crate, and the wrapper uses the hook's code only to read a bundle, to decide, and
    /// to add what config.json lacks.
    #[test]
    fn what_is_not_the_hook_knows_little_of_it() {
        const HOOKSD: [&str; 1] = ["hooksd"];
        const WRAPPER: [&str; 12] = [
            "wrapper",
            "hooksd",
            "bundle",
            "command",
            "decide",
            "facts",
            "gather",
            "oci",
            "plan",
            "precreate",
            "report",
            "sys",
        ];
        let uses = uses();
        for (path, own, other) in &uses {
            let is_allowed = match own.as_str() {
                "hooksd" => HOOKSD.contains(&other.as_str()),
                "wrapper" => WRAPPER.contains(&other.as_str()),
                _ => true,
            };
            assert!(is_allowed, "{} uses {other}", path.display());
        }
        assert!(uses.iter().any(|(_, own, other)| own == "wrapper" && other == "bundle"));
    }
}
