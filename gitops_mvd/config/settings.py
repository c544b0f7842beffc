"""The settings of one server: `/etc/gitops-mvd/config.yaml`, read strictly.  Pure; the caller reads the file.

Secrets are never in it: it names the files that they lie in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, replace
from dataclasses import fields as fields_of
from typing import Any, TypeVar
from urllib.parse import urlsplit

from gitops_mvd import forges
from gitops_mvd.config.readers import (
    absolute,
    boolean,
    duration,
    either,
    filled,
    mapping_of,
    one_of,
    own_word,
    tuple_of,
)
from gitops_mvd.config.tables import Invalid, Key, Place, Reader, accepts, fields, mapping_schema
from gitops_mvd.config.yamltree import Node, Sink, mistakes, parse
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.policy import LEVELS, Policy
from gitops_mvd.core.secrets import misnamed

PATH = "/etc/gitops-mvd/config.yaml"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GitHubApp:
    """The login of a GitHub App: `id` is its number or its client id."""

    id: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """The login at the repository: a token or a GitHub App over https, or a deploy key over ssh."""

    username: str = "x-access-token"
    token_file: str = ""
    github_app: GitHubApp | None = None
    ssh_key: str = ""
    known_hosts: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class SopsSettings:
    """The keys of this host for files of the repository that are encrypted with SOPS."""

    age_key_file: str = "/etc/gitops-mvd/sops/age/keys.txt"
    gnupg_home: str = "/etc/gitops-mvd/sops/gnupg"


@dataclass(frozen=True, slots=True)
class CommandProvider:
    """A program that prints a secret; `{path}` in its words is the path of that."""

    run: tuple[str, ...]
    interval: float = 300.0
    within: float = 10.0


@dataclass(frozen=True, slots=True)
class AppRole:
    """The login of a machine at Vault."""

    role_id_file: str
    secret_id_file: str
    mount: str = "approle"


@dataclass(frozen=True, slots=True)
class VaultProvider:
    """A Vault or OpenBao: one of `token_file` and `approle` is the login there."""

    address: str
    token_file: str = ""
    approle: AppRole | None = None
    namespace: str = ""
    ca_file: str = ""
    interval: float = 300.0


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """Who is asked for secrets: exactly one of these."""

    command: CommandProvider | None = None
    vault: VaultProvider | None = None


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
    """The login at a registry."""

    username: str
    password_file: str


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
    """What is reported on open pull requests."""

    plan: bool = True
    comment: bool = False
    forks: bool = False


@dataclass(frozen=True, slots=True)
class ForgeSettings:
    """Where commit statuses go, and what else is reported there; `base_url` "" is the forge's public API."""

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
    """The address that listens for webhooks of the forge; its kind says how they are authenticated."""

    secret_file: str
    listen: str = "127.0.0.1:9180"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings; None is a section that the file does not have, and `host` "" the machine's own name."""

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
    folders: str = "/srv/mvd"
    secrets: str = "/etc/gitops-mvd/secrets"
    sops: SopsSettings = field(default_factory=lambda: SopsSettings())
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)


_HEADER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SHARED = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Section(Reader[T]):
    """The keys of a part of the settings, as a reader of the dataclass that it becomes.  See `section`."""

    keys: Mapping[str, Key]
    required: tuple[str, ...]


def section(cls: type[T], keys: Mapping[str, Key], derived: Iterable[str] = ()) -> Section[T]:
    """The reader of `cls` from a mapping of `keys`.  Raises TypeError if `cls` and `keys` do not match.

    A field without a default is a required key, unless it is `derived` from other settings.  The defaults of `cls`
    go into the keys, for the manual and the schema.
    """
    parts = {part.name: part for part in fields_of(cls)}  # type: ignore[arg-type]
    if different := parts.keys() ^ keys.keys():
        raise TypeError(f"{cls.__name__} and its keys do not match: {', '.join(sorted(different))}")
    without = [name for name, part in parts.items() if part.default is MISSING and part.default_factory is MISSING]
    required = tuple(name for name in keys if name in without and name not in derived)
    shown = {name: replace(key, default=key.default or _shown(parts[name].default)) for name, key in keys.items()}

    def read(place: Place) -> T:
        values = fields(place, shown, required)
        if missing := set(required) - values.keys():
            raise Invalid(missing)
        return cls(**values)

    return Section(read, mapping_schema(shown, required), shown, required)


