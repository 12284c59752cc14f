#!/usr/bin/env python3
"""Writes models/musetalk/*.tensors: name and shape of every tensor of MuseTalk's networks, as diffusers and transformers
build them from the published configurations. `mouthpiece models` checks files of weights against these lists.

Same environment as make_parity_fixtures.py.
"""

import pathlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

OUT = pathlib.Path(__file__).resolve().parent.parent / "models" / "musetalk"


def networks():
    yield "unet", UNet2DConditionModel(
        sample_size=64, in_channels=8, out_channels=4, block_out_channels=(320, 640, 1280, 1280), layers_per_block=2,
        attention_head_dim=8, cross_attention_dim=384,
        down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    yield "autoencoder", AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, sample_size=256,
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
    yield "audio_encoder", WhisperEncoder(WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        for name, network in networks():
            tensors = sorted(network.state_dict().items())
            lines = [" ".join([key, *map(str, tensor.shape)]) for key, tensor in tensors]
            (OUT / f"{name}.tensors").write_text("\n".join(lines) + "\n")
            print(name, len(tensors), sum(tensor.numel() for _, tensor in tensors))


if __name__ == "__main__":
    main()
