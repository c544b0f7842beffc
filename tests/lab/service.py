"""Tiny container images to deploy: a busybox, some pages, and a command.

web("chatbot", "1.4.2")       GET /health -> "ok 1.4.2", GET / -> "chatbot 1.4.2"
sick("chatbot", "1.4.3")      runs, and answers 500 to everything
crashing("chatbot", "1.4.4")  says why, and exits at once
talker("chatbot", "1.4.5")    waits, streams and talks; it needs TALKER_VOLUMES
reader("kafka:9092", "a", "b") reads a topic of Kafka as a consumer group; it needs TALKER_VOLUMES, too
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.lab.server import LAB, VENV

PORT = 7799
APPLETS = (
    *(
        "sh",
        "httpd",
        "nc",
        "wget",
        "wc",
        "cat",
        "echo",
        "printf",
        "env",
        "printenv",
        "sleep",
        "ls",
        "ps",
        "kill",
        "test",
        "id",
    ),
    *(
        "date",
        "head",
        "tail",
        "grep",
        "sed",
        "mkdir",
        "touch",
        "rm",
        "stat",
        "mount",
        "df",
        "hostname",
        "true",
        "false",
    ),
    *("od", "seq", "yes", "dd", "nslookup", "ip", "sysctl", "nproc", "free", "sync"),
)
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}
# What a talker needs of its server, as a Compose file mounts it.
TALKER_VOLUMES = ("/usr:/usr:ro", f"{VENV}:{VENV}:ro", f"{LAB}:{LAB}:ro")
# Debian's loader and libraries are found below / and lie below /usr; not every architecture has a lib64.
MERGED_USR = {"/lib": "usr/lib", "/lib64": "usr/lib64"}
# It hears the request out, or closing the connection would reset it.
SICK = """\
#!/bin/sh
while read -r line && [ ${{#line}} -gt 1 ]; do :; done
printf 'HTTP/1.0 500 Internal Server Error\\r\\n\\r\\n{name} {version} is sick\\n'
"""


@dataclass(frozen=True)
class Service:
    """What makes one tiny image different from another: its command, and its files (absolute path -> content).

    `links` are symbolic ones (absolute path -> where it leads).  `volumes` are what the image declares as such.
    One that `is_bare` has no shell, and of a busybox only /httpd and /wget.
    """

    command: Sequence[str]
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    volumes: Sequence[str] = ()
    is_bare: bool = False


def web(name: str, version: str, port: int = PORT, pages: Mapping[str, str] | None = None, after: float = 0) -> Service:
    """A web server that says its name and version; `pages` (path -> text) are added, and `after` s it listens.

    A page below `/cgi-bin/` is a program that is run.
    """
    content = {"/health": f"ok {version}\n", "/": f"{name} {version}\n", **(pages or {})}
    files = {f"/www{path}{'index.html' if path.endswith('/') else ''}": text for path, text in content.items()}
    says = f"sleep {after:g}; echo {name} {version} listens on port {port}"
    return Service(("sh", "-c", f"{says}; {_until_told(f'httpd -f -p {port} -h /www')}"), files, {"VERSION": version})


def sick(name: str, version: str, port: int = PORT) -> Service:
    """It runs, and answers every request with 500."""
    files = {"/answer": SICK.format(name=name, version=version)}
    return Service(("sh", "-c", _until_told(f"nc -ll -p {port} -e /answer")), files, {"VERSION": version})


def _until_told(command: str) -> str:
    """A command that runs until a TERM: the first process of a container gets no signal that it does not handle."""
    return f"{command} & trap 'exit 0' TERM; wait $!"


def crashing(name: str, version: str) -> Service:
    """It ends as soon as it has started, with exit code 1 and one line that says why."""
    script = f"echo {name} {version}: cannot read its model, giving up >&2; exit 1"
    return Service(("sh", "-c", script), {}, {"VERSION": version})


def talker(name: str, version: str, port: int = PORT) -> Service:
    """The server of `tests.lab.talker`; `VERSION` in its environment makes another version of it.

    Its Python is the lab server's own, which a manifest has to mount.
    """
    command = (f"{VENV}/bin/python", "-m", "tests.lab.talker", name, str(port))
    return Service(command, {}, {"VERSION": version}, MERGED_USR)


def reader(servers: str, topic: str, group: str) -> Service:
    """The queue worker of `tests.lab.reader`, with the Python of a talker."""
    command = (f"{VENV}/bin/python", "-m", "tests.lab.reader", servers, topic, group)
    return Service(command, links=MERGED_USR)


def forwarder(port: int, address: str, to: int) -> Service:
    """It leads all that connects to its port on to another address."""
    return Service(("sh", "-c", _until_told(f"nc -ll -p {port} -e nc {address} {to}")))


def bare_layer(busybox: bytes) -> bytes:
    """The layer of an image without a shell."""
    return _layer({"httpd": busybox, "wget": busybox}, {})


def root_layer(busybox: bytes) -> bytes:
    """The layer that nearly all of them share: busybox under all its names, two accounts, and /tmp."""
    links = {f"bin/{applet}": "busybox" for applet in APPLETS}
    return _layer({"bin/busybox": busybox, **_encoded(ACCOUNTS)}, links)


def own_layer(service: Service) -> bytes:
    """The layer with the files of one."""
    return _layer(_encoded(service.files), {path.lstrip("/"): target for path, target in service.links.items()})


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    return {path.lstrip("/"): text.encode() for path, text in files.items()}


def _layer(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    """A tar archive that is the same, byte for byte, whenever it is made."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "tmp", tarfile.DIRTYPE, 0o1777)
        for path, content in sorted(files.items()):
            _add(tar, path, tarfile.REGTYPE, 0o755, content)
        for path, target in sorted(links.items()):
            _add(tar, path, tarfile.SYMTYPE, 0o777, target=target)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, path: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), target
    tar.addfile(entry, io.BytesIO(content))


def compressed(layer: bytes) -> bytes:
    """Gzip, without the time of day in it."""
    return gzip.compress(layer, compresslevel=6, mtime=0)
