// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The capabilities that systemd's stock units need, and what fails without each of them.

use crate::systemd::Version;

/// A capability that stock units need, and what was observed without it on Debian 11, 12, 13 and sid under runc,
/// with the other of the 14 capabilities that Docker grants.
#[derive(Debug)]
pub struct Needed {
    pub capability: &'static str,
    /// The first release of systemd that needs the capability. `None` if all releases need it.
    pub since: Option<Version>,
    /// The units that fail, by their names on Debian, and also on Fedora if they differ.
    pub units: &'static [&'static str],
    pub effect: &'static str,
    /// The setting with which the units work without the capability, if there is one.
    pub drop_in: Option<&'static str>,
}

/// Units that run as a user other than root.
const NON_ROOT_UNITS: [&str; 5] =
    ["dbus.service", "polkit.service", "systemd-resolved.service", "avahi-daemon.service", "man-db.service"];

/// All capabilities that stock units need. Of Docker's 14, no unit missed AUDIT_WRITE, MKNOD and FSETID, and
/// only ping missed NET_RAW.
pub const NEEDED: [Needed; 11] = [
    Needed {
        capability: "CAP_SETUID",
        since: None,
        units: &NON_ROOT_UNITS,
        effect: "logins and services with User= fail",
        drop_in: None,
    },
    Needed {
        capability: "CAP_SETGID",
        since: None,
        units: &NON_ROOT_UNITS,
        effect: "logins and services with User= fail",
        drop_in: None,
    },
    Needed {
        capability: "CAP_SETPCAP",
        since: None,
        units: &["systemd-journald.service", "systemd-logind.service", "systemd-resolved.service", "logrotate.service"],
        effect: "services with CapabilityBoundingSet= fail",
        drop_in: None,
    },
    Needed {
        capability: "CAP_CHOWN",
        since: None,
        units: &["user-runtime-dir@.service", "systemd-resolved.service", "nginx.service", "avahi-daemon.service"],
        effect: "services with User= and RuntimeDirectory= fail",
        drop_in: None,
    },
    Needed {
        capability: "CAP_FOWNER",
        since: None,
        units: &["user-runtime-dir@.service", "systemd-resolved.service"],
        effect: "services with User= and RuntimeDirectory= fail",
        drop_in: None,
    },
    Needed {
        capability: "CAP_DAC_OVERRIDE",
        since: None,
        units: &["nginx.service"],
        effect: "root can't read other users' files, such as ssh's authorized_keys",
        drop_in: None,
    },
    Needed {
        capability: "CAP_NET_BIND_SERVICE",
        since: None,
        units: &["ssh.service", "sshd.service", "nginx.service"],
        effect: "no service can listen on a port below 1024",
        drop_in: None,
    },
    Needed {
        capability: "CAP_SYS_CHROOT",
        since: None,
        units: &["ssh.service", "sshd.service", "avahi-daemon.service"],
        effect: "logins through ssh fail",
        drop_in: None,
    },
    Needed {
        capability: "CAP_SETFCAP",
        since: None,
        units: &["redis-server.service"],
        effect: "services with PrivateUsers= fail",
        drop_in: None,
    },
    Needed {
        capability: "CAP_KILL",
        since: None,
        units: &[],
        effect: "systemd can't stop services with User=",
        drop_in: None,
    },
    // The units fail with 217/USER: https://github.com/systemd/systemd/issues/29860
    Needed {
        capability: "CAP_SYS_ADMIN",
        since: Some(Version(255)),
        units: &["polkit.service", "systemd-resolved.service", "man-db.service"],
        effect: "services with User= and SystemCallFilter= or a similar option fail",
        drop_in: Some("PrivateUsers=yes"),
    },
];
