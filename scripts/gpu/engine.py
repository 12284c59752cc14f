"""The part `engine`: `mouthpiece bench throughput` for the model's own decoder and a small one, and the same without what we
add to libtorch's operators."""

import common

BATCHES, SMALL_BATCHES = "1,2,4,8,16,32", "1,2"
ROUNDS, SMALL_ROUNDS = 20, 2
LIMIT = 40
# Most telling first: a time that runs out costs the last ones.
WAYS = (
    ("as served", {}, []),
    ("without graphs", {"MOUTHPIECE_GRAPHS": "off"}, []),
    ("without kernels", {"MOUTHPIECE_KERNELS": "off"}, []),
    # As diffusers has to: for the comparison with the part `eager`.
    ("all rows", {}, ["--all-rows"]),
    ("bf16", {}, ["--dtype", "bf16"]),
)


def measure(given, place, kind, name, changes, options):
    batches, rounds = (SMALL_BATCHES, SMALL_ROUNDS) if given.small else (BATCHES, ROUNDS)
    command = [place.program, "bench", "throughput", "--json", "--avatar", common.AVATARS[kind], "--device", given.device,
               "--batch", batches, "--rounds", str(rounds), *options]
    log = place.logs / f"engine-{kind}-{name.replace(' ', '-')}.err"
    told = common.run(command, place.environment(changes), log, common.left(given, LIMIT))
    return {"environment": changes, **told}


def main():
    given = common.arguments(__doc__).parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "engine")
    for name, changes, options in WAYS:
        for kind in common.AVATARS:
            # In bf16 a whole batch of the model's own decoder is what there is to know.
            if name == "bf16" and (given.small or kind == "taesd"):
                continue
            figures.attempt(f"{kind} {name}", lambda: measure(given, place, kind, name, changes, options))


if __name__ == "__main__":
    main()
