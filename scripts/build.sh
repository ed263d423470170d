#!/usr/bin/env bash
# Builds the server, the engine of the model inside, and the site directory, which holds what the server sends to browsers. What
# has not changed is not built again. Nothing is installed: scripts/setup.sh does that. With --tests the Rust tests are built with
# the server: their packages switch on features of shared ones, so that the server would be compiled a second time by `cargo test`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wasm=$target/wasm32-unknown-unknown/wasm-release/verbatim.wasm
stage=$target/site.stage
stamp=$target/site.stamp

# One line that changes when anything changes that the site is made from.
site_inputs() {
    {
        sha256sum "$wasm" "$target/release/bindgen" package-lock.json scripts/build.sh scripts/site.mjs
        find style public -type f -print0 | LC_ALL=C sort -z | xargs -0 --no-run-if-empty sha256sum
    } | sha256sum
}

site_is_current() {
    [ -f "$stamp" ] && [ -f "$target/release/hash.txt" ] && [ -d "$site" ] && [ "$(cat "$stamp")" = "$(site_inputs)" ]
}

make_site() {
    rm -rf "$stage" "$stamp"
    mkdir -p "$stage"
    "$target/release/bindgen" "$wasm" "$stage" verbatim
    # The features that Rust's wasm32-unknown-unknown target switches on; wasm-opt reads no others into it.
    node_modules/.bin/wasm-opt -Oz --strip-debug --strip-producers \
        --enable-bulk-memory --enable-bulk-memory-opt --enable-multivalue --enable-mutable-globals \
        --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext \
        -o "$stage/verbatim_bg.wasm" "$stage/verbatim_bg.wasm"
    node scripts/site.mjs "$stage" "$site" "$target/release/hash.txt"
    rm -rf "$stage"
    site_inputs >"$stamp"
}

wait_for_browser_part() {
    local failed=
    wait "$browser_part" || failed=yes
    # There is something to read in it only after a failure or with a warning.
    if [ -n "$failed" ] || grep -q '^warning' "$wasm_log"; then cat "$wasm_log" >&2; fi
    [ -z "$failed" ] || fail "The browser's part was not built."
}

case "${1:-}" in
'' | --tests) ;;
*) fail "usage: scripts/build.sh [--tests]" ;;
esac
mkdir -p "$target"
wasm_log=$target/wasm-build.log
# Cargo locks the directory of one profile at a time, and the browser's part has its own. It is built beside the rest, so that the
# long stretches in which either keeps only one processor busy are filled by the other.
cargo build --locked --profile wasm-release --lib --features hydrate --target wasm32-unknown-unknown >"$wasm_log" 2>&1 &
browser_part=$!
trap end_background EXIT

case "${1:-}" in
'') step "Build the server" cargo build --locked --release --features ssr --bin verbatim ;;
--tests) step "Build the server and its tests" cargo test --locked --release --features ssr --no-run ;;
esac
step "Build the tool that joins Rust to JavaScript (bindgen)" cargo build --locked --release -p verbatim-bindgen
# By itself, never in one command with the server: packages that are selected together share what they switch on, and the C++
# would be compiled once for each such selection.
case "${1:-}" in
'') step "Build the engine" cargo build --locked --release -p verbatim-engine ;;
--tests) step "Build the engine and its tests" cargo test --locked --release -p verbatim-engine --no-run ;;
esac
step "Build the browser's part (begun with the server)" wait_for_browser_part
site_is_current || step "Make the site: bindgen, wasm-opt, style, compression" make_site
