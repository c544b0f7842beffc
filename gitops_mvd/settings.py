"""The settings of one server: `/etc/gitops-mvd/config.yaml`, read strictly.  Pure; the caller reads the file.

Secrets are never in it: it names the files that they lie in.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gitops_mvd.errors import ManifestError
from gitops_mvd.manifest.place import Key, Place, fields
from gitops_mvd.manifest.shapes import absolute, boolean, duration, filled, list_of, mapping_of, one_of
from gitops_mvd.manifest.yamltree import Node, Sink, parse
from gitops_mvd.policy import Policy

PATH = "/etc/gitops-mvd/config.yaml"


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the repository lets us in: a token over https, or a deploy key over ssh."""

    username: str = "x-access-token"
    token_file: str = ""
    ssh_key: str = ""
    known_hosts: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """How a registry lets us in."""

    username: str = ""
    password_file: str = ""


@dataclass(frozen=True, slots=True)
class Docker:
    url: str = "unix:///var/run/docker.sock"
    registries: Mapping[str, Login] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The Kong of this server."""

    admin: str = "http://127.0.0.1:8001"
    proxy: str = "http://127.0.0.1:8000"
    address: str = "127.0.0.1"
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """Where commit statuses go."""

    kind: str
    repository: str
    base_url: str = "https://api.github.com"
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the forge's webhooks are heard; its kind says how they are authenticated."""

    listen: str = "127.0.0.1:9180"
    secret_file: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that this server has to be told by hand.  `host` "" is the machine's own name."""

    repository: str
    branch: str = "main"
    host: str = ""
    interval: float = 60.0
    credentials: Credentials = field(default_factory=Credentials)
    allow_rewind: bool = False
    allow_empty: bool = False
    docker: Docker = field(default_factory=Docker)
    kong: Gateway | None = None
    forge: ForgeSettings | None = None
    webhook: Webhook | None = None
    policy: Policy | None = None
    state: str = "/var/lib/gitops-mvd"
    files: str = "/etc/gitops-mvd/files"


CREDENTIALS = {
    "username": Key("The user name that goes with the token; GitHub's `x-access-token` by default.", filled),
    "token_file": Key("The file that has the token, for a repository over https.", absolute),
    "ssh_key": Key("The private key, for a repository over ssh.", absolute),
    "known_hosts": Key("The known_hosts file with the forge's host keys; ssh does not work without it.", absolute),
    "insecure": Key("`true` lets the token go over plain http. For a forge on a private network only.", boolean),
}
LOGIN = {
    "username": Key("The user name.", filled),
    "password_file": Key("The file that has the password or token.", absolute),
}


def _login(place: Place) -> Login:
    return Login(**fields(place, LOGIN, required=LOGIN))


def _listen(place: Place) -> str:
    value = filled(place)
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        is_written_well = (ipaddress.ip_address(bare).version == 6) is (bare != host)
    except ValueError:
        is_written_well = False
    if not is_written_well:
        place.fail(f"must be an IP address of this server and a port, such as `127.0.0.1:9180`, not {value!r}")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        place.fail(f"must have a port from 1 to 65535, not {port!r}")
    return value


DOCKER = {
    "url": Key("The engine's socket; `unix:///var/run/docker.sock` by default.", filled),
    "registries": Key(
        "Logins, by the registry's host name. Those of root's `~/.docker/config.json`, credential helpers among them, "
        "are used as they are.",
        mapping_of(_login),
    ),
}
KONG = {
    "admin": Key("The Admin API; `http://127.0.0.1:8001` by default.", filled),
    "proxy": Key("The proxy, which is asked whether a new route works; `http://127.0.0.1:8000` by default.", filled),
    "address": Key(
        "The address of this server that routed services are published on, and where Kong finds them; `127.0.0.1` by "
        "default, for a Kong on the same server.",
        filled,
    ),
    "token_file": Key("The file that has the value of the `Kong-Admin-Token` header.", absolute),
}
FORGE = {
    "kind": Key("`github`, which is GitHub Enterprise too.", one_of("github")),
    "repository": Key("`owner/name` of the config repository; taken from its address by default.", filled),
    "base_url": Key(
        "The API; `https://api.github.com` by default, `https://HOST/api/v3` for GitHub Enterprise.", filled
    ),
    "token_file": Key(
        "The file that has a token that may write commit statuses; `credentials.token_file` by default.", absolute
    ),
}
WEBHOOK = {
    "listen": Key("The address and port to listen at; `127.0.0.1:9180` by default.", _listen),
    "secret_file": Key("The file that has the secret which the forge proves to know, 16 characters or more.", absolute),
}

