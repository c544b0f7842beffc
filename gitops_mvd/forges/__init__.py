"""Forges: one module each, found by name, whose `FORGE` says all there is to know about it.

github gitlab gitea bitbucket_cloud bitbucket_dc azure_devops     gitea is forgejo, too
api/      what they share: HTTP with deadlines and errors, logins, repository addresses, the login of a GitHub App

May import `core`.  Must not know who asks: the settings, the daemon and the manual read here which forges there are,
and no other module lists them.  `requests` is loaded only once a forge is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from gitops_mvd.core.features import incomplete, modules, require
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedState, PostedStatus
from gitops_mvd.core.ports import Forge
from gitops_mvd.forges.api import Account
from gitops_mvd.forges.api.address import Address, Location, last_two_parts

Headers = Mapping[str, str]  # names in lower case


FAILURES = (Operation.FAILED, Operation.ROLLED_BACK, Operation.ROLLBACK_FAILED)
SICK = (Health.DEGRADED, Health.MISSING, Health.UNKNOWN)


@dataclass(frozen=True)
class StateNames:
    """The state that a forge shows for a status: by its operation or, once that succeeded, by the health."""

    operations: Mapping[Operation, str]
    healths: Mapping[Health, str]

    def of(self, status: CommitStatus) -> str:
        return self.operations.get(status.operation) or self.healths[status.health]

    def read(self, word: str) -> PostedState:
        """What a state means, whoever posted it.

        Red is what stands for a failure here, also where less is told by the same word; what is not known is pending.
        """
        if word == self.healths[Health.HEALTHY]:
            return "green"
        is_red = word in {*(self.operations[each] for each in FAILURES), *(self.healths[each] for each in SICK)}
        return "red" if is_red else "pending"

    def missing(self) -> list[str]:
        """The operations and healths that have no state."""
        operations = [each for each in Operation if each is not Operation.SUCCEEDED and each not in self.operations]
        return [str(each) for each in (*operations, *(each for each in Health if each not in self.healths))]


def status_event(states: StateNames, commit: object, context: object, word: object) -> Event:
    """A status that was posted, by the forge's word for its state, as a webhook says: `other` if these are no texts."""
    if not (isinstance(commit, str) and isinstance(context, str) and isinstance(word, str)):
        return Event("other")
    return Event("status", commit=commit, context=context, state=states.read(word))


def newest(statuses: Iterable[PostedStatus]) -> Sequence[PostedStatus]:
    """Of each context the one that was posted last, and of two at the same time the later one; sorted by context."""
    last = {status.context: status for status in sorted(statuses, key=lambda status: status.at)}
    return [last[context] for context in sorted(last)]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The file by which a forge's CI runs `mvd validate` for each pull request: its path, and its text.

    It installs gitops-mvd from `requirements.txt` of the repository.
    """

    path: str
    text: str


@dataclass(frozen=True, kw_only=True)
class ForgeType:
    """All there is to know about a forge; every part without a default is required.

    `names` are the kinds by which the settings call it, each with the hosts that are this forge for certain: a name,
    or `.example.com` for all below it.  `locate` reads a repository's address.  `connect` makes a client, which asks
    nothing yet; `states` are what its statuses may be.  Of a webhook, `authentic` says if the sender knows the secret,
    in constant time and whatever is sent, and `event` what an authentic one says.  `page` is where people read a
    commit, by the forge's base URL ("" for the public one), the repository and the commit; "" if it has none.
    `pipelines` has the CI of each of its `names`, if the forge has one.
    """

    names: Mapping[str, Sequence[str]]
    connect: Callable[[Account], Forge]
    states: StateNames
    authentic: Callable[[Headers, bytes, str], bool]
    event: Callable[[Headers, bytes], Event]
    locate: Callable[[Address], Location] = last_two_parts
    page: Callable[[str, str, str], str] = lambda base_url, repository, commit: ""
    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a repository's address tells of its forge.

    `kind` and `repository` are "" if they are unknown, and `base_url` if it is the forge's public one.
    """

    kind: str = ""
    repository: str = ""
    base_url: str = ""


@cache
def known() -> Mapping[str, ForgeType]:
    """Every forge by the kind that settings name.  Raises IncompleteFeature for a module that lacks a part."""
    found: dict[str, ForgeType] = {}
    for module in modules(__name__, __path__).values():
        require(module, module, ["FORGE"])
        forge: ForgeType = module.FORGE
        if missing := forge.states.missing():
            raise incomplete(module, f"has no state for {' and '.join(missing)}")
        for name in forge.names:
            if found.setdefault(name, forge) is not forge:
                raise incomplete(module, f"has the name {name!r} of another forge")
    return dict(sorted(found.items()))


def kinds() -> list[str]:
    """The kinds that settings may name, sorted."""
    return list(known())


def connect(kind: str, account: Account) -> Forge:
    """A client of that forge; nothing is asked yet."""
    return known()[kind].connect(account)


def locate(url: str, kind: str = "") -> Origin:
    """What the address of a repository tells.  A `kind` that is known already need not be told by the host."""
    address = Address.of(url)
    if not address:
        return Origin(kind)
    kind = kind or next((name for name, forge in known().items() if _is_at(address.name, forge.names[name])), "")
    read = known()[kind].locate if kind else last_two_parts
    return Origin(kind, *read(address))


def likely(url: str) -> str:
    """The kind that the address tells, or that a server of one's own has in its name, as `gitea.example.com`; or ""."""
    if kind := locate(url).kind:
        return kind
    address = Address.of(url)
    labels = set(address.name.split(".")) if address else set()
    return next((kind for kind in known() if {kind, kind.removesuffix("-dc")} & labels), "")


def _is_at(host: str, hosts: Sequence[str]) -> bool:
    return any(host == each or (each.startswith(".") and host.endswith(each)) for each in hosts)
