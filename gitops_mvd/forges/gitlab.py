"""GitLab, gitlab.com and self-managed (https://docs.gitlab.com/api/commits and https://docs.gitlab.com/api/notes).

A status is a job here, of a pipeline of the kind "external", and so has a life: what ended begins anew as another job,
what runs cannot run once more, and with its state its description and its link stay as they are.
https://gitlab.com/gitlab-org/gitlab/-/blob/master/app/services/ci/create_commit_status_service.rb
https://gitlab.com/gitlab-org/gitlab/-/blob/master/app/models/commit_status.rb
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedStatus, PullRequest
from gitops_mvd.forges import ForgeType, Pipeline, StateNames, newest
from gitops_mvd.forges.api import Account, Api, Explanation, Query, Refused, cut, cut_text, moment
from gitops_mvd.forges.api.address import Address, Location

if TYPE_CHECKING:
    import requests

PUBLIC = "https://gitlab.com"
LONGEST_DESCRIPTION = 255
LONGEST_URL = 255
MOST = 100  # on one page
LONGEST_COMMENT = 1_000_000
REMEMBERED = 256  # statuses that have not ended yet

STATES = StateNames(
    {
        Operation.RUNNING: "running",
        Operation.FAILED: "failed",
        Operation.ROLLED_BACK: "failed",
        Operation.ROLLBACK_FAILED: "failed",
        Operation.SUPERSEDED: "canceled",
    },
    {
        Health.HEALTHY: "success",
        Health.PROGRESSING: "running",
        Health.DEGRADED: "failed",
        Health.MISSING: "failed",
        Health.SUSPENDED: "canceled",
        Health.UNKNOWN: "failed",
    },
)


class GitLab:
    """One project, `group/sub/name`, of the server at the base URL, `https://HOST`.

    Without a `ref`, GitLab takes the newest pipeline of the commit, or the first of all branches that have it: `main`
    then shows nothing where `a-feature` was begun from it.  So the branch that is followed is said.  Which pipeline of
    it that is changes as soon as the project's own jobs begin another one, and what runs in the old one would run for
    ever; so the end of a status is sent to the pipeline that its beginning went to, as far as that is remembered.
    """

    def __init__(self, account: Account) -> None:
        self._name = account.repository
        self._branch = account.branch
        self._project = f"/api/v4/projects/{urllib.parse.quote(account.repository, safe='')}"
        self._pipelines: dict[tuple[str, str], int] = {}  # commit and context -> where that runs

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            """As of OAuth, which is taken of personal, project and group access tokens as well.

            https://docs.gitlab.com/api/rest/authentication/
            """
            request.headers["Authorization"] = f"Bearer {account.token()}"
            return request

        base_url = account.base_url or PUBLIC
        self._api = Api(
            "GitLab",
            base_url,
            sign,
            lambda: [account.token()],
            explain=self._explain,
            within=account.within,
            ca_file=account.ca_file,
        )

    def publish(self, commit: str, status: CommitStatus) -> None:
        body: dict[str, str | int] = {
            "state": STATES.of(status),
            "name": status.context,
            "description": cut(status.description, LONGEST_DESCRIPTION),
        }
        if status.url and len(status.url) <= LONGEST_URL:
            body["target_url"] = status.url
        if self._branch:
            body["ref"] = self._branch
        if pipeline := self._pipelines.get((commit, status.context)):
            with contextlib.suppress(Refused):  # it may be gone, or full
                return self._post(commit, {**body, "pipeline_id": pipeline})
        self._post(commit, body)

    def _post(self, commit: str, body: dict[str, str | int]) -> None:
        path = f"{self._project}/statuses/{urllib.parse.quote(commit, safe='')}"
        try:
            told = self._api.ask("POST", path, f"post statuses to {self._name}", body)
        except Refused as error:
            if error.code == 409:
                raise Unavailable(f"{self._api.where} is busy with this very status") from None
            if not re.search(rf"Cannot transition status via :\w+ from :{body['state']}\b", error.said):
                raise
            told = body  # it says so already
        context = str(body["name"])
        self._pipelines.pop((commit, context), None)
        with self._api.reading():
            if body["state"] == "running" and (pipeline := told.get("pipeline_id")):
                self._pipelines[commit, context] = int(pipeline)
        for oldest in list(self._pipelines)[:-REMEMBERED]:
            del self._pipelines[oldest]

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        """The last job of each name in each pipeline of the commit, whatever its branch; of these the newest."""
        path = f"{self._project}/repository/commits/{urllib.parse.quote(commit, safe='')}/statuses"
        to = f"read statuses of {self._name}"
        read: list[tuple[int, PostedStatus]] = []
        for page in self._api.pages(to):
            found = self._api.ask("GET", path, to, query={"per_page": MOST, "page": page})
            with self._api.reading():
                read += [(int(job["id"]), _posted(job)) for job in found]
                if len(found) < MOST:
                    break
        return newest(status for _, status in sorted(read, key=lambda known: known[0]))

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        query: Query = {
            "state": "opened",
            "target_branch": branch,
            "order_by": "created_at",
            "sort": "desc",
            "per_page": MOST,
        }
        to = f"list merge requests of {self._name}"
        found = self._api.ask("GET", f"{self._project}/merge_requests", to, query=query)
        with self._api.reading():
            return [_pull_request(request) for request in found if request["sha"]]  # null while it has no commit

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        of = f"{self._project}/merge_requests/{pull_request.number}/notes"
        to = f"comment on merge requests of {self._name}"
        text = cut_text(_harmless(text), LONGEST_COMMENT)
        made = None
        if known := known or self._find_comment(of, text.partition("\n")[0], to):
            try:
                made = self._api.ask("PUT", f"{of}/{known}", to, {"body": text})
            except Refused as error:
                if error.code not in (403, 404):  # of another token, or of somebody who quotes us; or gone
                    raise
        made = made or self._api.ask("POST", of, to, {"body": text})
        with self._api.reading():
            return str(made["id"])

    def _find_comment(self, of: str, first_line: str, to: str) -> str:
        query: Query = {"order_by": "created_at", "sort": "asc", "per_page": MOST}
        for page in self._api.pages(to):
            found = self._api.ask("GET", of, to, query={**query, "page": page})
            with self._api.reading():
                for note in found:
                    if not note["system"] and first_line == note["body"].partition("\n")[0].rstrip("\r"):
                        return str(note["id"])
            if not found:
                break
        return ""

    def _explain(self, code: int, said: str) -> Explanation | None:
        if code == 404 and "Commit" in said:
            return self._api.unknown_commit
        for known, word, message, hint in EXPLANATIONS:
            if code == known and word in said:
                return message.format(where=self._api.where, name=self._name), hint
        return None


EXPLANATIONS = (  # status code, what is said with it, what that means, and what to do about it
    (
        401,
        "",
        "{where} refused the token",
        "it may have been revoked, or have expired, or be a deploy token, which cannot post statuses",
    ),
    (403, "insufficient_scope", "{where} does not let this token post to {name}", "it needs the scope api"),
    (
        403,
        "",
        "{where} does not let this token post to {name}",
        "it needs the role Developer, and on a protected branch one that may push or merge",
    ),
    (404, "References for commit", "{where} has the commit on no branch", "was the branch rewound, or deleted?"),
    (405, "moved", "{where} says that {name} has moved", "put its new name into the settings"),
    (422, "number of jobs", "{where} takes no more jobs for this commit", "the plan limits the jobs of a pipeline"),
    (400, "has already been taken", "{where} has a job of that name", "rename that job of .gitlab-ci.yml"),
)


class _Job(TypedDict):
    id: int
    name: str
    status: str
    description: str | None
    target_url: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None


def _posted(job: _Job) -> PostedStatus:
    """What ended may begin anew, and is another job then: a job has its last state since the last of these times."""
    at = job["finished_at"] or job["started_at"] or job["created_at"]
    description, url = job["description"] or "", job["target_url"] or ""
    return PostedStatus(job["name"], STATES.read(job["status"]), description, url, moment(at))


class _MergeRequest(TypedDict):
    iid: int
    sha: str | None
    source_project_id: int | None
    target_project_id: int


def _pull_request(request: _MergeRequest) -> PullRequest:
    """A fork that was deleted meanwhile has no project any more."""
    number = int(request["iid"])
    is_fork = request["source_project_id"] != request["target_project_id"]
    return PullRequest(number, str(request["sha"]), f"refs/merge-requests/{number}/head", is_fork)


def _harmless(text: str) -> str:
    """A line that begins with a slash would be an order: https://docs.gitlab.com/user/project/quick_actions/"""
    return re.sub(r"^/", " /", text, flags=re.MULTILINE)


