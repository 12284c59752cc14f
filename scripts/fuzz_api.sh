#!/usr/bin/env bash
# Asks a real server everything that its OpenAPI description allows, and much that it does not (schemathesis).
#
#     scripts/fuzz_api.sh [more options of `st run`, such as --max-examples 500]
#
# Needs a build (`cargo build --release`) and python3 with venv; schemathesis is installed into the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
venv="${XDG_CACHE_HOME:-$HOME/.cache}/mouthpiece/schemathesis-$version"
if [ ! -x "$venv/bin/st" ]; then
  echo "Installing schemathesis $version"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet "schemathesis==$version"
fi

work=$(mktemp -d)
# All of it comes from one address.
echo 'limit_addresses = false' >"$work/settings.toml"
"${CARGO_TARGET_DIR:-target}/release/mouthpiece" serve --listen 127.0.0.1:0 --config "$work/settings.toml" >"$work/out" 2>"$work/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$work"' EXIT
until address=$(grep -o 'http://[^ ]*' "$work/out"); do
  kill -0 "$server" || { tail "$work/log"; exit 1; }
  sleep 0.2
done

# A full server says 503, a long text 413, and that a text holds words is beyond what a schema can say (422).
cat >"$work/schemathesis.toml" <<'TOML'
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "507"]
positive_data_acceptance.expected-statuses = ["2xx", "404", "409", "422", "429", "503"]
negative_data_rejection.expected-statuses = ["400", "403", "404", "405", "409", "413", "415", "422", "429", "503"]
TOML
# A stream of events does not end by itself, so nothing could be said of its answer.
# Outputs and pushes are not started: what it makes up would be asked for from other machines. SDP is nothing that it can make up.
# Where the server listens on loopback it asks for no token, so there is none to be left out.
# It keeps what it found in the folder it runs in.
cd "$work"
"$venv/bin/st" --config-file schemathesis.toml run "$address/api/openapi.json" --url "$address" \
  --checks all --exclude-checks ignored_auth --exclude-operation-id events --exclude-operation-id avatarJobEvents \
  --exclude-operation-id startOutput --exclude-operation-id startPush \
  --exclude-operation-id watchByWhep --exclude-operation-id trickleByWhep --request-timeout 10 --no-color "$@"
kill -0 "$server"
