"""A GitHub App of the lab's forge: where it is installed, and the tokens that it has."""

from __future__ import annotations

import re
import secrets
import time
import urllib.parse
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.lab.dialects import basic
from tests.lab.repository import IDS, Refused

LONGEST_JWT_SECONDS = 600  # from now to its end


def new_key() -> tuple[str, str]:
    """A private key and its public one, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@dataclass
class App:
    """It proves to be the App `id` by a JWT that one of its public `keys` verifies, and then gets tokens.

    `installations` has the repositories that it is installed in, each with the installation's number; a token is good
    for `lifetime` seconds.
    """

    id: int
    keys: list[str]
    installations: dict[str, int] = field(default_factory=dict)
    lifetime: float = 3600.0
    is_suspended: bool = False
    minted: list[str] = field(default_factory=list)
    _tokens: dict[str, tuple[float, set[str]]] = field(default_factory=dict)

    def install(self, *repositories: str) -> int:
        """Install it again, in those repositories; earlier tokens become invalid."""
        number = next(IDS)
        self.revoke()
        self.installations.update(dict.fromkeys(repositories, number))
        return number

    def revoke(self) -> None:
        """Make all tokens invalid."""
        self._tokens.clear()

    def admits(self, authorization: str, path: str) -> bool:
        """Is this a token of its own, for the repository of that path, or a JWT where one belongs?"""
        if re.fullmatch(r".*/app/.*|.*/installation", path):
            return True  # what proves it there is looked at by `prove`
        given = basic(authorization)[1] or authorization.partition(" ")[2]
        ends, repositories = self._tokens.get(given, (0.0, set()))
        if time.time() >= ends:
            return False
        return any(f"/{name}/" in f"{urllib.parse.unquote(path)}/".replace(".git/", "/") for name in repositories)

    def prove(self, authorization: str) -> None:
        """Is this the App?  Raises Refused as GitHub does."""
        given = authorization.partition(" ")[2]
        for key in self.keys:
            try:
                claims = jwt.decode(
                    given, key, algorithms=["RS256"], options={"verify_iat": False, "verify_exp": False}
                )
                break
            except jwt.InvalidTokenError:
                continue
        else:
            raise Refused(401, "A JSON web token could not be decoded")
        now = time.time()
        if claims.get("iss") != str(self.id):
            raise Refused(404, "Integration not found")
        if not isinstance(claims.get("iat"), int) or claims["iat"] > now:
            raise Refused(401, "'Issued at' claim ('iat') must be an Integer representing the time that it was issued")
        if claims.get("exp", 0) <= now:
            raise Refused(401, "'Expiration time' claim ('exp') must be a numeric value in the future")
        if claims["exp"] > now + LONGEST_JWT_SECONDS:
            raise Refused(401, "'Expiration time' claim ('exp') is too far in the future")

    def mint(self, installation: int, names: list[str]) -> tuple[str, float]:
        """A token for some repositories of an installation, by their names without the owner, and when it ends."""
        reached = {name for name, number in self.installations.items() if number == installation}
        if not reached:
            raise Refused(404, "Not Found")
        if self.is_suspended:
            raise Refused(403, "This installation has been suspended")
        chosen = {name for name in reached if not names or name.partition("/")[2] in names}
        if len(chosen) < len(names):
            raise Refused(422, "There is at least one repository that does not exist or is not accessible to this App")
        token, ends = f"ghs_{secrets.token_hex(18)}", time.time() + self.lifetime
        self._tokens[token] = ends, chosen
        self.minted.append(token)
        return token, ends
