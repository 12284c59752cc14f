#!/usr/bin/env bash
# What "green" means: format, dependencies, lints, the documents, every test on real libtorch, GStreamer, speech and
# Chromium, the fuzz target, and the HTTP API against its description. CI runs this and nothing else.
#
# The steps stand in the order of their cost, so that what is wrong is known early; each says when it began.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --test

current=setup
step() {
  current=$*
  printf '\n== %s (%d:%02d)\n' "$*" $((SECONDS / 60)) $((SECONDS % 60)) >&2
}
trap 'printf "\n== failed: %s\n" "$current" >&2' ERR

# libgomp and glibc read these when they are loaded; `mouthpiece` sets them for itself, tests cannot.
export OMP_WAIT_POLICY=passive MALLOC_ARENA_MAX=2

step "format"
cargo fmt --check
step "dependencies: licences, bans, sources (deny.toml), and none that nobody uses"
# All that Cargo.lock names has to be there before it can be judged.
cargo fetch --locked
PATH="$PWD/.deps/tools:$PATH" cargo deny --locked check --hide-inclusion-graph bans licenses sources
PATH="$PWD/.deps/tools:$PATH" cargo shear --locked --deny-warnings
step "lints"
cargo clippy --release --locked --all-targets -- -D warnings
step "documentation"
RUSTDOCFLAGS='-D warnings' cargo doc --release --locked --no-deps --lib
step "the fuzz target builds and reads the fixtures"
cargo build --locked --manifest-path tests/fuzz/Cargo.toml
"${CARGO_TARGET_DIR:-tests/fuzz/target}/debug/checkpoint" tests/fixtures/checkpoints/*
step "tests"
cargo test --release --locked --all-targets
step "the HTTP API against its description"
scripts/fuzz_api.sh --seed 1
step "green"
