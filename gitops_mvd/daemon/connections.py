"""What the settings connect to: Docker, Kong, the repository, the forge; and the secrets that let us in."""

from __future__ import annotations

import json
import os
import socket
import ssl
from dataclasses import dataclass, field, replace
from pathlib import Path

from gitops_mvd import forges
from gitops_mvd.config.settings import Settings, addresses_of_receivers, logins_of_providers, named_files
from gitops_mvd.config.settings.forge import ForgeSettings
from gitops_mvd.config.settings.kong import KongSettings
from gitops_mvd.config.settings.repository import GitHubApp as AppLogin
from gitops_mvd.core.addresses import address_of, plain_host, split_url
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.policy import PRIVATE, Server
from gitops_mvd.core.ports import Forge, Receiver
from gitops_mvd.core.redact import learn
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.forges.api import Account
from gitops_mvd.git.branch import Source, no_token
from gitops_mvd.kong.client import Certificates, Kong
from gitops_mvd.kong.shared.precedence import Precedence
from gitops_mvd.net.own_address import is_own_address
from gitops_mvd.secrets import providers
from gitops_mvd.secrets.sops import Sops
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.state.task_ports import TaskPorts

DAEMON_JSON = Path("/etc/docker/daemon.json")
SHORTEST_SECRET = 16  # characters


@dataclass(frozen=True)
class Hooks:
    """Where webhooks are received, which forge's they are, and the secret that authenticates them."""

    listen: str
    receiver: Receiver
    secret: str = field(repr=False)


def connect_docker(settings: Settings) -> Engine:
    """Raises Unavailable for a password file that cannot be read."""
    logins = {
        registry: (login.username, read_secret(login.password_file, f"docker.registries.{registry}.password_file"))
        for registry, login in settings.docker.registries.items()
    }
    if not settings.swarm:
        return Engine(settings.docker.url, logins=logins)
    return Manager(settings.docker.url, logins=logins, memory=TaskPorts(Path(settings.state) / "task-ports.json"))


def connect_kong(kong: KongSettings, precedence: Precedence | None = None) -> Kong:
    """Raises Unavailable for a certificate, key or token that cannot be read."""
    return Kong(
        kong.admin,
        kong.proxy,
        token=read_secret(kong.token_file, "kong.token_file"),
        token_header=kong.token_header,
        certificates=Certificates(kong.ca_file, kong.cert_file, kong.key_file),
        boot_file=Path(kong.boot_file) if kong.boot_file else None,
        address=kong.address,
        precedence=precedence,
    )


def known_server(settings: Settings, path: Path, name: str) -> Server:
    """What the policy and the rules for Kong have to know of this server."""
    kong = settings.kong
    admin = split_url(kong.admin) if kong and not kong.admin.startswith("unix:") else ("", 0)
    names = {plain_host(it) for it in (name, socket.gethostname(), kong.address if kong else "") if it}
    boot_file = {kong.boot_file} if kong and kong.boot_file else set()
    folders = {settings.state, settings.files, settings.secrets, settings.folders, str(path)}
    folders |= {settings.sops.age_key_file, settings.sops.gnupg_home, *logins_of_providers(settings)}
    folders |= addresses_of_receivers(settings)
    engine = {settings.docker.url.removeprefix("unix://")} if settings.docker.url.startswith("unix://") else set()

    def is_own(host: str) -> bool:
        return plain_host(host) in names or is_own_address(str(address_of(host) or ""))

    private = sorted({*PRIVATE, *engine_data(DAEMON_JSON), *folders, *boot_file, *engine, *named_files(settings)})
    return Server(admin, is_own, tuple(private), os.path.realpath)


def engine_data(file: Path) -> set[str]:
    """Where an engine keeps its data, if its settings in that file name a place; else it is one of PRIVATE."""
    try:
        told = json.loads(file.read_text("utf-8"))
        return {str(told[key]) for key in ("data-root", "exec-root") if told.get(key)}
    except (OSError, ValueError, AttributeError):
        return set()


def connect_source(settings: Settings, account: Account) -> Source:
    """The config repository, with its credentials."""
    login = settings.credentials
    return Source(
        settings.repository,
        settings.branch,
        Path(settings.state) / "mirror",
        token=account.token if login.token_file or login.github_app else no_token,
        renew=account.renew,
        username=login.username,
        ssh_key=Path(login.ssh_key) if login.ssh_key else None,
        known_hosts=Path(login.known_hosts) if login.known_hosts else None,
        ca_file=_authority(login.ca_file, "credentials.ca_file"),
        insecure=login.insecure,
        allow_rewind=settings.allow_rewind,
        verify=settings.verify,
        anchor=Path(settings.files) / "followed",
    )


