// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tests of what contrib/install.sh installs. A single invalid descriptor keeps CRI-O from starting and fails every
//! podman container, so each descriptor is checked as the engines check it.
//!
//! OCI_SYSTEMD_HOOK_STAGE is the DESTDIR of an installation; contrib/check.sh creates one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use oci_systemd_hook::hooksd::{self, Descriptor, HookSet, HookStage, MatchedContainer};
use serde_json::Value;

mod files;

fn stage() -> Option<PathBuf> {
    let stage = std::env::var_os("OCI_SYSTEMD_HOOK_STAGE").map(PathBuf::from);
    if stage.is_none() {
        assert!(std::env::var_os("CI").is_none(), "OCI_SYSTEMD_HOOK_STAGE is not set");
        println!("skipped: OCI_SYSTEMD_HOOK_STAGE is not set; contrib/check.sh sets it");
    }
    stage
}

/// Returns what the engines would read from the installed descriptors if `stage` were the host's root. Reads copies
/// of the descriptors, in which the hook's path is where it is installed now.
fn hooks(stage: &Path, extension_stages: &[&str]) -> HookSet {
    hooks_in(&stage.join("usr/share/containers/oci/hooks.d"), stage, extension_stages)
}

fn hooks_in(directory: &Path, stage: &Path, extension_stages: &[&str]) -> HookSet {
    let copies = tempfile::tempdir().unwrap();
    let libexec = stage.join("usr/libexec");
    for entry in std::fs::read_dir(directory).expect("the descriptors") {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("\"/usr/libexec/", &format!("\"{}/", libexec.display()));
        std::fs::write(copies.path().join(path.file_name().unwrap()), text).unwrap();
    }
    let hooks = hooksd::read(&[copies.path().to_owned()], extension_stages);
    // Nothing else is installed in the directory, not even files that the engines ignore.
    assert!(hooks.problems.is_empty(), "{:?}", hooks.problems);
    hooks
}

