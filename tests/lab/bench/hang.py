"""How soon it is told that services hang: half of a hundred, beside one alone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from gitops_mvd import probes
from gitops_mvd.core.model import Check, Health, Instance, Service
from gitops_mvd.host.monitor import Monitor
from gitops_mvd.probes import ProbeTools
from tests.lab.bench.figure import Figure

SERVICES, HANG = 100, 50
WITHIN_SECONDS = 300.0  # after which it is given up
STARTED = "2026-01-01T00:00:00Z"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def figures() -> Iterator[Figure]:
    """Real probes, over loopback."""
    yield Figure(
        f"{HANG} of {SERVICES} services hang → all of them told",
        seconds_until_told(SERVICES, HANG),
        "s",
        "one service alone",
        seconds_until_told(1, 1),
        "< 60 s",
    )


def seconds_until_told(services: int, hang: int) -> float:
    """Until each that hangs is Degraded for a monitor that begins with all of them."""
    with _listening(answers=True) as good, _listening(answers=False) as bad:
        ports = {f"web-{n}": bad if n < hang else good for n in range(services)}
        there = {name: Instance(name, "shop", name, "127.0.0.1", "running", started=STARTED) for name in ports}
        ask = probes.discover(ProbeTools(None, None))["http"]  # type: ignore[arg-type]  # it asks neither of them
        monitor = Monitor(
            lambda instance, service: ask(instance, service.check.spec), there.__getitem__, lambda reason: None
        )
        stop = threading.Event()
        thread = threading.Thread(target=monitor.run, args=(stop, lambda: None))
        thread.start()
        began = time.monotonic()
        checks = {name: Check("http", {"path": "/", "port": port}, within=1) for name, port in ports.items()}
        monitor.follow([(there[name], Service(name, "image", check=check)) for name, check in checks.items()])
        try:
            while not all(monitor.verdict(there[f"web-{n}"])[0] is Health.DEGRADED for n in range(hang)):
                if time.monotonic() > began + WITHIN_SECONDS:
                    raise RuntimeError("the monitor does not tell what hangs")
                time.sleep(0.05)
            return time.monotonic() - began
        finally:
            stop.set()
            monitor.wake()
            thread.join(10)


@contextlib.contextmanager
def _listening(*, answers: bool) -> Iterator[int]:
    """A server that answers each request, or accepts it and says nothing; gives its port."""
    held: list[socket.socket] = []

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it is over
            while True:
                connection, _ = listening.accept()
                held.append(connection)
                if answers:
                    with connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        connection.sendall(ANSWER)

    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for connection in held:
                connection.close()
