"""The HTTP API of a forge, as far as all of them are alike: a question ends in JSON, or in one of our errors.

Every question has a deadline, no redirect is followed, an answer is read up to a limit, and the token is in no message.
The certificates that are trusted are the machine's own, those of a private authority among them, as Git's are.
"""

from __future__ import annotations

import base64
import json
import time
import unicodedata
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gitops_mvd.core.errors import RateLimited, StepFailed, Unavailable, reading
from gitops_mvd.core.redact import redact
from gitops_mvd.core.text import first_words, plain_line
from gitops_mvd.forges.api.limits import PREFIXES, note, number
from gitops_mvd.net.line import limit
from gitops_mvd.net.reasons import NOT_TRUSTED, reason

if TYPE_CHECKING:
    import requests  # loaded by who asks something: the settings only need to know which forges there are

TIMEOUT = (5.0, 20.0)  # seconds to connect, and between two bytes of the answer
WITHIN = 60.0  # seconds for all of an answer, and for all pages of a list
LARGEST_ANSWER = 16 * 1024 * 1024
MOST_PAGES = 100
PAUSE = 60.0  # seconds, where a forge wants fewer requests and does not say from when on
LONGEST_PAUSE = 3600.0  # seconds, whatever a forge asks for
REMEMBERED = 64  # answers that need not be sent again while they are the same
JOINER = "\u200d"  # makes one character of two

Sign = Callable[["requests.PreparedRequest"], "requests.PreparedRequest"]
Query = Mapping[str, str | int]
Explanation = tuple[str, str]  # what is wrong, and what to do about it


@dataclass(frozen=True)
class Account:
    """How one forge is reached for one repository: `base_url` "" is the forge's own public one.

    The token is asked for anew at each request, as that of a GitHub App changes; with a `username` it is its password.
    `renew` is called with a token that was refused, and returns whether there is another one now.
    `branch` is the one that is followed, for a forge that shows the statuses of a branch.  `within` is the seconds that
    an answer may take, and all pages of a list.  `ca_file` has the authority that is trusted, "" for
    those of this machine.
    """

    repository: str
    token: Callable[[], str] = field(repr=False)
    base_url: str = ""
    username: str = ""
    renew: Callable[[str], bool] = field(default=lambda refused: False, repr=False)
    branch: str = ""
    within: float = WITHIN
    ca_file: str = ""


def basic(account: Account) -> str:
    """The Authorization header with the token as the password of the account's user, who may be nobody."""
    return f"Basic {base64.b64encode(f'{account.username}:{account.token()}'.encode()).decode()}"


def login(account: Account) -> str:
    """The Authorization header with the token by itself or, where there is a user, as that one's password."""
    return basic(account) if account.username else f"Bearer {account.token()}"


def signing(header: Callable[[], str]) -> Sign:
    """Puts an Authorization header into each request, made anew each time."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = header()
        return request

    return sign


class Refused(StepFailed):
    """The forge has understood, and will not do it: its HTTP status `code`, and what it `said`."""

    def __init__(self, message: str, hint: str, code: int, said: str) -> None:
        super().__init__(message, hint)
        self.code = code
        self.said = said


class UnknownCommit(Refused):
    """The login may post statuses; this is none of the repository's commits."""


