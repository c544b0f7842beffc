"""The last steps: variables without a value, secrets in comments, a search for all that was taken out.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from gitops_mvd.core.secret_words import secret_name
from gitops_mvd.imports.document import Document, Spot, Text
from gitops_mvd.imports.draft import ComposeFile, Draft, Place, Question
from gitops_mvd.imports.secrets import secret_form
from gitops_mvd.imports.variables import EnvFile, evaluate, names_in, references
from gitops_mvd.manifest.interpolate import FOLDER, PROJECT_NAME

_ASSIGNMENT = re.compile(r"^[ \t-]*[\"']?([A-Za-z_][A-Za-z0-9_.]*)[\"']?[ \t]*[=:][ \t]*(?=\S)")
_OURS = ("x-kong", "x-mvd")


@dataclass
class Result:
    """A file of the app's folder: its text in two rounds of edits, and the file of the project that it was."""

    target: str
    first: Text
    second: Text
    file: str

    def source_line(self, line: int) -> int:
        return self.first.source_line(self.second.source_line(line))


class Finish:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.results: list[Result] = []
        self.missing: dict[str, list[Place]] = {}

    def run(self) -> list[Result]:
        known = self.draft.given | self.draft.request.values.keys() | {PROJECT_NAME, FOLDER}
        for file in self.draft.files:
            self._compose(file, known)
        for env in self.draft.env_files.values():
            self._env(env, known)
        for name, places in sorted(self.missing.items()):
            self.draft.questions.append(Question("variable", name, tuple(places), self._hint(name, places)))
        return self.results

    def _compose(self, file: ComposeFile, known: frozenset[str] | set[str]) -> None:
        text = file.document.edited()
        try:
            document = Document(text)
        except yaml.YAMLError as error:  # a mistake of the edits: nothing may be written
            at = Place(self.draft.shown(file.path), 1)
            self.draft.problem(at, f"cannot be changed without making invalid YAML of it: {error}")
            return
        result = Result(file.target, file.document, document, self.draft.shown(file.path))
        self.results.append(result)
        for spot, key in self._filled(document.root, "", set()):
            if "$" in spot.value:
                missing = evaluate(spot.value, file.variables).missing - known
                at = Place(result.file, result.first.source_line(document.line_of(spot.start)), key)
                empty = self._missing(spot.value, missing, at)
                if empty:
                    document.rewrite(spot, empty)
        self._comments(document, result)

    def _filled(self, spot: Spot | None, key: str, seen: set[int]) -> Iterator[tuple[Spot, str]]:
        """Every scalar that variables are filled in in, with its key."""
        if spot is None or id(spot.real) in seen:
            return
        spot = spot.real
        seen.add(id(spot))
        if spot.scalar:
            yield spot, key
        for number, item in enumerate(spot.items or ()):
            yield from self._filled(item, f"{key}[{number}]", seen)
        for pair in spot.pairs or ():
            name = pair.key.value
            if (name.startswith("x-") and name not in _OURS) or (name == "build" and key.count(".") == 1):
                continue
            yield from self._filled(pair.value, f"{key}.{name}".lstrip("."), seen)

    def _missing(self, value: str, names: frozenset[str], at: Place) -> list[tuple[int, int, str]]:
        """Note what is missing in a value; returns its parts that are to be empty, and how that is written."""
        empty: list[tuple[int, int, str]] = []
        for name in sorted(names):
            places = list(references(value, name))
            if self.draft.request.unset_empty and places:
                empty += [(begin, end, f"${{{name}:-}}") for begin, end in places]
                why = f"{name} has no value: `docker compose` puts an empty text there"
                self.draft.change(at, f"${{{name}:-}}", why)
            else:
                self.missing.setdefault(name, []).append(at)
        return empty

    def _hint(self, name: str, places: list[Place]) -> str:
        if any(place.key.endswith(("command", "entrypoint", "test")) or "command[" in place.key for place in places):
            return f"write $${name} in the file if a shell in the container is to read it"
        return ""

    def _env(self, env: EnvFile, known: frozenset[str] | set[str]) -> None:
        shown = self.draft.shown(env.path)
        if not env.container and not env.needed:
            used = self._used() | {"COMPOSE_PROFILES"}
            unused = [line for line in env.lines if line.value is not None and line.name not in used]
            names = [line.name for line in unused if not any(it.start <= line.begin < it.end for it in env.edits)]
            for line in unused:
                env.replace(env.line_start(line.begin), env.line_stop(line.end), "")
            if names:
                self.draft.change(
                    Place(shown, unused[0].line), f"{', '.join(names)} removed", "no Compose file uses it"
                )
        second = Text(env.edited())
        result = Result(env.target, env, second, shown)
        values: dict[str, str] = {}
        for line in env.lines:
            if line.value is not None and "$" in line.written and not env.raw and not line.written.startswith("'"):
                missing = evaluate(line.written, {**values, **self._variables(env)}).missing - known
                at = Place(shown, line.line, line.name)
                if missing and not any(it.start <= line.start < it.end for it in env.edits):
                    offset = second.text.find(line.written)
                    for start, end, text in self._missing(line.written, missing, at):
                        second.replace(offset + start, offset + end, text)
            if line.value is not None:
                values[line.name] = line.value
        if (
            any(text.strip() and not text.lstrip().startswith("#") for text in second.edited().splitlines())
            or env.needed
        ):
            self.results.append(result)

    def _variables(self, env: EnvFile) -> dict[str, str]:
        return dict(self.draft.files[0].variables) if env.container else {}

    def _used(self) -> set[str]:
        found: set[str] = set()
        for file in self.draft.files:
            found |= {
                name for spot in (file.document.root.below() if file.document.root else ()) for name in _names(spot)
            }
        for env in self.draft.env_files.values():
            found |= {name for line in env.lines for name in names_in(line.written)}
        return found

    def _comments(self, document: Document, result: Result) -> None:
        """Strike secrets out of comments."""
        comments = [(start, end, document.text[start:end]) for start, end in document.comments()]
        for start, end, comment in comments:
            found = _ASSIGNMENT.match(comment)
            at = Place(result.file, result.first.source_line(document.line_of(start)))
            if found and secret_name(found[1]) and not comment[found.end() :].startswith("$"):
                document.replace(start + found.end(), end, "***")
                self.draft.change(at, "value removed from the comment", "it may be a secret of before")
            elif secret_form(comment) or self.draft.withheld.are_in(comment):
                document.replace(start, end, " ***")
                self.draft.change(at, "comment removed", "it has a secret in it")


def leaks(draft: Draft, results: list[Result]) -> None:
    """Report every secret that was taken out at one place, and is still at another one."""
    for result in results:
        edited = result.second.edited()
        for start, _, _ in draft.withheld.places(edited):
            at = Place(result.file, result.source_line(edited.count("\n", 0, start) + 1))
            draft.problem(at, "has the value of a secret that was taken out elsewhere: write it in another way")


def _names(spot: Spot) -> set[str]:
    return names_in(spot.value) if spot.scalar else set()
