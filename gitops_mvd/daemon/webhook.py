"""Webhooks: a forge reports what the loop waits for, which then reconciles at once instead of at the next poll.

That is a push, a pull request, or the status of another host by which this one may go on with a rollout.  A webhook is
only a hint: the loop asks Git and the forge itself.  It is answered before anything is done.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

from gitops_mvd.core.model import Event
from gitops_mvd.core.ports import Receiver
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.daemon.connections import Hooks
from gitops_mvd.daemon.small_server import LogThrottle, ServerThread, answer
from gitops_mvd.net.line import dial

log = logging.getLogger(__name__)

Post = Callable[[str], None]
Answer = tuple[HTTPStatus, str]

PATH = "/webhook"
WAKING_EVENTS = frozenset({"push", "pull_request", "status"})  # the events that the loop knows by the same names
SETTING = "webhook.listen"
NOTHING_TO_DO = "nothing to do"
POST_ONLY = "webhooks of gitops-mvd are posted here"
REPEAT_SECONDS = 600.0  # in which the same body is a repeated one
MOST_REPEATS = 4096
ANSWER_SECONDS = 3.0


def webhook_thread(hooks: Hooks, branch: str, awaited: Awaited, post: Post) -> ServerThread:
    """The thread that posts events of the forge under their names; without its port, polling goes on."""
    return ServerThread(
        hooks.listen,
        lambda throttle: Webhooks(hooks.receiver, hooks.secret, branch, awaited, post, throttle),
        setting=SETTING,
        what="webhooks",
        refused="webhook refused",
    )


def listens(host: str, port: int) -> bool:
    """Does gitops-mvd listen there?  Raises OSError if nothing does."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    connection = http.client.HTTPConnection(host, port)
    try:
        with dial(everywhere.get(host, host), port, ANSWER_SECONDS) as connection.sock:
            connection.request("GET", PATH)
            answer = connection.getresponse()
            return answer.status == HTTPStatus.METHOD_NOT_ALLOWED and POST_ONLY.encode() in answer.read(1024)
    except (http.client.HTTPException, ConnectionResetError, BrokenPipeError, TimeoutError):  # another program does
        return False
    finally:
        connection.close()


# ---- the answers ------------------------------------------------------------------------------------------------


class Webhooks:
    """The WSGI application: checks each webhook, and posts what it reports."""

    def __init__(
        self, receiver: Receiver, secret: str, branch: str, awaited: Awaited, post: Post, throttle: LogThrottle
    ) -> None:
        self._receiver = receiver
        self._awaited = awaited
        self._secret = secret
        self._refs = {f"refs/heads/{branch}", ""}  # not every forge names the branch
        self._post = post
        self._throttle = throttle
        self._repeats = Repeats()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, text = self._answer(environ)
        more = [("Allow", "POST")] if status is HTTPStatus.METHOD_NOT_ALLOWED else []
        return answer(start_response, status, text, *more)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        came_from = str(environ.get("REMOTE_ADDR", ""))
        if environ.get("PATH_INFO") != PATH:
            return self._refuse(came_from, HTTPStatus.NOT_FOUND, "not found", f"the path is not {PATH}")
        if environ.get("REQUEST_METHOD") != "POST":  # as `mvd doctor` and port checks ask
            return HTTPStatus.METHOD_NOT_ALLOWED, POST_ONLY
        try:
            return self._receive(came_from, dict(_headers(environ)), environ["wsgi.input"].read())
        except Exception as error:  # its text may be from the body
            why = f"its content cannot be read ({type(error).__name__})"
            return self._refuse(came_from, HTTPStatus.BAD_REQUEST, "cannot be read", why)

    def _receive(self, came_from: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if not self._receiver.authentic(headers, body, self._secret):
            why = "wrong signature or secret"
            return self._refuse(came_from, HTTPStatus.UNAUTHORIZED, "unauthorized", why)
        event = self._receiver.event(headers, body)
        if event.kind == "status" and not self._is_awaited(event):  # neither remembered nor logged: there are many
            return HTTPStatus.ACCEPTED, NOTHING_TO_DO
        if self._repeats.has(body):
            self._throttle.log(logging.INFO, "webhook repeated", came_from)
            return HTTPStatus.ACCEPTED, NOTHING_TO_DO
        if event.kind == "ping":
            log.info("webhook ping from=%s", came_from)
            return HTTPStatus.OK, "pong"
        if event.kind not in WAKING_EVENTS or (event.kind == "push" and event.ref not in self._refs):
            return HTTPStatus.ACCEPTED, NOTHING_TO_DO
        self._post(event.kind)
        log.info("webhook %s from=%s", event.kind, came_from)
        return HTTPStatus.ACCEPTED, "reconciling"

    def _is_awaited(self, event: Event) -> bool:
        return event.state == "green" and self._awaited.hear(event.commit, event.context)

    def _refuse(self, came_from: str, status: HTTPStatus, text: str, why: str) -> Answer:
        self._throttle.log(logging.WARNING, "webhook refused", came_from, why)
        return status, text


def _headers(environ: WSGIEnvironment) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            yield name.removeprefix("HTTP_").replace("_", "-").lower(), value


class Repeats:
    """The bodies that came lately, by their digest; the oldest are forgotten first.

    A body is all that is signed, so it is all that a repeated one can be told by.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, body: bytes) -> bool:
        """Did this body come before?  From now on it did."""
        digest, now = hashlib.sha256(body).digest(), self._now()
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now - REPEAT_SECONDS:
                self._seen.popitem(last=False)
            if digest in self._seen:
                return True
            self._seen[digest] = now
            if len(self._seen) > MOST_REPEATS:
                self._seen.popitem(last=False)
            return False
