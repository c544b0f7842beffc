"""Probes: one module each, found by name, whose `PROBE` says all there is to know about it.

http tcp grpc   at the container's own address           exec heartbeat log   in the container, or what it wrote
kafka           the brokers that it reads from
docker systemd  how these two see it                     running not_failed completed scheduled   how the container is
drained         nobody is connected any more: for an old instance, before it is stopped

May import `core`, `config` and `net`; the clients of Docker and systemd are handed in.  Must not know who asks: the
manifest, gates, the monitor and the manual read here what a probe is, and no other module lists probes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

from gitops_mvd.config.readers import FILLED, boolean, duration, filled, port_number
from gitops_mvd.config.tables import Key, Place, accepts
from gitops_mvd.core.features import incomplete, modules, require
from gitops_mvd.core.model import Check, Health, Instance, unix_time
from gitops_mvd.core.ports import Probe

LONGEST_TRY_SECONDS = 30.0  # the other gates wait meanwhile
LONGEST_PATTERN = 1000  # characters: to read one must not take long
TRY_SECONDS = 2.0  # what one try may take unless the manifest says otherwise

Answer = tuple[Health, str]  # the health and, if it is not healthy, why
NoSpec = Mapping[str, object]  # of a probe without options
Values = Mapping[str, Any]  # the keys of a service in normal form
Spec = TypeVar("Spec", bound=Mapping[str, object])


# ---- what a probe may ask beyond the container itself ----------------------------------------------------------------


class RanCommand(Protocol):
    """How a command in a container went; `exit_code` is None if it did not end in time."""

    @property
    def exit_code(self) -> int | None: ...
    @property
    def printed(self) -> str: ...
    @property
    def killed(self) -> bool: ...


class ContainerAccess(Protocol):
    """One container, as the Docker engine sees it.  Raises StepFailed or Unavailable."""

    def execute(self, container: str, command: Sequence[str], within: float) -> RanCommand: ...
    def modified(self, container: str, path: str, within: float) -> float | None: ...
    def addresses(self, container: str, within: float) -> Mapping[str, str]: ...
    def environment(self, container: str, within: float) -> Mapping[str, str]: ...


class UnitState(Protocol):
    """The state of a unit in systemd's words: `active`, `running`."""

    @property
    def active(self) -> str: ...
    @property
    def sub(self) -> str: ...


