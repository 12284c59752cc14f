"""The figures of a results.json that one looks at first, as text.

    python3 summary.py results.json
"""

import json
import pathlib
import sys

KINDS = ("vae", "taesd")
STAGES = ("features", "unet", "decode", "paste", "copy", "compose")


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def dig(value, *path):
    """What lies at the end of a path of names; nothing where one is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def figures(results, part):
    return dig(results, "parts", part, "figures") or {}


def clocks(figure):
    watched = dig(figure, "gpu", "clocks.sm")
    return f"SM {watched[0]:.0f}-{watched[2]:.0f} MHz" if watched else ""


def states(results):
    for name, part in results.get("parts", {}).items():
        told = f"{name}: {part['state']} ({number(part.get('seconds'), 1)} s)"
        yield f"{told}: {short(part['error'])}" if part.get("error") else told
        for figure, value in (part.get("figures") or {}).items():
            if error := dig(value, "error"):
                yield f"  {figure}: {short(error)}"


def short(error):
    """Which error it is, and what it ends with."""
    lines = [line.strip()[:200] for line in error.splitlines() if line.strip()]
    return " .. ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))


def parity(results):
    for name, value in figures(results, "parity").items():
        for network in ("unet", "vae", "both"):
            if found := dig(value, network):
                yield f"{name} {network}: {apart(found)}"
        if dig(value, "relative") is not None:
            yield f"{name}: {apart(value)}"
        elif dig(value, "latent") is not None:
            yield f"{name}: latent {value['latent']:.1e}, picture {value['picture']:.1e}, holds {value['holds']}"


def apart(found):
    text = f"relative {found['relative']:.1e}"
    if "mean_levels" in found:
        text += f", levels {found['mean_levels']:.2f}, within three {100 * found['within_three']:.2f} %"
    return f"{text}, holds {found['holds']}"


def engine(results):
    for name, value in figures(results, "engine").items():
        printed = dig(value, "printed")
        if not dig(printed, "sizes"):
            continue
        roof = printed["roof_gflop_per_second"]
        yield f"{name}: {printed['dtype']}, rows {printed['decode_rows']}, roof {roof} {clocks(value)}"
        yield "  batch " + " ".join(f"{stage:>9}" for stage in STAGES) + "       fps  roof: unet decode"
        for row in printed["sizes"]:
            stages = " ".join(f"{number(row['stage_ms'].get(stage), 3):>9}" for stage in STAGES)
            shares = " ".join(number(row["roof_share"].get(stage), 3) for stage in ("unet", "decode"))
            yield f"  {row['batch']:>5} {stages} {number(row['frames_per_second'], 1):>9}  {shares}"


def eager(results):
    for name, value in figures(results, "eager").items():
        timed = {network: row["ms"] for network, row in value.items() if isinstance(row, dict) and "ms" in row}
        if timed:
            yield f"{name}: " + ", ".join(f"{network} {ms:.3f} ms" for network, ms in timed.items()) + f" {clocks(value)}"
    for name, value in figures(results, "compiled").items():
        timed = {network: row["ms"] for network, row in value.items() if isinstance(row, dict) and "ms" in row}
        if timed:
            yield f"compiled {name}: " + ", ".join(f"{network} {ms:.3f} ms" for network, ms in timed.items())
    for kind in KINDS:
        for batch in (1, 8, 16):
            if ratio := times_eager(results, kind, batch):
                yield f"UNet and {kind} at batch {batch}: {ratio:.2f} times as fast as eager in its better layout"


def times_eager(results, kind, batch):
    """How many times as fast UNet and decoder are as the better layout of diffusers, all rows drawn by both."""
    printed = dig(figures(results, "engine"), f"{kind} all rows", "printed", "sizes") or []
    ours = next((row["stage_ms"] for row in printed if row["batch"] == batch), None)
    theirs = []
    for layout in ("nchw", "channels_last"):
        row = dig(figures(results, "eager"), f"{layout} {batch}")
        both = [dig(row, network, "ms") for network in ("unet", kind)]
        if None not in both:
            theirs.append(sum(both))
    return min(theirs) / (ours["unet"] + ours["decode"]) if ours and theirs else None


def server(results):
    for name, value in figures(results, "server").items():
        printed = dig(value, "printed")
        if dig(printed, "sessions"):
            yield f"{name}: hold {printed.get('hold')} {clocks(value)}"
            for row in printed["sessions"]:
                fresh = row["fresh"] / printed["seconds"]
                yield (f"  {row['sessions']:>3} speakers: {fresh:.1f} fresh a second ({fresh / row['sessions']:.1f} each), "
                       f"repeated {row['repeated']}, gap p99 {number(dig(row, 'frame_gap_ms', 'p99'), 1)} ms, "
                       f"CPU each {number(row.get('cpu_percent_each'), 1)} %, batch {number(row.get('frames_a_batch'), 1)}")
        if dig(value, "sound_and_frame_ms"):
            yield f"{name}: first frame after the first sound, p50 {value['frame_after_sound_ms']:.0f} ms"
        if dig(printed, "first_audio_ms"):
            p50 = {key: number(dig(printed, f"{key}_ms", "p50"), 1) for key in ("first_frame", "first_audio", "interrupt")}
            yield f"{name}: p50 ms {p50}, first frame p95 {number(dig(printed, 'first_frame_ms', 'p95'), 1)}"


def text(results):
    machine = results.get("machine") or {}
    lines = [f"{', '.join(machine.get('gpus') or ['no GPU'])}; {machine.get('processor')}, {machine.get('cores')} cores; "
             f"{machine.get('versions')}", *states(results)]
    for part in (parity, engine, eager, server):
        lines += ["", f"== {part.__name__}", *part(results)]
    return "\n".join(lines)


if __name__ == "__main__":
    print(text(json.loads(pathlib.Path(sys.argv[1]).read_text())))