def _shown(default: object) -> str:
    """A default as the file would say it; "" for none."""
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}s`"
        case str() if default:
            return f"`{default}`"
    return ""


# ---- readers of single settings --------------------------------------------------------------------------------------


@accepts({"type": "string", "pattern": ":[0-9]{1,5}$"})
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


@accepts({"type": ["integer", "string"], "pattern": "^[0-9]{1,5}(-[0-9]{1,5})?$", "minimum": 1, "maximum": 65535})
def _ports(place: Place) -> tuple[int, int]:
    """A port, or the first and the last of several."""
    value = str(place.scalar("a port, or a first and a last one"))
    first, _, last = value.partition("-")
    if not re.fullmatch(r"[0-9]{1,5}(-[0-9]{1,5})?", value) or not 1 <= int(first) <= int(last or first) <= 65535:
        place.fail(f"must be a port, or a first and a last one such as `8000-8999`, not {value!r}")
    return int(first), int(last or first)


@accepts({"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"})
def _network(place: Place) -> str:
    value = filled(place)
    try:
        ipaddress.ip_network(value)
    except ValueError:
        place.fail(f"must be a network such as 10.20.0.0/16, not {value!r}")
    return value


def _address(*schemes: str) -> Reader[str]:
    """A reader of addresses of these schemes, without a login, query or fragment."""

    @accepts({"type": "string", "pattern": f"^({'|'.join(schemes)})://"})
    def read(place: Place) -> str:
        value = filled(place)
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            place.fail(f"is not an address: {error}")
        written = [f"{scheme}:///path" if scheme == "unix" else f"{scheme}://" for scheme in schemes]
        if parts.scheme not in schemes or not (parts.path if parts.scheme == "unix" else parts.hostname):
            place.fail(f"must be an address that begins with {' or '.join(written)}")
        if parts.username is not None or parts.password is not None:
            place.fail("contains a login: put a header with it into `token_file`, with `token_header: Authorization`")
        if parts.query or parts.fragment or (parts.scheme == "unix" and parts.netloc):
            place.fail("must be an address alone: no query, and a socket with three slashes, unix:///run/kong.sock")
        return value

    return read


@accepts({"type": "string", "pattern": f"^{_HEADER}$"})
def _header(place: Place) -> str:
    value = filled(place)
    if not re.fullmatch(_HEADER, value):
        place.fail("must be the name of a header, such as `Authorization`")
    return value


@accepts({"type": "string", "pattern": r"^/.*\.(yaml|yml|json)$"})
def _boot_file(place: Place) -> str:
    value = absolute(place)
    if not value.endswith((".yaml", ".yml", ".json")):
        place.fail("must end in .yaml, .yml or .json: Kong reads no other file")
    return value


@accepts({"type": "string", "pattern": f"^{_SHARED}$"})
def _shared(place: Place) -> str:
    value = filled(place)
    if not re.fullmatch(_SHARED, value):
        place.fail(f"must be a name of letters, digits, dots, dashes and underscores, not {value!r}")
    return value


@accepts({"type": "string", "pattern": "^https?://"})
def _link(place: Place) -> str:
    link = filled(place)
    if not link.startswith(("https://", "http://")):
        place.fail("must be an address that begins with https://")
    return link


@accepts(duration.schema)
def _interval(place: Place) -> float:
    seconds = duration(place)
    return seconds if seconds >= 1 else place.fail("must be at least 1s")


@accepts({"enum": forges.kinds()})
def _forge_kind(place: Place) -> str:
    return one_of(*forges.kinds())(place)


# ---- the sections ----------------------------------------------------------------------------------------------------

GITHUB_APP_SECTION = section(
    GitHubApp,
    {
        "id": Key("The number of the App, or its client id.", own_word),
        "key_file": Key("The file with a private key of the App: the `.pem` that GitHub gives, unencrypted.", absolute),
    },
)
CREDENTIALS_SECTION = section(
    Credentials,
    {
        "username": Key("The user name that goes with the token. The default is GitHub's.", filled),
        "token_file": Key("The file with the token, for a repository over https.", absolute),
        "github_app": Key(
            "A GitHub App instead of a token, for the repository over https and for `forge`.", GITHUB_APP_SECTION
        ),
        "ssh_key": Key("The file with the private key, for a repository over ssh.", absolute),
        "known_hosts": Key("The known_hosts file with the host keys of the forge. Required for ssh.", absolute),
        "insecure": Key("`true` sends the token over plain http too. For a forge on a private network only.", boolean),
    },
)
VERIFY_SECTION = section(
    Verify,
    {
        "mode": Key(
            "`head`: the last commit of the branch must be signed. `tag`: a signed, annotated tag must point at it; "
            "a release is let through by its tag. `every`: every commit since the last one that was followed must be "
            "signed, also those that a merge brought in; the first time, only the last commit.",
            one_of("head", "tag", "every"),
        ),
        "allowed_signers": Key(
            "The file with the SSH keys whose signatures are accepted, in the format of `ssh-keygen` (ALLOWED "
            "SIGNERS): `jane@acme.com ssh-ed25519 AAAA...`, one a line.",
            absolute,
        ),
        "gpg_keys": Key(
            "The files with the public GPG keys whose signatures are accepted, as `gpg --export --armor` writes them.",
            tuple_of(absolute),
        ),
    },
)
LOGIN_SECTION = section(
    Login,
    {
        "username": Key("The user name.", filled),
        "password_file": Key("The file with the password or token.", absolute),
    },
)
DOCKER_SECTION = section(
    Docker,
    {
        "url": Key("The engine's socket.", filled),
        "registries": Key(
            "Logins, by the host name of the registry. The logins in root's `~/.docker/config.json`, also those of "
            "credential helpers, are used too.",
            mapping_of(LOGIN_SECTION),
        ),
    },
)
KONG_SECTION = section(
    KongSettings,
    {
        "admin": Key(
            "The Admin API: `http://HOST:PORT`, `https://HOST:PORT`, either with a path behind it, or `unix:///PATH`.",
            _address("http", "https", "unix"),
        ),
        "proxy": Key(
            "The proxy, `http://` or `https://`. It is asked whether a new route works.", _address("http", "https")
        ),
        "address": Key(
            "The address of this server that routed services are published on, and where Kong reaches them. The "
            "default is for a Kong on the same server.",
            filled,
        ),
        "ca_file": Key(
            "The file with the certificate of the authority that signed the certificate of the Admin API.",
            absolute,
            "the authorities that this server trusts",
        ),
        "cert_file": Key("The file with the client certificate for the Admin API.", absolute),
        "key_file": Key("The file with the key of `cert_file`, unencrypted.", absolute),
        "token_file": Key("The file with the value of the header `token_header`.", absolute),
        "token_header": Key(
            "The header that authenticates at the Admin API. The default is the one of Kong's RBAC; `apikey` for a "
            "key-auth plugin before it; `Authorization`, with `Bearer ...` or `Basic ...` in the file.",
            _header,
        ),
        "insecure": Key(
            "`true` sends the token over plain http to another machine. For a private network only.", boolean
        ),
        "boot_file": Key(
            "Kong's declarative start file, for a Kong without a database. It is kept up to date.", _boot_file
        ),
        "drift": Key(
            "What is done about a change that somebody made in Kong by hand: it is undone (`repair`) or only reported "
            "(`report`).",
            one_of("repair", "report"),
        ),
        "shared": Key(
            "A name, the same on all servers that share this Kong. Such a Kong must have a database, and reach "
            "`address`.",
            _shared,
            "none, this Kong routes to this server only",
        ),
    },
)
PULL_REQUESTS_SECTION = section(
    PullRequestSettings,
    {
        "plan": Key("`true` reports the plan of each pull request as the status `mvd/HOST/plan`.", boolean),
        "comment": Key(
            "`true` writes the whole plan into a comment on the pull request, one for each host, kept up to date.",
            boolean,
        ),
        "forks": Key(
            "`true` does this for pull requests from forks too. Whoever can open one then makes this host read files "
            "and ask registries.",
            boolean,
        ),
    },
)
FORGE_SECTION = section(
    ForgeSettings,
    {
        "kind": Key(
            f"The forge: {', '.join(f'`{kind}`' for kind in forges.kinds())}. "
            "Required if the repository's address does not tell.",
            _forge_kind,
            "as the repository's address tells",
        ),
        "repository": Key(
            "The name of the config repository there: `acme/config`; with all its groups at GitLab, `PROJECT/slug` or "
            "`~user/slug` at Bitbucket Data Center, `organisation/project/repository` at Azure DevOps.",
            filled,
            "as the repository's address tells",
        ),
        "base_url": Key(
            "The API. Required if Git goes by ssh and the web is at another port or path.",
            filled,
            "as the repository's address tells, `https://HOST/api/v3` for GitHub Enterprise Server, for the others "
            "`https://HOST` with the path before the repository",
        ),
        "token_file": Key(
            "The file with a token that may write commit statuses.",
            absolute,
            "the login of `credentials`, which for GitHub may be an App",
        ),
        "username": Key(
            "For Bitbucket: the user of the password or API token. Without a user, the token is an access token.",
            filled,
        ),
        "apps": Key(
            "`true` gives every app a status of its own too, `mvd/HOST/APP`, at the last commit that changed the app.",
            boolean,
        ),
        "environment": Key(
            "GitHub only: what runs on this host is shown as a deployment to that environment. `{host}` and the name "
            'of each label of the host are filled in: `"{host}"` is an environment for each host, '
            '`"production {region}"` one for all hosts of a region.',
            filled,
        ),
        "link": Key(
            "The page that a status links to, with `{host}`, `{app}` and `{commit}` filled in: "
            "`https://wiki.example.com/runbook?host={host}&app={app}&commit={commit}`.",
            _link,
            "none, or the page of the commit if the forge requires a link",
        ),
        "proposals": Key("What is reported on open pull requests.", PULL_REQUESTS_SECTION),
    },
    derived=("kind", "repository"),
)
WEBHOOK_SECTION = section(
    Webhook,
    {
        "secret_file": Key(
            "The file with the secret that the forge signs with, 16 characters or more: `openssl rand -hex 32`.",
            absolute,
        ),
        "listen": Key(
            'The address and port to listen at, plain HTTP; IPv6 as `"[::1]:9180"`. The daemon may not use a port '
            "below 1024.",
            _listen,
        ),
    },
)
SOPS_SECTION = section(
    SopsSettings,
    {
        "age_key_file": Key("The file with the identities of age, as `age-keygen` writes it.", absolute),
        "gnupg_home": Key("The home of GnuPG with the secret keys of PGP, which have no passphrase.", absolute),
    },
)


