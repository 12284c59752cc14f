"""A stand-in for a speech recogniser: the OpenAI-compatible `audio/transcriptions` protocol over real HTTP, standard library
only.

What is understood depends on the model asked for: a name below fails in that way, any other gets the words given on the
command line.

    asr_server.py DELAY_MS [WORDS]

prints its port. GET /requests tells what was asked, with the length of the sound and how loud it is.
"""

import array
import email.parser
import io
import json
import math
import socket
import sys
import threading
import time
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

delay = float(sys.argv[1]) / 1000
words = sys.argv[2] if len(sys.argv) > 2 else "What time is it?"
requests = []
lock = threading.Lock()


def form(content_type, body):
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser().parsebytes(head + body)
    return {part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message.get_payload()}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with lock:
            self.whole(200, json.dumps(requests))

    def do_POST(self):
        fields = form(self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"])))
        with wave.open(io.BytesIO(fields.pop("file"))) as sound:
            samples = array.array("h", sound.readframes(sound.getnframes()))
            rms = math.sqrt(sum(sample * sample for sample in samples) / max(1, len(samples)))
            described = {"rate": sound.getframerate(), "channels": sound.getnchannels(), "bytes": sound.getsampwidth(),
                         "seconds": len(samples) / sound.getframerate(), "rms": rms}
        asked = {name: value.decode() for name, value in fields.items()}
        with lock:
            requests.append({"path": self.path, "authorization": self.headers["Authorization"], "fields": asked,
                             "sound": described, "at": time.time()})
        try:
            self.answer(asked["model"])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def answer(self, model):
        statuses = {"unauthorized": 401, "limited": 429, "broken": 500}
        if model in statuses:
            key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            self.whole(statuses[model], json.dumps({"error": {"message": f"It is a {statuses[model]} for {key}."}}))
        elif model == "hangs":
            time.sleep(20)
        elif model == "truncated":
            self.whole(200, '{"text": "What ti')
        elif model == "null":
            self.whole(200, '{"text": null}')
        elif model == "latin1":
            self.whole(200, b'{"text": "Das Caf\xe9 ist zu."}')
        elif model == "other":
            self.whole(200, '{"words": []}')
        elif model == "huge":
            self.whole(200, json.dumps({"text": "a" * 10_000_000}))
        elif model == "drops":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b'{"text":')
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            time.sleep(delay)
            self.whole(200, json.dumps({"text": f" {words}\n"}))

    def whole(self, status, text):
        body = text if isinstance(text, bytes) else text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_port, flush=True)
server.serve_forever()
