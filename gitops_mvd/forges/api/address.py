"""What the address of the config repository tells of its forge: which it is, the name there, the API.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

HOSTS = {  # whose name alone says which forge they are
    "github.com": "github",
    "gitlab.com": "gitlab",
    "bitbucket.org": "bitbucket-cloud",
    "codeberg.org": "forgejo",
    "dev.azure.com": "azure-devops",
    "ssh.dev.azure.com": "azure-devops",
}
PUBLIC = {"github": "github.com", "bitbucket-cloud": "bitbucket.org", "azure-devops": "dev.azure.com"}
"""Forges whose own public API is at another address than its repositories."""

KINDS = (
    "azure-devops",
    "bitbucket-cloud",
    "bitbucket-dc",
    "forgejo",
    "gitea",
    "github",
    "gitlab",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """`kind` and `repository` are "" where they can not be told, and `base_url` where it is the forge's public one."""

    kind: str = ""
    repository: str = ""
    base_url: str = ""


def read(url: str, kind: str = "") -> Origin:
    """What an address tells; of a `kind` of forge that is known already, it also tells the API.

    Over ssh, an address has neither the port nor the path of the API: that is taken to be https at the same host.
    """
    try:
        scheme, host, path = _parts(url)
    except ValueError:  # half an IPv6 address, and the like
        return Origin(kind)
    name = host.partition(":")[0]
    kind = kind or HOSTS.get(name, "azure-devops" if name.endswith(".visualstudio.com") else "")
    parts = [part for part in unquote(path).removesuffix("/").removesuffix(".git").split("/") if part]
    if not host or len(parts) < 2:
        return Origin(kind)
    if kind == "azure-devops":
        return _azure(scheme, host, parts)
    if kind == "bitbucket-dc" and "scm" in parts[:-2]:  # https://host/context/scm/PROJ/slug.git
        below, parts = parts[: parts.index("scm")], parts[parts.index("scm") + 1 :]
        return Origin(kind, "/".join(parts), "/".join([f"{scheme}://{host}", *below]))
    # Groups of GitLab may have groups below them; everywhere else a name has two parts, and what is before is a path.
    repository = "/".join(parts if kind == "gitlab" else parts[-2:])
    if host == PUBLIC.get(kind):
        return Origin(kind, repository)
    if kind == "github":  # https://docs.github.com/en/rest/about-the-rest-api, of each edition
        return Origin(
            kind, repository, f"https://api.{host}" if host.endswith(".ghe.com") else f"{scheme}://{host}/api/v3"
        )
    return Origin(kind, repository, "/".join([f"{scheme}://{host}", *([] if kind == "gitlab" else parts[:-2])]))


def _parts(url: str) -> tuple[str, str, str]:
    """How the API is asked, at which host, and the path of the repository."""
    if "://" not in url:
        host, colon, path = url.partition(":")
        return ("https", host.rpartition("@")[2], path) if colon and "/" not in host else ("", "", "")
    split = urlsplit(url)
    host = split.hostname or ""
    if split.scheme == "ssh":
        return "https", host, split.path
    return split.scheme, host + (f":{split.port}" if split.port else ""), split.path


def _azure(scheme: str, host: str, parts: list[str]) -> Origin:
    """https://dev.azure.com/ORG/PROJECT/_git/REPO, and its many other ways to say so.

    Where a repository is called as its project is, that is said once.
    """
    name = host.partition(":")[0]
    if organisation := re.fullmatch(r"([^.]+)\.visualstudio\.com", name):
        parts = [organisation[1], *(part for part in parts if part != "DefaultCollection")]
    public = bool(organisation) or name in HOSTS
    if parts[0] == "v3":  # as ssh has it
        parts = parts[1:]
    if "_git" in parts:
        place = parts.index("_git")
        parts = [*parts[:place], *(parts[place + 1 :] * (2 if place == 1 else 1))]
    below = [] if public else parts[:-3]
    return Origin("azure-devops", "/".join(parts[-3:]), "" if public else "/".join([f"{scheme}://{host}", *below]))
