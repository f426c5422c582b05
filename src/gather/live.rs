// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Gathers facts about a container that is being created, from inside its mount namespace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::cgroups::{self, Evidence};
use super::error::NamespaceHolder;
use super::follow_up::{follow_up, lists_this_hook};
use super::interpret::{self, interpret};
use super::mounted::{Mounted, mounted};
use super::occupants::{self, Family};
use super::proc;
use super::readings::{CgroupFiles, CgroupPlace, Host, Readings};
use super::selinux::{self, selinux};
use super::stage;
use super::{AnnotationFacts, GatherError, annotation_facts, conmon, open_root, places, user_namespaces};
use crate::bundle::Bundle;
use crate::facts::options::Policy;
use crate::facts::{CgroupCreation, Engine, Found, Image, Rights, Stage, Surroundings};
use crate::identity::MachineId;
use crate::interface;
use crate::kernel::cgroup::CgroupFile;
use crate::kernel::memory;
use crate::oci::config::Config;
use crate::oci::state::State;
use crate::path::InnerPath;
use crate::root::{ReadError, Root};
use crate::sys::{Context, SysError, fs, process};
use crate::systemd::Version;

/// The container's root, and open descriptors of the files that were identified in it: an inode number isn't reused
/// while the file is open.
#[derive(Debug)]
pub struct LiveContainer {
    pub root: Root,
    _pins: Vec<OwnedFd>,
    _lock: Option<OwnedFd>,
}

/// How long to wait while other processes remove something from the root. They hold the lock for less time.
const LOCK_PATIENCE: Duration = Duration::from_secs(12);

/// Gathers the facts on which the plan is based. At createRuntime this process enters the container's mount
/// namespace on the way, and stays there. `root` is the root if it was already opened in this process's original
/// mount namespace, and `runtime` the runtime's PID if it is known.
pub fn surroundings(
    bundle: &Bundle<'_>,
    stage: Stage,
    root: Option<Root>,
    policy: &Policy,
    runtime: Option<u32>,
) -> Result<(LiveContainer, Surroundings), GatherError> {
    let (state, config) = (bundle.state, bundle.config_to_prepare()?);
    let AnnotationFacts { options, stop_signal, engine, mount_context } = annotation_facts(bundle, policy)?;
    let host = host(state, config);
    let id_maps;
    let of;
    let (root, mut membership) = match stage {
        // This process sees the container's cgroups and ID maps as its own. `/proc/<state.pid>` isn't the
        // container's: /proc is still the host's.
        Stage::CreateContainer => {
            id_maps = proc::id_maps("self");
            of = NamespaceHolder::Own;
            let text = proc::read("/proc/self/cgroup")?;
            let (inside, container) = (CgroupFile::new(text.clone()), CgroupFile::new(text));
            (root, CgroupFiles { container, inside, runtime: None })
        }
        Stage::CreateRuntime => {
            let pid = stage::pid_of(state, config)?;
            of = NamespaceHolder::Pid(pid);
            id_maps = proc::id_maps(&pid.to_string());
            let membership = proc::cgroups_of(pid)?;
            process::enter_mount_namespace(pid).map_err(|source| GatherError::Enter { pid, source })?;
            (None, membership)
        }
    };
    let root = root.map_or_else(|| open_root(bundle), Ok)?;
    let mut mounted = mounted(&root)?;
    root.record_servers(&mounted.text);
    stage::is_set_up(&root, config, of)?;
    // At worst, as on a file system without locks, a poststop hook of another container removes a mount point.
    let lock = root.lock_for_mounting(LOCK_PATIENCE).ok().flatten();
    let image = image(&root)?;
    mounted.prove_own(config, &image)?;
    let Mounted { text: mountinfo, mounts, number_of, .. } = mounted;
    let own_paths = cgroups::own(&mounts, &membership.inside);
    let (places, pins) = places::identify(&root, &mounts, &image, &own_paths, number_of)?;
    let namespace = cgroups::namespace(config, &membership.inside);
    if membership.runtime.is_none()
        && (Evidence { config, stage, namespace, mounts: &mounts, files: &membership }).asks_for_runtime()
    {
        membership.runtime = proc::cgroup_of_runtime(runtime)?;
    }
    let evidence = Evidence { config, stage, namespace, mounts: &mounts, files: &membership };
    let family = Family::of(config, stage, state.pid);
    let look = |place: CgroupPlace| {
        let look = occupants::look(&root, &family, &place)?;
        Ok((place, look))
    };
    let looks: Result<Vec<_>, GatherError> = evidence.places(&mountinfo, root.path()).into_iter().map(look).collect();
    let own = process::effective_capabilities().map_err(GatherError::Capabilities)?;
    let systemd = systemd(&root)?;
    let readings = Readings {
        stage,
        host,
        places,
        namespace,
        cgroups: looks?,
        memory_limits: memory_limits(&root, &evidence)?,
        follow_up: follow_up(config, stage)?,
        options,
        creation: cgroup_creation(state, config, own, engine, stage)?,
        engine,
        rights: rights(config, own),
        id_maps,
        stop_signal,
        units: units(&root, &interpret::asked_units(config, systemd)),
        image,
        systemd,
        selinux: selinux(
            config,
            |label| selinux::labeling(label, mount_context.as_deref()),
            |at| root.open_directory(&InnerPath::new(at)),
        ),
        mounts,
        membership,
    };
    Ok((LiveContainer { root, _pins: pins, _lock: lock }, interpret(state, config, readings)))
}

