// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this process may do to the container. For what the container's own processes may do, see [`super::privileges`].

use caps::Capability;

/// What this process may do to the container.
#[derive(Debug, Clone)]
pub struct Rights {
    /// Whether its capabilities count in the user namespace that owns the container's mount namespace: that is its own
    /// or one below (user_namespaces(7)).
    pub over_mounts: bool,
    pub user_namespaces: UserNamespaces,
    /// Of [`Rights::USED`], what it hasn't.
    pub lacking: Vec<Capability>,
}

impl Rights {
    /// What steps of a plan may need.
    pub const USED: [Capability; 5] = [
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_MKNOD,
    ];

    /// Those of root, where the container's own user namespace doesn't take one away.
    #[must_use]
    pub fn of_root(user_namespaces: UserNamespaces) -> Self {
        Self { over_mounts: true, user_namespaces, lacking: Vec::new() }
    }

    /// Whether it has one of [`Rights::USED`].
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        !self.lacking.contains(&capability)
    }

    /// Whether it may mount for the container.
    #[must_use]
    pub fn may_mount(&self) -> bool {
        self.over_mounts && self.has(Capability::CAP_SYS_ADMIN)
    }

    /// Whether it may make device nodes, for which CAP_MKNOD has no effect in a user namespace.
    #[must_use]
    pub fn may_make_devices(&self) -> bool {
        !self.user_namespaces.any() && self.has(Capability::CAP_MKNOD)
    }
}

/// Who is in a user namespace other than the host's, user_namespaces(7).
#[derive(Debug, Clone, Copy)]
pub struct UserNamespaces {
    /// Whether this process is. At createContainer it is in the container's own, if there is one.
    pub hook: bool,
    /// Whether the container has, or joins, one that config.json names.
    pub container: bool,
}

impl UserNamespaces {
    /// Whether this process or the container is in one. On what was mounted in the container's own, this process may have
    /// to act as the container's root.
    #[must_use]
    pub fn any(self) -> bool {
        self.hook || self.container
    }

    /// Whether the engine is in one: the container has none of its own that this process could have entered.
    #[must_use]
    pub fn is_rootless(self) -> bool {
        self.hook && !self.container
    }
}
