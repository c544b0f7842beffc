"""The settings of one server: `/etc/gitops-mvd/config.yaml`, read strictly.  Pure; the caller reads the file.

Secrets are never in it: it names the files that they lie in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gitops_mvd.config.readers import absolute, boolean, filled
from gitops_mvd.config.settings.engine import DOCKER_SECTION, Docker
from gitops_mvd.config.settings.forge import FORGE_SECTION, WEBHOOK_SECTION, ForgeSettings, Webhook, complete
from gitops_mvd.config.settings.kong import KongSettings, read_kong
from gitops_mvd.config.settings.log import LOG_SECTION, LogSettings
from gitops_mvd.config.settings.metrics import METRICS_SECTION, TRACES_SECTION, Metrics, Traces
from gitops_mvd.config.settings.notify import NotifySettings, read_notify
from gitops_mvd.config.settings.policy import read_policy
from gitops_mvd.config.settings.repository import Credentials, Verify, read_credentials, read_verify
from gitops_mvd.config.settings.secrets import SOPS_SECTION, ProviderSettings, SopsSettings, read_providers
from gitops_mvd.config.settings.section import interval, section
from gitops_mvd.config.settings.web import WebSettings, read_web
from gitops_mvd.config.tables import Key, Place, Reader, fields
from gitops_mvd.config.yamltree import Node, Sink, mistakes, parse
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings; None is a section that the file does not have.

    `host` is "" for the machine's own name, `swarm` "" for a plain host.
    """

    repository: str
    branch: str = "main"
    host: str = ""
    swarm: str = ""
    interval: float = 60.0
    credentials: Credentials = field(default_factory=Credentials)
    verify: Verify | None = None
    allow_rewind: bool = False
    allow_empty: bool = False
    docker: Docker = field(default_factory=Docker)
    kong: KongSettings | None = None
    forge: ForgeSettings | None = None
    webhook: Webhook | None = None
    web: WebSettings = field(default_factory=lambda: WebSettings())
    metrics: Metrics | None = None
    traces: Traces | None = None
    notify: tuple[NotifySettings, ...] = ()
    policy: Policy | None = None
    log: LogSettings = field(default_factory=lambda: LogSettings())
    state: str = "/var/lib/gitops-mvd"
    files: str = "/etc/gitops-mvd/files"
    folders: str = "/srv/mvd"
    secrets: str = "/etc/gitops-mvd/secrets"
    run: str = "/run/gitops-mvd"
    sops: SopsSettings = field(default_factory=lambda: SopsSettings())
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)


SETTINGS_SECTION = section(
    Settings,
    {
        "repository": Key(
            "The config repository: `https://...`, `ssh://...`, `git@host:owner/name.git`, or an absolute path.",
            filled,
        ),
        "branch": Key("The branch to follow.", filled),
        "host": Key("The name of this server in `fleet.yaml`.", filled, "its host name"),
        "swarm": Key(
            "The name in `fleet.yaml` of the Swarm that this server is a manager of: the daemon keeps that equal to "
            "the repository, and not this server. Instead of `host`, and on each of its managers.",
            filled,
            "none",
        ),
        "interval": Key("How often to compare the repository and the host, give or take 20 %.", interval),
        "credentials": Key("The login at the repository.", read_credentials),
        "verify": Key("The signature that a commit needs to be followed.", read_verify, "none"),
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
        "kong": Key("The Kong of this server.", read_kong, "none, and services with `x-kong` wait"),
        "forge": Key(
            "Where commit statuses go.",
            Reader(lambda place: fields(place, FORGE_SECTION.keys), FORGE_SECTION.schema),
            "none",
        ),
        "webhook": Key("The address that listens for webhooks of the forge.", WEBHOOK_SECTION, "none"),
        "web": Key("The page that `mvd web` serves.", read_web),
        "metrics": Key("The address that Prometheus scrapes.", METRICS_SECTION, "none, only the local API has them"),
        "traces": Key("Where each deploy is sent as a trace of OpenTelemetry.", TRACES_SECTION, "none"),
        "notify": Key("Who is notified of failures and recoveries, a list.", read_notify, "none"),
        "policy": Key(
            "What the repository may not do with this server: a level such as `restricted`, or the keys below.",
            read_policy,
            "none, it may do anything",
        ),
        "log": Key("How the daemon writes its own log.", LOG_SECTION),
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
        "run": Key(
            "The folder for the sockets of the local API: `api.sock`, which only reads, for root and the group `mvd`, "
            "and `act.sock` for root and the group `mvd-act`.",
            absolute,
        ),
        "sops": Key("The keys for files of the repository that are encrypted with SOPS.", SOPS_SECTION),
        "providers": Key(
            "Further places that secrets come from, by a name: `vault` for `{file://vault:kv/data/shop#db}`.",
            read_providers,
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
        values["forge"] = complete(values["forge"], values, place.entries()["forge"])
    if "swarm" in values and "host" in values:
        place.entries()["swarm"].report("cannot be used together with `host`: remove one")
    policy = place.entries().get("policy") if isinstance(root.value, dict) else None
    if policy and policy.empty:
        policy.report("is empty: write a level such as `baseline`, or leave it out for no policy")
    if "webhook" in values and not place.has("forge"):
        place.entries()["webhook"].report("needs `forge`: its kind says how webhooks are authenticated")
    if found := mistakes(sink):
        raise ManifestError(sorted(it.problem for it in found))
    return Settings(**values)


def logins_of_providers(settings: Settings) -> set[str]:
    """The files with the logins at providers of secrets; they are read whenever one is asked."""
    vaults = [provider.vault for provider in settings.providers.values() if provider.vault]
    roles = [vault.approle for vault in vaults if vault.approle]
    named = {vault.token_file for vault in vaults} | {
        file for it in roles for file in (it.role_id_file, it.secret_id_file)
    }
    return named - {""}


def addresses_of_receivers(settings: Settings) -> set[str]:
    """The files with the addresses of receivers of notifications; each is read whenever something is sent there."""
    return {target.url_file for target in settings.notify} - {""}


def secret_files(settings: Settings) -> set[str]:
    """The files with tokens, passwords and private keys that the settings name."""
    named = {settings.credentials.ssh_key, settings.web.token_file, settings.sops.age_key_file}
    named |= {settings.kong.token_file, settings.kong.key_file} if settings.kong else set()
    found = named | _logins(settings) | logins_of_providers(settings) | addresses_of_receivers(settings)
    return found - {""}


def named_files(settings: Settings) -> set[str]:
    """The files with secrets and keys that the settings name, and that are read together with them."""
    named = {settings.credentials.ca_file, *(settings.verify.files if settings.verify else ())}
    named |= {settings.forge.ca_file} if settings.forge else set()
    named |= set(settings.kong.files) if settings.kong else set()
    return (named | _logins(settings)) - {""}


def _logins(settings: Settings) -> set[str]:
    """The files with the logins at forge and registries and with the secret of webhooks; "" for one without a name."""
    named = {settings.credentials.token_file, *(login.password_file for login in settings.docker.registries.values())}
    named |= {settings.forge.token_file} if settings.forge else set()
    named |= {app.key_file for app in (settings.credentials.github_app,) if app}
    named |= {settings.webhook.secret_file} if settings.webhook else set()
    return named
