"""A recorded server, played at its edges: Docker's API, systemd on a bus, the files, and a forge that is down.

They answer as the server did when it was recorded, and refuse to be changed.  Whatever else they are asked is kept in
`unknown`: the recording has no answer to that.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, unquote, urlsplit

from jeepney import HeaderFields, Message, MessageType, Parser, new_error, new_method_return

from gitops_mvd.systemd.client import CHANGES

GIVEN = ("/version", "/info", "/containers/json", "/networks", "/volumes", "/images/json", "/nodes")
NO_SUCH_UNIT = "org.freedesktop.systemd1.NoSuchUnit"


class Played:
    """What all edges have in common: `refused` has the changes that they were asked for, `ordered` those they took."""

    def __init__(self) -> None:
        self.ordered: list[str] = []
        self.refused: list[str] = []
        self.unknown: list[str] = []


# ---- Docker ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def docker(recorded: Mapping[str, Any], played: Played) -> Iterator[str]:
    """The engine's API; gives its URL."""

    def answer(method: str, target: str, body: bytes) -> tuple[int, Any]:
        url = urlsplit(target)
        path = re.sub(r"^/v1\.\d+", "", unquote(url.path))
        if (method, path) == ("POST", "/containers/create"):
            [name] = parse_qs(url.query)["name"]
            recorded["/containers/json"].append(created(name, json.loads(body)))
            played.ordered.append(f"create {name}")
            return 201, {"Id": name, "Warnings": []}
        if method != "GET":
            played.refused.append(f"docker {method} {path}")
            return 403, {"message": "a recording cannot be changed"}
        if path == "/_ping":
            return 200, "OK"
        if path == "/containers/json":
            return 200, listed(recorded[path], parse_qs(url.query))
        if path in GIVEN:
            return 200, recorded[path]
        if path.startswith("/images/") and path.endswith("/json"):  # none declares a volume
            return 200, {"Config": {}}
        for parent, known in (("distribution", recorded["distribution"]), ("containers", by_name(recorded))):
            if (found := re.fullmatch(rf"/{parent}/(.+)/json", path)) and found[1] in known:
                return 200, known[found[1]]
        if path.startswith("/containers/mvd-"):  # that is to be created
            return 404, {"message": "No such container"}
        played.unknown.append(f"docker {method} {target}")
        return 404, {"message": "this was not recorded"}

    with tempfile.TemporaryDirectory() as folder:
        write_commands(Path(folder), recorded["/info"]["ServerVersion"])
        path = Path(folder, "socket")
        with mock.patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"), serving(UnixServer(path, answer)):
            yield f"unix://{path}"


def write_commands(folder: Path, version: str) -> None:
    """A docker command that tells the version of an engine, and a systemd-run that runs a program where it is."""
    for name, script in {"docker": f"echo {version}", "systemd-run": SYSTEMD_RUN}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


SYSTEMD_RUN = 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'


def listed(containers: Sequence[Mapping[str, Any]], query: Mapping[str, Sequence[str]]) -> list[Mapping[str, Any]]:
    """As the engine filters its list: by labels, which have some value or a certain one, and whether it runs."""
    filters = json.loads(query.get("filters", ["{}"])[0])
    labels = filters.pop("label", [])
    assert not filters, "only labels are filtered by"
    every = query.get("all", ["0"])[0] in ("1", "true", "True")
    there = [found for found in containers if every or found["State"] == "running"]

    def has(labelled: Mapping[str, str], label: str) -> bool:
        name, has_value, value = label.partition("=")
        return name in labelled and (not has_value or labelled[name] == value)

    return [found for found in there if all(has(found["Labels"], label) for label in labels)]


def created(name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """A container that was made a moment ago, as the list has it."""
    return {
        "Id": name,
        "Names": [f"/{name}"],
        "Labels": request["Labels"],
        "State": "created",
        "Status": "Created",
        "Created": 0,
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {}},
    }


def by_name(recorded: Mapping[str, Any]) -> dict[str, Any]:
    inspected = recorded["inspected"].values()
    return {key: found for found in inspected for key in (found["Id"], found["Name"].lstrip("/"))}


class UnixServer(socketserver.ThreadingUnixStreamServer):
    """A server at a socket that answers by `answer(method, target, body) -> (status, JSON)`."""

    daemon_threads = True

    def __init__(self, path: Path, answer: Any) -> None:
        super().__init__(str(path), handler(answer))


