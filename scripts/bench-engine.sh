#!/usr/bin/env bash
# Measures the engine beside llama-cpp-python on the same weights and threads in the same run, and prints a table. Asserts nothing.
# Arguments go to benches/engine.py, for example: scripts/bench-engine.sh --threads 1,2 --busy no --rounds 5
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cache=${XDG_CACHE_HOME:-$HOME/.cache}/verbatim
models=${VERBATIM_MODELS_DIR:-$cache/models}
peer=$cache/bench/llama-cpp-python
peer_version=0.3.36
engine=${VERBATIM_ENGINE:-$target/release/verbatim-engine}

peer_is_there() {
    [ -f "$peer/.version" ] && [ "$(cat "$peer/.version")" = "$peer_version" ]
}

# The same instruction sets as the engine's build, whatever else this machine has; cmake and ninja come with pip's build.
install_peer() {
    say "   The first time, it is compiled: about ten minutes."
    python3 -m venv --clear "$peer" ||
        fail "Python can't make a virtual environment. On Debian: apt-get install python3-venv"
    CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON -DGGML_OPENMP=OFF" \
        "$peer/bin/pip" install --quiet --disable-pip-version-check "llama-cpp-python[server]==$peer_version"
    printf '%s\n' "$peer_version" >"$peer/.version"
}

model_file() {
    python3 -c 'import json; print(next(m["file"] for m in json.load(open("engine/models.json")) if m["name"] == "default"))'
}

model=$models/$(model_file)
[ -f "$model" ] || fail "The weights are missing: $(model_file). Type: make setup (or name their directory with VERBATIM_MODELS_DIR)."
[ -n "${VERBATIM_ENGINE:-}" ] || step "Build the engine" cargo build --locked --release -p verbatim-engine
peer_is_there || step "llama-cpp-python $peer_version, to compare with" install_peer
step "Measure" python3 benches/engine.py --engine "$engine" --model "$model" --peer "$peer/bin/python" "$@"
