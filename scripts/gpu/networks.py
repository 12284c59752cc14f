"""The networks of the part `weights` as diffusers has them, from the very files that mouthpiece loads."""

import json

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file

import common

TOKENS = 50


def filled(build, file, device):
    """A network without weights, then those of the file: nothing is drawn at random that is overwritten."""
    with torch.device("meta"):
        network = build()
    network.load_state_dict(load_file(file, device=str(device)), assign=True)
    return network.eval().requires_grad_(False)


def settings(folder):
    return json.loads((folder / "config.json").read_text())


def unet(place, device):
    config = settings(place.model)["unet"]
    return filled(lambda: UNet2DConditionModel(**config), place.model / "unet.safetensors", device)


def vae(place, device):
    config = {key: value for key, value in settings(place.model)["autoencoder"].items() if key != "kind"}
    levels = len(config["block_out_channels"])
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * levels, "up_block_types": ["UpDecoderBlock2D"] * levels}
    return filled(lambda: AutoencoderKL(**config, **blocks), place.model / "autoencoder.safetensors", device)


def taesd(place, device):
    folder = place.models / common.SMALL_DECODER
    config = {key: value for key, value in settings(folder).items() if not key.startswith("_")}
    return filled(lambda: AutoencoderTiny(**config), folder / "diffusion_pytorch_model.safetensors", device)


def scaling_factor(place):
    return settings(place.model)["autoencoder"]["scaling_factor"]


def inputs(place, batch, seed=1):
    """A UNet's sample and tokens, in 32 bits on the CPU: the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    width = settings(place.model)["unet"]["cross_attention_dim"]
    return torch.randn(batch, 8, 32, 32, generator=generator), torch.randn(batch, TOKENS, width, generator=generator)
