"""The address of a repository: its host, its path, and what a forge reads from the two.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

Location = tuple[str, str]  # the repository's name at its forge and the API's base URL, "" for the forge's public one


@dataclass(frozen=True, slots=True)
class Address:
    """A repository's URL in parts.  Of an ssh URL, the API is taken to be https at the same host.

    `host` has its port; `parts` are the names in the path, without `.git`.
    """

    scheme: str
    host: str
    parts: Sequence[str]

    @classmethod
    def of(cls, url: str) -> Address | None:
        """None for what names no repository of a server: a folder, or half a URL."""
        try:
            scheme, host, path = _split(url)
        except ValueError:  # half an IPv6 address, and the like
            return None
        parts = [part for part in unquote(path).removesuffix("/").removesuffix(".git").split("/") if part]
        return cls(scheme, host, parts) if host and len(parts) >= 2 else None

    @property
    def name(self) -> str:
        """The host without its port."""
        return self.host.partition(":")[0]

    def base_url(self, below: Sequence[str] = ()) -> str:
        return "/".join([f"{self.scheme}://{self.host}", *below])


def last_two_parts(address: Address) -> Location:
    """The repository is `owner/name`; what is before these two is the path of the forge."""
    return "/".join(address.parts[-2:]), address.base_url(address.parts[:-2])


def _split(url: str) -> tuple[str, str, str]:
    """The scheme of the API, its host, and the path of the repository."""
    if "://" not in url:
        host, colon, path = url.partition(":")
        return ("https", host.rpartition("@")[2], path) if colon and "/" not in host else ("", "", "")
    split = urlsplit(url)
    host = split.hostname or ""
    if split.scheme == "ssh":
        return "https", host, split.path
    return split.scheme, host + (f":{split.port}" if split.port else ""), split.path
