"""A repository of the lab's forge: the bare one on disk, its commit statuses, and the hooks that hear of pushes.

The limits are GitHub's: https://docs.github.com/en/rest/commits/statuses.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import json
import os
import secrets
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

STATES = ("error", "failure", "pending", "success")
LONGEST_DESCRIPTION = 140
MOST_STATUSES = 1000  # for one commit and one context
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
    """A request that is answered with an error: `status`, and GitHub's JSON `body`."""

    def __init__(self, status: int, message: str, *errors: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"message": message, "status": str(status)}
        if errors:
            self.body["errors"] = list(errors)


def invalid(message: str, key: str) -> Refused:
    return Refused(422, "Validation Failed", {"resource": "Status", "code": "custom", "field": key, "message": message})


@dataclass(frozen=True)
class Status:
    """One commit status, as it was posted."""

    context: str
    state: str
    description: str
    target_url: str
    at: datetime


@dataclass(frozen=True)
class Hook:
    """Where a push is told of; `secret` signs the payload."""

    url: str
    secret: str = ""


@dataclass(frozen=True)
class Delivery:
    """What became of one webhook: `status` is the receiver's answer, or None with the `error`."""

    url: str
    status: int | None
    error: str = ""


@dataclass
class Repository:
    """One bare repository of the forge, with its statuses and hooks; `path` is its place on disk."""

    name: str
    path: Path
    clone_url: str
    hooks: list[Hook] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
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
        """Keep one status; raises Refused as GitHub does."""
        if status.state not in STATES:
            raise invalid("state is not included in the list", "state")
        if len(status.description) > LONGEST_DESCRIPTION:
            raise invalid(f"description is too long (maximum is {LONGEST_DESCRIPTION} characters)", "description")
        with self._lock:
            kept = self._statuses.setdefault(sha, [])
            if sum(old.context.lower() == status.context.lower() for old in kept) >= MOST_STATUSES:
                raise invalid("This SHA and context has reached the maximum number of statuses.", "base")
            kept.append(status)

    def resolve(self, ref: str) -> str:
        """The full id of a commit, branch or tag; raises Refused where there is none."""
        try:
            return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", at=self.path)
        except GitFailed as error:
            raise Refused(422, f"No commit found for SHA: {ref}") from error

    def commit(self, files: Mapping[str, str | None], message: str) -> str:
        """Commit to main as a colleague would and return the id; None for a text deletes the file."""
        with self._working_copy() as work:
            for name, text in files.items():
                if text is None:
                    (work / name).unlink()
                else:
                    (work / name).parent.mkdir(parents=True, exist_ok=True)
                    (work / name).write_text(text, encoding="utf-8")
            git("add", "--all", at=work)
            git("commit", "--quiet", "--allow-empty", "--message", message, at=work)
        return self.resolve("main")

    def revert(self, sha: str) -> str:
        """`git revert` one commit of main and return the new id."""
        with self._working_copy() as work:
            git("revert", "--no-edit", sha, at=work)
        return self.resolve("main")

    @contextlib.contextmanager
    def _working_copy(self) -> Iterator[Path]:
        """A clean copy of main, pushed at the end."""
        work = self.path.with_suffix(".work")
        with self._lock:
            if not work.exists():
                git("init", "--quiet", "--initial-branch=main", str(work), at=self.path.parent)
            if self.refs():
                git("fetch", "--quiet", str(self.path), "main", at=work)
                git("reset", "--quiet", "--hard", "FETCH_HEAD", at=work)
            yield work
            with self.pushing():
                git("push", "--quiet", str(self.path), "HEAD:refs/heads/main", at=work)

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
            event = self._push_event(ref, before.get(ref, NO_COMMIT), after.get(ref, NO_COMMIT))
            for hook in self.hooks:
                threading.Thread(target=self._deliver, args=(hook, event), daemon=True).start()

    def _push_event(self, ref: str, before: str, after: str) -> bytes:
        owner, _, name = self.name.partition("/")
        head = None
        if after != NO_COMMIT:
            at, message = git("show", "--no-patch", "--format=%cI%n%B", after, at=self.path).split("\n", 1)
            head = {"id": after, "message": message.strip(), "timestamp": at}
        event = {
            "ref": ref,
            "before": before,
            "after": after,
            "created": before == NO_COMMIT,
            "deleted": after == NO_COMMIT,
            "repository": {
                "name": name,
                "full_name": self.name,
                "owner": {"login": owner},
                "clone_url": self.clone_url,
                "default_branch": "main",
            },
            "pusher": {"name": "lab"},
            "head_commit": head,
            "commits": [head] if head else [],
        }
        return json.dumps(event).encode()

    def _deliver(self, hook: Hook, event: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/lab",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": secrets.token_hex(16),
        }
        if hook.secret:
            digest = hmac.new(hook.secret.encode(), event, hashlib.sha256).hexdigest()
            headers["X-Hub-Signature-256"] = f"sha256={digest}"
        try:
            request = urllib.request.Request(hook.url, data=event, headers=headers, method="POST")
            with urllib.request.urlopen(request, timeout=HOOK_SECONDS) as answer:
                self.deliveries.append(Delivery(hook.url, answer.status))
        except urllib.error.HTTPError as error:
            with error:
                self.deliveries.append(Delivery(hook.url, error.code, str(error.reason)))
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.deliveries.append(Delivery(hook.url, None, str(error)))
