"""`$VAR`, `${VAR:-default}` and their kin, as Compose has them, but strict.  Pure.

Stricter than Compose in one point: a variable that is not set and has no default is an error, where Compose puts an
empty string and prints a warning that nobody would read here.  `unset: empty` in fleet.yaml has it Compose's way, and a
note in place of the warning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar, overload

from gitops_mvd.config.yamltree import Node, Path, Sink, report, resolve
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import Problem

T = TypeVar("T")

MAX_LENGTH = 1 << 20  # characters of one text with its variables
MAX_PUT_IN = 1 << 24  # characters of variables that are put into all texts of one app
MAX_LINES = 100_000  # variables of env files, counted for each service that has them
MAX_NESTING = 16
PROJECT_NAME = "COMPOSE_PROJECT_NAME"
FOLDER = "PWD"

_PLAIN = re.compile(r"[^$]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_BRACE = re.compile(r"[{}]")
_COMPOSE_BRACE = re.compile(r"\{.?|\}", re.DOTALL)
_BRACE_OR_BREAK = re.compile(r"[}\n]")
_FOLDER_USED = re.compile(rf"(?<!\$)(?:\$\$)*\$\{{?{FOLDER}(?![A-Za-z0-9_])")
_OURS = ("x-kong", "x-mvd")
_PATHS = frozenset({"volumes", "env_file", "label_file", "file", "include", "build", "develop"})
_ADVICE = (
    "the variable {0} is not set: give it a value in fleet.yaml or .env, or write ${{{0}:-...}} for a default, "
    "or $${0} if the text is meant for a shell in the container"
)


class Unresolved(ValueError):
    """A text that cannot be interpolated, and why; the message never has the value of a variable."""


class Unset(Unresolved):
    """A text that needs a variable that is not set."""


class TooMuch(Unresolved):
    """A text with which the variables that are put into all texts of an app are too long together."""


@dataclass
class Tally:
    """What is counted over all of one app: characters put in, lines of env files, empty variables that were noted.

    `looked_up` is called with the name of each variable that is asked for, whether it is set or not.
    """

    looked_up: Callable[[str], object] = lambda name: None
    put_in: int = 0
    lines: int = 0
    noted: set[str] = field(default_factory=set)


class Variables(dict[str, str]):
    """The variables of an app on one host, by name; they are looked up one by one, and not listed.

    `unset_is_empty`: one that is not set is an empty string, as with Compose.  `advice` is the message about one that
    is not set, with `{0}` for its name.  All variables of one app have one `tally`.
    """

    def __init__(
        self,
        values: Mapping[str, str],
        unset_is_empty: bool = False,
        advice: str = _ADVICE,
        tally: Tally | None = None,
    ) -> None:
        super().__init__(values)
        self.unset_is_empty = unset_is_empty
        self.advice = advice
        self.tally = tally or Tally()

    def __getitem__(self, name: str) -> str:
        self.tally.looked_up(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.tally.looked_up(str(name))
        return super().__contains__(name)

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: str, /) -> str: ...
    @overload
    def get(self, name: str, default: T, /) -> str | T: ...
    def get(self, name: str, default: object = None, /) -> object:
        self.tally.looked_up(name)
        return super().get(name, default)

    def over(self, others: Mapping[str, str]) -> Variables:
        """These, and those of `others` that are not among them."""
        return Variables({**others, **self}, self.unset_is_empty, self.advice, self.tally)

    def put_in(self, name: str) -> str:
        """The value of one that is set, for a text.  Raises TooMuch."""
        value = self[name]
        self.tally.put_in += len(value)
        if self.tally.put_in > MAX_PUT_IN:
            raise TooMuch(f"with this the app has more than {MAX_PUT_IN >> 20} MiB of variables filled in")
        return value

    def take_line(self) -> None:
        """Count one variable of an env file.  Raises TooMuch."""
        self.tally.lines += 1
        if self.tally.lines > MAX_LINES:
            raise TooMuch(f"with this the app has more than {MAX_LINES:,} variables in env files")


def substitute(text: str, variables: Variables, left_empty: list[str] | None = None, nesting: int = 0) -> str:
    """`text` with its variables put in; `left_empty` takes the names of those that are not set.  Raises Unresolved."""
    if nesting > MAX_NESTING:
        raise Unresolved(f"has variables nested more than {MAX_NESTING} deep")
    left_empty = [] if left_empty is None else left_empty
    parts: list[str] = []
    length = at = 0
    while at < len(text):
        if plain := _PLAIN.match(text, at):
            part, at = plain[0], plain.end()
        elif text.startswith("$$", at):
            part, at = "$", at + 2
        elif text.startswith("${", at):
            end = _closing(text, at + 2)
            part, at = _expand(text[at + 2 : end], variables, left_empty, nesting), end + 1
        elif name := _NAME.match(text, at + 1):
            part, at = _value(name[0], variables, left_empty), name.end()
        else:
            part, at = "$", at + 1
        length += len(part)
        if length > MAX_LENGTH:
            raise Unresolved(f"is longer than {MAX_LENGTH >> 20} MiB with its variables filled in")
        parts.append(part)
    return "".join(parts)


def _closing(text: str, start: int) -> int:
    """Where the brace ends that was opened before `start`.

    Compose counts braces too, but not one right behind another, within the line, and takes the last one of that if they
    do not add up: a text that it would end elsewhere is refused.
    """
    end = _balanced(_BRACE, text, start, len(text))
    if end < 0:
        raise Unresolved("has a `${` without its `}`")
    if text.find("\n", start, end) >= 0:
        raise Unresolved("has a line break in a `${...}`, which Compose cannot read: put the text into .env")
    counted = _balanced(_COMPOSE_BRACE, text, start + 1, end + 1) if end > start else end
    if counted < 0 and ((later := _BRACE_OR_BREAK.search(text, end + 1)) is None or later[0] == "\n"):
        counted = end
    if counted != end and not _NAME.fullmatch(text, start, end):
        raise Unresolved("has a default with braces, which Compose ends elsewhere: put the text into .env")
    return end


def _balanced(brace: re.Pattern[str], text: str, start: int, stop: int) -> int:
    """Where the brace ends that is open at `start`; -1 if it does not before `stop`."""
    depth = 1
    for found in brace.finditer(text, start, stop):
        depth += 1 if found[0][0] == "{" else -1
        if not depth:
            return found.start()
    return -1


def _value(name: str, variables: Variables, left_empty: list[str]) -> str:
    if name in variables:
        return variables.put_in(name)
    if variables.unset_is_empty:
        left_empty.append(name)
        return ""
    raise Unset(variables.advice.format(name))


def _expand(inside: str, variables: Variables, left_empty: list[str], nesting: int) -> str:
    name = _NAME.match(inside)
    if not name:
        raise Unresolved("has a `${` without the name of a variable: write `$$` for a dollar sign")
    rest = inside[name.end() :]
    if not rest:
        return _value(name[0], variables, left_empty)
    operator = _OPERATOR.match(rest)
    if not operator:
        raise Unresolved(f"has an unknown form: after ${{{name[0]} Compose allows :-, -, :?, ?, :+, + or }}")
    word = rest[operator.end() :]
    value = variables.get(name[0])
    there = bool(value) if operator[0][0] == ":" else value is not None
    match operator[0][-1]:
        case "-":
            return variables.put_in(name[0]) if there else substitute(word, variables, left_empty, nesting + 1)
        case "+":
            return substitute(word, variables, left_empty, nesting + 1) if there else ""
        case _:
            if there:
                return variables.put_in(name[0])
            raise Unset(f"the variable {name[0]} is required: {word or 'give it a value in fleet.yaml or .env'}")


def note_empty(names: Iterable[str], variables: Variables, path: Path, file: str, line: int, sink: Sink) -> None:
    """A note about each variable that was left empty, once in an app."""
    for name in names:
        if name not in variables.tally.noted:
            variables.tally.noted.add(name)
            message = f"the variable {name} is not set, and so empty here (`unset: empty` in fleet.yaml)"
            report(sink, path, file, line, message, note=True)


def refuse_app(error: TooMuch, file: str, line: int) -> NoReturn:
    """Raise ManifestError: nothing more of the app is read, so that this is said once."""
    raise ManifestError([Problem(file, line, "", str(error))]) from None


def interpolate(node: Node, variables: Variables, path: Path, sink: Sink) -> Node:
    """The tree with its variables put into every value (keys stay as they are), what failed marked as broken.

    Raises ManifestError if the variables that are put into all texts of the app are too long together.

    Extensions of others (`x-...`) and what is `!reset` are left alone.  An unquoted scalar of `x-kong`, whose schema
    is Kong's, takes the type that it then reads as; Compose's own keys know their types.
    """
    value = node.value
    if isinstance(value, str):
        if "$" not in value:
            return node
        left_empty: list[str] = []
        try:
            text = substitute(value, variables, left_empty)
        except TooMuch as error:
            refuse_app(error, node.file, node.line)
        except Unresolved as error:
            report(sink, path, node.file, node.line, str(error), isinstance(error, Unset))
            return node._replace(value=None, tag="!broken")
        note_empty(left_empty, variables, path, node.file, node.line, sink)
        if FOLDER in value and _FOLDER_USED.search(value) and _PATHS.isdisjoint(path):
            message = f"{FOLDER} is `.` here, the folder of this file, which is at no path of the host"
            report(sink, path, node.file, node.line, message, note=True)
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
