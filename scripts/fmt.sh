#!/usr/bin/env bash
# Puts the Rust code into its form.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

step "rustfmt" cargo fmt --all
