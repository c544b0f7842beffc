"""A thread of the daemon, run as the daemon runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gitops_mvd.daemon.small_server import Server
from gitops_mvd.daemon.supervisor import Run, Supervisor


@contextmanager
def kept(run: Run, wake: Callable[[], None] = lambda: None) -> Iterator[threading.Event]:
    """Inside, a supervised thread does `run`; gives the event that is set once it has been at work."""
    at_work = threading.Event()

    def run_and_tell(stop: threading.Event, up: Callable[[], None]) -> None:
        def both() -> None:
            at_work.set()
            up()

        run(stop, both)

    with Supervisor(lambda states: None).keep("test", run_and_tell, wake):
        yield at_work


@contextmanager
def serving(server: Server) -> Iterator[None]:
    """Inside, the server of webhooks answers."""
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        server.wake()
        thread.join(10)
    assert not thread.is_alive()
