"""The program of main.go, asked file by file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Asked(NamedTuple):
    """An app of a repository: `compose` has its Compose files, each to be merged over the one before."""

    files: Mapping[str, str]
    name: str = "demo"
    compose: Sequence[str] = ("apps/demo/compose.yaml",)
    variables: Mapping[str, str] = {}


class Answer(NamedTuple):
    """The project in compose-go's JSON, or why there is none; `unset` names the variables that it warns about."""

    project: Mapping[str, Any] | None
    error: str = ""
    unset: tuple[str, ...] = ()


class Oracle:
    """compose-go, built of main.go and running beside us until the `with` ends."""

    def __init__(self, program: Path) -> None:
        subprocess.run(["go", "build", "-o", program.resolve(), "."], cwd=HERE, check=True)
        self._process = subprocess.Popen([program.resolve()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Oracle:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, asked: Asked) -> Answer:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps(asked._asdict()) + "\n")
        stdin.flush()
        answer = json.loads(stdout.readline())
        return Answer(answer.get("project"), answer.get("error", ""), tuple(answer.get("unset", ())))
