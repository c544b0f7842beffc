"""GitHub Enterprise: https://docs.github.com/en/rest, with the limits of its commit statuses."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from gitops_mvd.lab.dialects import Answer, Ask, basic, is_token
from gitops_mvd.lab.repository import Comment, Happened, Proposal, Refused, Repository, Status, now

BASE = "/api/v3"
PATH = re.compile(r"/api/v3/.*")

STATES = ("error", "failure", "pending", "success")
LONGEST_DESCRIPTION = 140
LONGEST_COMMENT = 65536
MOST_STATUSES = 1000  # for one commit and one context


def admits(headers: Mapping[str, str], token: str) -> bool:
    given = headers.get("authorization", "")
    return is_token(basic(given)[1] or given.partition(" ")[2], token)


def refused(error: Refused) -> Any:
    body: dict[str, Any] = {"message": str(error), "status": str(error.status)}
    return body | {"errors": list(error.errors)} if error.errors else body


def limited(until: float) -> tuple[int, dict[str, str], Any]:
    return (
        403,
        {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{until:.0f}"},
        {"message": "API rate limit exceeded"},
    )


def answer(ask: Ask) -> Answer:
    found = re.fullmatch(r"/api/v3/repos/([^/]+/[^/]+)(/.*)", ask.path)
    if not found:
        raise Refused(404, "Not Found")
    repository, path = ask.repository(urllib.parse.unquote(found[1])), found[2]
    for method, pattern, do in ROUTES:
        if ask.method == method and (match := re.fullmatch(pattern, path)):
            return do(ask, repository, *match.groups())
    raise Refused(404, "Not Found")


# ---- commit statuses -------------------------------------------------------------------------------------------------


def _post_status(ask: Ask, repository: Repository, sha: str) -> Answer:
    given = ask.json()
    status = Status(
        context=given.get("context") or "default",
        state=given.get("state") or "",
        description=given.get("description") or "",
        target_url=given.get("target_url") or "",
        at=now(),
    )
    if not re.fullmatch("[0-9a-f]{40}", sha):  # GitHub takes no branch and no short id here
        raise Refused(422, f"No commit found for SHA: {sha}")
    repository.resolve(sha)
    if status.state not in STATES:
        raise _invalid("state is not included in the list", "state")
    if len(status.description) > LONGEST_DESCRIPTION:
        raise _invalid(f"description is too long (maximum is {LONGEST_DESCRIPTION} characters)", "description")
    same = [old for old in repository.statuses(sha) if old.context.lower() == status.context.lower()]
    if len(same) >= MOST_STATUSES:
        raise _invalid("This SHA and context has reached the maximum number of statuses.", "base")
    repository.post(sha, status)
    return 201, _status(ask, repository, sha, status)


def _invalid(message: str, key: str) -> Refused:
    return Refused(422, "Validation Failed", {"resource": "Status", "code": "custom", "field": key, "message": message})


def _statuses(ask: Ask, repository: Repository, ref: str) -> Answer:
    sha = repository.resolve(urllib.parse.unquote(ref))
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    newest_first = repository.statuses(sha)[::-1]
    return 200, [_status(ask, repository, sha, s) for s in newest_first[(page - 1) * size : page * size]]


def _combined(ask: Ask, repository: Repository, ref: str) -> Answer:
    sha = repository.resolve(urllib.parse.unquote(ref))
    latest = repository.latest(sha)
    states = {status.state for status in latest}
    worst = "failure" if states & {"error", "failure"} else "success" if states == {"success"} else "pending"
    told = [_status(ask, repository, sha, status) for status in latest]
    return 200, {"state": worst, "sha": sha, "total_count": len(latest), "statuses": told}


def _status(ask: Ask, repository: Repository, sha: str, status: Status) -> dict[str, Any]:
    at = status.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "url": f"{ask.forge.url}/api/v3/repos/{repository.name}/statuses/{sha}",
        "id": int.from_bytes(hashlib.sha256(repr((sha, status)).encode()).digest()[:6], "big"),
        "state": status.state,
        "context": status.context,
        "description": status.description or None,
        "target_url": status.target_url or None,
        "created_at": at,
        "updated_at": at,
        "creator": {"login": "lab", "type": "Bot"},
    }


# ---- pull requests ---------------------------------------------------------------------------------------------------


def _pulls(ask: Ask, repository: Repository) -> Answer:
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    found = [p for p in repository.proposals if p.is_open and p.target == ask.query.get("base", p.target)][::-1]
    return 200, [_pull(repository, p) for p in found[(page - 1) * size : page * size]]


def _pull(repository: Repository, proposal: Proposal) -> dict[str, Any]:
    fork = f"somebody/{repository.name.partition('/')[2]}"
    head = {
        "ref": proposal.branch,
        "sha": proposal.commit,
        "repo": {"full_name": fork if proposal.is_fork else repository.name},
    }
    base = {"ref": proposal.target, "repo": {"full_name": repository.name}}
    return {"number": proposal.number, "state": "open", "title": proposal.title, "head": head, "base": base}


def _comments(ask: Ask, repository: Repository, number: str) -> Answer:
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    found = repository.proposal(int(number)).comments
    return 200, [_comment(c) for c in found[(page - 1) * size : page * size]]


def _post_comment(ask: Ask, repository: Repository, number: str) -> Answer:
    return 201, _comment(repository.proposal(int(number)).comment(_text(ask)))


def _patch_comment(ask: Ask, repository: Repository, id: str) -> Answer:
    comment = repository.comment(int(id))
    comment.text = _text(ask)
    return 200, _comment(comment)


def _text(ask: Ask) -> str:
    text = str(ask.json().get("body") or "")
    if not text or len(text) > LONGEST_COMMENT:
        raise Refused(422, f"Validation Failed: body is too long (maximum is {LONGEST_COMMENT} characters)")
    return text


def _comment(comment: Comment) -> dict[str, Any]:
    return {"id": comment.id, "body": comment.text, "user": {"login": "lab"}}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("POST", r"/statuses/([^/]+)", _post_status),
    ("GET", r"/commits/(.+)/statuses", _statuses),
    ("GET", r"/commits/(.+)/status", _combined),
    ("GET", r"/pulls", _pulls),
    ("GET", r"/issues/(\d+)/comments", _comments),
    ("POST", r"/issues/(\d+)/comments", _post_comment),
    ("PATCH", r"/issues/comments/(\d+)", _patch_comment),
]


# ---- webhooks --------------------------------------------------------------------------------------------------------


def delivery(repository: Repository, happened: Happened, secret: str) -> tuple[dict[str, str], bytes]:
    owner, _, name = repository.name.partition("/")
    about = {
        "name": name,
        "full_name": repository.name,
        "owner": {"login": owner},
        "clone_url": repository.clone_url,
        "default_branch": "main",
    }
    if happened.proposal:
        event = {"action": happened.action, "number": happened.proposal.number, "repository": about}
        event["pull_request"] = _pull(repository, happened.proposal)
    else:
        head = (
            {"id": happened.after, "message": happened.message, "timestamp": happened.at} if happened.message else None
        )
        event = {
            "ref": happened.ref,
            "before": happened.before,
            "after": happened.after,
            "created": not int(happened.before, 16),
            "deleted": not int(happened.after, 16),
            "repository": about,
            "pusher": {"name": "lab"},
            "head_commit": head if happened.message else None,
            "commits": [head] if happened.message else [],
        }
    body = json.dumps(event).encode()
    return webhook_headers("pull_request" if happened.proposal else "push", body, secret), body


def webhook_headers(event: str, body: bytes, secret: str) -> dict[str, str]:
    """What is sent along with a webhook."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/lab",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": secrets.token_hex(16),
    }
    if secret:
        headers["X-Hub-Signature-256"] = f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    return headers
