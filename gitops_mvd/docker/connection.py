"""The connection to one Docker engine, and what its errors mean."""

from __future__ import annotations

import http.client
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import requests
import urllib3
from docker.api import APIClient
from docker.errors import APIError, DockerException
from docker.transport import UnixHTTPAdapter
from docker.types import CancellableStream
from docker.utils import kwargs_from_env
from requests.adapters import BaseAdapter, HTTPAdapter

from gitops_mvd.core.errors import Unavailable, reading, unexpected
from gitops_mvd.docker.answers import LONGEST_LINE, verdict
from gitops_mvd.docker.cache import AnswerCache
from gitops_mvd.docker.shape import checked
from gitops_mvd.docker.types import EngineInfo, EngineVersion
from gitops_mvd.net.adapter import Adapter
from gitops_mvd.net.http import UnixPool
from gitops_mvd.net.line import limit

ANSWER_WITHIN_SECONDS = 60.0  # the engine itself gives a registry up to 30 s
CACHED = ("image", "network", "volume", "info")
SOCKET = "unix:///var/run/docker.sock"
START_IT = "Start it: systemctl start docker"

T = TypeVar("T")


class Connection:
    """A Docker engine that may be asked from any thread; each question has a session of its own.

    The listings of images, networks and volumes, and who root of a container is, are cached as long as the events of
    the engine are followed: they end with it.
    """

    def __init__(
        self,
        url: str | None = None,
        timeout: float = ANSWER_WITHIN_SECONDS,
        logins: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        where: Mapping[str, Any] = {"base_url": url} if url else kwargs_from_env()
        self._options = {**where, "timeout": timeout}
        self.url = str(where.get("base_url", SOCKET))
        self._idle: list[APIClient] = []
        self.logins = logins or {}
        self.local = threading.local()
        self.stream: CancellableStream[Any] | None = None
        self.cache = AnswerCache(CACHED)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def forget(self, kind: str) -> None:
        """Something of that kind (image, network, volume) changed: the next listing asks again."""
        self.cache.forget(kind)

    def cached(self, kind: str, ask: Callable[[APIClient], T]) -> T:
        """What `ask` answers, cached until an event of that kind, and only while there is a stream of them."""

        def listing() -> T:
            with self.asking(f"list the {kind}s") as api:
                return ask(api)

        return self.cache.recall(kind, listing)

    @property
    def is_local(self) -> bool:
        """Is the engine one of this machine, whose disks can be seen?"""
        return self.url.startswith(("unix:", "http+unix:", "/"))

    def info(self) -> EngineInfo:
        """`GET /info`: `ServerVersion`, `LiveRestoreEnabled`, `Driver` (of storage) and much more."""
        with self.asking("read the state of Docker") as api:
            return checked(api.info(), EngineInfo)

    def version(self) -> EngineVersion:
        """`GET /version`: what answers, and what it is made of."""
        with self.asking("read the version of Docker") as api:
            return checked(api.version(api_version=False), EngineVersion)

    @contextmanager
    def asking(self, what: str) -> Iterator[APIClient]:
        """A session of one's own, as it is not made to be shared.  Raises Unavailable or StepFailed: could not `what`.

        After a failure it is not used again.
        """
        with asking_docker(what, self.url):
            try:
                api = self._idle.pop()
            except IndexError:
                api = Session(**self._options)
            try:
                yield api
            except BaseException:
                api.close()
                raise
            self._idle.append(api)


class Session(APIClient):
    """A session of Docker's SDK in which each question has a limit in seconds and bytes.

    A stream has the limit until it begins.  Redirects and encoded answers, which no engine sends, are refused.  It asks
    the engine itself: what the environment says of proxies and logins is not looked up for each question.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.trust_env = False

    def mount(self, prefix: str | bytes, adapter: BaseAdapter) -> None:
        if isinstance(adapter, UnixHTTPAdapter):
            adapter = _UnixAdapter(adapter.socket_path)
        elif isinstance(adapter, HTTPAdapter):
            adapter = Adapter()
        super().mount(prefix, adapter)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        request.hooks["response"] = [_refuse_odd]
        options["allow_redirects"] = False
        timeout = options.get("timeout")
        with limit(timeout if isinstance(timeout, int | float) else self.timeout):
            return super().send(request, **options)


class _UnixAdapter(UnixHTTPAdapter):
    """Docker's own adapter, over a Line."""

    def get_connection(self, url: bytes | str, proxies: Any = None) -> Any:
        pool = self.pools.get(url)
        if pool is None:
            pool = self.pools[url] = UnixPool(self.socket_path)
        return pool


def _refuse_odd(answer: requests.Response, *_: Any, **__: Any) -> None:
    if answer.is_redirect or "Content-Encoding" in answer.headers:
        raise ValueError("a redirect, or encoded")


def root(api: APIClient) -> str:
    """The address of the API in the version that is spoken."""
    return f"{api.base_url}/v{api.api_version}"


def chunks(answer: requests.Response) -> Iterator[bytes]:
    """The parts of a stream, which may be as far apart as the caller lets them, but none without end."""
    parts = answer.iter_content(LONGEST_LINE)
    while True:
        with limit(math.inf, 2 * LONGEST_LINE):
            part = next(parts, b"")
        if not part:
            return
        yield part


@contextmanager
def asking_docker(what: str, url: str) -> Iterator[None]:
    """Turn what Docker at `url`, its SDK or its socket raise into Unavailable or StepFailed: could not `what`."""
    where = f"Docker at {url}"
    try:
        with reading(where):
            yield
    except APIError as error:
        raise verdict(error.status_code or 500, str(error.explanation or error), what) from error
    except (DockerException, urllib3.exceptions.HTTPError, OSError) as error:
        if any(isinstance(cause, ValueError | LookupError | TypeError) for cause in _causes(error)):
            raise unexpected(where) from error
        if refused := next((cause for cause in _causes(error) if isinstance(cause, APIError)), None):  # its version
            raise verdict(refused.status_code or 500, str(refused.explanation or refused), what) from error
        reason = next((reason for cause in _causes(error) if (reason := _reason(cause))), "the connection broke")
        raise Unavailable(f"Docker does not answer at {url}: {reason}", START_IT) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error of the SDK and all that it was made of, the inmost first: each library wraps that of the one below."""
    within = [*error.args, error.__cause__, getattr(error, "reason", None)]
    for cause in within:
        if isinstance(cause, BaseException):
            yield from _causes(cause)
    yield error


def _reason(error: BaseException) -> str:
    """The system's reason for a missing answer; "" if the error has none."""
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.errno:
        return (error.strerror or os.strerror(error.errno)).lower()
    if isinstance(error, http.client.HTTPException):
        is_cut = isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead)
        return "it hung up" if is_cut else "that is not HTTP"
    return ""
