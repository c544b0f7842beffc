"""How a Kong is reached: over TCP, over TLS with certificates of one's own, or over a unix socket.

A question ends in an answer or in Unavailable, whose one sentence says which side has to do what.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, ProtocolError, SSLError, TimeoutError

from gitops_mvd.core.errors import Unavailable

SHOWN = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")  # what the value of a header may be made of

OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH
TOO_EARLY, EXPIRED = 9, 10
WANTS_ONE = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")  # by TLS 1.3, and by those before it
REFUSES_OURS = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "CERTIFICATE_REVOKED")
IS_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL")


@dataclass(frozen=True, slots=True)
class Certificates:
    """Whom we trust, and who we are: files in PEM.  Without `ca_file`, whom this machine trusts."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def context(self) -> ssl.SSLContext:
        """Raises Unavailable, naming the file, for one that can not be read or is none."""
        try:
            context = ssl.create_default_context(cadata=_text(self.ca_file) if self.ca_file else None)
        except (ssl.SSLError, ValueError) as error:
            raise Unavailable(f"{self.ca_file} has no certificate in it: {_reason(error)}", PEM) from error
        if self.cert_file:
            for file in (self.cert_file, self.key_file):
                _text(file)
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except (OSError, ValueError) as error:  # an SSLError is an OSError
                told = f"{self.key_file} is not the key of {self.cert_file}: {_reason(error)}"
                raise Unavailable(told, "both have to be PEM, and the key without a passphrase") from error
        return context


PEM = "it has to be PEM"


def _text(path: str) -> str:
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise Unavailable(f"{path} can not be read: {error.strerror}", "the settings name it") from error
    if "-----BEGIN" not in text:
        raise Unavailable(f"{path} has no certificate or key in it", PEM)
    return text


class Silent(Unavailable):
    """Nothing was said in time."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; of what is not asked for, the content is left out."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    content: bytes = field(repr=False)

    def json(self) -> Any:
        """Raises ValueError."""
        return json.loads(self.content)

    @property
    def message(self) -> str:
        """Kong's own `message`, "" where somebody else has answered."""
        try:
            body = self.json()
        except ValueError:
            return ""
        return str(body.get("message") or "") if isinstance(body, dict) else ""


