"""`fleet.yaml` with one host drained or not, and every comment and line else as somebody wrote it.  Pure."""

from __future__ import annotations

import yaml

from gitops_mvd.core.errors import MvdError
from gitops_mvd.manifest.fleet import FILE

KEY = "drain"


def with_drain(text: str, host: str, is_on: bool) -> str:
    """The text of a fleet file without mistakes, changed.  Raises MvdError if a host has no place of its own in it."""
    hosts = _value(yaml.compose(text, yaml.SafeLoader), "hosts")
    entries = hosts.value if isinstance(hosts, yaml.MappingNode) else []
    node = _value(hosts, host)
    if node is None:
        raise MvdError(f"{FILE} has no host {host}", f"Hosts: {', '.join(key.value for key, _ in entries) or 'none'}")
    if sum(other is node for _, other in entries) > 1:
        raise MvdError(f"{FILE} has {host} by an alias (`*`), with others", f"write `{KEY}: true` there by hand")
    word = str(is_on).lower()
    if not isinstance(node, yaml.MappingNode):  # nothing, or a word for it
        gap = "" if text[node.start_mark.index - 1].isspace() else " "
        return _put(text, node.start_mark.index, node.end_mark.index, f"{gap}{{{KEY}: {word}}}")
    if there := _value(node, KEY):
        return _put(text, there.start_mark.index, there.end_mark.index, word)
    if node.flow_style:
        at = text.index("{", node.start_mark.index) + 1
        return _put(text, at, at, f"{KEY}: {word}{', ' if node.value else ''}")
    first = node.value[0][0].start_mark
    return _put(text, first.index, first.index, f"{KEY}: {word}\n{' ' * first.column}")


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    entries = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in entries if key.value == name), None)


def _put(text: str, start: int, end: int, what: str) -> str:
    return text[:start] + what + text[end:]
