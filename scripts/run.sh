#!/usr/bin/env bash
# Sets up and builds what is missing, then becomes the server, with the arguments that it was given. The pages need neither the
# engine of the model inside nor its weights: both go on coming beside the server, which says how far they are, and end with it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! [ -x "$target/release/verbatim" ]; then
    say "The first time, everything is compiled: some minutes. After that it starts within seconds."
fi
scripts/setup.sh
# Without weights Verbatim runs all the same: its pages say what is missing.
beside $$ node scripts/weights.mjs --quiet --for-server "$@"
scripts/build.sh --run $$
if grep -qs '"building"' "$engine_note"; then say "   The model inside is still being built, beside the server; the pages say how far it is."; fi
say "── Ready after $SECONDS s; stop the server with Ctrl-C"
exec "$target/release/verbatim" "$@"
