#!/usr/bin/env python3
"""Writes tests/fixtures/parity: what diffusers and transformers compute on small models with random weights.

The Rust network must agree with these numbers. The models are small, but have every tensor and code path of the full
ones. Everything is random, norms and biases included, so that a swapped or forgotten tensor shows. Weights and inputs
are rounded to 16 bits before use, so storing them as 16-bit floats loses nothing.

    python3 -m venv /tmp/parity
    /tmp/parity/bin/pip install torch==2.11.0 diffusers==0.30.2 transformers==4.39.2 'numpy<2' \
        'huggingface_hub<0.26' opencv-python-headless==4.9.0.80 pillow==13.0.0
    /tmp/parity/bin/python scripts/make_parity_fixtures.py
"""

import json
import math
import pathlib

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "parity"

# As the published musetalk.json, with small channel counts.
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0.dev0",
    "act_fn": "silu",
    "attention_head_dim": 4,
    "block_out_channels": [16, 24, 32, 32],
    "center_input_sample": False,
    "cross_attention_dim": 48,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 8,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 8,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
KL = {"block_out_channels": [16, 32, 48, 48], "layers_per_block": 2, "latent_channels": 4, "norm_num_groups": 8}
TINY = {
    "encoder_block_out_channels": [16] * 4,
    "decoder_block_out_channels": [16] * 4,
    "num_encoder_blocks": [1, 3, 3, 3],
    "num_decoder_blocks": [3, 3, 3, 1],
}
WHISPER = {
    "n_mels": 80,
    "d_model": 48,
    "encoder_layers": 4,
    "encoder_attention_heads": 6,
    "encoder_ffn_dim": 96,
    "max_source_positions": 100,
}


def rounded(tensor):
    return tensor.half().float()


def randomise(model):
    """Every parameter random, whatever its default."""
    generator = torch.Generator().manual_seed(1234)
    norms = (torch.nn.GroupNorm, torch.nn.LayerNorm)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                noise = torch.randn(parameter.shape, generator=generator)
                if isinstance(module, norms) and name == "weight":
                    value = 1 + 0.1 * noise
                elif name == "bias":
                    value = 0.1 * noise
                elif isinstance(module, torch.nn.Embedding):
                    value = 0.5 * noise
                else:
                    value = noise / math.sqrt(parameter[0].numel())
                parameter.copy_(rounded(value))
    return model.eval()


def weights(name, model):
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, OUT / f"{name}.safetensors")


def cases(name, tensors):
    save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, OUT / f"{name}-cases.safetensors")


def noise(generator, *shape):
    return rounded(torch.randn(shape, generator=generator))


def unet_model(**changes):
    config = {key: value for key, value in {**UNET, **changes}.items() if not key.startswith("_")}
    return randomise(UNet2DConditionModel(**config))


def make_unet():
    model = unet_model()
    weights("unet", model)
    (OUT / "unet.json").write_text(json.dumps(UNET, indent=2) + "\n")
    generator = torch.Generator().manual_seed(1)
    small = noise(generator, 2, 8, 32, 32), noise(generator, 2, 50, 48)
    large = noise(generator, 1, 8, 64, 64), noise(generator, 1, 7, 48)

    stored = {}
    probes = {"conv_in": model.conv_in, "mid_block": model.mid_block}
    probes |= {f"down_blocks.{i}": block for i, block in enumerate(model.down_blocks)}
    probes |= {f"up_blocks.{i}": block for i, block in enumerate(model.up_blocks)}

    def keep(name):
        # Down blocks give (output, skips).
        return lambda _module, _inputs, output: stored.update({name: output[0] if isinstance(output, tuple) else output})

    hooks = [module.register_forward_hook(keep(f"small.{name}")) for name, module in probes.items()]
    stored["small.out"] = model(small[0], 0, small[1]).sample
    for hook in hooks:
        hook.remove()
    stored["large.out"] = model(large[0], 0, large[1]).sample
    stored["heads_8.out"] = unet_model(attention_head_dim=8)(small[0], 0, small[1]).sample
    for name, (sample, context) in {"small": small, "large": large}.items():
        stored[f"{name}.sample"], stored[f"{name}.context"] = sample.half(), context.half()
    cases("unet", stored)
    return model


def picture(generator, size):
    """A smooth picture with noise, 8-bit RGB."""
    steps = torch.arange(size) / size
    plain = torch.stack([steps[:, None] + 0 * steps, steps + 0 * steps[:, None], (steps[:, None] - steps).abs()], -1)
    return (255 * (0.8 * plain + 0.2 * torch.rand(plain.shape, generator=generator))).round().to(torch.uint8)


