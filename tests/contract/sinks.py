"""A server whose every edge says what a test puts into its mouth, and all the places where somebody may read of it.

`Sinks.read` has what is in each of them: statuses and comments at the forge, notifications, every file of the state but
those that are there to hold contents, the log, what systemd is told, the answers of webhooks, and what each command
prints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import itertools
import json
import logging
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from gitops_mvd import cli
from gitops_mvd.cli.main import main
from gitops_mvd.cli.output import telling
from gitops_mvd.cli.server import daemon_format, log_to_stderr
from gitops_mvd.config.settings import read
from gitops_mvd.config.settings.notify import NotifySettings
from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable, Unhealthy
from gitops_mvd.core.model import App, CommitStatus, Goal, Health, Plan, PullRequest, Revision
from gitops_mvd.core.notice import What
from gitops_mvd.core.ports import Forge
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.small_server import LogThrottle
from gitops_mvd.daemon.triggers import SYNC
from gitops_mvd.daemon.webhook import Webhooks
from gitops_mvd.daemon.wiring import Wired, wire
from gitops_mvd.git.tree import GitTree
from gitops_mvd.state.notices import Notices
from gitops_mvd.status.deliveries import Deliveries
from gitops_mvd.status.notice_text import Message
from gitops_mvd.status.notifier import Notifier
from gitops_mvd.status.outbox import Outbox
from gitops_mvd.status.pull_requests import IsAwaited, PullRequests
from gitops_mvd.status.statuses import Statuses, StatusOptions
from gitops_mvd.status.verdict import Judge, Verdict
from tests.contract.terminal import Repository, git
from tests.fakes import FakeClock, FakeHost

WHERE = ("pin", "plan", "step", "health", "observe")  # where this host says something
KINDS: Mapping[str, Callable[[str], Exception]] = {
    "refuses": StepFailed,
    "does not answer": Unavailable,
    "is unhealthy": Unhealthy,
    "has a bug": RuntimeError,
}


class SayingForge:
    """A forge that notes what it is told, and says `said` to whoever asks for more."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.pulls: list[PullRequest] = []
        self.said = ""

    def publish(self, commit: str, status: CommitStatus) -> None:
        self.told.append(json.dumps(dataclasses.asdict(status), ensure_ascii=False))
        if self.said:
            raise StepFailed(self.said)

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        if self.said:
            raise Unavailable(self.said)
        return self.pulls

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        self.told.append(text)
        return "1"


class SayingHost(FakeHost):
    """A host that says `said` at one place, in one way."""

    def __init__(self, history: Any) -> None:
        super().__init__(history)
        self.where, self.kind, self.said, self.app = "", "refuses", "", ""
        self.fault = lambda step: self._say("step", step.resource.app)

    def _say(self, where: str, app: str = "") -> None:
        if where == self.where and app in ("", self.app):
            raise KINDS[self.kind](self.said)

    def refresh(self) -> None:
        self._say("observe")

    def pin(self, app: App) -> App:
        self._say("pin", app.name)
        return app

    def plan(self, goals: Sequence[Goal]) -> Plan:
        for goal in goals:
            self._say("plan", goal.app.name)
        return super().plan(goals)

    def health(self, app: App) -> Health:
        return Health.DEGRADED if self._is_ill(app) else super().health(app)

    def health_reason(self, app: App) -> str:
        return self.said if self._is_ill(app) else super().health_reason(app)

    def _is_ill(self, app: App) -> bool:
        return self.where == "health" and app.name == self.app

    def to_watch(self) -> list[Any]:
        return []


class Stream(io.StringIO):
    encoding = "utf-8"


@contextlib.contextmanager
def new_log() -> Iterator[None]:
    """As in a new process: nobody takes what is logged, not even pytest, which would keep it as it came."""
    root = logging.getLogger()
    level, root.handlers[:], handlers = root.level, [], list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


