"""What wakes the loop besides the poll: signals, Docker's events and file changes, each as a reason in the mailbox."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from gitops_mvd.config.settings import named_files
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.docker.client import Engine
from gitops_mvd.state import suspension

STOP, RELOAD, SYNC = "stop", "reload", "sync"
PUSH, PULL_REQUEST = "push", "pull_request"  # what webhooks say
MEANING = {signal.SIGTERM: STOP, signal.SIGINT: STOP, signal.SIGHUP: RELOAD, signal.SIGUSR1: SYNC}

Post = Callable[[str], None]


@contextmanager
def signals(post: Post) -> Iterator[None]:
    """While open, SIGTERM and SIGINT post STOP, SIGHUP posts RELOAD, SIGUSR1 posts SYNC; then they are as before."""

    def announce(number: int, _: FrameType | None) -> None:
        # from a thread, because a handler may run in the middle of the mailbox's own lock
        threading.Thread(target=post, args=(MEANING[signal.Signals(number)],)).start()

    before = {number: signal.signal(number, announce) for number in MEANING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def docker_events(engine: Engine, post: Post) -> Iterator[None]:
    """While open, an event of a managed container posts `docker`."""
    stop = threading.Event()

    def notice(kind: str, action: str, name: str) -> None:
        if kind in {"container", "engine"}:
            post("docker")

    thread = threading.Thread(target=engine.watch, args=(notice, stop), name="docker-events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)


@contextmanager
def file_changes(wired: Wired, post: Post) -> Iterator[None]:
    """While open, changed settings post RELOAD; changed managed units and files, and secrets of apps, post `files`."""
    observer = Observer()
    for path in (wired.settings_path, *map(Path, named_files(wired.settings))):
        observer.schedule(_Changed(post, RELOAD, only=path), str(path.parent))
    suspended = suspension.path(wired.settings_path)
    observer.schedule(_Changed(post, "files", only=suspended), str(suspended.parent))
    folders = ((wired.tools.units, "mvd-"), (wired.tools.files, ""), (Path(wired.settings.secrets), ""))
    for folder, prefix in folders:
        if folder.is_dir():
            observer.schedule(_Changed(post, "files", prefix=prefix), str(folder), recursive=not prefix)
    observer.start()
    try:
        yield
    finally:
        observer.stop()
        observer.join(5)


class _Changed(FileSystemEventHandler):
    """Posts a reason when a file was written, moved or deleted, by whomever."""

    def __init__(self, post: Post, reason: str, *, only: Path | None = None, prefix: str = "") -> None:
        self._post, self._reason, self._only, self._prefix = post, reason, only, prefix

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in {"opened", "closed_no_write"}:
            return
        paths = [Path(os.fsdecode(path)) for path in (event.src_path, event.dest_path) if path]
        if any(self._concerns(path) for path in paths):
            self._post(self._reason)

    def _concerns(self, path: Path) -> bool:
        return path == self._only if self._only else path.name.startswith(self._prefix)
