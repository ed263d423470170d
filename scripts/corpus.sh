#!/usr/bin/env bash
# Makes a data directory full of realistic sessions for benchmarks: scripts/corpus.sh [SESSIONS [SEED [FOLDER]]]. An empty argument
# stands for the default: 100000, 1 and corpus-SESSIONS below the build directory. A folder that is complete is left as it is; one
# that another version of the generator made, or that has another seed, is replaced.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

sessions=${1:-100000}
seed=${2:-1}
out=${3:-$target/corpus-$sessions}
case $out in /*) ;; *) out=$root/$out ;; esac
program=$target/release/verbatim-corpus
# Its first line says what made the folder, its second one what is in it. It is written last, so that it stands for a whole folder.
stamp=$out/.corpus
# Written to at first, so that what an interrupted run left is never taken for a corpus.
partial=$out.partial

make_corpus() {
    local totals
    rm -rf "$partial"
    totals=$("$program" --sessions "$sessions" --seed "$seed" --out "$partial" --progress)
    printf '%s\n' "$made_by" "$totals" >"$partial/.corpus"
    rm -rf "$out"
    mv "$partial" "$out"
}

step "Build the generator" cargo build --locked --release -p verbatim-corpus
made_by="$(sha256sum <"$program" | cut -d ' ' -f 1), $sessions sessions, seed $seed"
if [ -f "$stamp" ]; then
    if [ "$(head -n 1 "$stamp")" = "$made_by" ]; then
        say "$out is complete: $(tail -n 1 "$stamp")"
        exit 0
    fi
elif [ -e "$out" ] && { [ ! -d "$out" ] || [ -n "$(ls -A "$out")" ]; }; then
    fail "$out is there, and not from this script. Name another folder, for example: make corpus N=$sessions OUT=$out-2"
fi
step "Write $sessions sessions" make_corpus
say "$out: $(tail -n 1 "$stamp")"
