// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel tests: the real hook on real mounts and files, in private namespaces, without a runtime.
//!
//! The tests need no privileges, only a user namespace. If they are started as root, they run a second time in the
//! initial user namespace, as under rootful engines; the program starts itself with `OCI_SYSTEMD_HOOK_REALM` for
//! that. `OCI_SYSTEMD_HOOK` is the path of a hook to test instead of the one that cargo built.
//! `OCI_SYSTEMD_HOOK_TRIALS` is a list of words, one of which a trial's name must contain. If the machine lacks
//! something that a trial needs, the trial fails if `CI` is set and is skipped otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[macro_use]
#[path = "../harness/mod.rs"]
mod harness;

mod bounds;
mod bundle;
mod cgroups;
mod copy_up;
mod decision;
mod faults;
mod footprint;
mod fuse;
mod hook;
mod hostile;
mod input;
mod kernel_files;
mod lasting;
mod late;
mod loader;
mod memory;
mod namespace;
mod opened;
mod plain;
mod race;
mod records;
mod rights;
mod runtime;
mod stage;
mod submounts;
mod swapped;
mod table;
mod undo;
mod volumes;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};

use libtest_mimic::{Arguments, Failed};
use rustix::fs::FileType;

use crate::harness::scratch::Scratch;
use crate::harness::{Check, List, all};
use crate::namespace::Realm;

type Run = fn(Realm) -> Check;

/// The environment variable that is set if this program runs the trials of the initial user namespace.
const REALM: &str = "OCI_SYSTEMD_HOOK_REALM";

