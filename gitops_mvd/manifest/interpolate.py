"""`$VAR`, `${VAR:-default}` and their kin, as Compose has them, but strict.  Pure.

Stricter than Compose in one point: a variable that is not set and has no default is an error, where Compose puts an
empty string and prints a warning that nobody would read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gitops_mvd.config.yamltree import Node, Path, Sink, report, resolve

MAX_LENGTH = 1 << 20
MAX_NESTING = 16

_PLAIN = re.compile(r"[^$]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_BRACE = re.compile(r"\$\$|\$\{|\}")
_OURS = ("x-kong", "x-mvd")


class Unresolved(ValueError):
    """A text that cannot be interpolated, and why; the message never has the value of a variable."""


class Unset(Unresolved):
    """A text that needs a variable that is not set."""


def substitute(text: str, variables: Mapping[str, str], nesting: int = 0) -> str:
    """`text` with its variables put in.  Raises Unresolved."""
    if nesting > MAX_NESTING:
        raise Unresolved(f"has variables nested more than {MAX_NESTING} deep")
    parts: list[str] = []
    length = at = 0
    while at < len(text):
        if plain := _PLAIN.match(text, at):
            part, at = plain[0], plain.end()
        elif text.startswith("$$", at):
            part, at = "$", at + 2
        elif text.startswith("${", at):
            end = _closing(text, at + 2)
            part, at = _expand(text[at + 2 : end], variables, nesting), end + 1
        elif name := _NAME.match(text, at + 1):
            part, at = _value(name[0], variables), name.end()
        else:
            raise Unresolved("has a single `$`: write `$$` for a dollar sign")
        length += len(part)
        if length > MAX_LENGTH:
            raise Unresolved(f"is longer than {MAX_LENGTH >> 20} MiB with its variables filled in")
        parts.append(part)
    return "".join(parts)


def _closing(text: str, start: int) -> int:
    """Where the brace ends that was opened before `start`."""
    depth = 1
    for found in _BRACE.finditer(text, start):
        depth += {"${": 1, "}": -1}.get(found[0], 0)
        if not depth:
            return found.start()
    raise Unresolved("has a `${` without its `}`")


def _value(name: str, variables: Mapping[str, str]) -> str:
    if name not in variables:
        raise Unset(
            f"the variable {name} is not set: give it a value in fleet.yaml or .env, or a default, ${{{name}:-...}}"
        )
    return variables[name]


def _expand(inside: str, variables: Mapping[str, str], nesting: int) -> str:
    name = _NAME.match(inside)
    if not name:
        raise Unresolved("has a `${` without the name of a variable: write `$$` for a dollar sign")
    rest = inside[name.end() :]
    if not rest:
        return _value(name[0], variables)
    operator = _OPERATOR.match(rest)
    if not operator:
        raise Unresolved(f"has an unknown form: after ${{{name[0]} Compose allows :-, -, :?, ?, :+, + or }}")
    word = rest[operator.end() :]
    value = variables.get(name[0])
    there = bool(value) if operator[0][0] == ":" else value is not None
    match operator[0][-1]:
        case "-":
            return value or "" if there else substitute(word, variables, nesting + 1)
        case "+":
            return substitute(word, variables, nesting + 1) if there else ""
        case _:
            if there:
                return value or ""
            raise Unset(f"the variable {name[0]} is required: {word or 'give it a value in fleet.yaml or .env'}")


def interpolate(node: Node, variables: Mapping[str, str], path: Path, sink: Sink) -> Node:
    """The tree with its variables put into every value (keys stay as they are), what failed marked as broken.

    Extensions of others (`x-...`) and what is `!reset` are left alone.  An unquoted scalar of `x-kong`, whose schema
    is Kong's, takes the type that it then reads as; Compose's own keys know their types.
    """
    value = node.value
    if isinstance(value, str):
        if "$" not in value:
            return node
        try:
            text = substitute(value, variables)
        except Unresolved as error:
            report(sink, path, node.file, node.line, str(error), isinstance(error, Unset))
            return node._replace(value=None, tag="!broken")
        return node._replace(value=resolve(text) if node.text and "x-kong" in path else text, text="")
    if isinstance(value, dict):
        return node._replace(
            value={
                name: child
                if (name.startswith("x-") and name not in _OURS) or child.tag == "!reset"
                else interpolate(child, variables, (*path, name), sink)
                for name, child in value.items()
            }
        )
    if isinstance(value, list):
        items = [interpolate(child, variables, (*path, index), sink) for index, child in enumerate(value)]
        return node._replace(value=items)
    return node
