"""Azure DevOps, Services and Server (https://learn.microsoft.com/en-us/rest/api/azure/devops/git/).

Its commit statuses: https://learn.microsoft.com/en-us/rest/api/azure/devops/git/statuses/create
What it does with a login that is none: https://github.com/MicrosoftDocs/vsts-rest-api-specs/issues/574
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedStatus, PullRequest
from gitops_mvd.forges import ForgeType, Pipeline, StateNames, newest
from gitops_mvd.forges.api import Account, Api, Explanation, Query, Refused, basic, cut, cut_text, moment, signing
from gitops_mvd.forges.api.address import Address, Location

PUBLIC = "https://dev.azure.com"
HOSTS = ("dev.azure.com", "ssh.dev.azure.com", ".visualstudio.com")
VERSION: Query = {"api-version": "6.0"}  # what a Server from 2020 on has, and Services go on to have
DENIED = (203, 302, 401)  # a token that has expired gets the page, or is sent to the page, where people log in
LONGEST_DESCRIPTION = 255  # said nowhere, and so no longer than elsewhere
LONGEST_COMMENT = 150_000  # https://github.com/runatlantis/atlantis/pull/1585
MOST = 100  # pull requests
MOST_STATUSES = 1000  # on one page, as many as without being asked for

STATES = StateNames(
    {
        Operation.RUNNING: "pending",
        Operation.FAILED: "failed",
        Operation.ROLLED_BACK: "failed",
        Operation.ROLLBACK_FAILED: "failed",
        Operation.SUPERSEDED: "notApplicable",
    },
    {
        Health.HEALTHY: "succeeded",
        Health.PROGRESSING: "pending",
        Health.DEGRADED: "failed",
        Health.MISSING: "failed",
        Health.SUSPENDED: "notApplicable",
        Health.UNKNOWN: "error",
    },
)
EVENTS = {
    "git.push": "push",
    "git.pullrequest.created": "pull_request",
    "git.pullrequest.updated": "pull_request",
    "git.pullrequest.merged": "pull_request",
}


class AzureDevOps:
    """One repository, `organization/project/repository`, or `organization/repository` where the project is named alike.

    On a Server it is `collection/project/repository`.  The token is a personal access token.
    """

    def __init__(self, account: Account) -> None:
        self._name = account.repository
        above, _, name = account.repository.rpartition("/")
        project = above if "/" in above else f"{above}/{name}"
        self._repository = f"/{urllib.parse.quote(project)}/_apis/git/repositories/{urllib.parse.quote(name, safe='')}"
        self._api = Api(
            "Azure DevOps",
            account.base_url or PUBLIC,
            signing(lambda: basic(account)),  # a token is the password of anybody, so that of nobody will do
            lambda: [account.token(), basic(account).partition(" ")[2]],
            headers={"Accept": "application/json"},
            denied=DENIED,
            explain=self._explain,
            within=account.within,
            ca_file=account.ca_file,
        )

    def publish(self, commit: str, status: CommitStatus) -> None:
        """Azure shows `genre/name`, which is our context; the two are one identity."""
        genre, _, name = status.context.partition("/")
        description = status.description
        body = {
            "state": STATES.of(status),
            "context": {"genre": genre, "name": name} if name else {"name": genre},
            "description": cut(description, _room(description, LONGEST_DESCRIPTION)),
            "targetUrl": status.url or None,
        }
        path = f"{self._repository}/commits/{urllib.parse.quote(commit, safe='')}/statuses"
        self._api.ask("POST", path, f"post statuses to {self._name}", body, VERSION)

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        path = f"{self._repository}/commits/{urllib.parse.quote(commit, safe='')}/statuses"
        to = f"read statuses of {self._name}"
        read: list[PostedStatus] = []
        for page in self._api.pages(to):
            query: Query = {"latestOnly": "true", "top": MOST_STATUSES, "skip": (page - 1) * MOST_STATUSES, **VERSION}
            found = self._api.ask("GET", path, to, query=query)
            with self._api.reading():
                read += [_posted(status) for status in found["value"]]
                if len(found["value"]) < MOST_STATUSES:
                    break
        return newest(read)

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        """Those whose head is not known to the server yet, as it merges on the side, come with the next look."""
        query: Query = {
            "searchCriteria.status": "active",
            "searchCriteria.targetRefName": f"refs/heads/{branch}",
            "$top": MOST,
            **VERSION,
        }
        to = f"list pull requests of {self._name}"
        found = self._api.ask("GET", f"{self._repository}/pullrequests", to, query=query)
        with self._api.reading():
            known = [_pull_request(pull) for pull in found["value"] if pull.get("lastMergeSourceCommit")]
            return sorted(known, key=lambda pull_request: -pull_request.number)

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        """A thread of its own, known by `thread/comment`; closed, as policies may want all to be before the merge:
        https://learn.microsoft.com/en-us/azure/devops/repos/git/branch-policies
        """
        of = f"{self._repository}/pullRequests/{pull_request.number}/threads"
        to = f"comment on pull requests of {self._name}"
        text = cut_text(text, _room(text, LONGEST_COMMENT))
        known = known or self._find_comment(of, text.partition("\n")[0], to)
        if known and self._rewrite(of, known, text, to):
            return known
        thread = {"comments": [{"parentCommentId": 0, "content": text, "commentType": "text"}], "status": "closed"}
        made = self._api.ask("POST", of, to, thread, VERSION)
        with self._api.reading():
            return f"{made['id']}/{made['comments'][0]['id']}"

    def _rewrite(self, of: str, known: str, text: str, to: str) -> bool:
        """Change a comment; False where it is gone, of which a husk stays."""
        thread, _, comment = known.partition("/")
        path = f"{of}/{urllib.parse.quote(thread, safe='')}/comments/{urllib.parse.quote(comment, safe='')}"
        try:
            made = self._api.ask("PATCH", path, to, {"content": text}, VERSION)
        except Refused as error:
            if error.code == 404 or "deleted" in error.said.lower():
                return False
            raise
        with self._api.reading():
            return not made.get("isDeleted")

    def _find_comment(self, of: str, first_line: str, to: str) -> str:
        """All threads are on one page, those of the system and of deleted comments among them."""
        threads = self._api.ask("GET", of, to, query=VERSION)
        with self._api.reading():
            for thread in threads["value"]:
                for comment in thread["comments"][:1]:
                    is_there = not thread.get("isDeleted") and not comment.get("isDeleted")
                    if is_there and (comment.get("content") or "").partition("\n")[0].rstrip() == first_line:
                        return f"{thread['id']}/{comment['id']}"
        return ""

    def _explain(self, code: int, said: str) -> Explanation | None:
        if code == 404 and "GitCommitDoesNotExistException" in said:
            return self._api.unknown_commit
        return None


def _room(text: str, most: int) -> int:
    """How many characters of a text fit where those beyond U+FFFF count twice, as they do in .NET."""
    return most - sum(c > "\uffff" for c in text[:most])


class _Context(TypedDict):
    name: str
    genre: NotRequired[str | None]


class _Status(TypedDict):
    state: str
    context: _Context
    creationDate: str
    description: NotRequired[str | None]
    targetUrl: NotRequired[str | None]


def _posted(status: _Status) -> PostedStatus:
    context = "/".join(filter(None, (status["context"].get("genre"), status["context"]["name"])))
    description, url = status.get("description") or "", status.get("targetUrl") or ""
    return PostedStatus(context, STATES.read(status["state"]), description, url, moment(status["creationDate"]))


class _Commit(TypedDict):
    commitId: str


class _Pull(TypedDict):
    pullRequestId: int
    sourceRefName: str
    lastMergeSourceCommit: _Commit
    forkSource: NotRequired[object]


def _pull_request(pull: _Pull) -> PullRequest:
    """The ref that Azure keeps for a pull request, `refs/pull/N/merge`, is of the merge; the head has its branch."""
    is_fork = bool(pull.get("forkSource"))
    ref = "" if is_fork else pull["sourceRefName"]
    return PullRequest(pull["pullRequestId"], pull["lastMergeSourceCommit"]["commitId"], ref, is_fork)


# ---- webhooks --------------------------------------------------------------------------------------------------------


def authentic(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """The secret is the password of whichever user; nothing is signed:
    https://learn.microsoft.com/en-us/azure/devops/service-hooks/services/webhooks
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    try:
        _, colon, password = base64.b64decode(given.strip()).partition(b":")
    except ValueError:
        return False
    is_same = hmac.compare_digest(password, secret.encode(errors="replace"))
    return is_same and bool(colon) and scheme.lower() == "basic"


