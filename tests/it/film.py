"""Decodes a film with ffmpeg's libraries (PyAV), which have nothing in common with GStreamer that wrote it.

    film.py FILM SOUND

writes the sound, 48 kHz mono in 16 bits with its first sample at the film's time zero, into the file SOUND, and prints as
JSON what the film says of itself and when each of its pictures is shown, with the lightness of its middle.
"""

import json
import sys

import av

film, out = sys.argv[1:]
RATE = 48_000

pictures = []
with av.open(film) as container:
    video, audio = container.streams.video[0], container.streams.audio[0]
    said = {
        "codecs": [stream.codec_context.name for stream in (video, audio)],
        "seconds": {
            stream.type: float(stream.duration * stream.time_base) if stream.duration else None for stream in (video, audio)
        },
    }
    for frame in container.decode(video):
        plane = frame.planes[0]
        middle = bytes(plane)[plane.line_size * (frame.height // 2) + frame.width // 2]
        pictures.append([float(frame.pts * frame.time_base), middle])

sound = bytearray()
with av.open(film) as container:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    first = None
    for decoded in container.decode(container.streams.audio[0]):
        at = round(decoded.pts * decoded.time_base * RATE)
        for frame in resampler.resample(decoded):
            if first is None:
                first = at
                sound += bytes(2 * max(at, 0))
            sound += bytes(frame.planes[0])[: 2 * frame.samples]
with open(out, "wb") as file:
    file.write(sound[max(0, -2 * first) :])
print(json.dumps(said | {"pictures": pictures, "first_sound": first / RATE, "sound_ends": first / RATE + len(sound) / 2 / RATE}))
