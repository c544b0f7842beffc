"""A GitHub App as a login: a key that never leaves the server gives tokens of one hour, for one repository.

https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import threading
import time
import urllib.parse
from collections.abc import Callable
from datetime import datetime

import jwt
import requests
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.redact import learn
from gitops_mvd.forges.api import WITHIN, Api, Explanation, Refused

PUBLIC = "https://api.github.com"
SKEW = 60  # seconds that this server's clock may be ahead of GitHub's, or behind it
LONGEST_PROOF = 600  # seconds that GitHub lets a JWT be valid
MARGIN = 120.0  # seconds before its end from which on a token is not used any more, if there is another

HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}


class GitHubApp:
    """The App's installation in one repository, `owner/name`.  Called, it is the token that is valid now.

    `id` is the App's number or its client id, `key` its private key as PEM.  Any thread may call.  All that can go
    wrong is Unavailable, since somebody mends it at the forge, and what waits for a token is not lost until then.
    """

    def __init__(
        self,
        id: str,
        key: str,
        repository: str,
        base_url: str = "",
        now: Callable[[], float] = time.time,
        within: float = WITHIN,
        ca_file: str = "",
    ) -> None:
        self._id = id
        self._key = _private_key(id, key)
        self._repository = repository
        self._now = now
        self._lock = threading.Lock()
        self._installation = 0
        self._token, self._ends = "", 0.0
        self._proof = ""
        self._api = Api(
            "GitHub",
            base_url or PUBLIC,
            self._sign,
            lambda: [self._proof],
            headers=HEADERS,
            explain=self._explain,
            within=within,
            ca_file=ca_file,
        )

    def __call__(self) -> str:
        with self._lock:
            if self._now() >= self._ends - MARGIN:
                try:
                    self._token, self._ends = self._mint()
                except Unavailable:
                    if self._now() >= self._ends:  # while there are some seconds left, it may be mended in time
                        raise
            return self._token

    def renew(self, refused: str) -> bool:
        """Forget a token that was refused before its time; is there another one now?  Raises Unavailable, too."""
        with self._lock:
            if refused == self._token:
                self._token, self._ends = "", 0.0
        return self() != refused

    def _mint(self) -> tuple[str, float]:
        """A new token, and when it ends.

        It is for this repository alone.  Permissions are not named: it has those of the App, and to ask for one that
        the App lacks would be refused altogether.
        """
        body = {"repositories": [self._repository.rpartition("/")[2]]}
        to = f"get a token for {self._repository}"
        known = self._installation
        try:
            self._installation = known or self._find(to)
            made = self._api.ask("POST", f"/app/installations/{self._installation}/access_tokens", to, body)
        except Refused as error:
            self._installation = 0
            if known and error.code in (404, 422):  # installed anew, or the repository has moved to another owner
                return self._mint()
            raise Unavailable(error.message, error.hint) from None
        with self._api.reading():
            learn(f"GitHub App {self._id} {self._repository}", str(made["token"]))
            return str(made["token"]), datetime.fromisoformat(made["expires_at"]).timestamp()

    def _find(self, to: str) -> int:
        found = self._api.ask("GET", f"/repos/{urllib.parse.quote(self._repository)}/installation", to)
        with self._api.reading():
            return int(found["id"])

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The proof of being the App; it is dated back, since GitHub takes none from the future."""
        now = int(self._now())
        claims = {"iss": self._id, "iat": now - SKEW, "exp": now - SKEW + LONGEST_PROOF}
        self._proof = jwt.encode(claims, self._key, algorithm="RS256")
        request.headers["Authorization"] = f"Bearer {self._proof}"
        return request

    def _explain(self, code: int, said: str) -> Explanation | None:
        where, app = self._api.where, f"GitHub App {self._id}"
        if code == 401 and ("Expiration time" in said or "Issued at" in said):
            return f"{where} finds the clock of this server wrong", "timedatectl says how far it is off"
        if code == 401:
            return f"{where} does not take this key for {app}", "is it of another App, or was it deleted there?"
        if code == 404 and "Integration" in said:
            return f"{where} knows no {app}", "check `github_app.id`, and whether it is an App of this server"
        if code in (404, 422):
            hint = "install it, and give it this repository"
            return f"{app} is not installed in {self._repository} at {where}", hint
        if code == 403 and "suspended" in said:
            return f"{app} is suspended in {self._repository} at {where}", "an owner can unsuspend it"
        if code in (301, 302, 307, 308):
            return f"{where} says that {self._repository} has moved", "put its new name into the settings"
        return None


def _private_key(id: str, key: str) -> RSAPrivateKey:
    """Raises Unavailable for what is no such key, and never shows any of it."""
    hint = "take the .pem file that GitHub gives for a private key of the App"
    try:
        read = load_pem_private_key(key.encode(), password=None)
    except TypeError:
        raise Unavailable(f"the key of GitHub App {id} has a passphrase", "take it away: openssl rsa") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unavailable(f"the key of GitHub App {id} is not a PEM private key", hint) from None
    if not isinstance(read, RSAPrivateKey):
        raise Unavailable(f"the key of GitHub App {id} is not an RSA key", hint)
    return read
