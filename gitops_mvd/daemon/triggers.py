"""What wakes the loop besides the poll: signals, Docker's events and file changes, each as a reason in the mailbox."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from gitops_mvd.config.settings import addresses_of_receivers, named_files
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.daemon.supervisor import Run
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.host.tasks import Tasks
from gitops_mvd.state import suspension

STOP, RELOAD, SYNC = "stop", "reload", "sync"
PUSH, PULL_REQUEST, STATUS = "push", "pull_request", "status"  # what webhooks say
MEANING = {signal.SIGTERM: STOP, signal.SIGINT: STOP, signal.SIGHUP: RELOAD, signal.SIGUSR1: SYNC}

TASKS_SECONDS = 1.0  # between two looks at the tasks of a Swarm
CHECK_SECONDS = 10.0  # between two looks whether files are still watched
INOTIFY = "Raise fs.inotify.max_user_watches and fs.inotify.max_user_instances (sysctl)"

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


def docker_events(engine: Engine, post: Post, count: Callable[[str, str], None]) -> Run:
    """A thread by which an event of a managed container posts `docker`; `Engine.hang_up` wakes it.

    `count` gets action and name of each such event.
    """

    def run(stop: threading.Event, up: Callable[[], None]) -> None:
        def notice(kind: str, action: str, name: str) -> None:
            if kind == "engine":
                up()
            if kind == "container":
                count(action, name)
            if kind in {"container", "engine"}:
                post("docker")

        engine.follow(notice)

    return run


def swarm_tasks(manager: Manager, tasks: Tasks, post: Post) -> Run:
    """A thread by which a task that begins or ends to serve posts `tasks`: the engine has no events of these.

    So does each look as long as one of them is waited for.
    """

    def run(stop: threading.Event, up: Callable[[], None]) -> None:
        up()
        before: object = None
        while not stop.wait(TASKS_SECONDS):
            with suppress(MvdError):  # the next pass says so
                seen = {(name, it.id) for name, found in manager.services().items() for it in found.serving}
                if before not in (None, seen) or tasks.is_waited_for:
                    tasks.is_waited_for = False
                    post("tasks")
                before = seen

    return run


def file_changes(wired: Wired, post: Post) -> Run:
    """A thread by which changed settings and secrets post RELOAD, and changed managed units and files post `files`."""

    def run(stop: threading.Event, up: Callable[[], None]) -> None:
        observer = Observer()
        try:
            _watch(observer, wired, post)
            observer.start()
            up()
            while observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters):
                if stop.wait(CHECK_SECONDS):
                    return
        except OSError as error:
            why = f"cannot watch files for changes: {error.strerror}"
            raise Unavailable(why, INOTIFY if error.errno in (errno.ENOSPC, errno.EMFILE) else "") from error
        finally:
            observer.unschedule_all()
            if observer.is_alive():
                observer.stop()
                observer.join(5)
        raise Unavailable("cannot watch files for changes: a watched folder was removed")

    return run


def _watch(observer: BaseObserver, wired: Wired, post: Post) -> None:
    addresses = [path for path in map(Path, addresses_of_receivers(wired.settings)) if path.parent.is_dir()]
    for path in (wired.settings_path, *map(Path, named_files(wired.settings)), *addresses):
        observer.schedule(_Changed(post, RELOAD, only=path), str(path.parent))
    beside = wired.settings_path.parent
    observer.schedule(_Changed(post, "files", prefix=suspension.NAME), str(beside))
    folders = ((wired.tools.units, "mvd-"), (wired.tools.files, ""), (Path(wired.settings.secrets), ""))
    for folder, prefix in folders:
        if folder.is_dir():
            observer.schedule(_Changed(post, "files", prefix=prefix), str(folder), recursive=not prefix)


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
