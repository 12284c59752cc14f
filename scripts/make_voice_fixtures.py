#!/usr/bin/env python3
"""Writes what the Python package hibari-tts makes of some sentences, for the tests of the voice's port.

    python3 -m venv out/hibari-venv && out/hibari-venv/bin/pip install hibari-tts==0.2.1
    out/hibari-venv/bin/python scripts/make_voice_fixtures.py

tests/fixtures/hibari/sentences.json: text, phonemes and ids of each sentence. spoken.wav: the first one's sound at
24 kHz without the noise, which is random. spectrum.wav: the sound of a spectrum that a formula gives. With --sentences
FILE other sentences, one a line, and no sound: for a comparison of many, which are not kept.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from hibari import dsp
from hibari.tts import Hibari, write_wav

SENTENCES = """\
Hello, I am your talking avatar.
The quick brown fox jumps over the lazy dog.
I read the book yesterday, and I will read it again.
They live near a live music hall; the wind will wind down.
Please record the record, and present the present.
Dr. Smith paid $9.99 on the 3rd of March 2024.
It costs 5 million dollars, or €1,250.50 a day.
At 7:30 pm, 1,250 people came to 221 Baker St. in 1999.
She's got the dogs' leashes; aren't they James's?
Version 2.0.1 is 3.14 times faster than 0.5.
My phone number is 555-123-4567.
The U.S. and the U.K. met NASA, IBM and the FBI.
Zorblaxian quintessimator engines aren't cromulent.
The iPhone 15 has USB-C and Wi-Fi 6E, not 5G.
King Henry VIII read Chapter IV of World War II.
I used to like it, but it was used to pay.
The apple, the pear and a hundred and one others.
He said: "Stop!" - then he walked away... slowly.
Temperatures fell to -5 °C, about 23 °F, at 60 mph.
Mix 1/2 cup of milk with 3/4 teaspoon of salt on 12/25/2023.
Visit www.example.com or write to me@example.org.
A mother-in-law's e-mail re-entered the CO2-free co-op.
What? No! Really... yes, 100% & more = better.
I've been wanting, hoping, stopping, panicking and skied.
They wanted, patted, loved, planned, watched and faded boxes.
In 2005, the 21st century's 90s kids were 1,000,000 strong.
Send 10kg to room #42 by 9am, i.e. ASAP.
The CEO's résumé mentions a naïve café in São Paulo.
am I to go in, or am I out? I AM HERE.
By the way, the B2B deal is TBD.
"""


class Silence:
    """In the place of the noise."""

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)


def formula():
    """Spectrum and pitch of 40 frames, the same as in the test; the first and last ones have no voice."""
    bin, frame = np.meshgrid(np.arange(601.0), np.arange(40.0), indexing="ij")
    harmonic = 1.0 - bin / 200.0 + np.sin(frame / 3.0)
    theta = np.sin(bin / 40.0 + frame / 5.0)
    noise = np.full_like(bin, -1.0)
    free = -1.0 + np.cos(bin / 30.0)
    phase = bin * 0.7 + frame * 1.3
    pitch = np.where((frame[0] < 6) | (frame[0] > 34), 0.0, 150.0 + 30.0 * np.sin(frame[0] / 4.0))
    return [part.astype(np.float32) for part in (harmonic, theta, noise, free, phase, pitch)]


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sentences", type=Path)
    options.add_argument("--out", type=Path, default=Path("tests/fixtures/hibari"))
    options = options.parse_args()
    text = options.sentences.read_text() if options.sentences else SENTENCES
    tts = Hibari()
    rows = []
    for sentence in filter(None, text.splitlines()):
        phonemes = tts.g2p(sentence)
        rows.append({"text": sentence, "phonemes": phonemes, "ids": tts.ids(phonemes)})
    options.out.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (options.out / "sentences.json").write_text(f"[\n{lines}\n]\n")
    if not options.sentences:
        write_wav(str(options.out / "spectrum.wav"), dsp.synth(*formula(), Silence()))
        write_wav(str(options.out / "spoken.wav"), tts.from_ids(rows[0]["ids"], 1.0, Silence()))


if __name__ == "__main__":
    main()