/// Reads the limits of the container's memory. A limit that can't be read must not pass for one that doesn't exist,
/// or the container would get more than its limits allow.
fn memory_limits(root: &Root, evidence: &Evidence<'_>) -> Result<Vec<u64>, GatherError> {
    let mut limits = Vec::new();
    for at in evidence.memory_limits() {
        limits.extend(read_inside(root, &at)?.and_then(|text| memory::limit(&text)));
    }
    Ok(limits)
}

/// Determines whether this process can create a sibling of the container's cgroup, which the runtime doesn't remove.
fn cgroup_creation(
    state: &State,
    config: &Config,
    own: CapabilitySet,
    engine: Engine,
    stage: Stage,
) -> Result<CgroupCreation, GatherError> {
    // The annotation proves nothing, but without it the processes needn't be examined.
    let is_podmans = || if engine.calls_poststop_itself() { conmon::calls_podman(state) } else { Ok(false) };
    let user_namespaces = user_namespaces(config);
    Ok(match stage {
        _ if user_namespaces.is_rootless() => CgroupCreation::Rootless,
        Stage::CreateContainer => CgroupCreation::InContainer,
        Stage::CreateRuntime if user_namespaces.hook || !own.contains(CapabilitySet::SYS_ADMIN) => {
            CgroupCreation::Rootless
        }
        Stage::CreateRuntime if lists_this_hook(&config.hooks.poststop)? || is_podmans()? => CgroupCreation::Possible,
        Stage::CreateRuntime => CgroupCreation::NoPoststop,
    })
}

/// Reads the facts about the host that are needed for this container.
pub(super) fn host(state: &State, config: &Config) -> Host {
    let text = |path: &str| fs::read_host_text(path).ok();
    Host {
        memory_bytes: process::host_memory_bytes(),
        // The host's machine ID is read only if it matters: Debian's SELinux policy denies that to a
        // hook called by Docker.
        machine_id: match MachineId::in_name(&state.id) {
            Some(_) => None,
            None => text("/etc/machine-id").and_then(|text| MachineId::parse(text.trim())),
        },
        // If the container's root is the host's and there are no labels, no files have to be delegated.
        delegated: if !config.linux.uid_mappings.is_empty() || config.linux.mount_label.is_some() {
            delegated(&text(interface::DELEGATE).unwrap_or_default())
        } else {
            Vec::new()
        },
        os_release: host_os_release(),
    }
}

pub(super) fn host_os_release() -> Option<String> {
    ["/etc/os-release", "/usr/lib/os-release"].into_iter().find_map(|path| fs::read_host_text(path).ok())
}

