#!/usr/bin/env python3
"""Draws with the same network here and in PyTorch, on the same machine in the same run, and prints how much quicker ours is.

The UNet is diffusers' UNet2DConditionModel, the decoder AutoencoderKL or AutoencoderTiny, or plain modules where a model's
decoder has what AutoencoderTiny has not (levels of different widths, a pixel shuffle), all with the model's own
configuration and weights. From latents and audio tokens to the decoded picture; all rows of it, so that both do the same
arithmetic. Before anything is timed, both draw the same inputs in 32 bits and must agree.

Ours and theirs take turns, `--turns` times; of each turn's rounds the median counts, and of the turns' medians the median.
On a CPU both compute in 32 bits with one thread, and PyTorch also with channels innermost in memory, as ours does. On a GPU
both compute in 16 bits, and PyTorch is also compiled. `ours_as_served_ms` is in the floats that serving takes.

    python3 -m venv out/compare-venv && out/compare-venv/bin/pip install -r scripts/compare_requirements.txt
    cargo build --release --bins
    out/compare-venv/bin/python scripts/compare_pytorch.py
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import pixel_shuffle, relu

ROOT = pathlib.Path(__file__).resolve().parent.parent
WARM_UP_ROUNDS = 3
TOLERANCE = 1e-3
PARTS = ("audio_encoder", "unet", "autoencoder")


class TinyBlock(nn.Module):
    """AutoencoderTinyBlock of as many channels out as in."""

    def __init__(self, channels):
        super().__init__()
        conv = lambda: nn.Conv2d(channels, channels, 3, padding=1)
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())

    def forward(self, x):
        return relu(self.conv(x) + x)


class TinyDecoder(nn.Module):
    """DecoderTiny with a width for each level and a pixel shuffle at the end."""

    def __init__(self, config):
        super().__init__()
        channels = config["decoder_block_out_channels"]
        self.shuffle = config.get("pixel_shuffle", 1)
        layers = [nn.Conv2d(config.get("latent_channels", 4), channels[0], 3, padding=1), nn.ReLU()]
        for level, blocks in enumerate(config["num_decoder_blocks"]):
            layers += [TinyBlock(channels[level]) for _ in range(blocks)]
            if level + 1 < len(channels):
                layers.append(nn.Upsample(scale_factor=config.get("upsampling_scaling_factor", 2)))
                layers.append(nn.Conv2d(channels[level], channels[level + 1], 3, padding=1, bias=False))
            else:
                outputs = config.get("out_channels", 3) * self.shuffle**2
                layers.append(nn.Conv2d(channels[level], outputs, 3, padding=1))
        self.layers = nn.Sequential(*layers)

    def forward(self, latent):
        x = self.layers(torch.tanh(latent / 3) * 3)
        return pixel_shuffle(x, self.shuffle) * 2 - 1


class Theirs(nn.Module):
    """What a model's folder holds, as PyTorch modules."""

    def __init__(self, folder):
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        weights = read_weights(folder)
        settings = {key: value for key, value in config["unet"].items() if value is not None and key[0] != "_"}
        self.unet = UNet2DConditionModel(**settings)
        self.unet.load_state_dict(weights["unet"])
        self.decode_latent, self.scaling = decoder(config["autoencoder"], weights["autoencoder"])
        self.residual = config.get("residual", False)
        per_channel = lambda values, default: torch.tensor(values or [default] * 4).view(1, -1, 1, 1)
        self.register_buffer("std", per_channel(config.get("latent_std"), 1.0) / self.scaling)
        self.register_buffer("mean", per_channel(config.get("latent_mean"), 0.0))
        self.tokens = 10 * (config["audio_encoder"]["encoder_layers"] + 1), config["audio_encoder"]["d_model"]
        self.channels = config["unet"]["in_channels"]
        self.rows = config["crop_size"] // scale_of(config["autoencoder"])

    def generate(self, sample, tokens):
        latent = self.unet(sample, 0, tokens, return_dict=False)[0]
        if self.residual:
            latent = latent + sample[:, -latent.shape[1]:]
        return latent * self.std + self.mean

    def inputs(self, batch, like=None):
        generator = torch.Generator().manual_seed(batch)
        sample = torch.randn(batch, self.channels, self.rows, self.rows, generator=generator)
        tokens = torch.randn(batch, *self.tokens, generator=generator)
        like = self.mean if like is None else like
        return sample.to(like), tokens.to(like)


