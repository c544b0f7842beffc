"""Who is let in, and who may act: a token, a proxy that knows the user, or nobody but this machine.

Every answer passes here, so that none is without its headers.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from gitops_mvd.api.endpoints import ACTORS
from gitops_mvd.config.settings.section import host_and_port, is_this_machine
from gitops_mvd.config.settings.web import WebSettings
from gitops_mvd.core.text import plain_line
from gitops_mvd.web.peer import LocalUser, Peers, plain_address

COOKIE = "mvd"
PEER = "mvd.peer"  # where a request has the user of this machine who asks
SESSION_SECONDS = 12 * 3600
WEB = "web"  # who acts with the token
LONGEST_NAME = 80
FREE_GUESSES = 5  # wrong tokens of an address, after which each has to wait longer
LONGEST_PAUSE_SECONDS = 60.0
MOST_ADDRESSES = 1_000  # whose guesses are remembered
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # without a referrer, a browser does not say where a form comes from
    "cross-origin-resource-policy": "same-origin",
}
OVER_TLS = {"cross-origin-opener-policy": "same-origin"}  # browsers complain about it elsewhere


class Denied(Exception):
    """A request that is not let in: `status` is that of HTTP, `message` a sentence, `hint` what to do."""

    def __init__(self, status: int, message: str, hint: str = "", after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.after = after


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks: `name` "" for somebody of this machine who only looks; `why_not` is why the buttons are not for them.

    `seal` goes into each form, and is known only to whoever has been shown one.
    """

    name: str
    why_not: str = ""
    seal: str = ""
    has_session: bool = False

    @property
    def may_act(self) -> bool:
        return not self.why_not


class Guesses:
    """Wrong tokens by address: after a few, each has to wait, twice as long each time.

    The right one never waits, as many may have one address behind a proxy; what keeps it is its length.
    """

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def pause(self, address: str) -> float:
        """Seconds until that address may try again."""
        number, at = self._wrong.get(address, (0, 0.0))
        if number < FREE_GUESSES:
            return 0.0
        return max(0.0, at + min(LONGEST_PAUSE_SECONDS, 2.0 ** (number - FREE_GUESSES)) - time.monotonic())

    def wrong(self, address: str) -> None:
        number, _ = self._wrong.pop(address, (0, 0.0))
        self._wrong[address] = min(number + 1, 64), time.monotonic()
        while len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)

    def right(self, address: str) -> None:
        self._wrong.pop(address, None)


