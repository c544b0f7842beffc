"""Random histories, with a fault at any step: nothing bad ever happens, and what is good happens in the end.

Safety: a route never points at an instance that is not there, and only what passed its gates is ever approved.
Liveness: once the faults stop, one pass settles and the next is a no-op.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitops_mvd.errors import Interrupted, StepFailed, Unavailable
from gitops_mvd.model import App, Change, Desired, Gate, Operation, Problem, Revision, Step, Update
from gitops_mvd.reconcile import reconcile
from tests.fakes import FakeHistory, FakeHost, Killed, service

IMAGES = ("v1", "v2", "v3", "sick", "gone")
FAULTS = {
    "unreachable": Unavailable("no answer"),
    "refused": StepFailed("refused"),
    "interrupted": Interrupted("something newer"),
    "killed": Killed(),
}


@dataclass(frozen=True)
class Act:
    """One pass: the images of two services (None: the app is not there), and a fault after so many steps."""

    web: str | None
    worker: str | None
    order: str = "start-first"
    broken: bool = False
    lose: bool = False
    tamper: bool = False
    fault: str = ""
    at: int = 0


acts = st.builds(
    Act,
    web=st.none() | st.sampled_from(IMAGES),
    worker=st.none() | st.sampled_from(IMAGES),
    order=st.sampled_from(["start-first", "stop-first"]),
    broken=st.booleans(),
    lose=st.sampled_from([False, False, False, True]),
    tamper=st.sampled_from([False, False, True]),
    fault=st.sampled_from(["", *FAULTS]),
    at=st.integers(0, 7) | st.integers(8, 14),
)


def desired(act: Act) -> Desired:
    update = Update(order=act.order)
    both = (("web", act.web), ("worker", act.worker))
    services = [service(name, image, route=name == "web", update=update) for name, image in both if image]
    apps = (App("chat", tuple(services)),) if services and not act.broken else ()
    broken = {"chat": (Problem("apps/chat/compose.yaml", 1, "", "broken"),)} if act.broken else {}
    return Desired(Revision("a" * 40, "main"), apps, broken)


class Watched(FakeHost):
    """A host that checks the safety properties before every step."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.steps = 0
        self.act = act
        self.fault = self.check

    def check(self, step: Step) -> None:
        targets = [t["instance"] for r in self.resources.values() if r.kind == "route" for t in r.spec["targets"]]
        assert self.excused or all(("unit", instance) in self.resources for instance in targets)
        self.steps += 1
        if self.act.fault and self.steps > self.act.at:
            raise FAULTS[self.act.fault]

    excused = False  # after tampering, or where the manifest itself says stop-first


class Careful(FakeHistory):
    """A memory that checks what it is told to approve."""

    def approve(self, app: App) -> None:
        assert not any("sick" in one.image or "gone" in one.image for one in app.services)
        super().approve(app)


@settings(max_examples=250, deadline=None)
@given(st.lists(acts, min_size=1, max_size=6))
@example([Act("v1", None), Act("v2", None, fault="refused", at=5)])
@example([Act("v1", "v1"), Act("v1", "sick", fault="killed", at=2)])
@example([Act("v1", None), Act("v2", None, fault="killed", at=4)])
@example([Act("v1", "v1"), Act("v2", "sick", lose=True), Act("v3", "v1")])
@example([Act("v1", None), Act("v2", "sick", "stop-first", lose=True, fault="unreachable", at=1)])
def test_nothing_bad_ever_happens_and_what_is_good_happens_in_the_end(history: list[Act]) -> None:
    host, memory = Watched(history[0]), Careful()
    for act in history:
        host.act, host.steps = act, 0
        host.excused |= act.order == "stop-first"
        if act.lose:
            memory.lose()
        if act.tamper and host.resources:
            host.excused = True
            del host.resources[sorted(host.resources)[0]]
        with contextlib.suppress(Killed):
            reconcile(desired(act), host, memory, allow_empty=True)

    last = history[-1]
    host.act = Act(None, None)
    report = reconcile(desired(last), host, memory, allow_empty=True)
    healthy = not last.broken and not {"sick", "gone"} & {last.web, last.worker}
    if healthy:
        memory.bad.clear()  # `mvd retry`: an innocent version may have been condemned by a refused step
        report = reconcile(desired(last), host, memory, allow_empty=True)
        assert {outcome.operation for outcome in report.outcomes} <= {Operation.SUCCEEDED}
        assert host.images("chat") == sorted(image for image in (last.web, last.worker) if image)
    elif report.outcomes:
        assert report.outcomes[0].operation is not Operation.SUCCEEDED
    host.log.clear()
    reconcile(desired(last), host, memory, allow_empty=True)
    assert [step for step in host.log if isinstance(step, Change | Gate)] == []
