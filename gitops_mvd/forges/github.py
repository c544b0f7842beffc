"""GitHub and GitHub Enterprise: commit statuses (https://docs.github.com/en/rest/commits/statuses)."""

from __future__ import annotations

import re
import time
import unicodedata
import urllib.parse

import requests

from gitops_mvd.errors import RateLimited, StepFailed, Unavailable
from gitops_mvd.model import CommitStatus, Health, Operation
from gitops_mvd.report import redact

LONGEST_DESCRIPTION = 140
TIMEOUT = (5.0, 20.0)  # seconds to connect, and between two bytes of the answer
LARGEST_ANSWER = 64 * 1024
JOINER = "\u200d"  # makes one character of two

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
    """One repository, `owner/name`, of the API at `base_url` (of an Enterprise server, `https://HOST/api/v3`)."""

    def __init__(self, repository: str, token: str, base_url: str = "https://api.github.com") -> None:
        self._where = f"GitHub at {urllib.parse.urlsplit(base_url).netloc}"
        self._repository = repository
        self._url = f"{base_url.rstrip('/')}/repos/{urllib.parse.quote(repository)}/statuses"
        self._token = token
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/vnd.github+json"
        self._session.headers["X-GitHub-Api-Version"] = "2022-11-28"
        self._session.auth = self._sign  # and so no login of a ~/.netrc

    def publish(self, commit: str, status: CommitStatus) -> None:
        body = {
            "state": STATES.get(status.operation) or STATES_OF_HEALTH[status.health],
            "context": status.context,
            "description": cut(status.description),
            "target_url": status.url or None,
        }
        try:
            answer = self._session.post(
                f"{self._url}/{urllib.parse.quote(commit, safe='')}",
                json=body,
                timeout=TIMEOUT,
                allow_redirects=False,
                stream=True,
            )
            with answer:
                said = next(answer.iter_content(LARGEST_ANSWER), b"").decode(errors="replace")
        except (requests.RequestException, OSError, ValueError) as error:  # whose text may hold the token
            raise Unavailable(f"{self._where} does not answer: {type(error).__name__}") from None
        self._judge(answer, redact(said, [self._token]))

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request

    def _judge(self, answer: requests.Response, said: str) -> None:
        """Raises what an answer means."""
        code = answer.status_code
        if code == 201:
            return
        pause = _pause(answer)
        if code == 429 or (code == 403 and (pause or "rate limit" in said.lower())):
            pause = pause or 60.0
            raise RateLimited(f"{self._where} allows no more requests for {pause:.0f} s", pause)
        if code >= 500 or code == 408:
            raise Unavailable(f"{self._where} answered {code}")
        raise StepFailed(*self._refusal(code, said))

    def _refusal(self, code: int, said: str) -> tuple[str, str]:
        """What went wrong for good, and what to do about it."""
        if code == 401:
            return f"{self._where} refused the token", "it may have been revoked, or have expired"
        if code in (403, 404):
            return (
                f"{self._where} lets nobody with this token post statuses to {self._repository}",
                "check the repository's name, and that the token may write commit statuses",
            )
        if code in (301, 302, 307, 308):
            return f"{self._where} says that {self._repository} has moved", "put its new name into the settings"
        if code == 422 and "maximum number of statuses" in said:
            return f"{self._where} takes no more than 1000 statuses of one context for a commit", ""
        if code == 422 and "No commit found" in said:
            return (
                f"{self._where} does not know the commit",
                "is the mirrored repository the one that gets the statuses?",
            )
        return f"{self._where} answered {code}: {_first_words(said)}", ""


def connect(repository: str, token: str, base_url: str = "https://api.github.com") -> GitHub:
    return GitHub(repository, token, base_url)


def cut(text: str) -> str:
    """At most as many characters as GitHub takes, with … in place of more, and nothing of a character cut off."""
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)
    if len(text) <= LONGEST_DESCRIPTION:
        return text
    end = LONGEST_DESCRIPTION - 1
    while end and (unicodedata.category(text[end])[0] == "M" or JOINER in text[end - 1 : end + 1]):
        end -= 1
    return text[:end].rstrip() + "…"


def _pause(answer: requests.Response) -> float:
    """For how many seconds GitHub asks to be left alone, 0 where it does not.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    given = answer.headers
    if given.get("Retry-After", "").isdecimal():
        return float(given["Retry-After"])
    if given.get("X-RateLimit-Remaining") == "0" and given.get("X-RateLimit-Reset", "").isdecimal():
        return max(1.0, float(given["X-RateLimit-Reset"]) - time.time())
    return 0.0


def _first_words(said: str) -> str:
    """The beginning of an answer, which may as well be a page of HTML."""
    return " ".join(re.sub(r"<[^>]*>", " ", said).split())[:200]
