"""How far an engine's phone times are off from its own audio, and the labels corrected by it.

Here: four measures of the offset, the correction of the phones, silence and stop closures set by the audio's energy. Not here: where
phones come from (corpus_engines.py) and which clips there are (make_corpus.py). Runs in make_corpus.py's main process.

A correction is in seconds and added to the label times: negative where an engine's labels come late. The measures:
- `vowels`: the correction at which vowel labels correlate best with the log energy between 300 and 3000 Hz;
- `spectrum`: at which phone labels explain most of the variance of the log spectrum (no assumption about a phone);
- `closures`: at which p, b and m lie deepest in the dip of the energy between 500 and 4000 Hz;
- `cross`: at which vowels lie where a linear reader of spectra, taught on ANOTHER engine, hears them: the check that
  engines agree with each other, used for no correction.
"""

import numpy as np

from corpus_engines import RATE, SIL

HOP = 0.005
_WINDOW = 400
_FFT = 512
_BANDS = 24
_REACH = 0.12
CORRECTIONS = np.arange(-_REACH, _REACH + HOP / 4, HOP / 2)
VOWELS = {"aa", "ax", "E", "ih", "oh", "ou", "RR"}
# Consonants that share a vowel's viseme.
_NOT_VOWELS = {"j", "w", "y", "ɹ", "r", "ʍ"}
# Below this under the loudest frame of a clip there is no speech.
_SILENCE_DB = 42.0
# The same where the engine names a pause: some espeak voices have an echo that fills their pauses.
_PAUSE_DB = 30.0
# A quiet stretch in a named pause shorter than this, in seconds, closes no mouth.
_SHORTEST_NAMED = 0.06
# A dip shorter than this belongs to its phone (the closure of a stop).
_SHORTEST_PAUSE = 0.14


def log_bands(audio):
    """Log energies [frames, bands] in dB, floored 50 dB under the loudest; frame i is centred on i * HOP."""
    hop = round(HOP * RATE)
    padded = np.pad(audio, (_WINDOW // 2, _WINDOW // 2 + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), _FFT)) ** 2
    bands = 10 * np.log10(power @ _filters().T + 1e-10)
    return np.maximum(bands, bands.max() - 50.0)


def _filters():
    """Triangles evenly spaced in mel from 60 Hz to 7600 Hz, [bands, bins]."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([60.0, 7600.0]) / 700)), _BANDS + 2)
    centres = 700 * (10 ** (mel / 2595) - 1)
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)
    rise = (bins - centres[:-2, None]) / (centres[1:-1] - centres[:-2])[:, None]
    fall = (centres[2:, None] - bins) / (centres[2:] - centres[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rise, fall))


def band_energy(audio, low, high):
    """Log energy in dB between two frequencies, floored 40 dB under the loudest; frame i is centred on i * HOP."""
    hop = round(HOP * RATE)
    padded = np.pad(audio, (_WINDOW // 2, _WINDOW // 2 + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32), _FFT)) ** 2
    bins = np.fft.rfftfreq(_FFT, 1 / RATE)
    energy = 10 * np.log10(power[:, (bins >= low) & (bins <= high)].sum(1) + 1e-10)
    return np.maximum(energy, energy.max() - 40.0)


class Sound:
    """What the measures need of one clip's audio."""

    def __init__(self, audio):
        self.bands = log_bands(audio)
        self.loudness = band_energy(audio, 300, 3000)
        self.closure = band_energy(audio, 500, 4000)
        self.times = np.arange(len(self.bands)) * HOP


class Heard:
    """One clip as the measures see it: its sound, and its labels by number."""

    def __init__(self, sound, phones, names):
        self.bands, self.loudness, self.closure, self.times = sound.bands, sound.loudness, sound.closure, sound.times
        self._starts = np.array([start for _, _, start, _ in phones])
        self.ids = np.array([names.setdefault((viseme, phone), len(names)) for viseme, phone, _, _ in phones])
        self.vowel = np.array([v in VOWELS and p not in _NOT_VOWELS for v, p, _, _ in phones])
        self.press = np.array([p in ("p", "b", "m") for _, p, _, _ in phones])

    def phone_at(self, correction):
        """For each frame the index of the phone that its corrected labels put there."""
        return np.clip(np.searchsorted(self._starts, self.times - correction + 1e-9, "right") - 1, 0, len(self.ids) - 1)


def _peak(values):
    """The correction with the highest value, to a fraction of a step by a parabola."""
    i = int(np.argmax(values))
    if 0 < i < len(values) - 1:
        left, middle, right = values[i - 1 : i + 2]
        bend = left - 2 * middle + right
        offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    else:
        offset = 0.0
    return float(CORRECTIONS[i] + offset * (CORRECTIONS[1] - CORRECTIONS[0]))


def _correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-12))