class UnitAccess(Protocol):
    """Units, as systemd sees them.  Raises Unavailable."""

    def units(self, pattern: str, within: float) -> Mapping[str, UnitState]: ...
    def grep(self, unit: str, pattern: str, since: float, within: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class ProbeTools:
    """The one client each of Docker and systemd."""

    engine: ContainerAccess
    systemd: UnitAccess


# ---- what a module of this folder says -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ProbeType(Generic[Spec]):
    """All there is to know about a probe; every part without a default is required.

    In a manifest `x-mvd.health` has the module's name as a key: its sentence and its reader are `key`, None for a probe
    that no manifest names.  Its value is called `argument` in the spec, "" if it says nothing.  `options` are the
    further keys that go with it, `required` those that must be there, each with what it is for.  `objections` says what
    another key of the service does not let the probe see.
    """

    key: Key | None
    argument: str
    options: Mapping[str, Key] = field(default_factory=dict)
    required: Mapping[str, str] = field(default_factory=dict)
    objections: Callable[[Any, Values], Iterable[str]] = lambda value, service: ()

    summary: Callable[[Spec], str]  # what a plan shows of a spec behind the probe's name; never what may be a secret
    connects: bool  # does it connect to a port, so that the container needs an address of its own?
    is_monitored: Callable[[Spec], bool]  # is it asked again after the deploy?  What each pass sees anyway is not
    passes_ended: bool  # may a container pass it that has ended with code 0?
    only_waits: bool  # does it fail nothing: is its gate left behind when its time is over?
    check: Callable[[Instance, Spec, ProbeTools], Answer]  # one try; as `core.ports.Probe` has it
    # The spec that asks whether anything answers at a port of the host that leads to the port that a spec asks.
    at_port: Callable[[Spec, int], Mapping[str, object]] | None = None
    # What it needs that is not installed on this host, and how that is done; "" if it can be asked.
    lacking: Callable[[], str] = lambda: ""

    def spec(self, values: Values, name: str, port: int) -> dict[str, Any]:
        """The probe's argument, from the values of `x-mvd.health`; `port` is asked if the manifest names none."""
        spec = {self.argument: values[name]} if self.argument else {}
        if "port" in self.options:
            spec["port"] = port
        return spec | {option: values[option] for option in self.options if option in values}

    def using(self, tools: ProbeTools) -> Probe:
        """The probe, ready to be asked."""

        def ask(at: Instance, spec: Any) -> Answer:
            return self.check(at, spec, tools)

        return ask


@cache
def known() -> Mapping[str, ProbeType[Any]]:
    """Every probe by name.  Raises IncompleteFeature for a module that lacks a part."""
    found: dict[str, ProbeType[Any]] = {}
    options: dict[str, Key] = {}
    every = modules(__name__, __path__)
    for name, module in every.items():
        require(module, module, ["PROBE"])
        found[name] = probe = module.PROBE
        for option, key in probe.options.items():
            if option in every or options.setdefault(option, key) != key:
                raise incomplete(module, f"has an option {option!r} that means something else in another probe")
        if probe.key is None and (probe.argument or probe.options):
            raise incomplete(module, "has an argument or options, but no manifest can name it: it lacks a `key`")
    return found


def discover(tools: ProbeTools) -> dict[str, Probe]:
    """Every probe by name, ready to be asked."""
    return {name: probe.using(tools) for name, probe in known().items()}


def summary(check: Check) -> str:
    """What a plan shows of a check behind the name of its probe."""
    probe = known().get(check.probe)  # a stored app may have one of another version of gitops-mvd
    return probe.summary(check.spec) if probe else ""


def is_monitored(check: Check) -> bool:
    """Is that check asked again after the deploy?"""
    probe = known().get(check.probe)
    return bool(probe and probe.is_monitored(check.spec))


def lacking(check: Check) -> str:
    """What its probe needs that is not installed on this host, and how that is done; "" if it can be asked."""
    probe = known().get(check.probe)
    return probe.lacking() if probe else ""


def at_port(check: Check, target: int) -> Callable[[int], Mapping[str, object]] | None:
    """What makes a spec that asks a port of the host leading to `target` in the container; None if it asks others."""
    to = probe.at_port if (probe := known().get(check.probe)) else None
    return (lambda port: to(check.spec, port)) if to and check.spec.get("port") == target else None


# ---- parts that several probes share ---------------------------------------------------------------------------------


def always(spec: Mapping[str, object]) -> bool:
    return True


def never(spec: Mapping[str, object]) -> bool:
    return False


def nothing(spec: Mapping[str, object]) -> str:
    """The summary of a probe whose name says it all."""
    return ""


@accepts({"enum": [True, "true"]})
def true(place: Place) -> bool:
    return boolean(place) or place.fail("must be true: name another probe instead")


@accepts({**FILLED, "maxLength": LONGEST_PATTERN})
def regular_expression(place: Place) -> str:
    """A regular expression."""
    value = filled(place)
    if len(value) > LONGEST_PATTERN:
        place.fail(f"is longer than {LONGEST_PATTERN} characters")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        place.fail(f"is no regular expression: {error}")
    return value


@accepts(duration.schema)
def positive_duration(place: Place) -> float:
    return duration(place) or place.fail("must be more than nothing")


@accepts(duration.schema)
def _try(place: Place) -> float:
    seconds = positive_duration(place)
    if seconds > LONGEST_TRY_SECONDS:
        place.fail(f"must be at most {LONGEST_TRY_SECONDS:g}s: a try is a short one")
    return seconds


PORT = Key(
    "The port in the container to ask; or else `x-kong.port`, or the only port of `ports` or `expose`.", port_number
)
EVERY = Key("How long ago the last sign of life may be: a line, or a change of the file.", positive_duration)
TIMEOUT = Key("How long one try may take; 2s if left out.", _try)


def counts_from(at: Instance, now: float, every: float | None) -> float:
    """From when on a sign of life of an instance counts, in Unix time: since it started, and not longer than `every`.

    What it did first may have come a moment before the start that Docker noted; what it did before a restart is two
    seconds older.
    """
    started = unix_time(at.started) - 1.0 if at.started else now
    return max(started, now - every) if every else started
