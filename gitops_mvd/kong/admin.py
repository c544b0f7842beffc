"""Kong's Admin API: its calls, its pages, and what its errors mean."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlencode

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.compare import secrets
from gitops_mvd.kong.entities import Entity, Fields, is_entity
from gitops_mvd.kong.transport import HEADER_VALUE, Answer, Certificates, Transport

MAX_PAGE_SIZE = 1000  # entities; Kong gives no more at once
MAX_PAGES = 1000  # of one collection
MAX_CONNECTIONS = 8
QUESTIONS_PER_WORKER = 4  # the kernel gives a new connection to any worker
MAX_QUESTIONS = 32  # a Kong has a worker for each processor
# Kong's own messages with a 404.  A proxy before it, which Kong itself may be, has other words.
NOT_FOUND_MESSAGE = re.compile(r"(SNI )?not found|no \w+ named .*", re.IGNORECASE)
NO_LICENSE = re.compile("enterprise license", re.IGNORECASE)  # of Kong Enterprise, which then answers no write
# For all pages of a collection, and for a document: one of 1,000 services takes Kong 0.4 s, if it is not busy.
LOAD_TIMEOUT_SECONDS = 60.0
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
    """A part of a collection; two are equal if they were read from the same text."""

    text: bytes = field(repr=False)
    entries: Sequence[Fields] = field(compare=False, repr=False)
    next: str = field(compare=False)  # path and query of the next page, "" for the last


class Admin:
    """The Admin API at `url`, by a few kept-alive connections; `token` goes into the header `token_header`.

    Every method raises Unavailable if Kong does not answer, answers 5xx or denies access, or if something else answers
    in its place, and StepFailed if Kong rejects a request.  Messages never have a secret in them: Kong's echo of one is
    masked.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        timeout: float = 5.0,
        *,
        token_header: str = "Kong-Admin-Token",
        certificates: Certificates | None = None,
        page_size: int = MAX_PAGE_SIZE,
    ) -> None:
        """Raises Unavailable for certificates that cannot be read, and for a token that no header may have."""
        self.url = url.rstrip("/")
        self._timeout = timeout
        self._page_size = page_size
        certificates = certificates or Certificates()
        self._transport = Transport(self.url, "Kong", certificates, connections=MAX_CONNECTIONS)
        self._free = threading.Semaphore(MAX_CONNECTIONS)
        self._new_connections = Transport(self.url, "Kong", certificates)
        if token and not HEADER_VALUE.fullmatch(token):
            raise Unavailable("the token for Kong is not one line of plain characters", "see `kong.token_file`")
        self._headers = {"Accept": "application/json", **({token_header: token} if token else {})}

    def get(self, path: str) -> Fields | None:
        """The body of an answer; None if Kong has no such thing."""
        answer = self._call("GET", path)
        return None if answer.status == HTTPStatus.NOT_FOUND else self._body(answer, f"GET {path}", ())

    def entries_of_a_worker(self, path: str) -> list[Fields]:
        """All entries of a collection, as whichever worker of Kong sees them that takes a new connection."""
        return [entry for page in self.pages(path, by_new_connection=True) for entry in page.entries]

    def entries(self, path: str) -> Iterator[Fields]:
        """All entries of a collection; none if Kong has no such collection."""
        return (entry for page in self.pages(path) for entry in page.entries)

    def pages(
        self,
        path: str,
        before: Iterable[Page] = (),
        *,
        params: Mapping[str, str] | None = None,
        by_new_connection: bool = False,
    ) -> list[Page]:
        """A collection.  An answer that is the same to the byte as a page of `before` is not parsed again."""
        known = {page.text: page for page in before}
        pages: list[Page] = []
        next_page, query = path, dict[str, str | int](params or {})
        ends = time.monotonic() + LOAD_TIMEOUT_SECONDS
        while next_page:
            if len(pages) == MAX_PAGES or time.monotonic() > ends:
                raise Unavailable(f"Kong at {self.url} lists {path} on {len(pages)} pages, which has no end")
            if "size=" not in next_page:  # the next page of a list by tag lacks it
                query["size"] = self._page_size
            answer = self._call("GET", next_page, params=query, by_new_connection=by_new_connection)
            if answer.status == HTTPStatus.NOT_FOUND:
                break
            pages.append(known.get(answer.content) or self._page(answer, f"GET {path}"))
            next_page, query = pages[-1].next, {}
        return pages

    def _page(self, answer: Answer, request: str) -> Page:
        body = self._body(answer, request, ())
        entries = body.get("data")
        if not isinstance(entries, list) or not all(map(is_entity, entries)):
            raise self._not_kong(answer)
        return Page(answer.content, entries, str(body.get("next") or ""))

    def time(self) -> float:
        """The seconds since 1970 by Kong's clock, by which it tells when an entity was written."""
        said = self._call("GET", "/status").headers.get("Date", "")
        try:
            return parsedate_to_datetime(said).timestamp()
        except ValueError:
            raise Unavailable(f"Kong at {self.url} does not tell the time: its answer has no Date") from None

    def check(self, entity: Entity) -> None:
        """Have Kong validate an entity by its schema; nothing is written."""
        path = f"/schemas/{entity.type}/validate"
        answer = self._call("POST", path, body=entity.fields)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise StepFailed(f"Kong has no {entity.type}", "enable the plugin that has them in Kong's own settings")
        self._body(answer, str(entity), [entity])

    def write(self, method: str, path: str, entity: Entity, body: Fields) -> bool:
        """Write one entity; False if it clashes with another (409), is there already (400) or is not found (404)."""
        answer = self._call(method, path, body=body)
        if answer.status in {HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND} or _is_there(answer):
            return False
        self._body(answer, str(entity), [entity])
        return True

    def delete(self, path: str) -> None:
        """Delete one entity; one that is not found is deleted already."""
        answer = self._call("DELETE", path)
        if answer.status != HTTPStatus.NOT_FOUND:
            self._body(answer, f"DELETE {path}", ())

    def document(self) -> Fields:
        """The whole configuration, as `{"config": YAML text}`."""
        return self._body(self._call("GET", "/config", LOAD_TIMEOUT_SECONDS), "GET /config", ())

    def load(self, document: str, entities: Iterable[Entity]) -> Fields | None:
        """Make `document`, as JSON text, the whole configuration; None if it is that already."""
        answer = self._call(
            "POST", "/config", LOAD_TIMEOUT_SECONDS, params={"check_hash": 1}, body={"config": document}
        )
        return None if answer.status == HTTPStatus.NOT_MODIFIED else self._body(answer, "its document", entities)

    def _call(
        self,
        method: str,
        path: str,
        timeout: float | None = None,
        *,
        params: Mapping[str, str | int] | None = None,
        body: JsonValue = None,
        by_new_connection: bool = False,
    ) -> Answer:
        """The answer to one call, which is such that it may be sent twice."""
        headers, content = self._headers, None
        transport = self._new_connections if by_new_connection else self._transport
        if by_new_connection:
            headers = {**headers, "Connection": "close"}
        if body is not None:
            headers, content = {**headers, "Content-Type": "application/json"}, json.dumps(body).encode()
        target = f"{path}{'&' if '?' in path else '?'}{urlencode(params)}" if params else path
        with self._free:
            answer = transport.request(method, target, headers, content, within=timeout or self._timeout)
        if answer.status == HTTPStatus.NOT_FOUND and not NOT_FOUND_MESSAGE.fullmatch(answer.message):
            raise self._not_kong(answer)  # so Kong itself may well have it
        return answer

    def _body(self, answer: Answer, request: str, sent: Iterable[Entity]) -> Fields:
        """The body of an answer, empty for 204.  Errors name the request, without the secrets in `sent`."""
        code = answer.status
        if code == HTTPStatus.FORBIDDEN and NO_LICENSE.search(answer.message):
            hint = "renew the license, or use Kong 3.9, which needs none; what serves goes on serving"
            raise Unavailable(f"Kong at {self.url} only reads: {answer.message}", hint)
        if code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise Unavailable(f"Kong at {self.url} denies access: HTTP {code}", "check `kong.token_file`")
        if code == HTTPStatus.INTERNAL_SERVER_ERROR and not self._reaches_database():
            message = f"Kong's database does not answer: Kong at {self.url} answers HTTP {code} to {request}"
            raise Unavailable(message, "start the database; what serves goes on serving")
        if code >= HTTPStatus.INTERNAL_SERVER_ERROR or code == HTTPStatus.TOO_MANY_REQUESTS:
            reason = f": {answer.message}" if answer.message else ""
            hint = "Kong's own log says why" if code == HTTPStatus.INTERNAL_SERVER_ERROR else ""
            raise Unavailable(f"Kong at {self.url} answers HTTP {code} to {request}{reason}", hint)
        if code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            hint = "raise `nginx_admin_client_max_body_size` in Kong's own settings"
            raise StepFailed(f"Kong rejects {request}: it is too large", hint)
        if code >= HTTPStatus.BAD_REQUEST:
            if not answer.message and not _invalid_fields(answer):
                raise self._not_kong(answer)
            raise StepFailed(f"Kong rejects {request}: {masked(_reason(answer), secrets(sent))}")
        if code == HTTPStatus.NO_CONTENT:
            return {}
        if (body := answer.body) is None:
            raise self._not_kong(answer)
        return body

    def _reaches_database(self) -> bool:
        """Does Kong reach its database?  True if it does not say, or has none."""
        try:
            database = (self._call("GET", "/status").body or {}).get("database")
        except Unavailable:
            return True
        return not isinstance(database, Mapping) or database.get("reachable") is not False

    def _not_kong(self, answer: Answer) -> Unavailable:
        """What answers in Kong's place, such as its nginx, a proxy or another program, says nothing of Kong."""
        words = answer.message or _html_title(answer.content)
        reason = f": {words}" if words else ""
        return Unavailable(
            f"what answers at {self.url} is not Kong's Admin API: HTTP {answer.status}{reason}", HINTS.get(words, "")
        )


