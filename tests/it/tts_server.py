"""A stand-in for a voice service: the OpenAI-compatible `audio/speech` protocol over real HTTP, standard library only.

What is to be said decides what happens: a text that begins with one of the words below fails in that way, "Wav" comes as a
WAV file, and half a second in other forms after "Mpeg", "Opus" and "Flac", by names that are not theirs. Anything else is a hum of 60 ms a character, in pieces of 100 ms that come as fast as they are taken, or so many
times as fast as they are heard.

    tts_server.py [PACE]

prints its port. GET /requests tells what was asked, whether the whole answer was sent, and when (time.time()) the client
closed the connection before.
"""

import json
import math
import os
import select
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RATE = 24_000
BETWEEN = 0.1 / float(sys.argv[1]) if len(sys.argv) > 1 else 0
requests = []
lock = threading.Lock()
SOUNDS = os.path.join(os.path.dirname(__file__), "../fixtures/sound")
FORMS = {"Mpeg": ("audio/pcm", "hum.mp3"), "Opus": ("text/html", "hum.opus"), "Flac": ("audio/wav", "hum.flac")}


def hum(samples, rate=RATE, first=0):
    tone = (0.3 * math.sin(2 * math.pi * 150 * at / rate) for at in range(first, first + samples))
    return b"".join(struct.pack("<h", int(32767 * value)) for value in tone)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with lock:
            body = json.dumps(requests).encode()
        self.whole(200, "application/json", body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.record = {"asked": asked, "path": self.path, "authorization": self.headers["Authorization"], "closed_at": None,
                       "answered": False}
        with lock:
            requests.append(self.record)
        text = asked["input"]
        try:
            self.answer(text.split()[0].strip(".,!"), len(text) * 60 * RATE // 1000)
            with lock:
                self.record["answered"] = True
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            with lock:
                self.record["closed_at"] = time.time()

    def answer(self, word, samples):
        key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        statuses = {"Unauthorized": 401, "Limited": 429, "Broken": 500}
        if word in statuses:
            error = {"error": {"message": f"It is a {statuses[word]} for {key}."}}
            self.whole(statuses[word], "application/json", json.dumps(error).encode())
        elif word == "Json":
            self.whole(200, "application/json", b'{"audio": "' + 10_000_000 * b"A" + b'"}')
        elif word == "Hang":
            self.until_closed(600)
        elif word == "Empty":
            self.whole(200, "audio/pcm", b"")
        elif word == "Rate":
            self.whole(200, "audio/pcm; rate=96000", hum(samples))
        elif word == "Wav":
            self.whole(200, "audio/wav", wav(1, 16, 22_050) + hum(samples * 22_050 // RATE, 22_050))
        elif word == "Html":
            self.whole(200, "text/html", b"<!DOCTYPE html><html><body>The voice is being updated.</body></html>")
        elif word in FORMS:
            # A library that sends bytes calls them HTML unless it is told otherwise.
            kind, name = FORMS[word]
            with open(f"{SOUNDS}/{name}", "rb") as file:
                self.whole(200, kind, file.read())
        elif word == "Nan":
            self.whole(200, "audio/wav", wav(3, 32, RATE) + samples * struct.pack("<f", math.nan))
        else:
            self.begin()
            self.pieces(10**9 if word == "Flood" else samples // 3 if word in ("Stall", "Drop", "Odd") else samples)
            if word == "Stall":
                self.until_closed(600)
            if word == "Odd":
                self.send(b"x")
            if word != "Drop":
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

    def begin(self):
        self.send_response(200)
        self.send_header("Content-Type", "audio/pcm")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def pieces(self, samples):
        step = RATE // 10
        piece = hum(step)
        for _ in range(0, samples, step):
            self.send(piece)
            self.until_closed(BETWEEN)

    def whole(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def until_closed(self, seconds):
        """Waits, or fails as soon as the client has gone."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise BrokenPipeError


def wav(kind, bits, rate):
    size = bits // 8
    form = struct.pack("<HHIIHH", kind, 1, rate, rate * size, size, bits)
    return b"RIFF\xff\xff\xff\x7fWAVEfmt " + struct.pack("<I", 16) + form + b"data\xff\xff\xff\x7f"


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
