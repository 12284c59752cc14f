"""A stand-in for a voice behind a WebSocket (RFC 6455 by hand), standard library only.

What is to be said decides what happens: a text that begins with one of the words below fails in that way. Anything else is
a hum of 60 ms a character, in pieces of 100 ms that come as fast as they are taken.

    tts_socket.py

prints its port. GET /requests over plain HTTP tells what was asked and when (time.time()) the client closed the connection.
"""

import base64
import hashlib
import json
import math
import os
import select
import socketserver
import struct
import threading
import time

RATE = 22_050
requests = []
lock = threading.Lock()


def hum(samples):
    tone = (0.3 * math.sin(2 * math.pi * 150 * at / RATE) for at in range(samples))
    return b"".join(struct.pack("<h", int(32767 * value)) for value in tone)


PIECE = hum(RATE // 10)


class Closed(Exception):
    pass


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        path = self.rfile.readline().split()[1].decode()
        headers = {}
        while line := self.rfile.readline().strip():
            name, value = line.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        if path == "/requests":
            with lock:
                body = json.dumps(requests).encode()
            return self.answer("200 OK", body)
        if path != "/speak":
            return self.answer("401 Unauthorized", b'{"error": {"message": "Who are you?"}}')
        accept = hashlib.sha1((headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        asked = json.loads(self.message())
        record = {"asked": asked, "authorization": headers.get("authorization"), "closed_at": None}
        with lock:
            requests.append(record)
        text = asked["text"]
        try:
            self.speak(text.split()[0].strip(".,!"), len(text) * 60 // 100)
        except (Closed, BrokenPipeError, ConnectionResetError):
            with lock:
                record["closed_at"] = time.time()

    def answer(self, status, body):
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def speak(self, word, pieces):
        if word == "Hang":
            self.until_closed(600)
        elif word == "Garbage":
            self.send(1, b"{not json")
        elif word == "Error":
            self.send(1, b'{"error": "all lines are busy, sk-1234567890abcdef"}')
        elif word == "Rate":
            self.send(1, b'{"sample_rate": 96000}')
        elif word == "Unannounced":
            self.send(2, PIECE)
        elif word == "Large":
            self.send(1, json.dumps({"sample_rate": RATE}).encode())
            self.send(2, bytes(8 << 20))
        else:
            self.send(1, json.dumps({"sample_rate": RATE, "later": "fields"}).encode())
            if word == "Empty":
                pieces = 0
            if word == "Mpeg":
                pieces = 0
                with open(os.path.join(os.path.dirname(__file__), "../fixtures/sound/hum.mp3"), "rb") as file:
                    while part := file.read(999):
                        self.send(2, part)
            if word == "Cut":
                # Between any two bytes.
                whole = PIECE * pieces
                pieces = 0
                for at in range(0, len(whole), 4_001):
                    self.send(2, whole[at : at + 4_001])
            if word in ("Odd", "Close", "Drop", "Stall"):
                pieces //= 3
            for _ in range(10**9 if word == "Flood" else pieces):
                self.send(2, PIECE)
                self.until_closed(0)
            if word == "Close":
                self.send(8, struct.pack(">H", 1001))
            elif word == "Stall":
                self.until_closed(600)
            elif word == "Drop":
                return
            else:
                if word == "Odd":
                    self.send(2, b"xyz")
                self.send(1, b'{"done": true}')
        # Until the client has read it all.
        self.until_closed(600)

    def message(self):
        first, length = self.rfile.read(2)
        length &= 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", self.rfile.read(2))
        mask = self.rfile.read(4)
        return bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.rfile.read(length)))

    def send(self, kind, data):
        head = bytes([0x80 | kind])
        if len(data) < 126:
            head += bytes([len(data)])
        elif len(data) < 1 << 16:
            head += struct.pack(">BH", 126, len(data))
        else:
            head += struct.pack(">BQ", 127, len(data))
        self.wfile.write(head + data)

    def until_closed(self, seconds):
        """Waits, or fails as soon as the client has gone, with a close frame or without."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable:
            raise Closed


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
