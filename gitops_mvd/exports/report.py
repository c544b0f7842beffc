"""The report of an export: what was not carried over, and which Secrets must be made first.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gitops_mvd.exports.app import Choices, documents, wanted_secrets
from gitops_mvd.exports.remarks import Body, Lost, Needs, found, plain
from gitops_mvd.exports.source import Source
from gitops_mvd.exports.text import stream


@dataclass(frozen=True)
class Export:
    """An app as it is exported."""

    app: str
    documents: Sequence[Body]
    secrets: dict[tuple[str, str], list[Needs]]

    @property
    def lost(self) -> list[tuple[str, str]]:
        """What was not carried over, each with the document that says so."""
        return [(_called(body), it.text) for body in self.documents for it in found(body, Lost)]


def export(source: Source, choices: Choices) -> Export:
    made = documents(source, choices)
    return Export(source.name, made, wanted_secrets(source, made))


def text_of(exported: Export) -> str:
    """The documents of an app as a stream of YAML; before them, what must be there first."""
    return stream(exported.documents, _head(exported))


def as_json(exported: Export) -> dict[str, Any]:
    return {
        "documents": [plain(body) for body in exported.documents],
        "lost": [{"document": document, "what": what} for document, what in exported.lost],
        "secrets": [
            {
                "namespace": namespace,
                "name": name,
                "labels": dict(keys[0].labels),
                "keys": {it.key: it.source for it in keys},
                "quoted": any(it.quoted for it in keys),
            }
            for (namespace, name), keys in exported.secrets.items()
        ],
    }


def summary(exports: Sequence[Export]) -> Iterator[str]:
    """What was not carried over, each once with the documents that it is about, and the sum of all."""
    for one in exports:
        about: dict[str, list[str]] = {}
        for document, what in one.lost:
            about.setdefault(what, []).append(document)
        for what, places in about.items():
            yield f"{one.app}: {', '.join(dict.fromkeys(places))}: {what}"
    apps, made = len(exports), sum(len(one.documents) for one in exports)
    missed, secrets = sum(len(one.lost) for one in exports), sum(len(one.secrets) for one in exports)
    carried = f"{missed} not carried over" if missed else "all carried over"
    first = f"; {_counted(secrets, 'Secret')} to make first" if secrets else ""
    yield f"{_counted(apps, 'app')}, {_counted(made, 'document')}: {carried}{first}"


def _head(exported: Export) -> Iterator[str]:
    yield f"{exported.app}, as `mvd export kubernetes` writes it. Not carried over: {len(exported.lost)}."
    if not exported.secrets:
        return
    yield ""
    yield "These Secrets must be there first; FILE stands for a file with the value:"
    for (namespace, name), keys in exported.secrets.items():
        values = " ".join(f"--from-file={it.key}=FILE" for it in keys)
        yield f"  kubectl -n {namespace} create secret generic {name} {values}"
        for key, value in keys[0].labels:
            yield f"  kubectl -n {namespace} label secret {name} {key}={value}"


def _called(body: Body) -> str:
    return f"{body['kind']} {body['metadata']['name']}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else f'{noun}s'}"
