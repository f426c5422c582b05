// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How SELinux confines the container, selinux(8).

use crate::kernel::selinux::Label;

/// How the container's mount label can be applied to what the hook creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labeling {
    /// To a whole mount, with the mount option `context=`.
    ByMount,
    /// To each file separately, because `context=` can't or must not be used, for this reason.
    ByFile(String),
    /// The label can't be applied, for this reason.
    Refused(String),
}

/// Whether the container's processes may write files with the mount label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// The processes may write these files.
    Writable,
    /// The processes may not, but could if the files had the level of the processes.
    OtherLevel,
    /// The processes may not write files of this type, whatever the level.
    OtherType,
}

/// The label of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLabel {
    pub label: Label,
    /// Whether the container's processes may manage the cgroup with this label. `None` if the policy can't be queried.
    pub manageable: Option<bool>,
    /// Whether the container's processes could manage the cgroup if it had the mount label, and the policy permits
    /// that label on a cgroup. `None` if the policy can't be queried, or if there is no mount label.
    pub manageable_if_labeled: Option<bool>,
    /// The policy boolean that would permit it, if the policy has such a boolean and it is off.
    pub boolean: Option<&'static str>,
}

/// What the loaded policy and config.json say about the container.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// Whether violations of the policy are denied, and not only logged. `None` if this process may not know.
    pub enforcing: Option<bool>,
    /// `process.selinuxLabel` of config.json, if it isn't empty.
    pub process: Option<Label>,
    /// `linux.mountLabel`, and how it can be applied.
    pub mount: Option<(Label, Labeling)>,
    /// Whether the policy lets the container's processes write files with the mount label. `None` if unknown.
    pub files: Option<Files>,
    /// The label of the container's cgroup, if it could be read.
    pub cgroup: Option<CgroupLabel>,
    /// The capabilities that config.json grants and systemd's own services need, but the policy denies.
    pub denied_capabilities: Vec<&'static str>,
    /// The policy boolean that would permit these capabilities, if the policy has such a boolean and it is off.
    pub capability_boolean: Option<&'static str>,
}

/// Whether and how SELinux confines the container.
#[derive(Debug, Clone)]
pub enum Selinux {
    /// SELinux is off: there is no selinuxfs, or it is read-only.
    Off {
        /// Whether config.json has a mount label nevertheless.
        has_label: bool,
    },
    /// The program was built without SELinux support, although the kernel has it.
    NotBuilt,
    /// SELinux is on, and confines the container in this way.
    On(Box<Confinement>),
}

impl Selinux {
    /// Returns the label for what the hook creates.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.given(|labeling| !matches!(labeling, Labeling::Refused(_)))
    }

    /// Returns the label for whole mounts.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.given(|labeling| *labeling == Labeling::ByMount)
    }

    /// Returns the new label for the container's cgroup. Returns `None` unless the container's processes may not
    /// manage the cgroup with its present label, but could with the mount label.
    #[must_use]
    pub fn cgroup_label(&self) -> Option<&str> {
        let Self::On(confinement) = self else { return None };
        let cgroup = confinement.cgroup.as_ref()?;
        let helps = (cgroup.manageable, cgroup.manageable_if_labeled) == (Some(false), Some(true));
        self.label().filter(|_| helps)
    }

    fn given(&self, how: impl Fn(&Labeling) -> bool) -> Option<&str> {
        match self {
            Self::On(confinement) => {
                confinement.mount.as_ref().filter(|(_, labeling)| how(labeling)).map(|(label, _)| label.text.as_str())
            }
            Self::Off { .. } | Self::NotBuilt => None,
        }
    }
}
