"""Bitbucket Data Center: https://developer.atlassian.com/server/bitbucket/rest/, with the limits of its builds."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.lab.dialects import Answer, Ask, basic, is_token
from tests.lab.repository import NO_COMMIT, Comment, Happened, PullRequest, Refused, Repository, Status, now

BASE = ""
PATH = re.compile(r"/rest/.*")

STATES = ("SUCCESSFUL", "FAILED", "INPROGRESS", "CANCELLED", "UNKNOWN")
MEANS = {"INPROGRESS": "pending", "SUCCESSFUL": "success", "FAILED": "failure", "CANCELLED": "error"}
LONGEST = {"key": 255, "name": 255, "description": 255, "url": 450}
LONGEST_COMMENT = 32767
EXCEPTIONS = "com.atlassian.bitbucket"
ACTIONS = {"opened": "pr:opened", "synchronize": "pr:from_ref_updated", "closed": "pr:declined"}


def admits(headers: Mapping[str, str], token: str) -> bool:
    given = headers.get("authorization", "")
    return is_token(basic(given)[1] or given.partition(" ")[2], token)


def refused(error: Refused) -> Any:
    more = {name: said for fields in error.errors for name, said in fields.items()}
    return {"errors": [{"context": None, "message": str(error), "exceptionName": None, **more}]}


def limited(until: float) -> tuple[int, dict[str, str], Any]:
    wait = f"{max(0.0, until - time.time()):.0f}"
    said = {"context": None, "message": "You are being rate limited", "exceptionName": None}
    return 429, {"Retry-After": wait, "X-RateLimit-Remaining": "0"}, {"errors": [said]}


def answer(ask: Ask) -> Answer:
    if builds := re.fullmatch(r"/rest/build-status/(?:latest|1\.0)/commits/([0-9a-f]{40})", ask.path):
        return _builds(ask, builds[1])
    found = re.fullmatch(r"/rest/api/(?:latest|1\.0)/projects/([^/]+)/repos/([^/]+)(/.*)", ask.path)
    if not found:
        raise Refused(404, "Not Found")
    project, slug = urllib.parse.unquote(found[1]), urllib.parse.unquote(found[2])
    if f"{project}/{slug}" not in ask.forge.repositories:
        raise _no_such("repository.NoSuchRepository", f"Repository {project}/{slug} does not exist.")
    for method, pattern, do in ROUTES:
        if ask.method == method and (match := re.fullmatch(pattern, found[3])):
            return do(ask, ask.repository(f"{project}/{slug}"), *match.groups())
    raise Refused(404, "Not Found")


def _no_such(what: str, message: str, status: int = 404) -> Refused:
    return Refused(status, message, {"exceptionName": f"{EXCEPTIONS}.{what}Exception"})


def _size(text: str) -> int:
    """How long Java finds a text."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


# ---- builds ----------------------------------------------------------------------------------------------------------


def _post_build(ask: Ask, repository: Repository, sha: str) -> Answer:
    given = ask.json()
    try:
        sha = repository.resolve(urllib.parse.unquote(sha))
    except Refused as error:
        said = f"Commit '{sha}' does not exist in repository '{repository.name}'."
        raise _no_such("commit.NoSuchCommit", said) from error
    for name in ("key", "state", "url"):
        if not given.get(name):
            raise Refused(400, f"The {name} is required", {"context": name})
    for name, most in LONGEST.items():
        if _size(given.get(name) or "") > most:
            raise Refused(400, f"Please enter a value of no more than {most} characters", {"context": name})
    if given["state"] not in STATES:
        raise Refused(400, f"{given['state']} is no build state", {"context": "state"})
    if not given["url"].startswith(("http://", "https://")):
        raise Refused(400, "Please enter a valid URL", {"context": "url"})
    status = Status(
        given.get("name") or given["key"], given["state"], given.get("description") or "", given["url"], now()
    )
    repository.post(sha, status)
    return 204, None


def _builds(ask: Ask, sha: str) -> Answer:
    """Those of every repository that knows the commit, the newest first, one of each key and repository."""
    every: list[Status] = []
    for repository in {each.name: each for each in ask.forge.repositories.values()}.values():
        every += {status.context: status for status in repository.statuses(sha)}.values()
    every.sort(key=lambda status: status.at, reverse=True)
    return _page(ask, [_build(status) for status in every])


def _build(status: Status) -> dict[str, Any]:
    return {
        "key": hashlib.sha256(status.context.encode()).hexdigest(),
        "name": status.context,
        "state": status.state,
        "description": status.description,
        "url": status.target_url,
        "dateAdded": int(status.at.timestamp() * 1000),
    }


def _commit(ask: Ask, repository: Repository, sha: str) -> Answer:
    try:
        return 200, {"id": repository.resolve(urllib.parse.unquote(sha))}
    except Refused as error:
        said = f"Commit '{sha}' does not exist in repository '{repository.name}'."
        raise _no_such("commit.NoSuchCommit", said) from error


# ---- pull requests ---------------------------------------------------------------------------------------------------