@accepts({"type": "array", "items": {"type": "string"}, "minItems": 1})
def _words(place: Place) -> tuple[str, ...]:
    words = tuple_of(filled)(place)
    if not words or not words[0].startswith("/"):
        place.fail("must begin with the absolute path of a program")
    if not any("{path}" in word for word in words[1:]):
        place.fail("must have `{path}` in a word behind the program, for the path of the secret that is asked for")
    return words


COMMAND_SECTION = section(
    CommandProvider,
    {
        "run": Key(
            'The program and its words, without a shell: `[/usr/local/bin/op, read, "op://servers/{path}"]`. What it '
            "prints is the secret; of one that is missing it prints nothing. It gets `PATH` and `HOME` alone.",
            _words,
        ),
        "interval": Key("How often to ask again.", _interval),
        "within": Key("How long it may take.", duration),
    },
)
APPROLE_SECTION = section(
    AppRole,
    {
        "role_id_file": Key("The file with the role id.", absolute),
        "secret_id_file": Key("The file with the secret id.", absolute),
        "mount": Key("Where the auth method is mounted.", filled),
    },
)
VAULT_SECTION = section(
    VaultProvider,
    {
        "address": Key("Vault or OpenBao: `https://HOST:PORT`.", _address("https", "http")),
        "token_file": Key("The file with a token, for example the one that a Vault agent renews.", absolute),
        "approle": Key("An AppRole instead of a token.", APPROLE_SECTION),
        "namespace": Key("The namespace.", filled, "the root namespace"),
        "ca_file": Key(
            "The file with the certificate of the authority that signed its certificate.",
            absolute,
            "the authorities that this server trusts",
        ),
        "interval": Key("How often to ask again.", _interval),
    },
)
PROVIDER_SECTION = section(
    ProviderSettings,
    {
        "command": Key("A program that prints secrets.", COMMAND_SECTION),
        "vault": Key("Key-value version 2 of a Vault or an OpenBao.", VAULT_SECTION),
    },
)


