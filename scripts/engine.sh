#!/usr/bin/env bash
# Builds the engine of the model inside. Meanwhile a note stands beside its program (NAME.build), from which a server that runs
# already knows how far that is; it is touched every second, so that a note which a killed build has left is known to be one.
# With --quiet it takes the processor only when nobody else wants it, and cargo's words go to a log, which is named after a failure.
# scripts/engine.sh [--quiet] [--tests] [SECONDS]: how long it will probably take, for the note.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

quiet='' tests=''
while [ $# -gt 0 ]; do
    case $1 in
    --quiet) quiet=yes ;;
    --tests) tests=yes ;;
    [0-9]*) break ;;
    *) fail "usage: scripts/engine.sh [--quiet] [--tests] [SECONDS]" ;;
    esac
    shift
done
began=$(date +%s)
log=$target/engine-build.log

keep_touching() {
    # Without making it: it may be removed between the two.
    while kill -0 $$ && [ -e "$engine_note" ] && touch -c "$engine_note"; do sleep 1; done
}

compile() {
    # By itself, never in one command with the server: packages that are selected together share what they switch on, and the C++
    # would be compiled once for each such selection. Cargo puts the finished program into its place by a link, never in pieces.
    if [ -n "$quiet" ]; then
        nice -n 19 cargo build --locked --release -p verbatim-engine >"$log" 2>&1
    else
        cargo build --locked --release -p verbatim-engine || return
        # By themselves the tests would not make the program, which has none in Rust that ask it from outside.
        [ -z "$tests" ] || cargo test --no-run --locked --release -p verbatim-engine
    fi
}

note_engine building "$began" "${1:-0}"
keep_touching >/dev/null 2>&1 &
trap 'rm -f "$engine_note"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
code=0
compile || code=$?
trap - EXIT
if [ $code -ne 0 ]; then
    note_engine failed "$began" 0
    [ -z "$quiet" ] || fail "   The model inside could not be built; all else works. Type make build to see why, or read $log"
    exit $code
fi
rm -f "$engine_note"
seconds=$(($(date +%s) - began))
if [ -n "$quiet" ] && [ $seconds -gt 5 ]; then say "   The model inside is built, after $seconds s: it answers now."; fi