def vowels(heard):
    """(best correction over all clips, spread: 1.48 times the median deviation of single clips, correlation at 0)."""
    curves = np.array([[_correlation(h.loudness, h.vowel[h.phone_at(c)].astype(float)) for c in CORRECTIONS] for h in heard])
    single = np.array([_peak(curve) for curve in curves])
    spread = 1.48 * float(np.median(np.abs(single - np.median(single))))
    return _peak(curves.mean(0)), spread, float(curves.mean(0)[len(CORRECTIONS) // 2])


def spectrum(heard, label_count):
    bands = np.concatenate([h.bands - h.bands.mean(0) for h in heard])
    total = ((bands - bands.mean(0)) ** 2).sum()
    explained = []
    for correction in CORRECTIONS:
        ids = np.concatenate([h.ids[h.phone_at(correction)] for h in heard])
        count = np.bincount(ids, minlength=label_count)
        sums = np.stack([np.bincount(ids, bands[:, b], label_count) for b in range(_BANDS)], 1)
        mean = bands.mean(0)
        means = sums / np.maximum(count, 1)[:, None]
        explained.append((count[:, None] * (means - mean) ** 2).sum() / total)
    return _peak(np.array(explained)), float(explained[len(CORRECTIONS) // 2])


def closures(heard):
    """(correction with the lowest mean energy in p, b and m, that energy in dB against all speech, at 0)."""
    curve = []
    for correction in CORRECTIONS:
        inside = np.concatenate([h.closure[h.press[h.phone_at(correction)]] for h in heard])
        curve.append(inside.mean() if len(inside) else 0.0)
    speech = np.concatenate([h.closure[h.closure > h.closure.min() + 5] for h in heard]).mean()
    return _peak(-np.array(curve)), float(min(curve) - speech), float(curve[len(CORRECTIONS) // 2] - speech)


_CONTEXT = 6


def _stacked(h):
    """Spectra with their neighbours up to 60 ms to both sides, mean removed, and a one."""
    bands = (h.bands - h.bands.mean(0)) / 10
    padded = np.pad(bands, ((2 * _CONTEXT, 2 * _CONTEXT), (0, 0)), mode="edge")
    parts = [padded[k : k + len(bands)] for k in range(0, 4 * _CONTEXT + 1, 2)]
    return np.concatenate([*parts, np.ones((len(bands), 1))], 1)


def teach(heard):
    """Weights of a linear reader: vowel or not, and p/b/m or not, from spectra."""
    width = _stacked(heard[0]).shape[1]
    xx, xy = np.zeros((width, width)), np.zeros((width, 2))
    for h in heard:
        x = _stacked(h)
        at = h.phone_at(0.0)
        y = np.stack([h.vowel[at], h.press[at]], 1).astype(float)
        xx += x.T @ x
        xy += x.T @ y
    return np.linalg.solve(xx + 10.0 * np.eye(width), xy)


def cross(heard, weights):
    """(correction for vowels, correlation there, correction for p/b/m, correlation there) by another engine's reader."""
    read = [_stacked(h) @ weights for h in heard]
    found = []
    for column, kind in enumerate(("vowel", "press")):
        curve = np.array(
            [
                np.mean(
                    [_correlation(r[:, column], getattr(h, kind)[h.phone_at(c)].astype(float)) for r, h in zip(read, heard)]
                )
                for c in CORRECTIONS
            ]
        )
        found += [_peak(curve), float(curve.max())]
    return tuple(found)


def speech_mask(audio, paused):
    """For each frame of HOP: is there speech; `paused` says where the labels name a pause."""
    power = np.sqrt(np.convolve(audio**2, np.ones(160) / 160, "same") + 1e-12)[:: round(HOP * RATE)]
    level = 20 * np.log10(power)
    return level > level.max() - np.where(paused[: len(level)], _PAUSE_DB, _SILENCE_DB)


def corrected(phones, correction, length):
    """Phones moved by the correction, within [0, length], with no gap between them."""
    edges = [min(max(start + correction, 0.0), length) for _, _, start, _ in phones] + [length]
    edges[0] = 0.0
    return [(v, p, s, e) for (v, p, _, _), s, e in zip(phones, edges, edges[1:]) if e - s > 1e-4]


def silence_by_energy(phones, audio):
    """Silence labelled where the audio is silent: pauses without speech in them shrink, silent tails become `sil`.

    Engines name pauses roughly: a phrase-final vowel runs on under a comma, and the last phone is given silence. A
    closed mouth has to be where the silence is.
    """
    length = len(audio) / RATE
    times = np.arange(len(audio) // round(HOP * RATE) + 1) * HOP
    paused = np.zeros(len(times), bool)
    for viseme, _, start, end in phones:
        if viseme == SIL:
            paused |= (times >= start) & (times < end)
    mask = speech_mask(audio, paused)
    # Runs of silence long enough not to be the closure of a stop, and all at the ends of the clip.
    flips = np.flatnonzero(np.diff(mask.astype(np.int8))) + 1
    runs = np.concatenate([[0], flips, [len(mask)]])
    silent = []
    for begin, end in zip(runs, runs[1:]):
        at_an_end = begin == 0 or end == len(mask)
        long_enough = (end - begin) * HOP >= _SHORTEST_PAUSE or paused[begin:end].sum() * HOP >= _SHORTEST_NAMED
        if not mask[begin] and (at_an_end or long_enough):
            silent.append((begin * HOP, length if end == len(mask) else min(end * HOP, length)))
    spoken = [[v, p, s, e] for v, p, s, e in phones if v != SIL]
    if not spoken:
        return phones
    # Over former pauses the phones on both sides meet in the middle; silence is cut out below.
    for left, right in zip(spoken, spoken[1:]):
        if right[2] > left[3]:
            inside = [(b, e) for b, e in silent if b < right[2] and e > left[3]]
            middle = inside[0][0] if inside else (left[3] + right[2]) / 2
            left[3] = right[2] = min(max(middle, left[3]), right[2])
    spoken[0][2], spoken[-1][3] = 0.0, length
    result = []
    for v, p, s, e in spoken:
        pieces = [(s, e)]
        for b, t in silent:
            pieces = [cut for ps, pe in pieces for cut in ((ps, min(pe, b)), (max(ps, t), pe)) if cut[1] - cut[0] > 1e-4]
        result += [(v, p, ps, pe) for ps, pe in pieces]
    result += [(SIL, "_", b, e) for b, e in silent]
    return sorted(result, key=lambda phone: phone[2])


STOPS = {"p", "b", "t", "d", "k", "g", "ɡ"}
_LONGEST_CLOSURE = 0.14
# What of the phone before a stop, at most, turns out to be its closure, and what of the phone after it is kept.
_OF_NEIGHBOUR = 0.6
_LEAD_INTO_STOP = 0.06


def closures_by_energy(phones, sound):
    """Stops moved to where the audio is closed: from the fall of the energy to the burst.

    Engines disagree on where a stop is: espeak starts it at the burst and leaves its closure to the vowel before, hibari
    and flite give it the puff of air after the burst, when the lips are open already. Only p and b end at the burst: of
    the others the tongue's release is not to be seen.
    """
    result = [list(phone) for phone in phones]
    for i in range(1, len(result) - 1):
        before, stop, after = result[i - 1 : i + 2]
        if stop[1] not in STOPS:
            continue
        if before[0] == SIL:
            # After a pause the closure is silent: the mouth shuts shortly before the burst.
            start = max(before[2], min(stop[2], stop[3] - _LEAD_INTO_STOP))
            before[3] = stop[2] = max(start, before[2] + 0.01)
            continue
        if after[0] == SIL:
            continue
        low = max(before[3] - _OF_NEIGHBOUR * (before[3] - before[2]), stop[3] - _LONGEST_CLOSURE)
        high = min(stop[3] + 0.3 * (after[3] - after[2]), stop[3] + 0.03)
        first, last = int(np.ceil(low / HOP)), int(high / HOP)
        energy = sound.closure[first : last + 1]
        around = sound.closure[max(int((before[2] + before[3]) / 2 / HOP), 0) : int((after[2] + after[3]) / 2 / HOP) + 1]
        if len(energy) < 3 or len(around) < 3:
            continue
        deepest = int(energy.argmin())
        depth = around.max() - energy[deepest]
        if depth < 10.0:
            continue
        edge = energy[deepest] + 0.4 * depth
        left = right = deepest
        while left > 0 and energy[left - 1] < edge:
            left -= 1
        while right < len(energy) - 1 and energy[right + 1] < edge:
            right += 1
        start, end = (first + left) * HOP, (first + right) * HOP
        if end - start < 0.02:
            continue
        before[3] = stop[2] = start
        if stop[1] in ("p", "b"):
            after[2] = stop[3] = end
        elif stop[3] < start + 0.02:
            after[2] = stop[3] = start + 0.02
    return [tuple(phone) for phone in result if phone[3] - phone[2] > 1e-4]
