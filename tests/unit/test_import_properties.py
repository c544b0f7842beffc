"""Whatever project is imported: the result is valid, overwrites nothing, and has no secret; nor has the report."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import Problem
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.imports.disk import write_app
from gitops_mvd.imports.draft import Request
from gitops_mvd.imports.report import as_json
from gitops_mvd.imports.variables import as_env_value
from gitops_mvd.manifest import validate
from gitops_mvd.manifest.dotenv import parse_env
from tests.unit.importing import Importing, report

PLAIN = {"A": "b", "PORT": 80, "MODE": "on", "GREETING": "hello: you # there", "EMPTY": None, "LIST": "a,b", "V": 1.5}
IMAGES = ("acme/web:1", "postgres:17", "mysql:8", "redis:7", "grafana/grafana:11", "lscr.io/linuxserver/x", "nextcloud")


@dataclass
class Project:
    """A Compose project in the making; `secrets` are the values that must never be seen again."""

    compose: dict[str, Any] = field(default_factory=lambda: {"services": {}})
    files: dict[str, str] = field(default_factory=dict)
    env: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def secret(self) -> str:
        """One more secret, unlike any other."""
        self.secrets.append(f"pl4nted{len(self.secrets):03}Zq7")
        return self.secrets[-1]

    def variable(self, name: str) -> str:
        """A secret in a variable of `.env`; returns a reference to it."""
        name = name.replace("-", "_").replace(".", "_")
        self.env.append(f"{name}={self.secret()}")
        return f"${{{name}}}"


def plant(project: Project, service: dict[str, Any], where: str, name: str) -> None:
    """Put a secret somewhere into a service."""
    environment = service.setdefault("environment", {})
    if where == "environment":
        environment["DB_PASSWORD"] = project.secret()
    elif where == "address":
        environment["DATABASE_URL"] = f"postgres://app:{project.secret()}@db/app"
    elif where == "known variable":
        environment["POSTGRES_PASSWORD"] = environment["MYSQL_PASSWORD"] = project.secret()
    elif where == "env":
        environment["API_TOKEN"] = project.variable(f"TOKEN_OF_{name}".upper())
    elif where == "harmless":
        environment["ADMIN_PASSWORD"] = project.variable(f"VALUE_{name}".upper())
    elif where == "part":
        environment["REDIS_URL"] = f"redis://:{project.variable(f'REDIS_{name}_PASSWORD'.upper())}@r/0"
    elif where == "env file":
        project.files[f"{name}.env"] = f"# of {name}\nMODE=x\nSECRET_KEY='{project.secret()}'\n"
        service["env_file"] = [f"{name}.env"]
    elif where == "health check":
        service["healthcheck"] = {"test": ["CMD", "probe", f"-p{project.variable(f'PROBE_{name}_PASSWORD'.upper())}"]}
    elif where == "command":
        service["command"] = ["serve", "--password", project.secret()]
    elif where == "shell":
        service["command"] = ["sh", "-c", f"serve --token {project.variable(f'SHELL_{name}_TOKEN'.upper())}"]
    elif where == "label":
        service["labels"] = {"url": f"https://me:{project.secret()}@example.org"}
    elif where == "mounted":
        project.files[f"{name}/app.conf"] = f"user = me\npassword = {project.secret()}\n"
        service.setdefault("volumes", []).append(f"./{name}:/etc/{name}:ro")
    elif where == "granted":
        project.files[f"{name}.txt"] = project.secret()
        project.compose.setdefault("secrets", {})[name] = {"file": f"./{name}.txt"}
        service["secrets"] = [name]
    elif where == "comment":
        environment["OLD_PASSWORD"] = project.secret()
        project.comments.append(f"was {project.secrets[-1]} once")


PLACES = (
    *("environment", "address", "known variable", "env", "harmless", "part", "env file", "health check", "command"),
    *("shell", "label", "mounted", "granted", "comment"),
)


@st.composite
def projects(draw: st.DrawFn) -> Project:
    project = Project()
    for name in draw(st.lists(st.sampled_from(["web", "db", "a-b", "x.y"]), min_size=1, max_size=3, unique=True)):
        service: dict[str, Any] = {"image": draw(st.sampled_from(IMAGES)), "restart": "always"}
        if draw(st.booleans()):
            service["environment"] = draw(st.fixed_dictionaries({}, optional={k: st.just(v) for k, v in PLAIN.items()}))
        for where in draw(st.lists(st.sampled_from(PLACES), max_size=3, unique=True)):
            plant(project, service, where, name)
        if draw(st.booleans()):
            mounts = st.sampled_from(
                ["./data:/data", "~/x:/x", "/mnt/y:/y", "vol:/vol", "../z:/z:ro", "./c.yml:/c.yml"]
            )
            service.setdefault("volumes", []).extend(draw(st.lists(mounts, max_size=2, unique=True)))
        if service.get("environment") and draw(st.booleans()):
            values = service["environment"].items()
            service["environment"] = [key if value is None else f"{key}={value}" for key, value in values]
        service = {key: value for key, value in service.items() if value not in ({}, [])}
        keys = draw(st.permutations(sorted(service)))
        project.compose["services"][name] = {key: service[key] for key in keys}
    project.compose["volumes"] = {"vol": None}
    project.files["c.yml"] = "a: b\n"
    return project


def as_text(project: Project, flow: bool | None, shared: bool) -> str:
    """The Compose file, in one of YAML's styles; with `shared`, what the services have in common is an anchor."""
    compose = dict(project.compose)
    first, *others = compose["services"]
    for other in others if shared else ():
        if "environment" in compose["services"][first] and "environment" not in compose["services"][other]:
            environment = compose["services"][first]["environment"]
            compose["services"][other] = {**compose["services"][other], "environment": environment}
    written: str = yaml.safe_dump(compose, default_flow_style=flow, sort_keys=False, width=10_000)
    return "".join(f"# {comment}\n" for comment in project.comments) + written


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(projects(), st.sampled_from([None, False, True]), st.booleans(), st.booleans())
def test_an_import_is_valid_or_nothing_and_has_no_secret_in_it(
    project: Project, flow: bool | None, shared: bool, windows: bool
) -> None:
    with tempfile.TemporaryDirectory() as root:
        importing = Importing(Path(root))
        compose = as_text(project, flow, shared)
        files: Mapping[str, str | bytes] = {
            **project.files,
            ".env": "# variables\n" + "".join(f"{line}\n" for line in project.env),
            "compose.yaml": (compose.replace("\n", "\r\n") if windows else compose).encode(),
        }
        found = importing.plan(files)
        said = report(found) + json.dumps(as_json(found, Request(found.root), "apps/shop", found.complete))
        written = "".join(f"{name}\n{file.content.decode()}" for name, file in found.files.items())
        assert [secret for secret in project.secrets if secret in said] == []
        if not found.complete:
            assert found.problems or found.questions
            return
        assert [secret for secret in project.secrets if secret in written] == []
        folder = importing.repository / "apps" / found.app
        write_app(folder, found.files)
        assert [str(problem) for problem in validate(FolderTree(importing.repository))] == []
        with pytest.raises(MvdError, match="exists already"):
            importing.plan(files)
        with pytest.raises(MvdError, match="exists already"):
            write_app(folder, {})
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {*found.files}


@given(st.text(st.characters(exclude_categories=["C"]), max_size=20))
@example('it\'s "$HOME" # \\n \\')
def test_an_answer_reads_as_it_was_given(value: str) -> None:
    problems: list[Problem] = []
    assert parse_env(".env", f"A={as_env_value(value)}\n".encode(), {}, problems) == {"A": value}
    assert not problems
