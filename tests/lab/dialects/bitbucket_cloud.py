"""Bitbucket Cloud: https://developer.atlassian.com/cloud/bitbucket/rest/, with the limits of its build statuses."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.lab.dialects import Answer, Ask, basic, is_token
from tests.lab.repository import NO_COMMIT, Comment, Happened, PullRequest, Refused, Repository, Status, git, now

BASE = "/2.0"
PATH = re.compile(r"/2\.0/.*")

STATES = ("SUCCESSFUL", "FAILED", "INPROGRESS", "STOPPED")
MEANS = {"INPROGRESS": "pending", "SUCCESSFUL": "success", "FAILED": "failure", "STOPPED": "error"}
LONGEST = {"key": 40, "name": 255, "description": 255, "url": 450}
LONGEST_COMMENT = 32767
ABBREVIATED = 12  # digits of a commit in a pull request
ACTIONS = {"opened": "created", "synchronize": "updated", "closed": "rejected"}


def admits(headers: Mapping[str, str], token: str) -> bool:
    given = headers.get("authorization", "")
    return is_token(basic(given)[1] or given.partition(" ")[2], token)


def refused(error: Refused) -> Any:
    told: dict[str, Any] = {"message": str(error)}
    if error.errors:
        told["fields"] = {name: [said] for fields in error.errors for name, said in fields.items()}
    return {"type": "error", "error": told}


def limited(until: float) -> tuple[int, dict[str, str], Any]:
    """It does not say when to come again."""
    said = {"message": "Rate limit for this resource has been exceeded"}
    return 429, {"X-RateLimit-NearLimit": "true"}, {"type": "error", "error": said}


def answer(ask: Ask) -> Answer:
    found = re.fullmatch(r"/2\.0/repositories/([^/]+/[^/]+)(/.*)", ask.path)
    if not found:
        raise Refused(404, "Resource not found")
    name, path = urllib.parse.unquote(found[1]), found[2]
    if name not in ask.forge.repositories:
        raise Refused(404, f"Repository {name} not found")
    for method, pattern, do in ROUTES:
        if ask.method == method and (match := re.fullmatch(pattern, path)):
            return do(ask, ask.repository(name), *match.groups())
    raise Refused(404, "Resource not found")


# ---- commits and their statuses --------------------------------------------------------------------------------------


def _post_status(ask: Ask, repository: Repository, sha: str) -> Answer:
    given = ask.json()
    sha = _commit_of(repository, sha)
    for name in ("key", "state", "url"):
        if not given.get(name):
            raise _invalid(name, "This field is required.")
    for name, most in LONGEST.items():
        if (size := len(given.get(name) or "")) > most:
            raise _invalid(name, f"Ensure this value has at most {most} characters (it has {size}).")
    if given["state"] not in STATES:
        raise _invalid("state", f"{given['state']} is not one of {', '.join(STATES)}")
    if not given["url"].startswith(("http://", "https://")):
        raise _invalid("url", "Enter a valid URL.")
    status = Status(
        given.get("name") or given["key"], given["state"], given.get("description") or "", given["url"], now()
    )
    repository.post(sha, status)
    return 201, {**given, "type": "build", "uuid": f"{{{secrets.token_hex(16)}}}"}


def _statuses(ask: Ask, repository: Repository, sha: str) -> Answer:
    """One of each key; the lab tells keys by what they are called."""
    latest = {status.context: status for status in repository.statuses(_commit_of(repository, sha))}
    return _page(ask, 100, [_status(status) for status in latest.values()])


def _status(status: Status) -> dict[str, Any]:
    return {
        "type": "build",
        "key": hashlib.sha256(status.context.encode()).hexdigest()[: LONGEST["key"]],
        "name": status.context,
        "state": status.state,
        "description": status.description,
        "url": status.target_url,
        "created_on": status.at.isoformat(),
        "updated_on": status.at.isoformat(),
    }


def _invalid(name: str, said: str) -> Refused:
    return Refused(400, f"{name}: {said}", {name: said})


def _commit(ask: Ask, repository: Repository, sha: str) -> Answer:
    return 200, {"type": "commit", "hash": _commit_of(repository, sha)}


def _commit_of(repository: Repository, sha: str) -> str:
    """An abbreviated one will do here."""
    try:
        return repository.resolve(urllib.parse.unquote(sha))
    except Refused as error:
        raise Refused(404, "Commit not found") from error


# ---- pull requests ---------------------------------------------------------------------------------------------------


def _pulls(ask: Ask, repository: Repository) -> Answer:
    wanted = re.fullmatch(r'destination\.branch\.name *= *"(.*)"', ask.query.get("q", ""))
    found = [p for p in repository.pull_requests if p.is_open and (not wanted or p.target == wanted[1])]
    if ask.query.get("sort") == "-created_on":
        found.reverse()
    return _page(ask, 50, [_pull(repository, p) for p in found])


def _pull(repository: Repository, pull_request: PullRequest) -> dict[str, Any]:
    fork = f"somebody/{repository.name.partition('/')[2]}"
    source = {
        "branch": {"name": pull_request.branch},
        "commit": {"type": "commit", "hash": pull_request.commit[:ABBREVIATED]},
        "repository": {"full_name": fork if pull_request.is_fork else repository.name},
    }
    target = {"branch": {"name": pull_request.target}, "repository": {"full_name": repository.name}}
    return {
        "type": "pullrequest",
        "id": pull_request.number,
        "state": "OPEN" if pull_request.is_open else "DECLINED",
        "title": pull_request.title,
        "source": source,
        "destination": target,
    }


def _pull_commits(ask: Ask, repository: Repository, number: str) -> Answer:
    if "page" in ask.query:  # its pages have names, and no numbers
        raise Refused(400, "Invalid page")
    pull_request = repository.pull_request(int(number))
    most = f"--max-count={ask.query.get('pagelen', 10)}"
    found = git("rev-list", most, pull_request.commit, f"^refs/heads/{pull_request.target}", at=repository.path)
    return 200, {"values": [{"hash": sha} for sha in found.split()]}


def _page(ask: Ask, most: int, everything: Sequence[Any]) -> Answer:
    size, number = int(ask.query.get("pagelen", 10)), int(ask.query.get("page", 1))
    if not 0 < size <= most:
        raise Refused(400, "Invalid pagelen")
    page = {"pagelen": size, "page": number, "values": everything[(number - 1) * size : number * size]}
    if len(everything) > number * size:
        more = urllib.parse.urlencode({**ask.query, "page": number + 1})
        page["next"] = f"{ask.forge.url}{ask.path}?{more}"
    return 200, page


def _comments(ask: Ask, repository: Repository, number: str) -> Answer:
    return _page(ask, 100, [_comment(c) for c in repository.pull_request(int(number)).comments])


def _post_comment(ask: Ask, repository: Repository, number: str) -> Answer:
    return 201, _comment(repository.pull_request(int(number)).comment(_text(ask)))


def _put_comment(ask: Ask, repository: Repository, number: str, id: str) -> Answer:
    comment = repository.comment(int(id))
    if comment.is_deleted:
        raise Refused(410, "This comment has been deleted")
    comment.text = _text(ask)
    return 200, _comment(comment)


def _text(ask: Ask) -> str:
    text = str((ask.json().get("content") or {}).get("raw") or "")
    if not text or len(text) > LONGEST_COMMENT:
        raise _invalid("content", f"Ensure this value has at most {LONGEST_COMMENT} characters (it has {len(text)}).")
    return text


def _comment(comment: Comment) -> dict[str, Any]:
    raw = "" if comment.is_deleted else comment.text
    return {"type": "pullrequest_comment", "id": comment.id, "content": {"raw": raw}, "deleted": comment.is_deleted}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("POST", r"/commit/([^/]+)/statuses/build/?", _post_status),
    ("GET", r"/commit/([^/]+)/statuses", _statuses),
    ("GET", r"/commit/([^/]+)", _commit),
    ("GET", r"/pullrequests", _pulls),
    ("GET", r"/pullrequests/(\d+)/commits", _pull_commits),
    ("GET", r"/pullrequests/(\d+)/comments", _comments),
    ("POST", r"/pullrequests/(\d+)/comments", _post_comment),
    ("PUT", r"/pullrequests/(\d+)/comments/(\d+)", _put_comment),
]


# ---- webhooks --------------------------------------------------------------------------------------------------------


def delivery(repository: Repository, happened: Happened, secret: str) -> tuple[dict[str, str], bytes]:
    event: dict[str, Any] = {"actor": {"display_name": "Lab"}, "repository": {"full_name": repository.name}}
    if happened.pull_request:
        key = f"pullrequest:{ACTIONS.get(happened.action, 'updated')}"
        event["pullrequest"] = _pull(repository, happened.pull_request)
    elif happened.status:  # https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/#Build-status-created
        key = "repo:commit_status_created"
        href = f"https://api.bitbucket.org/2.0/repositories/{repository.name}/commit/{happened.after}"
        links = {"commit": {"href": href}, "self": {"href": f"{href}/statuses/build/mvd"}}
        event["commit_status"] = {**_status(happened.status), "links": links}
    else:
        key = "repo:push"
        old, new = (_pointer(happened.ref, sha) for sha in (happened.before, happened.after))
        change = {"old": old, "new": new, "created": old is None, "closed": new is None, "forced": False}
        event["push"] = {"changes": [change]}
    body = json.dumps(event).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Bitbucket-Webhooks/2.0",
        "X-Event-Key": key,
        "X-Hook-UUID": secrets.token_hex(16),
        "X-Request-UUID": secrets.token_hex(16),
        "X-Attempt-Number": "1",
    }
    if secret:
        headers["X-Hub-Signature"] = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    return headers, body


def _pointer(ref: str, sha: str) -> dict[str, Any] | None:
    """What a branch or tag was at a time, None where there was none."""
    if sha == NO_COMMIT:
        return None
    _, folder, name = ref.split("/", 2)
    return {"type": "branch" if folder == "heads" else "tag", "name": name, "target": {"type": "commit", "hash": sha}}
