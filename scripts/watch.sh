#!/usr/bin/env bash
# Builds again and reloads the page whenever a file changes, by cargo-leptos.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

command -v cargo-leptos >/dev/null ||
    fail "cargo-leptos is missing. It takes a while to install: cargo install cargo-leptos --locked
Without it, type make run again after a change: it builds only what has changed."
scripts/setup.sh
# The model inside answers too, if its engine was built (make build).
export VERBATIM_ENGINE=$target/release/verbatim-engine
# cargo-leptos takes wasm-opt from PATH and makes its site below target/ in the repository.
unset CARGO_TARGET_DIR
PATH=$root/node_modules/.bin:$PATH exec cargo leptos watch "$@"
