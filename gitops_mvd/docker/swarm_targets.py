"""Where Kong is led to on a Swarm: the tasks of a service that serve, wherever these are by now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.route import Target
from gitops_mvd.docker.swarm import Manager, Running, Task

TASKS = "its tasks"  # the address of a target whose addresses are those of the tasks that serve


class Serving:
    """The tasks to which requests may be sent.

    One that comes up in place of another has to be ready first, as `is_ready` says, given its service's name; one that
    Kong has already stays as long as it runs on a node that is there.
    """

    def __init__(self, manager: Manager, is_ready: Callable[[str, Task], bool]) -> None:
        self._manager = manager
        self._is_ready = is_ready
        self._has: Mapping[
            str, Set[str]
        ] = {}  # the addresses of each instance that Kong had when it was looked at last

    def merged(self, targets: Iterable[Target]) -> list[Target]:
        """What Kong has, one target for each instance: at TASKS if it has just those that serve."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for target in targets:
            found[target["instance"]].add(target["address"])
        services = self._manager.services() if found else {}
        self._has = {name: had for name, had in {**self._has, **found}.items() if name in services or name in found}
        return [
            Target(instance=name, address=self._text(services.get(name), addresses))
            for name, addresses in sorted(found.items())
        ]

    def resolved(self, targets: Iterable[Target]) -> list[Target]:
        """Each target that is at TASKS as one for each of these.  Raises Unavailable if none serves."""
        resolved = []
        for target in targets:
            if target["address"] != TASKS:
                resolved += [Target(instance=target["instance"], address=at) for at in target["address"].split(", ")]
                continue
            found = self._manager.service(target["instance"])
            addresses = self._addresses(found, self._has.get(found.name, ())) if found else []
            if not addresses:
                raise Unavailable(f"no task of {target['instance']} serves: {(found and found.lacks) or 'it is gone'}")
            resolved += [Target(instance=target["instance"], address=at) for at in addresses]
        return resolved

    def _text(self, found: Running | None, has: Set[str]) -> str:
        serving = self._addresses(found, has) if found else []
        # Where nothing serves any more, there is nothing better to lead to.
        return TASKS if not serving or set(serving) == has else ", ".join(sorted(has))

    def _addresses(self, found: Running, known: Set[str] | Sequence[str]) -> list[str]:
        port = int(found.labels.get("port", "0"))
        serving = [(task, at) for task in found.serving if (at := task.at(port) or _known(task, known))]
        return sorted({at for task, at in serving if at in known or self._is_ready(found.name, task)})


def _known(task: Task, known: Iterable[str]) -> str:
    """Where Kong has a task of which the Swarm does not know the port any more: on its node; "" if there is none."""
    return next((at for at in sorted(known) if task.address and at.rpartition(":")[0] == task.address), "")
