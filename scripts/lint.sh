#!/usr/bin/env bash
# Checks the form of the code: rustfmt, clippy for both builds, the types of the browser tests, shellcheck where it is installed.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

scripts/setup.sh
status=0
try "rustfmt" cargo fmt --all --check
# The profiles are those of the builds, so that macros and build scripts are compiled once for both.
try "clippy, server" cargo clippy --locked --release -p verbatim --features ssr --all-targets -- -D warnings
# Each by itself, as scripts/build.sh builds it.
try "clippy, engine" cargo clippy --locked --release -p verbatim-engine --all-targets -- -D warnings
try "clippy, bindgen" cargo clippy --locked --release -p verbatim-bindgen --all-targets -- -D warnings
try "clippy, benches" cargo clippy --locked --release -p verbatim-bench -p verbatim-corpus --all-targets -- -D warnings
try "clippy, browser" cargo clippy --locked --profile wasm-release --lib --features hydrate \
    --target wasm32-unknown-unknown -- -D warnings
try "TypeScript" npm run --silent check
if command -v shellcheck >/dev/null; then
    try "shellcheck" shellcheck -x scripts/*.sh engine/tests/run.sh .ci/run
fi
exit $status
