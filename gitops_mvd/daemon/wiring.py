"""The settings become a server: everything is made here, once, and nowhere else."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from gitops_mvd import forges, kinds, probes
from gitops_mvd.config import origin
from gitops_mvd.config.settings import ForgeSettings, KongSettings, Settings
from gitops_mvd.config.settings import GitHubApp as AppLogin
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.core.ports import Forge, Receiver
from gitops_mvd.daemon.mailbox import Interruptible, Mailbox
from gitops_mvd.docker.client import Engine
from gitops_mvd.forges.api import Account
from gitops_mvd.git import Source, no_token
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.machine import Machine
from gitops_mvd.host.monitor import Watch
from gitops_mvd.kinds import Tools
from gitops_mvd.kong.client import Certificates, Kong
from gitops_mvd.kong.shared.precedence import Precedence
from gitops_mvd.manifest import Cache
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.secret_files import SecretFiles
from gitops_mvd.status.outbox import Outbox
from gitops_mvd.status.pull_requests import PullRequests
from gitops_mvd.status.statuses import Statuses, Telling
from gitops_mvd.systemd.client import Systemd

SHORTEST_SECRET = 16  # characters


@dataclass(frozen=True)
class Hooks:
    """Where webhooks are heard, who understands them, and what their sender has to know."""

    listen: str
    receiver: Receiver
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Wired:
    """One server, ready to be run."""

    settings: Settings
    settings_path: Path
    tools: Tools
    engine: Engine
    source: Source
    host: Machine
    history: SqliteHistory
    forge: Forge | None
    proposals: PullRequests | None
    outbox: Outbox
    statuses: Statuses
    mailbox: Mailbox
    watch: Watch
    clock: Interruptible
    cache: Cache
    webhook: Hooks | None = None
    precedence: Precedence | None = None

    def follow(self, revision: Revision, *, fetched: bool) -> None:
        """Have what is shared with other hosts be said for this commit."""
        if self.precedence:
            self.precedence.follow(revision, fetched=fetched)

    def close(self) -> None:
        """Hang up on Docker, and let go of the history."""
        self.engine.close()
        self.history.close()


def wire(settings: Settings, path: Path, units: Path = Path("/etc/systemd/system")) -> Wired:
    """Make everything; nothing is asked or started yet.  Raises Unavailable for a secret file that can not be read.

    `units` is the folder of the unit files.
    """
    state = Path(settings.state)
    engine = Engine(
        settings.docker.url,
        logins={
            registry: (login.username, secret(login.password_file))
            for registry, login in settings.docker.registries.items()
        },
    )
    gateway = settings.kong
    name = settings.host or socket.gethostname()
    login = repository_account(settings)
    source = connect_source(settings, login)
    precedence = Precedence(gateway.shared, name, source) if gateway and gateway.shared else None
    kong = connect_kong(gateway, precedence) if gateway else None
    address = gateway.address if gateway else "127.0.0.1"
    clock = Interruptible()
    secrets = SecretFiles(Path(settings.secrets))
    tools = Tools(
        name, engine, Systemd(), kong, clock, files=Path(settings.files), units=units, address=address, secrets=secrets
    )
    history = SqliteHistory(state / "history.db")
    forge = connect_forge(settings.forge, settings, login) if settings.forge else None
    gates = Gates(probes.discover(probes.Tools(engine, tools.systemd)), engine, tools.systemd, clock, kong, history)
    mailbox = Mailbox()
    watch = Watch(gates.ask_once, engine.instance, mailbox.post)
    host = Machine(
        name,
        kinds.discover(tools),
        engine,
        gates,
        clock,
        address=address,
        history=history,
        policy=settings.policy,
        precedence=precedence,
        secrets=secrets,
        watch=watch,
        leaves_routes=bool(gateway and gateway.drift == "report"),
    )
    outbox = Outbox(history, forge, settings.forge.kind if settings.forge else "")
    statuses = Statuses(name, history, _telling(settings), clock.now, outbox.wake)
    hooks = connect_hooks(settings)
    asks = settings.forge.proposals if settings.forge else None
    proposals = None
    if settings.forge and asks and asks.plan:
        proposals = PullRequests(
            connect_forge(settings.forge, settings, login),  # a connection of its own, as the outbox is another thread
            source,
            host,
            history,
            statuses,
            comments=asks.comment,
            forks=asks.forks,
            allow_empty=settings.allow_empty,
        )
    return Wired(
        settings,
        path,
        tools,
        engine,
        source,
        host,
        history,
        forge,
        proposals,
        outbox,
        statuses,
        mailbox,
        watch,
        clock,
        {},
        hooks,
        precedence,
    )


def connect_kong(gateway: KongSettings, precedence: Precedence | None = None) -> Kong:
    """Raises Unavailable for a certificate, key or token that can not be read."""
    return Kong(
        gateway.admin,
        gateway.proxy,
        token=secret(gateway.token_file),
        token_header=gateway.token_header,
        certificates=Certificates(gateway.ca_file, gateway.cert_file, gateway.key_file),
        boot_file=Path(gateway.boot_file) if gateway.boot_file else None,
        precedence=precedence,
    )


def _telling(settings: Settings) -> Telling | None:
    forge = settings.forge
    return Telling(forge.apps, forge.environment, forge.link) if forge else None


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
        insecure=login.insecure,
        allow_rewind=settings.allow_rewind,
        verify=settings.verify,
        anchor=Path(settings.files) / "followed",
    )


def connect_forge(forge: ForgeSettings, settings: Settings, login: Account) -> Forge:
    """Where the statuses go; without a token of its own, by the same App."""
    app = settings.credentials.github_app
    if app and not forge.token_file:
        if (forge.repository, forge.base_url) != (login.repository, login.base_url):
            login = app_account(app, forge.repository, forge.base_url)
        return forges.connect(forge.kind, login)
    token = secret(forge.token_file)
    return forges.connect(
        forge.kind, Account(forge.repository, lambda: token, forge.base_url, forge.username, branch=settings.branch)
    )


def repository_account(settings: Settings) -> Account:
    """What lets us in at the repository's address, for Git; the same App has the same token for the forge."""
    login, forge = settings.credentials, settings.forge
    told = origin.read(settings.repository, "github")
    if not login.github_app:
        token = secret(login.token_file)
        return Account(told.repository, lambda: token, told.base_url, login.username)
    if forge and forge.kind == "github":
        return app_account(login.github_app, told.repository, forge.base_url)
    return app_account(login.github_app, told.repository, told.base_url)


def app_account(app: AppLogin, repository: str, base_url: str) -> Account:
    """Raises Unavailable for a key that is none."""
    from gitops_mvd.forges.github_app import (
        GitHubApp,  # with its cryptography, which few servers need to have in memory
    )

    token = GitHubApp(app.id, secret(app.key_file), repository, base_url)
    return Account(repository, token, base_url, renew=token.renew)


def connect_hooks(settings: Settings) -> Hooks | None:
    """What hears webhooks, None where nobody asked for it.  Raises Unavailable for a secret that can be guessed."""
    webhook, forge = settings.webhook, settings.forge
    if not webhook or not forge:
        return None
    known = secret(webhook.secret_file)
    if len(known) < SHORTEST_SECRET:
        fault = f"has a secret of less than {SHORTEST_SECRET} characters" if known else "is empty"
        raise Unavailable(f"{webhook.secret_file} {fault}", "`openssl rand -hex 32` makes a secret for webhooks")
    return Hooks(webhook.listen, forges.receiver(forge.kind), known)


def secret(path: str) -> str:
    """What lies in a secret file, without the line's end; "" for no file."""
    try:
        return Path(path).read_text().strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Unavailable(f"{path} can not be read: {reason}", "the settings name it") from error
