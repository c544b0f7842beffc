"""HTTP to Kong: over TCP, over TLS with client certificates, or over a unix socket.

A request ends in an answer or in Unavailable, whose one sentence says what failed and which side has to do what.
"""

from __future__ import annotations

import builtins
import errno
import ipaddress
import json
import re
import ssl
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import unquote, urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, SSLError, TimeoutError

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import JsonValue
from gitops_mvd.net.http import HttpPool, HttpsPool, UnixPool
from gitops_mvd.net.line import limit

HEADER_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")

NAME_MISMATCH = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH
NOT_YET_VALID, EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID and _HAS_EXPIRED
CERTIFICATE_MISSING = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")  # by TLS 1.3, and by those before it
CERTIFICATE_REFUSED = (
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "CERTIFICATE_REVOKED",
)
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority that signs Kong's certificate, and this host's client certificate with its key.

    Without a `ca_file`, the authorities that this machine trusts.
    """

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def context(self) -> ssl.SSLContext:
        """Raises Unavailable, with the file's name, for a file that cannot be read or has no certificate or key."""
        try:
            cadata = _text(self.ca_file, "kong.ca_file") if self.ca_file else None
            context = ssl.create_default_context(cadata=cadata)
        except (ssl.SSLError, ValueError) as error:
            raise Unavailable(f"{self.ca_file} has no certificate in it: {_reason(error)}", PEM) from error
        if self.cert_file:
            _text(self.cert_file, "kong.cert_file")
            _text(self.key_file, "kong.key_file")
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except (OSError, ValueError) as error:  # an SSLError is an OSError
                message = f"{self.key_file} is not the key of {self.cert_file}: {_reason(error)}"
                raise Unavailable(message, "both must be PEM, and the key without a passphrase") from error
        return context


PEM = "it must be PEM"


def _text(path: str, setting: str) -> str:
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise Unavailable(f"cannot read {path} (`{setting}`): {error.strerror}") from error
    if "-----BEGIN" not in text:
        raise Unavailable(f"{path} (`{setting}`) has no certificate or key in it", PEM)
    return text


