#!/usr/bin/env python3
"""Writes PNGs of a folder anew without compression, for an archive that is compressed as a whole: frames of an avatar are
much alike, which a PNG by itself cannot use.

    loose_png.py FOLDER
"""

import pathlib
import struct
import sys
import zlib

SIGNATURE = 8


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def loose(data):
    """The same picture; its pixels are stored."""
    written, pixels, at = [data[:SIGNATURE]], b"", SIGNATURE
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + length]
        at += 12 + length
        if kind == b"IDAT":
            pixels += body
            continue
        if kind == b"IEND":
            written.append(chunk(b"IDAT", zlib.compress(zlib.decompress(pixels), 0)))
        written.append(chunk(kind, body))
    return b"".join(written)


for path in pathlib.Path(sys.argv[1]).glob("*.png"):
    path.write_bytes(loose(path.read_bytes()))