class Guard:
    """The rules of one page.  `token` is the content of `token_file`, "" without one."""

    def __init__(self, settings: WebSettings, token: str, peers: Peers | None = None) -> None:
        self._settings = settings
        self._token = token.encode()
        self._key = hashlib.sha256(b"session\0" + self._token).digest() if token else secrets.token_bytes(32)
        self._guesses = Guesses()
        self._peers = peers or Peers()
        proxy = settings.proxy
        self._proxies = [ipaddress.ip_network(it) for it in proxy.addresses] if proxy else []
        self._header = proxy.user_header.lower() if proxy else ""
        self._url = urlsplit(settings.url)
        self._names = {host_and_port(settings.listen)[0], self._url.hostname} - {None, "0.0.0.0", "::"}

    @property
    def has_token(self) -> bool:
        return bool(self._token)

    # ---- who asks ----------------------------------------------------------------------------------------------------

    async def meet(self, scope: MutableMapping[str, Any]) -> None:
        """Finds out who of this machine asks, and leaves it in the scope of the request; nothing if it takes too long.

        That is done before a request is looked at, as there may be a thousand that wait for it.
        """
        client, server = scope.get("client"), scope.get("server")
        if self._settings.has_login or not client or not server or not client[1] or not is_this_machine(client[0]):
            scope[PEER] = None
            return
        with suppress(TimeoutError):
            scope[PEER] = await self._peers.user(client, server)

    def visitor(self, scope: MutableMapping[str, Any], headers: Headers) -> Visitor:
        """Who asks.  Raises Denied; with the status 401, a login is needed."""
        address = (scope.get("client") or ("", 0))[0]
        if self._is_proxy(address) and (name := self._named_by_proxy(headers)):
            self._check_host(scope, headers)
            return Visitor(name, seal=self._seal(name))
        given = headers.get("authorization", "")
        if given.lower().startswith("bearer "):
            self.check(given[7:].strip(), address)
            return Visitor(WEB, seal=self._seal(given))
        if self._token and (session := self._session(headers)):
            return Visitor(WEB, seal=self._seal(session), has_session=True)
        if self._settings.has_login:
            if self._header and not self._token:
                raise Denied(401, "the proxy in front did not say who you are", f"it has to send {self._header}")
            raise Denied(401, "a login is needed")
        return self._somebody_here(scope, headers)

    def check(self, token: str, address: str) -> None:
        """Is it the token?  Raises Denied, and makes whoever guesses wait."""
        if self._token and hmac.compare_digest(
            hashlib.sha256(token.encode()).digest(), hashlib.sha256(self._token).digest()
        ):
            self._guesses.right(address)
            return
        if pause := self._guesses.pause(address):
            raise Denied(429, f"too many wrong tokens: try again in {pause:.0f} s", after=pause)
        self._guesses.wrong(address)
        raise Denied(401, "the token is wrong", "it is in the file that web.token_file names")

    def _named_by_proxy(self, headers: Headers) -> str:
        """The user that the proxy names, "" if it names none.  Raises Denied if it names several."""
        users = headers.getlist(self._header)
        if len(users) > 1:
            raise Denied(403, f"there is more than one {self._header}", "the proxy has to drop what a browser sends")
        user = "".join(users).encode("latin-1", "replace").decode("utf-8", "replace").strip()
        return plain_line(user, LONGEST_NAME)

    def _is_proxy(self, address: str) -> bool:
        if not self._proxies:
            return False
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return any((mapped or ip) in network for network in self._proxies)

    def _check_host(self, scope: MutableMapping[str, Any], headers: Headers) -> None:
        """Raises Denied for a page of elsewhere that has a browser ask under its own name.

        Such a name leads here by DNS, and what a browser loads under it is another site's to read.
        """
        server = plain_address((scope.get("server") or ("",))[0])
        host = plain_address(host_of(headers.get("host", "")))
        asked = [host]
        if self._url.hostname and (first := headers.get("x-forwarded-host", "").partition(",")[0].strip()):
            asked.append(plain_address(host_of(first)))
        for name in asked:
            if not name or not (is_this_machine(name) or name in self._names or name == server):
                shown = plain_line(name, LONGEST_NAME)
                raise Denied(403, f"this page is not served as {shown!r}", "set web.url to where people reach it")

    def _somebody_here(self, scope: MutableMapping[str, Any], headers: Headers) -> Visitor:
        """A user of this machine.  Raises Denied for whoever asks from elsewhere."""
        self._check_host(scope, headers)
        if any(name == "forwarded" or name.startswith("x-forwarded-") for name in headers):
            raise Denied(403, "this came through a proxy that the settings do not name", "set web.proxy")
        if PEER not in scope:
            return Visitor("", "It could not be found out in time who you are: load the page again.")
        user: LocalUser | None = scope[PEER]
        if not user:
            return Visitor("", "To press buttons, give the page a token: web.token_file in the settings.")
        if user.is_root or ACTORS in user.groups:
            return Visitor(user.name, seal=self._seal(user.name))
        return Visitor(user.name, f"To press buttons, join the group {ACTORS}: usermod -aG {ACTORS} {user.name}")

    # ---- the session -------------------------------------------------------------------------------------------------

    def new_session(self) -> str:
        """The value of a cookie; it needs no memory, and ends with the token."""
        end = f"{time.time() + SESSION_SECONDS:.0f}"
        return f"{end}.{self._signed('session', end)}"

    def _session(self, headers: Mapping[str, str]) -> str:
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return ""
        value = found.value if found else ""
        end, _, signature = value.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signed("session", end).encode()):
            return ""
        return value if float(end) > time.time() else ""

    def cookie(self, value: str, path: str) -> str:
        """The header that sets it, or takes it away if `value` is "".

        Links of a forge come with it; what acts has a seal besides, and what costs something is asked by no other site.
        """
        age = SESSION_SECONDS if value else 0
        secure = "; Secure" if self._url.scheme == "https" else ""
        return f"{COOKIE}={value}; Path={path or '/'}; Max-Age={age}; HttpOnly; SameSite=Lax{secure}"

    def _signed(self, what: str, value: str) -> str:
        return hmac.new(self._key, f"{what}\0{value}".encode(), hashlib.sha256).hexdigest()

    def _seal(self, of: str) -> str:
        return self._signed("form", of)

    # ---- what acts ---------------------------------------------------------------------------------------------------

    def check_site(self, headers: Mapping[str, str]) -> None:
        """Raises Denied for a question that another site has a browser ask, unless its user has followed a link."""
        if _is_from_elsewhere(headers) and headers.get("sec-fetch-user", "") != "?1":
            raise Denied(403, "this was asked by another site", "open it from the page itself")

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Raises Denied for a request that another site has a browser send."""
        origin = headers.get("origin", "")
        if _is_from_elsewhere(headers) or (origin and not self._is_own(origin, headers.get("host", ""))):
            raise Denied(403, "this came from another site", "press the button on the page itself")

    def check_form(self, visitor: Visitor, seal: str) -> None:
        """Raises Denied for a form that this page has not shown to this visitor."""
        if not hmac.compare_digest(seal.encode(), visitor.seal.encode()):
            raise Denied(403, "the page was older than your login", "load it again, and press the button there")
        if not visitor.may_act:
            raise Denied(403, "you may look, but not act", visitor.why_not)

    def _is_own(self, origin: str, host: str) -> bool:
        try:
            asked = urlsplit(origin)
            if self._url.netloc and (asked.scheme, asked.netloc) == (self._url.scheme, self._url.netloc):
                return True
        except ValueError:
            return False
        return bool(asked.netloc) and asked.netloc == host


def _is_from_elsewhere(headers: Mapping[str, str]) -> bool:
    return headers.get("sec-fetch-site", "") not in ("", "same-origin", "none")


def host_of(header: str) -> str:
    """The name in a Host header, in small letters and without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def own_path(path: str) -> str:
    """A path of this page; the front page in the place of an address of somewhere else."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"
