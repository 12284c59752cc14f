#!/usr/bin/env python3
"""Writes tests/fixtures/musetalk: what MuseTalk's preparation computes, and a small folder as its realtime script leaves it.

The arithmetic is upstream's (musetalk/utils/{preprocessing,blending,face_parsing}, scripts/realtime_inference.py), written
anew on the same calls of numpy, OpenCV and Pillow. What upstream's networks find is drawn here: points by chance, and a map
of BiSeNet's classes. The folder's pickles are written without PyTorch, byte by byte as torch.save orders them.

    python3 -m venv /tmp/musetalk
    /tmp/musetalk/bin/pip install 'numpy<2' opencv-python-headless==4.9.0.80 pillow==10.4.0
    /tmp/musetalk/bin/python scripts/make_musetalk_fixtures.py
"""

import collections
import io
import json
import pathlib
import pickle
import sys
import types
import zipfile

import cv2
import numpy as np
from PIL import Image

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "musetalk"
BRIDGE = 29


def face_box(points, shift, margin, height):
    """The box of a face from its 68 points, as numpy has them."""
    points = points.copy()
    middle = points[BRIDGE]
    if shift != 0:
        middle[1] = shift + middle[1]
    half = np.max(points[:, 1]) - middle[1]
    top = max(0, middle[1] - half)
    left, right, bottom = np.min(points[:, 0]), np.max(points[:, 0]), np.max(points[:, 1])
    if margin is not None:
        bottom = min(bottom + margin, height)
    return left, int(top), right, bottom


