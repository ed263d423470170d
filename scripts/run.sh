#!/usr/bin/env bash
# Sets up and builds what is missing, then becomes the server, with the arguments that it was given.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

first=
if ! [ -x "$target/release/verbatim" ] || ! [ -x "$target/release/verbatim-engine" ]; then
    first=yes
    say "The first time, everything is compiled: some minutes. After that it starts within seconds."
fi
scripts/setup.sh
# While all is compiled, the weights come in beside it; what is still missing of them is waited for with its progress shown.
[ -z "$first" ] || weights_in_background --for-server "$@"
scripts/build.sh
# Without weights Verbatim runs all the same: its pages say what is missing.
node scripts/weights.mjs --for-server "$@" || say "   Verbatim starts without the model inside it; make weights fetches that later."
wait
say "── Ready after $SECONDS s; stop the server with Ctrl-C"
trap - EXIT
exec "$target/release/verbatim" "$@"
