"""Random histories, with a fault at any step: nothing bad ever happens, and what is good happens in the end.

Safety: a route never points at an instance that is not there; a start-first service never has fewer instances in
service than before, nor none that is found by its name; only what passed its gates is ever approved; a job is done once
for each content; of a suspended app nothing is made, and nothing deleted but what runs of it if it is to stop.
Liveness: once the faults stop, one pass settles and the next is a no-op.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.errors import Interrupted, NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import (
    RUNNING,
    App,
    Change,
    Desired,
    Gate,
    Operation,
    Outcome,
    Problem,
    Revision,
    Step,
    Sync,
    Update,
)
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.core.suspension import IN_GIT, Suspension
from tests.fakes import FakeHistory, FakeHost, Killed, job, service

IMAGES = ("v1", "v2", "v3", "sick", "gone")
FAULTS = {
    "unreachable": Unavailable("no answer"),
    "refused": StepFailed("refused"),
    "not now": NotNow("the disk is full"),
    "interrupted": Interrupted("something newer"),
    "killed": Killed(),
}
NETWORKS = {"networks": {"mvd-chat-default": {}}}


@dataclass(frozen=True)
class Act:
    """One pass: the images of three services (None: it is not there), and a fault after so many steps.

    An app that is `suspended` is "left" as it is, or is to "stop": so says an operator or, with `in_git`, the commit.
    """

    web: str | None
    worker: str | None
    migrate: str | None = None
    order: str = "start-first"
    action: str = "rollback"
    replicas: int = 1
    parallelism: int = 1
    broken: bool = False
    lose: bool = False
    tamper: bool = False
    fault: str = ""
    at: int = 0
    suspended: str = ""
    in_git: bool = False

    @property
    def images(self) -> set[str | None]:
        return {self.web, self.worker, self.migrate}

    @property
    def is_green(self) -> bool:
        return not self.broken and not {"sick", "gone"} & self.images


acts = st.builds(
    Act,
    web=st.none() | st.sampled_from(IMAGES),
    worker=st.none() | st.sampled_from(IMAGES),
    migrate=st.none() | st.sampled_from(IMAGES),
    order=st.sampled_from(["start-first", "start-first", "stop-first"]),
    action=st.sampled_from(["rollback", "rollback", "pause", "continue"]),
    replicas=st.integers(1, 3),
    parallelism=st.integers(0, 2),
    broken=st.sampled_from([False, False, True]),
    lose=st.sampled_from([False, False, False, True]),
    tamper=st.sampled_from([False, False, True]),
    fault=st.sampled_from(["", *FAULTS]),
    at=st.integers(0, 7) | st.integers(8, 24),
    suspended=st.sampled_from(["", "", "", "left", "stop"]),
    in_git=st.booleans(),
)


def desired(act: Act, number: int = 0) -> Desired:
    update = Update(act.order, act.action, act.parallelism)
    needs = {"migrate": "service_completed_successfully"} if act.migrate else {}
    made = {
        "web": lambda image: service(
            "web", image, update=update, replicas=act.replicas, depends_on=needs, run=NETWORKS
        ),
        "worker": lambda image: service("worker", image, route=False, update=update),
        "migrate": lambda image: job("migrate", image, update=update),
    }
    services = [make(image) for name, make in made.items() if (image := getattr(act, name))]
    suspend = Suspension(IN_GIT, stop=act.suspended == "stop") if act.suspended and act.in_git else None
    apps = (App("chat", tuple(services), suspend=suspend),) if services and not act.broken else ()
    broken = {"chat": (Problem("apps/chat/compose.yaml", 1, "", "broken"),)} if act.broken else {}
    return Desired(Revision(f"{number:040}", "main"), apps, broken)


def suspensions(act: Act, apps: tuple[App, ...]) -> dict[str, Suspension]:
    """What an operator has suspended; what a commit is to suspend and does not have is nobody's."""
    if not act.suspended or (act.in_git and apps):
        return {}
    return {"chat": Suspension("anna", stop=act.suspended == "stop")}


