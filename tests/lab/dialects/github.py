"""GitHub Enterprise: https://docs.github.com/en/rest, with the limits of its statuses and deployments."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tests.lab.dialects import Answer, Ask, basic, is_token
from tests.lab.repository import IDS, Comment, Deployment, Happened, PullRequest, Refused, Repository, Status, now

if TYPE_CHECKING:
    from tests.lab.app import App

BASE = "/api/v3"
PATH = re.compile(r"/api/v3/.*")
ETAGS = True

STATES = ("error", "failure", "pending", "success")
MEANS = {"pending": "pending", "success": "success", "failure": "failure", "error": "error"}
LONGEST_DESCRIPTION = 140
LONGEST_COMMENT = 65536
MOST_STATUSES = 1000  # for one commit and one context
DEPLOYMENT_STATES = ("error", "failure", "inactive", "in_progress", "queued", "pending", "success")
LONGEST_ENVIRONMENT = 255
LONGEST_TASK = 128


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


def moved(ask: Ask, name: str) -> tuple[int, dict[str, str], Any]:
    status = 301 if ask.method == "GET" else 307
    known = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    to = f"{ask.forge.url}{BASE}/repositories/{known}{re.sub(r'^/api/v3/repos/[^/]+/[^/]+', '', ask.path)}"
    return status, {"Location": to}, {"message": "Moved Permanently", "url": to}


def answer(ask: Ask) -> Answer:
    if found := re.fullmatch(r"/api/v3/app/installations/(\d+)/access_tokens", ask.path):
        return _token(ask, int(found[1]))
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


def _invalid(message: str, key: str, resource: str = "Status") -> Refused:
    return Refused(422, "Validation Failed", {"resource": resource, "code": "custom", "field": key, "message": message})


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
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    told = [_status(ask, repository, sha, status) for status in latest[(page - 1) * size : page * size]]
    return 200, {"state": worst, "sha": sha, "total_count": len(latest), "statuses": told}


def _commit(ask: Ask, repository: Repository, ref: str) -> Answer:
    return 200, {"sha": repository.resolve(urllib.parse.unquote(ref))}


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


# ---- deployments -----------------------------------------------------------------------------------------------------


def _post_deployment(ask: Ask, repository: Repository) -> Answer:
    given = ask.json()
    ref = str(given.get("ref") or "")
    try:
        commit = repository.resolve(ref)
    except Refused:
        raise Refused(422, f"No ref found for: {ref}") from None
    made = Deployment(
        id=next(IDS),
        commit=commit,
        ref=ref,
        task=given.get("task", "deploy"),
        environment=given.get("environment", "production"),
        description=given.get("description") or "",
        payload=given.get("payload", ""),
        is_production=given.get("production_environment", given.get("environment", "production") == "production"),
        is_transient=given.get("transient_environment", False),
        at=now(),
    )
    for key, most in (
        ("description", LONGEST_DESCRIPTION),
        ("environment", LONGEST_ENVIRONMENT),
        ("task", LONGEST_TASK),
    ):
        if len(getattr(made, key)) > most:
            raise _invalid(f"{key} is too long (maximum is {most} characters)", key, "Deployment")
    if given.get("auto_merge", True) and repository.resolve("main") != commit:
        raise Refused(409, f"Conflict merging main into {ref}")
    latest = {status.context: status.state for status in repository.latest(commit)}
    if any(latest.get(needed) != "success" for needed in given.get("required_contexts", latest)):
        raise Refused(409, f"Conflict: Commit status checks failed for {ref}.")
    repository.deployments.append(made)
    return 201, _deployment(ask, repository, made)


def _deployments(ask: Ask, repository: Repository) -> Answer:
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    wanted = {"commit" if key == "sha" else key: ask.query.get(key, "none") for key in DEPLOYMENT_FILTERS}
    found = [
        one
        for one in reversed(repository.deployments)
        if all(value in ("none", getattr(one, key)) for key, value in wanted.items())
    ]
    return 200, [_deployment(ask, repository, one) for one in found[(page - 1) * size : page * size]]


DEPLOYMENT_FILTERS = ("sha", "ref", "task", "environment")


def _deployment(ask: Ask, repository: Repository, deployment: Deployment) -> dict[str, Any]:
    at = deployment.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "url": f"{ask.forge.url}/api/v3/repos/{repository.name}/deployments/{deployment.id}",
        "id": deployment.id,
        "sha": deployment.commit,
        "ref": deployment.ref,
        "task": deployment.task,
        "payload": deployment.payload,
        "original_environment": deployment.environment,
        "environment": deployment.environment,
        "description": deployment.description or None,
        "creator": {"login": "lab", "type": "Bot"},
        "created_at": at,
        "updated_at": at,
        "transient_environment": deployment.is_transient,
        "production_environment": deployment.is_production,
    }


def _post_deployment_status(ask: Ask, repository: Repository, id: str) -> Answer:
    deployment, given = _deployment_of(repository, id), ask.json()
    state, description, url = (str(given.get(key) or "") for key in ("state", "description", "log_url"))
    if state not in DEPLOYMENT_STATES:
        raise _invalid("state is not included in the list", "state", "DeploymentStatus")
    if len(description) > LONGEST_DESCRIPTION:
        message = f"description is too long (maximum is {LONGEST_DESCRIPTION} characters)"
        raise _invalid(message, "description", "DeploymentStatus")
    if url and not url.startswith(("http://", "https://")):
        raise _invalid("log_url must use http(s) scheme", "log_url", "DeploymentStatus")
    status = Status(deployment.task, state, description, url, now())
    deployment.statuses.append(status)
    if state == "success" and given.get("auto_inactive", True):
        for other in repository.deployments:
            is_replaced = other.id < deployment.id and other.environment == deployment.environment
            if is_replaced and other.state == "success" and not (other.is_transient or other.is_production):
                other.statuses.append(Status(other.task, "inactive", "", "", now()))
    return 201, _deployment_status(deployment, status)


def _deployment_statuses(ask: Ask, repository: Repository, id: str) -> Answer:
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    deployment = _deployment_of(repository, id)
    newest_first = deployment.statuses[::-1][(page - 1) * size : page * size]
    return 200, [_deployment_status(deployment, status) for status in newest_first]


def _deployment_status(deployment: Deployment, status: Status) -> dict[str, Any]:
    return {
        "state": status.state,
        "description": status.description,
        "environment": deployment.environment,
        "target_url": status.target_url,
        "log_url": status.target_url,
        "created_at": status.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _deployment_of(repository: Repository, id: str) -> Deployment:
    for deployment in repository.deployments:
        if deployment.id == int(id):
            return deployment
    raise Refused(404, "Not Found")


# ---- the login of an App ---------------------------------------------------------------------------------------------


def _installation(ask: Ask, repository: Repository) -> Answer:
    app = _app(ask)
    if repository.name not in app.installations:
        raise Refused(404, "Not Found")
    owner = repository.name.partition("/")[0]
    return 200, {"id": app.installations[repository.name], "app_id": app.id, "account": {"login": owner}}


def _token(ask: Ask, installation: int) -> Answer:
    token, ends = _app(ask).mint(installation, ask.json().get("repositories", []) if ask.body else [])
    at = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return 201, {"token": token, "expires_at": at, "repository_selection": "selected"}


def _app(ask: Ask) -> App:
    """The App that asks, proven."""
    if not ask.forge.app:
        raise Refused(401, "A JSON web token could not be decoded")
    ask.forge.app.prove(ask.headers.get("authorization", ""))
    return ask.forge.app


# ---- pull requests ---------------------------------------------------------------------------------------------------


def _pulls(ask: Ask, repository: Repository) -> Answer:
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    found = [p for p in repository.pull_requests if p.is_open and p.target == ask.query.get("base", p.target)][::-1]
    return 200, [_pull(repository, p) for p in found[(page - 1) * size : page * size]]


def _pull(repository: Repository, pull_request: PullRequest) -> dict[str, Any]:
    fork = f"somebody/{repository.name.partition('/')[2]}"
    head = {
        "ref": pull_request.branch,
        "sha": pull_request.commit,
        "repo": {"full_name": fork if pull_request.is_fork else repository.name},
    }
    base = {"ref": pull_request.target, "repo": {"full_name": repository.name}}
    return {"number": pull_request.number, "state": "open", "title": pull_request.title, "head": head, "base": base}


def _comments(ask: Ask, repository: Repository, number: str) -> Answer:
    size, page = min(int(ask.query.get("per_page", 30)), 100), int(ask.query.get("page", 1))
    found = repository.pull_request(int(number)).comments
    return 200, [_comment(c) for c in found[(page - 1) * size : page * size]]


def _post_comment(ask: Ask, repository: Repository, number: str) -> Answer:
    return 201, _comment(repository.pull_request(int(number)).comment(_text(ask)))


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
    ("GET", r"/commits/([^/]+)", _commit),
    ("POST", r"/deployments", _post_deployment),
    ("GET", r"/deployments", _deployments),
    ("POST", r"/deployments/(\d+)/statuses", _post_deployment_status),
    ("GET", r"/deployments/(\d+)/statuses", _deployment_statuses),
    ("GET", r"/installation", _installation),
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
    if happened.pull_request:
        event = {"action": happened.action, "number": happened.pull_request.number, "repository": about}
        event["pull_request"] = _pull(repository, happened.pull_request)
    elif happened.status:
        event = _told_status(happened.after, happened.status) | {"name": repository.name, "repository": about}
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
    kind = "pull_request" if happened.pull_request else "status" if happened.status else "push"
    return webhook_headers(kind, body, secret), body


def _told_status(sha: str, status: Status) -> dict[str, Any]:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads#status"""
    at = status.at.strftime("%Y-%m-%dT%H:%M:%S+00:00")
    return {
        "id": int.from_bytes(hashlib.sha256(repr((sha, status)).encode()).digest()[:6], "big"),
        "sha": sha,
        "target_url": status.target_url or None,
        "context": status.context,
        "description": status.description or None,
        "state": status.state,
        "commit": {"sha": sha, "commit": {"message": "Deploy"}, "parents": []},
        "branches": [{"name": "main", "commit": {"sha": sha}, "protected": False}],
        "created_at": at,
        "updated_at": at,
        "sender": {"login": "lab", "type": "Bot"},
    }


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