class Wire:
    """Kept-alive connections to `url`: `http://`, `https://` or `unix:///path`, the first two with a path, perhaps.

    `name` is what is there, for people.  Over TLS, `server` is the name that is asked for and that the certificate has
    to have; and with no `certificates`, any certificate will do.
    """

    def __init__(
        self, url: str, name: str, certificates: Certificates | None, *, connections: int = 1, server: str = ""
    ) -> None:
        parts = urlsplit(url)
        self._where = f"{name} at {url}"
        self._prefix = "" if parts.scheme == "unix" else parts.path.rstrip("/")
        self._shows = bool(certificates and certificates.cert_file)
        self._pool: HTTPConnectionPool
        if parts.scheme == "unix":
            self._pool = _UnixPool(unquote(parts.path), maxsize=connections)
        elif parts.scheme == "https":
            pool = HTTPSConnectionPool if certificates else _TrustingPool
            self._pool = pool(
                parts.hostname or "",
                parts.port,
                maxsize=connections,
                ssl_context=certificates.context() if certificates else _trusting(),
                server_hostname=server or None,
                assert_hostname=server or None if certificates else False,
            )
        else:
            self._pool = HTTPConnectionPool(parts.hostname or "", parts.port, maxsize=connections)

    def close(self) -> None:
        self._pool.close()

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        within: float,
        most: int | None = None,
        of: Container[int] | None = None,
        again: bool = True,
    ) -> Answer:
        """One question, and all of its answer; or `most` bytes, of the statuses in `of` alone.  Raises Unavailable.

        `within` are seconds to connect, and between two words of the answer.  Where the other side has just closed the
        kept-alive connection it is asked `again`.
        """
        try:
            response = self._pool.urlopen(
                method,
                self._prefix + path,
                body,
                headers,
                retries=False,
                redirect=False,
                timeout=within,
                preload_content=False,
                decode_content=True,
            )
            return Answer(response.status, response.headers, _read(response, most, of))
        except NewConnectionError as error:  # which is a timeout, too, in some versions of urllib3
            raise Unavailable(f"{self._where} can not be reached{_said(error.__cause__)}") from error
        except TimeoutError as error:
            raise Silent(f"{self._where} does not answer within {within:g} s") from error
        except SSLError as error:
            self._refused(error.args[0] if error.args else error)
        except ProtocolError as error:
            if again:
                return self.ask(method, path, headers, body, within=within, most=most, of=of, again=False)
            cause = next((arg for arg in error.args if isinstance(arg, ssl.SSLError)), None)
            if cause:  # as of TLS 1.3, who wants a certificate says so after the handshake
                self._refused(cause)
            raise self._hung_up() from error
        except (HTTPError, OSError, ValueError) as error:
            raise Unavailable(f"{self._where} can not be asked: {type(error).__name__}") from error

    def _hung_up(self) -> Unavailable:
        hint = ""
        if isinstance(self._pool, HTTPSConnectionPool):  # some do so without a word where a certificate does not do
            ours = "not accept our certificate" if self._shows else "want a client certificate"
            hint = f"it may {ours}: `kong.cert_file`"
        return Unavailable(f"{self._where} hangs up", hint)

    def _refused(self, error: BaseException) -> NoReturn:
        """What a failure of TLS means, and whose it is."""
        if isinstance(error, ssl.SSLCertVerificationError):
            told = error.verify_message.rstrip(".")
            if error.verify_code in OTHER_NAME:
                raise Unavailable(f"{self._where} has a certificate of another name: {told}") from error
            if error.verify_code in {TOO_EARLY, EXPIRED}:
                state = "expired" if error.verify_code == EXPIRED else "is not valid yet"
                raise Unavailable(f"{self._where} has a certificate that {state}", "renew it there") from error
            hint = "`kong.ca_file` names the authority that signed it"
            raise Unavailable(f"{self._where} has a certificate that is not trusted: {told}", hint) from error
        reason = _reason(error)
        if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "UNEXPECTED_EOF" in reason:
            raise self._hung_up() from error
        if any(word in reason for word in REFUSES_OURS):
            raise Unavailable(f"{self._where} refuses our certificate: {reason}", "see `kong.cert_file`") from error
        if any(word in reason for word in WANTS_ONE) and not self._shows:
            hint = "`kong.cert_file` and `kong.key_file`"
            raise Unavailable(f"{self._where} wants a client certificate", hint) from error
        hint = "is that http://?" if any(word in reason for word in IS_PLAIN) else ""
        raise Unavailable(f"{self._where} does not come to terms over TLS: {reason}", hint) from error


def is_loopback(url: str) -> bool:
    """Does it stay on this machine?"""
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


def _read(response: BaseHTTPResponse, most: int | None, of: Container[int] | None) -> bytes:
    try:
        return b"" if of is not None and response.status not in of else response.read(most, decode_content=True)
    finally:
        response.release_conn() if most is None else response.close()


def _reason(error: BaseException) -> str:
    """OpenSSL's own word for it."""
    return str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error or type(error).__name__)


def _said(error: BaseException | None) -> str:
    told = getattr(error, "strerror", None)
    return f": {told}" if told and "refused" not in told.lower() else ""


class _TrustingPool(HTTPSConnectionPool):
    """Any certificate will do, and nobody need be warned of it at each question."""

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, **more: Any) -> None:
        super().__init__("localhost", **more)
        self._path = path

    def _new_conn(self) -> socket.socket:
        line = socket.socket(socket.AF_UNIX)
        seconds = self.timeout if isinstance(self.timeout, (int, float)) else None
        try:
            line.settimeout(seconds)
            line.connect(self._path)
        except OSError as error:
            line.close()
            if isinstance(error, socket.timeout):
                raise ConnectTimeoutError(self, "timed out") from error
            raise NewConnectionError(self, str(error)) from error
        return line


class _UnixPool(HTTPConnectionPool):
    def __init__(self, path: str, **more: Any) -> None:
        super().__init__("localhost", **more)
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        self.num_connections += 1
        return _UnixConnection(self._path, timeout=self.timeout.connect_timeout)
