#!/usr/bin/env bash
# Runs every check: form, the Rust tests, the tests of the scripts and of the engine, the browser tests. The last line is
# the total of what ran; any failure makes the exit status non-zero. Arguments go to Playwright: scripts/test.sh chat.spec.ts
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
engine_unit_tests() {
    cargo test --locked --release -p verbatim-engine --no-fail-fast 2>&1 | tee "$results/engine-units.log"
}

# shellcheck disable=SC2317 # called through try
corpus_tests() {
    cargo test --locked --release -p verbatim-corpus --no-fail-fast 2>&1 | tee "$results/corpus.log"
}

# shellcheck disable=SC2317 # called through try
script_tests() {
    node --test --test-reporter=spec scripts/*.test.mjs 2>&1 | tee "$results/scripts.log"
}

# The engine as other programs see it, asked by a client that was written elsewhere.
# shellcheck disable=SC2317 # called through try
engine_tests() {
    VERBATIM_ENGINE=$target/release/verbatim-engine VERBATIM_TEST_DURATIONS=$results/engine.durations engine/tests/run.sh discover -v 2>&1 | tee "$results/engine.log"
}

# shellcheck disable=SC2317 # called through try
browser_tests() {
    PLAYWRIGHT_JSON_OUTPUT_FILE=$results/browser.json node_modules/.bin/playwright test --config end2end "$@"
}

# shellcheck disable=SC2317 # called through try
lint_result() {
    local code=0
    wait "$lint" || code=$?
    cat "$results/lint.log"
    return $code
}

status=0
scripts/setup.sh --tests
weights_in_background default small
scripts/build.sh --tests
# The tests that need them fail without, and say so; the others run all the same.
try "Weights of the models inside Verbatim" node scripts/weights.mjs default small
wait
try "Rust tests" rust_tests
try "Tests of the engine's parts" engine_unit_tests
try "Tests of the corpus" corpus_tests
try "Tests of the scripts" script_tests
try "Tests of the engine" engine_tests
# Browser tests wait more than they compute, so that the form is checked beside them.
nice -n 19 scripts/lint.sh >"$results/lint.log" 2>&1 &
lint=$!
try "Browser tests" browser_tests "$@"
try "Lint (begun with the browser tests)" lint_result

say "── Everything took $((SECONDS / 60)) min $((SECONDS % 60)) s"
node scripts/total.mjs "$results" || status=1
exit $status