def normalised(rgb, masked):
    """MuseTalk's input: the lower half is made black before black becomes -1."""
    x = rgb.permute(2, 0, 1)[None].float() / 255
    if masked:
        x[:, :, x.shape[2] // 2 :] = 0
    return (x - 0.5) / 0.5


def levels(x):
    """Upstream's way from the decoder's picture to 8 bits: [batch, height, width, 3]."""
    x = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return torch.from_numpy((x * 255).round().astype("uint8"))


def make_kl():
    model = randomise(AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4, **KL))
    weights("autoencoder_kl", model)
    generator = torch.Generator().manual_seed(1)
    rgb = picture(generator, 64)
    latent = noise(generator, 2, 4, 8, 8)
    stored = {"rgb": rgb, "latent": latent.half(), "decoded": model.decode(latent).sample}
    for name in ("masked", "reference"):
        posterior = model.encode(normalised(rgb, name == "masked")).latent_dist
        stored[f"{name}.mean"], stored[f"{name}.logvar"] = posterior.mean, posterior.logvar
    # Ties of rounding, both clamps, and the values around them.
    odd = torch.tensor([0, 0.5, 1.5, 2.5, 127.5, 253.5, 254.5, 255]) / 127.5 - 1
    stored["levels.in"] = torch.cat([odd, torch.tensor([-3.0, -1, 0, 1, 1.01, 7])]).repeat(3)[None].view(1, 3, 2, 7)
    stored["levels.out"] = levels(stored["levels.in"])
    cases("autoencoder_kl", stored)
    return model


def make_tiny():
    model = randomise(AutoencoderTiny(**TINY))
    weights("autoencoder_tiny", model)
    generator = torch.Generator().manual_seed(1)
    rgb = picture(generator, 64)
    latent = 2 * noise(generator, 2, 4, 8, 8)
    stored = {"rgb": rgb, "encoded": model.encode(normalised(rgb, False)).latents}
    cases("autoencoder_tiny", stored | {"latent": latent.half(), "decoded": model.decode(latent).sample})


def whisper_model(positions=WHISPER["max_source_positions"]):
    names = {("num_mel_bins" if key == "n_mels" else key): value for key, value in WHISPER.items()}
    return randomise(WhisperEncoder(WhisperConfig(**{**names, "max_source_positions": positions})))


def hidden_states(model, mel):
    """[batch, rows, layers + 1, size], and the last layer's output before the final norm."""
    before = {}
    hook = model.layers[-1].register_forward_hook(lambda _module, _inputs, output: before.update(out=output[0]))
    states = model(mel, output_hidden_states=True).hidden_states
    hook.remove()
    return torch.stack(states, 2), before["out"]


def make_whisper():
    model = whisper_model()
    weights("whisper", model)
    generator = torch.Generator().manual_seed(1)
    mel = noise(generator, 2, 80, 200)
    states, before = hidden_states(model, mel)
    # Fewer rows than positions: the first positions are used.
    short = whisper_model(40)
    short.load_state_dict({key: value[:40] if "positions" in key else value for key, value in model.state_dict().items()})
    cut = hidden_states(short, mel[:1, :, :80])[0]
    cases("whisper", {"mel": mel.half(), "states": states, "last_before_norm": before, "cut": cut})
    return model


def wave():
    """4 s of a chirp with noise, exact in 16 bits."""
    time = np.arange(64_000) / 16_000
    chirp = 0.4 * np.sin(2 * np.pi * (80 * time + 900 * time**2)) * (0.6 + 0.4 * np.sin(7 * time))
    chirp += 0.02 * np.random.default_rng(1).standard_normal(64_000)
    return chirp.astype(np.float16).astype(np.float32)


def make_mel():
    extract = WhisperFeatureExtractor()

    def mel(samples):
        return torch.from_numpy(extract(samples, sampling_rate=16_000, return_tensors="np").input_features[0])

    sound = wave()
    # 31 s: the 4 s again and again, each time at another of four loudnesses; the second segment is its last second.
    gains = np.array([1, 0.5, 0.25, 0.125], dtype=np.float32)
    long = np.concatenate([sound * gains[i % 4] for i in range(8)])[: 31 * 16_000]
    whole = mel(sound)
    first, second = mel(long[:480_000]), mel(long[480_000:])
    cases("mel", {
        "wave": torch.from_numpy(sound).half(),
        "mel": whole[:, :420],
        "padding": whole[:, -1],
        "silent": mel(np.zeros(16_000, dtype=np.float32))[:, ::300],
        "long.first": first[:, ::50],
        "long.second": second[:, :110],
    })
    return sound


