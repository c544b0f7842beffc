"""What the reader of manifests refuses and an import mends by itself: names, quotes, keys without effect.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gitops_mvd.config.scalars import is_time, printed
from gitops_mvd.imports.document import Pair, Spot
from gitops_mvd.imports.draft import ComposeFile, Draft, Part
from gitops_mvd.imports.variables import evaluate

# Keys that `docker compose` does not act on either, by their path in a service.
_REMOVED = {
    ("develop",): "it is for `docker compose watch`",
    ("deploy", "endpoint_mode"): "only Swarm acts on it",
    ("deploy", "rollback_config"): "only Swarm acts on it",
    ("deploy", "labels"): "they are labels of a service of Swarm",
    (
        "deploy",
        "placement",
    ): "`docker compose` ignores it; here it would choose the hosts by their labels in fleet.yaml",
    ("deploy", "resources", "reservations", "generic_resources"): "only Swarm acts on it",
}
_PULL = {"refresh", "daily", "weekly"}  # and `every_<duration>`
_TEXTS = ("labels", "annotations", "sysctls", "storage_opt", "extra_hosts")
_BELOW = (("logging", "options"), ("deploy", "labels"))


def mend(draft: Draft) -> None:
    for file in draft.files:
        _name(draft, file)
        _version(draft, file)
    for part in draft.parts():
        _keys(draft, part)
        _dependencies(draft, part)
        _update_order(draft, part)
        _pull_policy(draft, part)
        for spot, key in _words(part):
            _quote(draft, part.file, spot, f"{part.key}.{key}")


def _name(draft: Draft, file: ComposeFile) -> None:
    spot = file.document.root.get("name") if file.document.root else None
    if file is not draft.files[0] or spot is None or not spot.real.scalar:
        return
    if evaluate(spot.real.value, file.variables).text != draft.app:
        file.document.write(spot, draft.app)
        draft.change(draft.place(file, spot, "name"), f"name: {draft.app}", "an app is named after its folder")


def _version(draft: Draft, file: ComposeFile) -> None:
    root = file.document.root
    pair = root.pair("version") if root else None
    if pair and root and len(root.pairs or ()) > 1:
        file.document.remove_pair(root, pair)
        draft.change(
            draft.place(file, pair.key, "version"), "removed", "Compose has ignored it since its second version"
        )


def _keys(draft: Draft, part: Part) -> None:
    for path, why in _REMOVED.items():
        trail = list(_trail(part.spot, path))
        if len(trail) < len(path):
            continue
        while len(trail) > 1 and len(trail[-1][0].real.pairs or ()) == 1:  # nothing would be left of what it is in
            trail.pop()
        mapping, pair = trail[-1]
        if len(mapping.real.pairs or ()) > 1 and not part.file.document.is_shared(pair.value):
            part.file.document.remove_pair(mapping, pair)
            at = draft.place(part.file, pair.key, f"{part.key}.{'.'.join(path)}")
            draft.change(at, "removed", why)


def _trail(spot: Spot, path: tuple[str, ...]) -> Iterator[tuple[Spot, Pair]]:
    for name in path:
        pair = spot.pair(name)
        if pair is None:
            return
        yield spot, pair
        spot = pair.value.real


def _dependencies(draft: Draft, part: Part) -> None:
    depends_on = part.spot.get("depends_on")
    for entry in (depends_on.real.pairs or ()) if depends_on else ():
        pair = entry.value.pair("restart")
        if pair and pair.value.real.value.lower() == "true" and len(entry.value.real.pairs or ()) > 1:
            part.file.document.remove_pair(entry.value, pair)
            at = draft.place(part.file, pair.key, f"{part.key}.depends_on.{entry.key.value}.restart")
            why = "`docker compose` acts on it only where somebody restarts the other service by a command of its own"
            draft.change(at, "removed", why)


def _update_order(draft: Draft, part: Part) -> None:
    """Remove an order of updates that a port of the host makes impossible."""
    deploy, ports = part.spot.get("deploy"), part.spot.lookup("ports")
    for mapping in deploy.merged() if deploy and ports and ports.real.items else ():
        pair = mapping.pair("update_config")
        order = pair.value.real.get("order") if pair else None
        if pair and order is not None and order.real.value == "start-first" and len(mapping.pairs or ()) > 1:
            part.file.document.remove_pair(mapping, pair)
            at = draft.place(part.file, pair.key, f"{part.key}.deploy.update_config")
            draft.change(
                at, "removed", "`docker compose` ignores it; a service with a port of the host has to stop first"
            )


def _pull_policy(draft: Draft, part: Part) -> None:
    pair = part.spot.pair("pull_policy")
    if not pair or not pair.value.real.scalar:
        return
    policy, at = pair.value.real.value, draft.place(part.file, pair.key, f"{part.key}.pull_policy")
    if policy == "build":
        part.file.document.remove_pair(part.spot, pair)
        draft.change(at, "removed", "nothing is built on a server")
    elif policy in _PULL or policy.startswith("every_"):
        part.file.document.write(pair.value, "always")
        draft.change(at, f"{policy} → always", "a new image is looked for at every sync")


def _words(part: Part) -> Iterator[tuple[Spot, str]]:
    """Every scalar that becomes a text, with its key."""
    for key in ("environment", *_TEXTS):
        for value in _values(part.spot.get(key)):
            yield value, key
    for first, second in _BELOW:
        above = part.spot.get(first)
        for value in _values(above.real.get(second) if above else None):
            yield value, f"{first}.{second}"


def _values(spot: Spot | None) -> Iterator[Spot]:
    for mapping in spot.merged() if spot and spot.real.pairs is not None else ():
        for pair in mapping.pairs or ():
            if pair.key.value != "<<" and pair.value.real.scalar:
                yield pair.value.real


def _quote(draft: Draft, file: ComposeFile, spot: Spot, key: str) -> None:
    """Put a number or date into quotes that would become another text."""
    written = spot.value
    if spot.style or spot.start == spot.end or "$" in written:
        return
    text = written if is_time(written) else printed(written)
    if text != written or is_time(written):
        file.document.replace(spot.start, spot.end, f'"{text}"')
        if text == written:
            why = f"without quotes, `docker compose` hands over a time of day with it: {text} 00:00:00 +0000 UTC"
        else:
            why = f"this is what `docker compose` makes of {written}; if {written} is meant, write it in quotes"
        draft.change(draft.place(file, spot, key), f'{written} → "{text}"', why)
