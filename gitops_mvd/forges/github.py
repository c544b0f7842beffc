"""GitHub and GitHub Enterprise (https://docs.github.com/en/rest)."""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

import requests

from gitops_mvd.api import Account, Api, Explanation, Query, Refused, cut, cut_text
from gitops_mvd.model import CommitStatus, Event, Health, Operation, Proposal

PUBLIC = "https://api.github.com"
LONGEST_DESCRIPTION = 140
MOST = 100  # on one page
LONGEST_COMMENT = 65536

STATES = {
    Operation.RUNNING: "pending",
    Operation.FAILED: "failure",
    Operation.ROLLED_BACK: "failure",
    Operation.ROLLBACK_FAILED: "failure",
    Operation.SUPERSEDED: "error",
}
STATES_OF_HEALTH = {  # once it succeeded
    Health.HEALTHY: "success",
    Health.PROGRESSING: "pending",
    Health.DEGRADED: "failure",
    Health.MISSING: "failure",
    Health.SUSPENDED: "error",
    Health.UNKNOWN: "error",
}


class GitHub:
    """One repository, `owner/name`, of the API at the base URL (of an Enterprise server, `https://HOST/api/v3`)."""

    def __init__(self, account: Account) -> None:
        self._name = account.repository
        self._repository = f"/repos/{urllib.parse.quote(account.repository)}"

        def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {account.token()}"
            return request

        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        self._api = Api(
            "GitHub",
            account.base_url or PUBLIC,
            sign,
            lambda: [account.token()],
            headers=headers,
            explain=self._explain,
        )

    def publish(self, commit: str, status: CommitStatus) -> None:
        body = {
            "state": STATES.get(status.operation) or STATES_OF_HEALTH[status.health],
            "context": status.context,
            "description": cut(status.description, LONGEST_DESCRIPTION),
            "target_url": status.url or None,
        }
        path = f"{self._repository}/statuses/{urllib.parse.quote(commit, safe='')}"
        self._api.ask("POST", path, f"post statuses to {self._name}", body)

    def proposals(self, branch: str) -> Sequence[Proposal]:
        query: Query = {"state": "open", "base": branch, "sort": "created", "direction": "desc", "per_page": MOST}
        found = self._api.ask("GET", f"{self._repository}/pulls", f"list pull requests of {self._name}", query=query)
        with self._api.reading():
            return [_proposal(pull) for pull in found]

    def comment(self, proposal: Proposal, text: str, known: str) -> str:
        of = f"{self._repository}/issues"
        to = f"comment on pull requests of {self._name}"
        body = {"body": cut_text(text, LONGEST_COMMENT)}
        made = None
        if known := known or self._find_comment(proposal, text.partition("\n")[0], to):
            try:
                made = self._api.ask("PATCH", f"{of}/comments/{known}", to, body)
            except Refused as error:
                if error.code != 404:
                    raise
        made = made or self._api.ask("POST", f"{of}/{proposal.number}/comments", to, body)
        with self._api.reading():
            return str(made["id"])

    def _find_comment(self, proposal: Proposal, first_line: str, to: str) -> str:
        path = f"{self._repository}/issues/{proposal.number}/comments"
        page = 1
        while found := self._api.ask("GET", path, to, query={"per_page": MOST, "page": page}):
            with self._api.reading():
                for comment in found:
                    if first_line == comment["body"].splitlines()[0]:
                        return str(comment["id"])
            page += 1
        return ""

    def _explain(self, code: int, said: str) -> Explanation | None:
        if code in (301, 302, 307, 308):
            return f"{self._api.where} says that {self._name} has moved", "put its new name into the settings"
        if code == 422 and "maximum number of statuses" in said:
            return f"{self._api.where} takes no more than 1000 statuses of one context for a commit", ""
        if code == 422 and "No commit found" in said:
            hint = "is the mirrored repository the one that gets the statuses?"
            return f"{self._api.where} does not know the commit", hint
        return None


def connect(account: Account) -> GitHub:
    return GitHub(account)


def _proposal(pull: Mapping[str, Any]) -> Proposal:
    """A fork that was deleted meanwhile has no repository any more."""
    head, base = pull["head"], pull["base"]
    is_fork = not head["repo"] or head["repo"]["full_name"] != base["repo"]["full_name"]
    return Proposal(pull["number"], head["sha"], f"refs/pull/{pull['number']}/head", is_fork)


# ---- webhooks --------------------------------------------------------------------------------------------------------


def authentic(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    wanted = "sha256=" + hmac.new(secret.encode(errors="replace"), body, hashlib.sha256).hexdigest()
    given = headers.get("x-hub-signature-256", "")
    return bool(secret) and hmac.compare_digest(given.encode(errors="replace"), wanted.encode())


def event(headers: Mapping[str, str], body: bytes) -> Event:
    """https://docs.github.com/en/webhooks/webhook-events-and-payloads"""
    match headers.get("x-github-event", ""):
        case "push":
            return Event("push", _pushed(headers, body))
        case "pull_request":
            return Event("proposal")
        case "ping":
            return Event("ping")
        case _:
            return Event("other")


def _pushed(headers: Mapping[str, str], body: bytes) -> str:
    """The ref, from JSON or from the form that GitHub can put that in; "" where there is none to be read."""
    try:
        if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            body = urllib.parse.parse_qs(body, max_num_fields=10).get(b"payload", [b""])[0]
        ref = json.loads(body)["ref"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return ""
    return ref if isinstance(ref, str) else ""
