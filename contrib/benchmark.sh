#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Builds the hook, the runtime wrapper, their benchmark and two C programs, and runs the
# benchmark. --help lists the options.
set -eu

cd "$(dirname "$0")/.."

# built KIND COMMAND [ARGUMENT...]: runs cargo and prints the path of the executable of this kind, so that this script
# need not know cargo's directories.
built() {
	kind=$1 command=$2
	shift 2
	cargo "$command" --message-format=json-render-diagnostics "$@" |
		sed -n '/"kind":\["'"$kind"'"\]/s/.*"executable":"\([^"]*\)".*/\1/p'
}

benchmark=$(built bench bench --no-run --bench hook)
# The hook is measured as it is installed: a dynamic linker alone costs half the time budget of the skip path.
stage=$PWD/target/stage-benchmark
contrib/build.sh
DESTDIR=$stage contrib/install.sh >/dev/null
hook=$stage/usr/libexec/oci/hooks.d/oci-systemd-hook
for program in empty exec; do
	cc -O2 -static -o "$(dirname "$benchmark")/benchmark-$program" "contrib/benchmark/$program.c"
done
set -- --hook "$hook" --wrapper "$stage/usr/bin/oci-hooks-runtime" \
	--empty "$(dirname "$benchmark")/benchmark-empty" --exec "$(dirname "$benchmark")/benchmark-exec" "$@"

# Mount namespaces and cgroups need root, but building doesn't.
if [ "$(id -u)" -eq 0 ]; then
	sudo=
else
	sudo=sudo
fi
# The caller's options come last and take precedence.
exec $sudo "$benchmark" "$@"