def surroundings(box, expand=1.5):
    left, top, right, bottom = box
    x, y = (left + right) // 2, (top + bottom) // 2
    half = int(max(right - left, bottom - top) // 2 * expand)
    return [x - half, y - half, x + half, y + half]


def make_geometry(generator):
    cases = []
    for number in range(24):
        centre, size = generator.integers(120, 520, 2), generator.integers(40, 160)
        points = (centre + generator.uniform(-size, size, (68, 2))).clip(0).astype(np.int32)
        points[BRIDGE] = centre + generator.integers(-10, 10, 2)
        if number % 6 == 0:
            # So low that the box would begin above the frame.
            points[:, 1] -= points[BRIDGE, 1] - 30
        shift = [0, 5, -9, 40][number % 4]
        height = 640 if number % 3 else int(points[:, 1].max()) + 4
        first = face_box(points, shift, None, height)
        latest = face_box(points, 0, 10, height)
        cases.append({
            "points": points.tolist(), "shift": shift, "height": height,
            "first": [int(value) for value in first], "latest": [int(value) for value in latest],
            "first_around": [int(value) for value in surroundings(first)],
            "latest_around": [int(value) for value in surroundings(latest)],
        })
    (OUT / "geometry.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def draw_classes():
    """A head as BiSeNet sees it: hair, ears, neck, skin, nose, lips; and skin that touches the edges."""
    classes = np.zeros((512, 512), np.uint8)
    cv2.ellipse(classes, (256, 210), (190, 200), 0, 0, 360, 17, -1)
    cv2.rectangle(classes, (190, 380), (330, 511), 14, -1)
    cv2.ellipse(classes, (256, 256), (132, 168), 4, 0, 360, 1, -1)
    cv2.ellipse(classes, (115, 250), (16, 40), 0, 0, 360, 7, -1)
    cv2.ellipse(classes, (256, 262), (26, 58), 0, 0, 360, 10, -1)
    cv2.ellipse(classes, (256, 352), (52, 22), 0, 0, 180, 13, -1)
    cv2.ellipse(classes, (256, 352), (52, 18), 0, 180, 360, 12, -1)
    cv2.ellipse(classes, (256, 350), (36, 6), 0, 0, 360, 11, -1)
    # A hand, a speck, and skin at the edges.
    cv2.ellipse(classes, (330, 430), (60, 24), 30, 0, 360, 1, -1)
    classes[300, 60] = 1
    classes[500:, 440:] = 1
    classes[:6, :9] = 1
    classes[240:300, 508:] = 1
    return classes


def kernels():
    cone, tail = 21, 12
    total = cone + tail
    kernel = np.zeros((total, total), np.uint8)
    for row in range(cone // 2, cone):
        width = 2 * (row - cone // 2) + 1
        kernel[row, total // 2 - width // 2 : total // 2 + width // 2 + 1] = 1
    base = int(kernel[cone - 1].sum())
    kernel[cone:, total // 2 - base // 2 : total // 2 + base // 2 + 1] = 1
    return kernel, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (35, 3))


def jaw(classes, cheek=90):
    kernel, flat = kernels()
    cheeks = np.zeros((512, 512), np.uint8)
    cv2.rectangle(cheeks, (0, 0), (256 - cheek, 512), 255, -1)
    cv2.rectangle(cheeks, (256 + cheek, 0), (512, 512), 255, -1)
    grown = cv2.dilate((classes == 1).astype(np.uint8) * 255, kernel, iterations=1)
    worn = cv2.erode(grown, flat, iterations=2)
    face = cv2.bitwise_or(cv2.bitwise_and(worn, cheeks), cv2.bitwise_and(grown, ~cheeks))
    opaque = (face == 255) & (classes != 10) | np.isin(classes, [11, 12, 13])
    return opaque.astype(np.uint8) * 255


def raw(classes):
    return np.isin(classes, [1, 11, 12, 13]).astype(np.uint8) * 255


def neck(classes):
    return np.isin(classes, [1, 11, 12, 13, 14]).astype(np.uint8) * 255


def feathered(opaque, box):
    """The mask of the surroundings, and where they are."""
    x, y, x1, y1 = box
    around = surroundings(box)
    x_s, y_s, x_e, y_e = around
    size = (x_e - x_s, y_e - y_s)
    scaled = Image.fromarray(opaque).resize(size)
    place = (x - x_s, y - y_s, x1 - x_s, y1 - y_s)
    mask = Image.new("L", size, 0)
    mask.paste(scaled.crop(place), place)
    top = int(size[1] * 0.5)
    lower = Image.new("L", size, 0)
    lower.paste(mask.crop((0, top, size[0], size[1])), (0, top))
    kernel = int(0.1 * size[0] // 2 * 2) + 1
    return cv2.GaussianBlur(np.array(lower), (kernel, kernel), 0), around


BOXES = {"large": (140, 95, 465, 470), "small": (30, 12, 113, 121), "odd": (5, 3, 226, 202)}


def make_masks():
    classes = draw_classes()
    Image.fromarray(classes).save(OUT / "classes.png", optimize=True)
    Image.fromarray(jaw(classes)).save(OUT / "jaw.png", optimize=True)
    Image.fromarray(raw(classes)).save(OUT / "raw.png", optimize=True)
    Image.fromarray(neck(classes)).save(OUT / "neck.png", optimize=True)
    for name, box in BOXES.items():
        mask, (x, y, _, _) = feathered(jaw(classes), box)
        part = mask[box[1] - y : box[3] - y, box[0] - x : box[2] - x]
        Image.fromarray(part).save(OUT / f"mask-{name}.png", optimize=True)
    (OUT / "boxes.json").write_text(json.dumps(BOXES) + "\n")


def make_scaled():
    """A picture as Pillow scales what face parsing sees; every level occurs, and edges that overshoot."""
    rows, columns = np.mgrid[0:41, 0:53]
    colours = [(rows * 53 + columns) % 256, 255 * ((rows // 7 + columns // 5) % 2), (rows * rows + 3 * columns) % 256]
    picture = Image.fromarray(np.stack(colours, -1).astype(np.uint8))
    picture.save(OUT / "scaled-from.png", optimize=True)
    for name, size, how in (("smaller", (19, 23), Image.BILINEAR), ("larger", (70, 64), Image.BILINEAR),
                            ("cubic", (31, 66), Image.BICUBIC)):
        picture.resize(size, how).save(OUT / f"scaled-{name}.png", optimize=True)


class Storage:
    def __init__(self, key, numbers):
        self.key, self.numbers = key, numbers


class Tensor:
    def __init__(self, storage, shape):
        self.storage, self.shape = storage, shape

    def __reduce__(self):
        strides = tuple(int(np.prod(self.shape[at + 1 :])) for at in range(len(self.shape)))
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, 0, self.shape, strides, False, collections.OrderedDict())


def named(module, name):
    """A function that pickles by this name; PyTorch itself is not there."""
    def stand_in():
        pass

    stand_in.__module__, stand_in.__qualname__, stand_in.__name__ = module, name, name
    sys.modules.setdefault(module, types.ModuleType(module))
    setattr(sys.modules[module], name, stand_in)
    return stand_in


def save_tensors(path, tensors):
    """As torch.save writes a list of them that were on a GPU."""
    half = named("torch", "HalfStorage")
    named("torch._utils", "_rebuild_tensor_v2")

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if isinstance(item, Storage):
                return ("storage", half, item.key, "cuda:0", item.numbers.size)

    data = io.BytesIO()
    Pickler(data, protocol=2).dump(tensors)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        def add(name, content):
            archive.writestr(zipfile.ZipInfo(f"latents/{name}"), content)

        add("data.pkl", data.getvalue())
        add("byteorder", b"little")
        for storage in {tensor.storage.key: tensor.storage for tensor in tensors}.values():
            add(f"data/{storage.key}", storage.numbers.tobytes())
        add("version", b"3\n")


def make_avatar(generator):
    """Three frames of 97 x 81, there and back; latents of a small model."""
    folder = OUT / "avatar"
    (folder / "full_imgs").mkdir(parents=True, exist_ok=True)
    (folder / "mask").mkdir(exist_ok=True)
    rows, columns = np.mgrid[0:81, 0:97]
    frames, boxes, latents = [], [], []
    for number in range(3):
        colours = [60 + columns + 10 * number, 200 - rows, 90 + (rows + columns) // 2]
        frames.append(np.stack(colours, -1).clip(0, 255).astype(np.uint8))
        points = np.array([[20 + number, 40], [70, 75 + number]], np.int32)
        # numpy's integers and Python's, as upstream mixes them.
        boxes.append((np.min(points[:, 0]), int(14 + number), np.max(points[:, 0]), np.max(points[:, 1])))
        numbers = generator.standard_normal((1, 8, 8, 8)).astype(np.float16)
        latents.append(Tensor(Storage(str(number), numbers), numbers.shape))
    frames, boxes, latents = [half + half[::-1] for half in (frames, boxes, latents)]
    around = []
    for number, (frame, box) in enumerate(zip(frames, boxes)):
        cv2.imwrite(str(folder / "full_imgs" / f"{number:08d}.png"), frame)
        mask, place = feathered(jaw(draw_classes()), box)
        cv2.imwrite(str(folder / "mask" / f"{number:08d}.png"), mask)
        around.append(place)
    for name, value in (("coords", boxes), ("mask_coords", around)):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(value))
    save_tensors(folder / "latents.pt", latents)
    info = {"avatar_id": "avator_1", "video_path": "data/video/drawn.mp4", "bbox_shift": 0, "version": "v15"}
    (folder / "avator_info.json").write_text(json.dumps(info))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(16)
    make_geometry(generator)
    make_masks()
    make_scaled()
    make_avatar(generator)


if __name__ == "__main__":
    main()
