#!/usr/bin/env bash
# Packs what measuring on a GPU needs into one file: for a machine with an NVIDIA GPU and PyTorch 2.11 (CUDA 13), but without
# GStreamer, cargo and a network.
#
#   scripts/gpu_bundle.sh                    writes out/gpu-bundle.tar.xz, some 50 MB
#   scripts/gpu_bundle.sh --out FILE
#   scripts/gpu_bundle.sh --program FILE     packs this build of `mouthpiece` instead of one made now
#
# There, in any folder:
#
#   tar xf gpu-bundle.tar.xz && mouthpiece-gpu/run.sh        # scripts/gpu/run.sh says what it measures, and its options
#
# In the bundle: the program; GStreamer's plugins that it uses, and espeak-ng; every library that those need and a machine
# may lack; the demo, the voice and the lists of MuseTalk's tensors; diffusers; scripts/gpu. Not in it: libtorch and CUDA,
# which the PyTorch of that machine brings, and glibc and libstdc++, which have to be as new there as here.
# To be run on Debian 12 after scripts/setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

out=out/gpu-bundle.tar.xz
program=
while [ $# -gt 0 ]; do
  case "$1" in
    --out) out=${2:?} && shift 2 ;;
    --program) program=${2:?} && shift 2 ;;
    *) echo "gpu_bundle.sh: unknown argument '$1' (known: --out FILE, --program FILE)" >&2; exit 2 ;;
  esac
done
most_bytes=60000000

# Files of this project and where they lie in the bundle; tests/it/programs.rs looks whether they are there.
scripts=(scripts/gpu/run.sh scripts/gpu/parts.py scripts/gpu/common.py scripts/gpu/summary.py scripts/gpu/weights.py
  scripts/gpu/networks.py scripts/gpu/parity.py scripts/gpu/engine.py scripts/gpu/eager.py scripts/gpu/compiled.py
  scripts/gpu/server.py)
home=(pipelines models/demo/config.json models/demo/model.safetensors models/demo/LICENSE models/avatars/demo
  models/musetalk)
shim_source=src/musetalk/gpu/shim.cpp
# What is loaded beside libtorch's CUDA half, where setup.sh or setup.sh --cuda compiles it.
shims=(.deps/shim/libmouthpiece_cuda.so .deps/libtorch/cuda/torch/lib/libmouthpiece_cuda.so)

plugins=(app audioconvert audioparsers audioresample audiotestsrc coreelements dtls isomp4 nice nvcodec openh264 opus
  opusparse rtp rtpmanager sctp srtp typefindfunctions videoconvertscale videoparsersbad videotestsrc vpx webrtc x264)
# libsrtp takes its ciphers from NSS, which opens these by name: nothing depends on them, and each is checked by its .chk.
opened_by_name=(libsoftokn3 libfreebl3 libfreeblpriv3)
# Brought by the machine: PyTorch; the driver; what belongs to its glibc and compiler.
brought='^(libtorch|libc10|libcudart|libcupti|libcuda\.|libnvidia|libgomp|libstdc\+\+|libgcc_s|ld-linux|linux-vdso)'
brought+='|^(libc|libm|libdl|libpthread|librt|libresolv|libutil|libanl|libmvec|libnsl|libnss_[a-z]+|libBrokenLocale)\.so'
# Of the driver's family as well: one that does not fit it is worse than none.
brought+='|^(libGL|libEGL|libGLX|libGLdispatch|libOpenGL|libgbm|libdrm|libvulkan|libva)[.-]'

