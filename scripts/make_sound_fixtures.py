#!/usr/bin/env python3
"""Makes the files in tests/fixtures/sound: one sound in every form that is read besides WAV.

    python3 -m pip install av==18.1.0 numpy && scripts/make_sound_fixtures.py

The sound is half a second of silence and half a second of a hum of 200 Hz, so that a test sees where it begins. Vorbis is
made by GStreamer (gst-launch-1.0 of Debian's gstreamer1.0-tools, vorbisenc), since PyAV's ffmpeg has no encoder for it.
"""

import pathlib
import subprocess

import av
import numpy

RATE = 24_000
folder = pathlib.Path(__file__).parent.parent / "tests/fixtures/sound"
at = numpy.arange(RATE)
hum = numpy.where(at < RATE // 2, 0, 0.4 * numpy.sin(2 * numpy.pi * 200 * at / RATE))


def make(name, codec, rate=RATE, layout="mono", form=None, options=None):
    with av.open(str(folder / name), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, options=options or {})
        samples = numpy.interp(numpy.arange(rate) * RATE / rate, at, hum)
        frame = av.AudioFrame.from_ndarray((samples * 32767).astype(numpy.int16).reshape(1, -1), format="s16", layout="mono")
        frame.rate, frame.pts = rate, 0
        wanted = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
        for piece in wanted.resample(frame) + wanted.resample(None):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


make("hum.mp3", "libmp3lame", options={"b": "32k"})
make("stereo.mp3", "libmp3lame", 44_100, "stereo", options={"b": "64k"})
make("hum.flac", "flac")
make("hum96k.flac", "flac", 96_000)
make("hum.m4a", "aac", options={"b": "48k"})
make("alac.m4a", "alac")
make("hum.aac", "aac", form="adts", options={"b": "48k"})
make("hum.opus", "libopus", 48_000, options={"b": "32k"})
make("hum.webm", "libopus", 48_000, options={"b": "32k"})
make("hum.aiff", "pcm_s16be")
make("hum.caf", "pcm_s16be")
make("adpcm.wav", "adpcm_ima_wav")
hum_raw = folder / "hum.raw"
hum_raw.write_bytes((hum * 32767).astype("<i2").tobytes())
subprocess.run(
    f"gst-launch-1.0 -q filesrc location={hum_raw} ! rawaudioparse format=pcm pcm-format=s16le sample-rate={RATE} num-channels=1"
    f" ! audioconvert ! vorbisenc quality=0.1 ! oggmux ! filesink location={folder / 'hum.ogg'}",
    shell=True,
    check=True,
)
hum_raw.unlink()
