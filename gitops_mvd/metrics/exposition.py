"""All metrics as they are at this moment, as Prometheus reads them.

They are collected when somebody asks, from the view of the server that the local API shows and from what was counted;
nothing is kept for it.  So a series is gone as soon as its app, service or container is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gitops_mvd.api.views import AppView, HostView, ServiceView
from gitops_mvd.core.model import Health, Operation, Sync
from gitops_mvd.forges.api.limits import RateLimit
from gitops_mvd.metrics import names
from gitops_mvd.metrics.containers import Usage
from gitops_mvd.metrics.counts import ENDS, Counted, Counts
from gitops_mvd.metrics.names import Metric

UNREACHABLE, REFUSED = "unreachable", "refused"
RUNNING = "running"  # of a container, in Docker's words
OUTCOMES = ("posted", "failed", "limited", "refused")  # of a delivery, as the outbox counts them

Labels = tuple[str, ...]
L = TypeVar("L", bound=Labels)
Family = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


@dataclass(frozen=True)
class Sources:
    """Where the values come from; each is asked at each scrape, by any thread, and raises nothing.

    `deliveries` are by forge and outcome, `usage` by container for the ids of these, `traces` by outcome, None if no
    traces are sent.  `forge` is the kind of forge that statuses go to, "" for none.
    """

    status: Callable[[], HostView]
    counts: Counts
    deliveries: Callable[[], Mapping[tuple[str, str], int]]
    waiting: Callable[[], int]
    rate_limits: Callable[[], Mapping[str, RateLimit]]
    usage: Callable[[Mapping[str, str]], Mapping[str, Usage]]
    traces: Callable[[], Mapping[str, int]] | None = None
    forge: str = ""


def registry(sources: Sources) -> CollectorRegistry:
    """The metrics of a server and of the daemon's own process."""
    made = CollectorRegistry(auto_describe=False)
    made.register(ServerCollector(sources))
    ProcessCollector(registry=made)
    return made


