"""Writes the clips and photos that tests read, with ffmpeg's libraries (PyAV), which encode nearly everything.

    clips.py FOLDER NAME...

writes the files of these names into the folder. A picture of number n is of the grey level 40 + 5 n, with a white square in
its upper left quarter, unless it says otherwise below.
"""

import struct
import sys
from fractions import Fraction

import av

WIDTH, HEIGHT = 64, 48


def grey(number):
    return min(40 + 5 * number, 230)


def paint(number, width, height, pixels):
    """Luma of a picture, one byte each or two of ten bits, its rows without padding."""
    ten = "10" in pixels
    level, white = grey(number), 235
    rows = []
    for y in range(height):
        row = [white if y < height // 4 and x < width // 4 else level for x in range(width)]
        rows.append(struct.pack(f"<{width}H", *(value * 4 for value in row)) if ten else bytes(row))
    return rows


def picture(number, width, height, pixels, painter=paint):
    frame = av.VideoFrame(width, height, pixels)
    rows = painter(number, width, height, pixels)
    for index, plane in enumerate(frame.planes):
        stride = plane.line_size
        if index == 0:
            data = b"".join(row.ljust(stride, b"\0") for row in rows)
        elif index == 3:
            data = bytes([128]) * (stride * plane.height)
        elif "10" in pixels:
            data = struct.pack("<H", 512) * (stride // 2 * plane.height)
        else:
            data = bytes([128]) * (stride * plane.height)
        plane.update(data)
    return frame


def write(
    path, codec, times=range(0, 1000, 40), pixels="yuv420p", width=WIDTH, height=HEIGHT, format=None, options=None,
    container=None, sound=False, painter=paint, **settings
):
    """Pictures at these times in milliseconds."""
    with av.open(path, "w", format=format, options=container or {}) as out:
        rate = settings.pop("rate", 1000)
        stream = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        audio = out.add_stream("aac" if path.endswith(("mp4", "mov", "flv")) else "libopus", rate=48000) if sound else None
        if audio:
            audio.codec_context.layout = "mono"
            hum = av.AudioFrame(format=audio.codec_context.format.name, layout="mono", samples=960)
            hum.sample_rate = 48000
            hum.planes[0].update(bytes(hum.planes[0].buffer_size))
            resampler = av.AudioFifo()
            for number in range(len(list(times)) * 2):
                hum.pts = number * 960
                resampler.write(hum)
            size = 1024 if audio.codec_context.name == "aac" else 960
            while chunk := resampler.read(size):
                out.mux(audio.encode(chunk))
            out.mux(audio.encode(None))
        for number, time in enumerate(times):
            frame = picture(number, width, height, pixels, painter)
            frame.pts, frame.time_base = time * rate // 1000, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def slow(number, width, height, pixels):
    """Of the grey level 40 + 2 n, so that four seconds of them differ."""
    return [bytes([40 + 2 * number] * width) for _ in range(height)]


def combed(number, width, height, pixels):
    """A bar that moves from field to field: what is not deinterlaced is a comb."""
    rows = []
    for y in range(height):
        at = number * 8 + (4 if y % 2 else 0)
        rows.append(bytes(235 if at <= x < at + 16 else 16 for x in range(width)))
    return rows


def replaced(path, target, changes):
    data = open(path, "rb").read()
    for old, new in changes:
        assert old in data, f"{path} has no {old}"
        data = data.replace(old, new)
    open(target, "wb").write(data)


UPRIGHT = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def turned(folder, name, a, b, c, d):
    """As phones write it: the matrix of the track (ISO 14496-12, 8.3.2)."""
    write(f"{folder}/upright.mp4", "libx264")
    data = bytearray(open(f"{folder}/upright.mp4", "rb").read())
    track = data.index(b"tkhd")
    at = data.index(UPRIGHT, track)
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    open(f"{folder}/{name}", "wb").write(data)


def sound_only(path):
    with av.open(path, "w") as out:
        stream = out.add_stream("aac", rate=48000)
        stream.codec_context.layout = "mono"
        for number in range(20):
            frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            frame.sample_rate, frame.pts = 48000, number * 1024
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def truncated(folder, name, source, share):
    data = open(f"{folder}/{source}", "rb").read()
    open(f"{folder}/{name}", "wb").write(data[: int(len(data) * share)])


def bomb_vp8(folder, name):
    write(f"{folder}/plain.webm", "libvpx", times=range(0, 400, 40))
    head = b"\x9d\x01\x2a"
    replaced(f"{folder}/plain.webm", f"{folder}/{name}", [(head + struct.pack("<HH", WIDTH, HEIGHT), head + b"\xff\x3f\xff\x3f")])


def bomb_jpeg(folder, name):
    write(f"{folder}/plain.avi", "mjpeg", times=range(0, 400, 40), pixels="yuvj420p", rate=25)
    head = b"\xff\xc0\x00\x11\x08"
    replaced(f"{folder}/plain.avi", f"{folder}/{name}", [(head + struct.pack(">HH", HEIGHT, WIDTH), head + b"\x40\x00\x40\x00")])


UNEVEN = [0, 10, 20, 90, 100, 300, 310, 320, 500, 520, 900]
HDR = {"color_primaries": 9, "colorspace": 9, "color_range": 1}
X265 = {"x265-params": "log-level=none:pools=1:frame-threads=1:colorprim=bt2020:colormatrix=bt2020nc:transfer="}


def hdr(path, transfer, number):
    options = {"x265-params": X265["x265-params"] + transfer, "preset": "ultrafast"}
    write(path, "libx265", times=range(0, 400, 40), pixels="yuv420p10le", options=options, color_trc=number, **HDR)


FILES = {
    "plain.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", sound=True),
    "thirty.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", times=[n * 1000 // 30 for n in range(30)], options={"bf": "3"}),
    "hevc.mp4": lambda folder, name: write(f"{folder}/{name}", "libx265", options={"x265-params": "log-level=none:pools=1", "preset": "ultrafast"}),
    "uneven.mkv": lambda folder, name: write(f"{folder}/{name}", "libx264", times=UNEVEN),
    "uneven.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", times=UNEVEN),
    "vp8.webm": lambda folder, name: write(f"{folder}/{name}", "libvpx", sound=True),
    "vp9.webm": lambda folder, name: write(f"{folder}/{name}", "libvpx-vp9", options={"cpu-used": "8"}),
    "live.webm": lambda folder, name: write(f"{folder}/{name}", "libvpx", container={"live": "1"}),
    "odd.webm": lambda folder, name: write(f"{folder}/{name}", "libvpx-vp9", width=65, height=49, options={"cpu-used": "8"}),
    "alpha.webm": lambda folder, name: write(f"{folder}/{name}", "libvpx-vp9", pixels="yuva420p", options={"cpu-used": "8"}),
    "av1.mp4": lambda folder, name: write(f"{folder}/{name}", "libsvtav1", width=64, height=64, rate=25, times=range(0, 400, 40), options={"preset": "10"}),
    "mjpeg.avi": lambda folder, name: write(f"{folder}/{name}", "mjpeg", pixels="yuvj420p", rate=25, times=range(0, 400, 40)),
    "mpeg4.avi": lambda folder, name: write(f"{folder}/{name}", "mpeg4", rate=25),
    "prores.mov": lambda folder, name: write(f"{folder}/{name}", "prores_ks", pixels="yuv422p10le", times=range(0, 200, 40)),
    "flash.flv": lambda folder, name: write(f"{folder}/{name}", "flv"),
    "transport.ts": lambda folder, name: write(f"{folder}/{name}", "libx264"),
    "wmv.wmv": lambda folder, name: write(f"{folder}/{name}", "wmv2", rate=25),
    "program.mpg": lambda folder, name: write(f"{folder}/{name}", "mpeg2video", rate=25),
    "pq.mp4": lambda folder, name: hdr(f"{folder}/{name}", "smpte2084", 16),
    "hlg.mp4": lambda folder, name: hdr(f"{folder}/{name}", "arib-std-b67", 18),
    "full.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", pixels="yuvj420p", color_range=2),
    "wide.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", sample_aspect_ratio=Fraction(2, 1)),
    "large.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", width=2560, height=320, times=range(0, 120, 40), options={"preset": "ultrafast"}),
    "interlaced.mp4": lambda folder, name: write(
        f"{folder}/{name}", "libx264", times=range(0, 240, 40), painter=combed,
        options={"x264-params": "tff=1:interlaced=1", "qp": "10"}),
    "turned90.mp4": lambda folder, name: turned(folder, name, 0, 1, -1, 0),
    "turned180.mp4": lambda folder, name: turned(folder, name, -1, 0, 0, -1),
    "turned270.mp4": lambda folder, name: turned(folder, name, 0, -1, 1, 0),
    "mirrored.mp4": lambda folder, name: turned(folder, name, -1, 0, 0, 1),
    "sound.mp4": lambda folder, name: sound_only(f"{folder}/{name}"),
    "still.mkv": lambda folder, name: write(f"{folder}/{name}", "libx264", times=[0]),
    "one_time.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", times=[0]),
    "hours.mkv": lambda folder, name: write(f"{folder}/{name}", "libx264", times=[0, 40, 8 * 3_600_000], options={"bf": "0"}),
    "index_first.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", times=range(0, 4000, 40), painter=slow, container={"movflags": "faststart"}, options={"g": "10"}),
    "indexed.mkv": lambda folder, name: write(f"{folder}/{name}", "libx264", times=range(0, 4000, 40), painter=slow, options={"g": "10"}),
    "stream.ts": lambda folder, name: write(f"{folder}/{name}", "libx264", times=range(0, 4000, 40), painter=slow, options={"g": "10"}),
    "index_last.mp4": lambda folder, name: write(f"{folder}/{name}", "libx264", times=range(0, 2000, 40)),
    "broken_off.mp4": lambda folder, name: truncated(folder, name, "index_first.mp4", 0.85),
    "no_index.mp4": lambda folder, name: truncated(folder, name, "index_last.mp4", 0.6),
    "broken_off.webm": lambda folder, name: truncated(folder, name, "vp8.webm", 0.6),
    "bomb.webm": bomb_vp8,
    "bomb.avi": bomb_jpeg,
    "moving.gif": lambda folder, name: write(f"{folder}/{name}", "gif", pixels="gray", times=[0, 100, 200, 400, 500]),
    "moving.png": lambda folder, name: write(f"{folder}/{name}", "apng", pixels="gray", format="apng", times=[0, 100, 200, 400, 500]),
    "moving.webp": lambda folder, name: write(f"{folder}/{name}", "libwebp_anim", options={"lossless": "1"}, times=[0, 100, 200, 400, 500]),
}

folder, *names = sys.argv[1:]
av.logging.set_level(av.logging.ERROR)
for name in names:
    FILES[name](folder, name)