def read_weights(folder):
    whole = folder / "model.safetensors"
    if not whole.exists():
        return {part: to_float(load_file(folder / f"{part}.safetensors")) for part in PARTS}
    tensors = to_float(load_file(whole))
    cut = lambda part: {key[len(part) + 1:]: value for key, value in tensors.items() if key.startswith(f"{part}.")}
    return {part: cut(part) for part in PARTS}


def to_float(tensors):
    return {key: value.float() for key, value in tensors.items()}


def scale_of(config):
    if config["kind"] == "kl":
        return 2 ** (len(config["block_out_channels"]) - 1)
    steps = len(config["decoder_block_out_channels"]) - 1
    return config.get("pixel_shuffle", 1) * config.get("upsampling_scaling_factor", 2) ** steps


def decoder(config, weights):
    """What turns a latent into a picture, and the factor that the UNet's latents are scaled by."""
    settings = {key: value for key, value in config.items() if key != "kind" and value is not None}
    if config["kind"] == "kl":
        levels = len(settings["block_out_channels"])
        blocks = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
        kl = AutoencoderKL(**({"layers_per_block": 2} | settings | blocks))
        kl.load_state_dict(weights, strict="encoder.conv_in.weight" in weights)
        del kl.encoder
        return Call(kl, lambda latent: kl.decode(latent, return_dict=False)[0]), config.get("scaling_factor", 0.18215)
    widths = config["decoder_block_out_channels"]
    if config.get("pixel_shuffle", 1) == config.get("pixel_unshuffle", 1) == 1 and len(set(widths)) == 1:
        tiny = AutoencoderTiny(**settings)
        tiny.load_state_dict(weights)
        return Call(tiny, lambda latent: tiny.decode(latent, return_dict=False)[0]), config.get("scaling_factor", 1.0)
    plain = TinyDecoder(config)
    prefix = "decoder."
    plain.load_state_dict({key[len(prefix):]: value for key, value in weights.items() if key.startswith(prefix)})
    return plain, config.get("scaling_factor", 1.0)


class Call(nn.Module):
    """A module entered by another way than `forward`."""

    def __init__(self, module, enter):
        super().__init__()
        self.module, self.enter = module, enter

    def forward(self, latent):
        return self.enter(latent)


