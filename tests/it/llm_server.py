"""A stand-in for a language model: the OpenAI-compatible streaming protocol over real HTTP, standard library only.

What the user's last line says decides what happens, so that one server shows every way in which one can fail:
"fail 401" answers with that status, "hang", "stall", "break", "llama", "cut", "drop", "flood" and "tools" misbehave as
described at `misbehave`, "think" and "whole" are two dialects, "count" talks for minutes. Anything else is answered.

    llm_server.py [PORT [FIRST_TOKEN_MS [TOKENS_PER_SECOND]]]

prints its port. GET /requests tells what was asked and when (time.time()) the client closed the connection, GET /counts how
many requests there were and how many of them were closed so.
"""

import json
import select
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 0
FIRST_TOKEN = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0
BETWEEN = 1 / float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
COUNTING = " ".join(f"This is the sentence with the number {number}." for number in range(1, 400))

requests = []
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        with lock:
            closed = sum(request["closed_at"] is not None for request in requests)
            told = {"asked": len(requests), "closed": closed} if self.path == "/counts" else requests
            body = json.dumps(told).encode()
        self.whole(200, body)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.record = {"asked": asked, "path": self.path, "authorization": self.headers["Authorization"], "closed_at": None}
        with lock:
            requests.append(self.record)
        words = asked["messages"][-1]["content"].splitlines()[-1]
        try:
            if words.startswith("fail "):
                self.fail(int(words.split()[1]))
            elif words == "whole":
                message = {"choices": [{"message": {"content": "A whole answer."}, "finish_reason": "stop"}]}
                self.whole(200, json.dumps(message, indent=2).encode())
            elif words == "hang":
                self.until_closed(600)
            else:
                self.stream(words)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            self.closed()

    def fail(self, status):
        key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        message = {401: f"Incorrect API key provided: {key}.", 429: "Rate limit reached for requests."}
        error = {"error": {"message": message.get(status, f"It is a {status}."), "type": "a_type"}}
        self.whole(status, json.dumps(error).encode(), {"Retry-After": "7"} if status == 429 else {})

    def whole(self, status, body, headers={}):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, words):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.send(": a comment that keeps the connection alive\n\n")
        self.until_closed(FIRST_TOKEN)
        self.delta({"role": "assistant", "content": ""})
        if words in ("stall", "break", "llama", "cut", "drop", "flood", "tools"):
            return self.misbehave(words)
        if words == "think":
            self.delta({"reasoning_content": "A secret thought. "})
            text = "<think>Another secret thought.</think>Thinking is done."
        else:
            text = COUNTING if words == "count" else f"You said {words}."
        # Tokens of four characters, so that tags and words are split.
        for at in range(0, len(text), 4):
            self.delta({"content": text[at : at + 4]})
            self.until_closed(BETWEEN)
        self.send('data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n')
        self.send('data: {"choices":[],"usage":{"total_tokens":9}}\n\ndata: [DONE]\n\n')
        self.wfile.write(b"0\r\n\r\n")

    def misbehave(self, words):
        if words == "tools":
            self.delta({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]})
            self.send('data: {"choices":[{"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n')
            self.wfile.write(b"0\r\n\r\n")
            return
        self.delta({"content": "So far so good. "})
        if words == "stall":
            self.until_closed(600)
        elif words == "break":
            self.send('data: {"error":{"message":"CUDA out of memory","code":500}}\n\n')
        elif words == "llama":
            self.send('error: {"code":500,"message":"context is full"}\n\n')
        elif words == "cut":
            self.send('data: {"choices":[{"delta":{"con')
        elif words == "flood":
            self.send("data: " + 10_000_000 * "x" + "\n\n")
        if words != "drop":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def delta(self, delta):
        self.send("data: " + json.dumps({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}) + "\n\n")

    def send(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def until_closed(self, seconds):
        """Waits, or fails as soon as the client has gone."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if readable and not self.connection.recv(1, socket.MSG_PEEK):
            raise BrokenPipeError

    def closed(self):
        with lock:
            self.record["closed_at"] = time.time()


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