fn names(descriptors: &[&Descriptor]) -> Vec<String> {
    descriptors.iter().map(|each| each.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

const ANNOTATION: &str = "oci-systemd-hook-annotation.json";
/// The file name of the old hook's descriptor, so that either package replaces the other.
const COMMANDS: &str = "oci-systemd-hook.json";

#[test]
fn the_descriptors_are_what_the_engines_accept() {
    let Some(stage) = stage() else { return };
    // Every engine has the specification's stages. `precreate` exists only in podman and keeps CRI-O from starting.
    let hooks = hooks(&stage, &[]);
    assert_eq!(names(&hooks.descriptors.iter().collect::<Vec<_>>()), [ANNOTATION, COMMANDS]);
    for Descriptor { path, hook, stages, .. } in &hooks.descriptors {
        assert_eq!(stages, &[HookStage::CreateRuntime, HookStage::Poststop], "{path:?}");
        assert_eq!(hook.path, stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook"), "{path:?}");
        // The hook needs no arguments, and exits by itself before a runtime kills it.
        assert_eq!((hook.args.as_slice(), hook.timeout), (&[][..], Some(60)), "{path:?}");
        assert_eq!(hook.env, ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "{path:?}");
        let mode = std::fs::metadata(&hook.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{path:?}");
    }
}

/// These are installed with PRECREATE=yes, in a directory that only podman is configured to read.
#[test]
fn the_descriptors_for_precreate_have_a_directory_of_their_own() {
    let Some(stage) = stage() else { return };
    let hooks = hooks_in(&stage.join("usr/share/oci-systemd-hook/precreate.d"), &stage, &["precreate", "poststop"]);
    let names = names(&hooks.descriptors.iter().collect::<Vec<_>>());
    assert_eq!(names, ["oci-systemd-hook-precreate-annotation.json", "oci-systemd-hook-precreate.json"]);
    for Descriptor { path, hook, extension_stages, .. } in &hooks.descriptors {
        assert_eq!(hook.path, stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook"), "{path:?}");
        assert_eq!(extension_stages, &["precreate"], "{path:?}");
        assert_eq!(hook.timeout, Some(60), "{path:?}");
        assert_eq!(hook.env, ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "{path:?}");
    }
}

/// podman runs poststop hooks itself.
#[test]
fn podman_takes_poststop_for_itself() {
    let Some(stage) = stage() else { return };
    for Descriptor { path, stages, extension_stages, .. } in hooks(&stage, &["precreate", "poststop"]).descriptors {
        assert_eq!(stages, [HookStage::CreateRuntime], "{path:?}");
        assert_eq!(extension_stages, ["poststop"], "{path:?}");
    }
}

/// In version 1.0.0 conditions are ANDed, so one descriptor with both commands and the annotation would require both.
/// The commands and annotations themselves are tested in tests/hooksd.
#[test]
fn one_descriptor_matches_commands_and_one_the_annotation() {
    let Some(stage) = stage() else { return };
    let hooks = hooks(&stage, &[]);
    for (command, switch, expected) in [
        ("/sbin/init", "unset", &[COMMANDS][..]),
        ("/bin/sh", "enabled", &[ANNOTATION]),
        ("/sbin/init", "enabled", &[ANNOTATION, COMMANDS]),
        ("/bin/sh", "disabled", &[]),
    ] {
        let annotations = BTreeMap::from([("oci-systemd-hook".to_owned(), switch.to_owned())]);
        let args = [command.to_owned()];
        let subject = MatchedContainer { args: Some(&args), annotations: &annotations, has_bind_mounts: false };
        assert_eq!(names(&hooks.matching(&subject).unwrap()), expected, "{command} {switch}");
    }
}

#[test]
fn the_fragment_for_runc_names_the_installed_hook() {
    let json: Value = serde_json::from_str(include_str!("../contrib/runc-hooks.json")).unwrap();
    for stage in ["createRuntime", "poststop"] {
        assert_eq!(json["hooks"][stage][0]["path"], "/usr/libexec/oci/hooks.d/oci-systemd-hook", "{stage}");
    }
}

/// Runs contrib/install.sh with only this environment.
fn install(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/install.sh");
    let mut command = Command::new(script);
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(std::env::var_os("CARGO_TARGET_DIR").map(|directory| ("CARGO_TARGET_DIR", directory)));
    command.envs(environment.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn all_files(top: &Path) -> Vec<PathBuf> {
    files::below(top, |_| false)
}

fn write_program(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Creates a PATH with only these programs and those that install.sh calls.
fn path_with(programs: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let usual = directory.path().join("usual");
    std::fs::create_dir(&usual).unwrap();
    let tools = [
        "sh", "basename", "cat", "chmod", "cp", "dirname", "find", "grep", "ln", "mkdir", "mktemp", "mv", "rm", "sed",
        "sort", "tr",
    ];
    for tool in tools {
        let found = ["/bin", "/usr/bin"].iter().map(|directory| Path::new(directory).join(tool));
        let found = found.into_iter().find(|path| path.exists()).expect(tool);
        std::os::unix::fs::symlink(found, usual.join(tool)).unwrap();
    }
    for (program, text) in programs {
        write_program(&directory.path().join(program), text);
    }
    let path = ["first", "usual", "last"].map(|name| directory.path().join(name).display().to_string()).join(":");
    (directory, path)
}

const TWO: &[HookStage] = &[HookStage::CreateRuntime, HookStage::Poststop];
const THREE: &[HookStage] = &[HookStage::CreateRuntime, HookStage::CreateContainer, HookStage::Poststop];

#[test]
fn the_stages_are_those_that_each_runtime_found_can_call() {
    if stage().is_none() {
        return;
    }
    let crun = |version: &str| {
        format!("#!/bin/sh\n[ \"$1 $3\" = '--root --version' ] && printf 'crun version {version}\\ncommit: 1.2\\n'\n")
    };
    let runc = "#!/bin/sh\nexit 1\n";
    for (programs, asked, expected, reason) in [
        (vec![], "", TWO, "neither runc nor crun was found"),
        (vec![("first/runc", runc.to_owned())], "", THREE, "each runtime found"),
        (vec![("first/crun", crun("1.27"))], "", THREE, "crun since 1.27"),
        (vec![("first/crun", crun("1.27.1"))], "", THREE, "crun since 1.27"),
        (vec![("first/crun", crun("2.0"))], "", THREE, "crun since 1.27"),
        (vec![("first/crun", crun("1.26.9"))], "", TWO, "first/crun is 1.26.9"),
        (vec![("first/crun", crun("1.8.1")), ("first/runc", runc.to_owned())], "", TWO, "first/crun is 1.8.1"),
        (vec![("first/crun", crun("1.28")), ("last/crun", crun("1.9"))], "", TWO, "last/crun is 1.9"),
        (vec![("first/crun", crun("0.27"))], "", TWO, "first/crun is 0.27"),
        (vec![("first/crun", crun("UNKNOWN"))], "", TWO, "first/crun is UNKNOWN"),
        (vec![("first/crun", runc.to_owned())], "", TWO, "first/crun is of an unknown version"),
        (vec![("first/crun", crun("1.8"))], "createRuntime createContainer poststop", THREE, "set by STAGES"),
        (vec![("first/runc", runc.to_owned())], "createRuntime poststop", TWO, "set by STAGES"),
    ] {
        let programs: Vec<_> = programs.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let (directory, path) = path_with(&programs);
        let to = directory.path().join("to");
        let output = install(&[], &[("DESTDIR", to.to_str().unwrap()), ("PATH", &path), ("STAGES", asked)]);
        let said = text(&output.stdout);
        assert!(output.status.success() && said.contains(reason), "{programs:?}: {output:?}");
        for descriptor in hooks(&to, &[]).descriptors {
            assert_eq!(descriptor.stages, expected, "{programs:?}");
        }
    }
}

#[test]
fn another_prefix_is_all_that_is_written_and_named() {
    if stage().is_none() {
        return;
    }
    let to = tempfile::tempdir().unwrap();
    let environment = [("DESTDIR", to.path().to_str().unwrap()), ("PREFIX", "/opt/osh"), ("PRECREATE", "yes")];
    let output = install(&[], &environment);
    assert!(output.status.success(), "{output:?}");
    let all = all_files(to.path());
    let listed: Vec<PathBuf> =
        text(&output.stdout).lines().filter_map(|line| line.strip_prefix("installed ").map(PathBuf::from)).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    assert_eq!(all, sorted, "what is installed is printed");
    for path in &all {
        assert!(path.starts_with(to.path().join("opt/osh")), "{path:?}");
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        for usual in [
            "/usr/libexec/oci",
            "/usr/bin/oci",
            "/usr/share/oci",
            "/usr/share/doc/oci",
            "/usr/share/containers/oci/hooks.d/oci",
        ] {
            assert!(!text.contains(usual), "{path:?} names {usual}");
        }
    }
    let manual = std::fs::read_to_string(to.path().join("opt/osh/share/man/man1/oci-systemd-hook.1")).unwrap();
    assert!(manual.contains(r#"d", "/opt/osh/share/containers/oci/hooks.d", "/opt/osh/share/oci"#), "{manual}");
    let hook = std::fs::canonicalize(to.path().join("opt/osh/bin/oci-systemd-hook")).unwrap();
    assert_eq!(hook, std::fs::canonicalize(to.path().join("opt/osh/libexec/oci/hooks.d/oci-systemd-hook")).unwrap());
    let output = install(&["--uninstall"], &environment);
    assert!(output.status.success(), "{output:?}");
    assert!(all_files(to.path()).is_empty(), "{:?}", all_files(to.path()));
    for ours in ["libexec/oci", "share/containers/oci", "share/oci-systemd-hook", "share/doc/oci-systemd-hook"] {
        assert!(!to.path().join("opt/osh").join(ours).exists(), "{ours} is left");
    }
}

/// Without DESTDIR the installation is for this machine, so install.sh prints what the machine's engines need. It
/// names only directories that exist, since podman fails with others.
#[test]
fn says_what_engines_need_for_another_prefix() {
    if stage().is_none() {
        return;
    }
    let to = tempfile::tempdir().unwrap();
    let prefix = to.path().to_str().unwrap();
    let (_directory, path) = path_with(&[("first/dockerd", "")]);
    let output = install(&[], &[("PREFIX", prefix), ("PATH", &path), ("PRECREATE", "yes")]);
    let said = text(&output.stdout);
    let usual = "/usr/share/containers/oci/hooks.d";
    let own = format!(r#""{prefix}/share/containers/oci/hooks.d", "{prefix}/share/oci-systemd-hook/precreate.d""#);
    for (engine, expected) in [("podman", own.as_str()), ("CRI-O", "hooks_dir"), ("Docker", "daemon.json")] {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("  {engine}: "))).unwrap_or_default();
        assert!(line.contains(expected), "{engine}: {said}");
        assert_eq!(line.contains(usual), engine != "Docker" && Path::new(usual).is_dir(), "{line}");
    }
    assert!(!said.contains("  containerd: ") && !said.contains("no engine"), "{said}");
}

#[test]
fn links_of_the_installed_documents_lead_somewhere() {
    let Some(stage) = stage() else { return };
    let documents = stage.join("usr/share/doc/oci-systemd-hook");
    let mut count = 0;
    for path in
        all_files(&documents).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "md"))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if link.starts_with("https://") || file.is_empty() {
                continue;
            }
            assert!(documents.join(file).exists(), "{path:?} links to {link}");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} links");
    for name in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        assert!(documents.join(name).is_file(), "{name}");
    }
}

/// The newer of the two builds is installed, and install.sh distinguishes a dynamically linked build
/// from a static one.
#[test]
fn either_build_is_installed() {
    let top = tempfile::tempdir().unwrap();
    let (target, to) = (top.path().join("target"), top.path().join("to"));
    let environment = [("CARGO_TARGET_DIR", target.to_str().unwrap()), ("DESTDIR", to.to_str().unwrap())];
    let output = install(&[], &environment);
    assert_eq!((output.status.code(), to.exists()), (Some(1), false), "{output:?}");
    assert!(text(&output.stderr).contains("yet: run contrib/build.sh"), "{output:?}");
    let build = |directory: &str, version: &str, day: u64| {
        for name in ["oci-systemd-hook", "oci-hooks-runtime"] {
            let path = target.join(directory).join(name);
            write_program(&path, version);
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(day * 86400);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        }
    };
    let dynamic = "0.1.0 (dynamically linked)";
    build("static", "0.1.0", 2);
    for (day, expected) in [(1, "0.1.0"), (3, dynamic)] {
        build("release", dynamic, day);
        let output = install(&[], &environment);
        assert!(output.status.success(), "{output:?}");
        let installed = to.join("usr/libexec/oci/hooks.d/oci-systemd-hook");
        assert_eq!(std::fs::read_to_string(installed).unwrap(), expected);
        let warns = text(&output.stderr).contains("linked dynamically");
        assert_eq!(warns, expected == dynamic, "{output:?}");
    }
}

#[test]
fn what_install_cannot_do_is_one_line_and_changes_nothing() {
    let to = tempfile::tempdir().unwrap();
    let usual = [("DESTDIR", to.path().to_str().unwrap())];
    for (arguments, variable, code, says) in [
        (&["--nonsense"][..], None, 2, "--nonsense"),
        (&["/usr/local"], None, 2, "/usr/local"),
        (&["--build", "--uninstall"], None, 2, "mutually exclusive"),
        (&[], Some(("PRECREATE", "maybe")), 1, "PRECREATE is \"maybe\""),
        (&[], Some(("STAGES", "prestart")), 1, "STAGES is \"prestart\""),
        (&[], Some(("PREFIX", "usr")), 1, "absolute"),
        (&[], Some(("LIBEXECDIR", "/usr/../lib")), 1, ".."),
        (&[], Some(("PREFIX", "/a|b")), 1, "|"),
        (&[], Some(("PREFIX", "/opt/my dir")), 1, "white space"),
    ] {
        let environment: Vec<_> = usual.into_iter().chain(variable).collect();
        let output = install(arguments, &environment);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(code), 1), "{arguments:?} {variable:?}: {said}");
        assert!(said.starts_with("install.sh: ") && said.contains(says) && output.stdout.is_empty(), "{said}");
        assert!(all_files(to.path()).is_empty(), "{:?}", all_files(to.path()));
    }
    let output = install(&["--help"], &usual);
    assert!(output.status.success() && text(&output.stdout).contains("--uninstall"), "{output:?}");
    assert!(all_files(to.path()).is_empty(), "{:?}", all_files(to.path()));
}

/// All users can read what is installed, whatever the umask of the user who ran install.sh.
#[test]
fn everybody_may_read_it() {
    let Some(stage) = stage() else { return };
    for path in all_files(&stage) {
        for (path, needed) in path.ancestors().zip([0o444].into_iter().chain(std::iter::repeat(0o755))) {
            if path == stage {
                break;
            }
            let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & needed, needed, "{path:?} has mode {mode:03o}");
        }
    }
}

#[test]
fn the_binary_runs_without_shared_libraries() {
    let Some(stage) = stage() else { return };
    let binary = stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook");
    // With this variable the dynamic loader lists the libraries instead of starting the program. A static program has
    // no loader, so it starts.
    let output = Command::new(&binary).arg("--version").env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let version = concat!("oci-systemd-hook ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
}

/// By default, libselinux looks for SELinux before main(), which would happen at the start of each hook of each
/// container. libselinux.ld removes that constructor.
#[test]
fn libselinux_does_not_run_for_other_containers() {
    let Some(stage) = stage() else { return };
    let binary = stage.join("usr/libexec/oci/hooks.d/oci-systemd-hook");
    let bundle = tempfile::tempdir().unwrap();
    std::fs::write(bundle.path().join("config.json"), r#"{"process":{"args":["/bin/true"]}}"#).unwrap();
    let state = serde_json::json!({ "id": "c", "status": "creating", "pid": 1, "bundle": bundle.path() });
    std::fs::write(bundle.path().join("state"), state.to_string()).unwrap();
    let output = Command::new("strace")
        .arg(&binary)
        .stdin(std::fs::File::open(bundle.path().join("state")).unwrap())
        .output()
        .expect("strace");
    let calls = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && calls.contains("config.json"), "{calls}");
    for looked_at in ["\"/sys/fs/selinux", "\"/selinux", "\"/etc/selinux", "\"/proc/filesystems"] {
        assert!(!calls.contains(looked_at), "{looked_at}: {calls}");
    }
    // The binary is not just a build without SELinux.
    let section = b"libselinux_init\0";
    assert!(std::fs::read(&binary).unwrap().windows(section.len()).any(|bytes| bytes == section));
}
