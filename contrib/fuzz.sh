#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Fuzzes the parsers and the plan, two targets at a time, starting from the inputs in contrib/fuzz/corpus.
#
#   contrib/fuzz.sh [SECONDS [TARGET...]]   by default 20 seconds for each of all targets
set -eu
cd "$(dirname "$0")/.."
. contrib/prerequisites.sh

# The release of cargo-fuzz that is installed if there is none.
VERSION=0.13.2

seconds=${1:-20}
case $seconds in
*[!0-9]*) stop "$seconds is not a number of seconds" ;;
esac
[ $# -eq 0 ] || shift

need g++
PATH=$PWD/target/tools/bin:$PATH
cargo fuzz --version >/dev/null 2>&1 ||
    cargo install --quiet --locked --version "$VERSION" --root target/tools cargo-fuzz

# Sanitizers need a nightly Rust, and find errors that only `unsafe` code can have, of which the parsers have none.
work=$PWD/target/fuzz
cargo fuzz build --sanitizer none --fuzz-dir contrib/fuzz --target-dir "$work"
programs=$work/$(rustc -vV | sed -n 's/^host: //p')/release
# shellcheck disable=SC2046 # a word a target
[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir contrib/fuzz)

# fuzz TARGET: starts from a copy of the corpus, because inputs that reach new code are added to it.
# A pattern of the maximum size takes a second on an idle machine, and longer on a busy one.
fuzz() {
    rm -rf "${work:?}/corpus/$1" "${work:?}/found/$1" "${work:?}/tmp/$1"
    mkdir -p "$work/corpus" "$work/found/$1" "$work/tmp/$1"
    cp -R "contrib/fuzz/corpus/$1" "$work/corpus/$1"
    TMPDIR=$work/tmp/$1 "$programs/$1" -max_total_time="$seconds" -max_len=8192 -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$work/found/$1/" "$work/corpus/$1" >"$work/$1.log" 2>&1
}

executions() { sed -n 's/^stat::number_of_executed_units: *//p' "$work/$1.log"; }

# report TARGET STATUS: prints a line of statistics, or what failed and how to reproduce it.
report() {
    if [ "$2" -eq 0 ]; then
        printf '%-14s %9d executions\n' "$1" "$(executions "$1")"
        return
    fi
    grep -a -A 1 -e ' panicked at ' -e 'ERROR: libFuzzer' "$work/$1.log" || tail -n 20 "$work/$1.log"
    for input in "$work/found/$1"/*; do
        echo "$1 fails on $input; to reproduce: $programs/$1 $input"
        od -A d -t x1z "$input" | head -n 16
    done
    exit 1
}

count=$#
total=0
while [ $# -gt 0 ]; do
    first=$1 second=${2:-}
    shift
    status=0 second_status=0
    fuzz "$first" &
    pid=$!
    if [ -n "$second" ]; then
        shift
        fuzz "$second" || second_status=$?
    fi
    wait "$pid" || status=$?
    for target in $first $second; do
        report "$target" "$status"
        total=$((total + $(executions "$target")))
        status=$second_status
    done
done
echo "$total executions of $count targets, no failure"
