"""GitLab: https://docs.gitlab.com/api/commits, with its pipelines, the life of their jobs, and its quick actions.

`begin_pipeline` is the project's own CI; `kept["jobs"]` is how many of them a pipeline may have, and
`kept["busy"]` how many times more it will not get the lock of a status.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import math
import re
import secrets
import time
import urllib.parse
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.lab.dialects import Answer, Ask, is_token
from tests.lab.repository import Comment, Happened, PullRequest, Refused, Repository, Status, git, now

BASE = ""
PATH = re.compile(r"/api/v4/.*")

MEANS = {"running": "pending", "success": "success", "failed": "failure", "canceled": "error", "pending": "pending"}
LONGEST = 255  # of a ref, a target_url and a description
LONGEST_NOTE = 1_000_000
PAGE = 20
MOST = 100  # on one page
MOST_JOBS = 500  # of a pipeline; the plan says how many
SYSTEM_NOTE = {"id": 1, "body": "requested review from @lab", "system": True, "author": {"username": "lab"}}
QUICK_ACTION = re.compile(r"^/(close|merge|approve)\b.*\n?", re.MULTILINE)

EVENTS = {  # the state that is asked for -> the event that leads there, and from which states it does
    "pending": ("enqueue", ("created", "skipped")),
    "running": ("run", ("pending",)),
    "success": ("success", ("created", "pending", "running")),
    "failed": ("drop", ("created", "pending", "running")),
    "canceled": ("cancel", ("created", "pending", "running")),
    "skipped": ("skip", ("created", "pending")),
}
ALIVE = ("pending", "running")

IDS = itertools.count(1001)


@dataclass
class Job:
    """One status of that name in a pipeline; what ended stays, and the newest of a name is the one that counts."""

    name: str
    state: str = "created"
    description: str = ""
    target_url: str = ""
    id: int = field(default_factory=lambda: next(IDS))
    at: dict[str, str | None] = field(default_factory=dict)  # when it was created, started and finished


@dataclass
class Pipeline:
    """Those of one commit and one ref; the project's own, or one that was made for the statuses of others."""

    sha: str
    ref: str
    jobs: list[Job] = field(default_factory=list)
    id: int = field(default_factory=lambda: next(IDS))

    def latest(self) -> dict[str, str]:
        """The state of each name."""
        return {job.name: job.state for job in self.jobs}


def pipelines(repository: Repository, sha: str) -> list[Pipeline]:
    """Those of a commit, oldest first."""
    every: list[Pipeline] = repository.kept.setdefault("pipelines", [])
    return [pipeline for pipeline in every if pipeline.sha == sha]


def begin_pipeline(repository: Repository, sha: str, ref: str) -> Pipeline:
    begun = Pipeline(sha, ref)
    repository.kept.setdefault("pipelines", []).append(begun)
    return begun