class Watched(FakeHost):
    """A host that checks the safety properties before every step."""

    def __init__(self, history: FakeHistory) -> None:
        super().__init__(history)
        self.act = Act(None, None)
        self.steps = 0
        self.serves = 0  # instances that were in service when the pass began, or as many as are to be
        self.fault = self.check

    def begin(self, act: Act) -> None:
        self.act, self.steps = act, 0
        good = self._history.last_good("chat") or App("chat")
        kept = [one.replicas for one in good.services if one.name == "web"]  # what never was good is not kept up
        asked = [act.replicas] if act.web and not act.broken else []
        self.serves = min([len(self.serving("chat", "web")), *kept, *asked]) if kept else 0
        if act.suspended == "left":
            self.serves = len(self.serving("chat", "web"))
        self.excused |= act.suspended == "stop"

    def check(self, step: Step) -> None:
        if isinstance(step, Change) and self.act.suspended:
            assert self.act.suspended == "stop"
            assert not step.to
            assert step.resource.kind in ("unit", "route")
        targets = [t["instance"] for r in self.resources.values() if r.kind == "route" for t in r.spec["targets"]]
        assert self.excused or all(("unit", instance) in self.resources for instance in targets)
        if self.keeps_serving:
            assert len(self.serving("chat", "web")) >= self.serves
            assert not self.serves or self.is_found_by_name("web")
        self.steps += 1
        if self.act.fault and self.steps > self.act.at:
            raise FAULTS[self.act.fault]

    def is_found_by_name(self, service: str) -> bool:
        units = [unit for unit in self.found("chat") if (unit.kind, unit.service) == ("unit", service)]
        return any(unit.spec["state"] == RUNNING for unit in units)

    excused = False  # after tampering, or where a manifest itself says stop-first

    @property
    def keeps_serving(self) -> bool:
        return not self.excused and self.act.web is not None


class Careful(FakeHistory):
    """A memory that checks what it is told to approve."""

    def approve(self, app: App, commit: str) -> None:
        assert not any("sick" in one.image or "gone" in one.image for one in app.services)
        super().approve(app, commit)


@settings(max_examples=4 * settings.default.max_examples)
@given(st.lists(acts, min_size=1, max_size=6))
@example([Act("v1", None), Act("v2", None, fault="refused", at=5)])
@example([Act("v1", "v1"), Act("v1", "sick", fault="killed", at=2)])
@example([Act("v1", None), Act("v2", None, fault="killed", at=4)])
@example([Act("v1", "v1"), Act("v2", "sick", lose=True), Act("v3", "v1")])
@example([Act("v1", None), Act("v2", "sick", order="stop-first", lose=True, fault="unreachable", at=1)])
@example([Act("v1", None, replicas=2), Act("v3", None, order="stop-first", fault="unreachable", at=1)])
@example([Act("sick", None, action="continue", replicas=2), Act("v1", None, order="stop-first", replicas=2)])
@example([Act("v1", None, replicas=3), Act("v2", None, replicas=3, fault="killed", at=9)])
def test_nothing_bad_ever_happens_and_what_is_good_happens_in_the_end(history: list[Act]) -> None:
    memory = Careful()
    host = Watched(memory)
    for number, act in enumerate(history):
        if act.lose:
            memory.lose()
        if act.tamper and host.resources:
            host.excused = True
            del host.resources[sorted(host.resources)[0]]
        host.excused |= act.order == "stop-first"
        host.begin(act)
        with contextlib.suppress(Killed):
            wanted = desired(act, number)
            suspended = suspensions(act, wanted.apps)
            report = reconcile(wanted, host, memory, allow_empty=True, suspended=suspended)
            if act.suspended == "stop" and not act.fault:
                assert host.images("chat") == []
            assert all(outcome.suspended for outcome in report.outcomes) or not act.suspended or act.fault

    last = replace(history[-1], suspended="")
    host.begin(Act(None, None))
    [outcome] = settled(last, host, memory) or [None]
    if last.is_green:
        memory.bad.clear()  # `mvd retry`: an innocent version may have been marked failed by a refused step
        [outcome] = settled(last, host, memory) or [None]
        assert outcome is None or outcome.operation is Operation.SUCCEEDED
        assert host.images("chat") == expected(last, host)
    elif outcome:
        assert outcome.operation is not Operation.SUCCEEDED
        if last.action == "continue" and outcome.sync is Sync.SYNCED:
            assert host.images("chat") == expected(last, host)
    host.log.clear()
    settled(last, host, memory)
    assert [step for step in host.log if isinstance(step, Change | Gate)] == []


def settled(act: Act, host: FakeHost, memory: FakeHistory) -> tuple[Outcome, ...]:
    return reconcile(desired(act, 99), host, memory, allow_empty=True).outcomes


def expected(act: Act, host: FakeHost) -> list[str]:
    """The images of all instances; a job that was done before may have nothing left of it."""
    job_is_there = "migrate" in {r.service for r in host.found("chat") if r.kind == "unit"}
    images = [*([act.web] * act.replicas), act.worker, act.migrate if job_is_there else None]
    return sorted(image for image in images if image)


@given(st.lists(acts.filter(lambda act: not act.lose), min_size=1, max_size=6))
def test_a_job_is_done_once_for_each_content(history: list[Act]) -> None:
    memory = FakeHistory()
    host = Watched(memory)
    host.excused = True
    finished: dict[str, int] = {}
    for number, act in enumerate(history):
        host.begin(act)
        wanted = desired(act, number)
        with contextlib.suppress(Killed):
            reconcile(wanted, host, memory, allow_empty=True, suspended=suspensions(act, wanted.apps))
        for name in memory.jobs - finished.keys():
            finished[name] = host.starts[name]
    assert {name: host.starts[name] for name in finished} == finished
