#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# tests/readme/install.sh ROOT TO
#
# Follows the README's section "Install" line by line, as the ordinary user `reader` in a copy of the root file
# system ROOT, and copies what was installed to TO. On Debian 13, Rust is installed by apt, and the same is done
# first without libselinux and copied to TO-no-selinux. If apt has only an older Rust, the user has this
# machine's Rust in rustup's layout. Of this machine, the root file system has access to the network, the
# certificates, and cargo's configuration and downloads.
set -eu
root=$1 to=$2
cd "$(dirname "$0")/../.."

# Everything is mounted in a separate mount namespace, and the directory with the mount points is removed
# once that namespace is gone.
if [ -z "${WORK:-}" ]; then
    work=$(mktemp -d "$PWD/target/readme.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    WORK=$work unshare --mount --propagation private tests/readme/install.sh "$@"
    exit
fi
work=$WORK

wrong() {
    echo "install.sh: $*" >&2
    exit 1
}

# bind FROM TO: makes something of this machine available, read-only.
bind() {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

mkdir "$work/upper" "$work/scratch" "$work/root"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/scratch" "$work/root"
mount -t proc proc "$work/root/proc"
mount --rbind /dev "$work/root/dev"
cp -L /etc/resolv.conf "$work/root/etc/resolv.conf"
bind /etc/ssl/certs "$work/root/etc/ssl/certs"
# Packages that apt downloads are kept for the next run.
mkdir -p "$to.packages/partial"
mount --bind "$to.packages" "$work/root/var/cache/apt/archives"

chroot "$work/root" apt-get update >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    wrong "apt-get update fails in $root"
}

home=$work/root/home/reader
clone=$home/oci-systemd-hook
mkdir "$clone"
git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard | tar --null -T - -cf - | tar -C "$clone" --no-same-owner -xf -

[ -e "$clone/Cargo.toml" ] || wrong "git lists no files of $PWD"

cargo=${CARGO_HOME:-$HOME/.cargo}
mkdir -p "$home/.cargo/registry"
for part in config.toml registry/index registry/cache; do
    [ ! -e "$cargo/$part" ] || cp -R "$cargo/$part" "$home/.cargo/$part"
done
path=/usr/local/bin:/usr/bin:/bin
chown -R --reference="$home" "$home/.cargo" "$clone"
if [ "$(chroot "$work/root" apt-cache policy cargo | awk '$1 == "Candidate:" && $2 ~ /^(0|1\.[0-7]|1\.8[0-4])/')" ]; then
    path=/home/reader/.cargo/bin:$path
    [ -x "$cargo/bin/rustup" ] || wrong "there is no rustup in $cargo/bin, whose Rust $root needs"
    sysroot=$(rustc --print sysroot)
    toolchain=${sysroot##*/}
    mkdir -p "$home/.cargo/bin" "$home/.rustup/toolchains/$toolchain"
    printf 'version = "12"\nprofile = "default"\ndefault_toolchain = "%s"\n' "$toolchain" >"$home/.rustup/settings.toml"
    chown -R --reference="$home" "$home/.rustup" "$home/.cargo/bin"
    bind "$cargo/bin" "$home/.cargo/bin"
    bind "$sysroot" "$home/.rustup/toolchains/$toolchain"
fi

# The section's first block is for Debian 13, and its second one for releases without a new enough Rust.
case $path in /home/*) block=2 ;; *) block=1 ;; esac
lines=$(awk -v block="$block" '
    /^## / { inside = $0 == "## Install" }
    /^```$/ { prints = 0 }
    prints { print }
    inside && /^```sh$/ { prints = ++count == block }
' README.md)
[ "$(echo "$lines" | wc -l)" = 3 ] || wrong "the README's section \"Install\" has other lines than expected: $lines"

# reader COMMAND: runs a command as a reader of the README does.
reader() {
    chroot --userspec=reader:reader "$work/root" env -i HOME=/home/reader USER=reader LOGNAME=reader "PATH=$path" \
        ${SSL_CERT_FILE:+"SSL_CERT_FILE=$SSL_CERT_FILE"} ${CARGO_HTTP_CAINFO:+"CARGO_HTTP_CAINFO=$CARGO_HTTP_CAINFO"} \
        sh -euc "cd ~/oci-systemd-hook; $1"
}

# follow LINES TO SUFFIX: runs the lines and copies what they install to TO. The programs must
# report their version with SUFFIX.
follow() {
    echo "$1"
    reader "$1" >"$work/log" 2>&1 || {
        tail -n 40 "$work/log" >&2
        wrong "the README's lines fail in a clean root"
    }
    tail -n 20 "$work/log"
    said=$(reader 'oci-systemd-hook --version')
    echo "$said"
    expected="oci-systemd-hook $(sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' Cargo.toml)$3"
    [ "$said" = "$expected" ] || wrong "the installed hook says '$said' and not '$expected'"
    # What is mounted there belongs to this machine.
    of_root=$(find "$home" \( -path "$home/.cargo/bin" -o -path "$home/.rustup/toolchains" \) -prune -o -user root -print)
    [ -z "$of_root" ] || wrong "root owns files of the user: $of_root"
    rm -rf "$2"
    mkdir -p "$2/usr/bin" "$2/usr/libexec"
    cp -R "$work/root/usr/libexec/oci" "$2/usr/libexec/oci"
    cp "$work/root/usr/bin/oci-hooks-runtime" "$2/usr/bin"
}

# The build without libselinux comes first, because the packages that it must do without are installed afterwards.
without=$(echo "$lines" | sed -e 's/ clang libselinux1-dev$//' -e 's|^contrib/build.sh|SELINUX=no contrib/build.sh|')
[ "$block" = 2 ] || follow "$without" "$to-no-selinux" " (without SELinux)"
follow "$lines" "$to" ""
