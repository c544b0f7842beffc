"""Bitbucket Data Center, from 7.4 on (https://developer.atlassian.com/server/bitbucket/rest/).

Its build statuses: https://developer.atlassian.com/server/bitbucket/how-tos/updating-build-status-for-commits/
"""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypedDict

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedStatus, PullRequest
from gitops_mvd.forges import ForgeType, StateNames, newest
from gitops_mvd.forges.api import Account, Api, Explanation, Query, Refused, cut, cut_text, login, signing
from gitops_mvd.forges.api.address import Address, Location, last_two_parts

LONGEST = 255  # of the key, the name and the description
LONGEST_URL = 450
LONGEST_COMMENT = 32767  # https://github.com/jfrog/froggit-go/pull/133
MOST = 100  # pull requests, or of anything on one page
TRIES = 3  # to change a comment that somebody else changes too

STATES = StateNames(
    {
        Operation.RUNNING: "INPROGRESS",
        Operation.FAILED: "FAILED",
        Operation.ROLLED_BACK: "FAILED",
        Operation.ROLLBACK_FAILED: "FAILED",
        Operation.SUPERSEDED: "CANCELLED",
    },
    {
        Health.HEALTHY: "SUCCESSFUL",
        Health.PROGRESSING: "INPROGRESS",
        Health.DEGRADED: "FAILED",
        Health.MISSING: "FAILED",
        Health.SUSPENDED: "CANCELLED",
        Health.UNKNOWN: "UNKNOWN",
    },
)
EVENTS = {
    "repo:refs_changed": "push",
    "pr:opened": "pull_request",
    "pr:from_ref_updated": "pull_request",
    "pr:to_ref_updated": "pull_request",
    "pr:modified": "pull_request",
    "pr:merged": "pull_request",
    "pr:declined": "pull_request",
    "pr:deleted": "pull_request",
    "diagnostics:ping": "ping",
}


class BitbucketDataCenter:
    """One repository, `PROJECT/slug` or `~user/slug`, of the server at the base URL.

    The token is an HTTP access token; with a `username` it is that one's password.
    """

    def __init__(self, account: Account) -> None:
        self._name = account.repository
        self._base = account.base_url.rstrip("/")
        project, _, slug = account.repository.partition("/")
        self._path = f"projects/{urllib.parse.quote(project, safe='~')}/repos/{urllib.parse.quote(slug, safe='')}"
        self._repository = f"/rest/api/latest/{self._path}"

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
        """Without a `ref`: that would bind the status to one branch, and it is the commit that it tells of."""
        commit = urllib.parse.quote(commit, safe="")
        is_link = status.url.startswith(("https://", "http://")) and len(status.url) <= LONGEST_URL
        body = {
            "key": _key(status.context),
            "name": cut(status.context, _room(status.context, LONGEST)),
            "state": STATES.of(status),
            "description": cut(status.description, _room(status.description, LONGEST)),
            "url": status.url if is_link else f"{self._base}/{self._path}/commits/{commit}",  # there must be one
        }
        self._api.ask("POST", f"{self._repository}/commits/{commit}/builds", f"post statuses to {self._name}", body)

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        """By the commit alone, as builds of one repository are told one key at a time.

        So a commit that is nowhere has none, and forks can post here, too: who may fork can post a green status.
        https://docs.atlassian.com/bitbucket-server/javadoc/7.17.0/api/com/atlassian/bitbucket/build/BuildStatusService.html
        """
        commit = urllib.parse.quote(commit, safe="")
        to = f"read statuses of {self._name}"
        with self._api.reading():
            read = newest(_posted(build) for build in self._all(f"/rest/build-status/latest/commits/{commit}", to, {}))
        if not read:
            self._api.ask("GET", f"{self._repository}/commits/{commit}", to)
        return read

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        query: Query = {
            "state": "OPEN",
            "at": f"refs/heads/{branch}",
            "direction": "INCOMING",
            "order": "NEWEST",
        }
        found = self._all(f"{self._repository}/pull-requests", f"list pull requests of {self._name}", query)
        with self._api.reading():
            return [_pull_request(pull) for pull in islice(found, MOST)]

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        of = f"{self._repository}/pull-requests/{pull_request.number}"
        to = f"comment on pull requests of {self._name}"
        text = cut_text(text, _room(text, LONGEST_COMMENT))
        known = known or self._find_comment(of, text.partition("\n")[0], to)
        if known and self._rewrite(f"{of}/comments/{urllib.parse.quote(known, safe='')}", text, to):
            return known
        made = self._api.ask("POST", f"{of}/comments", to, {"text": text})
        with self._api.reading():
            return str(made["id"])

    def _rewrite(self, path: str, text: str, to: str) -> bool:
        """Change a comment; False where it is gone.  It is refused to who has not seen its last version."""
        for _ in range(TRIES):
            try:
                seen = self._api.ask("GET", path, to)
                with self._api.reading():
                    body = {"text": text, "version": seen["version"]}
                self._api.ask("PUT", path, to, body)
                return True
            except Refused as error:
                if error.code == 404:
                    return False
                if error.code != 409:
                    raise
        raise Unavailable(f"{self._api.where} has somebody else write the same comment")

    def _find_comment(self, of: str, first_line: str, to: str) -> str:
        """Comments are listed with all else that happened, and in no other way."""
        with self._api.reading():
            for activity in self._all(f"{of}/activities", to, {}):
                if activity["action"] == "COMMENTED" and first_line == _first_line(activity["comment"]["text"]):
                    return str(activity["comment"]["id"])
        return ""

    def _all(self, path: str, to: str, query: Query) -> Iterator[Any]:
        """Everything on all pages."""
        start = 0
        for _ in self._api.pages(to):
            page = self._api.ask("GET", path, to, query={**query, "limit": MOST, "start": start})
            yield from page["values"]
            if page["isLastPage"]:
                return
            start = int(page["nextPageStart"])

    def _explain(self, code: int, said: str) -> Explanation | None:
        if code == 404 and "NoSuchCommitException" in said:
            return self._api.unknown_commit
        return None


