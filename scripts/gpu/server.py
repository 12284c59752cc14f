"""The part `server`: the whole server, with WebRTC viewers in processes of their own, speaking in more and more sessions at
once, and how soon an avatar answers."""

import re
import statistics

import common

# Sessions that speak at once, by what draws the mouths.
STEPS = {"vae": "4,8,12,16", "taesd": "8,16,36,50"}
SMALL_STEPS = {"vae": "1", "taesd": "1,2"}
SECONDS = 5
UTTERANCES, WARM_UP = 6, 2
SESSIONS_LIMIT, LATENCY_LIMIT = 90, 80
# In the log, milliseconds after a text came: the first sound of its voice, the first frame with a mouth.
SPOKEN = re.compile(r"first_audio: Some\((\d+)\), first_frame: Some\((\d+)\)")


def bench(given, place, kind, name, options, limit):
    command = [place.program, "bench", name, "--json", "--avatar", common.AVATARS[kind], "--device", given.device, *options]
    return common.run(command, place.environment(), place.logs / f"server-{kind}-{name}.err", common.left(given, limit))


def latency(given, place, kind, options):
    """With what its log says of each utterance, which is there too if the time was over before the end."""
    told = bench(given, place, kind, "latency", options, LATENCY_LIMIT)
    log = (place.logs / f"server-{kind}-latency.err").read_text(errors="replace")
    spoken = [[int(sound), int(frame)] for sound, frame in SPOKEN.findall(log)][WARM_UP:WARM_UP + UTTERANCES]
    apart = [frame - sound for sound, frame in spoken]
    return {**told, "sound_and_frame_ms": spoken, "frame_after_sound_ms": statistics.median(apart) if apart else None}


def main():
    parser = common.arguments(__doc__)
    for kind, steps in STEPS.items():
        parser.add_argument(f"--at-{kind}", metavar="N,N..", help=f"speakers, instead of {steps}")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of speech at each step")
    given = parser.parse_args()
    place = common.Place(given)
    figures = common.Figures(place, "server")
    for kind in STEPS:
        steps = getattr(given, f"at_{kind}") or (SMALL_STEPS if given.small else STEPS)[kind]
        speaking = ["--at", steps, "--seconds", str(given.seconds)]
        figures.attempt(f"{kind} sessions", lambda: bench(given, place, kind, "sessions", speaking, SESSIONS_LIMIT))
    answering = ["--interruptions", "0", "--utterances", str(2 if given.small else UTTERANCES)]
    for kind in STEPS:
        figures.attempt(f"{kind} latency", lambda: latency(given, place, kind, answering))


if __name__ == "__main__":
    main()
