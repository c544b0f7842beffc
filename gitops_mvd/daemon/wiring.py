"""The settings become a server: everything is made here, once, and nowhere else."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gitops_mvd import forges, kinds, probes
from gitops_mvd.config.settings import Settings
from gitops_mvd.core.model import HostFacts, Revision
from gitops_mvd.core.ports import Forge
from gitops_mvd.daemon.changes import Changes
from gitops_mvd.daemon.connections import (
    Hooks,
    connect_docker,
    connect_forge,
    connect_kong,
    connect_secrets,
    connect_source,
    known_server,
    repository_account,
    webhook_receiver,
)
from gitops_mvd.daemon.host_view import VERSION, HostViews
from gitops_mvd.daemon.mailbox import Interruptible, Mailbox
from gitops_mvd.daemon.moves import Moves
from gitops_mvd.daemon.notifying import ByApprise
from gitops_mvd.daemon.operations import Operations
from gitops_mvd.daemon.planning import InChild
from gitops_mvd.daemon.waves import Waves
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.fit import Fit
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.forges.api import Account
from gitops_mvd.git.branch import Source
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.drain import Drain
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.machine import Machine
from gitops_mvd.host.monitor import Monitor
from gitops_mvd.host.tasks import Tasks
from gitops_mvd.host.ways import Ways
from gitops_mvd.kinds import Tools
from gitops_mvd.kong.shared.precedence import Precedence
from gitops_mvd.manifest import Cache
from gitops_mvd.metrics.counts import Counts
from gitops_mvd.metrics.traces import Traces
from gitops_mvd.state.commits import Commits
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.notices import Notices
from gitops_mvd.state.operations import OperationsFile
from gitops_mvd.status.deliveries import Deliveries
from gitops_mvd.status.notifier import Notifier
from gitops_mvd.status.outbox import Outbox
from gitops_mvd.status.pull_requests import PullRequests
from gitops_mvd.status.statuses import Statuses, StatusOptions
from gitops_mvd.systemd.client import Systemd

UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True, kw_only=True)
class Wired:
    """One server, ready to be run.  `cache` has the apps of the last revision, by the id of their files in Git.

    On a Swarm, `manager` is its engine, and `tasks` asks what runs on it.
    """

    settings: Settings
    settings_path: Path
    tools: Tools
    engine: Engine
    manager: Manager | None
    tasks: Tasks | None
    fit: Fit
    source: Source
    waves: Waves
    moves: Moves
    host: Machine
    history: SqliteHistory
    commits: Commits
    forge: Forge | None
    pull_requests: PullRequests | None
    outbox: Outbox
    statuses: Statuses
    notifier: Notifier
    mailbox: Mailbox
    monitor: Monitor
    disruptions: Disruptions
    clock: Interruptible
    cache: Cache
    webhook: Hooks | None
    precedence: Precedence | None
    drain: Drain
    changes: Changes
    operations: Operations
    views: HostViews
    counts: Counts
    traces: Traces | None

    def follow(self, revision: Revision, *, fetched: bool) -> None:
        """From now on, write the routes of a shared Kong as of this commit, and make instances of it."""
        self.commits.followed = revision.commit
        if self.precedence:
            self.precedence.follow(revision, fetched=fetched)

    def heed(self, facts: HostFacts) -> None:
        """From now on, take requests from a shared Kong or not, as the fleet file says of this host."""
        self.drain.is_on = facts.drained and self.precedence is not None

    def close(self) -> None:
        """Close the connections to Docker, the readers of the repository, the history and the notices."""
        self.engine.close()
        self.source.close()
        self.notifier.close()
        self.history.close()
        self.operations.close()


def wire(settings: Settings, path: Path, units: Path | None = None) -> Wired:
    """Make everything; nothing is asked or started yet.

    Raises Unavailable for a secret file that cannot be read, and for `traces` without what sends them.

    `path` is the settings' file, `units` the folder of the unit files, UNITS by default.
    """
    name = settings.swarm or settings.host or socket.gethostname()
    login = repository_account(settings)
    source = connect_source(settings, login)
    precedence = Precedence(settings.kong.shared, name, source) if settings.kong and settings.kong.shared else None
    clock, mailbox = Interruptible(), Mailbox()
    history = SqliteHistory(Path(settings.state) / "history.db")
    commits = Commits(history)
    changes, file = Changes(), OperationsFile(Path(settings.state) / "operations.db")
    page = _page(settings)
    operations = Operations(file, changes, probes.summary, page)
    counts, traces = Counts(), Traces(name, VERSION, settings.traces.endpoint) if settings.traces else None
    operations.told += [counts.passed, *([traces.passed] if traces else [])]
    engine = connect_docker(settings)
    tools = Tools(
        host=name,
        engine=engine,
        systemd=Systemd(),
        kong=connect_kong(settings.kong, precedence) if settings.kong else None,
        clock=clock,
        files=Path(settings.files),
        folders=Path(settings.folders),
        units=units or UNITS,
        address=settings.kong.address if settings.kong else "127.0.0.1",
        secrets=connect_secrets(settings, engine),
        commit_of=commits.of,
        is_ready=lambda service, task: tasks is None or tasks.is_ready(service, task),
    )
    disruptions = Disruptions(tools.engine, tools.systemd)
    known_probes = probes.discover(probes.ProbeTools(tools.engine, tools.systemd))
    tasks = Tasks(engine, known_probes, history) if isinstance(engine, Manager) else None
    gates = Gates(
        known_probes,
        engine,
        tools.systemd,
        disruptions,
        clock,
        tools.kong,
        history,
        secrets=tools.secrets.values,
        tasks=tasks,
    )
    known_kinds = kinds.discover(tools)
    drain = Drain()
    ways = Ways(known_probes, known_kinds["route"], tools.kong, disruptions, drain=drain)
    monitor = Monitor(gates.ask_once, tools.engine.instance, mailbox.post, ways=ways)
    host = Machine(
        name,
        known_kinds,
        tools.engine,
        gates,
        disruptions,
        clock,
        address=tools.address,
        history=history,
        policy=settings.policy,
        server=known_server(settings, path, name),
        precedence=precedence,
        secrets=tools.secrets,
        monitor=monitor,
        leaves_routes=bool(settings.kong and settings.kong.drift == "report"),
        watch=operations.watch,
        drain=drain,
    )
    forge = connect_forge(settings.forge, settings, login) if settings.forge else None
    outbox = Outbox(history, forge, settings.forge.kind if settings.forge else "")
    waves = _waves(settings, name, source, login)
    statuses = Statuses(name, history, _telling(settings), clock.now, outbox.wake, waves.peers)
    pull_requests = None
    if settings.forge and settings.forge.proposals.plan:
        pull_requests = PullRequests(
            connect_forge(settings.forge, settings, login),  # a connection of its own: the outbox is another thread
            source,
            name,
            history,
            statuses,
            InChild(path),
            comments=settings.forge.proposals.comment,
            forks=settings.forge.proposals.forks,
        )
    return Wired(
        settings=settings,
        settings_path=path,
        tools=tools,
        engine=engine,
        manager=engine if isinstance(engine, Manager) else None,
        tasks=tasks,
        fit=Fit(tools.engine, tools.systemd.outside),
        source=source,
        waves=waves,
        moves=Moves(waves),
        host=host,
        history=history,
        commits=commits,
        forge=forge,
        pull_requests=pull_requests,
        outbox=outbox,
        statuses=statuses,
        notifier=_notifier(settings, name),
        mailbox=mailbox,
        monitor=monitor,
        disruptions=disruptions,
        clock=clock,
        cache={},
        webhook=webhook_receiver(settings),
        precedence=precedence,
        drain=drain,
        changes=changes,
        operations=operations,
        views=HostViews(host, history, file, page),
        counts=counts,
        traces=traces,
    )


def _waves(settings: Settings, host: str, source: Source, login: Account) -> Waves:
    """With a connection of its own: the outbox is another thread."""
    if not (forge := settings.forge):
        return Waves(host, source, None, "")
    public = next((it for it in forges.known()[forge.kind].names[forge.kind] if not it.startswith(".")), "")
    return Waves(host, source, connect_forge(forge, settings, login), forge.base_url or f"https://{public}")


def _page(settings: Settings) -> Callable[[str], str]:
    """Where people read a commit at the forge, by its id; "" without a forge that has such pages."""
    if not (forge := settings.forge):
        return lambda commit: ""
    return functools.partial(forges.known()[forge.kind].page, forge.base_url.rstrip("/"), forge.repository)


def _notifier(settings: Settings, host: str) -> Notifier:
    notices = Notices(Path(settings.state) / "notices.db")
    send, link = ByApprise(), _link(settings)
    return Notifier(notices, [Deliveries(it, host, notices, send, link) for it in settings.notify])


def _telling(settings: Settings) -> StatusOptions | None:
    forge = settings.forge
    if not forge:
        return None
    return StatusOptions(forge.apps, forge.environment, _link(settings), forge.every_commit)


def _link(settings: Settings) -> str:
    """The template of the address that statuses and notifications lead to, "" for none."""
    page = f"{settings.web.url}/deploys/{{commit}}" if settings.web.url else ""
    return (settings.forge.link if settings.forge else "") or page
