# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Sourced by build.sh, check.sh and demo.sh. Finds Rust, and fails if it is older than Cargo.toml's rust-version.
# Defines packages, and sets host_triple. The caller must have defined stop.

# packages DEBIAN FEDORA OPENSUSE ARCH ALPINE: prints the command with which this distribution installs what is
# missing. Each argument has the names of the packages in one distribution.
packages() {
    # shellcheck source=/dev/null # of any distribution
    case " $(. /etc/os-release 2>/dev/null && echo "${ID:-} ${ID_LIKE:-}") " in
    *" debian "*) echo "apt install $1" ;;
    *" fedora "* | *" rhel "*) echo "dnf install $2" ;;
    *" suse "* | *" opensuse "*) echo "zypper install $3" ;;
    *" arch "*) echo "pacman -S $4" ;;
    *" alpine "*) echo "apk add $5" ;;
    *) echo "Debian: $1; Fedora: $2; openSUSE: $3; Arch: $4; Alpine: $5" ;;
    esac
}

# rustup installs Rust in this directory, which sudo and cron don't search. rustup's Rust
# is newer than the distribution's.
PATH=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:$PATH
needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
command -v cargo >/dev/null ||
    stop "cargo is missing: install Rust $needed or newer, from https://rustup.rs or, if your distribution has it" \
        "($(packages cargo cargo cargo rust cargo)), from there"
version=$(rustc -vV) || stop "rustc does not run: install Rust $needed or newer from https://rustup.rs"
# shellcheck disable=SC2034 # used by those that source this
host_triple=$(echo "$version" | sed -n 's/^host: //p')
version=$(echo "$version" | sed -n 's/^release: //p')
minor=${version#*.}
[ "${version%%.*}" -gt 1 ] || [ "${minor%%.*}" -ge "${needed#*.}" ] ||
    stop "Rust $version is too old: install Rust $needed or newer from https://rustup.rs"
