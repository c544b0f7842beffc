"""YAML as a person would write it.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from gitops_mvd.config.yamltree import resolve
from gitops_mvd.core.model import JsonValue


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Short lists in one line, long texts as blocks, and quotes around what would be read as something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else '"' if not isinstance(resolve(text), str) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _represent_list(dumper: yaml.SafeDumper, items: Sequence[JsonValue]) -> yaml.Node:
    plain = all(isinstance(item, str | int | float) and len(str(item)) < 40 and "\n" not in str(item) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_list)


def as_yaml(value: JsonValue) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def comments(notes: Sequence[str]) -> str:
    return "".join(f"# {line}\n" for line in notes)


def document_text(document: Mapping[str, Sequence[JsonValue]], notes: Sequence[str] = ()) -> str:
    """A file of Kong's declarative format, the notes at its head."""
    parts = [as_yaml({type: items}) for type, items in document.items() if items]
    return "\n".join([f'{comments(notes)}_format_version: "3.0"\n', *parts])
