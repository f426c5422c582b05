// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What SELinux makes of the container, selinux(8).

use crate::kernel::selinux::Label;

/// How the container's mount label can be given to what the hook makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labelling {
    /// To a whole mount by its option `context=`.
    ByMount,
    /// That can't be, or shall not, for this reason: to each file on its own.
    ByFile(String),
    /// Not at all, for this reason.
    Refused(String),
}

/// Whether the container's processes may write files with the mount label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They may.
    Writable,
    /// They might if both had one level.
    OtherLevel,
    /// Not of that type.
    OtherType,
}

/// The label of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLabel {
    /// What it is.
    pub label: Label,
    /// Whether the container's processes may manage it so; none: the policy can't be asked.
    pub manageable: Option<bool>,
    /// Whether they might if it had the mount label, and a cgroup may have that one.
    pub manageable_if_labelled: Option<bool>,
    /// The boolean that would allow it, if the policy has one and it is off.
    pub boolean: Option<&'static str>,
}

/// What the loaded policy and config.json say.
#[derive(Debug, Clone)]
pub struct Confinement {
    /// Whether the policy denies, or only logs; none: this process may not know.
    pub enforcing: Option<bool>,
    /// `process.selinuxLabel`.
    pub process: Option<Label>,
    /// `linux.mountLabel`, and how it can be given.
    pub mount: Option<(Label, Labelling)>,
    /// What the policy says of files with the mount label; none: unknown.
    pub files: Option<Files>,
    /// The container's cgroup, where its label could be read.
    pub cgroup: Option<CgroupLabel>,
    /// Of the capabilities that config.json grants and systemd's own services need, those that the
    /// policy denies.
    pub denied_capabilities: Vec<&'static str>,
    /// The boolean that would allow these, if the policy has one and it is off.
    pub capability_boolean: Option<&'static str>,
}

/// What SELinux makes of the container.
#[derive(Debug, Clone)]
pub enum Selinux {
    /// Nothing: there is no selinuxfs, or one that is read-only.
    Off {
        /// Whether config.json has a mount label all the same.
        has_label: bool,
    },
    /// The kernel would, but this program was built without.
    NotBuilt,
    /// This.
    On(Box<Confinement>),
}

impl Selinux {
    /// The label for what the hook makes.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.given(|labelling| !matches!(labelling, Labelling::Refused(_)))
    }

    /// The label for whole mounts.
    #[must_use]
    pub fn context(&self) -> Option<&str> {
        self.given(|labelling| *labelling == Labelling::ByMount)
    }

    /// What the container's cgroup shall be labelled as: where its processes may not manage it as
    /// it is, and might then.
    #[must_use]
    pub fn cgroup_label(&self) -> Option<&str> {
        let Self::On(confinement) = self else { return None };
        let cgroup = confinement.cgroup.as_ref()?;
        let helps = (cgroup.manageable, cgroup.manageable_if_labelled) == (Some(false), Some(true));
        self.label().filter(|_| helps)
    }

    fn given(&self, how: impl Fn(&Labelling) -> bool) -> Option<&str> {
        match self {
            Self::On(confinement) => {
                confinement.mount.as_ref().filter(|(_, labelling)| how(labelling)).map(|(label, _)| label.text.as_str())
            }
            Self::Off { .. } | Self::NotBuilt => None,
        }
    }
}