def check_agreement(theirs, program):
    """The largest differences, in 32 bits on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = pathlib.Path(folder) / "in.safetensors", pathlib.Path(folder) / "out.safetensors"
        sample, tokens = theirs.inputs(2)
        save_file({"sample": sample, "tokens": tokens}, given)
        size = ["--batch", "1", "--rounds", "1", "--device", "cpu", "--dtype", "fp32"]
        subprocess.run([*program, *size, "--check", given, made], check=True, stdout=subprocess.DEVNULL)
        ours = load_file(made)
    latent = theirs.generate(sample, tokens)
    picture = theirs.decode_latent(latent)
    differences = {"latent": (ours["latent"] - latent).abs().max().item(),
                   "picture": (ours["picture"] - picture).abs().max().item()}
    assert all(value <= TOLERANCE for value in differences.values()), f"not the same arithmetic: {differences}"
    assert picture.std() > 1e-2, "a picture of one colour proves nothing"
    return differences


def time_theirs(draw, decode, inputs, rounds, device):
    """Medians in milliseconds for a frame."""
    def now():
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    unet, decoding = [], []
    for _ in range(WARM_UP_ROUNDS + rounds):
        started = now()
        latent = draw(*inputs)
        generated = now()
        decode(latent)
        decoded = now()
        unet.append(generated - started)
        decoding.append(decoded - generated)
    frames = len(inputs[0])
    total = [a + b for a, b in zip(unet, decoding)]
    median = lambda times: statistics.median(times[WARM_UP_ROUNDS:]) * 1000 / frames
    return {"unet": median(unet), "decode": median(decoding), "both": median(total)}


def time_ours(program, arguments, dtype):
    size = ["--batch", ",".join(map(str, arguments.batch)), "--rounds", str(arguments.rounds)]
    done = subprocess.run([*program, *size, "--device", arguments.device, *dtype], check=True, stdout=subprocess.PIPE)
    report = json.loads(done.stdout)
    rows = {}
    for row in report["sizes"]:
        stages = row["stage_ms"]
        rows[row["batch"]] = {"unet": stages["unet"], "decode": stages["decode"],
                              "both": stages["unet"] + stages["decode"]}
    return report, rows


def middle(turns):
    return {stage: round(statistics.median(turn[stage] for turn in turns), 3) for stage in turns[0]}


def compare(arguments):
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    torch.set_num_threads(1)
    program = [arguments.program, "--model", arguments.model]
    theirs = Theirs(arguments.model).eval()
    agreement = check_agreement(theirs, program)
    theirs = theirs.to(device).half() if on_gpu else theirs
    drawers = {"eager": (theirs.generate, theirs.decode_latent)}
    if on_gpu:
        drawers["compiled"] = torch.compile(theirs.generate), torch.compile(theirs.decode_latent)
    else:
        relaid = Theirs(arguments.model).eval().to(memory_format=torch.channels_last)
        relay = lambda draw: lambda first, *others: draw(first.to(memory_format=torch.channels_last), *others)
        drawers["channels_last"] = relay(relaid.generate), relay(relaid.decode_latent)
    ours, served = ({batch: [] for batch in arguments.batch} for _ in range(2))
    others = {}
    for _ in range(arguments.turns):
        report, rows = time_ours(program, arguments, ["--dtype", "fp16" if on_gpu else "fp32"])
        _, as_served = time_ours(program, arguments, [])
        for batch in arguments.batch:
            ours[batch].append(rows[batch])
            served[batch].append(as_served[batch])
            inputs = theirs.inputs(batch)
            for name, (draw, decode) in drawers.items():
                timed = time_theirs(draw, decode, inputs, arguments.rounds, device)
                others.setdefault((name, batch), []).append(timed)
    sizes = []
    for batch in arguments.batch:
        row = {"batch": batch, "ours_ms": middle(ours[batch]), "ours_as_served_ms": middle(served[batch])}
        for name in drawers:
            turns = others[name, batch]
            row[f"{name}_ms"] = middle(turns)
            row[f"times_{name}"] = {
                stage: round(row[f"{name}_ms"][stage] / row["ours_ms"][stage], 2) for stage in row["ours_ms"]}
            ratios = [their["both"] / our["both"] for their, our in zip(turns, ours[batch])]
            row[f"times_{name}"] |= {"least": round(min(ratios), 2), "most": round(max(ratios), 2)}
        sizes.append(row)
    dtype = str(theirs.mean.dtype).removeprefix("torch.")
    return {"model": report["model"], "device": report["device"], "dtype": report["dtype"], "pytorch_dtype": dtype,
            "threads": report["threads"], "pytorch": torch.__version__, "turns": arguments.turns,
            "rounds": arguments.rounds, "largest_difference": agreement, "sizes": sizes, "ours": report}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models" / "demo")
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target" / "release" / "engine-bench")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=lambda text: [int(part) for part in text.split(",")], default=[1, 8])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    with torch.inference_mode():
        print(json.dumps(compare(parser.parse_args()), indent=2))


if __name__ == "__main__":
    main()