POLICY = {
    "trusted": Key("The apps that may do anything.", list_of(filled)),
    "mounts": Key("The host folders that the others may mount, with all below them.", list_of(absolute)),
    "registries": Key("The registries that their images may come from; any, where none is named.", list_of(filled)),
}


def _credentials(place: Place) -> Credentials:
    return Credentials(**fields(place, CREDENTIALS))


def _docker(place: Place) -> Docker:
    return Docker(**fields(place, DOCKER))


def _kong(place: Place) -> Gateway:
    return Gateway(**fields(place, KONG))


def _policy(place: Place) -> Policy:
    return Policy(**{key: tuple(values) for key, values in fields(place, POLICY).items()})


def _forge(place: Place) -> dict[str, Any]:
    return fields(place, FORGE, required=["kind"])


def _webhook(place: Place) -> Webhook:
    return Webhook(**fields(place, WEBHOOK, required=["secret_file"]))


def host_and_port(listen: str) -> tuple[str, int]:
    """What `listen` says, without the brackets of an IPv6 address."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _interval(place: Place) -> float:
    seconds = duration(place)
    return seconds if seconds >= 1 else place.fail("must be at least 1s")


SETTINGS = {
    "repository": Key(
        "The config repository: `https://...`, `ssh://...`, `git@host:owner/name.git` or a path.", filled
    ),
    "branch": Key("The branch to follow; `main` by default.", filled),
    "host": Key("This server's name in `fleet.yaml`; its host name by default.", filled),
    "interval": Key(
        "How often to look at the repository and at the host; `60s` by default, give or take 20 %.", _interval
    ),
    "credentials": Key("How the repository lets us in.", _credentials),
    "allow_rewind": Key(
        "`true` follows the branch where it was force-pushed to something that does not contain the last commit.",
        boolean,
    ),
    "allow_empty": Key(
        "`true` lets a commit remove every app of this server. Without it, that is taken for a mistake.", boolean
    ),
    "docker": Key("The Docker engine.", _docker),
    "kong": Key("The Kong of this server. Without it, `x-kong` waits.", _kong),
    "forge": Key("Where commit statuses go. Without it, none are posted.", _forge),
    "webhook": Key("Where the forge's webhooks are heard. Without it, nobody listens.", _webhook),
    "policy": Key("What the repository may not do with this server. Without it, it may do anything.", _policy),
    "state": Key("The folder for history and mirror; may be lost. `/var/lib/gitops-mvd` by default.", absolute),
    "files": Key("The folder for env files and mounted files. `/etc/gitops-mvd/files` by default.", absolute),
}


def read(file: str, data: bytes) -> Settings:
    """The settings in a file.  Raises ManifestError with every mistake in it."""
    sink: Sink = []
    root = parse(file, data, sink) or Node({}, file, 1)
    place = Place(root, (), sink)
    values = place.attempt(lambda at: fields(at, SETTINGS, required=["repository"])) or {}
    if not sink and "forge" in values:
        values["forge"] = _complete(values["forge"], values, place.entries()["forge"])
    if "webhook" in values and not place.has("forge"):
        place.entries()["webhook"].complain("needs `forge`: its kind says how webhooks are authenticated")
    if sink:
        raise ManifestError(sorted(found.problem for found in sink))
    return Settings(**values)


def _complete(forge: dict[str, Any], values: Mapping[str, Any], place: Place) -> ForgeSettings | None:
    """The forge's settings with what follows from the repository's address and credentials."""
    found = repository_name(values["repository"])
    if "repository" not in forge and not found:
        place.complain("has no `repository`, and none can be told from the repository's address")
        return None
    credentials = values.get("credentials", Credentials())
    return ForgeSettings(**{"repository": found, "token_file": credentials.token_file, **forge})


def secret_files(settings: Settings) -> set[str]:
    """The files with secrets that the settings name, and that are read together with them."""
    named = {settings.credentials.token_file, *(login.password_file for login in settings.docker.registries.values())}
    named |= {part.token_file for part in (settings.kong, settings.forge) if part}
    named |= {settings.webhook.secret_file} if settings.webhook else set()
    return named - {""}


def repository_name(url: str) -> str:
    """`owner/name` in the address of a repository, "" where there is none."""
    path = urlsplit(url).path if "://" in url else url.partition(":")[2]
    parts = path.removesuffix("/").removesuffix(".git").strip("/").split("/")
    return "/".join(parts[-2:]) if len(parts) >= 2 else ""
