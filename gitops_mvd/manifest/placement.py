"""`deploy.placement.constraints`: on which hosts a service runs.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gitops_mvd.config.readers import text
from gitops_mvd.config.tables import Place, accepts, did_you_mean
from gitops_mvd.core.model import HostFacts, Problem
from gitops_mvd.manifest.asked import YES, Answer, Question, answer

_CONSTRAINT = re.compile(r"\s*([\w.-]+)\s*(==|!=)\s*(.*?)\s*")
_HOSTNAME, _LABELS = "node.hostname", "node.labels."


@dataclass(frozen=True, slots=True)
class Constraint:
    """`node.hostname` or `node.labels.<name>`, equal to a value or not."""

    subject: str
    equal: bool
    value: str

    def holds(self, ask: Callable[[Question], Answer]) -> bool:
        """Does the host of which that is asked fulfil it?  A Swarm itself finds nodes that do."""
        if self.is_for_nodes(ask):
            return True
        is_label = self.subject.startswith(_LABELS)
        question = ("label", self.subject.removeprefix(_LABELS), self.value) if is_label else ("hostname", self.value)
        return (ask(question) == YES) == self.equal

    def is_for_nodes(self, ask: Callable[[Question], Answer]) -> bool:
        """Is it about each node of a Swarm, and not about the host of which that is asked?"""
        label = self.subject.removeprefix(_LABELS)
        return ask(("node", self.value) if label == self.subject else ("node label", label)) == YES

    def is_one_node(self, ask: Callable[[Question], Answer]) -> bool:
        """Is there one node of a Swarm that fulfils it, and no other?"""
        return self.subject == _HOSTNAME and self.equal and self.is_for_nodes(ask)

    def __str__(self) -> str:
        return f"{self.subject}{'==' if self.equal else '!='}{self.value}"

    def holds_on(self, facts: HostFacts) -> bool:
        return self.holds(partial(answer, facts))

    def why_not(self, hosts: Sequence[HostFacts]) -> str:
        """Why it holds on none of these hosts."""
        if not self.equal:
            return f"{self.subject} is {self.value} on every one"
        if not self.subject.startswith(_LABELS):
            names = [name for facts in hosts for name in (facts.name, *sorted(facts.nodes))]
            return f"none has the name {self.value}" + did_you_mean(self.value, names)
        name = self.subject.removeprefix(_LABELS)
        known = sorted({value for facts in hosts for label, value in facts.labels.items() if label == name})
        if not known:
            labels = sorted({label for facts in hosts for label in facts.labels})
            return f"none has the label {name}" + did_you_mean(name, labels)
        return f"none has the label {name} with the value {self.value}" + did_you_mean(self.value, known)


Placed = Sequence[tuple[Place, Constraint]]


@accepts({"type": "string", "pattern": f"^{_CONSTRAINT.pattern}$"})
def constraint(place: Place) -> Constraint:
    found = _CONSTRAINT.fullmatch(text(place))
    if not found or not found[3]:
        place.fail('must be like "node.labels.role == web" or "node.hostname != web1"')
    subject = found[1]
    if subject != _HOSTNAME and not (subject.startswith(_LABELS) and subject != _LABELS):
        place.fail(f"asks for {subject}: a host has node.hostname and the node.labels.<name> of fleet.yaml")
    return Constraint(subject, found[2] == "==", found[3])


def nowhere(wanted: Sequence[tuple[HostFacts, Placed]]) -> Iterator[Problem]:
    """What is wrong with the constraints of one service, read for each host, if all together keep it from every one."""
    for at, why in why_none(wanted):
        yield Problem(at.node.file, at.node.line, at.key, f"runs on no host of fleet.yaml: {why}")


def why_none(wanted: Sequence[tuple[HostFacts, Placed]]) -> Iterator[tuple[Place, str]]:
    """The constraints, read for each host, that keep every one away, and why; none if a host fulfils all of its own."""
    if any(all(it.holds_on(facts) for _, it in constraints) for facts, constraints in wanted):
        return
    hosts = [facts for facts, _ in wanted]
    every = {it: at for _, constraints in wanted for at, it in constraints}
    hopeless = [it for it in every if not any(it.holds_on(facts) for facts in hosts)]
    for it in hopeless:
        yield every[it], it.why_not(hosts)
    if every and not hopeless:
        yield next(iter(every.values())), "none fulfils all of its constraints at once"


def without_fleet(constraints: Placed) -> Iterator[Problem]:
    """What is wrong with the constraints of one service where there is no `fleet.yaml`."""
    for at, it in constraints:
        if it.subject.startswith(_LABELS) and it.equal:
            why = "runs on no host: it is fleet.yaml that gives hosts their labels, and there is none"
            yield Problem(at.node.file, at.node.line, at.key, why)