@contextlib.contextmanager
def http(answer: Any) -> Iterator[str]:
    """A server on loopback that answers the same way; gives its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(answer)) as server, serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def handler(answer: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def carry(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self.command, self.path, sent)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = carry

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


# ---- systemd ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def systemd(recorded: Mapping[str, Any], played: Played) -> Iterator[str]:
    """The system bus with systemd on it; gives its address."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listening:
        path = Path(folder, "bus")  # of a short name, which is all that a socket can have
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=_accept, args=(listening, recorded, played), daemon=True)
        thread.start()
        try:
            yield f"unix:path={path}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _accept(listening: socket.socket, recorded: Mapping[str, Any], played: Played) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:  # the test is over
            return
        threading.Thread(target=_converse, args=(connection, recorded, played), daemon=True).start()


def _converse(connection: socket.socket, recorded: Mapping[str, Any], played: Played) -> None:
    with connection, contextlib.suppress(OSError):
        rest = _let_in(connection)
        parser, serial = Parser(), 0
        parser.add_data(rest)
        while True:
            while call := parser.get_next_message():
                if call.header.message_type == MessageType.method_call:
                    serial += 1
                    connection.sendall(_reply(call, recorded, played).serialise(serial))
            data = connection.recv(65536)
            if not data:
                return
            parser.add_data(data)


def _let_in(connection: socket.socket) -> bytes:
    """Whoever knocks is let in; what came behind that is given back."""
    heard = b""
    while b"\r\nBEGIN\r\n" not in heard:
        said = connection.recv(1024)
        if b"AUTH" in said:
            connection.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
        if not said:
            raise OSError("hung up")
        heard += said
    return heard.partition(b"\r\nBEGIN\r\n")[2]


# Nobody has changed a unit by hand.
AS_WRITTEN = {
    **{"FragmentPath": ("s", ""), "DropInPaths": ("as", []), "NeedDaemonReload": ("b", False)},
    **{f"{it}TimestampMonotonic": ("t", 1) for it in CHANGES},
}


def _reply(call: Message, recorded: Mapping[str, Any], played: Played) -> Message:
    member, body = call.header.fields[HeaderFields.member], call.body
    match member, body:
        case "Hello", ():
            return new_method_return(call, "s", (":1.1",))
        case "AddMatch" | "RemoveMatch" | "Subscribe", _:
            return new_method_return(call)
        case refused, _ if refused in recorded.get("refuses", {}):
            return new_error(call, *recorded["refuses"][refused])
        case "Reload", _:
            played.ordered.append(str(member))
            return new_method_return(call)
        case "ListUnitsByPatterns", (_, patterns):
            units = [tuple(unit) for unit in recorded["units"]]
            found = [unit for unit in units if any(fnmatch.fnmatchcase(unit[0], pattern) for pattern in patterns)]
            return new_method_return(call, "a(ssssssouso)", (found,))
        case "GetUnit", (name,):
            places = {unit[0]: unit[6] for unit in recorded["units"]}
            if name in places:
                return new_method_return(call, "o", (places[name],))
            return new_error(call, NO_SUCH_UNIT, "s", (f"Unit {name} not loaded.",))
        case "Get", (_, name) if name in recorded["properties"]:
            signature, value = recorded["properties"][name]
            return new_method_return(call, "v", ((signature, value),))
        case "Get", (_, name) if name in AS_WRITTEN:
            return new_method_return(call, "v", (AS_WRITTEN[name],))
        case "Get" | "GetAll" | "ListUnits", _:
            played.unknown.append(f"systemd {member} {body}")
        case _:
            played.refused.append(f"systemd {member} {body}")
    return new_error(call, "org.freedesktop.DBus.Error.AccessDenied", "s", ("a recording cannot be changed",))


# ---- files -----------------------------------------------------------------------------------------------------------


def lay_out(recorded: Mapping[str, Any], root: Path) -> None:
    """The files of the server, below `root` as they were below `/`."""
    for name, file in recorded.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in file:
            path.symlink_to(file["link"])
        else:
            path.write_text(file["text"])
            os.chown(path, file["uid"], file["gid"])
            path.chmod(int(file["mode"], 8))


def files_below(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """All that `lay_out` has laid out there, as it is now: with owner, mode, and when it was written."""
    found = [path for path in sorted(root.rglob("*")) if path.is_symlink() or not path.is_dir()]
    return {str(path.relative_to(root)): _seen(path) for path in found}


def _seen(path: Path) -> tuple[int, int, int, bytes]:
    stat = path.lstat()
    content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
    return stat.st_mode, stat.st_uid, stat.st_mtime_ns, content
