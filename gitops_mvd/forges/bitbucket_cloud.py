"""Bitbucket Cloud (https://developer.atlassian.com/cloud/bitbucket/rest/).

Its build statuses: https://developer.atlassian.com/cloud/bitbucket/rest/api-group-commit-statuses/
"""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedStatus, PullRequest
from gitops_mvd.forges import ForgeType, Pipeline, StateNames, newest, status_event
from gitops_mvd.forges.api import Account, Api, Explanation, Query, Refused, cut, cut_text, login, moment, signing
from gitops_mvd.forges.api.address import Address, Location, last_two_parts

PUBLIC = "https://api.bitbucket.org/2.0"
WEB = "https://bitbucket.org"
LONGEST_KEY = 40  # https://github.com/buildbot/buildbot/issues/7049
LONGEST_NAME = 255  # https://github.com/jenkinsci/bitbucket-branch-source-plugin/pull/928
LONGEST_URL = 450  # the same
LONGEST_DESCRIPTION = 255  # said nowhere, and so no longer than the name
LONGEST_COMMENT = 32767  # https://github.com/jfrog/froggit-go/pull/133
LONGEST_PAGE = 50  # of pull requests
MOST = 100  # pull requests, or statuses on one page
FULL = 40  # digits of a commit

STATES = StateNames(
    {
        Operation.RUNNING: "INPROGRESS",
        Operation.FAILED: "FAILED",
        Operation.ROLLED_BACK: "FAILED",
        Operation.ROLLBACK_FAILED: "FAILED",
        Operation.SUPERSEDED: "STOPPED",
    },
    {
        Health.HEALTHY: "SUCCESSFUL",
        Health.PROGRESSING: "INPROGRESS",
        Health.DEGRADED: "FAILED",
        Health.MISSING: "FAILED",
        Health.SUSPENDED: "STOPPED",
        Health.UNKNOWN: "FAILED",
    },
)
EVENTS = {
    "repo:push": "push",
    "pullrequest:created": "pull_request",
    "pullrequest:updated": "pull_request",
    "pullrequest:fulfilled": "pull_request",
    "pullrequest:rejected": "pull_request",
    "repo:commit_status_created": "status",
    "repo:commit_status_updated": "status",
    "diagnostics:ping": "ping",
}


class BitbucketCloud:
    """One repository, `workspace/slug`.

    The token is an access token of the repository, project or workspace; with a `username`, the e-mail address of an
    Atlassian account, it is that one's API token.
    """

    def __init__(self, account: Account) -> None:
        self._name = account.repository
        self._base = (account.base_url or PUBLIC).rstrip("/")
        self._repository = f"/repositories/{urllib.parse.quote(account.repository)}"
        self._full: dict[str, str] = {}  # the commits of open pull requests, by what is abbreviated of them

        self._api = Api(
            "Bitbucket",
            self._base,
            signing(lambda: login(account)),
            lambda: [account.token(), login(account).partition(" ")[2]],
            headers={"Accept": "application/json"},
            explain=self._explain,
            within=account.within,
            ca_file=account.ca_file,
        )

    def publish(self, commit: str, status: CommitStatus) -> None:
        """Without a `refname`: that would bind the status to one branch, and it is the commit that it tells of."""
        page = f"{WEB}/{urllib.parse.quote(self._name)}/commits/{urllib.parse.quote(commit, safe='')}"
        is_link = status.url.startswith(("https://", "http://")) and len(status.url) <= LONGEST_URL
        body = {
            "key": _key(status.context),
            "name": cut(status.context, LONGEST_NAME),
            "state": STATES.of(status),
            "description": cut(status.description, LONGEST_DESCRIPTION),
            "url": status.url if is_link else page,  # there must be one
        }
        path = f"{self._repository}/commit/{urllib.parse.quote(commit, safe='')}/statuses/build"
        self._api.ask("POST", path, f"post statuses to {self._name}", body)

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        path = f"{self._repository}/commit/{urllib.parse.quote(commit, safe='')}/statuses"
        with self._api.reading():
            found = self._all(path, f"read statuses of {self._name}", {"pagelen": MOST})
            return newest(_posted(status) for status in found)

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        to = f"list pull requests of {self._name}"
        quoted = branch.replace("\\", "\\\\").replace('"', '\\"')
        query: Query = {
            "state": "OPEN",
            "q": f'destination.branch.name = "{quoted}"',
            "sort": "-created_on",
            "pagelen": LONGEST_PAGE,
        }
        found = islice(self._all(f"{self._repository}/pullrequests", to, query), MOST)
        with self._api.reading():
            known, self._full = self._full, {}
            pull_requests = []
            for pull in found:
                short = (pull["source"].get("commit") or {}).get("hash", "")  # it has none once its branch is gone
                full = known.get(short) or self._full.get(short) or (short and self._whole(pull["id"], short, to))
                if full:
                    self._full[short] = full
                    pull_requests.append(_pull_request(pull, full))
            return pull_requests

    def _whole(self, number: int, short: str, to: str) -> str:
        """A commit in full, of which a pull request has the first 12 digits; "" if it is unknown.

        That of a fork is known to the pull request alone, and one that holds nothing new to the repository alone:
        https://github.com/abhinav/git-spice/issues/1421 and https://jira.atlassian.com/browse/BCLOUD-19593
        """
        if len(short) == FULL:
            return short
        query: Query = {"pagelen": LONGEST_PAGE, "fields": "values.hash"}  # a page number would be refused here
        try:
            found = self._api.ask("GET", f"{self._repository}/pullrequests/{number}/commits", to, query=query)
            for commit in found["values"]:
                if str(commit["hash"]).startswith(short):
                    return str(commit["hash"])
            found = self._api.ask("GET", f"{self._repository}/commit/{urllib.parse.quote(short, safe='')}", to)
            return str(found["hash"])
        except Refused as error:
            if error.code != 404:
                raise
            return ""

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        of = f"{self._repository}/pullrequests/{pull_request.number}/comments"
        to = f"comment on pull requests of {self._name}"
        body = {"content": {"raw": cut_text(text, LONGEST_COMMENT)}}
        made = None
        if known := known or self._find_comment(of, text.partition("\n")[0], to):
            try:
                made = self._api.ask("PUT", f"{of}/{urllib.parse.quote(known, safe='')}", to, body)
            except Refused as error:
                if error.code not in (404, 410):
                    raise
        with self._api.reading():
            if not made or made.get("deleted"):
                made = self._api.ask("POST", of, to, body)
            return str(made["id"])

    def _find_comment(self, of: str, first_line: str, to: str) -> str:
        with self._api.reading():
            for comment in self._all(of, to, {"pagelen": 100}):
                if not comment.get("deleted") and first_line == comment["content"]["raw"].partition("\n")[0].rstrip():
                    return str(comment["id"])
        return ""

    def _all(self, path: str, to: str, query: Query) -> Iterator[Mapping[str, Any]]:
        """Everything on all pages, the next of which each tells in full; one of another host gets no token."""
        link = f"{path}?{urllib.parse.urlencode(query)}"
        for _ in self._api.pages(to):
            page = self._api.ask("GET", link, to)
            yield from page["values"]
            if not (following := page.get("next")):
                return
            if not following.startswith(f"{self._base}/"):
                raise Unavailable(f"{self._api.where} has its next page elsewhere, where nothing is asked")
            link = following.removeprefix(self._base)

    def _explain(self, code: int, said: str) -> Explanation | None:
        if code == 404 and "commit not found" in said.lower():
            return self._api.unknown_commit
        return None


