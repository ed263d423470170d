#!/usr/bin/env bash
# Checks the form of the code: rustfmt, clippy for both builds, the types of the browser tests, shellcheck where it is installed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/setup.sh
status=0

# What a crate is compiled with where it is shared by the server and its tests, and differs: each such crate, and all that use it,
# would be compiled twice. Nothing is printed where there is none.
# shellcheck disable=SC2317 # called through try
same_features() {
    local differs server tests
    features() { cargo tree --locked -p verbatim --features ssr --prefix none -f '{p}|{f}' -e "$1" | sed 's/ (\*)$//' | sort -u; }
    server=$(features normal,build) || return 1
    tests=$(features normal,build,dev) || return 1
    differs=$(awk -F'|' 'NR == FNR { seen[$0]; has[$1]; next } $2 != "" && ($1 in has) && !($0 in seen)' \
        <(printf '%s\n' "$server") <(printf '%s\n' "$tests"))
    [ -z "$differs" ] || say "The tests switch these on, the server does not. Do so in Cargo.toml, [dependencies]:" "$differs"
    [ -z "$differs" ]
}

try "rustfmt" cargo fmt --all --check
try "features, server and tests" same_features
# The profiles are those of the builds, so that macros and build scripts are compiled once for both.
try "clippy, server" cargo clippy --locked --release -p verbatim --features ssr --all-targets -- -D warnings
# Each by itself, as scripts/build.sh builds it.
try "clippy, engine" cargo clippy --locked --release -p verbatim-engine --all-targets -- -D warnings
try "clippy, bindgen" cargo clippy --locked --profile tool -p verbatim-bindgen --all-targets -- -D warnings
try "clippy, benches" cargo clippy --locked --release -p verbatim-bench -p verbatim-corpus --all-targets -- -D warnings
try "clippy, browser" cargo clippy --locked --profile wasm-release --lib --features hydrate \
    --target wasm32-unknown-unknown -- -D warnings
try "TypeScript" npm run --silent check
if command -v shellcheck >/dev/null; then
    try "shellcheck" shellcheck -x scripts/*.sh engine/tests/run.sh .ci/run
fi
exit $status