class ServerCollector(Collector):
    """Collects all but those of the process."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Family]:
        return map(_family, names.METRICS)

    def collect(self) -> Iterator[Family]:
        host, counted = self._sources.status(), self._sources.counts.counted()
        yield from _of_host(host)
        yield from _of_passes(counted, host)
        yield from self._of_forge()
        yield from _of_apps(host.apps)
        yield from self._of_services(host.apps, counted.restarts)

    def _of_forge(self) -> Iterator[Family]:
        of = self._sources
        none = {(of.forge, outcome): 0 for outcome in OUTCOMES} if of.forge else {}
        yield _samples(names.DELIVERIES, {**none, **of.deliveries()})
        yield _one(names.WAITING, of.waiting())
        limits = of.rate_limits()
        yield _samples(names.LIMIT_LEFT, {(forge,): it.remaining for forge, it in limits.items()})
        yield _samples(names.LIMIT, {(forge,): it.limit for forge, it in limits.items() if it.limit})
        yield _samples(names.LIMIT_RESET, {(forge,): it.resets_at for forge, it in limits.items() if it.resets_at})
        if of.traces:
            yield _samples(names.TRACES, {(outcome,): times for outcome, times in of.traces().items()})

    def _of_services(self, apps: Iterable[AppView], restarts: Mapping[str, int]) -> Iterator[Family]:
        every = [(app, service, (app.name, service.name)) for app in apps for service in app.services]
        yield _samples(names.SERVICE, {_info(app, service): 1 for app, service, _ in every})
        yield _states(names.SERVICE_HEALTH, ((labels, service.health) for _, service, labels in every), Health)
        yield _samples(names.DESIRED, {labels: service.wanted for _, service, labels in every})
        yield _samples(names.READY, {labels: service.ready for _, service, labels in every})
        there = [((*labels, it.name), it, service) for _, service, labels in every for it in service.instances]
        lasting = [labels for labels, _, service in there if not service.schedule]
        yield _samples(names.RESTARTS, {labels: restarts.get(labels[-1], 0) for labels in lasting})
        usage = self._sources.usage({it.name: it.id for _, it, _ in there if it.id and it.state == RUNNING})
        used = {labels: usage[it.name] for labels, it, _ in there if it.name in usage}
        yield _samples(names.CPU, {labels: it.cpu for labels, it in used.items()})
        yield _samples(names.MEMORY, {labels: it.memory for labels, it in used.items()})
        yield _samples(names.MEMORY_LIMIT, {labels: it.limit for labels, it in used.items() if it.limit})


def _of_host(host: HostView) -> Iterator[Family]:
    yield _samples(names.BUILD, {(host.host, host.version): 1})
    yield _states(names.HOST_SYNC, [((), host.sync)], Sync)
    yield _states(names.HOST_HEALTH, [((), host.health)], Health)
    yield _one(names.HOST_SUSPENDED, host.suspended is not None)
    yield _one(names.HOST_DRAINED, host.drained is not None)
    yield _one(names.DEPLOYING, host.deploying > 0)
    if host.commit:
        yield _samples(names.REVISION, {(host.commit.commit,): 1})
        yield _one(names.REVISION_TIME, host.commit.at)
    failing = {UNREACHABLE: 0.0, REFUSED: 0.0}
    if host.git:
        failing[REFUSED if host.git.is_refused else UNREACHABLE] = host.git.since
    yield _samples(names.GIT_FAILING, {(reason,): since for reason, since in failing.items()})
    yield _one(names.THREADS_DOWN, sum(not thread.is_up for thread in host.threads))
    yield _samples(names.THREAD_RESTARTS, {(thread.name,): thread.restarts for thread in host.threads})


def _of_passes(of: Counted, host: HostView) -> Iterator[Family]:
    yield _one(names.PASS_TIME, of.pass_at)
    yield _one(names.SUCCESS_TIME, of.success_at)
    yield _samples(names.PASSES, {(result,): times for result, times in of.passes.items()})
    yield _samples(names.STEPS, of.steps)
    yield _one(names.REPAIRS, of.repairs)
    yield _one(names.PRUNED, of.pruned)
    yield _samples(names.FAILURES, {(fault,): times for fault, times in of.failures.items()})
    none = {(app.name, end): 0 for app in host.apps for end in ENDS}
    yield _samples(names.OPERATIONS, {key: of.operations.get(key, 0) for key in none})
    phases = HistogramMetricFamily(names.PHASES.name, names.PHASES.what, labels=names.PHASES.labels)
    for phase, (buckets, total) in of.phases.items():
        phases.add_metric((phase,), buckets, total)
    yield phases
    for metric, (buckets, total) in ((names.GATES, of.gates), (names.MERGES, of.merges)):
        yield HistogramMetricFamily(metric.name, metric.what, buckets=buckets, sum_value=total)


def _of_apps(apps: Sequence[AppView]) -> Iterator[Family]:
    yield _samples(names.APP, {(app.name, app.running.commit if app.running else ""): 1 for app in apps})
    yield _states(names.APP_SYNC, (((app.name,), app.sync) for app in apps), Sync)
    yield _states(names.APP_HEALTH, (((app.name,), app.health) for app in apps), Health)
    yield _states(names.APP_OPERATION, (((app.name,), app.operation) for app in apps), Operation)
    yield _samples(names.APP_SUSPENDED, {(app.name,): app.suspended is not None for app in apps})
    yield _samples(names.APP_DEPLOYED, {(app.name,): app.since for app in apps if app.since})


def _info(app: AppView, service: ServiceView) -> Labels:
    revision = app.running.commit if app.running else ""
    return app.name, service.name, service.image, service.digest, revision


# ---- families --------------------------------------------------------------------------------------------------------


def _family(metric: Metric) -> Family:
    """A metric without a value yet."""
    match metric.kind:
        case names.COUNTER:
            return CounterMetricFamily(metric.name, metric.what, labels=metric.labels)
        case names.HISTOGRAM:
            return HistogramMetricFamily(metric.name, metric.what, labels=metric.labels)
    return GaugeMetricFamily(metric.name, metric.what, labels=metric.labels)


def _samples(metric: Metric, values: Mapping[L, float]) -> Family:
    """A metric with a value for each of its labels' values."""
    family = _family(metric)
    for labels, value in values.items():
        family.add_metric(labels, value)  # type: ignore[call-arg, arg-type]  # no histogram comes here
    return family


def _one(metric: Metric, value: float) -> Family:
    return _samples(metric, {(): value})


def _states(metric: Metric, holds: Iterable[tuple[Labels, str]], states: type[StrEnum]) -> Family:
    """A metric with a series for each state, 1 for the one that holds."""
    return _samples(metric, {(*labels, str(state)): state == now for labels, now in holds for state in states})