@accepts({"type": "object", "additionalProperties": PROVIDER_SECTION.schema})
def _providers(place: Place) -> dict[str, ProviderSettings]:
    for name, at in place.entries().items():
        if why := misnamed(f"{name}:x"):
            at.report(f"is not a name of a provider: a-z, 0-9 and `-`, and not `sops` ({why})")
        given = [key for key in PROVIDER_SECTION.keys if at.has(key)]
        if len(given) != 1:
            at.report("must have one of `command`, `vault`")
        elif given == ["vault"]:
            _one_login(at.entries()["vault"])
    return mapping_of(PROVIDER_SECTION)(place)


def _one_login(vault: Place) -> None:
    if vault.has("token_file") == vault.has("approle"):
        vault.report("must have one of `token_file`, `approle`")
    if vault.has("address"):
        address = vault.entries()["address"]
        url = urlsplit(str(address.node.value))
        if url.scheme == "http" and not _is_this_machine(url.hostname or ""):
            address.report("sends the login over plain http to another machine: use https")


POLICY_SECTION = section(
    Policy,
    {
        "level": Key(
            "What containers may be, as in Kubernetes' Pod Security Standards: anything (`privileged`), what stays "
            "inside of the container (`baseline`), or only what is hardened as well (`restricted`).",
            one_of(*LEVELS),
        ),
        "trusted": Key(
            "The apps that may do anything, such as a Kong on the host's own network.", tuple_of(filled), "none"
        ),
        "mounts": Key(
            "The host folders that other apps may mount, with all folders below.", tuple_of(absolute), "none"
        ),
        "registries": Key(
            "The registries that images of other apps may come from, `docker.io` for Docker Hub.",
            tuple_of(filled),
            "any",
        ),
        "shared": Key(
            "Volumes and networks of others, or of this host, that other apps may use, by their real names.",
            tuple_of(filled),
            "none",
        ),
        "secrets": Key(
            "The secrets of this host that other apps may use beside their own, which are named after the app: "
            "`shop.db` or `shop_db` for the app `shop`. A secret of a provider is `vault:kv/data/shop#db`, and all "
            "of that path `vault:kv/data/shop`; one of Kong's own vaults is `vault://env/pg-password`, and all of it "
            "`vault://env`.",
            tuple_of(filled),
            "none",
        ),
        "plugins": Key(
            "The plugins of Kong that other apps may use with any settings. Those that come with Kong and run no code, "
            "write no file and connect to nothing on this host need not be named.",
            tuple_of(filled),
            "none",
        ),
        "volume_drivers": Key(
            "The drivers that volumes of other apps may have, with any options. `local` need not be named, and has no "
            "options unless it is.",
            tuple_of(filled),
            "none",
        ),
        "ports": Key(
            'The ports of this host that other apps may publish, such as `[443, "8000-8999"]`. Those of `127.0.0.1` '
            "and `::1`, and any free one, need not be named.",
            tuple_of(_ports),
            "none",
        ),
        "sysctls": Key(
            "The kernel parameters that other apps may set in their containers beside the safe ones, such as "
            "`net.core.somaxconn`.",
            tuple_of(filled),
            "none",
        ),
        "subnets": Key(
            "The networks that the subnets of other apps may lie in beside `172.16.0.0/12` and `fd00::/8`.",
            tuple_of(_network),
            "none",
        ),
    },
)


