"""Gitea and Forgejo: https://docs.gitea.com/api, with the limits and the gaps of Gitea 1.26.

A server that does not know some of the questions' parameters, as older ones do not, has them in `kept["ignored"]`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
import urllib.parse
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.dialects import Answer, Ask, basic, is_token
from tests.lab.repository import Comment, Happened, PullRequest, Refused, Repository, Status, now

BASE = ""
PATH = re.compile(r"/api/v1/.*")

MEANS = {"pending": "pending", "success": "success", "failure": "failure", "warning": "error", "error": "failure"}
LONGEST_STATE = 7  # of the column; what the state is called is not looked at
PAGE = 30
MOST = 50  # on one page: MAX_RESPONSE_ITEMS


def admits(headers: Mapping[str, str], token: str) -> bool:
    """`token TOKEN`, `Bearer TOKEN`, or as the password of a user."""
    given = headers.get("authorization", "")
    scheme, _, rest = given.partition(" ")
    return is_token(rest if scheme.lower() in ("token", "bearer") else basic(given)[1], token)


def refused(error: Refused) -> Any:
    """What goes wrong inside is told to administrators alone."""
    said = {401: "invalid username, password or token", 404: "not found", 500: ""}.get(error.status, str(error))
    return {"message": said, "url": "http://lab.invalid/api/swagger"}


def limited(until: float) -> tuple[int, dict[str, str], Any]:
    """It knows no limit; this is the proxy in front of it."""
    return 429, {"Retry-After": f"{until - time.time():.0f}"}, {"message": "Too Many Requests"}


def answer(ask: Ask) -> Answer:
    if (ask.method, ask.path) == ("GET", "/api/v1/user"):
        return 200, {"login": "lab"}
    found = re.fullmatch(r"/api/v1/repos/([^/]+/[^/]+)(/.*)?", ask.path)
    if not found:
        raise Refused(404, "not found")
    repository, path = ask.repository(urllib.parse.unquote(found[1])), found[2]
    if not path:
        return 200, {"id": _number(repository), "full_name": repository.name}
    for method, pattern, do in ROUTES:
        if ask.method == method and (match := re.fullmatch(pattern, path)):
            return do(ask, repository, *match.groups())
    raise Refused(404, "not found")


def _given(ask: Ask) -> dict[str, Any]:
    try:
        return ask.json()
    except Refused as error:
        raise Refused(422, f"[]: {error}") from None


def _page(ask: Ask, of: list[Any]) -> list[Any]:
    size, page = min(int(ask.query.get("limit", PAGE)), MOST), int(ask.query.get("page", 1))
    return of[(page - 1) * size : page * size]


# ---- commit statuses -------------------------------------------------------------------------------------------------


def _post_status(ask: Ask, repository: Repository, sha: str) -> Answer:
    """A commit that is not there, and a state that does not fit its column, are errors of its own."""
    given = _given(ask)
    status = Status(
        context=str(given.get("context") or "").strip(),
        state=given.get("state") or "",
        description=str(given.get("description") or "").strip(),
        target_url=str(given.get("target_url") or "").strip(),
        at=now(),
    )
    try:
        sha = repository.resolve(sha)
    except Refused:
        raise Refused(500, "object does not exist") from None
    if len(status.state) > LONGEST_STATE:
        raise Refused(500, "value too long for type character varying(7)")
    repository.post(sha, status)
    return 201, _status(status)


def _commit(ask: Ask, repository: Repository, sha: str) -> Answer:
    try:
        return 200, {"sha": repository.resolve(sha)}
    except Refused:
        raise Refused(404, "not found") from None


def _combined(ask: Ask, repository: Repository, ref: str) -> Answer:
    """A warning is no better than a failure.  Older servers have an empty page where there is nothing to tell."""
    is_old = "empty" in repository.kept.get("ignored", ())
    try:
        sha = repository.resolve(urllib.parse.unquote(ref))
    except Refused:
        if is_old:
            return 200, None
        raise Refused(404, "not found") from None
    latest = list({status.context: status for status in repository.statuses(sha)}.values())
    states = {status.state for status in latest}
    worst = "failure" if states & {"error", "failure", "warning"} else "pending"
    if states and states <= {"success", "skipped"}:
        worst = "success"
    told = [_status(status) for status in _page(ask, latest)]
    if not told and is_old:
        return 200, None
    return 200, {"state": worst, "sha": sha, "total_count": len(told), "statuses": told or None}


def _status(status: Status) -> dict[str, Any]:
    return {
        "id": zlib.crc32(repr(status).encode()),
        "status": status.state,
        "context": status.context,
        "description": status.description,
        "target_url": status.target_url,
        "created_at": status.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


# ---- pull requests ---------------------------------------------------------------------------------------------------


def _pulls(ask: Ask, repository: Repository) -> Answer:
    base = ask.query.get("base_branch", "")
    if "base_branch" in repository.kept.get("ignored", ()):
        base = ""
    found = [p for p in repository.pull_requests if p.is_open and base in ("", p.target)][::-1]
    return 200, [_pull(repository, p) for p in _page(ask, found)]


def _pull(repository: Repository, pull_request: PullRequest) -> dict[str, Any]:
    number = _number(repository)
    return {
        "id": pull_request.number,
        "number": pull_request.number,
        "state": "open" if pull_request.is_open else "closed",
        "title": pull_request.title,
        "head": {
            "ref": pull_request.branch,
            "sha": pull_request.commit,
            "repo_id": number + 1 if pull_request.is_fork else number,
            "repo": {"full_name": f"somebody/{repository.name}" if pull_request.is_fork else repository.name},
        },
        "base": {"ref": pull_request.target, "repo_id": number, "repo": {"full_name": repository.name}},
    }


def _number(repository: Repository) -> int:
    return zlib.crc32(repository.name.encode())


def _comments(ask: Ask, repository: Repository, number: str) -> Answer:
    """All of them, whatever page is asked for."""
    return 200, [_comment(c) for c in repository.pull_request(int(number)).comments]


def _post_comment(ask: Ask, repository: Repository, number: str) -> Answer:
    try:
        pull_request = repository.pull_request(int(number))
    except Refused:
        raise Refused(500, "issue does not exist") from None
    return 201, _comment(pull_request.comment(_text(ask)))


def _patch_comment(ask: Ask, repository: Repository, id: str) -> Answer:
    comment = repository.comment(int(id))
    comment.text = _text(ask)
    return 200, _comment(comment)


def _text(ask: Ask) -> str:
    text = str(_given(ask).get("body") or "")
    if not text:
        raise Refused(422, "[Body]: Required")
    return text


def _comment(comment: Comment) -> dict[str, Any]:
    return {"id": comment.id, "body": comment.text, "user": {"login": "lab"}}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("POST", r"/statuses/([^/]+)", _post_status),
    ("GET", r"/git/commits/([^/]+)", _commit),
    ("GET", r"/commits/(.+)/status", _combined),
    ("GET", r"/pulls", _pulls),
    ("GET", r"/issues/(\d+)/comments", _comments),
    ("POST", r"/issues/(\d+)/comments", _post_comment),
    ("PATCH", r"/issues/comments/(\d+)", _patch_comment),
]


# ---- webhooks --------------------------------------------------------------------------------------------------------


def delivery(repository: Repository, happened: Happened, secret: str) -> tuple[dict[str, str], bytes]:
    """With the signatures of SHA-256; the real one sends one of SHA-1 as well, that nobody should look at."""
    owner, _, name = repository.name.partition("/")
    about = {
        "name": name,
        "full_name": repository.name,
        "owner": {"login": owner},
        "clone_url": repository.clone_url,
        "default_branch": "main",
    }
    kind = "push"
    if happened.pull_request:
        event = {"action": happened.action, "number": happened.pull_request.number, "repository": about}
        event["pull_request"] = _pull(repository, happened.pull_request)
        if happened.action == "synchronize":
            event["action"] = "synchronized"
        kind = "pull_request_sync" if happened.action == "synchronize" else "pull_request"
    elif happened.status:  # https://github.com/go-gitea/gitea/blob/v1.26.0/modules/structs/hook.go
        kind, at = "status", happened.status.at.isoformat()
        event = {
            "commit": {"id": happened.after, "message": "Deploy\n", "verification": None},
            "context": happened.status.context,
            "created_at": at,
            "description": happened.status.description,
            "id": zlib.crc32(repr(happened.status).encode()),
            "repository": about,
            "sender": {"login": "lab"},
            "sha": happened.after,
            "state": happened.status.state,
            "target_url": happened.status.target_url,
            "updated_at": at,
        }
    else:
        head = {"id": happened.after, "message": happened.message, "timestamp": happened.at}
        event = {
            "ref": happened.ref,
            "before": happened.before,
            "after": happened.after,
            "commits": [head] if happened.message else [],
            "total_commits": 1 if happened.message else 0,
            "head_commit": head if happened.message else None,
            "repository": about,
            "pusher": {"login": "lab"},
        }
    body = json.dumps(event, indent=2).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() if secret else ""
    event_name = {"push": "push", "status": ""}.get(kind, "pull_request")  # a status has no name but its type
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Go-http-client/1.1",
        "X-Gitea-Event": event_name,
        "X-Gitea-Event-Type": kind,
        "X-Gitea-Delivery": secrets.token_hex(16),
        "X-Gitea-Signature": signature,
        "X-Gogs-Signature": signature,
        "X-GitHub-Event": event_name,
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    return headers, body
