"""The part `engine`: `mouthpiece bench throughput` for the model's own decoder and a small one, and the same without what we
add to libtorch's operators."""

import common

LIMIT = 40
FULL = ["--batch", "1,2,4,8,16,32", "--rounds", "20"]
COMPARED = ["--batch", "1,8,16", "--rounds", "10"]
SMALL = ["--batch", "1,2", "--rounds", "2"]
# Most telling first: a time that runs out costs the last ones.
WAYS = (
    ("as served", {}, FULL),
    # As diffusers has to draw: for the comparison with the part `eager`.
    ("all rows", {}, [*COMPARED, "--all-rows"]),
    ("without graphs", {"MOUTHPIECE_GRAPHS": "off"}, COMPARED),
    ("without kernels", {"MOUTHPIECE_KERNELS": "off"}, COMPARED),
    ("bf16", {}, [*COMPARED, "--dtype", "bf16"]),
)


def measure(given, place, kind, name, changes, options):
    if given.small:
        options = [*SMALL, *options[len(FULL):]]
    command = [place.program, "bench", "throughput", "--json", "--avatar", common.AVATARS[kind], "--device", given.device,
               *options]
    log = place.logs / f"engine-{kind}-{name.replace(' ', '-')}.err"
    told = common.run(command, place.environment(changes), log, common.left(given, LIMIT))
    return {"environment": changes, **told}


def main():
    given = common.arguments(__doc__).parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "engine")
    for name, changes, options in WAYS:
        for kind in common.AVATARS:
            # 16 bits are for GPUs: a CPU takes minutes for them.
            if name == "bf16" and (given.device == "cpu" or kind == "taesd"):
                continue
            figures.attempt(f"{kind} {name}", lambda: measure(given, place, kind, name, changes, options))


if __name__ == "__main__":
    main()