const TRIALS: &[(&str, Run)] = &[
    ("plain", plain::whole),
    ("plain/choices", plain::choices),
    ("copy-up", copy_up::everything),
    ("copy-up/links-to-the-host", copy_up::links_to_the_host),
    ("copy-up/devices", copy_up::devices),
    ("plain/read-only-root", plain::read_only_root),
    ("cgroups/changed", cgroups::are_the_same),
    ("cgroups/removed-in-time", cgroups::removed_in_time),
    ("cgroups/owner-again", cgroups::owner_again),
    ("cgroups/come-and-go", cgroups::come_and_go),
    ("cgroups/hidden-processes", cgroups::of_hidden_processes),
    ("cgroups/volumes", cgroups::of_volumes),
    ("memory-limit", memory::of_the_cgroup),
    ("memory/charged", memory::is_charged_to_the_container),
    ("memory/half", memory::is_half_of_the_limit),
    ("memory/free", memory::is_what_is_free),
    ("memory/run", memory::is_needed_for_run),
    ("create-runtime", runtime::does_the_whole_job),
    ("create-runtime/create-container-follows", runtime::leaves_it_to_create_container),
    ("create-runtime/given-up", runtime::given_up),
    ("create-runtime/root-is-not-kept", runtime::root_is_not_kept),
    ("stage/bad-states", stage::bad_states),
    ("stage/with-runtime", stage::with_runtime),
    ("stage/with-process-1", stage::with_process_1),
    ("stage/no-root", stage::no_root),
    ("stage/inside", stage::inside),
    ("stage/hidden-runtime", stage::hidden_runtime),
    ("stage/hosts-ids", stage::hosts_ids),
    ("stage/hosts-ids-and-cgroup", stage::hosts_ids_and_cgroup),
    ("rights/to-mount", rights::to_mount),
    ("rights/in-another-user-namespace", rights::in_another_user_namespace),
    ("rights/to-copy", rights::to_copy),
    ("submounts", submounts::are_kept),
    ("submounts/of-the-user", submounts::of_the_users_are_left_alone),
    ("submounts/volume-on-run", submounts::volume_on_run),
    ("volumes/stay-as-they-are", volumes::stay_as_they_are),
    ("second-run", submounts::second_run),
    ("propagation/peers", submounts::peers),
    ("propagation/root-on-a-shared-mount", submounts::root_on_a_shared_mount),
    ("hostile/init", hostile::init),
    ("hostile/init-inside", hostile::init_inside),
    ("hostile/up-behind-a-name", hostile::up_behind_a_name),
    ("kernel-files", kernel_files::none_is_read),
    ("kernel-files/directories", kernel_files::no_directory_is_listed),
    ("kernel-files/memory-limit", kernel_files::no_memory_limit),
    ("kernel-files/volumes", kernel_files::volumes),
    ("loader", loader::listened),
    ("late/root", late::root),
    ("late/volume", late::volume),
    ("late/poststop", late::poststop),
    ("late/lock", late::lock),
    ("late/lock-of-a-stuck-call", late::lock_of_a_stuck_call),
    ("late/runtime", late::runtime),
    ("late/in-time", late::in_time),
    ("late/slow", late::slow),
    ("late/full-stderr", late::full_stderr),
    ("input/states", input::states),
    ("input/configs", input::configs),
    ("input/tolerated", input::tolerated),
    ("footprint/of-each", footprint::of_each),
    ("footprint/of-all-at-once", footprint::of_all_at_once),
    ("footprint/is-a-limit", footprint::is_a_limit),
    ("lasting", lasting::is_taken_back),
    ("lasting/with-what-is-above", lasting::is_taken_back_with_what_is_above),
    ("lasting/and-nothing-else", lasting::and_nothing_else),
    ("lasting/too-many-are-missing", lasting::too_many_are_missing),
    ("lasting/when-things-are-gone", lasting::when_things_are_gone),
    ("lasting/spoilt-record", lasting::of_a_spoilt_record),
    ("lasting/stays-in-the-root", lasting::stays_in_the_root),
    ("lasting/nothing", lasting::of_nothing),
    ("lasting/needs-a-place", lasting::needs_a_place),
    ("lasting/one-container-only", lasting::of_one_container_only),
    ("records/one-id", records::one_id),
    ("records/one-root", records::one_root),
    ("records/one-root-with-chroot", records::one_root_with_chroot),
    ("records/many-of-one-id", records::many_of_one_id),
    ("records/first-thread-ended", records::first_thread_ended),
    ("records/endless-table", records::endless_table),
    ("records/rebuilt-root", records::rebuilt),
    ("records/another-ones", records::stays_another_ones),
    ("records/without-bundle", records::without_bundle),
    ("records/while-it-runs", records::while_it_runs),
    ("records/by-another-path", records::by_another_path),
    ("records/previous-release", records::of_the_previous_release),
    ("records/of-the-dead", records::of_the_dead),
    ("records/of-many-dead", records::of_many_dead),
    ("records/of-a-zombie", records::of_a_zombie),
    ("records/where-processes-are-hidden", records::where_processes_are_hidden),
    ("records/another-namespace", records::of_another_namespace),
    ("records/another-boot", records::of_another_boot),
    ("records/locked-root", records::locked_root),
    ("records/root-locked-for-removing", records::root_locked_for_removing),
    ("records/out-of-reach", records::out_of_reach),
    ("records/without-birth-time", records::without_birth_time),
    ("records/overlay", records::on_an_overlay),
    ("records/forged-engine", records::forged_engine),
    ("records/private", records::are_private),
    ("decision", decision::all),
    ("decision/nothing-is-opened", decision::nothing_is_opened),
    ("decision/while-others-mount", decision::while_others_mount),
    ("undo", undo::everything),
    ("undo/shared-root", undo::shared_root),
    ("undo/best-effort", undo::best_effort),
    ("race/poststop", race::poststop),
    ("race/a-new-directory", race::new_directory),
    ("bounds/too-much", bounds::too_much),
    ("bounds/much", bounds::much),
    ("bounds/holes", bounds::holes),
    ("bounds/in-all", bounds::in_all),
    ("bounds/attributes", bounds::attributes),
];

/// The trials that need strace, the longest first.
const FAULTS: &[(&str, Run)] = &[
    ("faults/with-cgroup", faults::with_cgroup),
    ("faults/create-container", faults::create_container_fails),
    ("faults/create-runtime", faults::create_runtime_fails),
    ("faults/create-container/killed", faults::create_container_is_killed),
    ("faults/create-runtime/killed", faults::create_runtime_is_killed),
    ("faults/poststop", faults::poststop),
    ("records/one-root-failed", records::one_root_failed),
    ("faults/another-command", faults::another_command),
    ("faults/older-kernel", faults::older_kernel),
    ("faults/who-copies-is-killed", memory::who_copies_is_killed),
    ("faults/nobody-can-copy", memory::nobody_can_copy),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let scratch = Scratch::new("oci-systemd-hook-kernel.", &std::env::temp_dir()).unwrap();
    set_up(&scratch.path().canonicalize().unwrap());
    let mut trials = List::default();
    let mut passed = true;
    let realm = if std::env::var_os(REALM).is_some() { Realm::Initial } else { Realm::User };
    if realm == Realm::Initial {
        list(&mut trials, Realm::Initial, &namespace::enter_initial());
    } else {
        match namespace::missing_for_initial() {
            None => passed = run_again(),
            Some(why) => list(&mut trials, Realm::Initial, &Err(why)),
        }
        list(&mut trials, Realm::User, &namespace::enter_user());
    }
    if let Ok(words) = std::env::var("OCI_SYSTEMD_HOOK_TRIALS") {
        trials.retain(|name| words.split(' ').any(|word| name.contains(word)));
    }
    let conclusion = trials.run(&arguments);
    let [cases, calls, swaps] =
        [&hostile::TRIED, &race::CALLS, &race::SWAPS].map(|count| count.load(Ordering::Relaxed));
    if cases + calls > 0 {
        println!("{}: hostile: {cases} cases, and {calls} calls during {swaps} swaps", realm.name());
    }
    faults::print_counts(realm);
    drop(scratch);
    if passed { conclusion.exit_code() } else { ExitCode::FAILURE }
}