def positional_encoding(tokens, size):
    position = torch.arange(tokens).unsqueeze(1).float()
    scale = torch.exp(torch.arange(0, size, 2).float() * (-math.log(10_000.0) / size))
    encoding = torch.zeros(tokens, size)
    encoding[:, 0::2], encoding[:, 1::2] = torch.sin(position * scale), torch.cos(position * scale)
    return encoding


def make_whole(unet, kl, whisper, sound):
    """Upstream's realtime path from 0.4 s of sound and three latents to pictures."""
    generator = torch.Generator().manual_seed(2)
    latents = noise(generator, 3, 8, 8, 8)
    samples = sound[8_000:14_400]
    extract = WhisperFeatureExtractor(chunk_length=2)
    mel = torch.from_numpy(extract(samples, sampling_rate=16_000, return_tensors="np").input_features)
    states = hidden_states(whisper, mel)[0][0][: len(samples) * 50 // 16_000]
    zeros = torch.zeros(1, *states.shape[1:])
    padded = torch.cat([zeros.repeat(4, 1, 1), states, zeros.repeat(12, 1, 1)])
    frames = range(10)
    tokens = torch.stack([padded[2 * frame : 2 * frame + 10].reshape(50, -1) for frame in frames])
    tokens = tokens + positional_encoding(50, tokens.shape[2])
    sample = latents[[frame % 3 for frame in frames]]
    latent = unet(sample, 0, tokens).sample
    decoded = kl.decode(latent / kl.config.scaling_factor).sample
    cases("whole", {
        "audio": torch.from_numpy(samples).half(),
        "latents": latents.half(),
        "tokens": tokens[[0, 1, 5, 9]],
        "latent": latent,
        "rgb": levels(decoded)[[0, 5, 9]],
        "positional_encoding": positional_encoding(50, 384),
    })


def make_paste():
    """Upstream's blending: OpenCV scales the generated crop to the box, PIL pastes it through the mask."""
    generator = np.random.default_rng(3)
    stored = {}
    for name, crop, box in (("up", 32, (45, 38)), ("down", 64, (24, 29)), ("same", 32, (32, 32))):
        frame = generator.integers(0, 256, (80, 96, 3), dtype=np.uint8)
        face = generator.integers(0, 256, (crop, crop, 3), dtype=np.uint8)
        mask = generator.integers(0, 256, (box[1], box[0]), dtype=np.uint8)
        mask[: box[1] // 2] = 0
        pasted = Image.fromarray(frame)
        scaled = cv2.resize(face, box, interpolation=cv2.INTER_LINEAR)
        pasted.paste(Image.fromarray(scaled), (20, 10), Image.fromarray(mask))
        stored |= {f"{name}.{key}": torch.from_numpy(np.array(value))
                   for key, value in {"frame": frame, "face": face, "mask": mask, "pasted": pasted}.items()}
    cases("paste", stored)


def make_resize():
    """How upstream scales a face to the encoder's size, here to small ones."""
    generator = torch.Generator().manual_seed(9)
    stored = {}
    for name, (height, width), (to_height, to_width) in [("up", (37, 40), (64, 64)), ("down", (100, 90), (64, 64)),
                                                         ("odd", (61, 83), (70, 47)), ("same", (24, 32), (24, 32))]:
        # Smooth, with an edge and some noise: noise alone would hide where a pixel is taken from.
        rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
        smooth = torch.stack([rows, columns, (rows - columns).abs()], -1) * 200 + 30
        smooth[height // 3 :, width // 2 :] *= 0.3
        noisy = smooth + 25 * torch.randn(smooth.shape, generator=generator)
        face = noisy.clamp(0, 255).to(torch.uint8).numpy()
        scaled = cv2.resize(face, (to_width, to_height), interpolation=cv2.INTER_LANCZOS4)
        stored |= {f"{name}.from": torch.from_numpy(face), f"{name}.to": torch.from_numpy(scaled)}
    cases("resize", stored)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    make_paste()
    make_resize()
    with torch.no_grad():
        unet, kl = make_unet(), make_kl()
        make_tiny()
        whisper, sound = make_whisper(), make_mel()
        make_whole(unet, kl, whisper, sound)


if __name__ == "__main__":
    main()
