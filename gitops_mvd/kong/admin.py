"""Kong's Admin API over HTTP: one call, its deadline, and what a refusal means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError

from gitops_mvd.errors import StepFailed, Unavailable
from gitops_mvd.kong.compare import secrets
from gitops_mvd.kong.entities import Entity
from gitops_mvd.model import Json

PAGE = 1000  # the most that Kong gives at once
CONNECTIONS = 8
LOADING = 60.0  # s; a document of 1,000 services takes Kong 0.4 s, and it may be busy with another
PATHS = {
    "keyauth_credentials": "key-auths",
    "basicauth_credentials": "basic-auths",
    "hmacauth_credentials": "hmac-auths",
    "jwt_secrets": "jwts",
    "oauth2_credentials": "oauth2",
    "key_sets": "key-sets",
}


@dataclass(frozen=True)
class Page:
    """A part of a collection; two are the same if they were read from the same text."""

    text: bytes = field(repr=False)
    entries: Sequence[dict[str, Any]] = field(compare=False, repr=False)
    following: str = field(compare=False)  # path and query of the next page, "" for the last


class Admin:
    """The Admin API at `url`, by kept-alive connections; `token` goes into the header Kong-Admin-Token.

    Every method raises Unavailable where Kong does not answer, answers 5xx, or does not let us in, and StepFailed where
    it refuses what it was told.  Messages never have a secret in them: what Kong echoes of one is struck out.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the environment, no .netrc
        self._session.mount(self.url, HTTPAdapter(pool_maxsize=CONNECTIONS))
        if token:
            self._session.headers["Kong-Admin-Token"] = token

    def get(self, path: str, **params: str | int) -> Any:
        """The body of an answer; None where there is no such thing."""
        answer = self._call("GET", path, params=params)
        return None if answer.status_code == HTTPStatus.NOT_FOUND else self._body(answer, f"GET {path}", ())

    def entries(self, path: str) -> Iterator[dict[str, Any]]:
        """All entries of a collection."""
        return (entry for page in self.pages(path) for entry in page.entries)

    def pages(self, path: str, before: Iterable[Page] = (), **params: str) -> list[Page]:
        """A collection.  What is the same to the byte as a page of `before` is that page, and is not parsed again."""
        known = {page.text: page for page in before}
        pages: list[Page] = []
        following, asked = path, dict[str, str | int](params)
        while following:
            if "size=" not in following:  # Kong forgets it where it lists a tag
                asked["size"] = PAGE
            answer = self._call("GET", following, params=asked)
            if answer.status_code == HTTPStatus.NOT_FOUND:
                break
            pages.append(known.get(answer.content) or self._page(answer, f"GET {path}"))
            following, asked = pages[-1].following, {}
        return pages

    def _page(self, answer: requests.Response, what: str) -> Page:
        body = self._body(answer, what, ())
        return Page(answer.content, body["data"], body.get("next") or "")

    def check(self, entity: Entity) -> None:
        """Have Kong check an entity by its schema; nothing is written."""
        path = f"/schemas/{entity.type}/validate"
        answer = self._call("POST", path, json=entity.fields)
        if answer.status_code == HTTPStatus.NOT_FOUND:
            raise StepFailed(f"Kong has no {entity.type}", "is its plugin enabled there?")
        self._body(answer, str(entity), [entity])

    def write(self, method: str, path: str, entity: Entity, body: Json) -> bool:
        """Write one entity; False where Kong says that it clashes with another (409) or is not there (404)."""
        answer = self._call(method, path, json=body)
        if answer.status_code in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
            return False
        self._body(answer, str(entity), [entity])
        return True

    def delete(self, path: str) -> None:
        """Delete one entity; one that is not there is deleted."""
        answer = self._call("DELETE", path)
        if answer.status_code != HTTPStatus.NOT_FOUND:
            self._body(answer, f"DELETE {path}", ())

    def document(self) -> Any:
        """The whole configuration, as `{"config": YAML text}`."""
        return self._body(self._call("GET", "/config", timeout=LOADING), "GET /config", ())

    def load(self, document: str, entities: Iterable[Entity]) -> Any:
        """Make `document`, as JSON text, the whole configuration; None where it is that already."""
        body = {"config": document}
        answer = self._call("POST", "/config", params={"check_hash": 1}, json=body, timeout=LOADING)
        return None if answer.status_code == HTTPStatus.NOT_MODIFIED else self._body(answer, "its document", entities)

    def _call(
        self, method: str, path: str, timeout: float | None = None, *, again: bool = True, **more: Any
    ) -> requests.Response:
        seconds = timeout or self._timeout
        try:
            return self._session.request(method, self.url + path, timeout=seconds, allow_redirects=False, **more)
        except requests.Timeout as error:
            raise Unavailable(f"Kong at {self.url} does not answer within {seconds:g} s") from error
        except requests.ConnectionError as error:
            if again and error.args and isinstance(error.args[0], ProtocolError):
                # Kong has just closed the kept-alive connection; every call of ours may be made twice.
                return self._call(method, path, timeout, again=False, **more)
            raise Unavailable(f"Kong at {self.url} can not be reached") from error
        except requests.RequestException as error:
            raise Unavailable(f"Kong at {self.url} can not be asked: {type(error).__name__}") from error

    def _body(self, answer: requests.Response, what: str, sent: Iterable[Entity]) -> Any:
        code = answer.status_code
        if code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Unavailable(f"Kong at {self.url} does not let us in: HTTP {code}", "check `kong.token_file`")
        if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS:
            raise Unavailable(f"Kong at {self.url} answers HTTP {code}")
        if code >= HTTPStatus.BAD_REQUEST:
            raise StepFailed(f"Kong refuses {what}: {_struck_out(_said(answer), secrets(sent))}")
        if code == HTTPStatus.NO_CONTENT:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise Unavailable(f"what answers at {self.url} is not Kong's Admin API") from error


def _said(answer: requests.Response) -> str:
    """Kong's own words: the fields at fault, or its message."""
    try:
        body = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}"
    if not isinstance(body, Mapping):
        return f"HTTP {answer.status_code}"
    faults = list(_faults(body.get("fields") or {})) if answer.status_code == HTTPStatus.BAD_REQUEST else []
    return "; ".join(faults) or str(body.get("message") or f"HTTP {answer.status_code}")


def _faults(value: Any, path: str = "") -> Iterator[str]:
    match value:
        case Mapping():
            for key, below in value.items():
                yield from _faults(below, path if key == "@entity" else f"{path}.{key}" if path else str(key))
        case list():
            for index, below in enumerate(value):
                yield from _faults(below, path if isinstance(below, str) and len(value) == 1 else f"{path}[{index}]")
        case None:
            pass
        case _:
            yield f"{path}: {value}" if path else str(value)


def _struck_out(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted((secret for secret in secrets if len(secret) > 2), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
