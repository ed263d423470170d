#!/usr/bin/env bash
# Brings what the build needs, and with --tests what the tests need too. What is there already is left alone.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case "${1:-}" in
'' | --tests) ;;
*) fail "usage: scripts/setup.sh [--tests]" ;;
esac

check_programs() {
    command -v cargo >/dev/null ||
        fail "Rust is missing. Install it with rustup (see rustup.rs), open a new shell and run this again."
    command -v cc >/dev/null || step "Debian: a C compiler" debian_packages build-essential
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        fail "Node.js with npm is missing. Install version 20 or later (see nodejs.org) and run this again."
    fi
    local major
    major=$(node -p 'process.versions.node.split(".")[0]')
    [ "$major" -ge 20 ] || fail "Node.js $(node --version) is too old. Install version 20 or later and run this again."
}

# What compiles the engine's C++ and reads its headers: CMake, a C++ compiler, libclang.
engine_tools_are_there() {
    command -v cmake >/dev/null && command -v c++ >/dev/null && libclang_is_there
}

# Looks where bindgen does. libclang-cpp is another library.
libclang_is_there() {
    local place
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    for place in /usr/lib /usr/lib64 /usr/local/lib /usr/lib/*-linux-gnu /usr/lib/llvm-*/lib /opt/homebrew/opt/llvm/lib /usr/local/opt/llvm/lib \
        /Library/Developer/CommandLineTools/usr/lib; do
        if files_like "$place/libclang.so*" || files_like "$place/libclang-[0-9]*.so*" || files_like "$place/libclang.dylib"; then
            return 0
        fi
    done
    place=$(llvm-config --libdir 2>/dev/null) && files_like "$place/libclang.*"
}

can_install_packages() { command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; }

# The library and its headers, without the 200 MB of static libraries that libclang-dev brings.
libclang_packages() {
    local version
    version=$(apt-cache depends libclang1 2>/dev/null | sed -n 's/.*Depends: libclang1-\([0-9]*\)$/\1/p')
    if [ -n "$version" ]; then printf '%s\n' libclang1 "libclang-common-$version-dev"; else echo libclang-dev; fi
}

# Debian's packages where they may be installed, else pip's, which need nobody's leave.
engine_tools() {
    if can_install_packages; then
        debian_packages cmake g++ libclang
        return
    fi
    command -v c++ >/dev/null || fail "A C++ compiler is missing. Install one (Debian: sudo apt-get install g++) and run this again."
    pip_is_there ||
        fail "CMake or libclang is missing. Install both (Debian: sudo apt-get install cmake libclang-dev), then run this again."
    local fresh=$tools.$$
    if ! python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target "$fresh" \
        cmake==3.31.10 libclang==18.1.1; then
        rm -rf "$fresh"
        fail "CMake or libclang is missing and pip could not bring them. Install both, or check the network and run this again."
    fi
    rm -rf "$tools"
    mv "$fresh" "$tools"
}

pip_is_there() {
    python3 -m pip --version >/dev/null 2>&1
}

wasm_target_is_there() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib" ]
}

add_wasm_target() {
    command -v rustup >/dev/null ||
        fail "This Rust cannot compile for browsers and rustup, which would add that, is missing. See rustup.rs."
    rustup target add wasm32-unknown-unknown ||
        fail "rustup could not add the target wasm32-unknown-unknown. Check the network and run this again."
}

# The packages that node_modules holds, by the lock file they came from.
npm_stamp=node_modules/.verbatim-lock
npm_packages_are_there() {
    [ -f "$npm_stamp" ] && cmp -s package-lock.json "$npm_stamp"
}

npm_packages() {
    # The browser of the tests is Debian's, see below.
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error
    cp package-lock.json "$npm_stamp"
}

# Prints the browser of the tests: what CHROMIUM names, else the usual names on PATH.
browser() {
    local name
    for name in ${CHROMIUM:+"$CHROMIUM"} chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return 0
    done
    return 1
}

emoji_font_is_there() {
    command -v fc-list >/dev/null && [ -n "$(fc-list ':charset=1f6e0' family)" ]
}

debian_packages() {
    if ! command -v apt-get >/dev/null; then
        fail "Missing: $*. Install them (CHROMIUM=/path/to/it names the browser of the tests), then run this again."
    fi
    if [ "$(id -u)" -ne 0 ]; then
        fail "Missing: $*. Type: sudo apt-get update && sudo apt-get install --no-install-recommends $*"
    fi
    apt-get update -qq
    local name packages=()
    for name in "$@"; do
        # Which version it is depends on the release, which the lists that were just fetched say.
        if [ "$name" = libclang ]; then mapfile -t -O ${#packages[@]} packages < <(libclang_packages); else packages+=("$name"); fi
    done
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

# Adds to `missing` what curl lacks. Certificates that are there are left alone: a new package would sort out added ones.
curl_packages() {
    command -v curl >/dev/null || missing+=(curl)
    [ -s /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
}

weights_are_there() { files_like "$models/*.verified"; }

check_programs
engine_tools_are_there || step "What the engine's C++ needs: CMake, g++, libclang" engine_tools
# Weights come by curl or by pip. Where those may not be installed, scripts/weights.mjs says what is missing, if it comes to that.
if can_install_packages && ! weights_are_there; then
    missing=()
    curl_packages
    pip_is_there || missing+=(python3-pip)
    [ ${#missing[@]} -eq 0 ] || step "Debian: ${missing[*]}" debian_packages "${missing[@]}"
fi
wasm_target_is_there || step "Rust: add the target wasm32-unknown-unknown" add_wasm_target
npm_packages_are_there || step "npm: wasm-opt, Playwright, axe (package-lock.json)" npm_packages

if [ "${1:-}" = --tests ]; then
    missing=()
    pip_is_there || missing+=(python3-pip)
    # The engine's tests have an environment of their own.
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    curl_packages
    browser >/dev/null || missing+=(chromium)
    emoji_font_is_there || missing+=(fontconfig fonts-noto-color-emoji)
    [ ${#missing[@]} -eq 0 ] || step "Debian: ${missing[*]}" debian_packages "${missing[@]}"
    if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
        fail "rustfmt or clippy is missing. Type: rustup component add rustfmt clippy"
    fi
fi
