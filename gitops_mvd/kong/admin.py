"""Kong's Admin API over HTTP: one call, its deadline, and what a refusal means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Json
from gitops_mvd.kong.compare import secrets
from gitops_mvd.kong.entities import Entity
from gitops_mvd.kong.transport import SHOWN, Answer, Certificates, Wire

PAGE = 1000  # the most that Kong gives at once
CONNECTIONS = 8
# What Kong says of what it does not have.  A proxy before it, which Kong itself may be, has other words.
NOT_THERE = re.compile(r"(SNI )?not found|no \w+ named .*", re.IGNORECASE)
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
    """The Admin API at `url`, by kept-alive connections; `token` goes into the header `token_header`.

    Every method raises Unavailable where Kong does not answer, answers 5xx, does not let us in, or where somebody else
    answers, and StepFailed where Kong refuses what it was told.  Messages never have a secret in them: what Kong echoes
    of one is struck out.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        timeout: float = 5.0,
        *,
        token_header: str = "Kong-Admin-Token",
        certificates: Certificates | None = None,
    ) -> None:
        """Raises Unavailable for certificates that can not be read, and for a token that no header may have."""
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._wire = Wire(self.url, "Kong", certificates or Certificates(), connections=CONNECTIONS)
        if token and not SHOWN.fullmatch(token):
            raise Unavailable("the token for Kong is not one line of plain characters", "see `kong.token_file`")
        self._headers = {"Accept": "application/json", **({token_header: token} if token else {})}

    def get(self, path: str, **params: str | int) -> Any:
        """The body of an answer; None where there is no such thing."""
        answer = self._call("GET", path, params=params)
        return None if answer.status == HTTPStatus.NOT_FOUND else self._body(answer, f"GET {path}", ())

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
            if answer.status == HTTPStatus.NOT_FOUND:
                break
            pages.append(known.get(answer.content) or self._page(answer, f"GET {path}"))
            following, asked = pages[-1].following, {}
        return pages

    def _page(self, answer: Answer, what: str) -> Page:
        body = self._body(answer, what, ())
        return Page(answer.content, body["data"], body.get("next") or "")

    def check(self, entity: Entity) -> None:
        """Have Kong check an entity by its schema; nothing is written."""
        path = f"/schemas/{entity.type}/validate"
        answer = self._call("POST", path, body=entity.fields)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise StepFailed(f"Kong has no {entity.type}", "is its plugin enabled there?")
        self._body(answer, str(entity), [entity])

    def write(self, method: str, path: str, entity: Entity, body: Json) -> bool:
        """Write one entity; False where Kong says that it clashes with another (409) or is not there (404)."""
        answer = self._call(method, path, body=body)
        if answer.status in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND}:
            return False
        self._body(answer, str(entity), [entity])
        return True

    def delete(self, path: str) -> None:
        """Delete one entity; one that is not there is deleted."""
        answer = self._call("DELETE", path)
        if answer.status != HTTPStatus.NOT_FOUND:
            self._body(answer, f"DELETE {path}", ())

    def document(self) -> Any:
        """The whole configuration, as `{"config": YAML text}`."""
        return self._body(self._call("GET", "/config", LOADING), "GET /config", ())

    def load(self, document: str, entities: Iterable[Entity]) -> Any:
        """Make `document`, as JSON text, the whole configuration; None where it is that already."""
        answer = self._call("POST", "/config", LOADING, params={"check_hash": 1}, body={"config": document})
        return None if answer.status == HTTPStatus.NOT_MODIFIED else self._body(answer, "its document", entities)

    def _call(
        self,
        method: str,
        path: str,
        timeout: float | None = None,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Any = None,
    ) -> Answer:
        """Every call of ours may be made twice."""
        headers, content = self._headers, None
        if body is not None:
            headers, content = {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()
        target = f"{path}{'&' if '?' in path else '?'}{urlencode(params)}" if params else path
        answer = self._wire.ask(method, target, headers, content, within=timeout or self._timeout)
        if answer.status == HTTPStatus.NOT_FOUND and not NOT_THERE.fullmatch(answer.message):
            raise self._somebody_else(answer)  # and so there may well be such a thing
        return answer

    def _body(self, answer: Answer, what: str, sent: Iterable[Entity]) -> Any:
        code = answer.status
        if code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Unavailable(f"Kong at {self.url} does not let us in: HTTP {code}", "check `kong.token_file`")
        if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS:
            told = f": {answer.message}" if answer.message else ""
            hint = "its own log says why" if code == HTTPStatus.INTERNAL_SERVER_ERROR else ""
            raise Unavailable(f"Kong at {self.url} answers HTTP {code} to {what}{told}", hint)
        if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise StepFailed(
                f"Kong refuses {what}: it is too large", "`nginx_admin_client_max_body_size` in its settings"
            )
        if code >= HTTPStatus.BAD_REQUEST:
            if not answer.message and not _fields(answer):
                raise self._somebody_else(answer)
            raise StepFailed(f"Kong refuses {what}: {_struck_out(_said(answer), secrets(sent))}")
        if code == HTTPStatus.NO_CONTENT:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise self._somebody_else(answer) from error

    def _somebody_else(self, answer: Answer) -> Unavailable:
        """Who stands before Kong, such as its nginx, a proxy or another program, does not speak for it."""
        said = answer.message or _title(answer.content)
        told = f": {said}" if said else ""
        return Unavailable(
            f"what answers at {self.url} is not Kong's Admin API: HTTP {answer.status}{told}", HINTS.get(said, "")
        )


HINTS = {
    "400 No required SSL certificate was sent": "`kong.cert_file` and `kong.key_file`",
    "400 The SSL certificate error": "it does not accept our `kong.cert_file`",
    "400 The plain HTTP request was sent to HTTPS port": "`kong.admin` has to begin with https://",
}


def _title(page: bytes) -> str:
    """What a page of HTML has in its title."""
    found = re.search(rb"<title>([^<]{1,200})</title>", page, re.IGNORECASE)
    return " ".join(found[1].decode(errors="replace").split()) if found else ""


def _fields(answer: Answer) -> Any:
    try:
        body = answer.json()
    except ValueError:
        return None
    return body.get("fields") if isinstance(body, Mapping) else None


def _said(answer: Answer) -> str:
    """Kong's own words: the fields at fault, or its message."""
    faults = list(_faults(_fields(answer) or {})) if answer.status == HTTPStatus.BAD_REQUEST else []
    return "; ".join(faults) or answer.message or f"HTTP {answer.status}"


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