@accepts(either(one_of(*LEVELS).schema, POLICY_SECTION.schema))
def _policy(place: Place) -> Policy:
    """A level alone, or the section."""
    if isinstance(place.value(), str):
        return Policy(level=one_of(*LEVELS)(place))
    return POLICY_SECTION(place)


@accepts(CREDENTIALS_SECTION.schema)
def _credentials(place: Place) -> Credentials:
    found = CREDENTIALS_SECTION(place)
    if found.github_app and found.token_file:
        place.entries()["github_app"].fail("takes the place of `token_file`: give one of them")
    return found


@accepts(VERIFY_SECTION.schema)
def _verify(place: Place) -> Verify:
    entries = place.entries()
    has_gpg_keys = place.has("gpg_keys") and entries["gpg_keys"].node.value != []
    if not place.has("allowed_signers") and not has_gpg_keys:
        place.report("has neither `allowed_signers` nor `gpg_keys`: one of them must say whose signatures are good")
    return VERIFY_SECTION(place)


@accepts(KONG_SECTION.schema)
def _kong(place: Place) -> KongSettings:
    found = KONG_SECTION(place)
    scheme, host = urlsplit(found.admin).scheme, urlsplit(found.admin).hostname or ""
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if place.has(key) and not place.has(other):
            place.entries()[key].report(f"needs `{other}`")
    if found.cert_file and scheme != "https":
        place.entries()["cert_file"].report("is only used with an `admin` that begins with https://")
    if found.token_file and scheme == "http" and not found.insecure and not _is_this_machine(host):
        told = "would be sent over plain http to another machine: use https, or set `insecure: true`"
        place.entries()["token_file"].report(told)
    if place.has("token_header") and not found.token_file:
        place.entries()["token_header"].report("needs `token_file`")
    if found.shared and not _is_reached(found.address):
        at = place.entries()["address" if place.has("address") else "shared"]
        at.report(f"needs an `address` of this server that a shared Kong reaches, which {found.address} is not")
    if found.shared and found.boot_file:
        place.entries()["boot_file"].report("is for a Kong without a database, and a shared one needs a database")
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


