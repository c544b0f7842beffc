"""Gitea and Forgejo (https://docs.gitea.com/api and https://forgejo.org/docs/latest/user/api-usage).

What their documentation leaves out is taken from their source, and was tried with Gitea 1.17 and 1.26:
https://github.com/go-gitea/gitea/blob/v1.26.0/routers/api/v1/repo/status.go
https://codeberg.org/forgejo/forgejo/src/branch/forgejo/routers/api/v1/repo/status.go
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedStatus, PullRequest
from gitops_mvd.forges import ForgeType, Pipeline, StateNames, newest, status_event
from gitops_mvd.forges.api import (
    Account,
    Api,
    Broken,
    Explanation,
    Query,
    Refused,
    UnknownCommit,
    cut,
    cut_text,
    moment,
)

if TYPE_CHECKING:
    import requests

LONGEST_DESCRIPTION = 255  # a column of any length; it is a line of a page
LONGEST_COMMENT = 65536  # the same
MOST = 50  # on one page, unless the server's MAX_RESPONSE_ITEMS was changed
MOST_PULL_REQUESTS = 100

# `warning` is no success to a branch protection of any version; of a state that a version does not know, such as
# `skipped` to Forgejo and to Gitea before 1.24, it makes what it likes, as states are not checked when they are posted.
STATES = StateNames(
    {
        Operation.RUNNING: "pending",
        Operation.FAILED: "failure",
        Operation.ROLLED_BACK: "failure",
        Operation.ROLLBACK_FAILED: "failure",
        Operation.SUPERSEDED: "warning",
    },
    {
        Health.HEALTHY: "success",
        Health.PROGRESSING: "pending",
        Health.DEGRADED: "failure",
        Health.MISSING: "failure",
        Health.SUSPENDED: "warning",
        Health.UNKNOWN: "error",
    },
)


class Gitea:
    """One repository, `owner/name`, of the server at the base URL, `https://HOST`."""

    def __init__(self, account: Account) -> None:
        self._name = account.repository
        self._repository = f"/api/v1/repos/{urllib.parse.quote(account.repository)}"

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"token {account.token()}"
            return request

        self._api = Api(
            "Gitea",
            account.base_url,
            sign,
            lambda: [account.token()],
            explain=self._explain,
            within=account.within,
            ca_file=account.ca_file,
        )

    def publish(self, commit: str, status: CommitStatus) -> None:
        body = {
            "state": STATES.of(status),
            "context": status.context,
            "description": cut(status.description, LONGEST_DESCRIPTION),
            "target_url": status.url,
        }
        to = f"post statuses to {self._name}"
        path = f"{self._repository}/statuses/{urllib.parse.quote(commit, safe='')}"
        try:
            with self._checking_the_token(to):
                self._api.ask("POST", path, to, body)
        except Broken as error:
            if error.code == 500 and self._is_unknown(commit, to):
                raise UnknownCommit(*self._api.unknown_commit, error.code, "") from None
            raise
        except Refused as error:
            if "user does not exist" in error.said:  # said of a token that is good, now and then, by Forgejo
                raise Unavailable(f"{self._api.where} does not find the user of the token") from None
            raise

    def _is_unknown(self, commit: str, to: str) -> bool:
        """To a status of a commit that is not there the answer is 500, and no more; this question has a better one."""
        path = f"{self._repository}/git/commits/{urllib.parse.quote(commit, safe='')}"
        try:
            self._api.ask("GET", path, to, query={"stat": "false", "verification": "false", "files": "false"})
        except Refused as error:
            return error.code == 404
        except Unavailable:
            pass
        return False

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        """By the combined status, which has the newest of each context; the list of all has each that was ever posted.

        How many there are older servers do not tell, and how many are on a page is a setting of the server: so the last
        page is one without any.  A server from before 1.25 has none of a commit that it does not know.
        """
        path = f"{self._repository}/commits/{urllib.parse.quote(commit, safe='')}/status"
        to = f"read statuses of {self._name}"
        read: dict[int, PostedStatus] = {}
        for page in self._api.pages(to):
            try:
                with self._checking_the_token(to):
                    found = self._api.ask("GET", path, to, query={"limit": MOST, "page": page})
            except Refused as error:
                if error.code == 404:
                    self._api.ask("GET", self._repository, to)  # refused unless it is the commit that is not there
                    raise UnknownCommit(*self._api.unknown_commit, error.code, error.said) from None
                raise
            with self._api.reading():
                new = {int(one["id"]): _posted(one) for one in (found and found["statuses"]) or ()}
            if new.keys() <= read.keys():
                break
            read |= new
        if not read and self._is_unknown(commit, to):
            raise UnknownCommit(*self._api.unknown_commit, 404, "")
        return newest(read[known] for known in sorted(read))

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        query: Query = {"state": "open", "base_branch": branch}  # which older servers do not know, and list all
        found = []
        for pull in self._each(f"{self._repository}/pulls", f"list pull requests of {self._name}", query):
            with self._api.reading():
                if pull["base"]["ref"] == branch:
                    found.append(_pull_request(pull))
            if len(found) == MOST_PULL_REQUESTS:
                break
        return found

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        of = f"{self._repository}/issues"
        to = f"comment on pull requests of {self._name}"
        body = {"body": cut_text(text, LONGEST_COMMENT)}
        made = None
        if known := known or self._find_comment(pull_request, text.partition("\n")[0], to):
            try:
                made = self._api.ask("PATCH", f"{of}/comments/{known}", to, body)
            except Refused as error:
                if error.code not in (403, 404):  # somebody else's, who began with the same line; or gone
                    raise
        made = made or self._api.ask("POST", f"{of}/{pull_request.number}/comments", to, body)
        with self._api.reading():
            return str(made["id"])

    def _find_comment(self, pull_request: PullRequest, first_line: str, to: str) -> str:
        for comment in self._each(f"{self._repository}/issues/{pull_request.number}/comments", to, {}):
            with self._api.reading():
                if first_line == comment["body"].partition("\n")[0].rstrip("\r"):
                    return str(comment["id"])
        return ""

    def _each(self, path: str, to: str, query: Query) -> Iterator[Any]:
        """Everything of a list, page by page, until a page has nothing new: some lists come whole, on every page."""
        seen: set[int] = set()
        for page in self._api.pages(to):
            new = []
            with self._checking_the_token(to):
                found = self._api.ask("GET", path, to, query={**query, "limit": MOST, "page": page})
            with self._api.reading():
                for one in found:
                    if one["id"] not in seen:
                        seen.add(one["id"])
                        new.append(one)
            if not new:
                return
            yield from new

    @contextlib.contextmanager
    def _checking_the_token(self, to: str) -> Iterator[None]:
        """Older servers take a revoked token for none, and to nobody a private repository is not there."""
        try:
            yield
        except Refused as error:
            if error.code == 404:
                with contextlib.suppress(Refused):  # a good token need not be allowed to ask this
                    self._api.ask("GET", "/api/v1/user", to)
            raise

    def _explain(self, code: int, said: str) -> Explanation | None:
        if code == 403 and "scope" in said:
            hint = "it needs the scopes write:repository, and write:issue for comments"
            return f"{self._api.where} does not let this token post to {self._name}", hint
        return None


class _Status(TypedDict):
    context: str
    status: str
    description: str
    target_url: str
    created_at: str


def _posted(status: _Status) -> PostedStatus:
    """What was posted does not change; what was posted in its place is another one."""
    description, url = status["description"], status["target_url"]
    return PostedStatus(
        status["context"], STATES.read(status["status"]), description, url, moment(status["created_at"])
    )


class _Branch(TypedDict):
    ref: str
    sha: str
    repo_id: int


class _Pull(TypedDict):
    id: int
    number: int
    head: _Branch
    base: _Branch


def _pull_request(pull: _Pull) -> PullRequest:
    """A fork that was deleted meanwhile has the number -1."""
    head, base = pull["head"], pull["base"]
    return PullRequest(
        pull["number"], head["sha"], f"refs/pull/{pull['number']}/head", head["repo_id"] != base["repo_id"]
    )


# ---- webhooks --------------------------------------------------------------------------------------------------------

SIGNATURES = ("x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256")


def authentic(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """https://docs.gitea.com/usage/webhooks; each signature that was sent has to be right, and one has to be sent."""
    wanted = hmac.new(secret.encode(), _payload(headers, body), hashlib.sha256).hexdigest().encode()
    sent = [headers[name].removeprefix("sha256=").encode(errors="replace") for name in SIGNATURES if name in headers]
    return bool(secret and sent) and all([hmac.compare_digest(one, wanted) for one in sent])


