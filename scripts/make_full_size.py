#!/usr/bin/env python3
"""Writes a folder like upstream's `models`, with random weights at full size, and what diffusers and transformers
compute with them: for `cargo test --release --test it -- --ignored full_size`.

The files are in the dialects that the published ones are in: the UNet a pickled state dict, the autoencoder one with
the attention names of before, the audio encoder within a whole speech recogniser. Weights are exact in 16 bits, so a
model converted to 16-bit floats computes the same. Takes some minutes, 6 GB of memory and 4 GB of disk; same
environment as make_parity_fixtures.py.

    /tmp/parity/bin/python scripts/make_full_size.py --out /tmp/full-size
"""

import argparse
import json
import pathlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from make_parity_fixtures import (
    UNET, hidden_states, levels, normalised, picture, positional_encoding, randomise, wave)
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

FULL = UNET | {"attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 384,
               "norm_num_groups": 32}
# As the published config.json: without a scaling factor.
KL = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.4.2",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 256,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
FRAMES = [0, 5]


def settings(config):
    return {key: value for key, value in config.items() if not key.startswith("_")}


def write(folder, config_name, config, weights_name, state):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config_name).write_text(json.dumps(config, indent=2) + "\n")
    torch.save(state, folder / weights_name)


def hear(out):
    """Tokens of the frames, from the middle of the chirp."""
    whisper = randomise(WhisperForConditionalGeneration(WhisperConfig(
        d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, decoder_layers=4,
        decoder_attention_heads=6, decoder_ffn_dim=1536)))
    write(out / "whisper", "config.json", whisper.config.to_dict(), "pytorch_model.bin", whisper.state_dict())
    extractor = WhisperFeatureExtractor()
    extractor.save_pretrained(out / "whisper")
    sound = wave()[8_000:14_400]
    mel = torch.from_numpy(extractor(sound, sampling_rate=16_000, return_tensors="np").input_features)
    states = hidden_states(whisper.model.encoder, mel)[0]
    heard = states[0][: len(sound) * 50 // 16_000]
    zeros = torch.zeros(1, *heard.shape[1:])
    padded = torch.cat([zeros.repeat(4, 1, 1), heard, zeros.repeat(12, 1, 1)])
    tokens = torch.stack([padded[2 * frame : 2 * frame + 10].reshape(50, -1) for frame in FRAMES])
    tokens = tokens + positional_encoding(50, 384)
    return {"audio": torch.from_numpy(sound), "mel": mel, "states": states, "tokens": tokens}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        cases = hear(out)

        kl = randomise(AutoencoderKL(**settings(KL)))
        state = kl.state_dict()
        for new, old in OLD_NAMES.items():
            state = {key.replace(f".{new}.", f".{old}.") if "attentions" in key else key: value
                     for key, value in state.items()}
        write(out / "sd-vae", "config.json", KL, "diffusion_pytorch_model.bin", state)
        generator = torch.Generator().manual_seed(1)
        rgb = torch.stack([picture(generator, 256) for _ in FRAMES])
        images = torch.cat([normalised(one, masked) for one in rgb for masked in (True, False)])
        posterior = kl.encode(images).latent_dist
        scale = kl.config.scaling_factor
        # Two latents of four channels after one another are one of eight; stored in 16 bits, as an avatar's are.
        sample = (posterior.mean * scale).half().float().reshape(len(FRAMES), 8, 32, 32)
        cases |= {"rgb": rgb, "image": images, "mean": posterior.mean, "logvar": posterior.logvar, "sample": sample}

        unet = randomise(UNet2DConditionModel(**settings(FULL)))
        write(out / "musetalkV15", "musetalk.json", FULL, "unet.pth", unet.state_dict())
        cases["generated"] = unet(sample, 0, cases["tokens"]).sample
        del unet
        cases["latent"] = cases["generated"] / scale
        cases["decoded"] = kl.decode(cases["latent"]).sample
        cases["frames"] = levels(cases["decoded"])
    save_file({key: value.contiguous().clone() for key, value in cases.items()}, out / "cases.safetensors")
    for name, value in cases.items():
        print(name, list(value.shape), f"{value.float().std():.3g}")


if __name__ == "__main__":
    main()
