"""A text with edits, and a YAML text with the place of every value in it.  Pure.

Nothing is ever written from a tree: what no edit touches stays as it was to the last space, with comments, anchors,
quotes and line ends.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from gitops_mvd.config.yamltree import resolve

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PROPERTIES = re.compile(r"(?:[&!]\S*[ \t]+)*")  # an anchor, a tag
_PLAIN = re.compile(r"(?!.*(?::(?:\s|$)|\s#))[A-Za-z0-9_./~$][^\n\r\t{}\[\],?\"'`]*(?<!\s)", re.ASCII)


class Edit(NamedTuple):
    """`text` in place of the characters from `start` to before `end`."""

    start: int
    end: int
    text: str


class _Piece(NamedTuple):
    """A part of the edited text: its start there and in the source; `kept` if it is the same."""

    start: int
    text: str
    source: int
    kept: bool


class Text:
    """A text and its edits."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._edits: dict[Edit, None] = {}
        self._breaks = _breaks(text)
        self._made: tuple[list[_Piece], list[int]] | None = None

    @property
    def edits(self) -> list[Edit]:
        return list(self._edits)

    @property
    def line_end(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def replace(self, start: int, end: int, text: str) -> None:
        """Put `text` in the place of what is there; the same edit twice is once."""
        self._edits[Edit(start, end, text)] = None
        self._made = None

    def insert(self, at: int, text: str) -> None:
        self.replace(at, at, text)

    def edited(self) -> str:
        """The text with its edits; an edit of something that another one takes away is left out."""
        return "".join(piece.text for piece in self._pieces()[0])

    def line_of(self, at: int) -> int:
        """The line, counted from 1, of a character."""
        return bisect.bisect_left(self._breaks, at) + 1

    def source_line(self, line: int) -> int:
        """The line that a line of the edited text is from."""
        pieces, breaks = self._pieces()
        start = breaks[min(line - 2, len(breaks) - 1)] + 1 if line > 1 and breaks else 0
        index = max(bisect.bisect_right(pieces, start, key=lambda piece: piece.start) - 1, 0)
        while index < len(pieces) - 1 and start >= pieces[index].start + len(pieces[index].text):
            index += 1
        for piece in pieces[index:]:  # to the first character of the line that is no space
            rest = piece.text[max(start - piece.start, 0) :]
            if rest.strip(" \t"):
                offset = len(piece.text) - len(rest) + len(rest) - len(rest.lstrip(" \t"))
                return self.line_of(piece.source + (offset if piece.kept else 0))
        return self.line_of(len(self.text))

    def line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1

    def line_stop(self, at: int) -> int:
        """The end of the line that `at` is in, its line end included."""
        found = self.text.find("\n", at)
        return found + 1 if found >= 0 else len(self.text)

    def all_edits(self) -> list[Edit]:
        return self.edits

    def _pieces(self) -> tuple[list[_Piece], list[int]]:
        """The edited text in pieces, and where its lines end."""
        if self._made is None:
            pieces: list[_Piece] = []
            at = made = 0
            for edit in [*sorted(self.all_edits(), key=lambda it: (it.start, it.start != it.end, -it.end)), None]:
                stop = edit.start if edit else len(self.text)
                if stop < at:
                    continue
                for piece in (
                    _Piece(made, self.text[at:stop], at, True),
                    edit and _Piece(made + stop - at, edit.text, stop, False),
                ):
                    if piece and piece.text:
                        pieces.append(piece)
                        made = piece.start + len(piece.text)
                at = edit.end if edit else at
            self._made = pieces, _breaks("".join(piece.text for piece in pieces))
        return self._made


def _breaks(text: str) -> list[int]:
    return [found.start() for found in re.finditer("\n", text)]


@dataclass(eq=False, slots=True)
class Spot:
    """A value of a YAML text: the characters from `start` to before `end`, its anchor and tag not among them.

    `value` is a scalar's text as YAML reads it, `style` its quotes, "" for none.  `flow`: is it written as `{}` or
    `[]`, `in_flow`: does it stand in one?  An alias has what it stands for in `target`, and nothing else.
    """

    start: int
    end: int
    line: int
    column: int
    value: str = ""
    style: str = ""
    scalar: bool = False
    flow: bool = False
    in_flow: bool = False
    anchor: str = ""
    items: list[Spot] | None = None
    pairs: list[Pair] | None = None
    target: Spot | None = None

    @property
    def real(self) -> Spot:
        """The value itself, behind any alias."""
        return self.target.real if self.target else self

    @property
    def empty(self) -> bool:
        """Is it no value, as behind `KEY:`?"""
        return self.real.scalar and not self.real.style and resolve(self.real.value) is None

    def pair(self, name: str) -> Pair | None:
        return next((pair for pair in self.real.pairs or () if pair.key.value == name), None)

    def get(self, name: str) -> Spot | None:
        """The value of a mapping's own key, not of one that is merged in."""
        pair = self.pair(name)
        return pair.value if pair else None

    def merged(self) -> list[Spot]:
        """The mapping itself, and those that `<<` merges into it."""
        found = [self.real]
        for spot in found:
            for pair in spot.pairs or ():
                if pair.key.value == "<<":
                    others = pair.value.real.items if pair.value.real.items is not None else [pair.value]
                    found += [other.real for other in others if other.real not in found]
        return found

    def lookup(self, name: str) -> Spot | None:
        """The value of a key of the mapping, or of one that is merged into it."""
        return next((value for spot in self.merged() if (value := spot.get(name)) is not None), None)

    def below(self) -> Iterator[Spot]:
        """Itself, and every key and value in it; what an alias stands for is somewhere else."""
        yield self
        for item in self.items or ():
            yield from item.below()
        for pair in self.pairs or ():
            yield from pair.key.below()
            yield from pair.value.below()


class Pair(NamedTuple):
    key: Spot
    value: Spot


class Document(Text):
    """A YAML file with its values; `root` is None if it has none.  Raises yaml.YAMLError for what is no YAML."""

    root: Spot | None

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.root = _Builder(text).root()
        self._gone: dict[int, tuple[Spot, set[int]]] = {}

    def written(self, spot: Spot) -> str:
        return self.text[spot.start : spot.end]

    def write(self, spot: Spot, value: str) -> None:
        """Give a scalar or an alias another text."""
        if spot.start == spot.end:  # nothing, behind `KEY:`
            self.insert(spot.end, f" {quoted(value)}")
        else:
            self.replace(spot.start, spot.end, quoted(value, spot.style))

    def rewrite(self, spot: Spot, parts: Sequence[tuple[int, int, str]]) -> None:
        """Give parts of a scalar's text another text: each from where to where in its value, and what is there now.

        The rest stays as it is written, if that is the same as the value, and YAML allows it.
        """
        written, value = self.written(spot), spot.value
        fragile = spot.in_flow and not spot.style and any(set(text) & set("{}[],") for _, _, text in parts)
        if value in written and not fragile:
            offset = spot.start + written.index(value)
            for start, end, text in parts:
                self.replace(offset + start, offset + end, text)
            return
        for start, end, text in sorted(parts, reverse=True):
            value = value[:start] + text + value[end:]
        self.write(spot, value)

    def write_words(self, spot: Spot, words: Sequence[str]) -> None:
        """Put a list in the place of a scalar or a list; its last word is in quotes."""
        *first, last = words
        text = f"[{', '.join([*map(quoted, first), double_quoted(last)])}]"
        block = spot.items is not None and not spot.flow  # it may begin right below its key, where no `[` may stand
        self.replace(spot.start, spot.end, f"  {text}" if block else text)

    def clear(self, spot: Spot) -> None:
        """Take away what stands behind a key."""
        start = spot.start
        while start and self.text[start - 1] in " \t":
            start -= 1
        self.replace(start, spot.end, "")

    def is_shared(self, spot: Spot) -> bool:
        """Does an alias stand for the value, or for one in it, from outside of it?"""
        inside = list(spot.below())
        anchored = {it for it in inside if it.anchor}
        everything = self.root.below() if anchored and self.root else ()
        return any(it.target in anchored for it in everything if it.target and it not in inside)

    def remove_pair(self, mapping: Spot, pair: Pair) -> None:
        """Take a key with its value out of a mapping that has others."""
        pairs = mapping.real.pairs or []
        self._gone.setdefault(id(mapping.real), (mapping.real, set()))[1].add(pairs.index(pair))
        self._made = None

    def remove_item(self, sequence: Spot, item: Spot) -> None:
        """Take an item out of a list that has others."""
        items = sequence.real.items or []
        self._gone.setdefault(id(sequence.real), (sequence.real, set()))[1].add(items.index(item))
        self._made = None

    def all_edits(self) -> list[Edit]:
        """The edits, with those that take keys and items out."""
        cuts = [cut for container, gone in self._gone.values() for cut in self._cuts(container, gone)]
        return [*self.edits, *cuts]

    def _cuts(self, container: Spot, gone: set[int]) -> Iterator[Edit]:
        spans = [(pair.key.start, max(pair.key.end, pair.value.end)) for pair in container.pairs or ()]
        spans += [(item.start, item.end) for item in container.items or ()]
        if container.items and not container.flow:
            spans = [(self.text.rindex("-", 0, start), end) for start, end in spans]
        kept = [index for index in range(len(spans)) if index not in gone]
        for index in sorted(gone):
            start, end = spans[index]
            before, behind = [it for it in kept if it < index], [it for it in kept if it > index]
            if not container.flow and not self.text[self.line_start(start) : start].strip():
                yield Edit(self.line_start(start), self.line_stop(end), "")
            elif behind:
                yield Edit(start, spans[behind[0]][0], "")
            else:
                yield Edit(spans[before[-1]][1] if before else start, end, "")

    def replace_pair(self, pair: Pair, key: str, value: str) -> None:
        """Another key with a scalar in the place of a key and its value."""
        self.replace(pair.key.start, max(pair.key.end, pair.value.end), f"{key}: {quoted(value)}")

    def add_pair(self, mapping: Spot, after: Pair, key: str, value: str | Sequence[str]) -> None:
        """A further key behind another one: a scalar, or a list of scalars."""
        if mapping.real.flow:
            text = quoted(value) if isinstance(value, str) else f"[{', '.join(quoted(item) for item in value)}]"
            self.insert(max(after.value.end, after.key.end), f", {key}: {text}")
            return
        indent = " " * after.key.column
        lines = (
            [f"{key}: {quoted(value)}"]
            if isinstance(value, str)
            else [f"{key}:", *(f"  - {it}" for it in map(quoted, value))]
        )
        self._lines(max(after.value.end, after.key.end), [indent + line for line in lines])

    def add_item(self, sequence: Spot, value: str) -> None:
        """A further item at the end of a list that has some."""
        items = sequence.real.items or []
        if sequence.real.flow:
            self.insert(items[-1].end, f", {quoted(value)}")
        else:
            start = self.text.rindex("-", 0, items[-1].start)
            self._lines(items[-1].end, [f"{self.text[self.line_start(start) : start]}- {quoted(value)}"])

    def _lines(self, behind: int, lines: Sequence[str]) -> None:
        """Further lines behind the one that ends a value."""
        at = self.line_stop(behind)
        text = "".join(line + self.line_end for line in lines)
        self.insert(at, text if at and self.text[at - 1] == "\n" else self.line_end + text.removesuffix(self.line_end))

    def comments(self) -> Iterator[tuple[int, int]]:
        """Where each comment begins, behind its `#`, and where it ends."""
        scalars = sorted((it.start, it.end) for it in (self.root.below() if self.root else ()) if it.scalar)
        at = number = 0
        while (found := self.text.find("#", at)) >= 0:
            while number < len(scalars) and scalars[number][1] <= found:
                number += 1
            if number < len(scalars) and scalars[number][0] <= found:
                at = scalars[number][1]
            elif found and self.text[found - 1] not in " \t\n":
                at = found + 1
            else:
                at = len(self.text[: self.line_stop(found)].rstrip("\r\n"))
                at = max(at, found + 1)
                yield found + 1, at


def quoted(value: str, style: str = "") -> str:
    """A scalar as it is written in YAML, in quotes of that style if it needs any or had some."""
    if style not in ("'", '"') and _PLAIN.fullmatch(value) and isinstance(resolve(value), str) and value.isascii():
        return value
    return double_quoted(value) if style != "'" or not value.isprintable() else "'" + value.replace("'", "''") + "'"


def double_quoted(value: str) -> str:
    """A scalar in double quotes."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\x7f")


class _Builder:
    """Makes spots of the parser's events."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self.anchors: dict[str, Spot] = {}
        self.flows = 0  # that the value in hand stands in

    def root(self) -> Spot | None:
        next(self.events)
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        found = self.spot(next(self.events))
        for _ in self.events:  # a mistake further down is one, too
            pass
        return found

    def spot(self, event: yaml.Event) -> Spot:
        start, end = event.start_mark, event.end_mark
        assert start is not None
        assert end is not None
        spot = Spot(start.index, end.index, start.line + 1, start.column, in_flow=self.flows > 0)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise yaml.YAMLError(f"unknown alias {event.anchor}")
            spot.target = self.anchors[event.anchor]
            return spot
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.anchor or event.tag:
            found = _PROPERTIES.match(self.text, spot.start)
            spot.start = min(found.end() if found else spot.start, max(spot.end, spot.start))
        spot.anchor = event.anchor or ""
        if isinstance(event, yaml.ScalarEvent):
            spot.scalar, spot.value, spot.style = True, event.value, event.style or ""
            if spot.style in ("|", ">"):
                spot.end = spot.start + len(self.text[spot.start : spot.end].rstrip(" \r\n"))
            if event.tag == "tag:yaml.org,2002:str" and not spot.style:
                spot.style = "!"
        else:
            spot.flow = bool(event.flow_style)
            self.flows += spot.flow
            self.fill(spot, isinstance(event, yaml.SequenceStartEvent))
            self.flows -= spot.flow
        if spot.anchor:
            self.anchors[spot.anchor] = spot
        return spot

    def fill(self, spot: Spot, sequence: bool) -> None:
        children: list[Spot] = []
        while not isinstance(event := next(self.events), yaml.CollectionEndEvent):
            children.append(self.spot(event))
        if sequence:
            spot.items = children
        else:
            spot.pairs = [Pair(*pair) for pair in zip(children[::2], children[1::2], strict=True)]
        mark = event.end_mark
        assert mark is not None
        spot.end = mark.index if spot.flow else max([spot.start, *(child.end for child in children)])
