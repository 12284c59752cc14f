"""The part `parity`: what our networks draw against what diffusers draws in 32 bits on the same device, from the same weights
and inputs.

UNet and the model's own decoder run as they serve (`bench throughput --check`): layouts, kernels and graphs included. A small
decoder runs by itself (`models run`)."""

import tempfile
import time
import pathlib

import torch
from safetensors.torch import load_file, save_file

import common
import networks

BATCH = 4
# Relative length of the difference, by the floats that ours computed in: of TF32 for 32 bits.
BOUNDS = {"fp32": 5e-3, "fp16": 5e-3, "bf16": 3e-2}
# Of pictures of 256 levels: the mean difference, and the share of those within three levels.
MEAN_LEVELS, WITHIN_THREE = 0.5, 0.999
OFF = {"MOUTHPIECE_KERNELS": "off", "MOUTHPIECE_GRAPHS": "off"}
LIMIT = 40


def relative(ours, theirs):
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).norm() / theirs.norm()).item()


def levels(picture):
    """As it is shown."""
    return ((picture.float() / 2 + 0.5).clamp(0, 1) * 255).round()


def apart(ours, theirs, dtype):
    """How far a picture is from another."""
    difference = (levels(ours) - levels(theirs)).abs()
    found = {"relative": relative(ours, theirs), "mean_levels": difference.mean().item(),
             "within_three": (difference <= 3).float().mean().item(), "most_levels": difference.max().item()}
    holds = found["relative"] <= BOUNDS[dtype] and found["mean_levels"] < MEAN_LEVELS
    return {**found, "holds": holds and found["within_three"] >= WITHIN_THREE}


class Parity:
    def __init__(self, given, place, figures):
        self.given, self.place, self.figures = given, place, figures
        self.device = torch.device(given.device)
        common.use_one_thread(torch, self.device)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=place.work))
        self.sample, self.tokens = networks.inputs(place, BATCH)
        unet, self.vae = networks.unet(place, self.device).float(), networks.vae(place, self.device).float()
        self.taesd = networks.taesd(place, self.device).float()
        self.latent = unet(self.on_device(self.sample), 0, self.on_device(self.tokens)).sample / networks.scaling_factor(place)
        self.picture = self.decoded(self.latent)

    def on_device(self, tensor):
        return tensor.to(self.device)

    def decoded(self, latent):
        return self.vae.decode(self.on_device(latent).float()).sample

    def ours(self, name, dtype, changes, frames=BATCH):
        """Latent and picture of the first frames, as serving computes them."""
        given, made = self.folder / "in.safetensors", self.folder / f"{name}.safetensors"
        save_file({"sample": self.sample[:frames].contiguous(), "tokens": self.tokens[:frames].contiguous()}, given)
        command = [self.place.program, "bench", "throughput", "--json", "--avatar", common.AVATARS["vae"], "--device",
                   self.given.device, "--dtype", dtype, "--batch", str(BATCH), "--rounds", "1", "--check", given, made]
        told = self.run(f"parity-{name}", command, changes)
        drawn = {key: self.on_device(value) for key, value in load_file(made).items()}
        made.unlink()
        return drawn, told

    def run(self, log, command, changes=None):
        told = common.run(command, self.place.environment(changes), self.place.logs / f"{log}.err",
                          common.left(self.given, LIMIT))
        if "error" in told:
            raise RuntimeError(told["error"])
        return told

    def as_served(self, name, dtype, changes=None):
        drawn, told = self.ours(name, dtype, changes)
        latent, picture = drawn["latent"], drawn["picture"]
        unet = relative(latent, self.latent)
        return {
            "dtype": dtype, "environment": changes or {}, "took": told["took"],
            "unet": {"relative": unet, "holds": unet <= BOUNDS[dtype]},
            # Of our own latent, so that it is the decoder alone.
            "vae": apart(picture, self.decoded(latent), dtype),
            "both": apart(picture, self.picture, dtype),
            "picture_deviation": self.picture.std().item(),
        }

    def alone(self, dtype):
        """A frame in a batch and the same frame alone."""
        together, _ = self.ours("together", dtype, None)
        single, _ = self.ours("single", dtype, None, frames=1)
        found = {key: relative(single[key], together[key][:1]) for key in ("latent", "picture")}
        return {**found, "holds": all(value <= BOUNDS[dtype] for value in found.values())}

    def small_decoder(self, dtype):
        given, made = self.folder / "latent.safetensors", self.folder / "taesd.safetensors"
        # Within what a TAESD does not clip, as its latents are.
        latent = self.sample[:, :4].contiguous()
        save_file({"latent": latent}, given)
        command = [self.place.program, "models", "run", self.place.models / common.SMALL_DECODER, "--network", "taesd-decode",
                   "--in", given, "--out", made, "--dtype", dtype, "--device", self.given.device]
        told = self.run(f"parity-taesd-{dtype}", command)
        theirs = self.taesd.decode(self.on_device(latent)).sample
        return {"took": told["took"], **apart(self.on_device(load_file(made)["out"]), theirs, dtype)}


def main():
    given = common.arguments(__doc__).parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "parity")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    started = time.monotonic()
    with torch.inference_mode():
        parity = Parity(given, place, figures)
        figures.tell("reference", {"seconds": round(time.monotonic() - started, 2), "batch": BATCH})
        # Most of a CPU's cores take minutes for what 16 bits are quicker for on a GPU.
        dtypes = ("fp16", "bf16", "fp32") if parity.device.type == "cuda" else ("fp32",)
        for dtype in dtypes:
            figures.attempt(dtype, lambda: parity.as_served(dtype, dtype))
        served = dtypes[0]
        figures.attempt(f"{served} plain", lambda: parity.as_served("plain", served, OFF))
        figures.attempt(f"{served} alone", lambda: parity.alone(served))
        for dtype in dtypes:
            figures.attempt(f"taesd {dtype}", lambda: parity.small_decoder(dtype))


if __name__ == "__main__":
    main()