def _pulls(ask: Ask, repository: Repository) -> Answer:
    target = ask.query.get("at", "").removeprefix("refs/heads/")
    found = [p for p in repository.pull_requests if p.is_open and p.target == (target or p.target)]
    if ask.query.get("order", "NEWEST") == "NEWEST":
        found.reverse()
    return _page(ask, [_pull(repository, p) for p in found])


def _pull(repository: Repository, pull_request: PullRequest) -> dict[str, Any]:
    project, _, slug = repository.name.partition("/")
    ours = {"id": 1, "slug": slug, "project": {"key": project}}
    fork = {"id": 2, "slug": slug, "project": {"key": "~somebody"}}
    source = {
        "id": f"refs/heads/{pull_request.branch}",
        "latestCommit": pull_request.commit,
        "repository": fork if pull_request.is_fork else ours,
    }
    return {
        "id": pull_request.number,
        "version": 0,
        "state": "OPEN" if pull_request.is_open else "DECLINED",
        "title": pull_request.title,
        "fromRef": source,
        "toRef": {"id": f"refs/heads/{pull_request.target}", "repository": ours},
    }


def _page(ask: Ask, everything: Sequence[Any]) -> Answer:
    size, start = min(int(ask.query.get("limit", 25)), 1000), int(ask.query.get("start", 0))
    is_last = start + size >= len(everything)
    return 200, {
        "size": len(everything[start : start + size]),
        "limit": size,
        "start": start,
        "isLastPage": is_last,
        "nextPageStart": None if is_last else start + size,
        "values": everything[start : start + size],
    }


def _activities(ask: Ask, repository: Repository, number: str) -> Answer:
    """Everything that happened, the newest first."""
    told = [_comment(comment) for comment in repository.pull_request(int(number)).comments]
    comments = [{"id": c["id"], "action": "COMMENTED", "commentAction": "ADDED", "comment": c} for c in told]
    happened = [{"id": 1, "action": "OPENED"}, *comments]
    return _page(ask, happened[::-1])


def _get_comment(ask: Ask, repository: Repository, number: str, id: str) -> Answer:
    return 200, _comment(_comment_of(repository, id))


def _post_comment(ask: Ask, repository: Repository, number: str) -> Answer:
    return 201, _comment(repository.pull_request(int(number)).comment(_text(ask)))


def _put_comment(ask: Ask, repository: Repository, number: str, id: str) -> Answer:
    comment = _comment_of(repository, id)
    if ask.json().get("version") != _comment(comment)["version"]:
        raise _no_such("comment.CommentOutOfDate", "The comment was changed since you saw it.", 409)
    comment.text = _text(ask)
    return 200, _comment(comment)


def _comment_of(repository: Repository, id: str) -> Comment:
    try:
        return repository.comment(int(id))
    except Refused as error:
        raise _no_such("comment.NoSuchComment", f"Comment {id} does not exist.") from error


def _text(ask: Ask) -> str:
    text = str(ask.json().get("text") or "")
    if not text or _size(text) > LONGEST_COMMENT:
        said = f"Please enter a non-empty value less than {LONGEST_COMMENT + 1} characters"
        raise Refused(400, said, {"context": "text"})
    return text


def _comment(comment: Comment) -> dict[str, Any]:
    return {"id": comment.id, "version": comment.times - 1, "text": comment.text, "author": {"name": "lab"}}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("POST", r"/commits/([^/]+)/builds", _post_build),
    ("GET", r"/commits/([^/]+)", _commit),
    ("GET", r"/pull-requests", _pulls),
    ("GET", r"/pull-requests/(\d+)/activities", _activities),
    ("POST", r"/pull-requests/(\d+)/comments", _post_comment),
    ("GET", r"/pull-requests/(\d+)/comments/(\d+)", _get_comment),
    ("PUT", r"/pull-requests/(\d+)/comments/(\d+)", _put_comment),
]


# ---- webhooks --------------------------------------------------------------------------------------------------------


def delivery(repository: Repository, happened: Happened, secret: str) -> tuple[dict[str, str], bytes]:
    if happened.pull_request:
        key = ACTIONS.get(happened.action, "pr:modified")
        event: dict[str, Any] = {
            "eventKey": key,
            "actor": {"name": "lab"},
            "pullRequest": _pull(repository, happened.pull_request),
        }
    else:
        key = "repo:refs_changed"
        project, _, slug = repository.name.partition("/")
        event = {
            "eventKey": key,
            "actor": {"name": "lab"},
            "repository": {"slug": slug, "project": {"key": project}},
            "changes": [_change(happened)],
        }
    body = json.dumps(event).encode()
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Atlassian HttpClient",
        "X-Event-Key": key,
        "X-Request-Id": secrets.token_hex(16),
    }
    if secret:
        headers["X-Hub-Signature"] = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    return headers, body


def _change(happened: Happened) -> dict[str, Any]:
    _, folder, name = happened.ref.split("/", 2)
    kind = "ADD" if happened.before == NO_COMMIT else "DELETE" if happened.after == NO_COMMIT else "UPDATE"
    ref = {"id": happened.ref, "displayId": name, "type": "BRANCH" if folder == "heads" else "TAG"}
    return {
        "ref": ref,
        "refId": happened.ref,
        "fromHash": happened.before,
        "toHash": happened.after,
        "type": kind,
    }
