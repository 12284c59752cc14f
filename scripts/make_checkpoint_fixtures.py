#!/usr/bin/env python3
"""Writes tests/fixtures/checkpoints: tiny files of weights in every dialect that real ones come in, and hostile ones.

`expected.safetensors` holds what each of them means, as "file/tensor". The fuzzer starts from the same files.

    python3 -m venv /tmp/parity
    /tmp/parity/bin/pip install torch==2.11.0 'numpy<2' safetensors
    /tmp/parity/bin/python scripts/make_checkpoint_fixtures.py
"""

import io
import pathlib
import struct
import zipfile
from collections import OrderedDict

import torch
from safetensors.torch import save_file
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "checkpoints"


def network():
    """A convolution, a norm with integers among its state, a linear layer without bias."""
    torch.manual_seed(1234)
    model = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 4, 3), norm=nn.BatchNorm2d(4), out=nn.Linear(4, 3, bias=False)))
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def views():
    base = torch.arange(48, dtype=torch.float32)
    return {
        "transposed": base[:12].view(3, 4).t(),
        "middle": base.view(6, 8)[2:5, 1::3],
        "shared": base[40:],
        "channels_last": base[:36].view(1, 4, 3, 3).clone().to(memory_format=torch.channels_last),
        "expanded": base[3:4].expand(2, 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "one_row_of_a_matrix": base.view(6, 8)[5:6],
    }


def types():
    values = [0, 1, 2, 3, 100, 7]
    floats = {str(t).removeprefix("torch."): torch.tensor([-1.5, 0.1, 65000, 1e-3]).to(t)
              for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
    integers = {str(t).removeprefix("torch."): torch.tensor(values).to(t)
                for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)}
    return floats | integers


class Python2Dict:
    """Pickles as Python 2's OrderedDict did: all of the content as one argument."""

    def __init__(self, tensors):
        self.tensors = tensors

    def __reduce__(self):
        return OrderedDict, ([[name, tensor] for name, tensor in self.tensors.items()],)


def archive(members, top="archive", method=zipfile.ZIP_STORED):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as writer:
        for name, content in members.items():
            writer.writestr(zipfile.ZipInfo(f"{top}/{name}"), content, compress_type=method)
    return made.getvalue()


def calls(module, name, argument):
    """A pickle that calls a function by name when Python loads it."""
    text = argument.encode()
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X" + struct.pack("<I", len(text)) + text + b"\x85R."


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    state, expected = network().state_dict(), {}

    def save(name, obj, tensors, **options):
        torch.save(obj, OUT / name, **options)
        expected.update({f"{name}/{key}": value.detach().clone().contiguous() for key, value in tensors.items()})

    legacy = {"_use_new_zipfile_serialization": False}
    plain = dict(state)
    parameters = dict(network().named_parameters())
    save("ordered-dict.pth", state, state)
    save("a foreign name.bin", plain, plain)
    save("parameters.pt", parameters, parameters)
    save("views.pth", views(), views())
    save("types.pth", types(), types())
    save("nested.pth", {"epoch": 3, "lr": 0.1, "note": "x", "state_dict": {"model": state}}, state)
    save("openai.pt", {"dims": {"n_mels": 80}, "model_state_dict": plain}, plain)
    save("protocol-4.pth", state, state, pickle_protocol=4)
    save("half.bin", {key: value.half() for key, value in plain.items() if value.is_floating_point()},
         {key: value.half() for key, value in plain.items() if value.is_floating_point()})
    save("legacy.pth", state, state, **legacy)
    save("legacy-views.pth", views(), views(), **legacy)
    save("legacy-types.pth", types(), types(), **legacy)
    save("legacy-python2.pth", Python2Dict(plain), plain, **legacy)
    in_memory = io.BytesIO()
    torch.save(state, in_memory)
    (OUT / "no-name.pth").write_bytes(in_memory.getvalue())
    save_file(plain, OUT / "plain.safetensors", {"format": "pt"})
    for name in ("no-name.pth", "plain.safetensors"):
        expected.update({f"{name}/{key}": value.clone() for key, value in plain.items()})
    save_file(expected, OUT / "expected.safetensors")

    attack = calls("os", "system", "touch mouthpiece-ran-this")
    (OUT / "hostile-os-system.pth").write_bytes(archive({"data.pkl": attack, "version": b"3\n"}))
    torch.save(network(), OUT / "hostile-whole-module.pth")
    (OUT / "hostile-bomb.pth").write_bytes(
        archive({"data.pkl": bytes(1 << 20), "version": b"3\n"}, method=zipfile.ZIP_DEFLATED))
    torch.save({"weight": torch.zeros(1).expand(1 << 20, 1 << 20)}, OUT / "hostile-expanded.pth")


if __name__ == "__main__":
    main()