/// Creates the files that trials expect in the scratch directory. Some of them can't be created in a user namespace.
fn set_up(scratch: &Path) {
    std::fs::create_dir(scratch.join("trial")).unwrap();
    if namespace::missing_for_initial().is_none() {
        let run = scratch.join("devices/run");
        std::fs::create_dir_all(run.join("deep")).unwrap();
        copy_up::node(&run.join("null"), FileType::CharacterDevice, 0o666, rustix::fs::makedev(1, 3));
        std::fs::hard_link(run.join("null"), run.join("deep/null")).unwrap();
    }
    bundle::BASE.set(scratch.join("trial")).unwrap();
    bundle::SCRATCH.set(scratch.to_owned()).unwrap();
}

/// Runs the trials of the initial user namespace, which this process is about to leave.
fn run_again() -> bool {
    let own = std::env::current_exe().unwrap();
    Command::new(own).args(std::env::args_os().skip(1)).env(REALM, "initial").status().unwrap().success()
}

/// A trial's name and its function.
type Named = (String, Box<dyn FnOnce(Realm) -> Check + Send>);

fn list(trials: &mut List, realm: Realm, entered: &Check) {
    let named = |(name, check): &(&str, Run)| -> Named { ((*name).to_owned(), Box::new(*check)) };
    let traced = entered.clone().and_then(|()| faults::missing().map_or(Ok(()), Err));
    let mut all: Vec<Named> = TRIALS.iter().map(named).collect();
    for path in hostile::PATHS {
        let name = format!("hostile/{path} ({} cases)", hostile::count(realm));
        all.push((name, Box::new(move |realm| hostile::path(realm, path))));
    }
    for pair in race::PAIRS {
        if realm == Realm::Initial || !matches!(pair.1, race::Other::Devices) {
            all.push((race::name(pair), Box::new(move |realm| race::pair(realm, pair))));
        }
    }
    let mut swaps: Vec<Named> = vec![
        ("swapped/others-cgroups".to_owned(), Box::new(swapped::others_cgroups)),
        ("swapped/a-new-directory".to_owned(), Box::new(swapped::new_directory)),
    ];
    for path in swapped::PATHS {
        for way in [swapped::Way::CreateContainer, swapped::Way::CreateRuntime] {
            let run = Box::new(move |realm| swapped::path(realm, path, way));
            swaps.push((format!("swapped/{path} at {way:?}"), run));
        }
    }
    push(trials, realm, &traced, swaps);
    push(trials, realm, &traced, FAULTS.iter().map(named).collect());
    push(trials, realm, entered, all);
}

/// Runs a trial in parallel with others, or alone if it changes the result of the hook's calls in other trials.
fn in_turn<T>(name: &str, run: impl FnOnce() -> T) -> T {
    const ALONE: [&str; 1] = ["records/endless-table"];
    static TURN: RwLock<()> = RwLock::new(());
    if ALONE.contains(&name) {
        let _turn = TURN.write().unwrap_or_else(PoisonError::into_inner);
        run()
    } else {
        let _turn = TURN.read().unwrap_or_else(PoisonError::into_inner);
        run()
    }
}

fn push(trials: &mut List, realm: Realm, possible: &Check, all: Vec<Named>) {
    for (name, check) in all {
        let full_name = format!("{}/{name}", realm.name());
        let run = move || in_turn(&name, || check(realm).map_err(Failed::from));
        trials.push(full_name, possible.clone().err(), run);
    }
}