class Sinks:
    """The server.  `commit` merges files, `pass_` lets the daemon run once, `read` is all that can be read of it."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.repository = Repository(folder / "config.git")
        self.settings = folder / "config.yaml"
        places = {"state": str(folder / "state"), "files": str(folder / "files"), "secrets": str(folder / "secrets")}
        known = {"repository": str(self.repository.path), "host": "srv1", "kong": {"admin": "http://127.0.0.1:1"}}
        self.settings.write_text(yaml.safe_dump({**known, **places, **settings}))
        self.messages: list[str] = []
        self.forge, self.notified = SayingForge(), list[str]()
        self.log = Stream()
        monkeypatch.setattr(
            "sdnotify.SystemdNotifier", lambda: SimpleNamespace(notify=lambda state: self.notified.append(state))
        )
        monkeypatch.setattr("gitops_mvd.daemon.loop.WORKER_DELAY_SECONDS", 0.001)
        self.wired = self._wired()
        self.host: SayingHost = self.wired.host  # type: ignore[assignment]
        self.answers: list[bytes] = []
        # All are imported first: one that is not would take the stand-in of another for its own, and keep it.
        modules = [importlib.import_module(f"gitops_mvd.cli.{it.name}") for it in pkgutil.iter_modules(cli.__path__)]
        for module in modules:
            if hasattr(module, "connect"):
                monkeypatch.setattr(module, "connect", lambda config: self.wired)

    def _wired(self) -> Wired:
        wired = wire(read(str(self.settings), self.settings.read_bytes()), self.settings, self.folder / "units")
        forge: Forge = self.forge
        host: Any = SayingHost(wired.history)
        outbox = Outbox(wired.history, forge, "test")
        statuses = Statuses("srv1", wired.history, StatusOptions(True), FakeClock().now, outbox.wake)
        judge = Judge(host, wired.history, wired.source.tree, allow_empty=False)

        def planned(tree: GitTree, tip: Revision, is_awaited: IsAwaited) -> Verdict:
            return judge(tree, tip)

        pulls = PullRequests(forge, wired.source, "srv1", wired.history, statuses, planned, comments=True, forks=True)
        nothing: Any = SimpleNamespace(
            follow=lambda *_: None,
            ask_all=lambda: None,
            pause_all=lambda: None,
            since_pass=lambda began: "",
            require=lambda: None,
        )
        notices = Notices(self.folder / "state" / "notices.db")
        now = functools.partial(next, itertools.count(1_000_000.0, 1_000.0))  # so that whatever is wrong lasts
        receiver = Deliveries(NotifySettings("team", on=tuple(What)), "srv1", notices, self.take, now=now)
        notifier = Notifier(notices, [receiver], now)
        more = {
            "host": host,
            "notifier": notifier,
            "forge": forge,
            "outbox": outbox,
            "statuses": statuses,
            "pull_requests": pulls,
        }
        return dataclasses.replace(wired, **more, monitor=nothing, disruptions=nothing, fit=nothing)

    def take(self, receiver: NotifySettings, message: Message, is_ended: Callable[[], bool]) -> None:
        """Take a notification."""
        self.messages.append(f"{message.title}\n{message.body}")

    def commit(self, files: Mapping[str, str], subject: str = "a change") -> str:
        return self.repository.commit(files, subject)

    def say(self, where: str, kind: str, said: str, app: str) -> None:
        """Let the host say that at that place, for that app; where it observes, it says so for all of them."""
        self.host.where, self.host.kind, self.host.said, self.host.app = where, kind, said, app

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """As `mvd run` logs, by the stream and the format of the command."""
        with ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(self.log))
            stack.enter_context(contextlib.redirect_stdout(self.log))
            stack.enter_context(telling())
            stack.enter_context(new_log())
            log_to_stderr(daemon_format())
            yield

    def pass_(self) -> None:
        """One pass of a daemon, with a look at pull requests and a delivery of statuses."""
        daemon = Daemon(self.wired)
        with self.logging():
            daemon.reconcile_pass(frozenset({SYNC}))
            self.wired.outbox.deliver()
            self.wired.notifier.deliver()
            self._look_at_pull_requests()

    def _look_at_pull_requests(self) -> None:
        pulls, tip = self.wired.pull_requests, self.wired.source.last()
        assert pulls
        if tip:
            with contextlib.suppress(MvdError):
                pulls.look(tip, lambda: False)

    def open_pull_request(self, files: Mapping[str, str]) -> None:
        """Somebody proposes these files."""
        work = str(self.repository.work)
        git("-C", work, "checkout", "--quiet", "-b", "proposed")
        for name, text in files.items():
            file = self.repository.work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        git("-C", work, "add", "--all")
        git("-C", work, "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "-m", "proposed")
        git("-C", work, "push", "--quiet", str(self.repository.path), "HEAD:refs/pull/1/head")
        commit = git("-C", work, "rev-parse", "HEAD").strip()
        git("-C", work, "checkout", "--quiet", "main")
        self.forge.pulls = [PullRequest(1, commit, "refs/pull/1/head")]

    def webhook(self, headers: Mapping[str, str], body: bytes, path: str = "/webhook") -> None:
        """Somebody sends that to the listener for webhooks."""
        hooks = self.wired.webhook
        assert hooks
        application = Webhooks(hooks.receiver, hooks.secret, "main", Awaited(), lambda reason: None, LogThrottle())
        environ: dict[str, Any] = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        environ |= {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path,
            "REMOTE_ADDR": "1.2.3.4",
            "wsgi.input": io.BytesIO(body),
        }
        with self.logging():
            self.answers += application(environ, lambda status, headers: None)  # type: ignore[arg-type]

    COMMANDS = (
        ["status"],
        ["history"],
        ["plan"],
        ["explain"],
        ["doctor"],
        ["sync"],
    )

    def printed(self, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
        """What each command prints, for people and for programs."""
        found = {}
        for command in (*self.COMMANDS, *([*words, "--json"] for words in self.COMMANDS)):
            capsys.readouterr()
            with pytest.raises(SystemExit), new_log():
                main(["--config", str(self.settings), *command])
            out, err = capsys.readouterr()
            if command[-1] == "--json" and out:
                json.loads(out)
            found[f"mvd {' '.join(command)}"] = out + err
        return found

    def read(self, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
        files = [it for it in (self.folder / "state").iterdir() if it.is_file()]
        return {
            "forge": "\n".join(self.forge.told),
            "notifications": "\n".join(self.messages),
            "log": self.log.getvalue(),
            "systemd": "\n".join(self.notified),
            "webhook": b"".join(self.answers).decode(),
            **self.printed(capsys),
            **{f"state/{it.name}": it.read_bytes().decode("utf-8", "surrogateescape") for it in files},
        }
