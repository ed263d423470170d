#!/usr/bin/env bash
# Builds the server and the site directory, which holds what the server sends to browsers. What has not changed is not built
# again. Nothing is installed: scripts/setup.sh does that. With --tests the Rust tests are built with the server: their packages
# switch on features of shared ones, so that the server would be compiled a second time by `cargo test`.
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

case "${1:-}" in
'') step "Build the server" cargo build --locked --release --features ssr --bin verbatim ;;
--tests) step "Build the server and its tests" cargo test --locked --release --features ssr --no-run ;;
*) fail "usage: scripts/build.sh [--tests]" ;;
esac
# By itself, never in one command with the server: packages that are selected together share what they switch on, and the C++
# would be compiled once for each such selection.
step "Build the engine" cargo build --locked --release -p verbatim-engine
step "Build the browser's part" cargo build --locked --profile wasm-release --lib --features hydrate --target wasm32-unknown-unknown
step "Build the tool that joins it to JavaScript (bindgen)" cargo build --locked --release -p verbatim-bindgen
site_is_current || step "Make the site: bindgen, wasm-opt, style, compression" make_site
