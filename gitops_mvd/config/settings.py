"""The settings of one server: `/etc/gitops-mvd/config.yaml`, read strictly.  Pure; the caller reads the file.

Secrets are never in it: it names the files that they lie in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gitops_mvd.config.readers import absolute, boolean, duration, filled, list_of, mapping_of, one_of, word
from gitops_mvd.config.tables import Invalid, Key, Place, Table, fields
from gitops_mvd.config.yamltree import Node, Sink, parse
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.policy import Policy
from gitops_mvd.forges.api import address as origin
from gitops_mvd.forges.api.address import KINDS

PATH = "/etc/gitops-mvd/config.yaml"


@dataclass(frozen=True, slots=True)
class GitHubApp:
    """The login of a GitHub App: `id` is its number or its client id."""

    id: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the repository lets us in: a token over https, that of a GitHub App, or a deploy key over ssh."""

    username: str = "x-access-token"
    token_file: str = ""
    github_app: GitHubApp | None = None
    ssh_key: str = ""
    known_hosts: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Verify:
    """Whose signature a revision needs.  `mode` is `head`, `tag` or `every`; the files lie on this server."""

    mode: str
    allowed_signers: str = ""
    gpg_keys: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        return (*filter(None, [self.allowed_signers]), *self.gpg_keys)


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
class KongSettings:
    """The Kong of this server, or of all servers that have the same name for it in `shared`."""

    admin: str = "http://127.0.0.1:8001"
    proxy: str = "http://127.0.0.1:8000"
    address: str = "127.0.0.1"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    token_file: str = ""
    token_header: str = "Kong-Admin-Token"
    insecure: bool = False
    boot_file: str = ""
    drift: str = "repair"
    shared: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return (self.ca_file, self.cert_file, self.key_file, self.token_file)


@dataclass(frozen=True, slots=True)
class PullRequestSettings:
    """What is told of open pull requests."""

    plan: bool = True
    comment: bool = False
    forks: bool = False


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """Where commit statuses go, and what else is told there; `base_url` "" is the forge's public API."""

    kind: str
    repository: str
    base_url: str = ""
    token_file: str = ""
    username: str = ""
    apps: bool = False
    environment: str = ""
    link: str = ""
    proposals: PullRequestSettings = field(default_factory=PullRequestSettings)


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
    verify: Verify | None = None
    allow_rewind: bool = False
    allow_empty: bool = False
    docker: Docker = field(default_factory=Docker)
    kong: KongSettings | None = None
    forge: ForgeSettings | None = None
    webhook: Webhook | None = None
    policy: Policy | None = None
    state: str = "/var/lib/gitops-mvd"
    files: str = "/etc/gitops-mvd/files"
    secrets: str = "/etc/gitops-mvd/secrets"


GITHUB_APP = {
    "id": Key("The App's number, or its client id.", word),
    "key_file": Key("The file that has a private key of it, as PEM.", absolute),
}


def _github_app(place: Place) -> GitHubApp:
    return GitHubApp(**_all(place, GITHUB_APP))


CREDENTIALS = {
    "username": Key("The user name that goes with the token; GitHub's `x-access-token` by default.", filled),
    "token_file": Key("The file that has the token, for a repository over https.", absolute),
    "github_app": Key("A GitHub App in place of a token, for the repository over https and for `forge`.", _github_app),
    "ssh_key": Key("The private key, for a repository over ssh.", absolute),
    "known_hosts": Key("The known_hosts file with the forge's host keys; ssh does not work without it.", absolute),
    "insecure": Key("`true` lets the token go over plain http. For a forge on a private network only.", boolean),
}
VERIFY = {
    "mode": Key(
        "`head`: the last commit is signed; `tag`: a signed tag points at it; `every`: so is every commit since the "
        "one that was followed last.",
        one_of("head", "tag", "every"),
    ),
    "allowed_signers": Key(
        "The file that has the SSH keys whose signatures are good, as ssh-keygen(1) has it.", absolute
    ),
    "gpg_keys": Key("The files that have the public GPG keys whose signatures are good.", list_of(absolute)),
}
LOGIN = {
    "username": Key("The user name.", filled),
    "password_file": Key("The file that has the password or token.", absolute),
}


def _login(place: Place) -> Login:
    return Login(**_all(place, LOGIN))


