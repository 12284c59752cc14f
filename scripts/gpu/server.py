"""The part `server`: the whole server, with WebRTC viewers in processes of their own, speaking in more and more sessions at
once, and how soon an avatar answers."""

import common

# Sessions that speak at once, by what draws the mouths.
STEPS = {"vae": "4,8,12,16", "taesd": "8,16,36,50"}
SMALL_STEPS = {"vae": "1", "taesd": "1,2"}
SECONDS = 5
UTTERANCES = 10
SESSIONS_LIMIT, LATENCY_LIMIT = 90, 60


def bench(given, place, kind, name, options, limit):
    command = [place.program, "bench", name, "--json", "--avatar", common.AVATARS[kind], "--device", given.device, *options]
    return common.run(command, place.environment(), place.logs / f"server-{kind}-{name}.err", common.left(given, limit))


def main():
    parser = common.arguments(__doc__)
    for kind, steps in STEPS.items():
        parser.add_argument(f"--at-{kind}", metavar="N,N..", help=f"speakers, instead of {steps}")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of speech at each step")
    given = parser.parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "server")
    for kind in ("taesd", "vae"):
        steps = getattr(given, f"at_{kind}") or (SMALL_STEPS if given.small else STEPS)[kind]
        speaking = ["--at", steps, "--seconds", str(given.seconds)]
        figures.attempt(f"{kind} sessions", lambda: bench(given, place, kind, "sessions", speaking, SESSIONS_LIMIT))
    answering = ["--interruptions", "0", "--utterances", str(2 if given.small else UTTERANCES)]
    for kind in ("taesd", "vae"):
        figures.attempt(f"{kind} latency", lambda: bench(given, place, kind, "latency", answering, LATENCY_LIMIT))


if __name__ == "__main__":
    main()
