#!/usr/bin/env python3
"""An HTTP service that a stale leader cannot write to: it remembers the highest
Fence-Token that it has seen, on disk, and refuses lower ones.

    examples/fencing/http_service.py 8080 /var/lib/report.json
    curl -X PUT -H 'Fence-Token: 42' -d 'the report' localhost:8080
"""
import fcntl
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

HIGHEST_TOKEN = 2**53 - 1


class Resource:
    """The value and its fence. Both are in one file, so that none can be without the other."""

    def __init__(self, path):
        self.path = os.path.abspath(path)
        self.lock = Lock()
        # Two services on one file would each remember a token of their own.
        self.only = open(self.path + ".lock", "w")
        fcntl.flock(self.only, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.token, self.value = 0, ""
        if os.path.exists(self.path):  # one that cannot be read is an error, never a fresh start
            with open(self.path) as file:
                stored = json.load(file)
            self.token, self.value = int(stored["token"]), str(stored["value"])

    def write(self, token, value):
        """Compares, and writes to disk, before anybody else does: 0, or the higher token."""
        with self.lock:
            if token < self.token:
                return self.token
            self.token = token  # raised first: a write that fails below leaves the fence up
            temporary = self.path + ".new"
            with open(temporary, "w") as file:
                json.dump({"token": token, "value": value}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
            directory = os.open(os.path.dirname(self.path), os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
            self.value = value
            return 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, text="", **headers):
        body = text.encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with RESOURCE.lock:
            token, value = RESOURCE.token, RESOURCE.value
        self.answer(200, value, Fence_Token=token)

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        text = self.headers.get("Fence-Token", "")
        # Digits only: int() would also take " 4_2".
        token = int(text) if re.fullmatch("[0-9]{1,16}", text) else 0
        if not 1 <= token <= HIGHEST_TOKEN:
            return self.answer(400, "send the token that you lead under as Fence-Token\n")
        higher = RESOURCE.write(token, body)
        if higher:
            return self.answer(409, f"token {token} is stale: {higher} has been here; stop leading\n")
        self.answer(204, Fence_Token=token)


if __name__ == "__main__":
    RESOURCE = Resource(sys.argv[2])
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