def connect_forge(forge: ForgeSettings, settings: Settings, login: Account) -> Forge:
    """The forge that statuses go to, with its own token or else by the GitHub App of `credentials`."""
    app = settings.credentials.github_app
    if app and not forge.token_file:
        if (forge.repository, forge.base_url) != (login.repository, login.base_url):
            login = app_account(app, forge.repository, forge.base_url, forge.ca_file)
        return forges.connect(forge.kind, replace(login, ca_file=forge.ca_file))
    token = read_secret(forge.token_file, "forge.token_file")
    account = Account(
        forge.repository,
        lambda: token,
        forge.base_url,
        forge.username,
        branch=settings.branch,
        ca_file=_authority(forge.ca_file, "forge.ca_file"),
    )
    return forges.connect(forge.kind, account)


def repository_account(settings: Settings) -> Account:
    """The login of Git at the repository's address; a GitHub App has the same token for the forge."""
    login, forge = settings.credentials, settings.forge
    origin = forges.locate(settings.repository, "github")
    if not login.github_app:
        token = read_secret(login.token_file, "credentials.token_file")
        return Account(origin.repository, lambda: token, origin.base_url, login.username)
    if forge and forge.kind == "github":
        return app_account(login.github_app, origin.repository, forge.base_url, forge.ca_file)
    return app_account(login.github_app, origin.repository, origin.base_url, login.ca_file)


def app_account(app: AppLogin, repository: str, base_url: str, ca_file: str = "") -> Account:
    """Raises Unavailable for a file that is no private key."""
    # imported here, as it loads cryptography, which most servers do not need in memory
    from gitops_mvd.forges.api.github_app import GitHubApp

    key = read_secret(app.key_file, "credentials.github_app.key_file")
    token = GitHubApp(app.id, key, repository, base_url, ca_file=_authority(ca_file, "ca_file"))
    return Account(repository, token, base_url, renew=token.renew, ca_file=ca_file)


def webhook_receiver(settings: Settings) -> Hooks | None:
    """Where and whose webhooks are received, None without `webhook`.  Raises Unavailable for a short secret."""
    webhook, forge = settings.webhook, settings.forge
    if not webhook or not forge:
        return None
    secret = read_secret(webhook.secret_file, "webhook.secret_file")
    if len(secret) < SHORTEST_SECRET:
        fault = f"has {len(secret)} characters, and needs {SHORTEST_SECRET}" if secret else "is empty"
        raise Unavailable(f"{webhook.secret_file} (webhook.secret_file) {fault}", "Make one: openssl rand -hex 32")
    return Hooks(webhook.listen, forges.known()[forge.kind], secret)


def connect_secrets(settings: Settings, engine: Engine) -> Secrets:
    """Where the secrets of apps come from; nobody is asked yet."""
    key = engine.digest_key if isinstance(engine, Manager) else None
    found = {name: providers.connect(options) for name, options in settings.providers.items()}
    sops = Sops(Path(settings.sops.age_key_file), Path(settings.sops.gnupg_home))
    return Secrets(Path(settings.secrets), found, sops, key)


def _authority(path: str, key: str) -> str:
    """The file of an authority's certificate.  Raises Unavailable if it is none: every question would fail."""
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except (ssl.SSLError, ValueError) as error:
            raise Unavailable(f"{path} (`{key}`) has no certificate in it", "it must be PEM") from error
        except OSError as error:
            raise Unavailable(f"cannot read {path} (`{key}`): {error.strerror}") from error
    return path


def read_secret(path: str, key: str) -> str:
    """The content of a secret file without the line's end, "" for no path; `key` of the settings names that file."""
    try:
        secret = Path(path).read_text().strip() if path else ""
    except UnicodeDecodeError as error:
        raise Unavailable(f"cannot read {path} ({key}): not a text file") from error
    except PermissionError as error:
        raise Unavailable(f"cannot read {path} ({key}): permission denied", "Run as root") from error
    except OSError as error:
        raise Unavailable(f"cannot read {path} ({key}): {error.strerror}") from error
    learn(key, secret)
    return secret