def event(headers: Mapping[str, str], body: bytes) -> Event:
    """https://github.com/go-gitea/gitea/blob/v1.26.0/modules/webhook/type.go; no button of it sends a ping.

    It tells of statuses from 1.23 on, by their type alone, as they have no other name; Forgejo tells of none.
    """
    name = headers.get("x-forgejo-event") or headers.get("x-gitea-event")
    match name or headers.get("x-gitea-event-type", ""):
        case "push":
            ref = _told(headers, body).get("ref")
            return Event("push", ref if isinstance(ref, str) else "")
        case "pull_request" | "pull_request_sync":
            return Event("pull_request")
        case "status":
            told = _told(headers, body)
            return status_event(STATES, told.get("sha"), told.get("context"), told.get("state"))
        case _:
            return Event("other")


def _payload(headers: Mapping[str, str], body: bytes) -> bytes:
    """What is signed and read: the JSON, out of the form where a hook has that content type."""
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return urllib.parse.parse_qs(body).get(b"payload", [b""])[0]
    return body


def _told(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    """The JSON of a hook; nothing where it is none."""
    try:
        told = json.loads(_payload(headers, body))
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


# ---- CI --------------------------------------------------------------------------------------------------------------

WORKFLOW = """\
name: validate
on: pull_request

jobs:
  validate:
    runs-on: {label} # a label of your runner
    container:
      image: node:22-bookworm # Node.js for the checkout, and Python 3.11
    steps:
      - uses: actions/checkout@v4
      - run: apt-get update && apt-get install --yes python3-venv
      - run: python3 -m venv /opt/mvd && /opt/mvd/bin/pip install -r requirements.txt
      - run: /opt/mvd/bin/mvd validate
"""
# The labels that their runners have by default: https://docs.gitea.com/usage/actions/act-runner and
# https://forgejo.org/docs/latest/admin/actions/
PIPELINES = {
    "gitea": Pipeline(".gitea/workflows/validate.yaml", WORKFLOW.format(label="ubuntu-latest")),
    "forgejo": Pipeline(".forgejo/workflows/validate.yaml", WORKFLOW.format(label="docker")),
}


# ---- the forge -------------------------------------------------------------------------------------------------------


def page(base_url: str, repository: str, commit: str) -> str:
    return f"{base_url}/{urllib.parse.quote(repository)}/commit/{commit}"


FORGE = ForgeType(
    names={"gitea": [], "forgejo": ["codeberg.org"]},
    connect=Gitea,
    states=STATES,
    authentic=authentic,
    event=event,
    page=page,
    pipelines=PIPELINES,
)
