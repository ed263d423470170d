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