/// Finds out what the image has at the paths that a plan may look up.
pub(super) fn image(root: &Root) -> Result<Image, GatherError> {
    let mut image = Image::default();
    for path in interface::PATHS {
        let path = InnerPath::new(path);
        let found = image.infer_missing(&path).map_or_else(|| find(root, &path), Ok)?;
        image.insert(path, found);
    }
    Ok(image)
}

fn find(root: &Root, at: &InnerPath) -> Result<Found, GatherError> {
    root.find(at).map_err(|source| GatherError::Look { at: at.clone(), source })
}

/// Returns the files in the kernel's list, and those that the kernel had before there was such a list.
fn delegated(list: &str) -> Vec<String> {
    let mut names: Vec<String> = interface::DELEGATED.map(str::to_owned).into();
    names.extend(list.lines().filter(|name| !interface::DELEGATED.contains(name)).map(str::to_owned));
    names
}

/// Returns those units of `asked` that the image has, whether they are enabled or not.
pub(super) fn units(root: &Root, asked: &[&'static str]) -> BTreeSet<&'static str> {
    if asked.is_empty() {
        return BTreeSet::new();
    }
    let open = |path| root.open_directory(&InnerPath::new(path)).ok();
    let directories: Vec<OwnedFd> = interface::UNITS.into_iter().filter_map(open).collect();
    // A volume can be a single file. Opening it this way doesn't ask its file server, unlike stat(2).
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW;
    let has = |unit: &&str| directories.iter().any(|at| fs::open_at(at.as_fd(), OsStr::new(unit), flags).is_ok());
    asked.iter().copied().filter(has).collect()
}

/// Determines the version of the image's systemd.
pub(super) fn systemd(root: &Root) -> Result<Option<Version>, GatherError> {
    /// The maximum number of bytes to read. Since systemd 231 the program is small; the largest one before that
    /// has some 2 MB.
    const LIMIT_BYTES: u64 = 16 * 1024 * 1024;
    for at in programs(root) {
        let at = at?;
        let program = root
            .read_program(&at)
            .and_then(|file| Ok(Version::in_program(file.take(LIMIT_BYTES)).call(|| format!("read(\"{at}\")"))?));
        match program {
            Ok(Some(version)) => return Ok(Some(version)),
            Err(error) if error.is_of_the_file() => {
                log::debug!("cannot determine the version of the image's systemd: {error}");
            }
            result => drop(result.map_err(|source| GatherError::ReadInRoot { at, source })?),
        }
    }
    Ok(None)
}

/// Finds the systemd programs in the image. If /lib is a link to /usr/lib, both paths lead to the same file,
/// which is returned once.
pub(super) fn programs(root: &Root) -> impl Iterator<Item = Result<InnerPath, GatherError>> {
    let mut last = None;
    interface::SYSTEMD.into_iter().filter_map(move |path| match find(root, &InnerPath::new(path)) {
        Ok(Found::File(at)) if last.as_ref() == Some(&at) => None,
        Ok(Found::File(at)) => {
            last = Some(at.clone());
            Some(Ok(at))
        }
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

fn rights(config: &Config, own: CapabilitySet) -> Rights {
    Rights {
        over_mounts: process::has_capabilities_over_mounts(),
        user_namespaces: user_namespaces(config),
        lacking: Rights::USED.into_iter().filter(|used| !own.bits() & used.bitmask() != 0).collect(),
    }
}

/// Reads a small cgroup file inside the root. Returns `None` if it doesn't exist.
fn read_inside(root: &Root, at: &InnerPath) -> Result<Option<String>, GatherError> {
    const LIMIT_BYTES: u64 = 64 * 1024;
    let text = root.read_cgroup(at).and_then(|file| Ok(fs::read_up_to(file, LIMIT_BYTES)?));
    let text = match text {
        Err(ReadError::Sys(error)) => if_there(Err(error), at)?,
        result => result.map_err(|source| GatherError::ReadInRoot { at: at.clone(), source })?,
    };
    Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

fn if_there<T>(result: Result<T, SysError>, at: &InnerPath) -> Result<Option<T>, GatherError> {
    match result {
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS)) => {
            Ok(None)
        }
        result => result.map(Some).map_err(|source| GatherError::Look { at: at.clone(), source }),
    }
}
