#!/usr/bin/env bash
# Installs what is missing, builds, and serves the demo avatar at http://127.0.0.1:8080.
#
#   scripts/run.sh [arguments of `mouthpiece serve`]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
cargo build --release --locked --bin mouthpiece
exec target/release/mouthpiece serve --avatar demo "$@"
