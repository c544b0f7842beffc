"""Secrets in texts that are no environment: commands, health checks, labels.  Pure.

A shell in the container reads a secret from its file.  So a command that a shell runs, or that one can run as well,
gets its secret there; any other text is for somebody to mend.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gitops_mvd.core.secret_words import literals, secret_name
from gitops_mvd.imports.document import Pair, Spot
from gitops_mvd.imports.draft import ComposeFile, Draft, Part, Place, Secret, several
from gitops_mvd.imports.environment import Environment
from gitops_mvd.imports.folders import IN_CONTAINER, Folders
from gitops_mvd.imports.images import entry_point
from gitops_mvd.imports.secrets import (
    is_password,
    last_word,
    secret_form,
    secret_line,
    why_secret,
)
from gitops_mvd.imports.variables import evaluate, names_in, reference_spans

_SHELL = re.compile(r"(?:/\S*/)?(?:ba|da|a|z)?sh")
_ELSEWHERE = {"environment", "env_file", "label_file", "build", "image", "develop", "secrets", "volumes", "extends"}
_READ_LATER = re.compile(r"\$\$(?:\{([A-Za-z_]\w*)\}|([A-Za-z_]\w*))")
_FLAG = re.compile(r"(?i)--?(?:[a-z]+[-_])*(?:password|passwd|pass|requirepass|masterauth|secret|token|api[-_]?key)")
_SAFE_WORD = re.compile(r"[\w./:@%+=,-]+")


class _Span(NamedTuple):
    """A secret in a text; `name` is that of its file."""

    start: int
    end: int
    name: str
    origin: Place | None = None


class Texts:
    """Looks through every text of every service."""

    def __init__(self, draft: Draft, environment: Environment, folders: Folders) -> None:
        self.draft = draft
        self.environment = environment
        self.folders = folders
        self._done: set[int] = {id(variable.spot) for variable in environment.variables}
        self._moved: set[int] = set()  # commands that were dealt with
        self._seen: set[int] = {id(part.spot) for part in draft.parts()}

    def take_out(self) -> None:
        """Move the secrets of commands, and report those that nothing can move."""
        for part in self.draft.parts():
            for pair in part.spot.pairs or ():
                key, value = pair.key.value, pair.value.real
                if key == "healthcheck":
                    if (test := value.get("test")) is not None:
                        self._command(part, "healthcheck.test", Pair(pair.key, test))
                elif key in ("command", "entrypoint"):
                    self._command(part, key, pair)
                elif key not in _ELSEWHERE and key != "<<":
                    names = key != "extra_hosts"  # a host may have any name
                    self._refuse(part.file, pair, f"{part.key}.{key}", f"{part.services[0]}.{key}", names)
        for file in self.draft.files:
            for section in ("configs", "volumes", "networks"):
                for name, entry in file.section(section).items():
                    self._refuse(file, entry, f"{section}.{name}", f"{section}.{name}")
            for pair in (file.document.root.pairs if file.document.root else None) or ():
                if (key := pair.key.value).startswith("x-"):
                    self._refuse(file, pair, key, key)

    def _refuse(self, file: ComposeFile, pair: Pair, key: str, answer: str, names: bool = True) -> None:
        """Report every secret below `key`, by the names there only if `names`; --not-secret `answer` keeps them."""
        for name, spot in _scalars(pair.value, pair.key.value, self._seen):
            if id(spot) not in self._done and (why := self._why(file.variables, spot.value, name if names else "")):
                self._problem(self.draft.place(file, spot, key), why, spot.value, answer)
                if secret_name(last_word(name)):
                    self.draft.unshown.add(spot.value.removeprefix(f"{name}="), name)
            self._done.add(id(spot))

    # ---- commands ----------------------------------------------------------------------------------------------------

    def _command(self, part: Part, key: str, pair: Pair) -> None:
        """A command: a text, or a list of words."""
        value = pair.value.real
        words = [item.real for item in value.items or ()]
        texts = [spot for spot in ([value] if value.scalar else words) if spot.scalar]
        found = self._spans_of([it.value for it in texts], part)
        spans = {id(spot): some for spot, some in zip(texts, found, strict=True)}
        if id(value) in self._moved or not any(spans.values()):
            if not any(spans.values()):
                self._refuse(part.file, pair, f"{part.key}.{key}", f"{part.services[0]}.{key}", names=False)
            return
        self._moved.add(id(value))
        self._done.update(id(spot) for spot in texts)
        at = self.draft.place(part.file, value, f"{part.key}.{key}")
        names = {span.name for found in spans.values() for span in found}
        possible = self.folders.possible(part.file, part.services)
        if not possible or not self._rewrite(part, key, value, words, spans):
            why = next(
                (why for spot in texts if (why := self._why(part.file.variables, spot.value))),
                "is no place for a secret",
            )
            self._problem(
                at, why, " ".join(spot.value for spot in texts), f"{part.services[0]}.{key.partition('.')[0]}"
            )
            return
        for spot in texts:
            for span in spans[id(spot)]:
                if "$" not in (literal := spot.value[span.start : span.end]):
                    self.draft.withheld.add(literal, span.name)
                for service in part.services:
                    self._give(part, service, span, at)
        self.draft.change(
            at,
            f"{several(sorted(names))} read from {IN_CONTAINER} by a shell",
            "a command is written into Git, and everybody on the server can read it",
        )

    def _rewrite(self, part: Part, key: str, value: Spot, words: list[Spot], spans: Mapping[int, list[_Span]]) -> bool:
        """Let a shell read the secrets of a command; False if no shell can be had."""
        document = part.file.document
        first = words[0].value if words else (value.value.split() or [""])[0]
        if value.scalar and key == "healthcheck.test":
            return self._in_place(part, [value], spans, quotes=True)
        if first == "CMD-SHELL" or (len(words) > 2 and _SHELL.fullmatch(first) and words[1].value.endswith("c")):
            return self._in_place(part, [spot for spot in words if spans[id(spot)]], spans, quotes=True)
        if value.scalar and _SHELL.fullmatch(first):
            return self._in_place(part, [value], spans, quotes=False)
        try:
            split = [spot.value for spot in words[first == "CMD" :]] or shlex.split(value.value)
        except ValueError:
            return False
        command = " ".join(map(_word, split, self._spans_of(split, part)))
        if self.draft.withheld.are_in(command):
            return False
        if first == "CMD" and key == "healthcheck.test":
            document.write_words(value, ["CMD-SHELL", command])
            return True
        entry = {entry_point(self.draft.images.get(service, "")) for service in part.services}
        if key != "command" or len(entry) != 1 or not all(entry) or part.spot.lookup("entrypoint") is not None:
            return False
        document.write_words(value, ["sh", "-c", f"exec {entry.pop()} {command}"])
        return True

    def _in_place(self, part: Part, texts: list[Spot], spans: Mapping[int, list[_Span]], quotes: bool) -> bool:
        new = [self._from_shell(part, spot.value, spans[id(spot)], quotes) for spot in texts]
        if not all(new):
            return False
        for spot, text in zip(texts, new, strict=True):
            part.file.document.write(spot, text)
        return True

    def _from_shell(self, part: Part, text: str, spans: list[_Span], quotes: bool) -> str:
        """A text for a shell with its secrets read from files; "" if that is not possible."""
        new = text
        for span in reversed(spans):
            inside = _quotes_at(text, span.start)
            start, end, value = span.start, span.end, _read(span.name)
            if quotes and inside == "'":
                if text[start - 1 : start] + text[end : end + 1] != "''":
                    return ""
                start, end, inside = start - 1, end + 1, ""  # the whole of what is in quotes: in double ones it is read
            new = new[:start] + (f'"{value}"' if quotes and not inside else value) + new[end:]
        return "" if self._why(part.file.variables, new) else new

    def _give(self, part: Part, service: str, span: _Span, at: Place) -> None:
        host = self.folders.give(part.file, service, span.name)
        if not any(secret.path == host for secret in self.draft.secrets):
            why = "a command is no place for a secret"
            self.draft.secrets.append(Secret(at, span.name, (service,), why, span.origin or at, host))

    # ---- what is secret ----------------------------------------------------------------------------------------------

    def _spans_of(self, words: Sequence[str], part: Part) -> list[list[_Span]]:
        """The secrets in each word of a command; one that follows `--password` is one by that."""
        found = [self._spans(part, word) for word in words]
        for number, (flag, word) in enumerate(itertools.pairwise(words), 1):
            if not found[number] and _FLAG.fullmatch(flag) and is_password(word):
                found[number] = [_Span(0, len(word), self._of_the_service(part))]
        return found

    def _of_the_service(self, part: Part) -> str:
        return re.sub(r"\W", "_", f"{part.services[0]}_password".upper())

    def _spans(self, part: Part, text: str) -> list[_Span]:
        """The secrets in a text of a service, from left to right: variables, those read by a shell, and passwords."""
        found: list[_Span] = []
        variables, secret = part.file.variables, self.environment.secret
        for start, end, name in reference_spans(text):
            unknown = name not in variables and name not in self.draft.given and secret_name(name)
            kept = not self.draft.is_secret({name})
            if ((name in secret and name not in self.draft.given) or unknown) and not kept:
                found.append(_Span(start, end, self._file_of(part, name), self.environment.line_of(name)))
        moved = {name for service, name in self.environment.moved if service in part.services}
        read_later = ((it.span(), it[1] or it[2]) for it in _READ_LATER.finditer(text))
        found += (_Span(*span, name) for span, name in read_later if name in moved)
        if self.draft.is_secret({f"{part.services[0]}.command", f"{part.services[0]}.healthcheck"}):
            found += (_Span(start, end, name) for start, end, name in self.draft.withheld.places(text))
            for start, end in literals(text):
                found.append(_Span(start, end, self._of_the_service(part)))
        apart: list[_Span] = []
        for span in sorted(found, key=lambda it: (it.start, -it.end)):
            if not apart or span.start >= apart[-1].end:
                apart.append(span)
        return apart

    def _file_of(self, part: Part, name: str) -> str:
        """The file of a service that has the value of a variable of Compose already, or else is to have it."""
        files = {self.environment.moved_as.get((service, name), name) for service in part.services}
        return files.pop() if len(files) == 1 else name

    def _why(self, variables: Mapping[str, str], text: str, name: str = "") -> str:
        """Why a text, the value of `name`, has a secret in it; "" if it has none."""
        names = names_in(text) - self.draft.request.not_secret
        if secret := sorted(names & self.environment.secret.keys() - self.draft.given):
            return f"has the value of {several(secret)} in it, which is secret"
        shown = {name: "$" for name in self.draft.request.not_secret if name in variables}
        value = evaluate(text, {**variables, **shown})
        if unknown := sorted(name for name in value.missing - self.draft.given if secret_name(name)):
            return f"takes {several(unknown)}, which is secret by its name"
        own = value.text.removeprefix(f"{name}=")
        why = secret_line(own) if name == "content" else secret_form(value.text)
        why = why or (why_secret(last_word(name), own) if secret_name(last_word(name)) else "")
        if why:
            return f"is no place for a secret: {why}"
        return "has a secret in it that was taken out elsewhere" if self.draft.withheld.are_in(text) else ""

    def _problem(self, at: Place, why: str, text: str, name: str) -> None:
        names = names_in(text)
        ids = sorted(it for it in names if it in self.environment.secret or secret_name(it)) or [name]
        if self.draft.is_secret({name}):
            self.draft.refuse_secret(at, why, ids)


def _scalars(spot: Spot, name: str, seen: set[int]) -> Iterator[tuple[str, Spot]]:
    """Every scalar in the value of `name`, with the name of its own: its key, or what is before the `=` of an item.

    What an alias stands for is in it, but no collection of `seen`, to which all of these are added.
    """
    spot = spot.real
    if spot.scalar:
        yield name, spot
    elif id(spot) not in seen:
        seen.add(id(spot))
        for item in spot.items or ():
            before, equals, _ = item.real.value.partition("=")
            yield from _scalars(item, before if equals else name, seen)
        for pair in spot.pairs or ():
            yield "", pair.key
            yield from _scalars(pair.value, pair.key.value, seen)


def _word(word: str, spans: Sequence[_Span]) -> str:
    """A word of a command for a shell, its secrets read from files."""
    if not spans:
        return word if _SAFE_WORD.fullmatch(word) else shlex.quote(word)
    parts, at = [], 0
    for span in spans:
        parts += [_escaped(word[at : span.start]), _read(span.name)]
        at = span.end
    return '"' + "".join(parts) + _escaped(word[at:]) + '"'


def _read(name: str) -> str:
    return f"$$(cat {IN_CONTAINER}/{name})"


def _escaped(text: str) -> str:
    """A text as it is written inside of a shell's double quotes."""
    return re.sub(r'(["\\`]|\$\$)', r"\\\1", text)


def _quotes_at(text: str, at: int) -> str:
    """The quotes that a place in a shell's text is inside of; "" for none."""
    inside = ""
    escaped = False
    for character in text[:at]:
        if escaped:
            escaped = False
        elif character == "\\" and inside != "'":
            escaped = True
        elif character == inside:
            inside = ""
        elif character in "'\"" and not inside:
            inside = character
    return inside
