#!/usr/bin/env python3
"""Writes tests/fixtures/face_parser: what facexlib's BiSeNet, which has upstream's architecture and names, computes in PyTorch.

The published weights are not at hand where this runs, so all are made by a formula, of each tensor's name and each number's
place, that tests/it/face_parser.rs has too: nothing of them needs to be stored. `tensors` lists names and shapes, `cases.json`
has what comes out, at some places.

    python3 -m venv /tmp/face-parser
    /tmp/face-parser/bin/pip install torch==2.11.0 'numpy<2' pillow==10.4.0
    /tmp/face-parser/bin/pip install --no-deps facexlib==0.3.0
    /tmp/face-parser/bin/python scripts/make_face_parser_fixtures.py
"""

import importlib
import importlib.util
import json
import math
import pathlib
import sys
import types

import numpy as np
import torch
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "face_parser"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def bisenet():
    """facexlib's module alone: the package wants much else that this does not need."""
    package = types.ModuleType("parsing")
    package.__path__ = [str(pathlib.Path(importlib.util.find_spec("facexlib").submodule_search_locations[0]) / "parsing")]
    sys.modules["parsing"] = package
    return importlib.import_module("parsing.bisenet").BiSeNet(num_class=19)


def noise(name, count):
    """So many numbers from -0.5 to 0.5, by FNV-1a of the name and SplitMix64 of the place."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5


def weights(name, shape):
    numbers = noise(name, math.prod(shape))
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        numbers = 1 + 0.5 * numbers
    elif len(shape) == 4:
        numbers = numbers * math.sqrt(24 / math.prod(shape[1:]))
    return numbers.astype(np.float32).reshape(shape)


def fill(network):
    network.load_state_dict({
        name: tensor if name.endswith("num_batches_tracked") else torch.from_numpy(weights(name, tuple(tensor.shape)))
        for name, tensor in network.state_dict().items()
    })
    return network.eval()


def picture():
    """200 x 200, a drawn head or what may pass for one, with noise."""
    y, x = np.mgrid[0:200, 0:200]
    inside = ((x - 100) ** 2 * 2 + (y - 90) ** 2) < 6400
    plain = np.stack([60 + x // 2, 200 - y // 2, 40 + (x + y) // 3], -1) + inside[..., None] * np.array([90, -30, 40])
    return (plain + 24 * noise("picture", 120_000).reshape(200, 200, 3)).round().clip(0, 255).astype(np.uint8)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    network = fill(bisenet())
    lines = [" ".join([name, *map(str, tensor.shape)]) for name, tensor in network.state_dict().items()]
    (OUT / "tensors").write_text("\n".join(lines) + "\n")
    with torch.no_grad():
        seen = network(torch.from_numpy(noise("input", 3 * 96 * 64).astype(np.float32).reshape(1, 3, 96, 64) * 4))[0]
        # As upstream's FaceParsing does it.
        scaled = np.asarray(Image.fromarray(picture()).resize((512, 512), Image.BILINEAR), np.float32) / 255
        normalised = (scaled - np.float32(MEAN)) / np.float32(DEVIATION)
        classes = network(torch.from_numpy(normalised.transpose(2, 0, 1)[None].copy()))[0]
        margins = classes[0].topk(2, dim=0).values
    found = classes[0].argmax(0).numpy().astype(np.uint8)
    print("classes", np.bincount(found.ravel(), minlength=19).tolist())
    print("logits", seen.std().item(), "least margin", (margins[0] - margins[1]).min().item())
    cases = {
        # Every 16th pixel of every class: 96 x 64 gives 6 x 4.
        "seen": [round(value, 6) for value in seen[0, :, 5::16, 5::16].flatten().tolist()],
        # Every 16th pixel each way, from the ninth on: 32 x 32.
        "classes": found[8::16, 8::16].flatten().tolist(),
    }
    (OUT / "cases.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