def host_and_port(listen: str) -> tuple[str, int]:
    """What `listen` says, without the brackets of an IPv6 address."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


SETTINGS_SECTION = section(
    Settings,
    {
        "repository": Key(
            "The config repository: `https://...`, `ssh://...`, `git@host:owner/name.git`, or an absolute path.",
            filled,
        ),
        "branch": Key("The branch to follow.", filled),
        "host": Key("The name of this server in `fleet.yaml`.", filled, "its host name"),
        "interval": Key("How often to compare the repository and the host, give or take 20 %.", _interval),
        "credentials": Key("The login at the repository.", _credentials),
        "verify": Key("The signature that a commit needs to be followed.", _verify, "none"),
        "allow_rewind": Key(
            "`true` follows the branch after a force-push that dropped the last commit. With `false`, that is an "
            "error, and a `git revert` is the way back.",
            boolean,
        ),
        "allow_empty": Key(
            "`true` lets a commit remove every app of this server. With `false`, that is an error: it is most often a "
            "wrong branch or a lost folder.",
            boolean,
        ),
        "docker": Key("The Docker engine.", DOCKER_SECTION),
        "kong": Key("The Kong of this server.", _kong, "none, and services with `x-kong` wait"),
        "forge": Key(
            "Where commit statuses go.",
            Reader(lambda place: fields(place, FORGE_SECTION.keys), FORGE_SECTION.schema),
            "none",
        ),
        "webhook": Key("The address that listens for webhooks of the forge.", WEBHOOK_SECTION, "none"),
        "policy": Key(
            "What the repository may not do with this server: a level such as `restricted`, or the keys below.",
            _policy,
            "none, it may do anything",
        ),
        "state": Key("The folder for history and mirror. If it is lost, the next pass makes it again.", absolute),
        "files": Key(
            "The folder for env files and mounted files. It must not be lost: containers start from it. Its file "
            "`followed` has the last commit, so that a branch that went back is noticed even without `state`.",
            absolute,
        ),
        "folders": Key(
            "The folder for the folders of apps: `./data` of an app's Compose file that is not in the repository is "
            "`<folders>/<app>/data`. It holds data.",
            absolute,
        ),
        "secrets": Key(
            "The folder with the secrets of this server, a file each, readable by root only: what a manifest names as "
            "`{file://NAME}`, or as a secret that is `external`.",
            absolute,
        ),
        "sops": Key("The keys for files of the repository that are encrypted with SOPS.", SOPS_SECTION),
        "providers": Key(
            "Further places that secrets come from, by a name: `vault` for `{file://vault:kv/data/shop#db}`.",
            _providers,
            "none",
        ),
    },
)


def read(file: str, data: bytes) -> Settings:
    """The settings in a file.  Raises ManifestError with every mistake in it."""
    sink: Sink = []
    root = parse(file, data, sink) or Node({}, file, 1)
    place = Place(root, (), sink)
    values = place.attempt(lambda at: fields(at, SETTINGS_SECTION.keys, SETTINGS_SECTION.required)) or {}
    if not mistakes(sink) and "forge" in values:
        values["forge"] = _complete(values["forge"], values, place.entries()["forge"])
    policy = place.entries().get("policy") if isinstance(root.value, dict) else None
    if policy and policy.empty:
        policy.report("is empty: write a level such as `baseline`, or leave it out for no policy")
    if "webhook" in values and not place.has("forge"):
        place.entries()["webhook"].report("needs `forge`: its kind says how webhooks are authenticated")
    if found := mistakes(sink):
        raise ManifestError(sorted(it.problem for it in found))
    return Settings(**values)


def _complete(forge: dict[str, Any], values: Mapping[str, Any], place: Place) -> ForgeSettings | None:
    """The forge's settings with what follows from the repository's address and credentials."""
    told = forges.locate(values["repository"], forge.get("kind", ""))
    if not told.kind:
        place.report("has no `kind`, and the repository's address does not tell it")
    elif "repository" not in forge and not told.repository:
        place.report("has no `repository`, and the repository's address does not tell it")
    elif forge.get("environment") and told.kind != "github":
        place.report("has an `environment`, which only GitHub has")
    else:
        credentials = values.get("credentials", Credentials())
        if credentials.github_app and told.kind != "github" and "token_file" not in forge:
            place.report("has no `token_file`, and the login of a GitHub App is only for GitHub")
        known = {"kind": told.kind, "repository": told.repository, "base_url": told.base_url}
        return ForgeSettings(**{**known, "token_file": credentials.token_file, **forge})
    return None


def logins_of_providers(settings: Settings) -> set[str]:
    """The files with the logins at providers of secrets; they are read whenever one is asked."""
    vaults = [provider.vault for provider in settings.providers.values() if provider.vault]
    roles = [vault.approle for vault in vaults if vault.approle]
    named = {vault.token_file for vault in vaults} | {
        file for it in roles for file in (it.role_id_file, it.secret_id_file)
    }
    return named - {""}


def named_files(settings: Settings) -> set[str]:
    """The files with secrets and keys that the settings name, and that are read together with them."""
    named = set(settings.verify.files if settings.verify else ())
    named |= {settings.credentials.token_file, *(login.password_file for login in settings.docker.registries.values())}
    named |= {settings.forge.token_file} if settings.forge else set()
    named |= set(settings.kong.files) if settings.kong else set()
    named |= {app.key_file for app in (settings.credentials.github_app,) if app}
    named |= {settings.webhook.secret_file} if settings.webhook else set()
    return named - {""}
