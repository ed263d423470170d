#!/usr/bin/env bash
# Runs every check: form, the Rust tests, the browser tests. The last line is the total of what ran; any failure makes the exit
# status non-zero. Arguments go to Playwright, for example: scripts/test.sh chat.spec.ts
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

results=$target/test-results
rm -rf "$results"
mkdir -p "$results"

# shellcheck disable=SC2317 # called through try
rust_tests() {
    # The profile of the server, so that its dependencies are compiled once.
    cargo test --locked --release --features ssr --no-fail-fast 2>&1 | tee "$results/rust.log"
}

# shellcheck disable=SC2317 # called through try
browser_tests() {
    PLAYWRIGHT_JSON_OUTPUT_FILE=$results/browser.json node_modules/.bin/playwright test --config end2end "$@"
}

status=0
scripts/setup.sh --tests
scripts/build.sh --tests
try "Lint" scripts/lint.sh
try "Rust tests" rust_tests
try "Browser tests" browser_tests "$@"

say "── Everything took $((SECONDS / 60)) min $((SECONDS % 60)) s"
node scripts/total.mjs "$results/rust.log" "$results/browser.json" || status=1
exit $status