def event(headers: Mapping[str, str], body: bytes) -> Event:
    """https://learn.microsoft.com/en-us/azure/devops/service-hooks/events

    The kind is in the body alone.  The test of a hook sends a push to `refs/heads/master` of a made-up repository.
    """
    try:
        told = json.loads(body)
        kind = EVENTS.get(told["eventType"], "other")
        return Event(kind, _pushed(told["resource"]) if kind == "push" else "")
    except (ValueError, RecursionError, LookupError, TypeError):
        return Event("other")


def _pushed(resource: Any) -> str:
    """The ref that was pushed; "" where it were several, any of which may be the one that is followed."""
    try:
        refs = {update["name"] for update in resource["refUpdates"]}
    except (LookupError, TypeError):
        return ""
    ref = refs.pop() if len(refs) == 1 else ""
    return ref if isinstance(ref, str) else ""


# ---- CI --------------------------------------------------------------------------------------------------------------

PIPELINE = Pipeline(
    "azure-pipelines.yml",
    """\
# For pull requests, name this pipeline in the policies of the branch: Build validation.
trigger: none
pool:
  vmImage: ubuntu-latest
steps:
  - task: UsePythonVersion@0
    inputs:
      versionSpec: "3.12"
  - script: pip install -r requirements.txt
  - script: mvd validate
""",
)


# ---- the forge -------------------------------------------------------------------------------------------------------


def locate(address: Address) -> Location:
    """https://dev.azure.com/ORG/PROJECT/_git/REPO, and its many other ways to say so.

    A repository that is called as its project is has that name once.
    """
    parts = list(address.parts)
    is_public = address.name in HOSTS
    if organisation := re.fullmatch(r"([^.]+)\.visualstudio\.com", address.name):
        parts = [organisation[1], *(part for part in parts if part != "DefaultCollection")]
        is_public = True
    if parts[0] == "v3":  # as ssh has it
        parts = parts[1:]
    if "_git" in parts:
        place = parts.index("_git")
        parts = [*parts[:place], *(parts[place + 1 :] * (2 if place == 1 else 1))]
    return "/".join(parts[-3:]), "" if is_public else address.base_url(parts[:-3])


def page(base_url: str, repository: str, commit: str) -> str:
    *projects, name = repository.split("/")
    place = urllib.parse.quote("/".join(projects))
    return f"{base_url or PUBLIC}/{place}/_git/{urllib.parse.quote(name, safe='')}/commit/{commit}"


FORGE = ForgeType(
    names={"azure-devops": HOSTS},
    connect=AzureDevOps,
    states=STATES,
    authentic=authentic,
    event=event,
    page=page,
    locate=locate,
    pipelines={"azure-devops": PIPELINE},
)
