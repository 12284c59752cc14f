"""The part `weights`: a model of MuseTalk's sizes with random weights, a small decoder, and an avatar for each of the two.

Names and shapes are those of models/musetalk/*.tensors, written straight into the files that mouthpiece loads, in 16 bits.
`--small` takes an eighth of all channels. The avatars have the demo's own frames, so that an encoder has what it has of a
character; what is drawn into them has no shape, which costs it more than a mouth would."""

import json
import shutil
import time

import torch
from safetensors.torch import save_file

import common

SEED = 1234
GAIN = 0.1
# Where the crop lies in the demo's frames, which are 512x512.
CROP = {"x": 130, "y": 200, "width": 256, "height": 256}
# The last layer of an AutoencoderTiny with TAESD's blocks.
TINY_OUT = "decoder.layers.18"
CROP_SIZE, LATENT_SIZE, LATENT_CHANNELS = 256, 32, 4
# Of the crop: what upstream's mask shows of a face, from its middle to below the chin.
MASK_SIDE = 256
MASK_CENTRE, MASK_RADII, MASK_EDGE = (128, 180), (100, 62), 0.15
# How far a pose's latents are from another's, beside what they have in common: an avatar's frames are alike.
POSES_APART = 0.1


def shrink(size, small):
    """Of a number of channels an eighth; sizes of kernels, pictures and spectra are no multiples of 64 and stay."""
    return size // 8 if small and size % 64 == 0 else size


def unet_settings(small):
    return {
        "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [shrink(c, small) for c in (320, 640, 1280, 1280)],
        "center_input_sample": False, "cross_attention_dim": shrink(384, small),
        "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
        "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 8, "layers_per_block": 2, "mid_block_scale_factor": 1,
        "norm_eps": 1e-5, "norm_num_groups": 8 if small else 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    }


def kl_settings(small):
    return {
        "in_channels": 3, "out_channels": 3, "block_out_channels": [shrink(c, small) for c in (128, 256, 512, 512)],
        "layers_per_block": 2, "latent_channels": 4, "norm_num_groups": 8 if small else 32, "scaling_factor": 0.18215,
    }


def tiny_settings(small):
    channels = [shrink(64, small)] * 4
    return {
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "encoder_block_out_channels": channels,
        "decoder_block_out_channels": channels, "num_encoder_blocks": [1, 3, 3, 3], "num_decoder_blocks": [3, 3, 3, 1],
        "act_fn": "relu", "upsampling_scaling_factor": 2, "scaling_factor": 1.0,
    }


def model_settings(small):
    return {
        "name": common.MODEL, "mel": {"n_mels": 80},
        "audio_encoder": {
            "n_mels": 80, "d_model": shrink(384, small), "encoder_layers": 4, "encoder_attention_heads": 6,
            "encoder_ffn_dim": shrink(1536, small), "max_source_positions": 1500},
        "audio_window": "utterance", "unet": unet_settings(small), "autoencoder": {"kind": "kl", **kl_settings(small)},
        "crop_size": CROP_SIZE,
    }


def listed(path, small):
    """Name and shape of each tensor of a list."""
    for line in path.read_text().splitlines():
        name, *shape = line.split()
        yield name, [shrink(int(size), small) for size in shape]


def tiny_tensors(small):
    """Name and shape of each tensor of diffusers' AutoencoderTiny."""
    settings = tiny_settings(small)

    def convolution(name, wide, narrow, biased=True):
        yield f"{name}.weight", [wide, narrow, 3, 3]
        if biased:
            yield f"{name}.bias", [wide]

    def block(name, channels):
        for at in (0, 2, 4):
            yield from convolution(f"{name}.conv.{at}", channels, channels)

    channels, at = settings["encoder_block_out_channels"][0], 0
    for level, blocks in enumerate(settings["num_encoder_blocks"]):
        first = level == 0
        yield from convolution(f"encoder.layers.{at}", channels, 3 if first else channels, first)
        for _ in range(blocks):
            at += 1
            yield from block(f"encoder.layers.{at}", channels)
        at += 1
    yield from convolution(f"encoder.layers.{at}", LATENT_CHANNELS, channels)

    yield from convolution("decoder.layers.0", channels, LATENT_CHANNELS)
    # After the first convolution and its ReLU.
    at, levels = 2, settings["num_decoder_blocks"]
    for level, blocks in enumerate(levels):
        last = level + 1 == len(levels)
        for _ in range(blocks):
            yield from block(f"decoder.layers.{at}", channels)
            at += 1
        at += 0 if last else 1
        yield from convolution(f"decoder.layers.{at}", 3 if last else channels, channels, last)
        at += 1


