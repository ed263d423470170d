#!/usr/bin/env bash
# Sets up and builds what is missing, then becomes the server, with the arguments that it was given.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -x "$target/release/verbatim" ] || say "The first time, everything is compiled: some minutes. After that it starts within seconds."
scripts/setup.sh
scripts/build.sh
say "── Ready after $SECONDS s; stop the server with Ctrl-C"
exec "$target/release/verbatim" "$@"