def _key(context: str) -> str:
    """What tells statuses apart: not cut off where it is too long, as hosts are often alike but for the end."""
    return context if len(context) <= LONGEST_KEY else hashlib.sha256(context.encode()).hexdigest()[:LONGEST_KEY]


def _posted(status: Mapping[str, Any]) -> PostedStatus:
    """Its name is our context; its key may be a digest of it."""
    context, description, url = status.get("name") or status["key"], status.get("description") or "", status["url"]
    return PostedStatus(context, STATES.read(status["state"]), description, url or "", moment(status["updated_on"]))


def _pull_request(pull: Mapping[str, Any], commit: str) -> PullRequest:
    """There is no ref of a pull request here, only its branch, which Git finds where it is not a fork's.

    A fork that was deleted meanwhile has no repository any more.
    """
    source, target = pull["source"], pull["destination"]
    is_fork = not source["repository"] or source["repository"]["full_name"] != target["repository"]["full_name"]
    ref = "" if is_fork else f"refs/heads/{source['branch']['name']}"
    return PullRequest(pull["id"], commit, ref, is_fork)


# ---- webhooks --------------------------------------------------------------------------------------------------------


def authentic(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """https://bitbucket.org/blog/enhanced-webhook-security (secrets are there since October 2023)"""
    wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("x-hub-signature", "").encode(errors="replace"), wanted.encode())


def event(headers: Mapping[str, str], body: bytes) -> Event:
    """https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/

    What is written about a pull request is none, or our own comments would have us look again.
    """
    kind = EVENTS.get(headers.get("x-event-key", ""), "other")
    if kind == "status":
        return _status_event(body)
    return Event(kind, _pushed(body) if kind == "push" else "")


def _status_event(body: bytes) -> Event:
    """A status has its commit only at the end of a link."""
    try:
        status = json.loads(body)["commit_status"]
        commit = status["links"]["commit"]["href"].rpartition("/")[2]
        return status_event(STATES, commit, status.get("name") or status["key"], status["state"])
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return Event("other")


def _pushed(body: bytes) -> str:
    """The ref that was pushed; "" where it were several, any of which may be the one that is followed."""
    try:
        refs = {_ref(change["new"] or change["old"]) for change in json.loads(body)["push"]["changes"]}
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    return refs.pop() if len(refs) == 1 else ""


def _ref(pushed: Mapping[str, str]) -> str:
    folder = {"branch": "heads", "tag": "tags"}[pushed["type"]]
    return f"refs/{folder}/{pushed['name']}"


# ---- CI --------------------------------------------------------------------------------------------------------------

PIPELINE = Pipeline(
    "bitbucket-pipelines.yml",
    """\
image: python:3.12
pipelines:
  pull-requests:
    "**":
      - step:
          name: validate
          script:
            - pip install -r requirements.txt
            - mvd validate
""",
)


# ---- the forge -------------------------------------------------------------------------------------------------------


def locate(address: Address) -> Location:
    repository, base_url = last_two_parts(address)
    return repository, "" if address.host == "bitbucket.org" else base_url


def page(base_url: str, repository: str, commit: str) -> str:
    return f"{WEB}/{urllib.parse.quote(repository)}/commits/{commit}"


FORGE = ForgeType(
    names={"bitbucket-cloud": ["bitbucket.org"]},
    connect=BitbucketCloud,
    states=STATES,
    authentic=authentic,
    event=event,
    page=page,
    locate=locate,
    pipelines={"bitbucket-cloud": PIPELINE},
)
