"""Azure DevOps: https://learn.microsoft.com/en-us/rest/api/azure/devops/git/, with what is known of its limits.

The lab's `OWNER/NAME` is the project and the repository, of whatever organization.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from tests.lab.dialects import Answer, Ask, basic, is_token
from tests.lab.repository import Comment, Happened, PullRequest, Refused, Repository, Status, now

BASE = ""
PATH = re.compile(r"/[^/]+/[^/]+/_apis/.*")

STATES = ("notSet", "pending", "succeeded", "failed", "error", "notApplicable", "partiallySucceeded")
MEANS = {
    "pending": "pending",
    "succeeded": "success",
    "failed": "failure",
    "notApplicable": "error",
    "error": "failure",
}
LONGEST_DESCRIPTION = 255
LONGEST_COMMENT = 150_000
FIRST = "1"  # the comment that a thread begins with
ACTIONS = {"opened": "git.pullrequest.created"}


def admits(headers: Mapping[str, str], token: str) -> bool:
    return is_token(basic(headers.get("authorization", ""))[1], token)


def refused(error: Refused) -> Any:
    kind = next((fields["typeKey"] for fields in error.errors), "VssServiceException")
    return {"$id": "1", "innerException": None, "message": str(error), "typeKey": kind, "errorCode": 0, "eventId": 3000}


def limited(until: float) -> tuple[int, dict[str, str], Any]:
    headers = {
        "Retry-After": f"{max(0.0, until - time.time()):.0f}",
        "X-RateLimit-Resource": "lab/usage",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": f"{until:.0f}",
    }
    return 429, headers, refused(Refused(429, "Request was blocked due to exceeding usage of resource"))


def answer(ask: Ask) -> Answer:
    found = re.fullmatch(r"/[^/]+/([^/]+)/_apis/git/repositories/([^/]+)(/.*)", ask.path)
    if not found:
        raise Refused(404, "The controller for path was not found")
    if "api-version" not in ask.query:
        raise Refused(400, f"No api-version was supplied for the {ask.method} request.")
    name = urllib.parse.unquote(f"{found[1]}/{found[2]}")
    if name not in ask.forge.repositories:
        said = f"TF401019: The Git repository with name or identifier {name} does not exist or you lack permissions."
        raise Refused(404, said, {"typeKey": "GitRepositoryNotFoundException"})
    for method, pattern, do in ROUTES:
        if ask.method == method and (match := re.fullmatch(pattern, found[3], re.IGNORECASE)):
            return do(ask, ask.repository(name), *match.groups())
    raise Refused(404, "The controller for path was not found")


def _size(text: str) -> int:
    """How long .NET finds a text."""
    return len(text.encode("utf-16-le", errors="surrogatepass")) // 2


# ---- commit statuses -------------------------------------------------------------------------------------------------


def _post_status(ask: Ask, repository: Repository, sha: str) -> Answer:
    given = ask.json()
    context = given.get("context") or {}
    if not context.get("name"):
        raise Refused(400, "Value cannot be null. Parameter name: context.name")
    if given.get("state") not in STATES:
        raise Refused(400, f"{given.get('state')} is not a valid state")
    if _size(given.get("description") or "") > LONGEST_DESCRIPTION:
        raise Refused(400, "The description is too long")
    _check_commit(repository, sha)
    whole = "/".join(filter(None, (context.get("genre"), context["name"])))
    status = Status(whole, given["state"], given.get("description") or "", given.get("targetUrl") or "", now())
    repository.post(sha, status)
    return 201, {**given, "id": len(repository.statuses(sha))}


def _statuses(ask: Ask, repository: Repository, sha: str) -> Answer:
    """The last of each context where `latestOnly` is asked for, and else each that was posted."""
    _check_commit(repository, sha)
    every = repository.statuses(sha)[::-1]
    if ask.query.get("latestOnly") == "true":
        every = list({status.context: status for status in every[::-1]}.values())
    skip = int(ask.query.get("skip", 0))
    found = every[skip : skip + int(ask.query.get("top", 1000))]
    return 200, _listed([_status(number, status) for number, status in enumerate(found, skip + 1)])


def _status(number: int, status: Status) -> dict[str, Any]:
    genre, _, name = status.context.partition("/")
    return {
        "id": number,
        "state": status.state,
        "description": status.description,
        "context": {"genre": genre, "name": name} if name else {"name": genre, "genre": None},
        "creationDate": status.at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z",
        "targetUrl": status.target_url or None,
    }


def _check_commit(repository: Repository, sha: str) -> None:
    try:
        if not re.fullmatch("[0-9a-f]{40}", sha):
            raise Refused(404, "Not a full id")
        repository.resolve(sha)
    except Refused as error:
        raise Refused(404, f"The commit {sha} does not exist", {"typeKey": "GitCommitDoesNotExistException"}) from error


# ---- pull requests ---------------------------------------------------------------------------------------------------


def _pulls(ask: Ask, repository: Repository) -> Answer:
    target = ask.query.get("searchCriteria.targetRefName", "").removeprefix("refs/heads/")
    found = [p for p in repository.pull_requests if p.is_open and p.target == (target or p.target)][::-1]
    found = found[: int(ask.query.get("$top", 101))]
    return 200, _listed([_pull(repository, p) for p in found])


def _listed(values: list[Any]) -> dict[str, Any]:
    return {"value": values, "count": len(values)}


def _pull(repository: Repository, pull_request: PullRequest) -> dict[str, Any]:
    pull: dict[str, Any] = {
        "pullRequestId": pull_request.number,
        "status": "active" if pull_request.is_open else "abandoned",
        "title": pull_request.title,
        "sourceRefName": f"refs/heads/{pull_request.branch}",
        "targetRefName": f"refs/heads/{pull_request.target}",
        "lastMergeSourceCommit": {"commitId": pull_request.commit},
        "repository": {"name": repository.name.partition("/")[2]},
    }
    if pull_request.is_fork:
        pull["forkSource"] = {"name": f"refs/heads/{pull_request.branch}", "repository": {"name": "fork"}}
    return pull


def _threads(ask: Ask, repository: Repository, number: str) -> Answer:
    system = {"id": 1, "comments": [{"id": 1, "content": "Lab voted 10", "commentType": "system"}], "isDeleted": False}
    return 200, _listed([system, *(_thread(c) for c in repository.pull_request(int(number)).comments)])


def _post_thread(ask: Ask, repository: Repository, number: str) -> Answer:
    given = ask.json().get("comments") or [{}]
    return 200, _thread(repository.pull_request(int(number)).comment(_text(given[0])))


def _patch_comment(ask: Ask, repository: Repository, number: str, thread: str, id: str) -> Answer:
    comment = repository.comment(int(thread))
    if id != FIRST:
        raise Refused(404, "The comment does not exist")
    if not comment.is_deleted:
        comment.text = _text(ask.json())
    return 200, _comment(comment)


def _text(given: Mapping[str, Any]) -> str:
    text = str(given.get("content") or "")
    if not text:
        raise Refused(400, "Value cannot be null. Parameter name: comment.Content")
    if _size(text) > LONGEST_COMMENT:
        said = f"A discussion comment cannot be longer than {LONGEST_COMMENT} characters."
        raise Refused(400, f"{said} Parameter name: comment.Content")
    return text


def _thread(comment: Comment) -> dict[str, Any]:
    return {"id": comment.id, "comments": [_comment(comment)], "status": "closed", "isDeleted": comment.is_deleted}


def _comment(comment: Comment) -> dict[str, Any]:
    told = {"id": int(FIRST), "parentCommentId": 0, "commentType": "text"}
    return {**told, "isDeleted": True} if comment.is_deleted else {**told, "content": comment.text}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("POST", r"/commits/([^/]+)/statuses", _post_status),
    ("GET", r"/commits/([^/]+)/statuses", _statuses),
    ("GET", r"/pullrequests", _pulls),
    ("GET", r"/pullrequests/(\d+)/threads", _threads),
    ("POST", r"/pullrequests/(\d+)/threads", _post_thread),
    ("PATCH", r"/pullrequests/(\d+)/threads/(\d+)/comments/(\d+)", _patch_comment),
]


# ---- service hooks ---------------------------------------------------------------------------------------------------


def delivery(repository: Repository, happened: Happened, secret: str) -> tuple[dict[str, str], bytes]:
    """Nothing is signed: the secret is the password of some user."""
    if happened.pull_request:
        kind = ACTIONS.get(happened.action, "git.pullrequest.updated")
        resource = _pull(repository, happened.pull_request)
    else:
        kind = "git.push"
        update = {"name": happened.ref, "oldObjectId": happened.before, "newObjectId": happened.after}
        resource = {"refUpdates": [update], "repository": {"name": repository.name.partition("/")[2]}}
    event = {"id": secrets.token_hex(16), "eventType": kind, "publisherId": "tfs", "resource": resource}
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "VSServices/lab"}
    if secret:
        headers["Authorization"] = f"Basic {base64.b64encode(f'lab:{secret}'.encode()).decode()}"
    return headers, json.dumps(event).encode()
