"""Gates: wait until what was made is healthy, and until what leaves is no longer used."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

from gitops_mvd.core import canary
from gitops_mvd.core.errors import Disrupted, MvdError, StepFailed, Unavailable, Unhealthy
from gitops_mvd.core.model import COMPLETED, Check, Gate, Health, Instance, Resource, Service, unix_time
from gitops_mvd.core.ports import Clock, History, Probe, RouteProof
from gitops_mvd.core.redact import parts_of, redact, secrets_of
from gitops_mvd.core.rollout import ROUTE_PROOF
from gitops_mvd.core.route import is_drained
from gitops_mvd.docker.answers import refused_start
from gitops_mvd.docker.client import Engine
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.tasks import First, Tasks
from gitops_mvd.host.trials import Trials
from gitops_mvd.net import traffic
from gitops_mvd.probes import known
from gitops_mvd.systemd.client import Systemd

log = logging.getLogger(__name__)

PASSED_BY_ENDED = {name for name, probe in known().items() if probe.passes_ended}
ONLY_WAIT = {name for name, probe in known().items() if probe.only_waits}
PROOF_WAITS_SECONDS = 2.0  # after which Kong's answer alone proves that it uses no old instance any more
STARTED_WITHIN_SECONDS = 5.0  # after which a disruption is looked for: the instance may never be started
LOOKED_AT_AFTER_SECONDS = 1.0  # after which the unit of an instance that is not started is looked at
PAUSE_SECONDS = (0.02, 1.0)  # between two tries, at first and at last
TRIAL_PAUSE_SECONDS = 0.1  # at last, of a canary: what the gateway tells is kept for no longer where much is asked
TRIES_AT_ONCE = 32  # of the gates of one app
Answer = tuple[Health, str] | MvdError  # to one try
LOST_AFTER_SECONDS = 10.0  # that an engine has for hearing of the end of a process
LOST_PROCESS = "its process has ended, and Docker takes it for running"
NO_KONG = "this host has no Kong: set `kong` in its settings"


@dataclass(eq=False)
class Wait:
    """A gate that is being waited at.

    `row` counts the successes in a row.  `witnessed` says whether Kong was seen to use one of the instances of a route,
    `is_answered` whether it was seen without an open request since it uses an old instance no more, and `is_over`
    whether a canary was judged to the end.  `gone_since` is when its process was gone, 0 as long as it is there.
    `tasks` is how those of a service of a Swarm were at first.
    """

    gate: Gate
    began: float
    next_try: float = 0.0
    row: int = 0
    healthy_since: float = 0.0
    first_start: str = ""
    witnessed: bool = False
    is_answered: bool = False
    is_over: bool = False
    gone_since: float = 0.0
    tasks: First | None = None

    @property
    def lasts(self) -> float:
        """Seconds in which it must become healthy."""
        return self.gate.check.start_period + self.gate.check.within


class Gates:
    """Asks probes and the route proof until they succeed, or until their time is over."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        engine: Engine,
        systemd: Systemd,
        disruptions: Disruptions,
        clock: Clock,
        route_proof: RouteProof | None,
        history: History,
        received: Callable[[int], int | None] = traffic.received,
        is_there: Callable[[int], bool] = traffic.is_there,
        secrets: Callable[[Mapping[str, str]], Iterable[str]] = lambda digests: (),
        tasks: Tasks | None = None,
    ) -> None:
        """`secrets` returns the contents of secrets of this host, given their digests by name; `tasks` asks a Swarm."""
        self._probes = probes
        self._engine = engine
        self._systemd = systemd
        self._disruptions = disruptions
        self._clock = clock
        self._route_proof = route_proof
        self._history = history
        self._count = received  # bytes, by process
        self._is_there = is_there  # a process
        self._secrets = secrets
        self.trials = Trials(clock, route_proof)
        self._tasks = tasks

    def ask(self, instance: Instance, check: Check) -> tuple[Health, str]:
        """One try of a probe."""
        if self._tasks:
            return self._tasks.ask(instance.name, check)
        return self._probes[check.probe](instance, check.spec)

    def ask_once(self, instance: Instance, service: Service) -> tuple[Health, str]:
        """One try of a service's probe, with no secret of the service in the reason."""
        health, why = self.ask(instance, service.check)
        return health, self._redacted(why, service) if why else ""

    def wait(self, gates: Iterable[Gate], passed: Callable[[Gate], None] = lambda gate: None) -> list[str]:
        """Wait until every gate is passed, all at the same time; returns why those that are not required were not.

        `passed` is called with each gate as soon as it is over.  Old instances are drained once the other gates are
        passed: until then, new requests may come to them.  Canaries come first: the others look, too, whether the new
        instances are healthy after that.  With healthy ones, a turn is waited for.  Raises Unhealthy for a required
        gate that was not passed, and Unavailable if it could not be asked.
        """
        gates = list(gates)
        trials, turns = ([it for it in gates if it.check.probe == probe] for probe in (canary.PROBE, canary.TURN))
        last = [gate for gate in gates if gate.check.probe in ONLY_WAIT]
        others = [gate for gate in gates if gate not in (*trials, *turns, *last)]
        remarks = self._wait(trials, passed, TRIAL_PAUSE_SECONDS)
        return remarks + self._wait(others, passed) + self._wait(turns, passed) + self._wait(last, passed)

    def _wait(
        self, gates: Iterable[Gate], passed: Callable[[Gate], None], longest: float = PAUSE_SECONDS[1]
    ) -> list[str]:
        waits = [Wait(gate, self._clock.now()) for gate in gates]
        remarks: list[str] = []
        shortest, _ = PAUSE_SECONDS
        pause = shortest
        with ThreadPoolExecutor(TRIES_AT_ONCE, "gate") as pool:  # which has no threads until it is given something
            while waits := self._not_over(waits, remarks, pool, passed):
                self._clock.wait(pause)
                in_a_row = any(0 < wait.row < wait.gate.check.successes for wait in waits)
                pause = shortest if in_a_row else min(pause * 1.3, longest)
        return remarks

    def _not_over(
        self, waits: Sequence[Wait], remarks: list[str], pool: Executor, passed: Callable[[Gate], None]
    ) -> list[Wait]:
        """Try the gates that are due, all at the same time; those still waited at.

        Each is passed as soon as it answers so, and the others are judged in their order once all have answered.
        """
        now = self._clock.now()
        due = [wait for wait in waits if now >= wait.next_try]
        for wait in due:
            wait.next_try = now + wait.gate.check.interval
        over, others = set[Wait](), dict[Wait, Answer]()
        for wait, answer in self._answers(due, pool):
            if not isinstance(answer, MvdError) and self._is_passed(wait, answer[0], now):
                over.add(wait)
                passed(wait.gate)
            else:
                others[wait] = answer
        for wait in due:
            if wait in others and self._is_given_up(wait, others[wait], now, remarks):
                over.add(wait)
                passed(wait.gate)
        return [wait for wait in waits if wait not in over]

    def _answers(self, waits: Sequence[Wait], pool: Executor) -> Iterator[tuple[Wait, Answer]]:
        """The answer to one try of each, as they come; a single one needs no other thread."""
        if len(waits) == 1:
            yield waits[0], self._try(waits[0])
            return
        asked = {pool.submit(self._try, wait): wait for wait in waits}
        for one in as_completed(asked):
            yield asked[one], one.result()

    def _try(self, wait: Wait) -> Answer:
        try:
            return self._ask(wait)
        except MvdError as error:
            return error

    def _is_passed(self, wait: Wait, health: Health, now: float) -> bool:
        """Has it been healthy often and long enough, with a try that began `now`?"""
        check, about = wait.gate.check, wait.gate.resource
        wait.row = wait.row + 1 if health is Health.HEALTHY else 0
        wait.healthy_since = (wait.healthy_since or now) if wait.row >= check.successes else 0.0
        if check.probe == canary.PROBE and not wait.is_over:
            return False
        ends_early = wait.is_over or (wait.is_answered and not check.spec.get("by_name"))
        hold = 0.0 if ends_early else check.hold
        if not wait.healthy_since or now - wait.healthy_since < hold:
            return False
        log.info("gate passed app=%s %s %s after=%.2fs", about.app, about.name, check.probe, now - wait.began)
        if check.probe == COMPLETED:
            self._history.mark_job_done(about.name)
        return True

    def _is_given_up(self, wait: Wait, answer: Answer, now: float, remarks: list[str]) -> bool:
        """Is a gate that was not passed one that need not be?  Raises why it failed if it must be."""
        try:
            if isinstance(answer, MvdError):
                raise answer
            return self._is_let_go(wait, *answer, now)
        except StepFailed as error:
            error.app, error.service = wait.gate.resource.app, wait.gate.resource.service
            if wait.gate.required:
                raise
            log.warning("gate not passed app=%s %s: %s", wait.gate.resource.app, wait.gate.resource.name, error)
            remarks.append(str(error))
            return True

    def _is_let_go(self, wait: Wait, health: Health, why: str, now: float) -> bool:
        """Judge a try that began `now`.  A final no fails at once; what may still become healthy is given its time."""
        gate, check, about = wait.gate, wait.gate.check, wait.gate.resource
        if 0 < wait.row < check.successes:
            health, why = Health.PROGRESSING, f"was healthy {wait.row} times in a row, and not {check.successes} times"
        if health is Health.DEGRADED:
            raise Unhealthy(self._cause(gate, why))
        late = now - wait.began > wait.lasts
        if late and check.probe in ONLY_WAIT:
            log.info("not drained app=%s %s after=%.2fs: %s", about.app, about.name, now - wait.began, why)
            return True
        if late and not wait.healthy_since:
            if health is Health.UNKNOWN:
                raise Unavailable(f"{_who(about)}: {why}")
            raise Unhealthy(self._cause(gate, f"{why} for {wait.lasts:g} s"))
        return False

    def _ask(self, wait: Wait) -> tuple[Health, str]:
        probe = wait.gate.check.probe
        if probe == canary.PROBE:
            health, why, wait.is_over = self.trials.ask(wait.gate, wait.began)
            return health, why
        if probe == canary.TURN:
            return self.trials.ask_for_turn(wait.gate, wait.began)
        if probe == ROUTE_PROOF:
            return self._ask_route_proof(wait)
        return self._ask_tasks(self._tasks, wait) if self._tasks else self._ask_instance(wait)

    def _ask_tasks(self, tasks: Tasks, wait: Wait) -> tuple[Health, str]:
        check, name = wait.gate.check, wait.gate.resource.name
        if check.probe in ONLY_WAIT:
            if self._route_proof and self._route_proof.was_idle():
                return Health.HEALTHY, ""
            return Health.PROGRESSING, "what it has not answered yet is not seen from here"
        waited = self._clock.now() - wait.began
        health, why, wait.tasks = tasks.at_gate(name, check, wait.tasks, is_late=waited > wait.lasts)
        return health, why

    def _ask_instance(self, wait: Wait) -> tuple[Health, str]:
        check, name = wait.gate.check, wait.gate.resource.name
        instance = self._engine.instance(name)
        if check.probe in ONLY_WAIT:  # it is about to be deleted: how it ended or came back does not matter
            return self._ask_old(wait, instance) if instance else (Health.HEALTHY, "")
        if instance is None or not instance.started:  # Docker removes a container that it failed to start
            if wait.first_start:  # its unit removes an ended container and makes a new one
                return Health.DEGRADED, self._ended(wait)
            why = f"its container was not {'started' if instance else 'created'}"
            waited = self._clock.now() - wait.began
            if waited > STARTED_WITHIN_SECONDS and (disruption := self._disruptions.since_pass(wait.began)):
                raise Disrupted(f"{_who(wait.gate.resource)}: {why}, and {disruption}", wait.gate.resource)
            self._raise_if_given_up(instance, wait)
            return Health.PROGRESSING, why
        has_ended = instance.state != "running"
        if not has_ended and self._has_lost_process(instance, wait):
            raise Disrupted(f"{_who(wait.gate.resource)}: {LOST_PROCESS}", wait.gate.resource)
        if (
            has_ended
            and check.probe not in PASSED_BY_ENDED
            and not wait.first_start
            and self._ended_before(instance, wait)
        ):
            if instance.refused:
                self._raise_if_given_up(instance, wait)
            return Health.PROGRESSING, f"has not started again since it exited with code {instance.exit_code}"
        if wait.first_start and instance.started != wait.first_start:
            return Health.DEGRADED, f"{self._ended(wait)}, and was started again"
        wait.first_start = instance.started
        if instance.unpublished:
            return Health.DEGRADED, (
                f"the port {instance.unpublished} is not published: the engine has left it out, as for an IPv6 address "
                "on a network without IPv6"
            )
        if has_ended and check.probe not in PASSED_BY_ENDED:
            health, why = Health.DEGRADED, f"exited with code {instance.exit_code}"
        else:
            health, why = self.ask(instance, check)
        if health is Health.DEGRADED and has_ended and (disruption := self._disruption(wait)):
            raise Disrupted(disruption, wait.gate.resource)
        early = self._clock.now() - wait.began < check.start_period  # failures do not count yet
        return (Health.PROGRESSING if early and not has_ended and health is Health.DEGRADED else health), why

    def _has_lost_process(self, instance: Instance, wait: Wait) -> bool:
        """Has the process of a container that runs been gone for a while?

        An engine never hears of an end while its containerd is away.
        """
        is_there = not instance.pid or self._is_there(instance.pid)
        wait.gone_since = 0.0 if is_there else wait.gone_since or self._clock.now()
        return not is_there and self._clock.now() - wait.gone_since >= LOST_AFTER_SECONDS

    def _raise_if_given_up(self, instance: Instance | None, wait: Wait) -> None:
        """Raise what a start failed of: the engine refused it, or the unit has given up.

        Why the engine refused it may be of an earlier start, as long as the unit is at a new one.
        """
        unit = f"{wait.gate.resource.name}.service"
        if not (instance and instance.refused) and self._clock.now() - wait.began < LOOKED_AT_AFTER_SECONDS:
            return
        found = self._systemd.units(unit).get(unit)
        if not found or found.sub not in ("failed", "auto-restart", "auto-restart-queued"):
            return
        if disruption := self._disruptions.since_pass(wait.began):
            raise Disrupted(f"{_who(wait.gate.resource)}: was not started, and {disruption}", wait.gate.resource)
        if instance and instance.refused:
            raise refused_start(_who(wait.gate.resource), instance.refused)
        if found.sub == "failed":
            raise Unhealthy(self._cause(wait.gate, "its unit gave up"))

    def _ask_old(self, wait: Wait, instance: Instance) -> tuple[Health, str]:
        """Does anybody wait for an old instance?  Not on the connections that Kong keeps, once it had no open request.

        No request is then on its way from Kong either, so that nothing has to be quiet for a while.
        """
        check, port = wait.gate.check, wait.gate.resource.spec.get("port")
        if port and self._route_proof:
            wait.is_answered = wait.is_answered or self._route_proof.was_idle()
        return self.ask(instance, replace(check, spec={"idle_port": port}) if wait.is_answered else check)

    def _ended_before(self, instance: Instance, wait: Wait) -> bool:
        """Did it end before the gate was waited at?  Its unit starts it again, as after a reboot amid a deploy."""
        waited = self._clock.now() - wait.began
        return bool(instance.finished) and unix_time(instance.finished) < time.time() - waited

    def _ended(self, wait: Wait) -> str:
        if disruption := self._disruption(wait):
            raise Unavailable(disruption)
        code = self._engine.exit_code(wait.gate.resource.name, self._clock.now() - wait.began + 1)
        return "ended" if code is None else f"exited with code {code}"

    def _disruption(self, wait: Wait) -> str:
        """Why the end of the instance says nothing about it; "" if it ended by itself."""
        disruption = self._disruptions.since_unix(unix_time(wait.first_start))
        return f"{_who(wait.gate.resource)} ended, and {disruption}" if disruption else ""

    def _ask_route_proof(self, wait: Wait) -> tuple[Health, str]:
        """The route proof: does Kong lead to this service, and was it seen to use the new instances and no old ones?

        Old instances still finish open requests.  If these cannot be told from new requests, or if the kernel counts
        nothing, Kong's answer alone is enough after PROOF_WAITS_SECONDS.  In a shared Kong an answer may come from an
        instance of another host; that is enough once Kong was seen to use one of this host's.
        """
        route, spec = wait.gate.resource, wait.gate.check.spec
        if not self._route_proof:
            return Health.UNKNOWN, NO_KONG
        if spec.get("everywhere") or is_drained(route):  # where it leads then, this host cannot know
            return self._route_proof.everywhere(route)
        used, left = self._received(target["instance"] for target in route.spec["targets"]), spec.get("left", ())
        unused = self._received(left)
        health, why, reached = self._route_proof.answers(route)
        is_late = self._clock.now() - wait.began > PROOF_WAITS_SECONDS
        if health is not Health.HEALTHY or not (left and reached) or is_late:
            return health, why
        if still := [name for name, count in self._received(unused).items() if count > unused[name]]:
            return Health.PROGRESSING, f"Kong still uses {still[0]}"
        wait.witnessed = wait.witnessed or not used or self._received(used) != used
        if not wait.witnessed:
            return Health.PROGRESSING, "Kong was not seen to use the new instances"
        return health, why

    def _received(self, names: Iterable[str]) -> dict[str, int]:
        """The bytes that instances received so far, by name; without those for which the kernel does not tell."""
        found = {name: self._engine.instance(name) for name in names}
        counted = {name: self._count(instance.pid) for name, instance in found.items() if instance}
        return {name: count for name, count in counted.items() if count is not None}

    def _cause(self, gate: Gate, why: str) -> str:
        """Why a gate was not passed, with the last lines that the instance printed, and without any of its secrets."""
        if gate.check.probe in (ROUTE_PROOF, canary.PROBE):
            return f"{_who(gate.resource)}: {why}"
        name = gate.resource.name
        said = self._tasks.said(name) if self._tasks else self._systemd.journal(f"{name}.service", lines=5)
        last = f"; it last said: {' | '.join(said)}" if said else ""
        service = gate.resource.payload if isinstance(gate.resource.payload, Service) else None
        return f"{_who(gate.resource)}: {self._redacted(why + last, service)}"

    def _redacted(self, text: str, service: Service | None) -> str:
        """The text without what the service has as a secret, and without any of this host."""
        return redact(text, parts_of(self._secrets(service.secrets)) | secrets_of(service)) if service else text


def _who(resource: Resource) -> str:
    return resource.service or resource.name
