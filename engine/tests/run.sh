#!/usr/bin/env bash
# Runs the conformance tests of the engine; the published client that they use is kept in the user's cache directory.
# Arguments go to unittest, for example: engine/tests/run.sh test_tools -v
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

place=${XDG_CACHE_HOME:-$HOME/.cache}/verbatim/engine-tests
stamp=$place/requirements.txt
if ! [ -f "$stamp" ] || ! cmp -s requirements.txt "$stamp"; then
    python3 -m venv --clear "$place" || {
        echo "Python can't make a virtual environment. On Debian: apt-get install python3-venv" >&2
        exit 1
    }
    "$place/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
    cp requirements.txt "$stamp"
fi
if [ $# -eq 0 ]; then set -- discover; fi
exec "$place/bin/python" -B -m unittest "$@"