# ---- webhooks --------------------------------------------------------------------------------------------------------

SIGNING = "whsec_"  # what the secret begins with where it signs


def authentic(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Either the secret token is sent as it is, or a signing token has signed the body as Standard Webhooks say.

    How old that is does not matter: who sends it once more has us look at the repository once more.
    https://docs.gitlab.com/user/project/integrations/webhooks/ and https://www.standardwebhooks.com
    """
    if not secret:
        return False
    if secret.startswith(SIGNING):
        try:
            key = base64.b64decode(secret.removeprefix(SIGNING), validate=True)
        except ValueError:
            return False
        told = ".".join(headers.get(name, "") for name in ("webhook-id", "webhook-timestamp")) + "."
        signature = hmac.new(key, told.encode(errors="replace") + body, hashlib.sha256).digest()
        wanted = b"v1," + base64.b64encode(signature)
        sent = headers.get("webhook-signature", "").encode(errors="replace").split()
        return any([hmac.compare_digest(one, wanted) for one in sent])
    given = headers.get("x-gitlab-token", "").encode(errors="replace")
    return hmac.compare_digest(given, secret.encode(errors="replace"))


def event(headers: Mapping[str, str], body: bytes) -> Event:
    """https://docs.gitlab.com/user/project/integrations/webhook_events/

    Those of a whole server are all called the same, and tell in themselves what they are:
    https://docs.gitlab.com/administration/system_hooks/

    Of a status that comes from outside there is none: job events are of GitLab's own jobs, and those of pipelines only
    come when the pipeline as a whole changes, which a host that waits keeps running.
    https://gitlab.com/gitlab-org/gitlab/-/blob/master/app/models/generic_commit_status.rb
    """
    told = _read(body)
    kind = headers.get("x-gitlab-event", "")
    if kind == "System Hook":
        kind = str(told.get("object_kind") or told.get("event_name"))
    match kind:
        case "Push Hook" | "Tag Push Hook" | "push" | "tag_push" | "repository_update":
            ref = told.get("ref", "")
            return Event("push", ref if isinstance(ref, str) else "")
        case "Merge Request Hook" | "merge_request":
            return Event("pull_request")
        case _:
            return Event("other")


def _read(body: bytes) -> Mapping[str, Any]:
    """The JSON of a hook; nothing where it is none, as a template can make it whatever it likes."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


# ---- CI --------------------------------------------------------------------------------------------------------------

PIPELINE = Pipeline(
    ".gitlab-ci.yml",
    """\
validate:
  image: python:3.12
  script:
    - pip install -r requirements.txt
    - mvd validate
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
""",
)


# ---- the forge -------------------------------------------------------------------------------------------------------


def locate(address: Address) -> Location:
    """A group may have groups below it, so all of the path is the project's name."""
    return "/".join(address.parts), address.base_url()


def page(base_url: str, repository: str, commit: str) -> str:
    return f"{base_url or PUBLIC}/{urllib.parse.quote(repository)}/-/commit/{commit}"


FORGE = ForgeType(
    names={"gitlab": ["gitlab.com"]},
    connect=GitLab,
    states=STATES,
    authentic=authentic,
    event=event,
    page=page,
    locate=locate,
    pipelines={"gitlab": PIPELINE},
)
