#!/usr/bin/env bash
# What "green" means: format, lints, every test on real libtorch, GStreamer, speech and Chromium, and the documents.
# CI runs this and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --test

step() { printf '\n== %s\n' "$*" >&2; }

# libgomp and glibc read these when they are loaded; `mouthpiece` sets them for itself, tests cannot.
export OMP_WAIT_POLICY=passive MALLOC_ARENA_MAX=2

step "format"
cargo fmt --check
step "lints"
cargo clippy --release --locked --all-targets -- -D warnings
step "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --lib
step "tests"
cargo test --release --locked --all-targets
step "the HTTP API against its description"
scripts/fuzz_api.sh --seed 1