say() { printf 'gpu_bundle: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

for tool in gcc ldd readelf strip xz unzip python3; do
  command -v "$tool" >/dev/null || fail "$tool is missing (Debian: gcc, binutils, xz-utils, unzip, python3)"
done
if [ -z "$program" ]; then
  say "building"
  cargo build --release --locked --bin mouthpiece
  program=target/release/mouthpiece
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle="$work/mouthpiece-gpu"
mkdir -p "$bundle"/{bin,lib,plugins,python,gpu,home,no-modules}
system=$(dirname "$(ldconfig -p | awk '/libgstreamer-1\.0\.so\.0 / && !found {print $NF; found = 1}')")
[ -d "$system/gstreamer-1.0" ] || fail "GStreamer's plugins are not in $system: run scripts/setup.sh"

strip -o "$bundle/bin/mouthpiece" "$program"
cp "$system"/gstreamer1.0/gstreamer-1.0/gst-plugin-scanner "$(command -v espeak-ng)" "$bundle/bin/"
# English is what is measured with; the dictionaries of other languages are most of it.
cp -r "$system/espeak-ng-data" "$bundle/"
find "$bundle/espeak-ng-data" -name '*_dict' ! -name en_dict -delete
for plugin in "${plugins[@]}"; do cp "$system/gstreamer-1.0/libgst$plugin.so" "$bundle/plugins/"; done
for library in "${opened_by_name[@]}"; do cp "$system/$library".{so,chk} "$bundle/lib/"; done

for file in "${home[@]}"; do
  mkdir -p "$bundle/home/$(dirname "$file")"
  cp -r "$file" "$bundle/home/$file"
done
python3 scripts/gpu/loose_png.py "$bundle/home/models/avatars/demo/frames"
mkdir -p "$bundle/home/models/voices"
cp -rL models/voices/hibari "$bundle/home/models/voices/" || fail "models/voices/hibari is missing: run scripts/setup.sh"
cp "${scripts[@]}" "$bundle/gpu/"
mv "$bundle/gpu/run.sh" "$bundle/run.sh"

cache="${MOUTHPIECE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mouthpiece}"
wheels="$cache/gpu-wheels-$(sha256sum scripts/gpu/requirements.txt | cut -c 1-12)"
if [ ! -d "$wheels" ]; then
  say "downloading diffusers: 4 MB"
  python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --python-version 3.12 \
    -d "$work/wheels" -r scripts/gpu/requirements.txt
  mkdir -p "$(dirname "$wheels")"
  mv "$work/wheels" "$wheels"
fi
for wheel in "$wheels"/*.whl; do unzip -q "$wheel" -d "$bundle/python"; done

# The shim, compiled or to be compiled there. It is nothing that anything depends on: mouthpiece opens it.
if [ -f "$shim_source" ]; then cp "$shim_source" "$bundle/gpu/"; fi
for shim in "${shims[@]}"; do
  [ ! -f "$shim" ] || [ -f "$bundle/lib/libmouthpiece_cuda.so" ] || cp -L "$shim" "$bundle/lib/"
done

# Everything that is linked, of everything that is linked.
find "$bundle/bin" "$bundle/lib" "$bundle/plugins" -type f ! -name '*.chk' ! -name libmouthpiece_cuda.so -print0 |
  LD_LIBRARY_PATH="$PWD/.deps/libtorch/lib" xargs -0 ldd >"$work/linked" 2>&1 || true
if awk '/not found/ {print $1}' "$work/linked" | grep -Ev "$brought" >"$work/missing"; then
  fail "not here, but linked: $(sort -u "$work/missing" | tr '\n' ' ')"
fi
awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' "$work/linked" | sort -u | grep -Ev "$brought" | while read -r name path; do
  [ -e "$bundle/lib/$name" ] || cp -L "$path" "$bundle/lib/$name"
done
# What ICU knows of languages is 30 MB and never asked for: libnice is linked with what is linked with a reader of XML.
for data in "$bundle"/lib/libicudata.so.*; do
  version=${data##*.}
  echo "const char icudt${version}_dat[64] = {0};" | gcc -shared -x c - -Wl,-soname,"$(basename "$data")" -o "$data"
done
find "$bundle/lib" "$bundle/plugins" -name '*.so*' -type f ! -name 'libsoftokn3*' ! -name 'libfreebl*' \
  -exec strip --strip-unneeded {} +
# The newest glibc that any of it asks for.
glibc=$(find "$bundle/bin" "$bundle/lib" "$bundle/plugins" -type f ! -name '*.chk' -exec readelf -V {} + 2>/dev/null |
  grep -o 'GLIBC_2\.[0-9]*' | sort -Vu | tail -n 1)

commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
git diff --quiet HEAD 2>/dev/null || commit+=" with changes"
python3 - "$bundle/bundle.json" "$commit" "$glibc" "$(date --utc +%FT%TZ)" <<'PYTHON'
import json, pathlib, sys
path, commit, glibc, packed = sys.argv[1:]
pathlib.Path(path).write_text(json.dumps({"commit": commit, "needs": glibc, "packed": packed}) + "\n")
PYTHON

say "$(du -sm "$bundle" | cut -f 1) MB to pack"
mkdir -p "$(dirname "$out")"
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work" -cf - mouthpiece-gpu | xz -T0 -6 >"$work/packed"
bytes=$(stat -c %s "$work/packed")
[ "$bytes" -le "$most_bytes" ] || fail "$bytes bytes are more than the $most_bytes that it may have"
mv "$work/packed" "$out"
say "$out: $bytes bytes, needs ${glibc/_/ }, commit $commit"
