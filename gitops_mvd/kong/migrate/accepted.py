"""What `mvd validate` accepts of a dump: the reader of `kong/*.yaml` and `x-kong` itself decides.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence

from gitops_mvd.config.tables import Place
from gitops_mvd.config.yamltree import Found, Sink, mistakes, parse
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.migrate.yaml_text import as_yaml, document_text
from gitops_mvd.manifest.extensions import read_x_kong
from gitops_mvd.manifest.kong_entities import FOLDER, read_gateway

Item = dict[str, JsonValue]
Document = dict[str, list[Item]]


class _Files:
    """A repository of nothing but these files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def read(self, path: str) -> bytes:
        return self._files[path.removeprefix(f"{FOLDER}/")]

    def names(self, folder: str) -> Sequence[str]:
        return sorted(self._files) if folder == FOLDER else ()

    def oid(self, path: str) -> str:
        return path

    def kind(self, path: str) -> str:
        return "folder" if path == FOLDER else "file"


def prune_files(files: Mapping[str, Document], notes: MutableMapping[str, list[str]]) -> None:
    """Remove what the reader does not accept, with a note for each, by type.

    Raises StepFailed for what cannot be removed.
    """
    while True:
        sink: Sink = []
        texts = {name: document_text(document).encode() for name, document in files.items() if document}
        read_gateway(_Files(texts), sink)
        if not (refused := mistakes(sink)):
            return
        for found in sorted(refused, key=_position, reverse=True):
            file = found.problem.file.removeprefix(f"{FOLDER}/")
            if not found.path:
                raise StepFailed(f"what Kong has makes no valid file: {found.problem}")
            note = f"left out: {_where(files[file], found.path)}: {found.problem.message}"
            if _remove(files[file], found.path):
                notes[str(found.path[0])].insert(0, note)


def prune_x_kong(written: Item) -> list[str]:
    """Remove what the reader of `x-kong` does not accept; a note for each."""
    notes: list[str] = []
    while True:
        sink: Sink = []
        node = parse("x-kong", as_yaml(written).encode(), sink)
        if node:
            Place(node, (), sink).attempt(read_x_kong)
        refused = mistakes(sink)
        if not any(found.path for found in refused):
            return [*notes, *(str(found.problem.message) for found in refused)]
        for found in sorted(refused, key=_position, reverse=True):
            note = f"left out: {_where(written, found.path)}: {found.problem.message}"
            if found.path and _remove(written, found.path):
                notes.insert(0, note)


def _position(found: Found) -> tuple[str, list[tuple[bool, int, str]]]:
    return (
        found.problem.file,
        [(isinstance(part, str), part if isinstance(part, int) else 0, str(part)) for part in found.path],
    )


def _where(document: object, path: Sequence[str | int]) -> str:
    """Where in a document, by the names of the entities on the way."""
    words: list[str] = []
    for part in path:
        below = _below(document, part)
        if isinstance(part, str):
            words.append(part)
        elif isinstance(below, Mapping):
            names = (below.get(key) for key in ("name", "username", "custom_id", "prefix", "target", "group", "id"))
            words.append(str(next(filter(None, names), part + 1)))
        else:
            words.append(str(part + 1))
        document = below
    return " ".join(words)


def _below(value: object, part: str | int) -> object:
    if isinstance(value, Mapping):
        return value.get(part)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return None


def _remove(document: object, path: Sequence[str | int]) -> bool:
    """Remove what is at a path; False if it is gone already."""
    *parents, last = path
    for part in parents:
        document = _below(document, part)
    if isinstance(document, dict) and last in document:
        del document[last]
        return True
    if isinstance(document, list) and isinstance(last, int) and last < len(document):
        del document[last]
        return True
    return False