def _all(place: Place, table: Table) -> dict[str, Any]:
    """The entries of a mapping that is worthless without any of them."""
    values = fields(place, table, required=table)
    if len(values) < len(table):
        raise Invalid
    return values


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


def _address(*schemes: str) -> Callable[[Place], str]:
    """An address of one of these schemes, without a login, query or fragment in it."""

    def read(place: Place) -> str:
        value = filled(place)
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            place.fail(f"is no address: {error}")
        written = [f"{scheme}:///path" if scheme == "unix" else f"{scheme}://" for scheme in schemes]
        if parts.scheme not in schemes or not (parts.path if parts.scheme == "unix" else parts.hostname):
            place.fail(f"must be an address that begins with {' or '.join(written)}")
        if parts.username is not None or parts.password is not None:
            place.fail("has a login in it: a header with it goes into `token_file`, with `token_header: Authorization`")
        if parts.query or parts.fragment or (parts.scheme == "unix" and parts.netloc):
            place.fail("must be an address alone: no query, and a socket with three slashes, unix:///run/kong.sock")
        return value

    return read


def _header(place: Place) -> str:
    value = filled(place)
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
        place.fail("must be the name of a header, such as `Authorization`")
    return value


def _boot_file(place: Place) -> str:
    value = absolute(place)
    if not value.endswith((".yaml", ".yml", ".json")):
        place.fail("must end in .yaml, .yml or .json: Kong reads no other")
    return value


def _shared(place: Place) -> str:
    value = filled(place)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
        place.fail(f"must be a name of letters, digits, dots, dashes and underscores, not {value!r}")
    return value


KONG = {
    "admin": Key(
        "The Admin API: `http://`, `https://` or `unix:///path`; `http://127.0.0.1:8001` by default.",
        _address("http", "https", "unix"),
    ),
    "proxy": Key(
        "The proxy, which is asked whether a new route works; `http://127.0.0.1:8000` by default.",
        _address("http", "https"),
    ),
    "address": Key(
        "The address of this server that routed services are published on, and where Kong finds them; `127.0.0.1` by "
        "default, for a Kong on the same server.",
        filled,
    ),
    "ca_file": Key(
        "The file that has the certificate of who signed that of the Admin API; by default whom this server trusts.",
        absolute,
    ),
    "cert_file": Key("The file that has the certificate that we show to the Admin API.", absolute),
    "key_file": Key("The file that has the key of `cert_file`.", absolute),
    "token_file": Key("The file that has the value of the header `token_header`.", absolute),
    "token_header": Key("The header that lets us in; `Kong-Admin-Token` by default.", _header),
    "insecure": Key("`true` lets the token go over plain http to another machine.", boolean),
    "boot_file": Key("The file that a Kong without a database starts from, which is kept up to date.", _boot_file),
    "drift": Key(
        "What was changed by hand at the gateway is put back (`repair`) or only told (`report`).",
        one_of("repair", "report"),
    ),
    "shared": Key(
        "A name that all servers have in their settings which share this Kong; it needs a database then, and `address` "
        "one of this server that Kong reaches. Without it, the Kong is this server's alone.",
        _shared,
    ),
}
PROPOSALS = {
    "plan": Key("`false` leaves them alone; by default each gets the status `mvd/HOST/plan`.", boolean),
    "comment": Key("`true` writes the whole plan below them, in one comment a host that is kept up to date.", boolean),
    "forks": Key("`true` looks at those that come from a fork, too.", boolean),
}


def _proposals(place: Place) -> PullRequestSettings:
    return PullRequestSettings(**fields(place, PROPOSALS))


def _link(place: Place) -> str:
    link = filled(place)
    if not link.startswith(("https://", "http://")):
        place.fail("must be an address that begins with https://")
    return link


