"""Two Compose trees → one, by Compose's own rules.  Pure.

Mappings merge, lists append, all else is replaced; `command`, `entrypoint`, `healthcheck.test` and extensions (`x-...`)
are replaced whole, the items of `ports`, `volumes`, `secrets` and `configs` that are the same.
`!reset` takes an entry away, `!override` replaces it whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from gitops_mvd.config.yamltree import Node, Path, Sink, report
from gitops_mvd.manifest.network import split_port
from gitops_mvd.manifest.storage import split_volume

REPLACED_WHOLE = {("command",), ("entrypoint",), ("healthcheck", "test")}
AS_MAPPING = {("environment",), ("labels",), ("annotations",), ("sysctls",), ("extra_hosts",), ("deploy", "labels")}
AS_NAMES = {("networks",), ("depends_on",)}
AS_LIST = {("dns",), ("dns_search",), ("tmpfs",), ("env_file",), ("label_file",)}


def merge(base: Node, over: Node, sink: Sink, path: Path = ()) -> Node:
    """`base` with `over` merged on top; values keep the file and line of their own, mappings those of `base`."""
    key = path[2:] if path[:1] == ("services",) else ()
    if over.tag == "!override" or key in REPLACED_WHOLE or _extension(path):
        return _untagged(over)
    if over.value is None and not over.tag:
        return base
    if key in AS_MAPPING:
        separators = ":=" if key == ("extra_hosts",) else "="
        base, over = _mapping(base, separators), _mapping(over, separators)
    elif key in AS_NAMES:
        base, over = _names(base), _names(over)
    elif key in AS_LIST:
        base, over = _list(base), _list(over)
    match base.value, over.value:
        case dict() as old, dict() as new:
            if key == ("logging",) and _differ(old.get("driver"), new.get("driver")):
                return over
            return _untagged(base)._replace(value=_entries(old, new, sink, path))
        case list() as old, list() as new:
            return over._replace(value=_items(old, new, ITEM_IDENTITY.get(key, _content)))
        case (dict() | list(), _) | (_, dict() | list()) if (
            key[:1] != ("ulimits",) and base.value is not None and over.value is not None
        ):
            report(sink, path, over.file, over.line, f"has a different type than in {base.file}:{base.line}")
            return base
    return _untagged(over)


def clean(node: Node) -> Node:
    """A tree without the entries that were only there to be `!reset`."""
    match node.value:
        case dict() as entries:
            kept = {name: clean(child) for name, child in entries.items() if child.tag != "!reset"}
            return _untagged(node._replace(value=kept))
        case list() as items:
            return _untagged(node._replace(value=[clean(item) for item in items if item.tag != "!reset"]))
    return _untagged(node)


def _entries(old: dict[str, Node], new: dict[str, Node], sink: Sink, path: Path) -> dict[str, Node]:
    entries = dict(old)
    for name, node in new.items():
        if node.tag == "!reset":
            entries.pop(name, None)
        else:
            entries[name] = merge(old[name], node, sink, (*path, name)) if name in old else node
    return entries


def _items(old: list[Node], new: list[Node], identity: Callable[[Node], object]) -> list[Node]:
    items = {identity(node): node for node in old}
    for node in new:
        items[identity(node)] = node
    return list(items.values())


def _untagged(node: Node) -> Node:
    return node._replace(tag="") if node.tag == "!override" else node


def _extension(path: Path) -> bool:
    return bool(path) and str(path[-1]).startswith("x-")


def _differ(old: Node | None, new: Node | None) -> bool:
    return old is not None and new is not None and old.value != new.value


def _mapping(node: Node, separators: str) -> Node:
    """`[KEY=value]` as `{KEY: value}`."""
    if not isinstance(node.value, list):
        return node
    entries: dict[str, Node] = {}
    for index, item in enumerate(node.value):
        if isinstance(item.value, str):
            name = re.split(f"[{separators}]", item.value, maxsplit=1)[0]
            value = item.value[len(name) + 1 :] if name != item.value else None
            entries[name] = item._replace(value=value, text="", item=index)
    return node._replace(value=entries)


def _names(node: Node) -> Node:
    """`[name]` as `{name: }`."""
    if not isinstance(node.value, list):
        return node
    items = enumerate(node.value)
    return node._replace(
        value={item.value: item._replace(value=None, item=i) for i, item in items if isinstance(item.value, str)}
    )


def _list(node: Node) -> Node:
    return node._replace(value=[node]) if isinstance(node.value, str) else node


def _content(node: Node) -> object:
    """A node's value without its place."""
    match node.value:
        case dict() as entries:
            return tuple((name, _content(child)) for name, child in entries.items())
        case list() as items:
            return tuple(_content(item) for item in items)
    return node.value


def _port(node: Node) -> object:
    if isinstance(node.value, dict):
        parts = {name: str(child.value) for name, child in node.value.items()}
        return parts.get("host_ip", ""), parts.get("published", ""), parts.get("target"), parts.get("protocol", "tcp")
    return split_port(str(node.value))


def _volume(node: Node) -> object:
    if isinstance(node.value, dict):
        return _content(node.value["target"]) if "target" in node.value else _content(node)
    return split_volume(str(node.value))[1]


def _mounted(node: Node) -> object:
    if isinstance(node.value, dict):
        return _content(node.value.get("target") or node.value.get("source") or node)
    return node.value


ITEM_IDENTITY: dict[Path, Callable[[Node], object]] = {
    ("ports",): _port,
    ("volumes",): _volume,
    ("secrets",): _mounted,
    ("configs",): _mounted,
}
