"""Both ends that a host asks, Docker's socket and the system bus, answering what was recorded.

They run in a process of their own, so that what they burn is not counted as ours, and they count what they are asked:

    python -m tests.lab.bench.wires FOLDER

FOLDER has `docker.json` (path of the API -> body) and `units.json` (rows of ListUnitsByPatterns); the sockets
`docker.sock` and `bus.sock` appear in it.  At first, and for every line it reads, it prints the calls so far.
"""

from __future__ import annotations

import json
import re
import socketserver
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from jeepney import HeaderFields, Message, MessageType, Parser, new_error, new_method_return

_UNITS = "a(ssssssouso)"
_READ = {"FragmentPath": ("s", ""), "DropInPaths": ("as", []), "NeedDaemonReload": ("b", False)}
_NO_SUCH_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"


class Recorded:
    """What is answered, as it goes over the wire, and how often it was."""

    def __init__(self, folder: Path) -> None:
        docker = json.loads((folder / "docker.json").read_text())
        self.docker = {path: json.dumps(body).encode() for path, body in docker.items()}
        self.units = [tuple(row) for row in json.loads((folder / "units.json").read_text())]
        self.calls: Counter[str] = Counter(docker=0, systemd=0)


class _Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, handler: type[socketserver.BaseRequestHandler], recorded: Recorded) -> None:
        super().__init__(str(path), handler)
        self.recorded = recorded


class _Docker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        path = re.sub(r"^/v[0-9.]+", "", self.path.partition("?")[0])
        recorded = self.server.recorded
        if path == "/events":
            self._keep_silent()
        elif path in recorded.docker:
            recorded.calls["docker"] += 1
            self._send(recorded.docker[path])
        else:
            self.send_error(404)

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _keep_silent(self) -> None:
        """A stream of events in which nothing ever happens, until the other side hangs up."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.rfile.read(1)
        self.close_connection = True

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Bus(socketserver.StreamRequestHandler):
    """One connection to the system bus: the handshake, then method calls."""

    server: _Listener

    def handle(self) -> None:
        self.rfile.readline()  # a zero byte and AUTH EXTERNAL
        self.wfile.write(b"OK 0123456789abcdef0123456789abcdef\r\n")
        self.rfile.readline()  # BEGIN
        parser = Parser()
        serial = 0
        while data := self.rfile.read1(65536):
            parser.add_data(data)
            while message := parser.get_next_message():
                if message.header.message_type is MessageType.method_call:
                    serial += 1
                    self.wfile.write(self._answer(message).serialise(serial=serial))

    def _answer(self, call: Message) -> Message:
        match call.header.fields[HeaderFields.member]:
            case "Hello":
                return new_method_return(call, "s", (":1.1",))
            case "ListUnitsByPatterns":
                self.server.recorded.calls["systemd"] += 1
                return new_method_return(call, _UNITS, (self.server.recorded.units,))
            case "Get" if call.body[1] in _READ:  # which a daemon asks once of each unit
                return new_method_return(call, "v", (_READ[call.body[1]],))
        return new_error(call, _NO_SUCH_METHOD)


def main(folder: Path) -> None:
    recorded = Recorded(folder)
    listeners = [_Listener(folder / "docker.sock", _Docker, recorded), _Listener(folder / "bus.sock", _Bus, recorded)]
    for listener in listeners:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
    print(json.dumps(recorded.calls), flush=True)
    for _ in sys.stdin:  # it ends with the one who started it
        print(json.dumps(recorded.calls), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