def _key(context: str) -> str:
    """What tells statuses apart: not cut off where it is too long, as hosts are often alike but for the end."""
    return context if len(context) <= _room(context, LONGEST) else hashlib.sha256(context.encode()).hexdigest()


def _room(text: str, most: int) -> int:
    """How many characters of a text fit where those beyond U+FFFF count twice, as they do in Java."""
    return most - sum(c > "\uffff" for c in text[:most])


def _posted(build: Mapping[str, Any]) -> PostedStatus:
    """Its name is our context, its key may be a digest of it; its time is in milliseconds."""
    context, description, url = build.get("name") or build["key"], build.get("description") or "", build["url"]
    return PostedStatus(context, STATES.read(build["state"]), description, url or "", build["dateAdded"] / 1000)


def _first_line(text: str) -> str:
    return text.partition("\n")[0].rstrip()


class _Repository(TypedDict):
    id: int


class _Ref(TypedDict):
    latestCommit: str
    repository: _Repository


class _Pull(TypedDict):
    id: int
    fromRef: _Ref
    toRef: _Ref


def _pull_request(pull: _Pull) -> PullRequest:
    """The ref of a pull request leads to its head, be that in a fork:
    https://gist.github.com/DmitriyRF/73278cb02894c63ae175b3e973109891
    """
    is_fork = pull["fromRef"]["repository"]["id"] != pull["toRef"]["repository"]["id"]
    return PullRequest(pull["id"], pull["fromRef"]["latestCommit"], f"refs/pull-requests/{pull['id']}/from", is_fork)


# ---- webhooks --------------------------------------------------------------------------------------------------------


def authentic(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """https://confluence.atlassian.com/bitbucketserver0812/manage-webhooks-1272382316.html"""
    wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("x-hub-signature", "").encode(errors="replace"), wanted.encode())


def event(headers: Mapping[str, str], body: bytes) -> Event:
    """https://confluence.atlassian.com/bitbucketserver0815/event-payload-1319571452.html

    What is written about a pull request is none, or our own comments would have us look again.
    """
    kind = EVENTS.get(headers.get("x-event-key", ""), "other")
    return Event(kind, _pushed(body) if kind == "push" else "")


def _pushed(body: bytes) -> str:
    """The ref that was pushed; "" where it were several, any of which may be the one that is followed."""
    try:
        refs = {change["refId"] for change in json.loads(body)["changes"]}
    except (ValueError, RecursionError, LookupError, TypeError):
        return ""
    ref = refs.pop() if len(refs) == 1 else ""
    return ref if isinstance(ref, str) else ""


# ---- the forge -------------------------------------------------------------------------------------------------------


def locate(address: Address) -> Location:
    """https://HOST/CONTEXT/scm/PROJECT/slug.git; over ssh it is said without `scm`."""
    parts = address.parts
    if "scm" not in parts[:-2]:
        return last_two_parts(address)
    place = parts.index("scm")
    return "/".join(parts[place + 1 :]), address.base_url(parts[:place])


def page(base_url: str, repository: str, commit: str) -> str:
    project, _, slug = repository.partition("/")
    path = f"projects/{urllib.parse.quote(project, safe='~')}/repos/{urllib.parse.quote(slug, safe='')}"
    return f"{base_url.rstrip('/')}/{path}/commits/{commit}"


FORGE = ForgeType(
    names={"bitbucket-dc": []},
    connect=BitbucketDataCenter,
    states=STATES,
    authentic=authentic,
    event=event,
    page=page,
    locate=locate,
)
