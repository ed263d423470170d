#!/usr/bin/env bash
# Prints measured figures: the sizes of what a browser loads, the memory of an idle server, what the store and the server do over
# corpora of several sizes, and what the page does with a long session, beside bare baselines. Asserts nothing.
# scripts/bench.sh [SESSIONS…]; usually 1000 and 10000.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# With the browser of the tests, in which the page is measured.
scripts/setup.sh --tests
scripts/build.sh

sizes() {
    local kind file
    printf '%-12s %12s %12s %12s\n' file raw brotli gzip
    for kind in wasm js css; do
        for file in "$site"/pkg/verbatim.*."$kind"; do
            printf '%-12s %12d %12d %12d\n' "$kind" "$(stat -c %s "$file")" "$(stat -c %s "$file.br")" "$(stat -c %s "$file.gz")"
        done
    done
    printf '%-12s %12d\n' server "$(stat -c %s "$target/release/verbatim")"
}

# Starts the server on an empty data directory, waits until it says its address, and reads its memory.
idle_memory() {
    local folder pid address=''
    folder=$(mktemp -d)
    "$target/release/verbatim" --addr 127.0.0.1:0 --data-dir "$folder/memory" --assistant scripted >"$folder/log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do
        address=$(grep -o 'http://127\.0\.0\.1:[0-9]*' "$folder/log" | head -n 1) && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    if [ -z "$address" ]; then
        cat "$folder/log" >&2
        kill "$pid" 2>/dev/null || true
        fail "The server did not start."
    fi
    # One page, so that what is made at the first request is there.
    # shellcheck disable=SC2016 # JavaScript's placeholders, not bash's
    node -e 'fetch(process.argv[1]).then((r) => r.text()).then((t) => console.log(`first page: ${t.length} characters of HTML`))' "$address/"
    awk '/^(VmRSS|RssAnon|RssFile|Threads):/ { print "server, idle:", $0 }' "/proc/$pid/status"
    kill -TERM "$pid"
    wait "$pid" || true
    rm -rf "$folder"
}

step "Sizes in bytes" sizes
step "Memory" idle_memory

build_bench() { cargo build --locked --release -p verbatim-bench; }

step "Build what measures the store" build_bench
corpora=()
for sessions in "${@:-1000 10000}"; do
    for number in $sessions; do
        scripts/corpus.sh "$number"
        corpora+=("$target/corpus-$number")
    done
done
step "Store and server" "$target/release/verbatim-bench" "$target/release/verbatim" "${corpora[@]}"
step "The page over a long session" node benches/page.mjs "$target/release/verbatim"
