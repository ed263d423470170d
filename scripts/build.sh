#!/usr/bin/env bash
# Builds the server, the engine of the model inside, and the site directory, which holds what the server sends to browsers. What
# has not changed is not built again. Nothing is installed: scripts/setup.sh does that. With --tests the Rust tests are built with
# the server: their packages switch on features of shared ones, so that the server would be compiled a second time by `cargo test`.
# With --run PID it is done when a server can run: the engine is built beside it as long as process PID lives. With --browser only
# what browsers get is built.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wasm=$target/wasm32-unknown-unknown/wasm-release/verbatim.wasm
# Joins Rust to JavaScript.
bindgen=$target/tool/bindgen
stage=$target/site.stage
stamp=$target/site.stamp

# One line that changes when anything changes that the site is made from.
site_inputs() {
    {
        sha256sum "$wasm" "$bindgen" package-lock.json scripts/build.sh scripts/site.mjs
        find style public -type f -print0 | LC_ALL=C sort -z | xargs -0 --no-run-if-empty sha256sum
    } | sha256sum
}

site_is_current() {
    [ -f "$stamp" ] && [ -f "$target/release/hash.txt" ] && [ -d "$site" ] && [ "$(cat "$stamp")" = "$(site_inputs)" ]
}

make_site() {
    rm -rf "$stage" "$stamp"
    mkdir -p "$stage"
    "$bindgen" "$wasm" "$stage" verbatim
    # The features that Rust's wasm32-unknown-unknown target switches on; wasm-opt reads no others into it.
    node_modules/.bin/wasm-opt -Oz --strip-debug --strip-producers \
        --enable-bulk-memory --enable-bulk-memory-opt --enable-multivalue --enable-mutable-globals \
        --enable-nontrapping-float-to-int --enable-reference-types --enable-sign-ext \
        -o "$stage/verbatim_bg.wasm" "$stage/verbatim_bg.wasm"
    node scripts/site.mjs "$stage" "$site" "$target/release/hash.txt"
    rm -rf "$stage"
    site_inputs >"$stamp"
}

# All that browsers get, from the code on.
build_browser_part() {
    cargo build --locked --profile wasm-release --lib --features hydrate --target wasm32-unknown-unknown
    cargo build --locked --profile tool -p verbatim-bindgen
    site_is_current || step "Make the site: bindgen, wasm-opt, style, compression" make_site
}

wait_for_browser_part() {
    local failed=
    wait "$browser_part" || failed=yes
    # There is something to read in it only after a failure or with a warning.
    if [ -n "$failed" ] || grep -q '^warning' "$browser_log"; then cat "$browser_log" >&2; fi
    [ -z "$failed" ] || fail "The browser's part was not built."
}

processors() { getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2; }

# Begins to build the engine, for a server that may run before it is done.
build_engine_beside() {
    local expected=0
    if [ -z "$had_engine" ]; then
        # A machine that has just built all else from nothing shows by that how quick it is; the shares were measured.
        expected=$((600 / $(processors) + 60))
        [ -z "$from_nothing" ] || expected=$((SECONDS * 80 / 100))
    fi
    # At once, so that the server cannot look before the other script has begun.
    note_engine building "$(date +%s)" "$expected"
    beside "$1" scripts/engine.sh --quiet "$expected"
}

# An engine that was there already takes a second to be found up to date, and nobody should read that it is being built.
wait_for_a_moment() {
    local tries=0
    while [ -e "$engine_note" ] && [ $tries -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
}

case "${1:-}" in
'' | --tests) ;;
--run) [ $# -eq 2 ] || fail "usage: scripts/build.sh --run PID" ;;
--browser)
    build_browser_part
    exit
    ;;
*) fail "usage: scripts/build.sh [--tests | --run PID | --browser]" ;;
esac
mkdir -p "$target"
browser_log=$target/browser-build.log
# Cargo locks the directory of one profile at a time, and the browser's part has its own. It is built beside the rest, so that the
# long stretches in which either keeps only one processor busy are filled by the other.
node scripts/beside.mjs $$ scripts/build.sh --browser >"$browser_log" 2>&1 &
browser_part=$!

from_nothing=
[ -x "$target/release/verbatim" ] || from_nothing=yes
had_engine=
[ ! -x "$target/release/verbatim-engine" ] || had_engine=yes
case "${1:-}" in
'' | --run) step "Build the server" cargo build --locked --release --features ssr --bin verbatim ;;
--tests) step "Build the server and its tests" cargo test --locked --release --features ssr --no-run ;;
esac
case "${1:-}" in
'') step "Build the engine" scripts/engine.sh ;;
--tests) step "Build the engine and its tests" scripts/engine.sh --tests ;;
--run) build_engine_beside "$2" ;;
esac
step "Build the browser's part (begun with the server)" wait_for_browser_part
[ -z "$had_engine" ] || [ "${1:-}" != --run ] || wait_for_a_moment
