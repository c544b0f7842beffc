"""A repository of the lab's forge: the bare one on disk, its commit statuses and pull requests, and what hears of it.

What may be posted, and how that is told, the dialects know.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib
import itertools
import os
import subprocess
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

IDS = itertools.count(1001)  # of comments and the like, for all repositories
GIT_SECONDS = 60.0
HOOK_SECONDS = 10.0
NO_COMMIT = "0" * 40

ENVIRONMENT = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    **{f"GIT_{who}_NAME": "Lab" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "lab@example.invalid" for who in ("AUTHOR", "COMMITTER")},
}


def git(*words: str, at: Path) -> str:
    """Run git in a folder, away from the user's own settings, and return what it printed."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=at, env=ENVIRONMENT, capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except subprocess.CalledProcessError as error:
        raise GitFailed(f"git {words[0]}: {error.stderr.strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise GitFailed(f"git {words[0]}: no end after {GIT_SECONDS:.0f} s") from error
    return done.stdout.rstrip("\n")


class GitFailed(RuntimeError):
    """A git command of the lab ended badly; the message is what it said."""


class Refused(Exception):
    """A request that is answered with an error of this HTTP `status`; what more there is to say is the dialect's."""

    def __init__(self, status: int, message: str, *errors: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Status:
    """One commit status, as it was posted: `state` is the dialect's own word."""

    context: str
    state: str
    description: str
    target_url: str
    at: datetime


@dataclass
class Comment:
    """A comment on a pull request; `times` counts how often it was written.  Some forges still list a deleted one."""

    id: int
    _text: str
    times: int = 1
    is_deleted: bool = False

    @property
    def text(self) -> str:
        return self._text

    @text.setter
    def text(self, text: str) -> None:
        self._text = text
        self.times += 1


@dataclass
class PullRequest:
    """A pull or merge request of `branch` into `target`; `commit` is its head."""

    number: int
    title: str
    branch: str
    target: str
    commit: str
    is_fork: bool = False
    is_open: bool = True
    comments: list[Comment] = field(default_factory=list)

    def comment(self, text: str) -> Comment:
        self.comments.append(Comment(next(IDS), text))
        return self.comments[-1]


@dataclass
class Deployment:
    """A deployment of a commit; its `statuses` are in the dialect's own words, oldest first."""

    id: int
    commit: str
    ref: str
    task: str
    environment: str
    description: str
    payload: object
    is_production: bool
    is_transient: bool
    at: datetime
    statuses: list[Status] = field(default_factory=list)

    @property
    def state(self) -> str:
        return self.statuses[-1].state if self.statuses else "pending"


@dataclass(frozen=True)
class Hook:
    """Where pushes, pull requests and maybe `statuses` are told of, in a dialect; `secret` authenticates that."""

    url: str
    secret: str = ""
    dialect: str = "github"
    statuses: bool = False


@dataclass(frozen=True)
class Happened:
    """What a webhook tells: a push from `before` to `after`, what was done (`action`) to a pull request, or a `status`.

    That one was posted to `after`.
    """

    ref: str = ""
    before: str = NO_COMMIT
    after: str = NO_COMMIT
    message: str = ""
    at: str = ""
    pull_request: PullRequest | None = None
    action: str = ""
    status: Status | None = None


@dataclass(frozen=True)
class Delivery:
    """What became of one webhook: `status` is the receiver's answer, or None with the `error`."""

    url: str
    status: int | None
    error: str = ""


@dataclass
class Repository:
    """One bare repository of the forge, with its statuses and hooks; `path` is its place on disk.

    `asked` has when its refs were last asked for over HTTP, in seconds, monotonic.
    """

    name: str
    path: Path
    clone_url: str
    hooks: list[Hook] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    pull_requests: list[PullRequest] = field(default_factory=list)
    deployments: list[Deployment] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)  # what else a dialect has to remember, or is set to
    asked: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    _statuses: dict[str, list[Status]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def statuses(self, sha: str) -> list[Status]:
        """Every status of a commit, oldest first."""
        with self._lock:
            return list(self._statuses.get(sha, ()))

    def latest(self, sha: str) -> list[Status]:
        """The last status of each context; GitHub tells contexts apart without regard to case."""
        return list({status.context.lower(): status for status in self.statuses(sha)}.values())

    def post(self, sha: str, status: Status) -> None:
        """Keep one status."""
        with self._lock:
            self._statuses.setdefault(sha, []).append(status)
        self._tell(Happened(after=sha, status=status))

    def pull_request(self, number: int) -> PullRequest:
        """The pull request of that number; raises Refused where there is none."""
        for pull_request in self.pull_requests:
            if pull_request.number == number:
                return pull_request
        raise Refused(404, "Not Found")

    def comment(self, id: int) -> Comment:
        """The comment of that id, on whatever pull request; raises Refused where there is none."""
        for pull_request in self.pull_requests:
            for comment in pull_request.comments:
                if comment.id == id:
                    return comment
        raise Refused(404, "Not Found")

    def resolve(self, ref: str) -> str:
        """The full id of a commit, branch or tag; raises Refused where there is none."""
        try:
            return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", at=self.path)
        except GitFailed as error:
            raise Refused(422, f"No commit found for SHA: {ref}") from error

    def commit(self, files: Mapping[str, str | None], message: str, *, branch: str = "main", onto: str = "main") -> str:
        """Commit to a branch as a colleague would and return the id; None for a text deletes the file."""
        with self._working_copy(branch, onto) as work:
            for name, text in files.items():
                if text is None:
                    (work / name).unlink()
                else:
                    (work / name).parent.mkdir(parents=True, exist_ok=True)
                    (work / name).write_text(text, encoding="utf-8")
            git("add", "--all", at=work)
            git("commit", "--quiet", "--allow-empty", "--message", message, at=work)
        return self.resolve(branch)

    def propose(
        self, files: Mapping[str, str | None], title: str, *, onto: str = "main", is_fork: bool = False
    ) -> PullRequest:
        """Open a pull request with one commit to a branch of its own, as a colleague would."""
        number = len(self.pull_requests) + 1
        branch = f"pull-request-{number}"
        commit = self.commit(files, title, branch=branch, onto=onto)
        pull_request = PullRequest(number, title, branch, "main", commit, is_fork)
        self.pull_requests.append(pull_request)
        self._point_at(pull_request)
        self._tell(Happened(pull_request=pull_request, action="opened"))
        return pull_request

    def amend(self, pull_request: PullRequest, files: Mapping[str, str | None]) -> str:
        """Push one more commit to a pull request."""
        pull_request.commit = self.commit(files, "Amend", branch=pull_request.branch, onto=pull_request.branch)
        self._point_at(pull_request)
        self._tell(Happened(pull_request=pull_request, action="synchronize"))
        return pull_request.commit

    def close(self, pull_request: PullRequest) -> None:
        pull_request.is_open = False
        self._tell(Happened(pull_request=pull_request, action="closed"))

    def _point_at(self, pull_request: PullRequest) -> None:
        """The refs that forges keep for a pull request, each its own."""
        for ref in ("pull/{}/head", "merge-requests/{}/head", "pull-requests/{}/from"):
            git("update-ref", f"refs/{ref.format(pull_request.number)}", pull_request.commit, at=self.path)

    def revert(self, sha: str) -> str:
        """`git revert` one commit of main and return the new id."""
        with self._working_copy() as work:
            git("revert", "--no-edit", sha, at=work)
        return self.resolve("main")

    @contextlib.contextmanager
    def _working_copy(self, branch: str = "main", onto: str = "main") -> Iterator[Path]:
        """A clean copy of a branch, pushed to another one at the end."""
        work = self.path.with_suffix(".work")
        with self._lock:
            if not work.exists():
                git("init", "--quiet", "--initial-branch=main", str(work), at=self.path.parent)
            if self.refs():
                git("fetch", "--quiet", str(self.path), onto, at=work)
                git("reset", "--quiet", "--hard", "FETCH_HEAD", at=work)
            yield work
            with self.pushing():
                git("push", "--quiet", "--force", str(self.path), f"HEAD:refs/heads/{branch}", at=work)

    def refs(self) -> dict[str, str]:
        """Every branch and tag with the id that it points at."""
        lines = git("for-each-ref", "--format=%(objectname) %(refname)", at=self.path).splitlines()
        return {ref: sha for sha, _, ref in (line.partition(" ") for line in lines)}

    @contextlib.contextmanager
    def pushing(self) -> Iterator[None]:
        """Tell the hooks of every ref that moved inside the block."""
        with self._lock:
            before = self.refs()
            yield
            after = self.refs()
        moved = sorted(ref for ref in before.keys() | after.keys() if before.get(ref) != after.get(ref))
        for ref in moved:
            if ref.startswith(("refs/heads/", "refs/tags/")):
                self._tell(self._push(ref, before.get(ref, NO_COMMIT), after.get(ref, NO_COMMIT)))

    def _push(self, ref: str, before: str, after: str) -> Happened:
        if after == NO_COMMIT:
            return Happened(ref, before, after)
        at, message = git("show", "--no-patch", "--format=%cI%n%B", f"{after}^{{commit}}", at=self.path).split("\n", 1)
        return Happened(ref, before, after, message.strip(), at)

    def _tell(self, happened: Happened) -> None:
        for hook in [it for it in self.hooks if it.statuses or not happened.status]:
            threading.Thread(target=self._deliver, args=(hook, happened), daemon=True).start()

    def _deliver(self, hook: Hook, happened: Happened) -> None:
        dialect = importlib.import_module(f"tests.lab.dialects.{hook.dialect.replace('-', '_')}")
        headers, body = dialect.delivery(self, happened, hook.secret)
        try:
            request = urllib.request.Request(hook.url, data=body, headers=headers, method="POST")
            with urllib.request.urlopen(request, timeout=HOOK_SECONDS) as answer:
                self.deliveries.append(Delivery(hook.url, answer.status))
        except urllib.error.HTTPError as error:
            with error:
                self.deliveries.append(Delivery(hook.url, error.code, str(error.reason)))
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.deliveries.append(Delivery(hook.url, None, str(error)))