FORGE = {
    "kind": Key("Which one it is; needed where the repository's address does not tell.", one_of(*KINDS)),
    "repository": Key("The name of the config repository there; taken from its address by default.", filled),
    "base_url": Key("The API; taken from the repository's address by default.", filled),
    "token_file": Key(
        "The file that has a token that may write commit statuses; by default the login of `credentials`.", absolute
    ),
    "username": Key("The user whose password the token is, for Bitbucket.", filled),
    "apps": Key("`true` gives every app a status of its own, too: `mvd/HOST/APP`.", boolean),
    "environment": Key(
        "Shows what runs here as a deployment to that environment of GitHub's, such as `{host}`; a label of this host "
        "goes by its name, as in `production {region}`.",
        filled,
    ),
    "link": Key("Where statuses lead to, with `{host}`, `{app}` and `{commit}` in it.", _link),
    "proposals": Key("What is told of open pull requests.", _proposals),
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
    found = Credentials(**fields(place, CREDENTIALS))
    if found.github_app and found.token_file:
        place.entries()["github_app"].fail("takes the place of `token_file`: give one of them")
    return found


def _verify(place: Place) -> Verify:
    values = fields(place, VERIFY, required=["mode"])
    if not place.has("allowed_signers") and not values.get("gpg_keys"):
        place.complain("has neither `allowed_signers` nor `gpg_keys`, one of which says whose signatures are good")
    if "mode" not in values:
        raise Invalid
    return Verify(values["mode"], values.get("allowed_signers", ""), tuple(values.get("gpg_keys", ())))


def _docker(place: Place) -> Docker:
    return Docker(**fields(place, DOCKER))


def _kong(place: Place) -> KongSettings:
    found = KongSettings(**fields(place, KONG))
    scheme, host = urlsplit(found.admin).scheme, urlsplit(found.admin).hostname or ""
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if place.has(key) and not place.has(other):
            place.entries()[key].complain(f"needs `{other}`")
    if found.cert_file and scheme != "https":
        place.entries()["cert_file"].complain("is only shown to an `admin` that begins with https://")
    if found.token_file and scheme == "http" and not found.insecure and not _is_this_machine(host):
        told = "can be read on the way to an `admin` over http: use https, or say `insecure: true`"
        place.entries()["token_file"].complain(told)
    if place.has("token_header") and not found.token_file:
        place.entries()["token_header"].complain("needs `token_file`")
    if found.shared and not _is_reached(found.address):
        at = place.entries()["address" if place.has("address") else "shared"]
        at.complain(f"needs an `address` of this server that a shared Kong reaches, which {found.address} is not")
    if found.shared and found.boot_file:
        place.entries()["boot_file"].complain("is for a Kong without a database, and a shared one needs a database")
    return found


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_reached(address: str) -> bool:
    """May another server reach that address?"""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address.rstrip(".").rpartition(".")[2] != "localhost"
    return not (ip.is_loopback or ip.is_unspecified)


def _policy(place: Place) -> Policy:
    return Policy(**{key: tuple(values) for key, values in fields(place, POLICY).items()})


def _forge(place: Place) -> dict[str, Any]:
    return fields(place, FORGE)


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
    "verify": Key("Whose signature a commit needs to be followed. Without it, none.", _verify),
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
    "secrets": Key(
        "The folder of the files that a manifest names as `{file://NAME}`. `/etc/gitops-mvd/secrets` by default.",
        absolute,
    ),
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
    told = origin.read(values["repository"], forge.get("kind", ""))
    if not told.kind:
        place.complain("has no `kind`, and none can be told from the repository's address")
    elif "repository" not in forge and not told.repository:
        place.complain("has no `repository`, and none can be told from the repository's address")
    elif forge.get("environment") and told.kind != "github":
        place.complain("has an `environment`, which GitHub alone has")
    else:
        credentials = values.get("credentials", Credentials())
        if credentials.github_app and told.kind != "github" and "token_file" not in forge:
            place.complain("has no `token_file`, and the one of a GitHub App is not for it")
        known = {"kind": told.kind, "repository": told.repository, "base_url": told.base_url}
        return ForgeSettings(**{**known, "token_file": credentials.token_file, **forge})
    return None


def named_files(settings: Settings) -> set[str]:
    """The files with secrets and keys that the settings name, and that are read together with them."""
    named = set(settings.verify.files if settings.verify else ())
    named |= {settings.credentials.token_file, *(login.password_file for login in settings.docker.registries.values())}
    named |= {settings.forge.token_file} if settings.forge else set()
    named |= set(settings.kong.files) if settings.kong else set()
    named |= {app.key_file for app in (settings.credentials.github_app,) if app}
    named |= {settings.webhook.secret_file} if settings.webhook else set()
    return named - {""}
