# What the scripts share; sourced, not run. Sets `root`, `target` and `site` and changes to the top of the repository.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit

# rustup puts cargo here; a shell that is not a login shell may not know.
if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi
export PATH

# Where everything that is built goes, and beside the server the site: what it sends to browsers.
target=${CARGO_TARGET_DIR:-$root/target}
case $target in /*) ;; *) target=$root/$target ;; esac
export CARGO_TARGET_DIR=$target
# Used by those who source this.
# shellcheck disable=SC2034
site=$target/release/site

# What a server reads while its engine is being built; it stands beside the engine's program.
engine_note=$target/release/verbatim-engine.build

# Writes that note so that it is never seen half written: note_engine building|failed BEGAN EXPECTED, in seconds.
note_engine() {
    printf '{"state":"%s","began_at":%d,"expected_seconds":%d}\n' "$@" >"$engine_note.$$"
    mv -f "$engine_note.$$" "$engine_note"
}

# What is kept between clones: weights, and tools that pip brought.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/verbatim
# Used by those who source this.
# shellcheck disable=SC2034
models=${VERBATIM_MODELS_DIR:-$cache/models}
tools=$cache/tools
files_like() { compgen -G "$1" >/dev/null; }
if [ -d "$tools/cmake" ]; then PATH=$PATH:$tools/cmake/data/bin; fi
if [ -d "$tools/clang" ] && [ -z "${LIBCLANG_PATH:-}" ]; then export LIBCLANG_PATH=$tools/clang/native; fi
# libclang reads C with headers of its own (stdbool.h and the like), which come in another package and not at all from pip; the
# compiler's do as well. Scripts that call each other must agree on this variable: the C++ is compiled anew when it changes.
clang_headers_are_there() {
    [ "${LIBCLANG_PATH:-}" != "$tools/clang/native" ] || return 1
    command -v clang >/dev/null || files_like '/usr/lib*/llvm-*/lib/clang/*/include/stdbool.h' ||
        files_like '/usr/lib*/clang/*/include/stdbool.h'
}
if [ -z "${BINDGEN_EXTRA_CLANG_ARGS:-}" ] && ! clang_headers_are_there; then
    headers=$(cc -print-file-name=include 2>/dev/null || true)
    case $headers in /*) export BINDGEN_EXTRA_CLANG_ARGS="-isystem $headers" ;; esac
fi

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Runs a command under a heading, says how long it took, and ends the script if it fails: step "Heading" command arguments…
# Never call it where `set -e` is off (in conditions, before || and &&): errors inside of a function would be passed over.
step() {
    local title=$1 begin=$SECONDS
    shift
    say "── $title"
    "$@"
    say "   $title: done in $((SECONDS - begin)) s"
}

# The same for one command after whose failure the script goes on, with `status` set to 1.
try() {
    local title=$1 begin=$SECONDS
    shift
    say "── $title"
    if "$@"; then
        say "   $title: done in $((SECONDS - begin)) s"
    else
        say "   $title: FAILED after $((SECONDS - begin)) s" >&2
        # Read by those who source this.
        # shellcheck disable=SC2034
        status=1
    fi
}

# Fetches weights beside what the script does meanwhile, in silence; the arguments are those of scripts/weights.mjs. Called again
# in the foreground, that waits for what is under way and shows how far it is.
weights_in_background() {
    node scripts/weights.mjs --quiet "$@" >/dev/null 2>&1 &
    trap end_background EXIT
}

# Runs a command beside the script until it is done or process PID is gone, however that ends: beside PID command arguments…
# It is nobody's child, since a process that this one becomes would not know what to do when it ends.
beside() { (node scripts/beside.mjs "$@" &); }

# Ends what the script has begun in the background and not waited for.
end_background() {
    local pid
    for pid in $(jobs -pr); do kill "$pid" 2>/dev/null || true; done
}