def random_tensors(shapes, generator, device):
    """As large as keeps what flows through a network as large as it came in, and no two alike: gains, shifts, all."""
    tensors = {}
    for name, shape in shapes:
        noise = torch.randn(shape, generator=generator, device=device)
        if name.endswith(".bias"):
            noise = GAIN * noise
        elif len(shape) == 1:
            noise = 1 + GAIN * noise
        elif "embed_positions" in name:
            noise = 0.5 * noise
        else:
            noise = noise / torch.Size(shape[1:]).numel() ** 0.5
        tensors[name] = noise.half().cpu()
    return tensors


def write_model(place, small, device):
    generator = torch.Generator(device).manual_seed(SEED)
    shutil.rmtree(place.model, ignore_errors=True)
    place.model.mkdir(parents=True)
    numbers = {}
    for part in ("audio_encoder", "unet", "autoencoder"):
        shapes = listed(place.models / "musetalk" / f"{part}.tensors", small)
        tensors = random_tensors(shapes, generator, device)
        numbers[part] = sum(tensor.numel() for tensor in tensors.values())
        save_file(tensors, place.model / f"{part}.safetensors")
    (place.model / "config.json").write_text(json.dumps(model_settings(small), indent=2) + "\n")
    folder = place.models / common.SMALL_DECODER
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    tensors = random_tensors(tiny_tensors(small), generator, device)
    # Its pictures are of 0 to 1: around the middle, most of which is shown.
    tensors[f"{TINY_OUT}.bias"] += 0.5
    numbers["taesd"] = sum(tensor.numel() for tensor in tensors.values())
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    settings = {"_class_name": "AutoencoderTiny", **tiny_settings(small)}
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return numbers


def mask():
    """Levels of an ellipse over the mouth and the chin, softer towards its edge."""
    across = torch.arange(MASK_SIDE) + 0.5
    x, y = (across - MASK_CENTRE[0]) / MASK_RADII[0], (across - MASK_CENTRE[1]) / MASK_RADII[1]
    outside = (y[:, None] ** 2 + x[None, :] ** 2).sqrt() - 1
    return (255 * (-outside / MASK_EDGE).clamp(0, 1)).round().byte()


def rows_of(levels):
    """The latent rows that a decoder has to draw for a mask, as `avatars create` finds them."""
    shown = levels.any(dim=1).nonzero()
    top, bottom = int(shown.min()) - 1, int(shown.max()) + 2
    return [max(top, 0) * LATENT_SIZE // MASK_SIDE, min(-(-bottom * LATENT_SIZE // MASK_SIDE), LATENT_SIZE)]


def write_avatar(place, kind):
    from PIL import Image

    demo = place.models / "avatars" / "demo"
    folder = place.models / "avatars" / common.AVATARS[kind]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copytree(demo / "frames", folder / "frames")
    poses = len(list((demo / "frames").glob("*.png")))
    levels = mask()
    Image.fromarray(levels.numpy()).save(folder / "mask.png")
    (folder / "boxes.json").write_text(json.dumps([CROP] * poses))
    generator = torch.Generator().manual_seed(SEED)
    shape = (2 * LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    latents = torch.randn(shape, generator=generator) + POSES_APART * torch.randn((poses, *shape), generator=generator)
    save_file({"latents": latents.half()}, folder / "latents.safetensors")
    rows = rows_of(levels)
    lines = [f'id = "{folder.name}"', f'name = "Random ({kind})"', f'model = "{common.MODEL}"', "width = 512", "height = 512",
             "fps = 25", 'cycle = "loop"', f"decode_rows = {rows}"]
    if kind == "taesd":
        lines.append(f'decoder = "{common.SMALL_DECODER}"')
    lines += ["", "[voice]", 'engine = "hibari"', 'language = "en-us"', "rate = 168"]
    (folder / "avatar.toml").write_text("\n".join(lines) + "\n")
    return {"poses": poses, "decode_rows": rows}


def main():
    given = common.arguments(__doc__).parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "weights")
    device = torch.device(given.device)
    started = time.monotonic()
    numbers = write_model(place, given.small, device)
    figures.tell("model", {"numbers": numbers, "seconds": round(time.monotonic() - started, 2)})
    for kind in common.AVATARS:
        figures.tell(kind, write_avatar(place, kind))
    figures.tell("seconds", round(time.monotonic() - started, 2))


if __name__ == "__main__":
    main()
