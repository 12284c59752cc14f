"""The part `compiled`: the networks of the part `eager` after `torch.compile`, the last part since compiling takes what time
there is."""

import time

import torch

import common
from eager import Eager

# The comparison that counts first.
BATCHES, SMALL_BATCHES = (16, 1), (1,)


def measure(eager, name, batch):
    started = time.monotonic()
    call = torch.compile(eager.call(name, batch, "nchw"), dynamic=False)
    call()
    eager.wait()
    compiling = round(time.monotonic() - started, 2)
    with common.Watch() as watch:
        return {name: eager.timed(call, batch), "compiling": compiling, "gpu": watch.told()}


def main():
    given = common.arguments(__doc__).parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "compiled")
    torch.backends.cudnn.benchmark = True
    with torch.inference_mode():
        eager = Eager(given, place)
        for batch in SMALL_BATCHES if given.small else BATCHES:
            for name in ("taesd", "vae", "unet"):
                # One that is begun goes on: `parts.py` ends it with the part.
                common.left(given, 60)
                figures.attempt(f"{name} {batch}", lambda: measure(eager, name, batch))


if __name__ == "__main__":
    main()
