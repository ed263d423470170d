#!/usr/bin/env python3
"""Plays the engine for tests: the same command line, the same lines on stdout, the same protocol, and no model.

What it does stands in its "weights", a JSON object:
  loading: [0.25, ...]   fractions that it says
  hold: true             it becomes ready only when FILE.go exists
  failed: {code, message}   it says this instead of becoming ready
  exit: N                it ends with this status before it says anything
  context_tokens: N      what it says that it reads
It adds a line with its process id to FILE.starts and the first message of each conversation to FILE.asked, and its answers depend on the last message of the person:
  echo TEXT   TEXT
  endless     a word each 20 ms until the connection or the process ends
  die         a word, and then the process ends
  long        it reads a long conversation first, and tells how far it is
  refuse      it answers that the conversation is too long
  break       it answers with a failure of its own
"""

import argparse
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--model-file", required=True)
parser.add_argument("--model-name", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--context-tokens", type=int, required=True)
options = parser.parse_args()


def read_settings():
    try:
        with open(options.model_file) as file:
            return json.load(file)
    except ValueError:
        # A file of the catalogue, whose content is given.
        return {}


settings = read_settings()
with open(options.model_file + ".starts", "a") as starts:
    starts.write(f"{os.getpid()}\n")


def say(value):
    print(json.dumps(value), flush=True)


if "exit" in settings:
    print("something went wrong inside", file=sys.stderr, flush=True)
    os._exit(settings["exit"])

if "HOME" in os.environ:
    say({"failed": {"code": "failed", "message": "The environment is not its own."}})
    os._exit(1)

token = sys.stdin.readline().strip()
if len(token) != 32:
    say({"failed": {"code": "failed", "message": "The token is wrong."}})
    os._exit(1)


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def event(self, value):
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def word(self, text):
        self.event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.headers["authorization"] != f"Bearer {token}":
            return self.answer(401, {"error": {"message": "The token is wrong."}})
        if request["model"] != options.model_name:
            return self.answer(404, {"error": {"message": "no such model", "code": "model_not_found"}})
        with open(options.model_file + ".asked", "a") as asked:
            asked.write(request["messages"][0]["content"] + "\n")
        command, _, rest = request["messages"][-1]["content"].partition(" ")
        if command == "refuse":
            message = "The conversation has 9 tokens and the model reads 8."
            return self.answer(400, {"error": {"message": message, "code": "context_length_exceeded"}})
        if command == "break":
            return self.answer(500, {"error": {"message": "oops"}})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if command == "long" and request.get("return_progress"):
            for progress in [{"queued": 1}, {"processed": 100}, {"processed": 300}, {"processed": 500}]:
                self.event({"choices": [], "prompt_progress": {"total": 500, "cache": 100, "processed": 100} | progress})
        if command == "die":
            self.word("Before")
            time.sleep(0.1)
            os._exit(9)
        try:
            while command == "endless":
                self.word("word ")
                time.sleep(0.02)
        except OSError:
            return
        self.word(rest or "Yes.")
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")


server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
server.daemon_threads = True
say({"listening": {"port": server.server_address[1]}})
for fraction in settings.get("loading", []):
    say({"loading": fraction})
while settings.get("hold") and not os.path.exists(options.model_file + ".go"):
    time.sleep(0.01)
if "failed" in settings:
    say({"failed": settings["failed"]})
    os._exit(1)
context_tokens = settings.get("context_tokens", options.context_tokens)
say({"ready": {"model": options.model_name, "context_tokens": context_tokens}})
server.serve_forever()
