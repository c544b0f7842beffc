"""Whatever comes in from outside is plain text, and not endless, wherever somebody reads it."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.model import Resource
from gitops_mvd.core.text import LONGEST_TEXT
from gitops_mvd.state.suspension import path as suspended
from tests.contract.sinks import KINDS, WHERE, Sinks
from tests.unit.test_text import is_plain

# sdnotify leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ANY = st.text(st.characters(exclude_categories=()), min_size=1, max_size=200) | st.binary(min_size=1, max_size=200).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
HOSTILE = "\udcff\ud800\x00\x1b]0;owned\x07\x1b[2J\r\nERROR forged line\u202e\u2028\x9b31m"
LONG = "\x1b[31mlong " * 1_000_000
SHOP = "services: {web: {image: nginx}}\n"
VERSIONS = itertools.count()
LONGEST_ROW = 5 * LONGEST_TEXT


def is_file_name(text: str) -> bool:
    raw = text.encode("utf-8", "surrogateescape") if not _is_half(text) else b""
    return 0 < len(raw) < 200 and not {"/", "\0"} & set(text) and text not in (".", "..", ".git")


def _is_half(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


def subject(sinks: Sinks, text: str) -> None:
    plain = text.replace("\0", "0").encode("utf-8", "replace").decode()[:50_000]
    changed = SHOP.replace("nginx", f"nginx, environment: {{N: {next(VERSIONS)}}}")  # or it would be told nobody
    sinks.commit({"apps/shop/compose.yaml": changed}, f"s {plain}")


def folder(sinks: Sinks, text: str) -> None:
    if is_file_name(text):
        sinks.commit({f"apps/{text}/compose.yaml": SHOP, f"kong/{text}.yaml": "x: 1\n"}, "a folder")


def value(sinks: Sinks, text: str) -> None:
    """A value of a manifest, as a string that YAML has to read."""
    compose = {"services": {"web": {"image": text, "ports": [text], "environment": {text: text}, "volumes": [text]}}}
    sinks.commit({"apps/value/compose.yaml": json.dumps(compose)}, "a value")


def label(sinks: Sinks, text: str) -> None:
    found = Resource("unit", f"mvd-{text}", text, text, {"digest": text, "port": 0, "state": "running", "grace": 1.0})
    sinks.host.resources[found.key] = found


def forge(sinks: Sinks, text: str) -> None:
    sinks.forge.said = text


def suspension(sinks: Sinks, text: str) -> None:
    suspended(sinks.settings).write_bytes(text.encode("utf-8", "surrogatepass"))


def webhook(sinks: Sinks, text: str) -> None:
    raw = text.encode("utf-8", "surrogatepass")
    sinks.webhook({"X-Gitea-Event": text, "X-Gitea-Signature": text}, raw)
    sinks.webhook({}, raw, path=f"/{text}")


def says(where: str, kind: str) -> Callable[[Sinks, str], None]:
    return lambda sinks, text: sinks.say(where, kind, text, app="shop")


WAYS_IN: dict[str, Callable[[Sinks, str], None]] = {
    **{f"{where} {kind}": says(where, kind) for where in WHERE for kind in KINDS},
    **{it.__name__: it for it in (subject, folder, value, label, forge, suspension, webhook)},
}


@pytest.fixture
def sinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sinks]:
    (tmp_path / "secret").write_text("a-secret-of-sixteen\n")
    forge = {"kind": "gitea", "repository": "me/config", "base_url": "https://127.0.0.1:1"}
    files = {"token_file": str(tmp_path / "secret")}
    world = Sinks(
        tmp_path, {"forge": {**forge, **files}, "webhook": {"secret_file": str(tmp_path / "secret")}}, monkeypatch
    )
    world.commit({"apps/shop/compose.yaml": SHOP}, "the first")
    world.pass_()
    yield world
    world.wired.close()


def rows(path: Path) -> Iterator[tuple[str, str]]:
    """Every text in a database: as it is stored, and what is in it as JSON."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in database.execute(f"SELECT * FROM {table}").fetchall():
                for cell in row:
                    if isinstance(cell, str):
                        yield table, cell
                        with contextlib.suppress(ValueError):
                            yield from ((table, text) for text in strings(json.loads(cell)))


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from (key, *strings(inner))
        case list():
            for item in value:
                yield from strings(item)


@pytest.mark.parametrize("way", WAYS_IN)
@given(text=ANY)
@example(text=HOSTILE)
@example(text=LONG)
@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_comes_in_is_plain_wherever_it_comes_out(
    way: str, text: str, sinks: Sinks, capsys: pytest.CaptureFixture[str]
) -> None:
    WAYS_IN[way](sinks, text)
    for _ in range(2):
        sinks.pass_()
    told = {name: it for name, it in sinks.read(capsys).items() if not name.startswith("state/")}
    assert {"forge", "log", "systemd", "webhook", "mvd status", "mvd history --json"} <= told.keys()
    for name, it in told.items():
        assert [line for line in it.split("\n") if not is_plain(line, kept="\t")] == [], f"in {name}"
        assert max(map(len, it.split("\n"))) <= 2 * LONGEST_TEXT, f"a line of {name}"
    assert "\nERROR forged" not in told["log"]
    for table, cell in rows(sinks.folder / "state" / "history.db"):
        assert is_plain(cell, kept="\n\t"), table
        assert len(cell) <= LONGEST_ROW, table