class Broken(Unavailable):
    """The forge answered with an error of its own, of the HTTP status `code`."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """The API of the forge `name` at `base_url`.  `sign` puts the login into a request; `secrets` are never told.

    `denied` are the status codes that say that the token is not taken.
    `explain` gives a forge's own meaning of a status code and what was said with it, None where that is what all mean.
    `renew` is shown a request whose login was refused: will `sign` put another one into it now?  It is then sent again.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        sign: Sign,
        secrets: Callable[[], list[str]],
        *,
        headers: Mapping[str, str] | None = None,
        denied: Sequence[int] = (401,),
        explain: Callable[[int, str], Explanation | None] = lambda code, said: None,
        renew: Callable[[requests.PreparedRequest], bool] = lambda refused: False,
        within: float = WITHIN,
        ca_file: str = "",
    ) -> None:
        self.where = f"{name} at {urllib.parse.urlsplit(base_url).netloc}"
        self.unknown_commit: Explanation = (
            f"{self.where} does not know the commit",
            "is the mirrored repository the one that gets the statuses?",
        )
        self._url = base_url.rstrip("/")
        self._secrets = secrets
        self._denied = denied
        self._explain = explain
        self._renew = renew
        self._within = within
        from gitops_mvd.net.adapter import session

        self._session = session()
        self._trusted = ca_file or self._session.verify
        self._session.headers.update(headers or {})
        self._session.auth = sign  # and so no login of a ~/.netrc
        self._seen: dict[str, tuple[str, Any]] = {}  # URL -> ETag and answer

    def ask(
        self, method: str, path: str, to: str, body: Any = None, query: Mapping[str, str | int] | None = None
    ) -> Any:
        """One question; `to` is what it is for, in words: `post statuses to acme/config`.  Returns the JSON answered.

        Raises Unavailable, RateLimited or Refused.  `path` is appended to the base URL, quoted by the caller.
        """
        url = f"{self._url}{path}{'?' + urllib.parse.urlencode(query) if query else ''}"
        known = self._seen.get(url) if method == "GET" else None
        headers = {"If-None-Match": known[0]} if known else {}
        answer, said = self._send(method, url, body, headers)
        if answer.status_code in self._denied and self._renew(answer.request):
            answer, said = self._send(method, url, body, headers)
        if answer.status_code == 304 and known:
            return known[1]
        self._judge(answer, redact(said.decode(errors="replace"), self._secrets()), to)
        value = self._understand(said)
        if method == "GET" and (tag := answer.headers.get("ETag")):
            self._seen.pop(url, None)
            self._seen[url] = tag, value
            for oldest in list(self._seen)[:-REMEMBERED]:
                del self._seen[oldest]
        return value

    def _send(self, method: str, url: str, body: Any, headers: Mapping[str, str]) -> tuple[requests.Response, bytes]:
        """One request, and all of its answer."""
        import requests

        from gitops_mvd.net.adapter import content

        try:
            with (
                limit(self._within, 2 * LARGEST_ANSWER),
                self._session.request(
                    method,
                    url,
                    json=body,
                    headers=headers,
                    timeout=TIMEOUT,
                    allow_redirects=False,
                    stream=True,
                    verify=self._trusted,  # said here, as requests takes $REQUESTS_CA_BUNDLE before what a session says
                ) as answer,
            ):
                note(self.where, answer.headers)
                return answer, content(answer, LARGEST_ANSWER)
        except (requests.RequestException, OSError, ValueError) as error:  # whose text may hold the token
            why = reason(error)
            hint = "set `forge.ca_file` to the authority that signed it" if why == NOT_TRUSTED else ""
            raise Unavailable(f"{self.where} does not answer: {why}", hint) from None

    def reading(self) -> AbstractContextManager[None]:
        """Inside, an answer of another shape than the forge documents is one that says nothing."""
        return reading(self.where)

    def pages(self, to: str) -> Iterator[int]:
        """The numbers of the pages of a list, from 1.  Raises Unavailable where there is no end of them."""
        ends = time.monotonic() + self._within
        for page in range(1, MOST_PAGES + 1):
            if time.monotonic() > ends:
                raise Unavailable(f"{self.where} takes more than {self._within:g} s for all pages to {to}")
            yield page
        raise Unavailable(f"{self.where} lists more than {MOST_PAGES} pages to {to}")

    def _understand(self, said: bytes) -> Any:
        """A page of HTML in place of JSON is somebody else's: a login page, or that of a proxy in front."""
        try:
            return json.loads(said) if said.strip() else None
        except (ValueError, RecursionError):
            raise Unavailable(
                f"{self.where} answered with something else than JSON: {first_words(said.decode(errors='replace'))}",
                "is it the address of the API, and not of the web page?",
            ) from None

    def _judge(self, answer: requests.Response, said: str, to: str) -> None:
        """Raises what an answer means that is no success."""
        code = answer.status_code
        if code in self._denied:  # mended by a new token, and what waits for it is not lost
            refusal = f"{self.where} refused the token", "it may have been revoked, or have expired"
            raise Unavailable(*(self._explain(code, said) or refusal))
        if 200 <= code < 300:
            return
        pause = _pause(answer)
        if code == 429 or (code == 403 and (pause or "rate limit" in said.lower())):
            pause = pause or PAUSE
            raise RateLimited(f"{self.where} allows no more requests for {pause:.0f} s", pause)
        if code >= 500 or code == 408:
            if pause:
                raise RateLimited(f"{self.where} answered {code}", pause)
            raise Broken(f"{self.where} answered {code}", code)
        explained = self._explain(code, said) or self._refusal(code, said, to)
        raise (UnknownCommit if explained is self.unknown_commit else Refused)(*explained, code, said)

    def _refusal(self, code: int, said: str, to: str) -> Explanation:
        """What went wrong for good, and what to do about it."""
        if code in (403, 404):
            hint = "check the repository's name, and what the token is allowed to do"
            return f"{self.where} does not let this token {to}", hint
        if 300 <= code < 400:
            return f"{self.where} has moved what it takes to {to}", "put the new name or address into the settings"
        return f"{self.where} answered {code}: {first_words(said)}", ""


def moment(text: str) -> float:
    """Seconds since 1970 of a time as forges write it: `2026-11-30T20:46:17Z`.  One without a zone is in UTC."""
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def cut(text: str, most: int) -> str:
    """At most `most` characters, with … in place of more, and nothing of a character cut off; in one line."""
    text = plain_line(text)
    if len(text) <= most:
        return text
    end = most - 1
    while end and (unicodedata.category(text[end])[0] == "M" or JOINER in text[end - 1 : end + 1]):
        end -= 1
    return text[:end].rstrip() + "…"


def cut_text(text: str, most: int) -> str:
    """At most `most` characters of a text of many lines, the last of which then says that there was more."""
    if len(text) <= most:
        return text
    return text[: most - 2].rpartition("\n")[0] + "\n…"


def _pause(answer: requests.Response) -> float:
    """For how many seconds a forge asks to be left alone, 0 where it does not.

    `Retry-After` is HTTP's own; the other two pairs are GitHub's and GitLab's:
    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/
    """
    given = answer.headers
    if seconds := number(given.get("Retry-After", "")):
        return min(LONGEST_PAUSE, float(seconds))
    for kind in PREFIXES:
        resets = number(given.get(f"{kind}-Reset", ""))
        if number(given.get(f"{kind}-Remaining", "")) == 0 and resets:
            return min(LONGEST_PAUSE, max(1.0, resets - time.time()))
    return 0.0
