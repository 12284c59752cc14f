#!/usr/bin/env bash
# Measures mouthpiece on an NVIDIA GPU, in parts, on a machine that has PyTorch and nothing else of what it needs. This file
# is in the bundle that scripts/gpu_bundle.sh packs, beside everything that it names.
#
#   ./run.sh                                    all parts, within six minutes
#   ./run.sh weights engine                     only these; what an earlier call wrote for other parts stays
#   ./run.sh --limit 300 --out /results server
#   ./run.sh --small --device cpu               the same on small networks, to try it without a GPU
#
#   weights    random weights at full size, and avatars for them
#   engine     `mouthpiece bench throughput`, with and without kernels of our own and CUDA graphs
#   eager      the same networks in diffusers: eager in both layouts, and as a CUDA graph
#   parity     what our networks draw against what diffusers draws in 32 bits
#   server     `mouthpiece bench sessions` and `bench latency`: the whole server with WebRTC viewers
#   compiled   the networks of `eager` after torch.compile, for what time is left
#
# Everything goes into one file, results.json in --out (default: ./results), which is written anew after each figure, so
# that a run that is ended early has told what it knew. What the programs wrote to their stderr is in logs/ beside it, or in
# the folder that --work names.
set -euo pipefail
bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The machine's own PyTorch: it brings libtorch, and CUDA's libraries with it.
python=${PYTHON:-}
for candidate in python3 /opt/torch/.venv/bin/python3 python; do
  [ -n "$python" ] && break
  "$candidate" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null &&
    python=$candidate
done
if [ -z "$python" ]; then
  echo "run.sh: no Python here has PyTorch; PYTHON names one that has" >&2
  exit 2
fi

# diffusers, which such a machine seldom has.
export PYTHONPATH="$bundle/python${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec "$python" "$bundle/gpu/parts.py" --bundle "$bundle" "$@"