def workers_of(node: Fields) -> int:
    """How many workers Kong has, by its answer to `GET /`; 0 if it does not tell."""
    pids = node.get("pids")
    workers = pids.get("workers") if isinstance(pids, Mapping) else None
    return len(workers) if isinstance(workers, list) else 0


def worker_questions(node: Fields) -> int:
    """By how many new connections each worker is reached, as good as surely; 0 if Kong does not tell its workers."""
    return min(MAX_QUESTIONS, QUESTIONS_PER_WORKER * workers_of(node))


def idle_connections(node: Fields) -> int:
    """The `connections_writing` of a Kong without an open request, as `GET /status` counts them; 0 if that is unknown.

    Since Kong 3, each worker holds one, by which it hears of changes, unless `legacy_worker_events` is on; the question
    itself is one more.  Connections through a `stream_listen` are not counted there.
    """
    configuration, version = node.get("configuration"), str(node.get("version"))
    if not isinstance(configuration, Mapping) or not re.match(r"[3-9]\.|\d\d", version):
        return 0
    only_http = configuration.get("stream_listen") in ("off", ["off"])
    if not only_http or configuration.get("legacy_worker_events") or not workers_of(node):
        return 0
    return workers_of(node) + 1


HINTS = {
    "400 No required SSL certificate was sent": "set `kong.cert_file` and `kong.key_file`",
    "400 The SSL certificate error": "it does not accept the certificate in `kong.cert_file`",
    "400 The plain HTTP request was sent to HTTPS port": "`kong.admin` must begin with https://",
}


def _html_title(page: bytes) -> str:
    """The title of an HTML page, "" without one."""
    found = re.search(rb"<title>([^<]{1,200})</title>", page, re.IGNORECASE)
    return " ".join(found[1].decode(errors="replace").split()) if found else ""


def _is_there(answer: Answer) -> bool:
    """Has another entity, perhaps that very one, the id of the one that was to be created?"""
    return answer.status == HTTPStatus.BAD_REQUEST and (answer.body or {}).get("name") == "primary key violation"


def _invalid_fields(answer: Answer) -> JsonValue:
    return (answer.body or {}).get("fields")


def _reason(answer: Answer) -> str:
    """Kong's own words: the invalid fields, or its message."""
    faults = list(_faults(_invalid_fields(answer) or {})) if answer.status == HTTPStatus.BAD_REQUEST else []
    return "; ".join(faults) or answer.message or f"HTTP {answer.status}"


def _faults(value: JsonValue, path: str = "") -> Iterator[str]:
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


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text with `***` for each of the secrets in it that is long enough to be one."""
    for secret in sorted((secret for secret in secrets if len(secret) > 2), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text