class TimedOut(Unavailable):
    """There was no answer in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and content of an answer; the content is empty where the request did not want it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)

    @property
    def body(self) -> Mapping[str, JsonValue] | None:
        """The JSON object in the content; None where there is none."""
        try:
            body = json.loads(self.content)
        except (ValueError, RecursionError):
            return None
        return cast(Mapping[str, JsonValue], body) if isinstance(body, dict) else None

    @property
    def message(self) -> str:
        """The `message` of the JSON object in the content; "" where there is none."""
        return str((self.body or {}).get("message") or "")


class Transport:
    """Kept-alive connections to `url`: `http://host[/path]`, `https://host[/path]` or `unix:///path`.

    `name` is what messages call the other side.  Over TLS, `server` is the host name that is sent and that the
    certificate must have; without `certificates`, any certificate is accepted.
    """

    def __init__(
        self, url: str, name: str, certificates: Certificates | None, *, connections: int = 1, server: str = ""
    ) -> None:
        parts = urlsplit(url)
        self._where = f"{name} at {url}"
        self._prefix = "" if parts.scheme == "unix" else parts.path.rstrip("/")
        self._has_client_certificate = bool(certificates and certificates.cert_file)
        self._pool: HTTPConnectionPool
        if parts.scheme == "unix":
            self._pool = UnixPool(unquote(parts.path), maxsize=connections)
        elif parts.scheme == "https":
            pool = HttpsPool if certificates else _TrustingPool
            self._pool = pool(
                parts.hostname or "",
                parts.port,
                maxsize=connections,
                ssl_context=certificates.context() if certificates else _trusting(),
                server_hostname=server or None,
                assert_hostname=server or None if certificates else False,
            )
        else:
            self._pool = HttpPool(parts.hostname or "", parts.port, maxsize=connections)

    def close(self) -> None:
        self._pool.close()

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        within: float,
        max_bytes: int | None = None,
        content_of: Container[int] | None = None,
        retry: bool = True,
    ) -> Answer:
        """The answer to one request.  Raises Unavailable.

        The whole answer must come `within` so many seconds.  Of the content, at most `max_bytes` are read, and none if
        its status is not in `content_of`.  A request on a kept-alive connection that the other side has just closed is
        sent once more (`retry`).
        """
        try:
            with limit(within):
                response = self._pool.urlopen(
                    method,
                    self._prefix + path,
                    body,
                    headers,
                    retries=False,
                    redirect=False,
                    timeout=within,
                    preload_content=False,
                )
                return Answer(response.status, response.headers, _read(response, max_bytes, content_of))
        except NewConnectionError as error:  # which is a timeout, too, in some versions of urllib3
            raise Unavailable(f"{self._where} cannot be reached{_system_reason(error.__cause__)}") from error
        except TimeoutError as error:
            raise TimedOut(f"{self._where} does not answer within {within:g} s") from error
        except SSLError as error:
            self._refused(error.args[0] if error.args else error)
        except ProtocolError as error:
            if any(isinstance(cause, builtins.TimeoutError) for cause in error.args):  # while it was sent
                raise TimedOut(f"{self._where} does not answer within {within:g} s") from error
            if any(getattr(cause, "errno", None) == errno.EMSGSIZE for cause in error.args):
                raise Unavailable(f"{self._where} sends too large an answer") from error
            if retry:
                return self.request(
                    method,
                    path,
                    headers,
                    body,
                    within=within,
                    max_bytes=max_bytes,
                    content_of=content_of,
                    retry=False,
                )
            cause = next((arg for arg in error.args if isinstance(arg, ssl.SSLError)), None)
            if cause:  # as of TLS 1.3, a missing certificate is reported after the handshake
                self._refused(cause)
            raise self._hung_up() from error
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{self._where} does not answer in HTTP{_system_reason(error)}") from error

    def _hung_up(self) -> Unavailable:
        hint = ""
        if isinstance(self._pool, HTTPSConnectionPool):  # some close without an alert where a certificate is refused
            reason = "refuse the client certificate" if self._has_client_certificate else "require a client certificate"
            hint = f"it may {reason}: see `kong.cert_file`"
        return Unavailable(f"{self._where} closes the connection", hint)

    def _refused(self, error: BaseException) -> NoReturn:
        """Raise Unavailable with the reason why TLS failed."""
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = error.verify_message.rstrip(".")
            if error.verify_code in NAME_MISMATCH:
                raise Unavailable(f"{self._where} has a certificate for another name: {reason}") from error
            if error.verify_code in {NOT_YET_VALID, EXPIRED}:
                state = "has expired" if error.verify_code == EXPIRED else "is not valid yet"
                raise Unavailable(
                    f"{self._where} has a certificate that {state}",
                    "renew it on Kong's side, if the clock of this server is right",
                ) from error
            hint = "set `kong.ca_file` to the authority that signed it"
            raise Unavailable(f"{self._where} has a certificate that is not trusted: {reason}", hint) from error
        reason = _reason(error)
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "UNEXPECTED_EOF" in reason:
            raise self._hung_up() from error
        if any(word in reason for word in CERTIFICATE_REFUSED):
            raise Unavailable(
                f"{self._where} refuses the client certificate: {reason}", "see `kong.cert_file`"
            ) from error
        if any(word in reason for word in CERTIFICATE_MISSING) and not self._has_client_certificate:
            hint = "set `kong.cert_file` and `kong.key_file`"
            raise Unavailable(f"{self._where} requires a client certificate", hint) from error
        hint = "does it speak http://?" if any(word in reason for word in NO_TLS) else ""
        raise Unavailable(f"the TLS handshake with {self._where} failed: {reason}", hint) from error


def is_loopback(url: str) -> bool:
    """Is that address on this machine?"""
    parts = urlsplit(url)
    try:
        return parts.scheme == "unix" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read(response: BaseHTTPResponse, max_bytes: int | None, content_of: Container[int] | None) -> bytes:
    """The content.  An encoded one stays as it is: nobody asked for it, and a small one may unfold to a large one."""
    is_whole = False
    try:
        if content_of is not None and response.status not in content_of:
            return b""
        content = response.read(max_bytes, decode_content=False)
        is_whole = max_bytes is None
        return content
    finally:
        response.release_conn() if is_whole else response.close()


def _reason(error: BaseException) -> str:
    """OpenSSL's own words for an error."""
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)


def _system_reason(error: BaseException | None) -> str:
    """The operating system's words for an error, behind a colon; "" without any."""
    reason = getattr(error, "strerror", None)
    return f": {reason}" if reason else ""


class _TrustingPool(HttpsPool):
    """Accepts any certificate, without urllib3's warning at each request."""

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()