def admits(headers: Mapping[str, str], token: str) -> bool:
    """An access token in its own header, or like one of OAuth."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return is_token(given if scheme.lower() == "bearer" else headers.get("private-token", ""), token)


def refused(error: Refused) -> Any:
    """`{"message": ...}`, where what is wrong with a field is an object; `{"error": ...}` of a parameter."""
    if error.errors:
        return dict(error.errors[0])
    said = {401: "401 Unauthorized", 404: "404 Not found"}.get(error.status, str(error))
    return {"message": said}


def _missing(what: str) -> Refused:
    return Refused(404, what, {"message": f"404 {what} Not Found"})


def _invalid(name: str, message: str) -> Refused:
    return Refused(400, message, {"message": {name: [message]}})


def limited(until: float) -> tuple[int, dict[str, str], Any]:
    headers = {
        "RateLimit-Limit": "600",
        "RateLimit-Observed": "601",
        "RateLimit-Remaining": "0",
        "RateLimit-Reset": f"{until:.0f}",
        "Retry-After": str(math.ceil(until - time.time())),
    }
    return 429, headers, "Retry later"


def answer(ask: Ask) -> Answer:
    found = re.fullmatch(r"/api/v4/projects/([^/]+)(/.*)", ask.path)
    if not found:
        raise _missing("Route")
    repository = ask.forge.repositories.get(urllib.parse.unquote(found[1]))
    if not repository:
        raise _missing("Project")
    for method, pattern, do in ROUTES:
        if ask.method == method and (match := re.fullmatch(pattern, found[2])):
            return do(ask, repository, *match.groups())
    raise _missing("Route")


def _page(ask: Ask, of: list[Any]) -> list[Any]:
    size, page = min(int(ask.query.get("per_page", PAGE)), MOST), int(ask.query.get("page", 1))
    return of[(page - 1) * size : page * size]


# ---- commit statuses -------------------------------------------------------------------------------------------------


def _post_status(ask: Ask, repository: Repository, sha: str) -> Answer:
    given = ask.json()
    state = given.get("state")
    if state not in EVENTS:
        raise Refused(400, "state", {"error": "state does not have a valid value" if state else "state is missing"})
    if repository.kept.get("busy", 0):
        repository.kept["busy"] -= 1
        said = "Another update to this commit status is in progress"
        raise Refused(409, said, {"message": f"409 Conflict: {said}"})
    try:
        sha = repository.resolve(urllib.parse.unquote(sha))
    except Refused:
        raise _missing("Commit") from None
    name = str(given.get("name") or given.get("context") or "default")
    pipeline = _pipeline(repository, sha, given, name)
    alive = [job for job in pipeline.jobs if job.name == name and job.state in ALIVE]
    job = alive[-1] if alive else Job(name)
    wanted = {key: str(given.get(key, getattr(job, key)) or "") for key in ("description", "target_url")}
    for key, text in {**wanted, "ref": pipeline.ref}.items():
        if len(text) > LONGEST:
            raise _invalid(key, f"is too long (maximum is {LONGEST} characters)")
    if wanted["target_url"] and not wanted["target_url"].startswith(("http://", "https://")):
        raise _invalid("target_url", "is blocked: Only allowed schemes are http, https")
    job.state = _moved(job.state, state)
    job.description, job.target_url = wanted["description"], wanted["target_url"]
    if not alive:
        pipeline.jobs.append(job)
    posted = Status(name, state, job.description, job.target_url, now())
    at = posted.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    job.at = {"created_at": at, "started_at": None, "finished_at": None} | job.at
    job.at["started_at" if state in ALIVE else "finished_at"] = None if state == "pending" else at
    repository.post(sha, posted)
    return 201, _job(pipeline, job)


def _pipeline(repository: Repository, sha: str, given: Mapping[str, Any], name: str) -> Pipeline:
    """The one that was asked for, or the newest; and another one where that is full."""
    found = [p for p in pipelines(repository, sha) if given.get("ref") in (None, p.ref)]
    if pinned := given.get("pipeline_id"):
        found = [pipeline for pipeline in found if pipeline.id == pinned]
        if not found:
            raise _missing("Pipeline for pipeline_id, sha and ref")
    branches = git("for-each-ref", "--contains", sha, "--format=%(refname:lstrip=2)", "refs/heads", at=repository.path)
    ref = str(given.get("ref") or (found[-1].ref if found else branches.partition("\n")[0]))
    if not ref:
        raise _missing("References for commit")
    if found:
        is_new = not any(job.name == name and job.state in ALIVE for job in found[-1].jobs)
        if not is_new or len(found[-1].jobs) < repository.kept.get("jobs", MOST_JOBS):
            return found[-1]
        if pinned:
            said = "The number of jobs has exceeded the limit"
            raise Refused(422, said, {"message": said})
    return begin_pipeline(repository, sha, ref)


def _moved(state: str, wanted: str) -> str:
    """The state after the event; what runs was waiting before, if only for that moment."""
    event, sources = EVENTS[wanted]
    if wanted == "running" and state == "created":
        state = "pending"
    if state not in sources:
        said = (
            f'Cannot transition status via :{event} from :{state} (Reason(s): Status cannot transition via "{event}")'
        )
        raise Refused(400, said, {"message": said})
    return wanted


def _statuses(ask: Ask, repository: Repository, sha: str) -> Answer:
    found = []
    try:
        sha = repository.resolve(sha)
    except Refused:
        raise _missing("Commit") from None
    for pipeline in pipelines(repository, sha):
        latest = {job.name: job for job in pipeline.jobs}.values()
        jobs = pipeline.jobs if ask.query.get("all") == "true" else latest
        found += [_job(pipeline, job) for job in jobs]
    return 200, _page(ask, found)


def _job(pipeline: Pipeline, job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "sha": pipeline.sha,
        "ref": pipeline.ref,
        "status": job.state,
        "name": job.name,
        "description": job.description or None,
        "target_url": job.target_url or None,
        "pipeline_id": pipeline.id,
        **job.at,
        "author": {"username": "lab"},
    }


# ---- merge requests --------------------------------------------------------------------------------------------------


def _requests(ask: Ask, repository: Repository) -> Answer:
    """Of all states unless one is asked for, as GitLab does."""
    found = repository.pull_requests
    if ask.query.get("state") == "opened":
        found = [pull_request for pull_request in found if pull_request.is_open]
    found = [
        pull_request
        for pull_request in found
        if pull_request.target == ask.query.get("target_branch", pull_request.target)
    ]
    newest_first = ask.query.get("sort", "desc") == "desc"
    return 200, [_request(repository, p) for p in _page(ask, found[:: -1 if newest_first else 1])]


def _request(repository: Repository, pull_request: PullRequest) -> dict[str, Any]:
    number = zlib.crc32(repository.name.encode())
    return {
        "id": 10_000 + pull_request.number,
        "iid": pull_request.number,
        "state": "opened" if pull_request.is_open else "closed",
        "title": pull_request.title,
        "sha": pull_request.commit or None,
        "source_branch": pull_request.branch,
        "target_branch": pull_request.target,
        "source_project_id": number + 1 if pull_request.is_fork else number,
        "target_project_id": number,
    }


def _notes(ask: Ask, repository: Repository, number: str) -> Answer:
    notes = [SYSTEM_NOTE, *(_note(comment) for comment in _pull_request(repository, number).comments)]
    return 200, _page(ask, notes if ask.query.get("sort") == "asc" else notes[::-1])


def _post_note(ask: Ask, repository: Repository, number: str) -> Answer:
    pull_request = _pull_request(repository, number)
    return 201, _note(pull_request.comment(_obeyed(pull_request, _text(ask))))


def _put_note(ask: Ask, repository: Repository, number: str, id: str) -> Answer:
    pull_request = _pull_request(repository, number)
    for comment in pull_request.comments:
        if comment.id == int(id):
            comment.text = _obeyed(pull_request, _text(ask))
            return 200, _note(comment)
    raise _missing("Note")


def _pull_request(repository: Repository, number: str) -> PullRequest:
    try:
        return repository.pull_request(int(number))
    except Refused:
        raise Refused(404, "Not found") from None


def _text(ask: Ask) -> str:
    text = str(ask.json().get("body") or "")
    if not text:
        raise Refused(400, "body", {"error": "body is empty"})
    if len(text) > LONGEST_NOTE:
        raise _invalid("note", f"is too long (maximum is {LONGEST_NOTE} characters)")
    return text


def _obeyed(pull_request: PullRequest, text: str) -> str:
    """What is left of a text once the orders in it were carried out."""
    if QUICK_ACTION.search(text):
        pull_request.is_open = False
    return QUICK_ACTION.sub("", text)


def _note(comment: Comment) -> dict[str, Any]:
    return {"id": comment.id, "body": comment.text, "system": False, "author": {"username": "lab"}}


ROUTES: list[tuple[str, str, Callable[..., Answer]]] = [
    ("POST", r"/statuses/([^/]+)", _post_status),
    ("GET", r"/repository/commits/([^/]+)/statuses", _statuses),
    ("GET", r"/merge_requests", _requests),
    ("GET", r"/merge_requests/(\d+)/notes", _notes),
    ("POST", r"/merge_requests/(\d+)/notes", _post_note),
    ("PUT", r"/merge_requests/(\d+)/notes/(\d+)", _put_note),
]


# ---- webhooks --------------------------------------------------------------------------------------------------------

ACTIONS = {"opened": "open", "synchronize": "update", "closed": "close"}


def delivery(repository: Repository, happened: Happened, secret: str) -> tuple[dict[str, str], bytes]:
    """A secret that begins with `whsec_` is a signing token, any other one is sent as it is."""
    namespace, _, name = repository.name.rpartition("/")
    about = {
        "id": zlib.crc32(repository.name.encode()),
        "name": name,
        "namespace": namespace,
        "path_with_namespace": repository.name,
        "git_http_url": repository.clone_url,
        "default_branch": "main",
    }
    event: dict[str, Any]
    if happened.pull_request:
        kind = "Merge Request Hook"
        attributes = {
            **_request(repository, happened.pull_request),
            "action": ACTIONS.get(happened.action, happened.action),
            "last_commit": {"id": happened.pull_request.commit},
        }
        event = {"object_kind": "merge_request", "project": about, "object_attributes": attributes}
    else:
        is_tag = happened.ref.startswith("refs/tags/")
        kind, word = ("Tag Push Hook", "tag_push") if is_tag else ("Push Hook", "push")
        commits = [{"id": happened.after, "message": happened.message, "timestamp": happened.at}]
        event = {
            "object_kind": word,
            "event_name": word,
            "before": happened.before,
            "after": happened.after,
            "ref": happened.ref,
            "checkout_sha": happened.after if int(happened.after, 16) else None,
            "project": about,
            "commits": commits if happened.message else [],
            "total_commits_count": 1 if happened.message else 0,
        }
    body = json.dumps(event).encode()
    id = secrets.token_hex(16)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitLab/18.0.0",
        "Idempotency-Key": id,
        "X-Gitlab-Event": kind,
        "X-Gitlab-Event-UUID": secrets.token_hex(16),
        "X-Gitlab-Instance": "http://lab.invalid",
    }
    if secret.startswith("whsec_"):
        at = str(int(time.time()))
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signature = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
        headers |= {"webhook-id": id, "webhook-timestamp": at}
        headers["webhook-signature"] = f"v1,{base64.b64encode(signature).decode()}"
    elif secret:
        headers["X-Gitlab-Token"] = secret
    return headers, body
