"""`mvd export kubernetes`, as somebody types it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PLAIN = "services: {web: {image: 'nginx:1.28', restart: always}}\n"
LACKING = (
    "services: {web: {image: 'nginx:1.28', ulimits: {nofile: 1024}, environment: {API_TOKEN: not-to-be-seen-42}}}\n"
)
FLEET = "hosts:\n  uk-1: {variables: {REGION: uk}}\n  rw-1: {variables: {REGION: rw}}\n"
BY_REGION = "services: {web: {image: 'web:1', environment: {REGION: '${REGION}'}}}\n"
PLACED = "services: {web: {image: 'web:1', deploy: {placement: {constraints: ['node.hostname == uk-1']}}}}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    for name, text in (("plain", PLAIN), ("lacking", LACKING)):
        (folder / "apps" / name).mkdir(parents=True)
        (folder / "apps" / name / "compose.yaml").write_text(text)
    return folder


def mvd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "gitops_mvd", *map(str, arguments))
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={"PATH": "/usr/bin:/bin", **environment}
    )


def export(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return mvd("export", "kubernetes", "--from", folder, *arguments)


def test_an_app_that_is_carried_over_is_one_stream_of_yaml(repository: Path) -> None:
    done = export(repository, "plain")
    assert done.returncode == 0, done.stderr
    assert [it["kind"] for it in yaml.safe_load_all(done.stdout)] == ["Namespace", "Deployment"]
    assert done.stderr == "1 app, 2 documents: all carried over\n"


def test_what_has_no_counterpart_is_a_comment_a_line_and_an_exit_code(repository: Path) -> None:
    done = export(repository, "lacking")
    why = "ulimits nofile: they are those of the node's container runtime"
    assert done.returncode == 1
    assert f"      # {why}\n      - name: web\n" in done.stdout
    assert done.stderr.splitlines() == [
        f"lacking: Deployment web: {why}",
        "1 app, 2 documents: 1 not carried over; 1 Secret to make first",
    ]


def test_no_value_of_a_secret_is_written(repository: Path, tmp_path: Path) -> None:
    for options in ([], ["--json"], ["--output", tmp_path / "out"]):
        done = export(repository, "lacking", *options)
        assert "not-to-be-seen" not in done.stdout + done.stderr
    assert "not-to-be-seen" not in (tmp_path / "out" / "lacking.yaml").read_text()
    assert "kubectl -n lacking create secret generic web-env --from-file=API_TOKEN=FILE" in export(repository).stdout


def test_each_app_gets_a_file_of_its_own(repository: Path, tmp_path: Path) -> None:
    done = export(repository, "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["lacking.yaml", "plain.yaml"]
    assert (tmp_path / "out" / "plain.yaml").read_text() == export(repository, "plain").stdout


def test_programs_get_json(repository: Path) -> None:
    found = json.loads(export(repository, "--json").stdout)["apps"]
    assert sorted(found) == ["lacking", "plain"]
    assert [it["kind"] for it in found["plain"]["documents"]] == ["Namespace", "Deployment"]
    assert [it["document"] for it in found["lacking"]["lost"]] == ["Deployment web"]
    [secret] = found["lacking"]["secrets"]
    assert (secret["namespace"], secret["name"], list(secret["keys"])) == ("lacking", "web-env", ["API_TOKEN"])


def test_a_region_is_chosen_by_a_host(repository: Path) -> None:
    (repository / "fleet.yaml").write_text(FLEET)
    (repository / "apps" / "plain" / "compose.yaml").write_text(BY_REGION)
    every, one = export(repository, "plain"), export(repository, "plain", "--host", "rw-1")
    assert "web on rw-1: it reads otherwise there" in every.stderr
    assert "value: uk\n" in every.stdout
    assert (one.returncode, "value: rw\n" in one.stdout) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["plan"], "mvd: the repository has no app plan, did you mean `plain`?\n     Apps: lacking, plain\n"),
        (["--host", "uk-2"], "mvd: fleet.yaml has no host uk-2, did you mean `uk-1`?\n     Hosts: rw-1, uk-1\n"),
    ],
)
def test_an_app_or_host_that_there_is_not_is_named(repository: Path, arguments: list[str], told: str) -> None:
    (repository / "fleet.yaml").write_text(FLEET)
    done = export(repository, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)


def test_what_runs_nowhere_is_no_empty_stream(repository: Path, tmp_path: Path) -> None:
    (repository / "fleet.yaml").write_text(FLEET)
    (repository / "apps" / "plain" / "compose.yaml").write_text(PLACED)
    done = export(repository, "plain", "--host", "rw-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mvd: rw-1 runs no service of plain\n")
    nowhere = export(tmp_path / "config" / "apps")
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
    assert nowhere.stderr.startswith("mvd: there is no app here\n")


def test_a_mistake_in_the_repository_is_told_with_its_line(repository: Path) -> None:
    (repository / "apps" / "plain" / "compose.yaml").write_text("services:\n  web: {imag: nginx}\n")
    done = export(repository)
    assert (done.returncode, done.stdout) == (2, "")
    assert "apps/plain/compose.yaml:2: services.web.imag: " in done.stderr
    assert export(repository, "lacking").returncode == 1  # the other one is not held up


@pytest.mark.parametrize("option", [["--gateway", "No Gateway"], ["--size", "much"]])
def test_an_option_that_cannot_be_meant_is_refused(repository: Path, option: list[str]) -> None:
    done = export(repository, *option)
    assert done.returncode == 2
    assert option[0] in done.stderr


def test_apps_and_hosts_are_completed(repository: Path) -> None:
    (repository / "fleet.yaml").write_text(FLEET)

    def completed(*words: str) -> list[str]:
        line = " ".join(("mvd", "export", "kubernetes", "--from", str(repository), *words))
        done = mvd(COMP_WORDS=line, COMP_CWORD=str(line.count(" ")), _MVD_COMPLETE="bash_complete")
        return [it.partition(",")[2] for it in done.stdout.splitlines()]

    assert completed("pl") == ["plain"]
    assert completed("--host", "u") == ["uk-1"]
