"""What a reading asks of the facts of its host, so that hosts that answer the same share one reading.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from gitops_mvd.core.compose import Logging
from gitops_mvd.core.model import HostFacts

T = TypeVar("T")

Question = tuple[str, ...]
"""A kind of question, and what it is about: `("label", "role", "web")` is whether the label `role` is `web`."""
Answer = str | None
YES = "yes"


def answer(facts: HostFacts, question: Question) -> Answer:
    """What a host answers: the value of a variable, its logging as JSON, and `YES` to what is so; None otherwise."""
    match question:
        case "variable", name:
            return facts.variables.get(name)
        case ("logging",):
            return json.dumps(facts.logging, sort_keys=True) if facts.logging else None
        case "label", name, value:
            is_so = facts.labels.get(name) == value
        case ("swarm",):
            is_so = facts.swarm
        case "node label", name:
            is_so = facts.swarm and name in facts.node_labels
        case "node", name:
            is_so = facts.swarm and name in facts.nodes
        case "hostname", value:
            is_so = facts.name == value
        case "override", file:
            is_so = file in override_names(facts)
        case "unset is empty", app:
            is_so = app in facts.unset_is_empty
        case _:
            raise ValueError(question)
    return YES if is_so else None


def override_names(facts: HostFacts) -> set[str]:
    """The names of the files that a host reads over the main one, with either suffix."""
    stems = {f"compose.{label}-{value}" for label, value in facts.labels.items()}
    return {f"{stem}.{suffix}" for stem in stems for suffix in ("yaml", "yml")}


class Asked:
    """The facts of one host; `answers` has what was asked of them, in that order."""

    def __init__(self, facts: HostFacts) -> None:
        self.facts = facts
        self.answers: dict[Question, Answer] = {}

    def __call__(self, question: Question) -> Answer:
        if question not in self.answers:
            self.answers[question] = answer(self.facts, question)
        return self.answers[question]

    def logging(self) -> Logging | None:
        text = self(("logging",))
        return cast(Logging, json.loads(text)) if text else None

    def variable(self, name: str) -> Answer:
        return self(("variable", name))


def same_answers(facts: HostFacts, answers: Mapping[Question, Answer]) -> bool:
    """Does a host give these answers?"""
    return all(answer(facts, question) == known for question, known in answers.items())


class ByAnswers(Generic[T]):
    """What was made of one thing for several hosts, found again by what was asked of their facts.

    A tree: it is the answers so far that decide what is asked next.
    """

    def __init__(self) -> None:
        self._ways: dict[Answer, T | _Fork[T]] = {}

    def find(self, facts: HostFacts) -> T | None:
        """What was made for a host that gave the same answers; None if there was none."""
        found = self._ways.get(None)
        while isinstance(found, _Fork):
            found = found.ways.get(answer(facts, found.question))
        return found

    def add(self, answers: Mapping[Question, Answer], made: T) -> None:
        """Keep what was made from these answers, in the order in which they were asked for."""
        ways: dict[Answer, T | _Fork[T]] = self._ways
        taken: Answer = None
        for question, given in answers.items():
            fork = ways.setdefault(taken, _Fork(question, {}))
            if not isinstance(fork, _Fork) or fork.question != question:
                return  # asked in another order: it is made anew for each host
            ways, taken = fork.ways, given
        ways.setdefault(taken, made)


@dataclass(frozen=True, slots=True)
class _Fork(Generic[T]):
    question: Question
    ways: dict[Answer, T | _Fork[T]]
