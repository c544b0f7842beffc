"""Cases of our own, and what compose-go answered to them: facts that tests/unit/test_oracle.py holds the reader to.

A file of tests/unit/oracle is a list of cases.  Each has a `case`, its name, and an app: `web`, the keys of a service
of that name; `over`, those of an override; `top` and `over_top`, what follows them; `env`, the `.env`; `files` beside
it.  `variables` are those of the host.  What is expected, if it is not what compose-go reads:

refused   what `mvd validate` says, a sentence or several
noted     what it says beside accepting it, a sentence or several
ours      the values that are others here, by their path
why       the reason why, for what is neither refused nor noted
strict    unset variables are a mistake, as they are unless `fleet.yaml` has it otherwise
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.oracle.client import Answer, Asked, Oracle
from tests.oracle.normal import Form, of_project

FOLDER = Path(__file__).parents[1] / "unit" / "oracle"
ANSWERS = FOLDER / "answers.json"


class Case(NamedTuple):
    name: str
    asked: Asked
    refused: list[str]
    noted: list[str]
    ours: Mapping[str, Any]
    why: str
    strict: bool


def cases() -> list[Case]:
    """All cases, in the order of the files."""
    return [_case(told) for path in sorted(FOLDER.glob("*.yaml")) for told in yaml.safe_load(path.read_text())]


def _case(told: dict[str, Any]) -> Case:
    files = {f"apps/demo/{name}": text for name, text in told.pop("files", {}).items()}
    compose = {"compose.yaml": _service(told.pop("web", ""), "image: nginx\n") + told.pop("top", "")}
    if "over" in told:
        compose["compose.site-b.yaml"] = _service(told.pop("over"), "") + told.pop("over_top", "")
    if "env" in told:
        files["apps/demo/.env"] = told.pop("env")
    paths = {f"apps/demo/{name}": text for name, text in compose.items()}
    asked = Asked({**paths, **files}, compose=list(paths), variables=told.pop("variables", {}))
    case = Case(
        told.pop("case"),
        asked,
        _several(told.pop("refused", [])),
        _several(told.pop("noted", [])),
        told.pop("ours", {}),
        told.pop("why", ""),
        told.pop("strict", False),
    )
    if told:
        raise ValueError(f"{case.name}: unknown keys {', '.join(told)}")
    return case


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _service(keys: str, image: str) -> str:
    keys = keys if not image or keys.startswith(("image:", "build:", "extends:")) else image + keys
    return "services:\n  web:\n" + "".join(f"    {line}\n" for line in keys.splitlines())


def answers_of(oracle: Oracle, asked: Iterable[Case]) -> str:
    """What compose-go answers to some cases, as the text of `answers.json`: a line each."""
    told = ((case.name, _told(oracle.ask(case.asked), case.asked)) for case in asked)
    lines = (f"{json.dumps(name)}: {json.dumps(answer, sort_keys=True)}" for name, answer in told)
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _told(answer: Answer, asked: Asked) -> Form:
    """An answer as it is recorded: the form of the app, or the error."""
    if answer.project is None:
        return {"error": answer.error.replace("\n", " ").strip()}
    return {section: it for section, it in of_project(answer.project, asked).items() if it}


def recorded() -> list[tuple[Case, Form]]:
    """The cases with what was answered to them."""
    answers = json.loads(ANSWERS.read_text())
    return [(case, answers[case.name]) for case in cases()]
