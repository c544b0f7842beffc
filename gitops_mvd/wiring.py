"""The settings become a server: everything is made here, once, and nowhere else."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from gitops_mvd import forges, kinds, probes
from gitops_mvd.api import Account
from gitops_mvd.engine import Engine
from gitops_mvd.errors import Unavailable
from gitops_mvd.gates import Gates
from gitops_mvd.history import SqliteHistory
from gitops_mvd.host import Machine
from gitops_mvd.kinds import Tools
from gitops_mvd.kong import Kong
from gitops_mvd.mailbox import Interruptible, Mailbox
from gitops_mvd.manifest import Cache
from gitops_mvd.outbox import Outbox
from gitops_mvd.ports import Forge, Receiver
from gitops_mvd.settings import Settings
from gitops_mvd.source import Source
from gitops_mvd.statuses import Statuses, Telling
from gitops_mvd.systemd import Systemd

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
    outbox: Outbox
    statuses: Statuses
    mailbox: Mailbox
    clock: Interruptible
    cache: Cache
    webhook: Hooks | None = None

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
    kong = Kong(gateway.admin, gateway.proxy, token=secret(gateway.token_file)) if gateway else None
    name = settings.host or socket.gethostname()
    address = gateway.address if gateway else "127.0.0.1"
    clock = Interruptible()
    tools = Tools(name, engine, Systemd(), kong, clock, files=Path(settings.files), units=units, address=address)
    history = SqliteHistory(state / "history.db")
    forge = connect_forge(settings)
    gates = Gates(probes.discover(probes.Tools(engine, tools.systemd)), engine, tools.systemd, clock, kong, history)
    known, policy = kinds.discover(tools), settings.policy
    host = Machine(name, known, engine, gates, clock, address=address, history=history, policy=policy)
    outbox = Outbox(history, forge, settings.forge.kind if settings.forge else "")
    statuses = Statuses(name, history, Telling() if forge else None, clock.now, outbox.wake)
    source, mailbox, hooks = connect_source(settings), Mailbox(), connect_hooks(settings)
    return Wired(
        settings, path, tools, engine, source, host, history, forge, outbox, statuses, mailbox, clock, {}, hooks
    )


def connect_source(settings: Settings) -> Source:
    """The config repository, with its credentials."""
    login = settings.credentials
    return Source(
        settings.repository,
        settings.branch,
        Path(settings.state) / "mirror",
        token=secret(login.token_file),
        username=login.username,
        ssh_key=Path(login.ssh_key) if login.ssh_key else None,
        known_hosts=Path(login.known_hosts) if login.known_hosts else None,
        insecure=login.insecure,
        allow_rewind=settings.allow_rewind,
    )


def connect_forge(settings: Settings) -> Forge | None:
    """Where the statuses go, None where nobody asked for them."""
    forge = settings.forge
    if not forge:
        return None
    token = secret(forge.token_file)
    return forges.connect(forge.kind, Account(forge.repository, lambda: token, forge.base_url))


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
